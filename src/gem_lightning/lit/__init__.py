"""Lightning around the networks: thin modules, data modules, callbacks and strategies."""

from gem_lightning.lit.callbacks import (
    AtomicCheckpointIO,
    KeepLast,
    SaveFinished,
)
from gem_lightning.lit.gem_module import GemLitModule
from gem_lightning.lit.instruction_datamodule import InstructionDataModule
from gem_lightning.lit.sample_texts import SampleTexts
from gem_lightning.lit.throughput import ProgressBar, Throughput

__all__ = [
    "AtomicCheckpointIO",
    "GemLitModule",
    "InstructionDataModule",
    "KeepLast",
    "ProgressBar",
    "SampleTexts",
    "SaveFinished",
    "Throughput",
]
