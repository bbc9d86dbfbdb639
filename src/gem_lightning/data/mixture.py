"""Data sets of instruction samples, opened, looked through and mixed by weight."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from gem_lightning.data.batching import EpochOrder
from gem_lightning.data.shards import ShardReader, is_address
from gem_lightning.errors import DataError
from gem_lightning.samples.io import SampleFile, known_paths, split_files
from gem_lightning.samples.parquet import SampleTable
from gem_lightning.samples.sample import InstructionSample

logger = logging.getLogger(__name__)

POLICIES = ("stop", "skip")
DRAW = ("always", "missing", "never")
_THREADS, _BLOCK = 16, 256  # a network drive is slow to confirm one file but answers many requests at once


def open_samples(source: Any, paths: Mapping[str, str] | None = None) -> Sequence[InstructionSample]:
    """Return samples by index from a file, shards, a list or an object with ``samples()``.

    Args:
        source: ``.json``/``.jsonl``/``.parquet`` file, folder or address of shards, a sequence of samples, or for
            example a ``SimulatedCohort``.
        paths: Leading folders in the samples to folders here, over those noted next to the file (``paths.json``).

    Raises:
        DataError: The file is missing, empty or holds no samples.
    """
    samples: Sequence[InstructionSample]
    if hasattr(source, "samples"):
        samples = source.samples()
    elif not isinstance(source, (str, os.PathLike)):
        if not isinstance(source, Iterable):
            raise DataError(
                f"expected a file or shards of samples, or samples, got {source!r}; check data.train, data.val"
            )
        samples = list(source)
    elif is_address(source):
        samples = ShardReader(source, paths)
    elif Path(source).is_dir():
        if not Path(source, "index.json").exists():
            raise DataError(
                f"expected a file or shards (index.json) of samples, got the folder {source}{_within(source)}"
            )
        samples = ShardReader(source, known_paths(Path(source, "index.json"), paths))
    else:
        kind = SampleTable if Path(source).suffix == ".parquet" else SampleFile
        samples = kind(source, known_paths(source, paths))
    if len(samples) == 0:
        raise DataError(f"expected at least one sample, got an empty split: {source}; check its path and filters")
    return samples


def _within(folder: str | os.PathLike[str]) -> str:
    """Suggest files or shards inside a folder that holds no shards itself."""
    shards = sorted(index.parent for index in Path(folder).glob("*/index.json"))
    found = split_files(folder) or shards[:5]
    return f"; name one of {', '.join(map(str, found))}" if found else "; make them with stage=shards"


@dataclass(frozen=True)
class Part:
    """One data set of a mixture.

    Attributes:
        name: For messages.
        samples: All of them.
        kept: Indices of those whose files are there.
        lengths: (kept,) rough tokens.
        missing: Description of the missing file, one per sample.
        weight: Passes an epoch makes through it.
        long: Samples that were left out because they are too long.
        drawn: Samples whose image file is missing and whose record is drawn instead.
    """

    name: str
    samples: Sequence[InstructionSample]
    kept: np.ndarray
    lengths: np.ndarray
    missing: tuple[str, ...]
    weight: float
    long: int = 0
    drawn: int = 0

    def __str__(self) -> str:
        reasons = {"without their files": len(self.missing), "too long": self.long}
        left_out = " and ".join(f"{count:,} {reason}" for reason, count in reasons.items() if count)
        notes = [f"{left_out} left out"] * bool(left_out) + [f"{self.drawn:,} without image, drawn"] * bool(self.drawn)
        return f"{self.name} {len(self.kept):,} x {self.weight:g}" + (f" ({'; '.join(notes)})" if notes else "")

    @property
    def chunks(self) -> np.ndarray | None:
        """(chunks,) how many of the kept samples lie in front of each chunk's end; None where there are no chunks."""
        ends = self.samples.chunks if isinstance(self.samples, ShardReader) else None
        return None if ends is None else np.searchsorted(self.kept, ends)


class Mixture(Sequence[InstructionSample]):
    """Several data sets as one; samples whose files are missing are left out or stop the run.

    Args:
        source: What :func:`open_samples` opens, or name → such a source.
        weights: Name → passes that an epoch makes through it; 1 where not named.
        paths: Leading folders in the samples to folders here.
        contract: Signal contract that shards must have been written by.
        draw: Which images are drawn from the records and need no file: ``always``, ``missing`` or ``never``.
        unreadable: ``stop`` raises when a sample's record or image is not there; ``skip`` leaves it out.

    Attributes:
        lengths: (samples,) rough tokens.

    Raises:
        DataError: A file is not there under ``stop``, no sample is left, shards of another contract, unknown weights.
    """

    def __init__(
        self,
        source: Any,
        weights: Mapping[str, float] | None = None,
        paths: Mapping[str, str] | None = None,
        contract: str = "clean",
        draw: str = "never",
        unreadable: str = "stop",
    ) -> None:
        if unreadable not in POLICIES:
            raise DataError(f"expected unreadable={' or '.join(POLICIES)}, got {unreadable!r}")
        if draw not in DRAW:
            raise DataError(f"expected draw={', '.join(DRAW)}, got {draw!r}")
        sources = dict(source) if isinstance(source, Mapping) else {_name(source): source}
        unknown = sorted(set(weights or {}) - set(sources))
        if unknown:
            raise DataError(f"expected weights of {', '.join(sources)}, got {', '.join(unknown)}")
        look = partial(_look_through, paths=paths, contract=contract, draw=draw)
        self.parts = [look(name, one, weight=(weights or {}).get(name, 1.0)) for name, one in sources.items()]
        missing = [what for part in self.parts for what in part.missing]
        if missing and unreadable == "stop":
            raise DataError(
                f"{len(missing):,} samples have no file: {'; '.join(missing[:5])}{' …' if len(missing) > 5 else ''}; "
                "map their folders with paths=, or leave them out with unreadable=skip"
            )
        self._count()
        if len(self) == 0:
            raise DataError(f"expected at least one sample, got none whose files are there: {'; '.join(missing[:5])}")

    def _count(self) -> None:
        self.lengths = np.concatenate([part.lengths for part in self.parts])
        self._starts = np.cumsum([0, *(len(part.kept) for part in self.parts)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        number = int(np.searchsorted(self._starts, index, side="right")) - 1
        part = self.parts[number]
        return part.samples[int(part.kept[index - self._starts[number]])]

    def leave_out(self, long: Iterable[int]) -> None:
        """Forget samples that are too long; the indices of the others close up.

        Args:
            long: Their indices.

        Raises:
            DataError: No other sample is left.
        """
        stays = np.ones(len(self), bool)
        stays[list(long)] = False
        if not stays.any():
            raise DataError(f"expected a sample that is not too long, got {len(self):,} long ones; raise max_length")
        parts = []
        for part, start, end in zip(self.parts, self._starts, self._starts[1:]):
            mine = stays[start:end]
            parts.append(
                replace(part, kept=part.kept[mine], lengths=part.lengths[mine], long=part.long + int((~mine).sum()))
            )
        self.parts = parts
        self._count()

    def order(self, seed: int) -> EpochOrder:
        """Return the order in which epochs deal the samples."""
        chunks = [part.chunks for part in self.parts]
        return EpochOrder([len(part.kept) for part in self.parts], [part.weight for part in self.parts], chunks, seed)

    def report(self) -> str:
        """Summarise in one line: samples of each part, missing files, lengths."""
        low, middle, high, most = (round(v) for v in np.percentile(self.lengths, [5, 50, 95, 100]))
        words = f"texts of about {low}-{high} tokens (5-95 %), median {middle}, longest {most}"
        return f"{', '.join(map(str, self.parts))}; {words}"


def _name(source: Any) -> str:
    return Path(source).stem if isinstance(source, (str, os.PathLike)) else type(source).__name__


def _look_through(
    name: str, source: Any, weight: float, paths: Mapping[str, str] | None, contract: str, draw: str
) -> Part:
    samples = open_samples(source, paths)
    if isinstance(samples, ShardReader):
        if samples.contract != contract:
            raise DataError(
                f"{name}: these shards were written with contract={samples.contract}, got contract={contract}; "
                "rewrite them with stage=shards or use the same contract"
            )
        return Part(name, samples, np.arange(len(samples)), samples.lengths.astype(np.int64), (), weight)
    lengths = np.zeros(len(samples), np.int64)
    missing: dict[int, str] = {}
    drawn = 0
    with ThreadPoolExecutor(_THREADS) as pool:
        for start in range(0, len(samples), _BLOCK * _THREADS):
            end = min(start + _BLOCK * _THREADS, len(samples))
            block = [samples[i] for i in range(start, end)]
            lengths[start:end] = [sample.rough_tokens for sample in block]
            pieces = [block[i : i + _BLOCK] for i in range(0, len(block), _BLOCK)]
            found = pool.map(lambda piece: [_missing_file(sample, draw) for sample in piece], pieces)
            words = [what for piece in found for what in piece]
            missing |= {start + i: what for i, what in enumerate(words) if what}
            drawn += words.count("")
    kept = np.setdiff1d(np.arange(len(samples)), list(missing))
    return Part(name, samples, kept, lengths[kept], tuple(missing.values()), weight, drawn=drawn)


def _missing_file(sample: InstructionSample, draw: str) -> str | None:
    """Describe the missing file of a sample; None when all are there, empty when its image will be drawn."""
    record = sample.record
    has_record = sample.ecg_record is not None or record is not None
    if sample.ecg_record is None and record is not None and not record.exists:
        return f"{sample.id}: {record.path}"
    if draw == "always" and has_record:
        return None
    lost = sample.missing_images
    if draw == "missing" and has_record and (lost or not sample.images):
        return ""
    return f"{sample.id}: {lost[0]}" if lost else None
