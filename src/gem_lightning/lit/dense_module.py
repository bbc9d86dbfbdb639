"""LightningModule that trains a dense ECG encoder."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule
from torch import Tensor

from gem_lightning.errors import DataError
from gem_lightning.lit.optim import Optimization
from gem_lightning.models.encoder.dense import DenseEncoder
from gem_lightning.models.encoder.dense_store import save_dense
from gem_lightning.models.encoder.dense_values import VALUES


class DenseLitModule(LightningModule):
    """Trains waves and values, and validates them decoded, in bpm and ms.

    Args:
        net: Called without arguments, returns the encoder.
        optim: Optimiser and schedule.
        export: Folder for the trained weights; None writes none.
    """

    net: DenseEncoder

    def __init__(
        self,
        net: Callable[[], DenseEncoder],
        optim: Optimization | None = None,
        export: str | os.PathLike[str] | None = None,
    ) -> None:
        super().__init__()
        self.net_factory, self.optim, self.export = net, optim or Optimization(), export
        self.save_hyperparameters(self.optim.values())
        self._decoded: list[tuple[Tensor, Tensor]] = []

    def configure_model(self) -> None:
        """Build the network once."""
        if not hasattr(self, "net"):
            self.net = self.net_factory().train()  # weights that were loaded come in eval mode, and would stay in it

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the weighted losses of a batch by name."""
        return self.net.losses(self.net.read(batch["ecg_values"]), batch)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Return the sum of the weighted losses."""
        losses = self.losses(batch)
        loss = torch.stack(list(losses.values())).sum()
        if not torch.isfinite(loss):
            raise DataError(f"expected a finite loss, got {losses} on ECGs {batch['index'].tolist()}; lower optim.lr")
        self.log("train/loss", loss, prog_bar=True)
        self.log_dict({f"train/{name}": value for name, value in losses.items()})
        return loss

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Log the loss and keep decoded and true values."""
        loss = self.net.loss(self.net.read(batch["ecg_values"]), batch)
        self.log("val/loss", loss, prog_bar=True, sync_dist=True, batch_size=len(batch["values"]))
        self._decoded.append((self.net.decode(batch["ecg_values"]).float(), batch["values"]))

    def on_validation_epoch_end(self) -> None:
        """Log mean absolute errors of rate and intervals, and the accuracy of P presence."""
        found, truth = (torch.cat(column) for column in zip(*self._decoded))
        self._decoded.clear()
        error = (found - truth).abs()
        scores = {f"val/{name}_mae": error[:, VALUES.index(name)].nanmean() for name in VALUES[:4]}
        p = VALUES.index("p")
        scores["val/p_accuracy"] = ((found[:, p] > 0.5) == (truth[:, p] > 0.5)).float().mean()
        self.log_dict(scores, sync_dist=True)

    def on_train_end(self) -> None:
        """Write the weights."""
        if self.export is not None and self.trainer.is_global_zero:
            data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
            save_dense(self.net, Path(self.export), trained_on=data.provenance(), steps=self.trainer.global_step)

    def configure_optimizers(self) -> Any:
        """Return the optimiser with warm-up and cosine decay over the whole run."""
        return self.optim.configure(self.net, int(self.trainer.estimated_stepping_batches))
