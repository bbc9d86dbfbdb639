"""Interpret records: ``python -m gem_lightning.predict model=FOLDER record=FILE|FOLDER`` or ``source=...``."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gem_lightning.config.main import main_with_errors
from gem_lightning.ecg.listing import ECG_SUFFIXES, list_records
from gem_lightning.errors import EcgReadError, GemError
from gem_lightning.jobs import Item, JobFolder, Row, Workers, duration, merge, run_async, write_atomically
from gem_lightning.jobs.progress import show_progress

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from gem_lightning.models import Gem
    from gem_lightning.models.inference.cohort import CohortRunner
    from gem_lightning.revision.options import VerifyOptions
    from gem_lightning.sources.base import Source

logger = logging.getLogger(__name__)

SOME_FAILED = 4  # exit code: the other records were interpreted
STOPPED = 75  # exit code of a run that SIGTERM ended, as in training: EX_TEMPFAIL, rerun to resume
# settings that shape the rows: a job cannot be resumed with others
_ROWS = (
    "record",
    "source",
    "weights",
    "question",
    "max_new_tokens",
    "reading",
    "render",
    "render_missing",
    "seed",
    "limit",
    "html",
    "fhir",
    "verify",
    "tries",
    "on_fail",
    "complete",
)
_AHEAD = 3  # blocks in flight: one with the model, one ready, one being prepared


def predict(cfg: DictConfig) -> None:
    """Interpret one record, or every record of a folder or source.

    Raises:
        GemError: No record could be interpreted.
        SystemExit: With 4 when some of several could not; with 75 when SIGTERM stopped the run.
    """
    path = None if cfg.get("source") else find_record(cfg.record)
    if path is not None and not path.is_dir():
        predict_one(cfg, path)
    elif cfg.dry_run:
        project(cfg)
    else:
        predict_many(cfg)


def predict_one(cfg: DictConfig, path: Path) -> None:
    """Write ``report.html`` and ``report.json`` of one record, each whole or not at all."""
    settings = {"max_new_tokens": cfg.max_new_tokens, "reading": dict(cfg.reading or {})}
    settings |= vars(verify_options(cfg))
    found = load_model(cfg).interpret(path, cfg.question, seed=cfg.seed, **settings)
    page = found.to_html(extra_tables=held_out_tables(cfg.held_out), file_name=path.name)
    out = Path(cfg.out)
    out.mkdir(parents=True, exist_ok=True)
    facts = {"record": path.name, **found.to_dict()}
    write_atomically(out / "report.json", json.dumps(facts, indent=1, ensure_ascii=False).encode())
    write_atomically(out / "report.html", page.encode())
    if cfg.fhir:
        write_atomically(out / "report.fhir.json", json.dumps(found.to_fhir(path.name), indent=1).encode())
    logger.info("%s", out / "report.html")


def predict_many(cfg: DictConfig) -> None:
    """Write ``predictions.jsonl`` with a row per record, ``broken.jsonl`` with the others and why, ``summary.json``.

    The state is a job folder, ``out/job``: a run killed at any moment resumes with the records that it lacks.
    """
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    from gem_lightning import predict as module  # by name, not as __main__: other processes import it

    folder = open_job(cfg)
    if cfg.retry_failed:
        folder.undo_broken()
    if cfg.parts > 1:
        run_part(OmegaConf.to_container(cfg, resolve=False), cfg.part, cfg.parts)  # type: ignore[arg-type]
        if folder.missing():
            logger.info("part %d of %d is done; the last part to end writes the results", cfg.part, cfg.parts)
            return
    elif folder.missing():
        container: Any = OmegaConf.to_container(cfg, resolve=False)
        instantiate(cfg.engine).run(partial(module.run_part, container), Path(cfg.out) / "logs")
    finish(cfg, folder)


def open_job(cfg: DictConfig) -> JobFolder:
    """Open the job of all parts; its items are fixed by the first run.

    Raises:
        GemError: There is no record, or the folder holds a job of other settings.
    """
    from omegaconf import OmegaConf

    from gem_lightning.models.inference.cohort import AUTO_BATCH

    plain: Any = OmegaConf.to_container(cfg, resolve=True)
    block = max(AUTO_BATCH.values()) if cfg.batch_size == "auto" else cfg.batch_size
    path = Path(cfg.out) / "job"
    items = None if (path / "items.jsonl").exists() else list(source_items(cfg))
    if items == []:
        raise EcgReadError(
            f"expected ECG files in {cfg.get('source') or cfg.record}, got none; they are known by "
            f"{' '.join(ECG_SUFFIXES)}"
        )
    return JobFolder(path, items, {name: plain.get(name) for name in _ROWS}, ".jsonl", block)


def source_items(cfg: DictConfig) -> Iterator[Item]:
    """Yield an item per record of the folder or source."""
    from gem_lightning.models.inference.cohort import cohort_item
    from gem_lightning.sources.record import SourceRecord

    source = open_source(cfg)
    if source is None:
        records: Any = (SourceRecord(name, str(path)) for name, path in list_records(find_record(cfg.record)))
        paths = {}
    else:
        records, paths = source.records(), source.paths
    for record in islice(records, cfg.limit):
        yield cohort_item(record, paths, cfg.render_missing)


def open_source(cfg: DictConfig) -> Source | None:
    """Instantiate ``source=``; None where ``record=`` names a folder."""
    from hydra.utils import instantiate

    return instantiate(cfg.source, _convert_="all") if cfg.get("source") else None


def run_part(container: dict[str, Any], part: int, parts: int) -> None:
    """Interpret this part's share of the job.

    Raises:
        SystemExit: With 75 when SIGTERM stopped the run; what was finished is kept.
    """
    from omegaconf import OmegaConf

    cfg: Any = OmegaConf.create(container)
    folder = JobFolder(Path(cfg.out) / "job")
    if not folder.missing(part, parts):
        return
    with folder.claimed(part, parts), terminated() as stop:
        begun = time.perf_counter()
        runner, progress = asyncio.run(_run(cfg, folder, part, parts, stop))
    facts = {
        "seconds": round(time.perf_counter() - begun, 1),
        "records": progress.done,
        "model_share": round(runner.busy_s / max(time.perf_counter() - begun, 1e-9), 3),
        "data_wait_share": round(runner.waited_s / max(runner.waited_s + runner.busy_s, 1e-9), 3),
        "batch_size": runner.batch_size,
    }
    write_atomically(Path(cfg.out) / "job" / f"run-{part}of{parts}.json", json.dumps(facts).encode())
    logger.info("the model waited %.0f %% of its time for records", 100 * facts["data_wait_share"])
    if stop.is_set():
        logger.warning("stopped by SIGTERM; run the same again to resume")
        raise SystemExit(STOPPED)


async def _run(cfg: DictConfig, folder: JobFolder, part: int, parts: int, stop: threading.Event) -> tuple[Any, Any]:
    runner = open_runner(cfg)
    try:
        show = show_progress()
        return runner, await run_async(folder, runner, _AHEAD, part, parts, show, stop.is_set)
    finally:
        runner.close()


def open_runner(cfg: DictConfig) -> CohortRunner:
    """Load the model and start the worker processes."""
    from gem_lightning.models.inference.cohort import CohortRunner, Preparer

    (gem, write), source = load_writer(cfg), open_source(cfg)
    reading, paths = dict(cfg.reading or {}), {} if source is None else dict(source.paths)
    renderer = gem.renderer if "image" in gem.inputs else None
    preparer = Preparer(gem.processor, renderer, gem.inputs, cfg.question, paths, reading, gem.provenance)
    folders = {kind: Path(cfg.out, place) for kind, place in (("html", "pages"), ("fhir", "fhir")) if cfg[kind]}
    workers = Workers(cfg.workers, cfg.limit_s, threads=1)
    options, verified = verify_options(cfg), None
    if options.active:
        if cfg.backend != "transformers":
            raise GemError(f"expected backend transformers where texts are verified as they grow, got {cfg.backend!r}")
        from gem_lightning.models.verified.verified import verified_answers

        verified = partial(verified_answers, gem.model, gem.processor, options=options)
    return CohortRunner(write, preparer, workers, cfg.max_new_tokens, cfg.batch_size, cfg.seed, folders, verified)


def verify_options(cfg: DictConfig) -> VerifyOptions:
    """How texts are held to the measurements.

    Raises:
        GemError: An option is unknown.
    """
    from gem_lightning.revision.options import VerifyOptions

    return VerifyOptions(cfg.verify, cfg.tries, cfg.on_fail, cfg.complete)


@contextmanager
def terminated() -> Iterator[threading.Event]:
    """An event that SIGTERM sets, so that the run ends after the blocks in flight; a second one kills."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    previous = signal.getsignal(signal.SIGTERM)

    def note(*_: Any) -> None:
        event.set()
        signal.signal(signal.SIGTERM, previous)

    signal.signal(signal.SIGTERM, note)
    try:
        yield event
    finally:
        signal.signal(signal.SIGTERM, previous)


def finish(cfg: DictConfig, folder: JobFolder) -> None:
    """Write the results, and exit with 4 where records failed."""
    failed = write_results(cfg, folder)
    out = Path(cfg.out)
    logger.info("%d records in %s", folder.total - len(failed), out / "predictions.jsonl")
    if failed:
        listed = out / "broken.jsonl"
        logger.warning("%d failed, listed in %s; retry_failed=true tries them again", len(failed), listed)
        raise SystemExit(SOME_FAILED)


def write_results(cfg: DictConfig, folder: JobFolder) -> list[Row]:
    """Merge the shards and write the summary; return the rows of the records that failed.

    Raises:
        GemError: No record could be interpreted.
    """
    out = Path(cfg.out)
    done, failed = merge([out / "job"], out / "predictions.jsonl"), list(folder.broken())
    runs = [json.loads(path.read_text()) for path in sorted((out / "job").glob("run-*of*.json"))]
    facts = {
        "records": folder.total,
        "interpreted": done,
        "failed": len(failed),
        "reasons": dict(Counter(row["error"] for row in failed).most_common()),
        "model": str(cfg.weights),
        "files": ["predictions.jsonl", "broken.jsonl", *(name for name in ("pages", "fhir") if (out / name).is_dir())],
        "runs": runs,
    }
    write_atomically(out / "summary.json", json.dumps(facts, indent=1, ensure_ascii=False).encode())
    if not done:
        place = cfg.get("source") or cfg.record
        raise GemError(
            f"expected an ECG to interpret in {place}, got none of {len(failed)}; the last: {failed[-1]['reason']}"
        )
    return failed


def project(cfg: DictConfig) -> None:
    """Interpret a few records without writing anything; print what each step costs and the projected hours."""
    items = list(source_items(cfg))
    sample = items[:: max(1, len(items) // 16)][:16]  # spread over the source: lengths and formats may change in it

    async def measure_cost() -> tuple[list[Any], Any]:
        runner = open_runner(cfg)
        try:
            await runner(sample[:2])  # imports, compilation and the workers' start are not part of the rate
            runner.busy_s = 0.0
            rows, broken = await runner(sample)
            return [*rows, *broken], runner
        finally:
            runner.close()

    rows, runner = asyncio.run(measure_cost())
    good = [row for row in rows if row.get("timings")]
    if not good:
        raise GemError(f"expected an ECG to interpret, got none of {len(rows)}; the last: {rows[-1]['reason']}")
    steps = {name: sum(row["timings"][name] for row in good) / len(good) for name in good[0]["timings"]}
    steps["model_ms"] = 1e3 * runner.busy_s / len(good)
    print(f"{len(items):,} records; {len(good)} tried, {len(rows) - len(good)} failed; nothing was written")
    print("  ".join(f"{name.removesuffix('_ms')} {value:.1f} ms" for name, value in steps.items()) + " a record")
    prepared_s = (steps["read_ms"] + steps["measure_ms"] + steps["encode_ms"]) / 1e3 / max(1, runner.workers.count)
    written_s = (steps["model_ms"] + steps["verify_ms"]) / 1e3
    each = max(prepared_s, written_s)  # the two run side by side
    size = sum(len(json.dumps(row)) for row in good) / len(good)
    for count in (len(items), 800_000):
        print(f"{count:>9,} records: {duration(each * count)} on this machine, {size * count / 1e9:.2f} GB")
    print(f"limited by {'preparing the records: more workers' if prepared_s > written_s else 'the model'}")


def load_writer(cfg: DictConfig) -> tuple[Gem, Any]:
    """Load the model and what answers encoded examples.

    Raises:
        GemError: An unknown backend.
    """
    from omegaconf import OmegaConf

    from gem_lightning.models.inference.generation import generate_encoded

    if cfg.backend == "transformers":
        gem = load_model(cfg)
        return gem, partial(generate_encoded, gem.model, gem.processor)
    if cfg.backend != "vllm":
        raise GemError(f"expected backend transformers or vllm, got {cfg.backend!r}")
    from gem_lightning.models.inference.vllm import VllmWriter

    options: Any = OmegaConf.to_container(cfg.vllm or OmegaConf.create({}), resolve=True)
    writer = VllmWriter(cfg.weights, cfg.device, **options)
    return writer.front, writer


def load_model(cfg: DictConfig) -> Gem:
    """Load the weights, with the renderer of the config."""
    from hydra.utils import instantiate

    from gem_lightning.models import Gem

    return Gem.from_pretrained(cfg.weights, renderer=instantiate(cfg.render), device=cfg.device)


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
    main_with_errors("predict", predict, aliases={"model": "weights", "source": ("files", "source.root")})


if __name__ == "__main__":
    main()
