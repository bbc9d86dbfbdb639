"""What a run keeps: checkpoints, the finished model."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from gem_lightning.jobs import write_atomically

logger = logging.getLogger(__name__)


class AtomicCheckpointIO(TorchCheckpointIO):
    """Checkpoints that are whole or absent: written under another name, flushed to disk, then renamed."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write ``checkpoint`` to ``path``; an interruption leaves the previous file."""
        final = Path(path)
        final.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(final, lambda path: torch.save(checkpoint, path))


class KeepLast(ModelCheckpoint):
    """``ModelCheckpoint`` whose ``last.ckpt`` is also written when the run is interrupted.

    Ctrl-C or an error leaves the state after the last finished step; ``ckpt_path=last`` goes on from there.
    """

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Save ``last.ckpt`` unless nothing was learned yet."""
        if trainer.global_step == 0 or not trainer.training or self.dirpath is None:
            return
        path = os.path.join(self.dirpath, f"{self.CHECKPOINT_NAME_LAST}{self.FILE_EXTENSION}")
        trainer.save_checkpoint(path)
        logger.warning("stopped at step %d; resume with ckpt_path=last (%s)", trainer.global_step, path)


class SaveFinished(Callback):
    """When training ends, ships the weights: a folder that ``Gem.from_pretrained`` reads.

    Args:
        folder: Where to write model, processor and generation settings.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the folder under a temporary name and rename it."""
        if not trainer.is_global_zero or trainer.interrupted:
            return
        partial = self.folder.with_name(f".{self.folder.name}.partial")
        net: Any = pl_module.net
        _mark_trained(net)
        net.save_pretrained(partial)
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        data.processor.save_pretrained(partial)
        _replace_folder(partial, self.folder)
        logger.info("finished model: %s", self.folder)


def _mark_trained(net: Any) -> None:
    """Parts that were drawn at random and have learned are no longer fresh."""
    learned = {name for name, parameter in net.named_parameters() if parameter.requires_grad}
    fresh = net.config.fresh_parts or []
    net.config.fresh_parts = [part for part in fresh if not any(f".{part}." in f".{name}" for name in learned)] or None


def _replace_folder(new: Path, old: Path) -> None:
    import shutil

    retired = old.with_name(f".{old.name}.retired")
    shutil.rmtree(retired, ignore_errors=True)
    if old.exists():
        old.rename(retired)
    new.rename(old)
    shutil.rmtree(retired, ignore_errors=True)
