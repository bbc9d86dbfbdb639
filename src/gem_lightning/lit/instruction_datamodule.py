"""Instruction samples for training: read, drawn and tokenised in the loader, in an order that survives a restart."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from torch.utils.data import DataLoader

from gem_lightning.data import GemCollator, InstructionDataset, LengthBatchSampler, open_samples
from gem_lightning.lit.step_sampler import ResumableDataModule, StepSampler

logger = logging.getLogger(__name__)


class InstructionDataModule(ResumableDataModule):
    """Training, validation and test samples of a GEM.

    Args:
        processor: A ``GemProcessor``.
        train: Samples to learn from: a file (.json, .jsonl, .parquet) or an object with ``prepare()`` and
            ``samples()`` such as :class:`gem_lightning.data.SimulatedCohort`.
        val: Held-out samples, or None.
        test: Samples for ``evaluate``, or None.
        renderer: Draws each record (an ``EcgRenderer``); None uses stored pictures only.
        paths: Leading folders in the samples to folders here.
        contract: Signal contract of :func:`gem_lightning.ecg.read_ecg`.
        batch_size: Samples a step and process.
        max_length: Longest sample, tokens; longer ones are cut and counted.
        length_window: Batches whose samples are sorted by length together. 1 sorts nothing: right where the length of
            an answer tells its diagnosis, since batches of one diagnosis teach little.
        num_workers: Loader processes.
        seed: Of order and pictures.
    """

    def __init__(
        self,
        processor: Any,
        train: Any,
        val: Any = None,
        test: Any = None,
        renderer: Any = None,
        paths: Mapping[str, str] | None = None,
        contract: str = "clean",
        batch_size: int = 16,
        max_length: int | None = 4096,
        length_window: int = 50,
        num_workers: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.processor = processor
        self.sources = {"train": train, "val": val, "test": test}
        self.dataset_options = {
            "renderer": renderer,
            "contract": contract,
            "max_length": max_length,
            "seed": seed,
        }
        self.paths, self.batch_size, self.length_window = paths, batch_size, length_window
        self.num_workers, self.seed = num_workers, seed

    def prepare_data(self) -> None:
        """Make what does not exist yet, for example a simulated cohort."""
        for source in self.sources.values():
            if hasattr(source, "prepare"):
                source.prepare()

    def dataset(self, split: str) -> InstructionDataset:
        """The samples of ``train``, ``val`` or ``test``, ready for the network."""
        samples = open_samples(self.sources[split], self.paths)
        return InstructionDataset(samples, self.processor, **self.dataset_options)

    def train_dataloader(self) -> DataLoader[Any]:
        """Shuffled batches of samples of similar length; goes on where a checkpoint stopped."""
        dataset = self.dataset("train")
        trainer = self.trainer
        rank, ranks = (trainer.global_rank, trainer.world_size) if trainer else (0, 1)
        sampler = StepSampler(
            dataset.lengths,
            self.batch_size,
            seed=self.seed,
            drop_last=True,
            window=self.length_window,
            rank=rank,
            ranks=ranks,
        )
        sampler.data = self
        logger.info("training on %d samples, %d batches an epoch", len(dataset), len(sampler))
        return self._loader(dataset, sampler)

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        """Held-out batches in file order."""
        return self._plain_loader("val")

    def test_dataloader(self) -> DataLoader[Any] | list[Any]:
        """Test batches in file order."""
        return self._plain_loader("test")

    def examples(self, count: int) -> list[dict[str, Any]]:
        """The first held-out samples as ``id, sample, record, image, answer``, for people to look at."""
        if self.sources["val"] is None:
            return []
        dataset = self.dataset("val")
        return [dataset.example(i) for i in range(min(count, len(dataset)))]

    def _plain_loader(self, split: str) -> DataLoader[Any] | list[Any]:
        if self.sources[split] is None:
            return []
        dataset = self.dataset(split)
        trainer = self.trainer
        rank, ranks = (trainer.global_rank, trainer.world_size) if trainer else (0, 1)
        sampler = LengthBatchSampler(dataset.lengths, self.batch_size, shuffle=False, rank=rank, ranks=ranks)
        return self._loader(dataset, sampler)

    def _loader(self, dataset: InstructionDataset, sampler: LengthBatchSampler) -> DataLoader[Any]:
        return DataLoader(
            dataset,
            batch_sampler=sampler,
            collate_fn=GemCollator(self.processor),
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            multiprocessing_context="spawn" if self.num_workers else None,
            pin_memory=bool(self.trainer and self.trainer.accelerator.__class__.__name__ == "CUDAAccelerator"),
        )
