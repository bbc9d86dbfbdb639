"""Interpret records: ``python -m gem_lightning.predict model=FOLDER record=FILE out=FOLDER``."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gem_lightning.config.main import main_with_errors
from gem_lightning.ecg.listing import list_records
from gem_lightning.errors import EcgReadError, GemError
from gem_lightning.jobs import write_atomically

if TYPE_CHECKING:
    from omegaconf import DictConfig

logger = logging.getLogger(__name__)


def predict(cfg: DictConfig) -> None:
    """Write one page and one JSON file per record; a record that cannot be interpreted is logged and skipped.

    Raises:
        GemError: No record could be interpreted.
    """
    records = find_records(cfg.record)

    from hydra.utils import instantiate

    from gem_lightning.models import Gem

    gem = Gem.from_pretrained(cfg.weights, renderer=instantiate(cfg.render), device=cfg.device)
    out = Path(cfg.out)
    done, why = 0, ""
    for number, (name, path) in enumerate(records, 1):
        stem = "report" if len(records) == 1 else name
        try:
            page = interpret_to_page(gem, path, out / stem, cfg)
        except GemError as error:
            if len(records) == 1:
                raise
            why = str(error)
            logger.warning("%d/%d %s: skipped: %s", number, len(records), name, why)
            continue
        done += 1
        logger.info("%d/%d %s", number, len(records), page)
    if not done:
        raise GemError(f"expected an ECG to interpret in {cfg.record}, got none of {len(records)}; the last: {why}")


def interpret_to_page(gem: Any, path: Path, target: Path, cfg: DictConfig) -> Path:
    """Interpret one file; write ``target``.html and ``target``.json, each whole or not at all."""
    found = gem.interpret(
        path, question=cfg.question, max_new_tokens=cfg.max_new_tokens, reading=dict(cfg.reading or {})
    )
    page = found.to_html(extra_tables=held_out_tables(cfg.held_out))
    target.parent.mkdir(parents=True, exist_ok=True)
    facts = {"record": path.name, **found.to_dict()}
    write_atomically(target.with_suffix(".json"), json.dumps(facts, indent=1, ensure_ascii=False).encode())
    write_atomically(target.with_suffix(".html"), page.encode())
    return target.with_suffix(".html")


def find_records(place: str) -> list[tuple[str, Path]]:
    """List (name, file) of the record, of every record in a folder, or of the example.

    Raises:
        EcgReadError: There is nothing at ``place``.
    """
    if place == "example":
        import pydicom.examples

        return [("example", Path(str(pydicom.examples.get_path("waveform"))))]
    path = Path(place)
    if path.is_dir():
        return [(name.replace("/", "-"), file) for name, file in list_records(path)]
    if not path.exists() and not path.with_suffix(".hea").exists():
        raise EcgReadError(f"expected an ECG file or a folder, got nothing at {place}; check the path")
    return [(path.stem, path)]


def held_out_tables(results: str | None) -> tuple[Any, ...]:
    """Results of ``evaluate benchmark=simulator`` as a table of the page."""
    if results is None:
        return ()
    from gem_lightning.reporting.html import Table

    path = Path(results)
    if not path.exists():
        raise GemError(f"expected the results of `evaluate` at {path}, got nothing; run it first or leave held_out out")
    table = json.loads(path.read_text(encoding="utf-8"))["table"]
    return (Table(table["title"], table["header"], table["rows"], table["note"]),)


def main() -> None:
    """Entry point."""
    main_with_errors("predict", predict, aliases={"model": "weights"})


if __name__ == "__main__":
    main()
