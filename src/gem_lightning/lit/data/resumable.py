"""DataModule and samplers that resume at the batch after the last optimiser step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from lightning import LightningDataModule
from lightning.pytorch.accelerators import CUDAAccelerator
from torch.utils.data import DataLoader, Dataset

from gem_lightning.data import LengthBatchSampler, PackBatchSampler


class ResumableDataModule(LightningDataModule):
    """A data module whose checkpoint holds the number of optimiser steps that its data has fed.

    Lightning makes the first iterator before it restores its own counters (when it estimates the steps of a run), but
    after it restored the data module. The position is therefore kept here.
    """

    resumed_at = 0
    steps_per_batch = 1  # optimiser steps that a batch feeds

    @property
    def steps_done(self) -> int:
        """Return the optimiser steps since the run began, over all restarts."""
        return max(self.trainer.global_step if self.trainer else 0, self.resumed_at)

    @property
    def share(self) -> tuple[int, int]:
        """Return this process's rank and the number of processes, which select its samples of each step."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def loader(
        self, dataset: Dataset[Any], sampler: LengthBatchSampler, collate: Callable[[list[Any]], Any], workers: int
    ) -> DataLoader[Any]:
        """Return a loader of ``sampler``'s batches.

        Worker processes are spawned, because forking a process that runs threads can deadlock.
        """
        return DataLoader(
            dataset,
            batch_sampler=sampler,
            collate_fn=collate,
            num_workers=workers,
            persistent_workers=workers > 0,
            multiprocessing_context="spawn" if workers else None,
            pin_memory=bool(self.trainer and isinstance(self.trainer.accelerator, CUDAAccelerator)),
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the position in the data."""
        return {"steps_done": self.steps_done}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume with the batch after the last finished step."""
        self.resumed_at = state["steps_done"]


class _ByStep(LengthBatchSampler):
    """Batch order as a function of the optimiser steps done, so that a restart continues with the next batch.

    Lightning's own count of batches is one short in checkpoints made at a step's end, and undefined at an epoch's end.
    With ``trainer.overfit_batches`` every epoch starts at the first batch of the first epoch.
    """

    data: ResumableDataModule | None = None

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        trainer: Any = None if self.data is None else self.data.trainer
        if trainer is not None and trainer.overfit_batches:
            self.set_epoch(0)
        elif self.data is not None and trainer is not None:
            together = trainer.accumulate_grad_batches
            epoch, step = divmod(self.data.steps_done // self.data.steps_per_batch, -(-len(self) // together))
            self.set_epoch(epoch)
            self.start_at(step * together)
        return super().__iter__()


class StepSampler(_ByStep, LengthBatchSampler):
    """Batches of samples of similar length."""


class PackStepSampler(_ByStep, PackBatchSampler):
    """Batches of packs."""
