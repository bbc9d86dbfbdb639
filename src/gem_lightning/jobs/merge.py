"""Merge the shards of a job into one file."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gem_lightning.jobs.files import write_atomically
from gem_lightning.jobs.folder import JobError, JobFolder


def merge(folders: Sequence[str | os.PathLike[str]], out: str | os.PathLike[str], partial: bool = False) -> int:
    """Merge the shards of one job, from one folder or several machines' copies of it, into one file.

    Args:
        folders: Job folders with the same items.
        out: File to write; ``broken.jsonl`` is written to the same folder.
        partial: Merge the finished blocks instead of raising when some are missing.

    Returns:
        Number of rows.

    Raises:
        JobError: Blocks missing, or folders of different jobs.
    """
    jobs = [JobFolder(folder) for folder in folders]
    first, out = jobs[0], Path(out)
    if any(job.spans != first.spans or job.suffix != first.suffix for job in jobs):
        raise JobError("expected folders of one job, got different items; merge each job by itself")
    shards: list[Path] = []
    for block in range(len(first.spans)):
        place = next((job.shard(block) for job in jobs if job.shard(block).exists()), None)
        if place is None and partial:
            continue
        if place is None:
            missing = len(set.intersection(*(set(job.missing()) for job in jobs)))
            raise JobError(
                f"expected {len(first.spans)} finished blocks, {missing} are missing; run the job again first"
            )
        shards.append(place)
    out.parent.mkdir(parents=True, exist_ok=True)
    count = _merge_parquet(shards, out, first.schema) if first.suffix == ".parquet" else _merge_lines(shards, out)
    lines = [p.read_bytes() for s in shards if (p := s.with_suffix(".broken")).exists()]
    write_atomically(out.with_name("broken.jsonl"), b"".join(lines))
    for job in jobs:
        for stale in job.shards.glob(".*.tmp"):
            stale.unlink(missing_ok=True)
    return count


def _merge_parquet(shards: Sequence[Path], out: Path, schema: Any) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schemas = [s for s in (pq.read_schema(p) for p in shards) if len(s)]
    schema = schema or pa.unify_schemas(schemas or [pa.schema([])], promote_options="permissive")
    count = 0

    def write(path: Path) -> None:
        nonlocal count
        with pq.ParquetWriter(path, schema, compression="zstd") as writer:
            for shard in shards:
                table = pq.read_table(shard)
                if table.num_rows:
                    writer.write_table(pa.concat_tables([schema.empty_table(), table], promote_options="permissive"))
                    count += table.num_rows

    write_atomically(out, write)
    return count


def _merge_lines(shards: Sequence[Path], out: Path) -> int:
    def write(path: Path) -> None:
        with path.open("wb") as file:
            for shard in shards:
                with shard.open("rb") as part:
                    shutil.copyfileobj(part, file, 1 << 20)

    write_atomically(out, write)
    with out.open("rb") as file:
        return sum(1 for _ in file)
