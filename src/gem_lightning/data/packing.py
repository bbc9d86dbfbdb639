"""Several conversations in one row: rows of one length, hardly any padding, and none sees another."""

from __future__ import annotations

import bisect
import hashlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gem_lightning.data.batching import LengthBatchSampler
from gem_lightning.data.collate import GemCollator
from gem_lightning.errors import DataError
from gem_lightning.jobs import write_atomically
from gem_lightning.models.configuration_gem import IGNORE_INDEX

logger = logging.getLogger(__name__)


def pack_lengths(lengths: np.ndarray, room: int) -> list[np.ndarray]:
    """Indices of samples by pack.

    A pack begins with samples of middling length and ends with the longest that fits; where all samples are long
    against the room, that wastes half of what first-fit by falling length does.

    Args:
        lengths: (samples,) tokens, none above ``room``.
        room: Tokens of a pack.
    """
    pool = sorted((int(length), index) for index, length in enumerate(lengths))
    beyond = len(pool)
    packs = []
    while pool:
        left, pack = room, []
        while pool and pool[0][0] <= left:
            shortest = pool[0][0]
            fit = bisect.bisect_right(pool, (left, beyond))
            fit_and_one_more = bisect.bisect_right(pool, (left - shortest, beyond))
            if left < 2 * shortest or not fit_and_one_more:
                place = fit - 1
            else:
                place = fit_and_one_more // 2 if left >= room / 2 else fit_and_one_more - 1
            length, index = pool.pop(place)
            pack.append(index)
            left -= length
        packs.append(np.array(pack))
    return packs


class PackBatchSampler(LengthBatchSampler):
    """Batches of packs, otherwise as :class:`LengthBatchSampler`: a pure function of (seed, epoch).

    Every epoch has as many batches as the first one: packs beyond them are left out, packs that lack are dealt twice
    (a few in a thousand).

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
        """Batches a rank in every epoch."""
        return self._batches

    def batches(self, epoch: int) -> list[np.ndarray]:
        """This rank's batches of an epoch, in order: the samples of its packs, pack by pack."""
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
        for start in range(0, len(order), span):
            window = order[start : start + span]
            made = [window[pack] for pack in pack_lengths(self.lengths[window], self.pack_to)]
            packs += [made[i] for i in draw.permutation(len(made))]
        return packs


class PackingCollator(GemCollator):
    """Rows of ``pack_to`` tokens that hold several conversations each, in the order they come.

    A batch has ``position_ids`` that start anew with each conversation, and no ``attention_mask``: from these
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
        """The tensors; signals and pictures in the order of their markers.

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


def token_lengths(dataset: Any, cache: str | os.PathLike[str] | None = None) -> np.ndarray:
    """(samples,) exact tokens of every sample, without reading signals or pictures.

    Args:
        dataset: An ``InstructionDataset``.
        cache: Folder that keeps the numbers for the next run over the same samples; None counts anew.
    """
    settings = dataset.processor.to_dict() if hasattr(dataset.processor, "to_dict") else {}
    facts = repr((len(dataset), dataset.max_length, dataset.renderer is None, sorted(map(str, settings.items()))))
    key = hashlib.sha256(facts.encode() + dataset.samples.lengths.tobytes()).hexdigest()[:12]
    path = None if cache is None else Path(cache) / f"tokens-{key}.npy"
    if path is not None and path.is_file():
        return np.load(path)
    logger.info("counting the tokens of %d samples", len(dataset))
    lengths = np.array([len(dataset.placeholders(index)["input_ids"]) for index in range(len(dataset))], np.int32)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)

        def write(target: Path) -> None:
            with target.open("wb") as file:
                np.save(file, lengths)

        write_atomically(path, write)
    return lengths
