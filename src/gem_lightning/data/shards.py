"""Instruction samples with their signals in streaming shards (litdata's chunks): written by a resumable job.

One item of a chunk is one sample: signal as 16-bit integers with a gain a lead, and the sample's JSON.
"""

from __future__ import annotations

import json
import mmap
import os
import shutil
import struct
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from gem_lightning.ecg.record import EcgRecord
from gem_lightning.errors import DataError, MissingExtraError
from gem_lightning.grounding.sample import InstructionSample, read_item, sample_items
from gem_lightning.jobs import JobFolder, Progress, run, write_atomically

_HEAD = struct.Struct("<4sIIHHfI")  # magic, bytes of facts, bytes of the rest, leads, unused, Hz, samples
_MAGIC = b"GEM1"
_COUNTS = 32767
BLOCK = 512  # samples a chunk: about 60 MB of 12 leads × 5,000 samples


def pack(sample: InstructionSample, record: EcgRecord | None) -> bytes:
    """One sample as bytes; a signal value is kept to within its lead's largest magnitude / 65,534 (NaN becomes 0)."""
    row = sample.to_dict()
    rest = {name: row.pop(name) for name in ("machine_measurements", "features") if name in row}
    facts: dict[str, Any] = {"sample": row}
    signal, gains = np.zeros((0, 0), np.int16), np.zeros(0, np.float32)
    if record is not None:
        clean = np.nan_to_num(record.signal)
        gains = (np.maximum(np.abs(clean).max(axis=1), 1e-6) / _COUNTS).astype(np.float32)  # (leads,) mV a count
        signal = np.rint(clean / gains[:, None]).astype(np.int16)
        facts |= {"leads": record.leads, "meta": record.meta}
    text = json.dumps(facts, ensure_ascii=False, default=str).encode()
    more = json.dumps(rest, ensure_ascii=False, default=str).encode() if rest else b""
    fs = 0.0 if record is None else record.fs
    head = _HEAD.pack(_MAGIC, len(text), len(more), signal.shape[0], 0, fs, signal.shape[1])
    return head + gains.tobytes() + signal.tobytes() + text + more


def unpack(blob: bytes | memoryview, measurements: bool = False) -> tuple[InstructionSample, EcgRecord | None]:
    """What :func:`pack` packed: the sample, and its signal as float32 (leads, samples) mV.

    Args:
        blob: One item.
        measurements: Also parse ``machine_measurements`` and ``features``, which training does not need.

    Raises:
        DataError: The bytes are no such item.
    """
    view = memoryview(blob)
    magic, n_text, n_more, n_leads, _, fs, samples = _HEAD.unpack_from(view)
    if magic != _MAGIC:
        raise DataError("expected a chunk written by gem_lightning.data.write_shards, got other items")
    start = _HEAD.size
    gains = np.frombuffer(view, np.float32, n_leads, start)
    counts = np.frombuffer(view, np.int16, n_leads * samples, start + 4 * n_leads)
    start += 4 * n_leads + 2 * n_leads * samples
    facts = json.loads(bytes(view[start : start + n_text]))
    row = facts["sample"]
    if measurements and n_more:
        row |= json.loads(bytes(view[start + n_text : start + n_text + n_more]))
    record = None
    if n_leads:
        signal = np.multiply(counts.reshape(n_leads, samples), gains[:, None], dtype=np.float32)  # (leads, samples)
        record = EcgRecord(signal, fs, tuple(facts["leads"]), facts["meta"])
    return InstructionSample.from_dict(row), record


@dataclass(frozen=True)
class _PackItem:
    """Item of a shards job → its bytes; picklable."""

    paths: Mapping[str, str] = field(default_factory=dict)
    contract: str = "clean"

    def __call__(self, item: Mapping[str, Any]) -> dict[str, Any]:
        sample = read_item(item)
        ref = sample.mapped(self.paths).record
        return {"blob": pack(sample, None if ref is None else ref.read(contract=self.contract))}


def _write_chunk(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows as one chunk file, through litdata's own writer."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".chunk") as folder:
        writer = _writer(folder)
        for i, row in enumerate(rows):
            writer.add_item(i, row["blob"])
        files = writer.done()
        if files:
            shutil.move(files[0], path)
        else:
            path.touch()


def _writer(folder: str) -> Any:
    try:
        from litdata.streaming.writer import BinaryWriter
    except ImportError:
        raise MissingExtraError("litdata", "stream") from None
    return BinaryWriter(folder, chunk_bytes=1 << 40)


def write_shards(
    data: Any,
    out: str | os.PathLike[str],
    paths: Mapping[str, str] | None = None,
    contract: str = "clean",
    workers: int | None = None,
    part: int = 0,
    parts: int = 1,
    block: int = BLOCK,
    show: Any = None,
) -> Progress:
    """Write the samples of ``data`` with their signals as streaming shards; a killed run goes on where it stopped.

    Args:
        data: A file of samples, or ``{"train": file, "val": file}`` for one folder each below ``out``.
        out: Folder; read it with :class:`gem_lightning.data.ShardReader` or litdata's ``StreamingDataset``.
        paths: Leading folders in the samples → folders here.
        contract: Signal contract of the reader; it is fixed in the shards.
        workers: Processes; None takes all cores.
        part, parts: This machine's share; the index is written once every part is done.
        block: Samples a chunk.
        show: Called with the progress.

    Returns:
        Progress of the (last) file; broken samples are listed in ``broken.jsonl`` beside the chunks.
    """
    if not isinstance(data, str | os.PathLike):
        found = [
            write_shards(file, Path(out) / name, paths, contract, workers, part, parts, block, show)
            for name, file in dict(data).items()
        ]
        if not found:
            raise DataError("expected at least one file of samples, got none")
        return found[-1]
    out, data = Path(out), Path(data)
    if not data.is_file():
        raise DataError(f"expected a file of samples, got nothing at {data}; check data=")
    settings = {"data": data.name, "bytes": data.stat().st_size, "contract": contract}
    folder = JobFolder(out / "job", sample_items(data), settings, ".bin", block, writer=_write_chunk)
    work = _PackItem(dict(paths or {}), contract)
    progress = run(folder, work, workers, part, parts, show=show)
    if not folder.missing():
        _finish(folder, out)
    return progress


def _finish(folder: JobFolder, out: Path) -> None:
    """Chunks beside their index, which litdata reads."""
    chunks = []
    for block in range(len(folder.spans)):
        shard, name = folder.shard(block), f"chunk-0-{block}.bin"
        size = shard.stat().st_size
        if size == 0:
            continue
        with shard.open("rb") as file:
            count = int.from_bytes(file.read(4), "little")
        target = out / name
        if not target.exists():
            os.link(shard, target)  # one file under two names: the job folder may be deleted
        chunks.append({"chunk_bytes": size - 4 * (count + 2), "chunk_size": count, "dim": None, "filename": name})
    lines = "".join(json.dumps(row) + "\n" for row in folder.broken())
    write_atomically(out / "broken.jsonl", lines.encode())
    with tempfile.TemporaryDirectory() as scratch:
        writer = _writer(scratch)
        writer.add_item(0, b"")
        writer.done()
        config = writer.get_config()
    write_atomically(out / "index.json", json.dumps({"chunks": chunks, "config": config, "updated_at": "0"}).encode())


class ShardReader(Sequence[tuple[InstructionSample, EcgRecord | None]]):
    """Shards on this machine's disk by index: mapped, so every process shares one copy and opens in milliseconds.

    Args:
        folder: Written by :func:`write_shards`.

    Raises:
        DataError: No index there.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        index = self.folder / "index.json"
        if not index.is_file():
            raise DataError(f"expected shards (index.json) in {folder}, got none; make them with stage=shards")
        chunks = json.loads(index.read_text())["chunks"]
        self._files = [chunk["filename"] for chunk in chunks]
        self._ends = np.cumsum([chunk["chunk_size"] for chunk in chunks], dtype=np.int64)
        self._maps: dict[int, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_maps": {}}

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def blob(self, index: int) -> memoryview:
        """The bytes of one item."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"index {index} of {len(self)} samples")
        index %= len(self)
        chunk = int(np.searchsorted(self._ends, index, side="right"))
        place = index - (int(self._ends[chunk - 1]) if chunk else 0)
        view = self._view(chunk)
        start, end = np.frombuffer(view, "<u4", 2, 4 * (place + 1))
        return view[int(start) + 4 : int(end)]  # litdata puts the item's own length before it

    def _view(self, chunk: int) -> memoryview:
        if chunk not in self._maps:
            with (self.folder / self._files[chunk]).open("rb") as file:
                self._maps[chunk] = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        return self._maps[chunk]

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return unpack(self.blob(index))
