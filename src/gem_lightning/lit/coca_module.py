"""LightningModule for pre-training ECG encoders, with or without texts."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import torch
from lightning import LightningModule
from torch import Tensor, nn

from gem_lightning.errors import DataError
from gem_lightning.evaluation.encoder.metrics import class_embeddings, macro_auroc, retrieval_recall, ridge_probe
from gem_lightning.lit.optim import Optimization
from gem_lightning.models.compat import save_coca


class CocaLitModule(LightningModule):
    """Trains a network on an objective, and validates its ECG tower by retrieval, prompts and a linear probe.

    Args:
        net: Called without arguments, returns the network: an ``EcgCoCa``, or any module with an ``ecg`` tower.
        objective: ``objective(net, batch) -> losses by name``, already weighted; their sum is minimised.
        optim: Optimiser and schedule.
        seed: Of dropout and other random draws inside the network.
        export: Folder for the trained weights in the original's layout; None writes none.
    """

    net: Any

    def __init__(
        self,
        net: Callable[[], nn.Module],
        objective: Callable[[nn.Module, Mapping[str, Tensor]], dict[str, Tensor]],
        optim: Optimization | None = None,
        seed: int = 0,
        export: str | os.PathLike | None = None,
    ) -> None:
        super().__init__()
        self.net_factory, self.objective, self.optim = net, objective, optim or Optimization()
        self.seed, self.export = seed, export
        self.save_hyperparameters(self.optim.values() | {"seed": seed})
        self._outputs: list[dict[str, Tensor]] = []

    def configure_model(self) -> None:
        """Build the network once."""
        if not hasattr(self, "net"):
            self.net = self.net_factory()

    def losses(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the weighted losses of a batch by name."""
        return self.objective(self.net, batch)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Return the sum of the weighted losses."""
        # a function of epoch and samples, so that a resumed run drops the same units
        torch.manual_seed(hash((self.seed, int(batch["epoch"][0]), *batch["index"].tolist())) % 2**63)
        losses = self.losses(batch)
        loss = sum(losses.values(), torch.zeros((), device=self.device))
        if not torch.isfinite(loss):
            raise DataError(f"expected a finite loss, got {losses} on pairs {batch['index'].tolist()}; lower optim.lr")
        self.log("train/loss", loss, prog_bar=True)
        self.log_dict({f"train/{name}": value for name, value in losses.items()})
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Clamp the temperature and log it."""
        if hasattr(self.net, "clamp_temperature"):
            self.net.clamp_temperature()
            self.log("train/logit_scale", self.net.logit_scale.exp())

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Log the losses and keep the embeddings."""
        self._evaluation_step(batch, "val")

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Log the losses of test pairs and keep the embeddings."""
        self._evaluation_step(batch, "test")

    def on_validation_epoch_end(self) -> None:
        """Log retrieval, zero-shot AUC from prompts and a linear probe fitted on one half, scored on the other."""
        self._evaluation_end("val")

    def on_test_epoch_end(self) -> None:
        """Log the same metrics of the test split."""
        self._evaluation_end("test")

    def _evaluation_step(self, batch: dict[str, Tensor], split: str) -> None:
        losses = self.losses(batch)
        loss, size = sum(losses.values(), torch.zeros((), device=self.device)), len(batch["ecg_values"])
        self.log(f"{split}/loss", loss, prog_bar=True, sync_dist=True, batch_size=size)
        self.log_dict({f"{split}/{k}": v for k, v in losses.items()}, sync_dist=True, batch_size=size)
        outputs = {"probe": self.net.ecg.pool(batch["ecg_values"])}
        if hasattr(self.net, "encode_text"):
            outputs["ecg"] = nn.functional.normalize(outputs["probe"], dim=-1)
            outputs["text"] = self.net.encode_text(batch["input_ids"])
        if "targets" in batch:
            outputs["targets"] = batch["targets"]
        self._outputs.append({name: value.float() for name, value in outputs.items()})

    def _evaluation_end(self, split: str) -> None:
        outputs = {name: torch.cat([part[name] for part in self._outputs]) for name in self._outputs[0]}
        self._outputs.clear()
        if self.trainer.world_size > 1:
            gathered: dict[str, Any] = {name: self.all_gather(value) for name, value in outputs.items()}
            outputs = {name: value.flatten(0, 1) for name, value in gathered.items()}
        scores: dict[str, float] = {}
        if "text" in outputs:
            scores |= retrieval_recall(outputs["ecg"], outputs["text"])
        prompts = self.trainer.datamodule.prompts()  # type: ignore[attr-defined]
        if prompts is not None:
            targets, half = outputs["targets"], len(outputs["targets"]) // 2
            probe = ridge_probe(outputs["probe"][:half], targets[:half], outputs["probe"][half:])
            scores["probe_auc"] = macro_auroc(probe, targets[half:])
        if prompts is not None and "text" in outputs:
            texts = self.net.encode_text(prompts["input_ids"].to(self.device))
            labels = class_embeddings(texts, prompts["owner"].to(self.device), targets.shape[1])
            scores["zero_shot_auc"] = macro_auroc(outputs["ecg"] @ labels.T, targets)
        logged = {f"{split}/{name}": value for name, value in scores.items()}
        self.log_dict(logged, rank_zero_only=True, sync_dist=False)

    def on_train_end(self) -> None:
        """Write the weights in the original's layout."""
        if self.export is not None and self.trainer.is_global_zero and hasattr(self.net, "text"):
            data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
            save_coca(self.net, self.export, tokenizer=data.tokenizer, epoch=self.current_epoch)

    def configure_optimizers(self) -> Any:
        """Return the optimiser with warm-up and cosine decay over the whole run."""
        return self.optim.configure(self.net, int(self.trainer.estimated_stepping_batches))
