"""Batch samplers: samples of similar length, the same on every machine, resumable to the batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch.utils.data import Sampler

from gem_lightning.errors import DataError

_TOGETHER = 8  # chunks whose samples are shuffled together: mixes well, and a slow store reads few at a time
_DEAL, _PASS = 1, 2  # distinguish the random draws of one seed


@dataclass(frozen=True)
class EpochOrder:
    """A pure function of (seed, epoch): the same on every machine.

    A part is dealt in passes, each sample once a pass, whatever its weight: with weight 0.5 two epochs make a pass,
    with weight 2 an epoch makes two. Samples of a chunked part come from few chunks at a time, so that a
    slow disk or a distant store is read chunk by chunk.

    Args:
        sizes: Samples of each part; indices count through the parts.
        weights: Passes an epoch makes through each part; None for one each.
        chunks: For each part, (chunks,) the index after each chunk's last sample, or None; None for all parts.
        seed: Of the order.

    Raises:
        DataError: A weight that is not above 0.
    """

    sizes: Sequence[int]
    weights: Sequence[float] | None = None
    chunks: Sequence[np.ndarray | None] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if any(weight <= 0 for weight in self.weights or ()):
            raise DataError(f"expected weights above 0, got {list(self.weights or ())}; leave a data set out instead")

    @property
    def counts(self) -> list[int]:
        """Samples of each part in an epoch."""
        return [round(size * weight) for size, weight in zip(self.sizes, self.weights or [1.0] * len(self.sizes))]

    def __len__(self) -> int:
        return sum(self.counts)

    def __call__(self, epoch: int) -> np.ndarray:
        """(samples of an epoch,) indices in the order of ``epoch``."""
        dealt = [self._part(part, epoch) for part in range(len(self.sizes))]
        if len(dealt) == 1:
            return dealt[0]
        turns = np.repeat(np.arange(len(dealt)), self.counts)
        turns = np.random.default_rng([self.seed, epoch, _DEAL]).permutation(turns)
        order = np.empty(len(turns), np.int64)
        for part, indices in enumerate(dealt):
            order[turns == part] = indices + sum(self.sizes[:part])
        return order

    def _part(self, part: int, epoch: int) -> np.ndarray:
        """Return ``epoch``'s window of the endless sequence of passes through a part."""
        size, count = self.sizes[part], self.counts[part]
        if count == 0:
            return np.zeros(0, np.int64)
        start = epoch * count
        passes = range(start // size, -(-(start + count) // size))
        row = np.concatenate([self._pass(part, number) for number in passes])
        start -= passes.start * size
        return row[start : start + count]

    def _pass(self, part: int, number: int) -> np.ndarray:
        draw = np.random.default_rng([self.seed, number, part, _PASS])
        ends = None if self.chunks is None else self.chunks[part]
        if ends is None:
            return draw.permutation(self.sizes[part])
        starts = np.concatenate([[0], ends[:-1]])
        near = np.split(draw.permutation(len(ends)), range(_TOGETHER, len(ends), _TOGETHER))
        groups = (np.concatenate([np.arange(starts[i], ends[i]) for i in group]) for group in near)
        return np.concatenate([draw.permutation(group) for group in groups])


class LengthBatchSampler(Sampler[list[tuple[int, int]]]):
    """Shuffled batches of samples of similar length.

    The order is a pure function of (seed, epoch): samples are shuffled (see :class:`EpochOrder`) and cut into windows
    of ``window`` batches; inside a window they are sorted by length, cut into batches, and the batches shuffled. Ranks
    take neighbouring batches, so that all ranks of a step carry samples of similar length. Items are
    ``(epoch, index)``: a data set that derives its randomness from that pair returns the same sample in any worker of
    any process.

    Args:
        lengths: (samples,) tokens, or anything proportional to them.
        batch_size: Samples a batch and rank.
        shuffle: False keeps the file's order and does not sort.
        seed: Of the order.
        drop_last: Leave out the incomplete last batch (always where ranks would get unequal numbers).
        window: Batches that are sorted together.
        rank: This process.
        ranks: All processes.
        order: Shuffles; None deals every sample once an epoch.

    Raises:
        DataError: No samples, or fewer than one batch for every rank.
    """

    def __init__(
        self,
        lengths: np.ndarray,
        batch_size: int,
        shuffle: bool = True,
        seed: int = 0,
        drop_last: bool = False,
        window: int = 50,
        rank: int = 0,
        ranks: int = 1,
        order: EpochOrder | None = None,
    ) -> None:
        self.lengths = np.asarray(lengths)
        self.batch_size, self.shuffle, self.seed = batch_size, shuffle, seed
        self.drop_last, self.window, self.rank, self.ranks = drop_last, window, rank, ranks
        self.order = EpochOrder([len(self.lengths)], seed=seed) if order is None else order
        self.epoch = self._start = 0
        if len(self.lengths) == 0:
            raise DataError("expected at least one sample, got an empty split; check its path and filters")
        if len(self) == 0:
            raise DataError(
                f"expected at least {batch_size * ranks} samples for {ranks} device(s) of "
                f"data.batch_size={batch_size}, got {self._dealt}; lower data.batch_size or trainer.devices"
            )

    def __len__(self) -> int:
        """Return batches a rank in a whole epoch."""
        step = self.batch_size * self.ranks
        return self._dealt // step if self.drop_last or self.ranks > 1 else -(-self._dealt // step)

    @property
    def _dealt(self) -> int:
        """Samples of an epoch, of all ranks."""
        return len(self.order) if self.shuffle else len(self.lengths)

    @property
    def sampler(self) -> LengthBatchSampler:
        """Lightning calls ``set_epoch`` on this attribute of a batch sampler."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch to deal next."""
        self.epoch = epoch

    def start_at(self, batch: int) -> None:
        """Leave out the batches before ``batch`` once: they were done before a restart."""
        self._start = batch

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        start, self._start = self._start, 0
        epoch = self.epoch  # now: a trainer may set its own count of epochs before the first batch is requested
        return ([(epoch, int(i)) for i in batch] for batch in self.batches(epoch)[start:])

    def batches(self, epoch: int) -> list[np.ndarray]:
        """Return this rank's batches of an epoch, in order."""
        size = self.batch_size
        if not self.shuffle:
            order = np.arange(len(self.lengths))
            batches = [order[i : i + size] for i in range(0, len(order), size)]
            return batches[self.rank :: self.ranks][: len(self)]
        order = self.order(epoch)[: len(self) * size * self.ranks]
        together = size * self.ranks
        span = self.window * together
        draw = np.random.default_rng([self.seed, epoch])
        steps: list[np.ndarray] = []
        for start in range(0, len(order), span):
            window = order[start : start + span]
            window = window[np.argsort(self.lengths[window], kind="stable")]
            cut = [window[i : i + together] for i in range(0, len(window), together)]
            steps += [cut[i] for i in draw.permutation(len(cut))]
        return [step[self.rank * size : (self.rank + 1) * size] for step in steps]


def real_token_share(lengths: np.ndarray, batches: list[np.ndarray]) -> float:
    """Return share of tokens that are no padding when each batch is padded to its longest sample."""
    padded = sum(len(b) * int(lengths[b].max()) for b in batches)
    return float(sum(int(lengths[b].sum()) for b in batches) / padded)


def generator_for(*key: Any) -> np.random.Generator:
    """Return randomness of one sample: a pure function of its key, for example (seed, epoch, index)."""
    return np.random.default_rng([int(k) for k in key])
