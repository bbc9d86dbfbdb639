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

# "a as a" exports a name to strict type checkers, which cannot read the __all__ of this file.
if TYPE_CHECKING:
    from gem_lightning.data.batching import LengthBatchSampler as LengthBatchSampler
    from gem_lightning.data.batching import generator_for as generator_for
    from gem_lightning.data.batching import real_token_share as real_token_share
    from gem_lightning.data.cohort import RecombinedCohort as RecombinedCohort
    from gem_lightning.data.cohort import SimulatedCohort as SimulatedCohort
    from gem_lightning.data.cohort import simulate_sample as simulate_sample
    from gem_lightning.data.collate import GemCollator as GemCollator
    from gem_lightning.data.conversations import ConversationCohort as ConversationCohort
    from gem_lightning.data.conversations import ConversationPlan as ConversationPlan
    from gem_lightning.data.conversations import encoder_targets as encoder_targets
    from gem_lightning.data.datasets import InstructionDataset as InstructionDataset
    from gem_lightning.data.datasets import ModalityDropout as ModalityDropout
    from gem_lightning.data.lengths import token_lengths as token_lengths
    from gem_lightning.data.mixture import Mixture as Mixture
    from gem_lightning.data.mixture import open_samples as open_samples
    from gem_lightning.data.packing import PackBatchSampler as PackBatchSampler
    from gem_lightning.data.packing import PackingCollator as PackingCollator
    from gem_lightning.data.shards import ShardReader as ShardReader
    from gem_lightning.data.shards import write_shards as write_shards
    from gem_lightning.data.truths import MarkedRecords as MarkedRecords
    from gem_lightning.data.truths import RecombinedRecords as RecombinedRecords
    from gem_lightning.data.truths import SimulatedRecords as SimulatedRecords
    from gem_lightning.data.truths import UnreadableRecords as UnreadableRecords


def __getattr__(name: str) -> Any:
    # Lazy: processes that only simulate or read records do not pay for torch.
    if name not in _HOME_OF:
        from gem_lightning.renamed import resolve

        return resolve(__name__, name)
    return getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)
