"""Lightning around the networks: thin modules, data modules, callbacks and strategies."""

from typing import Any

from gem_lightning.lit.callbacks.completion_log import CompletionLog
from gem_lightning.lit.callbacks.sample_texts import SampleTexts
from gem_lightning.lit.callbacks.throughput import ProgressBar, Throughput
from gem_lightning.lit.checkpointing.callback import KeepLast, Preempted
from gem_lightning.lit.checkpointing.export import SaveFinished, export
from gem_lightning.lit.checkpointing.io import AtomicCheckpointIO
from gem_lightning.lit.checkpointing.run_folder import RunCsvLogger, set_aside
from gem_lightning.lit.data.instruction import InstructionDataModule
from gem_lightning.lit.data.prompts import PairDataModule, PromptDataModule
from gem_lightning.lit.dpo_module import DpoModule
from gem_lightning.lit.gem_module import GemLitModule
from gem_lightning.lit.grpo_module import GrpoModule
from gem_lightning.lit.strategies import Fsdp1Strategy, ShardedStrategy

__all__ = [
    "AtomicCheckpointIO",
    "CompletionLog",
    "DpoModule",
    "Fsdp1Strategy",
    "GemLitModule",
    "GrpoModule",
    "InstructionDataModule",
    "KeepLast",
    "PairDataModule",
    "Preempted",
    "ProgressBar",
    "PromptDataModule",
    "RunCsvLogger",
    "SampleTexts",
    "SaveFinished",
    "ShardedStrategy",
    "Throughput",
    "export",
    "set_aside",
]


def __getattr__(name: str) -> Any:
    from gem_lightning.renamed import resolve

    return resolve(__name__, name)
