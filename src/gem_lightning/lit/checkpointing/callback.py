"""Checkpoint callback: saves every few steps, at the end of an epoch, and on a signal to stop."""

from __future__ import annotations

import json
import logging
import math
import os
import signal
import threading
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from gem_lightning.errors import CheckpointError
from gem_lightning.jobs import write_atomically
from gem_lightning.lit.checkpointing.io import BEST, SUFFIX, in_order, remove

logger = logging.getLogger(__name__)

REQUEUE = 75  # EX_TEMPFAIL of sysexits.h: try again later
_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class Preempted(SystemExit):
    """A signal stopped the run after it saved its state; the exit code requests a restart."""

    def __init__(self) -> None:
        super().__init__(REQUEUE)


class KeepLast(ModelCheckpoint):
    """Keeps the last checkpoints of a run (``step-0000120.ckpt``) and the best one, which ``best.json`` names.

    Lightning's ``ModelCheckpoint`` with its own schedule: a checkpoint is written once a step, between the
    validation and the next batch, so that a resumed run repeats nothing; which checkpoints exist is read from the
    folder and not from a checkpoint's state. ``best_model_path`` and ``best_model_score`` are set as usual.

    On SIGTERM, or SIGUSR1 (as SLURM's ``--signal``), at any process, all processes finish the step, save, and exit
    with code 75. On SIGUSR2, where submitit listens to it, they save, and submitit queues the job again. After Ctrl-C
    or an error, a run on one process saves the state after its last finished step.

    Args:
        dirpath: The run's folder of checkpoints.
        every_n_steps: Optimiser steps between two checkpoints, or below 1 their share of the run's steps; None saves
            at the ends of epochs only.
        keep: Number of last checkpoints to keep: the second last replaces a damaged last one.
        monitor: Metric that selects the best, at each validation. None keeps no best.
        mode: ``min`` or ``max``: whether a lower or a higher metric is better.
    """

    def __init__(
        self,
        dirpath: str | os.PathLike[str],
        every_n_steps: float | None = None,
        keep: int = 2,
        monitor: str | None = "val/loss",
        mode: str = "min",
    ) -> None:
        super().__init__(
            Path(dirpath),
            monitor=monitor,
            mode=mode,
            save_top_k=0 if monitor is None else 1,
            every_n_train_steps=int(every_n_steps) if every_n_steps is not None and every_n_steps >= 1 else None,
        )
        self.folder = Path(dirpath)
        self.every_n_steps, self.keep = every_n_steps, max(1, keep)
        self.period = 0  # steps between two checkpoints, 0 for none
        self._saved = self._last_step = -1  # steps
        self._better: float | None = None  # a score to be written with the checkpoint it belongs to
        self._signal = 0  # the signal that requested a stop
        self._requeue: Any = None  # submitit's own handler

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find the best checkpoint of an earlier start of this run."""
        self._find_best()

    def state_dict(self) -> dict[str, Any]:
        """Keep nothing in a checkpoint: the folder itself is the state."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore nothing, see :meth:`state_dict`."""

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save."""
        self.save(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Do nothing: the last epoch's end has saved."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Delete partial checkpoints of a killed run."""
        if trainer.is_global_zero:
            for path in self.folder.glob(".step-*"):
                remove(path)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Continue a state saved at the end of an epoch with the next epoch.

        Where ``max_steps`` is set, Lightning would enter the finished epoch once more, without a batch, and count it.
        """
        epochs = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]
        if trainer.max_steps != -1 and epochs["processed"] == epochs["ready"]:
            epochs["completed"] = epochs["processed"]
            batches = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
            batches["is_last_batch"] = False
            batches["current"] = dict.fromkeys(batches["current"], 0)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Replace Lightning's signal handlers, which call collectives; the restored state is saved already."""
        self._saved = self._last_step = trainer.global_step
        self._signal = 0
        every = self.every_n_steps or 0
        self.period = math.ceil(every * trainer.estimated_stepping_batches) if 0 < every < 1 else int(every)
        if threading.current_thread() is threading.main_thread():
            listener = signal.getsignal(signal.SIGUSR2)
            self._requeue = listener if callable(listener) else None
            for number in (*_SIGNALS, *([signal.SIGUSR2] if self._requeue else [])):
                signal.signal(number, self._on_signal)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save after every n-th step, and stop if a process received a signal."""
        step = trainer.global_step
        if step == self._last_step:  # gradients of this step are still being accumulated
            return
        self._last_step = step
        if trainer.strategy.reduce_boolean_decision(self._signal != 0, all=False):
            self.save(trainer)
            if trainer.strategy.reduce_boolean_decision(self._signal == signal.SIGUSR2, all=False) and self._requeue:
                self._requeue(signal.SIGUSR2, None)
            raise Preempted
        if self.period and step % self.period == 0 and not _epoch_ends(trainer):
            self.save(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the best checkpoint."""
        if self.monitor is None or trainer.sanity_checking or self.monitor not in trainer.callback_metrics:
            return
        if trainer.state.fn != "fit":
            return
        score = float(trainer.callback_metrics[self.monitor])
        best = self.best.get(self.monitor)
        if best is None or (score < best if self.mode == "min" else score > best):
            self._better = score
            if not _epoch_ends(trainer):
                self.save(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Save the state of a run on one process; several could not all take part."""
        step = trainer.global_step
        if trainer.state.fn != "fit" or step in (0, self._saved) or isinstance(exception, CheckpointError):
            return
        if trainer.world_size == 1:
            self.save(trainer)
            logger.warning("stopped at step %d; resume with ckpt_path=last (%s)", step, self.path(step))

    @property
    def best(self) -> dict[str, Any]:
        """Name (``checkpoint``) and score of the best checkpoint; empty before the first validation."""
        file = self.folder / BEST
        return json.loads(file.read_text()) if file.is_file() else {}

    def path(self, step: int) -> Path:
        """Return the path of the state after a step."""
        return self.folder / f"step-{step:07d}{SUFFIX}"

    def save(self, trainer: Trainer) -> None:
        """Save the state after the last finished step, once; then delete the oldest checkpoints."""
        step = trainer.global_step
        if step == 0:
            return
        if step != self._saved:
            trainer.save_checkpoint(self.path(step))
            self._saved = step
        if trainer.is_global_zero:
            if self._better is not None:
                best = {"checkpoint": self.path(step).name, self.monitor: self._better}
                write_atomically(self.folder / BEST, json.dumps(best).encode())
            for old in in_order(self.folder)[: -self.keep]:
                if old.name != self.best.get("checkpoint"):
                    remove(old)
        self._better = None
        self._find_best()

    def _find_best(self) -> None:
        best = self.best
        if best and (self.folder / best["checkpoint"]).exists():
            self.best_model_path = str(self.folder / best["checkpoint"])
            self.best_model_score = torch.tensor(best[self.monitor]) if self.monitor in best else None

    def _on_signal(self, number: int, frame: Any) -> None:
        self._signal = number


def _epoch_ends(trainer: Trainer) -> bool:
    """Return whether this was an epoch's last batch; Lightning's counters are consistent only after validation."""
    return trainer.fit_loop.epoch_loop.batch_progress.is_last_batch
