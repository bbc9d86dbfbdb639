"""Interpret records: ``python -m gem_lightning.predict model=FOLDER record=FILE out=FOLDER``."""

from __future__ import annotations

import json
import logging
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gem_lightning.config.main import main_with_errors
from gem_lightning.ecg.listing import ECG_SUFFIXES, list_records
from gem_lightning.errors import EcgReadError, GemError
from gem_lightning.jobs import JobFolder, NoRoomError, failure, file_name, merge, run_batches, write_atomically
from gem_lightning.jobs.progress import show_progress

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from gem_lightning.jobs import Item, Row
    from gem_lightning.models import Gem
    from gem_lightning.reporting.interpretation import Interpretation

logger = logging.getLogger(__name__)

SOME_FAILED = 4  # exit code: the other records were interpreted


def predict(cfg: DictConfig) -> None:
    """Interpret one record, or every record of a folder.

    Raises:
        GemError: No record could be interpreted.
        SystemExit: With 4 when some of several could not.
    """
    path = find_record(cfg.record)
    if path.is_dir():
        predict_folder(cfg, list_records(path))
    else:
        predict_one(cfg, path)


def predict_one(cfg: DictConfig, path: Path) -> None:
    """Write ``report.html`` and ``report.json`` of one record, each whole or not at all."""
    found = load_model(cfg).interpret(path, cfg.question, seed=cfg.seed, **interpretation_settings(cfg))
    page = found.to_html(extra_tables=held_out_tables(cfg.held_out))
    out = Path(cfg.out)
    out.mkdir(parents=True, exist_ok=True)
    facts = {"record": path.name, **found.to_dict()}
    write_atomically(out / "report.json", json.dumps(facts, indent=1, ensure_ascii=False).encode())
    write_atomically(out / "report.html", page.encode())
    logger.info("%s", out / "report.html")


def predict_folder(cfg: DictConfig, records: list[tuple[str, Path]]) -> None:
    """Write ``predictions.jsonl`` with a row per record, ``broken.jsonl`` with the others and why they failed.

    The state is a job folder, ``out/job``: a run killed at any moment resumes with the records that it lacks.
    """
    if not records:
        raise EcgReadError(f"expected ECG files in {cfg.record}, got none; they are known by {' '.join(ECG_SUFFIXES)}")
    out = Path(cfg.out)
    items = [{"id": name, "path": str(path)} for name, path in records]
    names = ("record", "weights", "question", "max_new_tokens", "reading", "render", "seed", "html")
    folder = JobFolder(out / "job", items, {name: cfg[name] for name in names}, ".jsonl", cfg.batch_size)
    if cfg.retry_failed:
        folder.undo_broken()
    if folder.missing():
        run_batches(folder, partial(interpret_items, load_model(cfg), cfg), show_progress())
    done, failed = merge([out / "job"], out / "predictions.jsonl"), list(folder.broken())
    if not done:
        raise GemError(
            f"expected an ECG to interpret in {cfg.record}, got none of {len(failed)}; the last: {failed[-1]['reason']}"
        )
    logger.info("%d records in %s", done, out / "predictions.jsonl")
    if failed:
        listed = out / "broken.jsonl"
        logger.warning("%d failed, listed in %s; retry_failed=true tries them again", len(failed), listed)
        raise SystemExit(SOME_FAILED)


def interpret_items(gem: Gem, cfg: DictConfig, items: list[Item]) -> tuple[list[Row], list[Row]]:
    """Interpret a batch of records; return the rows, and the records that failed."""
    paths = [item["path"] for item in items]
    settings = interpretation_settings(cfg)
    try:
        answers = gem.interpret_many(paths, cfg.question, batch_size=len(items), seed=cfg.seed, **settings)
    except NoRoomError:
        raise
    except Exception as error:  # such as a GPU's memory: smaller batches may fit, and one record's fault is its own
        if len(items) == 1:
            return [], [failure(items[0], error)]
        logger.warning("a batch of %d failed (%s); it is repeated in halves", len(items), error)
        half = len(items) // 2
        parts = [interpret_items(gem, cfg, part) for part in (items[:half], items[half:])]
        return [row for rows, _ in parts for row in rows], [row for _, broken in parts for row in broken]
    rows, broken = [], []
    for item, answer in zip(items, answers, strict=True):
        if isinstance(answer, Exception):
            broken.append(failure(item, answer))
            continue
        if cfg.html:
            write_page(answer, Path(cfg.out, "pages", f"{file_name(item['id'])}.html"))
        rows.append({"id": item["id"], "record": item["path"], **answer.to_dict()})
    return rows, broken


def write_page(found: Interpretation, target: Path) -> None:
    """Write the page of one record of many."""
    target.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(target, found.to_html().encode())


def load_model(cfg: DictConfig) -> Gem:
    """Load the weights, with the renderer of the config."""
    from hydra.utils import instantiate

    from gem_lightning.models import Gem

    return Gem.from_pretrained(cfg.weights, renderer=instantiate(cfg.render), device=cfg.device)


def interpretation_settings(cfg: DictConfig) -> dict[str, Any]:
    """Return what ``interpret`` and ``interpret_many`` take alike."""
    return {"max_new_tokens": cfg.max_new_tokens, "reading": dict(cfg.reading or {})}


def find_record(place: str) -> Path:
    """Return the file or folder at ``place``, or the file of ``example``.

    Raises:
        EcgReadError: There is nothing at ``place``.
    """
    if place == "example":
        import pydicom.examples

        return Path(str(pydicom.examples.get_path("waveform")))
    path = Path(place)
    if not path.exists() and not Path(f"{place}.hea").exists():
        raise EcgReadError(f"expected an ECG file or a folder, got nothing at {place}; check the path")
    return path


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
