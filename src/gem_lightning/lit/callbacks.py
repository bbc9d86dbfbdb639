"""What a run shows and keeps: checkpoints, generated samples, throughput, the finished model."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, TQDMProgressBar

from gem_lightning.jobs import write_atomically
from gem_lightning.models.generation import generate_texts

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


class ProgressBar(TQDMProgressBar):
    """Lightning's bar with what a person watches: loss and samples a second, without the logger's version."""

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """Values at the end of the bar."""
        values = super().get_metrics(trainer, pl_module)
        values.pop("v_num", None)
        speed = trainer.logged_metrics.get("speed/samples_per_s")
        return values if speed is None else values | {"samples/s": round(float(speed), 1)}


class Throughput(Callback):
    """Samples and real tokens a second, share of real tokens, share of time spent waiting for data.

    Args:
        every_n_steps: Steps between two log entries.
    """

    def __init__(self, every_n_steps: int = 20) -> None:
        self.every_n_steps = every_n_steps
        self._reset(time.perf_counter())

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Data wait ends here."""
        self._waited += time.perf_counter() - self._step_ended

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the batch and log now and then."""
        now = self._step_ended = time.perf_counter()
        self._samples += len(batch["input_ids"])
        self._real += int(batch["attention_mask"].sum())
        self._padded += batch["attention_mask"].numel()
        self._steps += 1
        if self._steps < self.every_n_steps:
            return
        elapsed = max(now - self._began, 1e-9)
        pl_module.log_dict(
            {
                "speed/samples_per_s": self._samples / elapsed,
                "speed/tokens_per_s": self._real / elapsed,
                "speed/real_token_share": self._real / self._padded,
                "speed/data_wait_share": self._waited / elapsed,
            }
        )
        self._reset(now)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Validation time between epochs is nobody's wait."""
        self._reset(time.perf_counter())

    def _reset(self, now: float) -> None:
        self._began = self._step_ended = now
        self._samples = self._real = self._padded = self._steps = 0
        self._waited = 0.0


class SampleTexts(Callback):
    """At each validation, generated texts beside their images, in the logger and in the run's folder.

    Args:
        count: Held-out samples to show.
        max_new_tokens: Longest answer.
    """

    def __init__(self, count: int = 4, max_new_tokens: int = 96) -> None:
        self.count = count
        self.max_new_tokens = max_new_tokens

    @torch.no_grad()
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Generate for the first samples of the validation set."""
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        examples = data.examples(self.count)
        texts = generate_texts(pl_module.net, data.processor, examples, max_new_tokens=self.max_new_tokens)
        for log in trainer.loggers:
            board: Any = getattr(log, "experiment", None)
            for example, text in zip(examples, texts, strict=True):
                if hasattr(board, "add_text"):
                    shown = f"**generated** {text}\n\n**reference** {example['answer']}"
                    board.add_text(f"val/{example['id']}", shown, trainer.global_step)
                if hasattr(board, "add_image") and example.get("image") is not None:
                    board.add_image(f"val/{example['id']}", example["image"], trainer.global_step, dataformats="HWC")


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
