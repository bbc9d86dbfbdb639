"""DataModules of prompts to be answered by the policy, and of pairs of answers, in a resumable order."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from gem_lightning.lit.data.instruction import InstructionDataModule
from gem_lightning.rl.prompts import PairDataset, PromptCollator, PromptDataset


class PromptDataModule(InstructionDataModule):
    """Prompts with the facts that their completions are rewarded against.

    A batch holds ``batch_size`` prompts on every process, and a prompt's completions are all written where the prompt
    is: a group is never split over processes, updates or batches, and all processes have equally many.

    Args:
        *args: As for :class:`InstructionDataModule`.
        updates: Optimiser steps on each batch, as in ``GrpoOptions``.
        **kwargs: As for :class:`InstructionDataModule`; prompts are not packed.
    """

    kind = PromptDataset

    def __init__(self, *args: Any, updates: int = 1, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.batches = replace(self.batches, pack_to=None)
        self.steps_per_batch = updates

    def collator(self) -> PromptCollator:
        """Return what makes a batch of prompts."""
        return PromptCollator()

    def transfer_batch_to_device(self, batch: Any, device: Any, dataloader_idx: int) -> Any:
        """Leave prompts where they are: as many as are read at a time are brought to the device."""
        return batch


class PairDataModule(PromptDataModule):
    """Prompts with a preferred and a rejected answer."""

    kind = PairDataset
