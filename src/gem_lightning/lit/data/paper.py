"""DataModule of pieces of ECG paper: drawn in the loader, none twice, in a resumable order."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from gem_lightning.digitizer.network import network_input
from gem_lightning.digitizer.practice import practise
from gem_lightning.ecg.record import LEADS, EcgRecord
from gem_lightning.errors import DataError
from gem_lightning.lit.data.resumable import ResumableDataModule, StepSampler
from gem_lightning.samples.sample import RecordRef
from gem_lightning.sources.base import Source


class PaperDataModule(ResumableDataModule):
    """Pieces of paper with the maps of what is on them.

    Args:
        train: Name to a source of records whose traces are drawn, or None; records without all twelve leads are left
            out.
        val: The same for the validation, of other patients.
        length: Pieces an epoch.
        val_length: Pieces of the validation.
        size: Side of a piece, px of the flat page.
        batch_size: Pieces a step and process.
        num_workers: Loader processes.
        seed: Of everything that is drawn.
    """

    def __init__(
        self,
        train: Mapping[str, Source | None],
        val: Mapping[str, Source | None] | None = None,
        length: int = 4096,
        val_length: int = 128,
        size: int = 192,
        batch_size: int = 12,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.sources = {
            split: [source for source in given.values() if source is not None]
            for split, given in (("train", train), ("val", val or {}))
        }
        self.lengths = {"train": length, "val": val_length}
        self.size, self.batch_size, self.num_workers, self.seed = size, batch_size, num_workers, seed
        self.datasets: dict[str, Pieces] = {}

    def setup(self, stage: str) -> None:
        """Read the records, once.

        Raises:
            DataError: No record of a split can be read.
        """
        for k, (split, sources) in enumerate(self.sources.items()):
            if sources and split not in self.datasets:
                self.datasets[split] = Pieces(_records(sources), self.lengths[split], self.size, 2 * self.seed + k)

    def train_dataloader(self) -> DataLoader[Any]:
        """Return the training pieces; resumes after a checkpoint's last step."""
        sampler = self._sampler("train", shuffle=True)
        sampler.data = self
        return self.loader(self.datasets["train"], sampler, _collate, self.num_workers)

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        """Return the validation's pieces, the same every time."""
        if "val" not in self.datasets:
            return []
        return self.loader(self.datasets["val"], self._sampler("val", shuffle=False), _collate, 0)

    def _sampler(self, split: str, shuffle: bool) -> StepSampler:
        rank, ranks = self.share
        lengths = np.ones(self.lengths[split], dtype=np.int64)
        return StepSampler(
            lengths, self.batch_size, shuffle=shuffle, seed=self.seed, drop_last=shuffle, rank=rank, ranks=ranks
        )


class Pieces(Dataset[dict[str, np.ndarray]]):
    """Pieces of paper by (epoch, index)."""

    def __init__(self, records: Sequence[EcgRecord], length: int, size: int, seed: int) -> None:
        self.records, self.length, self.size, self.seed = records, length, size, seed

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, item: tuple[int, int]) -> dict[str, np.ndarray]:
        epoch, index = item
        piece = practise(self.records, (self.seed, epoch, index), self.size)
        return {"image": network_input(piece.image), "maps": piece.maps, "steep": piece.steep}


def _records(sources: Iterable[Source]) -> list[EcgRecord]:
    found = []
    for source in sources:
        for one in source.records():
            if one.ecg is None:
                continue
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                record = RecordRef.parse(one.ecg, one.format).mapped(source.paths).read()
            if set(LEADS) <= set(record.leads):
                found.append(record)
    if not found:
        raise DataError("expected records with all twelve leads in data.train and data.val, got none; name a source")
    return found


def _collate(items: Sequence[dict[str, np.ndarray]]) -> dict[str, Any]:
    columns = {name: torch.from_numpy(np.stack([item[name] for item in items])) for name in items[0]}
    pixels = columns["image"][:, 0].numel()
    return {**columns, "counts": {"samples": len(items), "tokens": pixels, "padded": pixels}}
