"""Several conversations in one row: rows of one length, hardly any padding, and none sees another."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from gem_lightning.data.batching import LengthBatchSampler
from gem_lightning.data.collate import GemCollator
from gem_lightning.errors import DataError
from gem_lightning.models.configuration_gem import IGNORE_INDEX

_LOOKED_AT = 32  # samples among which a pack looks for what fills it
_OVER = 8  # one pack in so many, the last ones, is moved to the next window


def pack_lengths(lengths: np.ndarray, room: int) -> list[np.ndarray]:
    """Group samples into packs by length, nearly as few packs as possible; returns their indices.

    A pack begins with the sample of middling length; to it come those that fill it best (a subset sum), of up to 32
    samples spread over the lengths that are left, short ones first. Beginning with the longest would use up what fills
    packs exactly, and leave samples of middling length of which a pack holds one too few.

    Args:
        lengths: (samples,) tokens, none above ``room``.
        room: Tokens of a pack.
    """
    tokens = [int(length) for length in lengths]
    pool = sorted(range(len(tokens)), key=lambda index: (tokens[index], index))
    packs = []
    while pool:
        pack = [pool.pop(len(pool) // 2)]
        left = room - tokens[pack[0]]
        fit = bisect.bisect_right(pool, left, key=tokens.__getitem__)
        looked = min(fit, _LOOKED_AT)
        places = [(2 * k + 1) * fit // (2 * looked) for k in range(looked)]
        filling = _best_fill([tokens[pool[place]] for place in places], left)
        pack += [pool.pop(places[k]) for k in reversed(filling)]
        packs.append(np.array(pack))
    return packs


def _best_fill(sizes: Sequence[int], room: int) -> list[int]:
    """Places of ``sizes`` whose sum is the largest within ``room``, ascending; early ones where there is a choice."""
    bounded = (1 << room + 1) - 1
    reached = [1]  # bit s of the k-th number: some of the first k sizes sum to s
    for size in sizes:
        reached.append((reached[-1] | reached[-1] << size) & bounded)
    total, chosen = reached[-1].bit_length() - 1, []
    for place in reversed(range(len(sizes))):
        if not reached[place] >> total & 1:
            chosen.append(place)
            total -= sizes[place]
    return chosen[::-1]


class PackBatchSampler(LengthBatchSampler):
    """Batches of packs, otherwise as :class:`LengthBatchSampler`: a pure function of (seed, epoch).

    Every epoch has as many batches as the first one: packs beyond them are left out, packs that lack are dealt twice
    (a few in a thousand). So are samples left out that would leave an epoch's last pack half empty, other ones each
    epoch.

    Args:
        lengths: (samples,) exact tokens, see :func:`token_lengths`.
        batch_size: Packs a batch and rank.
        pack_to: Tokens of a pack.
        **options: Of :class:`LengthBatchSampler`; a window holds ``window`` batches.

    Raises:
        DataError: A sample is longer than a pack, or there are fewer packs than a batch of all ranks takes.
    """

    def __init__(self, lengths: np.ndarray, batch_size: int, pack_to: int, **options: Any) -> None:
        longest = int(np.max(lengths, initial=0))
        if longest > pack_to:
            raise DataError(f"expected samples of at most {pack_to} tokens (pack_to), got {longest}; lower max_length")
        self.pack_to = pack_to
        self._batches = 1
        super().__init__(lengths, batch_size, **options)
        self._batches = len(self._packs(0)) // (batch_size * self.ranks)
        if self._batches == 0:
            raise DataError(
                f"expected at least {batch_size * self.ranks} packs of {pack_to} tokens for {self.ranks} rank(s), got "
                f"{len(self._packs(0))}; lower batch_size or pack_to"
            )

    def __len__(self) -> int:
        """Return batches a rank in every epoch."""
        return self._batches

    def batches(self, epoch: int) -> list[np.ndarray]:
        """Return this rank's batches of an epoch, in order: the samples of its packs, pack by pack."""
        together = self.batch_size * self.ranks
        packs = self._packs(epoch)
        steps = []
        for step in range(len(self)):
            first = step * together + self.rank * self.batch_size
            mine = range(first, first + self.batch_size)
            steps.append(np.concatenate([packs[pack % len(packs)] for pack in mine]))
        return steps

    def _packs(self, epoch: int) -> list[np.ndarray]:
        order = self.order(epoch)
        mean = float(np.mean(self.lengths[order]))
        span = max(1, int(self.window * self.batch_size * self.ranks * self.pack_to / mean))
        draw = np.random.default_rng([self.seed, epoch])
        packs: list[np.ndarray] = []
        over = order[:0]  # what a window could not pack well is packed with the next one
        for start in range(0, len(order), span):
            window = np.concatenate([over, order[start : start + span]])
            if start + span < len(order):
                made = pack_lengths(self.lengths[window], self.pack_to)
                kept = len(made) - len(made) // _OVER
                over = window[np.concatenate(made[kept:])] if made[kept:] else order[:0]
                made = made[:kept]
            else:
                made = self._last_packs(window)
            packs += [window[made[i]] for i in draw.permutation(len(made))]
        return packs

    def _last_packs(self, window: np.ndarray) -> list[np.ndarray]:
        """Packs of an epoch's last samples; of these, the end is left out where it would not fill a pack."""
        tokens = np.cumsum(self.lengths[window])
        whole = int(tokens[-1]) // self.pack_to
        # the fullest packing that is found quickly; below 95 % length buckets do as well
        for share in (0.99, 0.98, 0.97, 0.95):
            made = pack_lengths(self.lengths[window[tokens <= share * whole * self.pack_to]], self.pack_to)
            if whole and len(made) <= whole:
                return made
        return pack_lengths(self.lengths[window], self.pack_to)


class PackingCollator(GemCollator):
    """Rows of ``pack_to`` tokens that hold several conversations each, in the order they come.

    A batch has ``position_ids`` that restart at 0 with each conversation, and no ``attention_mask``: from these
    transformers masks conversations from one another (SDPA, FlexAttention) or attends over variable lengths
    (``attention=flash_attention_2``). The loss is that of the same samples padded.

    Args:
        processor: A ``GemProcessor``.
        pack_to: Tokens of a row.
    """

    def __init__(self, processor: Any, pack_to: int) -> None:
        super().__init__(processor)
        self.pack_to = pack_to

    def batch(self, items: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Return the tensors; signals and images in the order of their markers.

        Raises:
            DataError: A sample is longer than a row.
        """
        rows: list[list[dict[str, Any]]] = [[]]
        room = self.pack_to
        for item in items:
            length = len(item["input_ids"])
            if length > self.pack_to:
                raise DataError(f"sample {item['id']!r}: expected at most {self.pack_to} tokens, got {length}")
            if length > room:
                rows.append([])
                room = self.pack_to
            rows[-1].append(item)
            room -= length
        batch = super().batch(items)
        del batch["attention_mask"]
        ids = torch.full((len(rows), self.pack_to), self.processor.pad_id)
        labels = torch.full_like(ids, IGNORE_INDEX)
        positions = torch.zeros_like(ids)
        for row, members in enumerate(rows):
            start = 0
            for item in members:
                end = start + len(item["input_ids"])
                ids[row, start:end] = torch.as_tensor(item["input_ids"])
                labels[row, start + 1 : end] = torch.as_tensor(item["labels"][1:])  # none follows from a stranger
                positions[row, start:end] = torch.arange(end - start)
                start = end
            positions[row, start:] = torch.arange(self.pack_to - start)
        return batch | {"input_ids": ids, "labels": labels, "position_ids": positions}
