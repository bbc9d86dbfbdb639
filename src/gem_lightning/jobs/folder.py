"""The state of one job on disk: items, blocks, shards."""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from gem_lightning.errors import GemError
from gem_lightning.jobs.files import write_atomically

logger = logging.getLogger(__name__)

Row = dict[str, Any]
Item = dict[str, Any]


class JobError(GemError):
    """A job folder that does not match the request."""


class JobFolder:
    """State of one job on disk.

    Args:
        path: Folder; created if absent.
        items: Items as JSON-ready dicts with a unique ``id``; read only if the folder has none yet. None opens a job.
        settings: Settings that change the rows (JSON-ready). A folder begun with other settings raises.
        suffix: ``.parquet``, ``.jsonl``, or any other with a ``writer``.
        block: Items per shard; fixed by the first run.
        schema: Arrow schema of the rows (Parquet only); None infers it per shard.
        writer: Writes the rows of a block to a path, for other suffixes; picklable.

    Raises:
        JobError: Other settings, duplicate ids, or no job in the folder.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        items: Iterable[Item] | None = None,
        settings: dict[str, Any] | None = None,
        suffix: str = ".parquet",
        block: int = 256,
        schema: Any = None,
        writer: Callable[[Path, Sequence[Row]], None] | None = None,
    ) -> None:
        self.path, self.schema, self.writer = Path(path), schema, writer
        self.shards = self.path / "shards"
        manifest = self.path / "items.jsonl"
        if block < 1:
            raise JobError(f"expected a block of 1 item or more, got {block}")
        if items is None and not manifest.exists():
            raise JobError(f"expected a job folder with items.jsonl, got {self.path}; check the path")
        self.shards.mkdir(parents=True, exist_ok=True)
        if not manifest.exists():
            facts = {"settings": settings or {}, "suffix": suffix, "block": block}
            # job.json first: a manifest without it would be a job of unknown settings
            write_atomically(self.path / "job.json", json.dumps(facts, indent=2, default=str).encode())
            _write_items(manifest, items or ())
        facts = json.loads((self.path / "job.json").read_text())
        self.suffix, self.block = facts["suffix"], facts["block"]
        if settings is not None:
            _check_settings(facts["settings"], json.loads(json.dumps(settings, default=str)), self.path)
        self.spans = _block_spans(manifest, self.block)  # (start byte, end byte, items) per block

    @property
    def total(self) -> int:
        """Return the number of items."""
        return sum(count for _, _, count in self.spans)

    def items(self, block: int) -> list[Item]:
        """Return the items of one block."""
        start, end, _ = self.spans[block]
        with (self.path / "items.jsonl").open("rb") as file:
            file.seek(start)
            lines = file.read(end - start).splitlines()
        try:
            return [json.loads(line) for line in lines]
        except ValueError as error:
            raise JobError(
                f"expected whole items in {self.path / 'items.jsonl'}, got a damaged one ({error}); delete {self.path} "
                "to start from scratch, or use another out folder"
            ) from error

    def shard(self, block: int) -> Path:
        """Return the path of the rows of a block."""
        return self.shards / f"{block:06d}{self.suffix}"

    def missing(self, part: int = 0, parts: int = 1) -> list[int]:
        """Return the unfinished blocks of this part; part ``part`` of ``parts`` has every ``parts``-th block."""
        have = {p.name for p in self.shards.iterdir()}
        return [b for b in range(part, len(self.spans), parts) if self.shard(b).name not in have]

    def undo_broken(self, part: int = 0, parts: int = 1) -> int:
        """Mark the blocks of this part that have broken items as unfinished, to retry them; return their number.

        Their other items are processed again too, which gives the same rows.

        Raises:
            JobError: Another process works on this part.
        """
        with self.claimed(part, parts):
            blocks = [b for b in range(part, len(self.spans), parts) if self.shard(b).with_suffix(".broken").exists()]
            for block in blocks:
                self.shard(block).unlink(missing_ok=True)
        return len(blocks)

    @contextmanager
    def claimed(self, part: int = 0, parts: int = 1) -> Iterator[None]:
        """Lock this part: two processes would do, and pay for, the same work.

        The lock ends with the process, also after a crash.

        Raises:
            JobError: Another process holds it.
        """
        with (self.path / f"{part}of{parts}.lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise JobError(
                    f"expected to be alone with part {part} of {parts} of {self.path}, got another process at work "
                    "there; wait for it, or name another out folder"
                ) from None
            except OSError as error:  # a file system without locks
                logger.debug("%s cannot be locked: %s", self.path, error)
            try:
                yield
            finally:
                with suppress(OSError):
                    fcntl.flock(file, fcntl.LOCK_UN)  # forked workers keep the file open a little longer

    def commit(self, block: int, rows: Sequence[Row], broken: Sequence[Row]) -> None:
        """Finish a block: write its broken items, then its shard, each atomically."""
        name = self.shard(block).with_suffix(".broken")
        if broken:
            write_atomically(name, "".join(json.dumps(b, default=str) + "\n" for b in broken).encode())
        else:
            name.unlink(missing_ok=True)
        if self.writer is not None:
            write = self.writer
            write_atomically(self.shard(block), lambda path: write(path, rows))
        elif self.suffix == ".parquet":
            write_atomically(self.shard(block), lambda path: _write_parquet(path, rows, self.schema))
        else:
            lines = "".join(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in rows)
            write_atomically(self.shard(block), lines.encode())

    def broken(self) -> Iterator[Row]:
        """Yield every broken item so far: ``id``, ``error`` (class) and ``reason``."""
        for path in sorted(self.shards.glob("*.broken")):
            yield from (json.loads(line) for line in path.read_text().splitlines())


def _write_items(manifest: Path, items: Iterable[Item]) -> None:
    seen: set[bytes] = set()

    def write(path: Path) -> None:
        with path.open("w", encoding="utf-8") as file:
            for item in items:
                key = hashlib.blake2b(str(item["id"]).encode(), digest_size=12).digest()
                if key in seen:
                    raise JobError(f"expected unique ids, got {item['id']!r} twice; remove or rename one of them")
                seen.add(key)
                file.write(json.dumps(item, ensure_ascii=False, default=str) + "\n")
        if not seen:
            raise JobError("expected at least one item of work, got none; check the source, its folder and its limit")

    write_atomically(manifest, write)


def _check_settings(stored: dict[str, Any], given: dict[str, Any], path: Path) -> None:
    for name in sorted(stored.keys() | given.keys(), key=lambda name: (name != "stage", name)):
        if stored.get(name) != given.get(name):
            raise JobError(
                f"{path} was begun with {name}={stored.get(name)!r}, got {given.get(name)!r}; "
                "give the same settings to resume, or another out folder"
            )


def _block_spans(manifest: Path, block: int) -> list[tuple[int, int, int]]:
    spans, start, count, position = [], 0, 0, 0
    with manifest.open("rb") as file:
        for line in file:
            position += len(line)
            count += 1
            if count == block:
                spans.append((start, position, count))
                start, count = position, 0
    return [*spans, (start, position, count)] if count else spans


def _write_parquet(path: Path, rows: Sequence[Row], schema: Any) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), path, compression="zstd")
