"""When a run keeps its state: every few steps, at the end of an epoch, and when it is asked to stop."""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from gem_lightning.errors import CheckpointError
from gem_lightning.jobs import write_atomically
from gem_lightning.lit.checkpointing.io import BEST, SUFFIX, in_order, remove

logger = logging.getLogger(__name__)

REQUEUE = 75  # EX_TEMPFAIL of sysexits.h: try again later
_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class Preempted(SystemExit):
    """The run was told to stop and has saved; its exit code asks for a restart."""

    def __init__(self) -> None:
        super().__init__(REQUEUE)


class KeepLast(Checkpoint):
    """Keeps the last checkpoints of a run (``step-0000120.ckpt``) and the best one, which ``best.json`` names.

    SIGTERM, or SIGUSR1 (as SLURM's ``--signal``), at any process: all of them finish the step, save, and exit with
    code 75. At SIGUSR2 where submitit listens to it, they save, and submitit queues the job again. After Ctrl-C or an
    error a run on one process saves the state after its last finished step.

    Args:
        dirpath: The run's folder of checkpoints.
        every_n_steps: Optimiser steps between two checkpoints; None saves at the ends of epochs only.
        keep: How many of the last ones stay: from the second on they are what a damaged last one falls back to.
        monitor: What the best is judged by, at each validation; lower is better. None keeps no best.
    """

    def __init__(
        self,
        dirpath: str | os.PathLike[str],
        every_n_steps: int | None = None,
        keep: int = 2,
        monitor: str | None = "val/loss",
    ) -> None:
        self.folder = Path(dirpath)
        self.every_n_steps, self.keep, self.monitor = every_n_steps, max(1, keep), monitor
        self._saved = self._seen = -1  # steps
        self._better: float | None = None  # a score to be written with the checkpoint it belongs to
        self._asked = 0  # the signal that asked to stop
        self._requeue: Any = None  # submitit's own handler

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Clear away what a kill left half written."""
        if trainer.is_global_zero:
            for path in self.folder.glob(".step-*"):
                remove(path)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """A state saved at the end of an epoch goes on with the next one.

        Where ``max_steps`` is set, Lightning would go through the finished epoch again, without a batch, and count it.
        """
        epochs = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]
        if trainer.max_steps != -1 and epochs["processed"] == epochs["ready"]:
            epochs["completed"] = epochs["processed"]
            batches = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
            batches["is_last_batch"] = False
            batches["current"] = dict.fromkeys(batches["current"], 0)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take over the signals from Lightning, whose handlers call collectives; what was restored is saved already."""
        self._saved = self._seen = trainer.global_step
        self._asked = 0
        if threading.current_thread() is threading.main_thread():
            listener = signal.getsignal(signal.SIGUSR2)
            self._requeue = listener if callable(listener) else None
            for number in (*_SIGNALS, *([signal.SIGUSR2] if self._requeue else [])):
                signal.signal(number, self._ask)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save after every n-th step, and stop where one process was asked to."""
        step = trainer.global_step
        if step == self._seen:  # gradients of this step are still being accumulated
            return
        self._seen = step
        if trainer.strategy.reduce_boolean_decision(self._asked != 0, all=False):
            self.save(trainer)
            if trainer.strategy.reduce_boolean_decision(self._asked == signal.SIGUSR2, all=False) and self._requeue:
                self._requeue(signal.SIGUSR2, None)
            raise Preempted
        if self.every_n_steps and step % self.every_n_steps == 0 and not _epoch_ends(trainer):
            self.save(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the best."""
        if self.monitor is None or trainer.sanity_checking or self.monitor not in trainer.callback_metrics:
            return
        if trainer.state.fn != "fit":
            return
        score = float(trainer.callback_metrics[self.monitor])
        if score < self.best.get(self.monitor, float("inf")):
            self._better = score
            if not _epoch_ends(trainer):
                self.save(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save."""
        self.save(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Save what was learned, where no other process has to join in."""
        step = trainer.global_step
        if trainer.state.fn != "fit" or step in (0, self._saved) or isinstance(exception, CheckpointError):
            return
        if trainer.world_size == 1:
            self.save(trainer)
            logger.warning("stopped at step %d; resume with ckpt_path=last (%s)", step, self.path(step))

    @property
    def best(self) -> dict[str, Any]:
        """``checkpoint`` (its name) and the score of the best one; empty before the first validation."""
        file = self.folder / BEST
        return json.loads(file.read_text()) if file.is_file() else {}

    def path(self, step: int) -> Path:
        """Where the state after a step lies."""
        return self.folder / f"step-{step:07d}{SUFFIX}"

    def save(self, trainer: Trainer) -> None:
        """Save the state after the last finished step, once; then let go of the oldest."""
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

    def _ask(self, number: int, frame: Any) -> None:
        self._asked = number


def _epoch_ends(trainer: Trainer) -> bool:
    """Whether this was an epoch's last batch; Lightning's counters are whole again only after its validation."""
    return trainer.fit_loop.epoch_loop.batch_progress.is_last_batch
