"""Random access to samples in Parquet, with embedded images, without holding them in memory."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from gem_lightning.errors import DataError
from gem_lightning.samples.sample import InstructionSample

JSON_COLUMNS = ("conversations", "machine_measurements", "features")
_ROWS = 256  # per batch of the unpacked copy: one read decodes one batch


class SampleTable(Sequence[InstructionSample]):
    """Random access to a Parquet file of samples.

    Parquet is decoded in groups of rows, which single samples would decode again each time. The file is therefore
    decoded once into the cache folder (``$XDG_CACHE_HOME/gem-lightning``) as Arrow, which all processes map and share.

    Args:
        path: Own Parquet or one of the hub, with images as ``image_bytes`` or in an Image column.
        paths: Leading folders in the samples → folders here.

    Raises:
        DataError: The file is missing.
    """

    def __init__(self, path: str | os.PathLike[str], paths: Mapping[str, str] | None = None) -> None:
        self.path, self.paths = Path(path), paths
        self._arrow = _unpacked(self.path)
        self._reader: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_reader": None}

    def _batches(self) -> Any:
        if self._reader is None:
            import pyarrow as pa

            self._reader = pa.ipc.open_file(pa.memory_map(str(self._arrow)))
        return self._reader

    def __len__(self) -> int:
        batches = self._batches()
        count = batches.num_record_batches
        return 0 if count == 0 else (count - 1) * _ROWS + batches.get_batch(count - 1).num_rows

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        (row,) = self._batches().get_batch(index // _ROWS).slice(index % _ROWS, 1).to_pylist()
        return sample_of_row(row).mapped(self.paths)


@lru_cache(maxsize=4)
def open_table(path: str) -> SampleTable:
    """Open the table of a file, once per process."""
    return SampleTable(path)


def cache_folder(name: str) -> Path:
    """Return a folder for reproducible data: ``$XDG_CACHE_HOME/gem-lightning/name``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "gem-lightning", name)


def _unpacked(path: Path) -> Path:
    """Return the Arrow copy of a Parquet file; written on first use."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from gem_lightning.jobs import write_atomically

    if not path.is_file():
        raise DataError(f"expected a sample file, got nothing at {path}; check the path")
    state = path.stat()
    identity = f"{path.resolve()} {state.st_size} {state.st_mtime_ns}"
    folder = cache_folder("tables")
    place = folder / f"{path.stem}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}.arrow"
    if not place.exists():
        folder.mkdir(parents=True, exist_ok=True)

        def write(to: Path) -> None:
            with pq.ParquetFile(path) as file, pa.ipc.new_file(str(to), file.schema_arrow) as out:
                rest = file.schema_arrow.empty_table()
                for batch in file.iter_batches(batch_size=_ROWS):
                    rest = pa.concat_tables([rest, pa.Table.from_batches([batch])])
                    while len(rest) >= _ROWS:
                        out.write_table(rest.slice(0, _ROWS).combine_chunks())
                        rest = rest.slice(_ROWS)
                if len(rest):
                    out.write_table(rest.combine_chunks())

        write_atomically(place, write)
    return place


def table_samples(path: Path) -> Iterator[InstructionSample]:
    """Yield the samples of a Parquet file.

    Raises:
        DataError: The file is missing.
    """
    import pyarrow.parquet as pq

    if not path.is_file():
        raise DataError(f"expected a sample file, got nothing at {path}; check the path")
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=_ROWS):
            yield from map(sample_of_row, batch.to_pylist())


def sample_of_row(row: dict[str, Any]) -> InstructionSample:
    """Build the sample of a Parquet row; nested columns may be JSON text, and images encoded bytes."""
    for name in JSON_COLUMNS:
        if isinstance(row.get(name), str) and row[name][:1] in "[{":
            row[name] = json.loads(row[name])
    if isinstance(row.get("image"), dict):  # the hub's Image feature: encoded bytes and a file name
        image = row.pop("image")
        row["image"], row["image_bytes"] = image.get("path"), image.get("bytes")
    if isinstance(row.get("metadata"), str):
        row |= json.loads(row.pop("metadata"))
    known = {name: value for name, value in row.items() if value is not None}
    image_bytes = known.pop("image_bytes", None)
    return replace(InstructionSample.from_dict(known), image_bytes=image_bytes)
