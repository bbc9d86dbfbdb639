"""Samples to batches: data sets, batch order, collation, simulated cohorts."""

import importlib
from typing import TYPE_CHECKING, Any

_HOME_OF = {
    "ConversationCohort": "conversations",
    "ConversationPlan": "conversations",
    "GemCollator": "collate",
    "InstructionDataset": "datasets",
    "LengthBatchSampler": "batching",
    "MarkedRecords": "truths",
    "Mixture": "mixture",
    "ModalityDropout": "datasets",
    "PackBatchSampler": "packing",
    "PackingCollator": "packing",
    "RecombinedRecords": "truths",
    "RecombinedCohort": "cohort",
    "ShardReader": "shards",
    "SimulatedCohort": "cohort",
    "SimulatedRecords": "truths",
    "UnreadableRecords": "truths",
    "encoder_targets": "conversations",
    "generator_for": "batching",
    "open_samples": "mixture",
    "real_token_share": "batching",
    "simulate_sample": "cohort",
    "token_lengths": "lengths",
    "write_shards": "shards",
}
__all__ = sorted(_HOME_OF)

if TYPE_CHECKING:
    from gem_lightning.data.batching import LengthBatchSampler, generator_for, real_token_share
    from gem_lightning.data.cohort import RecombinedCohort, SimulatedCohort, simulate_sample
    from gem_lightning.data.collate import GemCollator
    from gem_lightning.data.conversations import ConversationCohort, ConversationPlan, encoder_targets
    from gem_lightning.data.datasets import InstructionDataset, ModalityDropout
    from gem_lightning.data.lengths import token_lengths
    from gem_lightning.data.mixture import Mixture, open_samples
    from gem_lightning.data.packing import PackBatchSampler, PackingCollator
    from gem_lightning.data.shards import ShardReader, write_shards
    from gem_lightning.data.truths import MarkedRecords, RecombinedRecords, SimulatedRecords, UnreadableRecords


def __getattr__(name: str) -> Any:
    # Lazy: processes that only simulate or read records do not pay for torch.
    if name not in _HOME_OF:
        from gem_lightning.renamed import resolve

        return resolve(__name__, name)
    return getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)
