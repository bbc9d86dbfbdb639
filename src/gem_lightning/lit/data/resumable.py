"""Where in the data a run stands, told by the optimiser steps it has done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from gem_lightning.data import LengthBatchSampler, PackBatchSampler


class ResumableDataModule(LightningDataModule):
    """A data module whose checkpoint says how many optimiser steps its data has fed.

    Lightning makes the first iterator before it restores its own counters (when it estimates the steps of a run), but
    after it restored the data module: so the position is kept here.
    """

    resumed_at = 0

    @property
    def steps_done(self) -> int:
        """Optimiser steps since the run began, over all restarts."""
        return max(self.trainer.global_step if self.trainer else 0, self.resumed_at)

    @property
    def share(self) -> tuple[int, int]:
        """This process's rank and the number of processes: which of each step's samples it deals."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def loader(
        self, dataset: Dataset[Any], sampler: LengthBatchSampler, collate: Callable[[list[Any]], Any], workers: int
    ) -> DataLoader[Any]:
        """Batches of ``sampler``, made by ``workers`` processes of their own (spawned: they may meet threads here)."""
        return DataLoader(
            dataset,
            batch_sampler=sampler,
            collate_fn=collate,
            num_workers=workers,
            persistent_workers=workers > 0,
            multiprocessing_context="spawn" if workers else None,
            pin_memory=bool(self.trainer and self.trainer.accelerator.__class__.__name__ == "CUDAAccelerator"),
        )

    def state_dict(self) -> dict[str, Any]:
        """The position in the data."""
        return {"steps_done": self.steps_done}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with the batch after the last finished step."""
        self.resumed_at = state["steps_done"]


class _ByStep(LengthBatchSampler):
    """The batch order by the number of optimiser steps done: a restart goes on with the batch that comes next.

    Lightning's own count of batches is one short in checkpoints made at a step's end, and of no use at an epoch's end.
    """

    data: ResumableDataModule | None = None

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        if self.data is not None and self.data.trainer is not None:
            together = self.data.trainer.accumulate_grad_batches
            epoch, step = divmod(self.data.steps_done, -(-len(self) // together))
            self.set_epoch(epoch)
            self.start_at(step * together)
        return super().__iter__()


class StepSampler(_ByStep, LengthBatchSampler):
    """Batches of samples of similar length."""


class PackStepSampler(_ByStep, PackBatchSampler):
    """Batches of packs."""
