"""Lightning around the networks: thin modules, data modules, callbacks and strategies."""

from gem_lightning.lit.checkpoint_files import AtomicCheckpointIO
from gem_lightning.lit.checkpoints import KeepLast, Preempted
from gem_lightning.lit.export import SaveFinished, export
from gem_lightning.lit.gem_module import GemLitModule
from gem_lightning.lit.instruction_datamodule import InstructionDataModule
from gem_lightning.lit.run_folder import RunCsvLogger, set_aside
from gem_lightning.lit.sample_texts import SampleTexts
from gem_lightning.lit.strategies import Fsdp1Strategy, ShardedStrategy
from gem_lightning.lit.throughput import ProgressBar, Throughput

__all__ = [
    "AtomicCheckpointIO",
    "Fsdp1Strategy",
    "GemLitModule",
    "InstructionDataModule",
    "KeepLast",
    "Preempted",
    "ProgressBar",
    "RunCsvLogger",
    "SampleTexts",
    "SaveFinished",
    "ShardedStrategy",
    "Throughput",
    "export",
    "set_aside",
]
