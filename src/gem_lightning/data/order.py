"""Which samples an epoch deals and in what order: several parts by weight, chunk by chunk where they lie in chunks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gem_lightning.errors import DataError

_TOGETHER = 8  # chunks whose samples are shuffled together
_DEAL, _PASS = 1, 2  # tell apart the draws of one seed


@dataclass(frozen=True)
class EpochOrder:
    """A pure function of (seed, epoch): the same on every machine.

    A part is dealt in passes, each sample once a pass, whatever its weight: with weight 0.5 two epochs make a pass,
    with weight 2 an epoch makes two. Samples of a part that lies in chunks come from few chunks at a time, so that a
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
        """What ``epoch`` takes of the endless row of passes through a part."""
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
