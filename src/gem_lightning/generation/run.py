"""Runs of the pipeline over a data set: features or samples, their results, and the run card."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import platform
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gem_lightning import __version__
from gem_lightning.claims.report import CONTRADICTED, SUPPORTED, UNVERIFIABLE
from gem_lightning.generation.pipeline import Pipeline
from gem_lightning.generation.splits import patients_to_move, too_few_samples
from gem_lightning.generation.teachers import Teacher
from gem_lightning.generation.teaching import NO_ANSWER, TeacherRunner
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

if TYPE_CHECKING:
    from gem_lightning.ecg.record import EcgRecord
    from gem_lightning.features.schema import Finding

logger = logging.getLogger(__name__)

Show = Callable[[Progress], None]
LIBRARIES = ("numpy", "scipy", "wfdb", "opencv-python-headless", "jinja2", "openai", "transformers")


@dataclass(frozen=True)
class RunOptions:
    """Options of a run that do not change its rows.

    Args:
        workers: Number of processes; None takes all cores, 0 works in this one.
        part, parts: Blocks of this machine: every ``parts``-th, from ``part`` on.
        limit_s: Time limit per record, s.
    """

    workers: int | None = None
    part: int = 0
    parts: int = 1
    limit_s: float | None = 120.0


@dataclass(frozen=True)
class FeatureRow:
    """Computes the features row of one record; picklable.

    Args:
        paths: Leading folders in record references → folders here.
        contract: Signal contract of the reader.
        reading: What the files do not state themselves, for ``read_ecg``.
    """

    paths: Mapping[str, str] = field(default_factory=dict)
    contract: str = "clean"
    reading: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, item: Mapping[str, Any]) -> dict[str, Any]:
        """Return the row of the features table, with the facts of the source."""
        from gem_lightning.features import features_row, findings, measure

        start = time.process_time()
        source, record = self.read(item)
        features = measure(record)
        return features_row(features) | self.facts(source, findings(features), start)

    def read(self, item: Mapping[str, Any]) -> tuple[SourceRecord, EcgRecord]:
        """Read the record of an item; source and recording complete each other's age and sex."""
        from gem_lightning.samples.sample import RecordRef

        source = SourceRecord.from_item(item)
        ref = RecordRef.parse(source.ecg or "", source.format).mapped(self.paths)
        record = ref.read(contract=self.contract, **self.reading)
        source = source.completed(record.meta)
        return source, source.with_patient(record)

    @staticmethod
    def facts(source: SourceRecord, found: Iterable[Finding], start: float) -> dict[str, Any]:
        """Return the columns beyond the measurements: of the source, the findings' codes, and the time since start."""
        row = {name: getattr(source, name) for name in ("id", "ecg", "patient", "age", "sex", "report")}
        row |= {"codes": list(source.codes), "findings": [finding.code for finding in found]}
        spent = None if _first_record[0] else 1000 * (time.process_time() - start)
        _first_record[0] = False
        return row | {"cpu_ms": spent}


_first_record = [True]  # a process's first record includes imports and compilation: not timed


def features_schema() -> Any:
    """Return the Arrow schema of the features table: the source's columns, then ``features.parquet_schema``."""
    import pyarrow as pa

    from gem_lightning.features import parquet_schema

    texts = pa.list_(pa.string())
    own = [("id", pa.string()), ("ecg", pa.string()), ("patient", pa.string()), ("age", pa.float32())]
    own += [("sex", pa.string()), ("report", pa.string()), ("codes", texts), ("findings", texts)]
    names = {name for name, _ in own}
    measured = [(f.name, f.type) for f in parquet_schema() if f.name not in names]
    return pa.schema([*own, *measured, ("cpu_ms", pa.float32())])


def source_items(source: Source, limit: int | None = None) -> Iterator[dict[str, Any]]:
    """Yield the items of a job: the records of a source, without the JSON of samples."""
    return (replace(record, sample=None).to_item() for record in islice(source.records(), limit))


def open_features_job(
    source: Source | None, out: str | os.PathLike[str], settings: Any = None, limit: int | None = None, block: int = 256
) -> JobFolder:
    """Open the job folder of a features table; create it if it is new."""
    items = None if source is None else source_items(source, limit)
    return JobFolder(Path(out) / "job", items, settings, ".parquet", block, features_schema())


def run_features(
    folder: JobFolder, paths: Mapping[str, str], options: RunOptions, show: Show | None = None, contract: str = "clean"
) -> Progress:
    """Run this machine's part of a features job."""
    return run(folder, FeatureRow(paths, contract), options.workers, options.part, options.parts, options.limit_s, show)


def finish_features(out: str | os.PathLike[str]) -> dict[str, Any]:
    """Write ``features.parquet`` and ``broken.jsonl``; return counts and the computing time."""
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
    """Open the job folder of instruction samples; create it if it is new."""
    items = None if source is None else source_items(source, limit)
    return JobFolder(Path(out) / "job", items, settings, ".jsonl", block)


def run_samples(
    folder: JobFolder, pipeline: Pipeline, teacher: Teacher, options: RunOptions, show: Show | None = None
) -> tuple[Progress | None, str | None]:
    """Run this machine's part of a samples job.

    Returns:
        (progress, reason for stopping): an exhausted budget ends the run cleanly, with None and the reason.
    """
    if teacher.offline:
        return run(folder, pipeline, options.workers, options.part, options.parts, options.limit_s, show), None
    try:
        with folder.claimed(options.part, options.parts):
            return asyncio.run(_run_teacher(folder, pipeline, teacher, options, show)), None
    except BudgetError as stop:
        return None, str(stop)


async def _run_teacher(
    folder: JobFolder, pipeline: Pipeline, teacher: Teacher, options: RunOptions, show: Show | None
) -> Progress:
    _undo_unanswered(folder, options)
    if folder.missing(options.part, options.parts):
        teacher.open()  # before the workers: loading a model in this process may use all cores
    workers = Workers(options.workers, options.limit_s)
    flying = 2 + 2 * teacher.at_once // folder.block  # enough blocks that a slow answer does not delay others
    try:
        work = TeacherRunner(pipeline, teacher, workers)
        return await run_async(folder, work, flying, options.part, options.parts, show)
    finally:
        await teacher.close()
        workers.close()


def _undo_unanswered(folder: JobFolder, options: RunOptions) -> None:
    """Undo blocks in which the teacher LLM gave no answer, to retry them; cached answers are reused."""
    undone = set(folder.missing())
    for block in set(range(options.part, len(folder.spans), options.parts)) - undone:
        if f'"category": "{NO_ANSWER}"'.encode() in folder.shard(block).read_bytes():
            folder.shard(block).unlink()


def finish_samples(
    out: str | os.PathLike[str],
    format: str = "jsonl",
    source: Source | None = None,
    facts: dict[str, Any] | None = None,
    splits: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """Write one file per split, ``rejected.jsonl``, ``broken.jsonl`` and the run card.

    A split that was asked for and got no patient takes some from the largest one. The card's ``too_few`` says why where
    that is impossible.

    Args:
        out: Folder of the run.
        format: ``json`` (one list, as the original), ``jsonl`` or ``parquet``.
        source: Source, for its name, its licence and its folders (``paths.json``).
        facts: Further entries of the card, such as the teacher's ledger.
        splits: Shares of ``val`` and ``test`` that were asked for.
    """
    out = Path(out)
    folder = JobFolder(out / "job")
    rows = out / "job" / "rows.jsonl"
    merge([out / "job"], rows, partial=True)
    (out / "job" / "broken.jsonl").replace(out / "broken.jsonl")
    unfinished = sum(folder.spans[b][2] for b in folder.missing())
    counts = count_samples(_rows(rows))
    moved: dict[str, str] = {}
    if not unfinished and (moved := patients_to_move(_rows(rows), counts, splits or {})):
        counts = count_samples(_settled(rows, moved))
    too_few = None if unfinished else too_few_samples(counts, splits or {})
    for split in counts["samples_by_split"]:
        write_samples(_accepted(rows, split, moved), out / f"{split}.{format}")
        _write_chains(rows, out / f"chains.{split}.jsonl", split, moved)
    rejected = (line for line in rows.open("rb") if b'"status": "accepted"' not in line[:40])
    write_atomically(out / "rejected.jsonl", b"".join(rejected))
    broken = list(folder.broken())
    card: dict[str, Any] = {
        "records": folder.total,
        "records_unfinished": unfinished,
        "records_broken": len(broken),
        "broken_reasons": dict(Counter(row["error"] for row in broken).most_common()),
        **counts,
        **({} if too_few is None else {"too_few": too_few}),
        "source": None if source is None else {"name": source.name, "licence": source.licence, "home": source.home},
        "settings": json.loads((out / "job" / "job.json").read_text())["settings"],
        "versions": versions(),
        **(facts or {}),
    }
    if source is not None:
        folders = {name: os.path.abspath(place) for name, place in source.paths.items()}
        folders |= {"images": os.path.abspath(out / "images")}
        write_atomically(out / PATHS_NOTE, json.dumps(folders, indent=2).encode())
    write_atomically(out / "run_card.json", json.dumps(card, indent=2, ensure_ascii=False, default=str).encode())
    write_atomically(out / "run_card.md", card_text(card).encode())
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
                    "file and rerun"
                ) from error


def _settled(path: Path, moved: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Yield the rows with the final splits of their samples."""
    for row in _rows(path):
        if row["status"] == "accepted" and row["place"] is not None and row["sample"]["patient"] in moved:
            row["sample"]["split"] = moved[row["sample"]["patient"]]
        yield row


def _accepted(path: Path, split: str, moved: Mapping[str, str]) -> Iterator[InstructionSample]:
    for row in _settled(path, moved):
        if row["status"] == "accepted" and row["sample"]["split"] == split:
            yield InstructionSample.from_dict(row["sample"])


def _write_chains(rows: Path, path: Path, split: str, moved: Mapping[str, str]) -> None:
    """Write the reasoning chains of a split, in the form that ``benchmark=reasoning`` reads; no file without chains."""
    samples = (row["sample"] for row in _settled(rows, moved) if row["status"] == "accepted")
    chains = [json.dumps(s["chain"], ensure_ascii=False) for s in samples if "chain" in s and s["split"] == split]
    if chains:
        write_atomically(path, "".join(f"{line}\n" for line in chains).encode())


# -- run card --------------------------------------------------------------------------------------------------------


def count_samples(rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Count the samples of a run: accepted by kind, split and attempt, rejected by reason; and their claims."""
    accepted: Counter[str] = Counter()
    splits: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    attempts: Counter[int] = Counter()
    claims = Counter(dict.fromkeys((SUPPORTED, CONTRADICTED, UNVERIFIABLE), 0))  # also of a run without a sample
    patients: set[Any] = set()
    rejected = contradicted = 0
    for row in rows:
        if row["status"] == "accepted":
            sample = row["sample"]
            accepted[row["kind"]] += 1
            splits[sample["split"]] += 1
            attempts[sample["attempt"]] += 1
            claims.update(sample["claims"])
            patients.add(sample["patient"])
            contradicted += bool(sample.get("contradictions"))
        else:
            rejected += 1
            reasons.update({problem["category"] for problem in row["problems"]})
    total = sum(accepted.values())
    return {
        "samples": total,
        "patients": len(patients),
        "samples_contradicted_by_the_signal": contradicted,
        "samples_by_kind": dict(accepted.most_common()),
        "samples_by_split": dict(splits.most_common()),
        "rejected": rejected,
        "accept_rate": round(total / (total + rejected), 4) if total + rejected else None,
        "reject_reasons": dict(reasons.most_common()),
        "attempts": {str(n): count for n, count in sorted(attempts.items())},
        "claims": dict(claims),
    }


def versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that affect the data."""
    found = {"python": platform.python_version(), "gem-lightning": __version__}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def card_text(card: Mapping[str, Any]) -> str:
    """Return the run card as Markdown."""
    source = card.get("source") or {}
    lines = ["# Run card", "", "| | |", "|---|---|"]
    lines.append(f"| source | {source.get('name')} ({source.get('licence')}) {source.get('home')} |")
    lines.append(f"| teacher | {card.get('teacher')} |")
    names = ["records", "records_broken", "records_unfinished", "samples", "patients", "rejected", "accept_rate"]
    names += ["samples_contradicted_by_the_signal", "stopped"]
    lines += [f"| {name.replace('_', ' ')} | {card[name]} |" for name in names if card.get(name) is not None]
    ledger = card.get("ledger")
    if ledger:
        paid = f"{ledger['answers']} answers, {ledger['prompt_tokens']} + {ledger['completion_tokens']} tokens"
        lines.append(f"| paid | {paid}, {ledger['cost']:.4f} USD |")
    for name in ("samples_by_kind", "samples_by_split", "reject_reasons", "broken_reasons", "claims", "versions"):
        if card.get(name):
            values = "; ".join(f"{key}: {value}" for key, value in card[name].items())
            lines.append(f"| {name.replace('_', ' ')} | {values} |")
    return "\n".join(lines) + "\n"


def note_teacher(out: str | os.PathLike[str], part: int, parts: int, facts: Mapping[str, Any]) -> None:
    """Store the facts of one part's teacher until the parts are merged.

    A run that finds everything done has not loaded its model: the facts of an earlier run are kept.
    """
    path = Path(out, f"teacher-{part}of{parts}.json")
    known = json.loads(path.read_text()) if path.is_file() else {}
    known.pop("stopped", None)
    write_atomically(path, json.dumps(known | dict(facts)).encode())


def teacher_facts(out: str | os.PathLike[str]) -> dict[str, Any]:
    """Merge the facts of the parts' teachers; ledgers are added."""
    facts: dict[str, Any] = {}
    for path in sorted(Path(out).glob("teacher-*of*.json")):
        part = json.loads(path.read_text())
        ledger, added = facts.get("ledger"), part.pop("ledger", None)
        facts |= part
        if added and ledger:
            added = {k: v + ledger[k] if isinstance(v, int | float) else v or ledger[k] for k, v in added.items()}
        if added:
            facts["ledger"] = added
    return facts
