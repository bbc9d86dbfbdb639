"""Callback that keeps the completions of policy training with their rewards, one JSON line each."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from gem_lightning.jobs import write_atomically


class CompletionLog(Callback):
    """Writes ``step-N-rank-R.jsonl`` into a folder after each batch.

    A file per step, so that a resumed run writes the steps after its checkpoint over the ones of the killed run.

    Args:
        folder: For the files.
        every_n_batches: Batches from one that is kept to the next.
    """

    def __init__(self, folder: str | os.PathLike[str], every_n_batches: int = 1) -> None:
        self.folder, self.every_n_batches = Path(folder), max(1, every_n_batches)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write the last batch's completions."""
        rows: list[dict[str, Any]] = getattr(pl_module, "written", [])
        if not rows or batch_idx % self.every_n_batches:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        name = f"step-{rows[0]['step']:06d}-rank-{trainer.global_rank}.jsonl"
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        write_atomically(self.folder / name, lines.encode())
