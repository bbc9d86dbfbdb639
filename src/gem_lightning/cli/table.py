"""``measure FILES -o TABLE``: a row per recording with every measurement, resumable and over processes."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gem_lightning.cli.inputs import STDIN, Input, reading
from gem_lightning.cli.outcome import Failures, warn
from gem_lightning.errors import GemError
from gem_lightning.generation.run import FeatureRow, features_schema
from gem_lightning.jobs import JobError, JobFolder, Progress, merge, run, write_atomically
from gem_lightning.jobs.progress import show_progress

if TYPE_CHECKING:
    import pyarrow as pa

ENDINGS = (".parquet", ".csv", ".json", ".jsonl")
# Records for which starting processes (2 s each, of imports) takes longer than measuring (30 ms each). Ours.
_ALONE = 64
# A shard of more is lost work when a run is stopped; one of fewer spends its time on 391 columns. Ours.
_SMALLEST_BLOCK, _LARGEST_BLOCK = 8, 256
_BATCH = 256  # rows in memory while a table is written as text


@dataclass(frozen=True)
class TableRow(FeatureRow):
    """Computes the row of a table: that of ``generate stage=features``, with the file and its quality."""

    def __call__(self, item: Mapping[str, Any]) -> dict[str, Any]:
        """Return the columns of :func:`table_schema`; ``findings`` is empty where the recording is refused."""
        from gem_lightning.features import features_row
        from gem_lightning.reporting.measured import facts, measured

        start = time.process_time()
        source, record = self.read(item)
        found = measured(record)
        known = facts(source.id, found)
        own = {name: known[name] for name in ("file", "version", "refused")}
        own |= {"quality": found.quality.verdict, "quality_reasons": list(found.quality.reasons)}
        return features_row(found.features) | self.facts(source, found.findings, start) | own


def table_schema() -> pa.Schema:
    """Return the Arrow schema: file, quality and version, then the columns of ``generate stage=features``."""
    import pyarrow as pa

    own = [("file", pa.string()), ("version", pa.string()), ("quality", pa.string())]
    own += [("quality_reasons", pa.list_(pa.string())), ("refused", pa.string())]
    return pa.schema([*own, *features_schema()])


def write_table(args: argparse.Namespace, inputs: Sequence[Input]) -> None:
    """Measure recordings into one table; a stopped run resumes.

    Raises:
        GemError: Another suffix, standard input, or not one recording could be read.
        SystemExit: With 4 where some could not.
    """
    out: Path = args.out
    if out.suffix not in ENDINGS:
        raise GemError(f"expected a table that ends in {', '.join(ENDINGS)}, got {out}; choose one of them with -o")
    if any(one.name == STDIN for one in inputs):
        raise GemError("expected files for a table, got standard input; name files or folders, or use --json")
    out.parent.mkdir(parents=True, exist_ok=True)
    folder, stated = open_job(out, inputs, args), reading(args)
    del stated["format"]  # it is a part of each item
    done = folder.total - sum(folder.spans[block][2] for block in folder.missing())
    if done:
        warn(f"resumed: {done} of {folder.total} recordings were measured before")
    several = len(inputs) > _ALONE and folder.missing()
    workers = args.workers if args.workers is not None else None if several else 0
    run(folder, TableRow(reading=stated), workers, limit_s=120, show=_shown())
    failures = Failures(len(inputs), "measured")
    for row in folder.broken():
        failures.note(row["id"], row["reason"])
    if failures.count < failures.total:
        save_table(folder, out)
        print(out)
    shutil.rmtree(folder.path)
    failures.end()


def _shown() -> Any:
    """Progress on a terminal alone: a log of it would only lengthen what a script collects."""

    def ignore(_: Progress) -> None:
        """Show nothing."""

    return show_progress() if sys.stderr.isatty() else ignore


def open_job(out: Path, inputs: Sequence[Input], args: argparse.Namespace) -> JobFolder:
    """Open the job next to the table; one of other files, changed files or other options is begun from scratch."""
    named = {} if args.format is None else {"format": args.format}
    items = [{"id": one.name, "ecg": os.path.abspath(str(one.source)), **named} for one in inputs]
    settings = {"files": _digest(item["ecg"] for item in items), "reading": reading(args)}
    block = min(max(len(items) // 200, _SMALLEST_BLOCK), _LARGEST_BLOCK)  # 200 steps of progress
    path = out.with_name(f"{out.name}.job")

    def opened() -> JobFolder:
        return JobFolder(path, items, settings, ".parquet", block, table_schema())

    try:
        return opened()
    except JobError:
        with JobFolder(path).claimed():  # not while another process works on it
            warn("the files or options differ from those of the run that was stopped; measuring from scratch")
            shutil.rmtree(path)
        return opened()


def _digest(files: Iterator[str]) -> str:
    """A hash of the files' names, sizes and times: what was measured must be what is there now."""
    found = hashlib.sha256()
    for file in files:
        path = Path(file)
        state = path.stat() if path.exists() else None
        found.update(f"{file}\n{state and (state.st_size, state.st_mtime_ns)}\n".encode())
    return found.hexdigest()[:16]


def save_table(folder: JobFolder, out: Path) -> None:
    """Write the rows of a finished job as Parquet, CSV (lists as JSON), JSON (one list) or JSON Lines."""
    whole = folder.path / "merged.parquet"
    merge([folder.path], whole)
    if out.suffix == ".parquet":
        whole.replace(out)
        return
    writers = {".csv": _write_csv, ".json": _write_json, ".jsonl": _write_lines}
    write_atomically(out, lambda path: writers[out.suffix](whole, path))


def _rows(whole: Path) -> Iterator[dict[str, Any]]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(whole) as file:
        for batch in file.iter_batches(_BATCH):
            yield from batch.to_pylist()


def _write_csv(whole: Path, path: Path) -> None:
    import csv

    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, table_schema().names)
        writer.writeheader()
        for row in _rows(whole):
            cells = {name: json.dumps(v) if isinstance(v, list) else v for name, v in row.items()}
            writer.writerow(cells)


def _write_json(whole: Path, path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        for number, row in enumerate(_rows(whole)):
            file.write(("[\n" if number == 0 else ",\n") + json.dumps(row, ensure_ascii=False))
        file.write("\n]\n")


def _write_lines(whole: Path, path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in _rows(whole))
