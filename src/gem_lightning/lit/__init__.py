"""Lightning around the networks: thin modules, data modules, callbacks and strategies."""

from gem_lightning.lit.callbacks import (
    AtomicCheckpointIO,
    KeepLast,
    ProgressBar,
    SampleTexts,
    SaveFinished,
    Throughput,
)
from gem_lightning.lit.gem_module import GemLitModule
from gem_lightning.lit.instruction_datamodule import InstructionDataModule

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
