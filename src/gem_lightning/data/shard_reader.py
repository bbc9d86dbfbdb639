"""Streaming shards by index: mapped from this machine's disk, or fetched chunk by chunk from where they lie."""

from __future__ import annotations

import json
import mmap
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gem_lightning.data.shards import FACTS, LENGTHS, unpack
from gem_lightning.errors import DataError, MissingExtraError
from gem_lightning.samples.parquet import cache_folder
from gem_lightning.samples.sample import InstructionSample

_PATIENCE = 600.0  # s that another process may take to fetch one chunk
_ADDRESSES = ("s3://", "gs://", "azure://", "r2://", "hf://", "local:")


class ShardReader(Sequence[InstructionSample]):
    """Shards by index: chunks are mapped, so every process shares one copy and opens in milliseconds.

    Args:
        folder: Written by :func:`gem_lightning.data.write_shards`; or an address that litdata can fetch from
            (``s3://``, ``gs://``, ``azure://``, ``r2://``, ``hf://``; ``local:`` for a slow disk).
        paths: Leading folders in the samples' ``ecg`` and ``image`` → folders here.
        cache: Where fetched chunks stay; None takes ``$XDG_CACHE_HOME/gem-lightning/shards``. It holds all that was
            read: delete it when the shards behind the address change.

    Attributes:
        lengths: (samples,) rough tokens of each text.
        chunks: (chunks,) index after the last sample of each chunk.
        contract: Signal contract that the records were read by.
        broken: Samples that could not be read when the shards were written.

    Raises:
        DataError: No shards there.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        paths: Mapping[str, str] | None = None,
        cache: str | os.PathLike[str] | None = None,
    ) -> None:
        self.address = str(folder) if is_address(folder) else None
        self.folder = Path(folder) if self.address is None else _cache_folder(self.address, cache)
        self.paths = paths
        index = json.loads(self._file("index.json").read_text())
        facts = json.loads(self._file(FACTS).read_text())
        self.contract, self.broken = str(facts["contract"]), int(facts["broken"])
        self._files = [chunk["filename"] for chunk in index["chunks"]]
        self.chunks = np.cumsum([chunk["chunk_size"] for chunk in index["chunks"]], dtype=np.int64)
        self.lengths = np.fromfile(self._file(LENGTHS), "<u2")
        self._maps: dict[int, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_maps": {}}

    def __len__(self) -> int:
        return int(self.chunks[-1]) if len(self.chunks) else 0

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return unpack(self.blob(index)).mapped(self.paths)

    def blob(self, index: int) -> memoryview:
        """The bytes of one item."""
        index = range(len(self))[index]
        chunk = int(np.searchsorted(self.chunks, index, side="right"))
        place = index - (int(self.chunks[chunk - 1]) if chunk else 0)
        view = self._view(chunk)
        start, end = np.frombuffer(view, "<u4", 2, 4 * (place + 1))
        return view[int(start) + 4 : int(end)]  # litdata puts the item's own length before it

    def _view(self, chunk: int) -> memoryview:
        if chunk not in self._maps:
            with self._file(self._files[chunk]).open("rb") as file:
                self._maps[chunk] = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        return self._maps[chunk]

    def _file(self, name: str) -> Path:
        place = self.folder / name
        if self.address is not None and not place.exists():
            _fetch(self.address, self.folder, name)
        if not place.exists():
            where = self.address or self.folder
            raise DataError(f"expected shards ({name}) in {where}, got none; make them with stage=shards")
        return place


def is_address(folder: Any) -> bool:
    """Whether litdata has to fetch it."""
    return str(folder).startswith(_ADDRESSES)


def _cache_folder(address: str, cache: str | os.PathLike[str] | None) -> Path:
    import hashlib

    folder = Path(cache or cache_folder("shards")) / hashlib.sha256(address.encode()).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _fetch(address: str, folder: Path, name: str) -> None:
    """One file through litdata's downloader, which lets one process at a time fetch it and moves it there whole."""
    try:
        from litdata.streaming.downloader import get_downloader
    except ImportError:
        raise MissingExtraError("litdata", "stream") from None
    downloader, began = get_downloader(address, str(folder), []), time.monotonic()
    while not (folder / name).exists() and time.monotonic() - began < _PATIENCE:
        try:
            downloader.download_file(f"{address.rstrip('/')}/{name}", str(folder / name))
        except FileNotFoundError:
            return
        if not (folder / name).exists():  # another process is at it
            time.sleep(0.1)
