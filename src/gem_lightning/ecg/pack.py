"""Many records of one length and rate in one memory-mapped folder: the fastest thing to train from."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from gem_lightning.ecg.record import EcgRecord
from gem_lightning.errors import EcgReadError
from gem_lightning.jobs import replace_folder

SUFFIX = ".ecgpack"
# 16 bits, symmetric, so that a sign change costs nothing
_COUNTS = 32767


class PackWriter:
    """Writes ``folder`` under a temporary name; it appears, whole, at the end of the ``with`` block.

    Args:
        folder: Name ending in ``.ecgpack``.
        n: Number of records that will be added.

    Raises:
        EcgReadError: Another number of records came, or they differ in leads, rate or length.
    """

    def __init__(self, folder: str | os.PathLike[str], n: int) -> None:
        self.folder = Path(folder)
        if self.folder.suffix != SUFFIX:
            raise EcgReadError(f"expected a folder name ending in {SUFFIX}, got {self.folder.name!r}")
        self._partial = self.folder.with_name(f".{self.folder.name}.{os.getpid()}.partial")
        self._n, self._count = n, 0
        self._signals: np.ndarray | None = None
        self._gains = np.zeros(n, np.float32)
        self._meta: list[dict[str, Any]] = []

    def __enter__(self) -> PackWriter:
        shutil.rmtree(self._partial, ignore_errors=True)
        self._partial.mkdir(parents=True)
        return self

    def add(self, record: EcgRecord) -> int:
        """Append one record, rounded to 16 bits of its own range (NaN becomes 0); returns its index."""
        if self._signals is None:
            self._shape = (record.leads, record.fs, record.samples)
            shape = (self._n, len(record.leads), record.samples)
            self._signals = np.lib.format.open_memmap(self._partial / "signals.npy", "w+", np.int16, shape)
        if (record.leads, record.fs, record.samples) != self._shape:
            raise EcgReadError(f"expected leads, Hz and samples like the first record's {self._shape}, got another")
        if self._count == self._n:
            raise EcgReadError(f"expected {self._n} records, got more; give the true number")
        signal = np.nan_to_num(record.signal)
        gain = max(float(np.abs(signal).max()), 1e-6) / _COUNTS
        self._signals[self._count] = np.rint(signal / gain)
        self._gains[self._count] = gain
        self._meta.append(dict(record.meta))
        self._count += 1
        return self._count - 1

    def __exit__(self, kind: Any, *_: Any) -> None:
        if kind is not None:
            shutil.rmtree(self._partial, ignore_errors=True)
            return
        if self._count != self._n or self._signals is None:
            shutil.rmtree(self._partial, ignore_errors=True)
            raise EcgReadError(f"expected {self._n} records, got {self._count}; give the true number")
        self._signals.flush()  # type: ignore[attr-defined]
        np.save(self._partial / "gains.npy", self._gains)
        leads, fs, _samples = self._shape
        (self._partial / "index.json").write_text(json.dumps({"leads": leads, "fs": fs, "meta": self._meta}))
        replace_folder(self._partial, self.folder)


def write_pack(records: Iterable[EcgRecord], folder: str | os.PathLike[str], n: int) -> None:
    """Write ``n`` records of equal leads, rate and length; see :class:`PackWriter`."""
    with PackWriter(folder, n) as pack:
        for record in records:
            pack.add(record)


def read_pack(folder: str | os.PathLike[str], index: int | str) -> EcgRecord:
    """Record ``index`` of a pack: float32 (leads, samples), mV.

    Raises:
        EcgReadError: No such pack or record.
    """
    signals, gains, facts = _open(os.fspath(folder))
    i = int(index)
    if not 0 <= i < len(gains):
        raise EcgReadError(f"expected a record index of 0 to {len(gains) - 1} in {folder}, got {index}")
    signal = signals[i].astype(np.float32) * gains[i]
    return EcgRecord(signal, facts["fs"], tuple(facts["leads"]), facts["meta"][i])


@lru_cache(maxsize=16)
def _open(folder: str) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    path = Path(folder)
    try:
        facts = json.loads((path / "index.json").read_text())
        return np.load(path / "signals.npy", mmap_mode="r"), np.load(path / "gains.npy"), facts
    except (OSError, ValueError) as error:
        raise EcgReadError(f"expected a folder written by write_pack, got {folder}: {error}") from None
