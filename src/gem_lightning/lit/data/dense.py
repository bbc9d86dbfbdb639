"""DataModule of ECGs with dense labels: a mixture without end for training, expert-marked records for validation."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from torch.utils.data import DataLoader

from gem_lightning.data.dense import (
    DenseMixture,
    DenseRecords,
    Distortion,
    MarkedPart,
    Part,
    RecombinedPart,
    SimulatedPart,
    collate,
)
from gem_lightning.ecg.recombination import MarkedRecord
from gem_lightning.errors import DataError
from gem_lightning.lit.data.resumable import ResumableDataModule, StepSampler

logger = logging.getLogger(__name__)

SHARES = {"recombined": 0.55, "marked": 0.32, "simulated": 0.13}


class DenseDataModule(ResumableDataModule):
    """Training mixture and validation records of a dense encoder.

    Args:
        train: Marked records that give beats and are trained on; None trains on the simulator alone.
        val: Marked records for validation, of other patients; None validates nothing.
        patients: Train on these patients alone; None takes all of ``train``.
        shares: Share of ``recombined``, ``marked`` and ``simulated`` ECGs.
        length: ECGs an epoch.
        distortion: Of training ECGs.
        batch_size: ECGs a step and process.
        num_workers: Loader processes.
        seed: Of recombination, simulation, mixture and distortion.
    """

    def __init__(
        self,
        train: Iterable[MarkedRecord] | None,
        val: Iterable[MarkedRecord] | None = None,
        patients: Sequence[str] | None = None,
        shares: Mapping[str, float] | None = None,
        length: int = 4096,
        distortion: Distortion | None = None,
        batch_size: int = 16,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.sources = {"train": train, "val": val}
        self.patients, self.length, self.seed = patients, length, seed
        self.shares = dict(shares or (SHARES if train is not None else {"simulated": 1.0}))
        self.distortion = distortion or Distortion()
        self.batch_size, self.num_workers = batch_size, num_workers
        self.datasets: dict[str, DenseMixture | DenseRecords] = {}
        self.donors: list[MarkedRecord] = []

    def setup(self, stage: str) -> None:
        """Read and cut the records, once.

        Raises:
            DataError: A patient is in both splits.
        """
        if self.datasets:
            return
        train, val = (None if split is None else list(split) for split in self.sources.values())
        if self.patients is not None and train is not None:
            train = [record for record in train if record.patient in set(self.patients)]
        both = {r.patient for r in train or ()} & {r.patient for r in val or ()}
        if both:
            raise DataError(f"expected other patients for validation, got {sorted(both)[:3]} in both splits")
        parts: dict[str, Part] = {"simulated": SimulatedPart(self.seed)}
        if train is not None:
            self.donors = train
            parts |= {"recombined": RecombinedPart(train, self.seed), "marked": MarkedPart(train)}
        used = {name: parts[name] for name in self.shares if name in parts}
        self.datasets["train"] = DenseMixture(used, self.shares, self.length, self.seed, self.distortion)
        if val is not None:
            self.datasets["val"] = DenseRecords(MarkedPart(val))

    def provenance(self) -> list[str]:
        """Return database, licence and number of records that training used, for a model card."""
        counts = Counter(f"{record.origin}: {record.licence}" for record in self.donors)
        return [f"{name}, {count} records" for name, count in sorted(counts.items())]

    def train_dataloader(self) -> DataLoader[Any]:
        """Return the mixture; resumes after a checkpoint's last step."""
        sampler = self._sampler("train", shuffle=True)
        sampler.data = self
        logger.info("training on %d ECGs an epoch: %s", self.length, self.shares)
        return self.loader(self.datasets["train"], sampler, collate, self.num_workers)

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        """Return the validation records in their order."""
        if "val" not in self.datasets:
            return []
        return self.loader(self.datasets["val"], self._sampler("val", shuffle=False), collate, 0)

    def _sampler(self, split: str, shuffle: bool) -> StepSampler:
        rank, ranks = self.share
        lengths = np.ones(len(self.datasets[split]), dtype=np.int64)
        return StepSampler(
            lengths, self.batch_size, shuffle=shuffle, seed=self.seed, drop_last=shuffle, rank=rank, ranks=ranks
        )
