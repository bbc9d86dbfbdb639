"""A whole data set through features or through the pipeline: jobs, their results, and the run card."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from gem_lightning.generation import run_card
from gem_lightning.generation.pipeline import Pipeline
from gem_lightning.generation.teachers import Teacher
from gem_lightning.generation.teaching import NO_ANSWER, Taught
from gem_lightning.jobs import (
    JobError,
    JobFolder,
    Progress,
    Workers,
    merge,
    run,
    run_async,
    write_atomically,
)
from gem_lightning.llm.budget import BudgetError
from gem_lightning.samples.io import PATHS_NOTE, InstructionSample, write_samples
from gem_lightning.sources.base import Source, SourceRecord

logger = logging.getLogger(__name__)

Show = Callable[[Progress], None]


@dataclass(frozen=True)
class Share:
    """How a job is worked through, none of which changes its rows.

    Args:
        workers: Processes; None takes all cores, 0 works in this one.
        part, parts: This machine's share.
        limit_s: Time limit a record, s.
    """

    workers: int | None = None
    part: int = 0
    parts: int = 1
    limit_s: float | None = 120.0


@dataclass(frozen=True)
class FeatureRow:
    """One row of features of one record; picklable.

    Args:
        paths: Leading folders in record references → folders here.
        contract: Signal contract of the reader.
    """

    paths: Mapping[str, str] = field(default_factory=dict)
    contract: str = "clean"

    def __call__(self, item: Mapping[str, Any]) -> dict[str, Any]:
        """Read, measure, find: the row of the features table, with what the source says of the record."""
        from gem_lightning.features import features_row, findings, measure
        from gem_lightning.samples.sample import RecordRef

        start = time.process_time()
        source = SourceRecord.from_item(item)
        record = RecordRef.parse(source.ecg or "", source.format).mapped(self.paths).read(contract=self.contract)
        source = source.completed(record.meta)
        features = measure(record, age=source.age, sex=source.sex)
        codes = [finding.code for finding in findings(features)]
        row = {name: getattr(source, name) for name in ("id", "ecg", "patient", "age", "sex", "report")}
        row |= {"codes": list(source.codes), "findings": codes}
        spent = None if _cold[0] else 1000 * (time.process_time() - start)
        _cold[0] = False
        return features_row(features) | row | {"cpu_ms": spent}


_cold = [True]  # a process's first record also pays for imports and compilation, which says nothing of the next


def features_schema() -> Any:
    """Arrow schema of the features table: the source's columns, then those of ``features.parquet_schema``."""
    import pyarrow as pa

    from gem_lightning.features import parquet_schema

    texts = pa.list_(pa.string())
    own = [("id", pa.string()), ("ecg", pa.string()), ("patient", pa.string()), ("age", pa.float32())]
    own += [("sex", pa.string()), ("report", pa.string()), ("codes", texts), ("findings", texts)]
    names = {name for name, _ in own}
    measured = [(f.name, f.type) for f in parquet_schema() if f.name not in names]
    return pa.schema([*own, *measured, ("cpu_ms", pa.float32())])


def source_items(source: Source, limit: int | None = None) -> Iterator[dict[str, Any]]:
    """Items of a job: the records of a source, without samples' JSON."""
    return (replace(record, sample=None).to_item() for record in islice(source.records(), limit))


def open_features_job(
    source: Source | None, out: str | os.PathLike[str], settings: Any = None, limit: int | None = None, block: int = 256
) -> JobFolder:
    """The job folder of a features table; begun when it is new."""
    items = None if source is None else source_items(source, limit)
    return JobFolder(Path(out) / "job", items, settings, ".parquet", block, features_schema())


def run_features(
    folder: JobFolder, paths: Mapping[str, str], share: Share, show: Show | None = None, contract: str = "clean"
) -> Progress:
    """Work through this share of a features job."""
    return run(folder, FeatureRow(paths, contract), share.workers, share.part, share.parts, share.limit_s, show)


def finish_features(out: str | os.PathLike[str]) -> dict[str, Any]:
    """``features.parquet``, ``broken.jsonl`` and what the records cost; the card's figures are returned."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    out = Path(out)
    rows = merge([out / "job"], out / "features.parquet")
    spent = pq.read_table(out / "features.parquet", columns=["cpu_ms"])["cpu_ms"]
    mean = pc.mean(spent).as_py() if rows else None
    broken = sum(1 for _ in JobFolder(out / "job").broken())
    hours = None if mean is None else round(mean * 800_000 / 3.6e6, 2)
    return {"records": rows, "broken": broken, "cpu_ms_a_record": mean, "core_hours_for_800k": hours}


def open_samples_job(
    source: Source | None, out: str | os.PathLike[str], settings: Any = None, limit: int | None = None, block: int = 32
) -> JobFolder:
    """The job folder of instruction samples; begun when it is new."""
    items = None if source is None else source_items(source, limit)
    return JobFolder(Path(out) / "job", items, settings, ".jsonl", block)


def run_samples(
    folder: JobFolder, pipeline: Pipeline, teacher: Teacher, share: Share, show: Show | None = None
) -> tuple[Progress | None, str | None]:
    """Work through this share of a samples job.

    Returns:
        (progress, why it stopped): a spent budget ends the run cleanly, with None and the reason.
    """
    if teacher.offline:
        return run(folder, pipeline, share.workers, share.part, share.parts, share.limit_s, show), None
    try:
        with folder.claimed(share.part, share.parts):
            return asyncio.run(_teach(folder, pipeline, teacher, share, show)), None
    except BudgetError as stop:
        return None, str(stop)


async def _teach(folder: JobFolder, pipeline: Pipeline, teacher: Teacher, share: Share, show: Show | None) -> Progress:
    _ask_again(folder, share)
    if folder.missing(share.part, share.parts):
        teacher.open()  # before the workers: a model in this process may use all cores
    workers = Workers(share.workers, share.limit_s)
    flying = 2 + 2 * teacher.at_once // folder.block  # enough blocks that a slow answer holds nobody up
    try:
        work = Taught(pipeline, teacher, workers)
        return await run_async(folder, work, flying, share.part, share.parts, show)
    finally:
        await teacher.close()
        workers.close()


def _ask_again(folder: JobFolder, share: Share) -> None:
    """Undo blocks in which the teacher gave no answer: it may be back; what it did answer is not asked again."""
    undone = set(folder.missing())
    for block in set(range(share.part, len(folder.spans), share.parts)) - undone:
        if f'"category": "{NO_ANSWER}"'.encode() in folder.shard(block).read_bytes():
            folder.shard(block).unlink()


def finish_samples(
    out: str | os.PathLike[str],
    format: str = "jsonl",
    source: Source | None = None,
    facts: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """One file a split, ``rejected.jsonl``, ``broken.jsonl`` and the run card.

    Args:
        out: Folder of the run.
        format: ``json`` (one list, as the original), ``jsonl`` or ``parquet``.
        source: For its name, its licence and where its folders are (``paths.json``).
        facts: Further entries of the card, such as the teacher's ledger.
    """
    out = Path(out)
    folder = JobFolder(out / "job")
    rows = out / "job" / "rows.jsonl"
    merge([out / "job"], rows, partial=True)
    (out / "job" / "broken.jsonl").replace(out / "broken.jsonl")
    counts = run_card.counts(_rows(rows))
    for split in counts["samples_by_split"]:
        write_samples(_accepted(rows, split), out / f"{split}.{format}")
    rejected = (line for line in rows.open("rb") if b'"status": "accepted"' not in line[:40])
    write_atomically(out / "rejected.jsonl", b"".join(rejected))
    broken = list(folder.broken())
    unfinished = sum(folder.spans[b][2] for b in folder.missing())
    card: dict[str, Any] = {
        "records": folder.total,
        "records_unfinished": unfinished,
        "records_broken": len(broken),
        "broken_reasons": dict(Counter(row["error"] for row in broken).most_common()),
        **counts,
        "source": None if source is None else {"name": source.name, "licence": source.licence, "home": source.home},
        "settings": json.loads((out / "job" / "job.json").read_text())["settings"],
        "versions": run_card.versions(),
        **(facts or {}),
    }
    if source is not None:
        folders = {name: os.path.abspath(place) for name, place in source.paths.items()}
        folders |= {"images": os.path.abspath(out / "images")}
        write_atomically(out / PATHS_NOTE, json.dumps(folders, indent=2).encode())
    write_atomically(out / "run_card.json", json.dumps(card, indent=2, ensure_ascii=False, default=str).encode())
    write_atomically(out / "run_card.md", run_card.words(card).encode())
    rows.unlink()
    return card


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as file:
        for line in file:
            try:
                yield json.loads(line)
            except ValueError as error:
                raise JobError(
                    f"expected whole rows in {path.parent / 'shards'}, got {line[:40]!r} ({error}); delete the damaged "
                    "file and run the same again"
                ) from error


def _accepted(path: Path, split: str) -> Iterator[InstructionSample]:
    for row in _rows(path):
        if row["status"] == "accepted" and row["sample"]["split"] == split:
            yield InstructionSample.from_dict(row["sample"])
