"""Instruction samples with their signals in streaming shards (litdata's chunks): written by a resumable job.

One item of a chunk is one sample: signal as 16-bit integers with a gain a lead, the sample's JSON, and its image
where the file of samples carries one.
"""

from __future__ import annotations

import json
import mmap
import os
import shutil
import struct
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from gem_lightning.ecg.record import EcgRecord
from gem_lightning.errors import DataError, MissingExtraError
from gem_lightning.jobs import JobError, JobFolder, Progress, run, write_atomically
from gem_lightning.samples.io import PATHS_NOTE, known_paths, read_item, sample_items
from gem_lightning.samples.parquet import cache_folder
from gem_lightning.samples.sample import InstructionSample

# magic, bytes of facts, bytes of the rest, leads, rough tokens, Hz, samples
_HEAD = struct.Struct("<4sIIHHfI")
_MAGIC = b"GEM1"
_COUNTS = 32767  # largest int16: signals are stored in counts of their own maximum
LENGTHS, FACTS = "rough_tokens.u2", "facts.json"  # next to litdata's index.json
BLOCK = 512  # samples a chunk: about 60 MB of 12 leads × 5,000 samples


def pack(sample: InstructionSample) -> bytes:
    """Pack one sample as bytes, with its ``ecg_record`` and ``image_bytes``.

    A signal value is kept to within its lead's largest magnitude / 65,534; NaN becomes 0.
    """
    row, record = sample.to_dict(), sample.ecg_record
    rest = {name: row.pop(name) for name in ("machine_measurements", "features") if name in row}
    image = sample.image_bytes or b""
    facts: dict[str, Any] = {"sample": row} | ({"picture": len(image)} if image else {})
    signal, gains = np.zeros((0, 0), np.int16), np.zeros(0, np.float32)
    if record is not None:
        clean = np.nan_to_num(record.signal)
        gains = (np.maximum(np.abs(clean).max(axis=1), 1e-6) / _COUNTS).astype(np.float32)  # (leads,) mV a count
        signal = np.rint(clean / gains[:, None]).astype(np.int16)
        facts |= {"leads": record.leads, "meta": record.meta}
    text = json.dumps(facts, ensure_ascii=False, default=str).encode()
    more = json.dumps(rest, ensure_ascii=False, default=str).encode() if rest else b""
    fs, tokens = 0.0 if record is None else record.fs, min(sample.rough_tokens, 2**16 - 1)
    head = _HEAD.pack(_MAGIC, len(text), len(more), signal.shape[0], tokens, fs, signal.shape[1])
    return b"".join((head, gains.tobytes(), signal.tobytes(), text, more, image))


def unpack(blob: bytes | memoryview, measurements: bool = False) -> InstructionSample:
    """Unpack the result of :func:`pack`: the sample with its ``ecg_record``, float32 (leads, samples) mV.

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
    row, end = facts["sample"], start + n_text + n_more
    if measurements and n_more:
        row |= json.loads(bytes(view[start + n_text : end]))
    record = None
    if n_leads:
        signal = np.multiply(counts.reshape(n_leads, samples), gains[:, None], dtype=np.float32)  # (leads, samples)
        record = EcgRecord(signal, fs, tuple(facts["leads"]), facts["meta"])
    image = bytes(view[end : end + facts["picture"]]) if "picture" in facts else None
    return replace(InstructionSample.from_dict(row), ecg_record=record, image_bytes=image)


@dataclass(frozen=True)
class _PackItem:
    """Item of a shards job → its bytes; picklable."""

    paths: Mapping[str, str] = field(default_factory=dict)
    contract: str = "clean"

    def __call__(self, item: Mapping[str, Any]) -> dict[str, Any]:
        sample = read_item(item)
        record = sample.mapped(self.paths).read_record(contract=self.contract)
        return {"blob": pack(replace(sample, ecg_record=record))}


def _write_chunk(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as one chunk file, through litdata's own writer."""
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
    # chunks are cut by samples, never by bytes
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
    """Write the samples of ``data`` with their signals as streaming shards; a killed run resumes where it stopped.

    Args:
        data: A file of samples, or ``{"train": file, "val": file}`` for one folder each below ``out``.
        out: Folder; read it with :class:`gem_lightning.data.ShardReader`, or with litdata's own
            ``StreamingDataset(out, transform=unpack)``.
        paths: Leading folders in the samples → folders here.
        contract: Signal contract of the reader; it is fixed in the shards.
        workers: Processes; None takes all cores.
        part, parts: This machine's share; the index is written once every part is done.
        block: Samples a chunk.
        show: Called with the progress.

    Returns:
        Progress of the (last) file; broken samples are listed in ``broken.jsonl`` next to the chunks.
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
    work = _PackItem(known_paths(data, paths), contract)
    write_atomically(out / PATHS_NOTE, json.dumps(dict(work.paths)).encode())
    progress = run(folder, work, workers, part, parts, show=show)
    if not folder.missing():
        _finish(folder, out, contract)
    return progress


def finish_shards(out: str | os.PathLike[str]) -> int:
    """Write the index of shards whose parts are all done (the last part does so by itself); returns how many samples.

    Raises:
        JobError: Parts are missing, or there are no shards.
    """
    folder = JobFolder(Path(out) / "job")
    missing = folder.missing()
    if missing:
        raise JobError(
            f"expected {len(folder.spans)} chunks in {out}, {len(missing)} are missing; run their parts first"
        )
    _finish(folder, Path(out), json.loads((folder.path / "job.json").read_text())["settings"]["contract"])
    return folder.total - sum(1 for _ in folder.broken())


def _finish(folder: JobFolder, out: Path, contract: str) -> None:
    """Write the chunks next to their index, which litdata reads, and the lengths of the texts."""
    chunks, lengths = [], [np.zeros(0, np.uint16)]
    for block in range(len(folder.spans)):
        shard, name = folder.shard(block), f"chunk-0-{block}.bin"
        size = shard.stat().st_size
        if size == 0:
            continue
        lengths.append(_rough_tokens(shard))
        target = out / name
        _name_too(shard, target)
        count = len(lengths[-1])
        chunks.append({"chunk_bytes": size - 4 * (count + 2), "chunk_size": count, "dim": None, "filename": name})
    broken = list(folder.broken())
    write_atomically(out / "broken.jsonl", "".join(json.dumps(row) + "\n" for row in broken).encode())
    with tempfile.TemporaryDirectory() as scratch:
        writer = _writer(scratch)
        writer.add_item(0, b"")
        writer.done()
        config = writer.get_config()
    write_atomically(out / LENGTHS, np.concatenate(lengths).astype("<u2").tobytes())
    write_atomically(out / FACTS, json.dumps({"contract": contract, "broken": len(broken)}).encode())
    write_atomically(out / "index.json", json.dumps({"chunks": chunks, "config": config, "updated_at": "0"}).encode())


def _name_too(shard: Path, target: Path) -> None:
    """Hard-link a file under a second name, so that the job folder may be deleted; copy where links are impossible."""
    if target.exists() and os.path.samefile(shard, target):
        return

    def link(to: Path) -> None:
        try:
            os.link(shard, to)
        except OSError:
            shutil.copyfile(shard, to)

    write_atomically(target, link)  # over the name of a rewritten chunk


def _rough_tokens(shard: Path) -> np.ndarray:
    """(samples,) rough tokens of each item of a chunk, from the items' heads alone."""
    with shard.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
        count = int.from_bytes(view[:4], "little")
        starts = np.frombuffer(view[4 : 4 * (count + 1)], "<u4")
        return np.array([_HEAD.unpack_from(view, int(start) + 4)[4] for start in starts], np.uint16)


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
        """Return the bytes of one item."""
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
    """Return whether litdata has to fetch it."""
    return str(folder).startswith(_ADDRESSES)


def _cache_folder(address: str, cache: str | os.PathLike[str] | None) -> Path:
    import hashlib

    folder = Path(cache or cache_folder("shards")) / hashlib.sha256(address.encode()).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _fetch(address: str, folder: Path, name: str) -> None:
    """Fetch one file through litdata's downloader, which locks against other processes and moves it atomically."""
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
