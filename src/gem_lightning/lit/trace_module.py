"""LightningModule that trains the digitiser's network."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule
from torch import Tensor
from torch.nn import functional

from gem_lightning.digitizer.network import PRINT, PULSE, TRACE, WEIGHTS
from gem_lightning.lit.optim import Optimization
from gem_lightning.models.trace_net import TraceNet

#: Weight of each map in the loss, and of a pixel on a trace over one of paper: a trace covers a hundredth (ours).
_MAP_WEIGHTS = {TRACE: 1.0, PULSE: 0.3, PRINT: 0.3}
_ON_TRACE = 8.0
_ON_STEEP = 24.0  # and where a trace is steep: a tenth of its columns, which hold most of its power


class TraceLitModule(LightningModule):
    """Trains maps of trace, pulse and print on pieces of paper.

    Args:
        net: Called without arguments, returns the network.
        optim: Optimiser and schedule.
        export: Folder for the trained weights, folded and in half precision; None writes none.
    """

    net: TraceNet

    def __init__(
        self,
        net: Callable[[], TraceNet],
        optim: Optimization | None = None,
        export: str | os.PathLike[str] | None = None,
    ) -> None:
        super().__init__()
        self.net_factory, self.optim, self.export = net, optim or Optimization(), export
        self.save_hyperparameters(self.optim.values())

    def configure_model(self) -> None:
        """Build the network once."""
        if not hasattr(self, "net"):
            self.net = self.net_factory().to(memory_format=torch.channels_last)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Return the weighted cross-entropy of the maps."""
        loss = self.losses(batch)["maps"]
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Log the same loss over pieces that are never trained on."""
        self.log("val/loss", self.losses(batch)["maps"], prog_bar=True, sync_dist=True, batch_size=len(batch["image"]))

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the weighted cross-entropy of a batch's maps."""
        logits = self.net(batch["image"].to(memory_format=torch.channels_last))
        weight = torch.zeros_like(batch["maps"])
        for k, share in _MAP_WEIGHTS.items():
            weight[:, k] = share
        weight[:, TRACE] += _ON_TRACE * (batch["maps"][:, TRACE] > 0.1) + _ON_STEEP * batch["steep"]
        return {"maps": functional.binary_cross_entropy_with_logits(logits, batch["maps"], weight)}

    def on_train_end(self) -> None:
        """Write the weights."""
        if self.export is not None and self.trainer.is_global_zero:
            from safetensors.torch import save_file

            Path(self.export).mkdir(parents=True, exist_ok=True)
            weights = {name: value.half() for name, value in self.net.eval().folded().items()}
            save_file(weights, Path(self.export) / WEIGHTS)

    def configure_optimizers(self) -> Any:
        """Return the optimiser with warm-up and cosine decay over the whole run."""
        return self.optim.configure(self.net, int(self.trainer.estimated_stepping_batches))
