"""Which samples make a batch: alike in length, the same on every machine, resumable to the batch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from torch.utils.data import Sampler

from gem_lightning.data.order import EpochOrder
from gem_lightning.errors import DataError


class LengthBatchSampler(Sampler[list[tuple[int, int]]]):
    """Shuffled batches of samples of similar length.

    The order is a pure function of (seed, epoch): samples are shuffled (see :class:`EpochOrder`) and cut into windows
    of ``window`` batches; inside a window they are sorted by length, cut into batches, and the batches shuffled. Ranks
    take neighbouring batches, so that all ranks of a step carry samples of similar length. Items are
    ``(epoch, index)``: a data set that draws its randomness from that pair gives the same sample in any worker of any
    process.

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
        """Batches a rank in a whole epoch."""
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
        epoch = self.epoch  # now: a trainer may set its own count of epochs before the first batch is asked for
        return ([(epoch, int(i)) for i in batch] for batch in self.batches(epoch)[start:])

    def batches(self, epoch: int) -> list[np.ndarray]:
        """This rank's batches of an epoch, in order."""
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
    """Share of tokens that are no padding when each batch is padded to its longest sample."""
    padded = sum(len(b) * int(lengths[b].max()) for b in batches)
    return float(sum(int(lengths[b].sum()) for b in batches) / padded)


def generator_for(*key: Any) -> np.random.Generator:
    """Randomness of one sample: a pure function of its key, for example (seed, epoch, index)."""
    return np.random.default_rng([int(k) for k in key])
