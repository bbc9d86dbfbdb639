"""Read and write sample files, without holding them in memory; writing is atomic."""

from __future__ import annotations

import json
import mmap
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gem_lightning.errors import DataError
from gem_lightning.jobs import write_atomically
from gem_lightning.samples.parquet import JSON_COLUMNS, open_table, table_samples
from gem_lightning.samples.sample import InstructionSample, RecordRef, map_path

__all__ = [
    "InstructionSample",
    "RecordRef",
    "SampleFile",
    "known_paths",
    "map_path",
    "read_samples",
    "write_samples",
]

PATHS_NOTE = "paths.json"  # next to the sample files of a run
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[{}\[\]]', re.DOTALL)


class SampleFile(Sequence[InstructionSample]):
    """Random access to a JSON list or JSON Lines file, memory-mapped, at 16 bytes per sample.

    Args:
        path: ``.json`` (one list) or ``.jsonl``/``.ndjson``.
        paths: Map of leading folders (see :func:`map_path`).

    Raises:
        DataError: The file is missing, empty or truncated.
    """

    def __init__(self, path: str | os.PathLike[str], paths: Mapping[str, str] | None = None) -> None:
        self.path, self.paths = Path(path), paths
        self._map: mmap.mmap | None = None
        self.spans = np.fromiter(_spans(self._bytes(), self.path), dtype=np.dtype((np.int64, 2)))  # (samples, 2)

    def _bytes(self) -> mmap.mmap:
        if self._map is None:
            self._map = _mapped_file(self.path)
        return self._map

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_map": None}

    def __len__(self) -> int:
        return len(self.spans)

    def row(self, index: int) -> dict[str, Any]:
        """Return the JSON object at ``index``, unchanged."""
        start, end = (int(v) for v in self.spans[index])
        return _parse(self._bytes()[start:end], self.path, start)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return InstructionSample.from_dict(self.row(index)).mapped(self.paths)


def _mapped_file(path: Path) -> mmap.mmap:
    if not path.is_file():
        raise DataError(f"expected a sample file, got nothing at {path}; check the path")
    if path.stat().st_size == 0:
        raise DataError(f"expected samples in {path}, got an empty file")
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _parse(text: bytes, path: Any, start: int) -> dict[str, Any]:
    try:
        row = json.loads(text)
    except ValueError as error:
        raise DataError(f"{path}, byte {start}: expected a JSON object, got {error}") from None
    if not isinstance(row, dict):
        raise DataError(f"{path}, byte {start}: expected a JSON object, got {type(row).__name__}")
    return row


def _spans(data: mmap.mmap, path: Path) -> Iterator[tuple[int, int]]:
    """Yield (start, end) of each object: in the outer list, or of each line when the file is JSON Lines."""
    # byte-order mark and white space come before the first bracket
    first = data[:4096].lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
    if first == b"[":
        yield from _list_spans(data, path)
        return
    start = 3 if data[:3] == b"\xef\xbb\xbf" else 0
    while start < len(data):
        end = data.find(b"\n", start)
        end = len(data) if end < 0 else end
        if data[start:end].strip():
            yield start, end
        start = end + 1


def _list_spans(data: mmap.mmap, path: Path) -> Iterator[tuple[int, int]]:
    depth = start = 0
    for match in _TOKEN.finditer(data):
        token = data[match.start()]
        if token in b"{[":
            depth += 1
            if depth == 2:
                start = match.start()
        elif token in b"}]":
            depth -= 1
            if depth == 1:
                yield start, match.end()
            elif depth == 0:
                return
    raise DataError(f"{path}: expected a closed JSON list, got a truncated file; download it again")


def read_samples(path: str | os.PathLike[str], paths: Mapping[str, str] | None = None) -> Iterator[InstructionSample]:
    """Yield the samples of a JSON list, JSON Lines or Parquet file.

    Args:
        path: ``.json``, ``.jsonl``, ``.ndjson`` or ``.parquet``; the files of a folder are read in order of name.
        paths: Map of leading folders in the samples to folders here (see :func:`map_path`).

    Raises:
        DataError: A missing or truncated file, or an object that is no sample.
    """
    path = Path(path)
    if path.is_dir():
        for part in sorted(p for p in path.iterdir() if p.suffix in (".json", ".jsonl", ".ndjson", ".parquet")):
            yield from read_samples(part, paths)
    elif path.suffix == ".parquet":
        yield from (sample.mapped(paths) for sample in table_samples(path))
    else:
        data = _mapped_file(path)
        for start, end in _spans(data, path):
            yield InstructionSample.from_dict(_parse(data[start:end], path, start)).mapped(paths)


def known_paths(file: str | os.PathLike[str], paths: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return leading folders in a file's samples → folders here: ``paths`` over the ``paths.json`` of its run."""
    note = Path(file).parent / PATHS_NOTE
    stored = json.loads(note.read_text(encoding="utf-8")) if note.is_file() else {}
    return stored | dict(paths or {})


def files_of_run(folder: str | os.PathLike[str]) -> dict[str, str]:
    """Return split → sample file in the folder of a run.

    Raises:
        DataError: There are none, or a split exists in several formats.
    """
    found: dict[str, str] = {}
    for place in split_files(folder):
        if place.stem in found:
            raise DataError(
                f"expected one file of {place.stem} samples in {folder}, got {Path(found[place.stem]).name} and "
                f"{place.name}; name one of them, or delete the other"
            )
        found[place.stem] = str(place)
    if not found:
        raise DataError(f"expected a sample file, or the folder of a run with its train.jsonl, got {folder}")
    return found


def split_files(folder: str | os.PathLike[str]) -> list[Path]:
    """Return the sample files in the folder of a run, in any format."""
    places = (Path(folder, split + suffix) for split in ("train", "val", "test") for suffix in _WRITERS)
    return [place for place in places if place.is_file()]


def sample_items(path: str | os.PathLike[str]) -> Iterator[dict[str, Any]]:
    """Yield the items of a job over a sample file: the position of each sample, for workers to read.

    Raises:
        DataError: The file is missing, truncated or empty.
    """
    path = Path(path)
    i = -1
    if path.suffix == ".parquet":
        for i in range(len(open_table(str(path)))):
            yield {"id": i, "file": str(path), "row": i}
    else:
        for i, (start, end) in enumerate(_spans(_mapped_file(path), path)):
            yield {"id": i, "file": str(path), "start": start, "end": end}
    if i < 0:
        raise DataError(f"expected samples in {path}, got none")


def read_item(item: Mapping[str, Any]) -> InstructionSample:
    """Read the sample of an item of :func:`sample_items`.

    Raises:
        DataError: It is no sample.
    """
    if "row" in item:
        return open_table(item["file"])[item["row"]]
    with open(item["file"], "rb") as file:
        file.seek(item["start"])
        text = file.read(item["end"] - item["start"])
    return InstructionSample.from_dict(_parse(text, item["file"], item["start"]))


def write_samples(samples: Iterable[InstructionSample], path: str | os.PathLike[str]) -> int:
    """Write samples atomically, by suffix (.json list, .jsonl, .parquet); return their number.

    Raises:
        DataError: An unknown suffix.
    """
    path = Path(path)
    check_name(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    count = 0

    def write(temporary: Path) -> None:
        nonlocal count
        count = _WRITERS[path.suffix](samples, temporary)

    write_atomically(path, write)
    return count


def _write_lines(samples: Iterable[InstructionSample], path: Path, marks: Sequence[str] = ("", "\n", "\n")) -> int:
    """Write one JSON object per line, with text before, between and after them."""
    count = 0
    with path.open("w", encoding="utf-8") as file:
        file.write(marks[0])
        for count, sample in enumerate(samples, 1):
            file.write((marks[1] if count > 1 else "") + json.dumps(sample.to_dict(), ensure_ascii=False))
        file.write(marks[2] if count or marks[0] else "")
    return count


def _write_list(samples: Iterable[InstructionSample], path: Path) -> int:
    return _write_lines(samples, path, ("[\n", ",\n", "\n]\n"))


def _write_parquet(samples: Iterable[InstructionSample], path: Path) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = ("id", "image", "ecg", "ecg_format", "report", *JSON_COLUMNS, "metadata")
    schema = pa.schema([(name, pa.string()) for name in names] + [("image_bytes", pa.binary())])
    count, rows = 0, []
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for sample in samples:
            row = {name: getattr(sample, name) for name in names} | {"image_bytes": sample.image_bytes}
            row["id"] = str(sample.id)
            for name in (*JSON_COLUMNS, "metadata"):
                row[name] = json.dumps(row[name], ensure_ascii=False) if row[name] else None
            rows.append(row)
            count += 1
            if len(rows) == 1024:
                writer.write_table(pa.Table.from_pylist(rows, schema))
                rows = []
        writer.write_table(pa.Table.from_pylist(rows, schema))
    return count


_WRITERS = {".json": _write_list, ".jsonl": _write_lines, ".ndjson": _write_lines, ".parquet": _write_parquet}


def check_name(path: str | os.PathLike[str]) -> None:
    """Check the suffix of a sample file before the work that fills it.

    Raises:
        DataError: An unknown suffix.
    """
    if Path(path).suffix not in _WRITERS:
        raise DataError(f"expected a file name ending in {', '.join(_WRITERS)}, got {Path(path).name!r}")
