"""The training step around any ECG encoder, with or without texts."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import torch
from lightning import LightningModule
from torch import Tensor, nn

from gem_lightning.errors import DataError
from gem_lightning.evaluation.encoder.metrics import class_embeddings, macro_auroc, retrieval_recall, ridge_probe
from gem_lightning.lit.optim import parameter_groups, warmup_cosine
from gem_lightning.models.compat.coca import save_coca


class CocaLitModule(LightningModule):
    """Trains a network on an objective, and validates its ECG tower by retrieval, prompts and a linear probe.

    Args:
        net: Called without arguments, gives the network: an ``EcgCoCa``, or any module with an ``ecg`` tower.
        objective: ``objective(net, batch) -> losses by name``, already weighted; their sum is minimised.
        optimizer: Called with parameter groups, gives the optimiser.
        lr: Peak learning rate.
        weight_decay: For matrices; biases, norms and the temperature never decay.
        warmup: Share of all steps below 1, else a number of steps.
        final_lr: Rate at the end as a share of ``lr``.
        seed: Of dropout and other draws inside the network.
        export: Folder for the finished weights in the original's layout; None writes none.
    """

    net: Any

    def __init__(
        self,
        net: Callable[[], nn.Module],
        objective: Callable[[nn.Module, Mapping[str, Tensor]], dict[str, Tensor]],
        optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.AdamW,
        lr: float = 1e-3,
        weight_decay: float = 0.1,
        warmup: float = 0.1,
        final_lr: float = 0.0,
        seed: int = 0,
        export: str | os.PathLike | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=["net", "objective", "optimizer", "export"])
        self.net_factory, self.objective, self.optimizer_factory, self.export = net, objective, optimizer, export
        self._seen: list[dict[str, Tensor]] = []

    def configure_model(self) -> None:
        """Build the network once."""
        if not hasattr(self, "net"):
            self.net = self.net_factory()

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Sum of the weighted losses."""
        # drawn anew from what the batch is, so that a resumed run drops the same units
        torch.manual_seed(hash((self.hparams["seed"], int(batch["epoch"][0]), *batch["index"].tolist())) % 2**63)
        losses = self.objective(self.net, batch)
        loss = sum(losses.values(), torch.zeros((), device=self.device))
        if not torch.isfinite(loss):
            raise DataError(f"expected a finite loss, got {losses} on pairs {batch['index'].tolist()}; lower model.lr")
        self.log("train/loss", loss, prog_bar=True)
        self.log_dict({f"train/{name}": value for name, value in losses.items()})
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Keep the temperature within its bounds and show it."""
        if hasattr(self.net, "clamp_temperature"):
            self.net.clamp_temperature()
            self.log("train/logit_scale", self.net.logit_scale.exp())

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Log the losses and keep the embeddings."""
        losses = self.objective(self.net, batch)
        loss, size = sum(losses.values(), torch.zeros((), device=self.device)), len(batch["ecg_values"])
        self.log("val/loss", loss, prog_bar=True, sync_dist=True, batch_size=size)
        self.log_dict({f"val/{k}": v for k, v in losses.items()}, sync_dist=True, batch_size=size)
        seen = {"probe": self.net.ecg.pool(batch["ecg_values"])}
        if hasattr(self.net, "encode_text"):
            seen["ecg"] = nn.functional.normalize(seen["probe"], dim=-1)
            seen["text"] = self.net.encode_text(batch["input_ids"])
        if "targets" in batch:
            seen["targets"] = batch["targets"]
        self._seen.append({name: value.float() for name, value in seen.items()})

    def on_validation_epoch_end(self) -> None:
        """Retrieval, zero-shot AUC from prompts and a linear probe fitted on one half and scored on the other."""
        found = {name: torch.cat([part[name] for part in self._seen]) for name in self._seen[0]}
        self._seen.clear()
        if self.trainer.world_size > 1:
            gathered: dict[str, Any] = {name: self.all_gather(value) for name, value in found.items()}
            found = {name: value.flatten(0, 1) for name, value in gathered.items()}
        scores: dict[str, float] = {}
        if "text" in found:
            scores |= retrieval_recall(found["ecg"], found["text"])
        prompts = self.trainer.datamodule.prompts()  # type: ignore[attr-defined]
        if prompts is not None:
            targets, half = found["targets"], len(found["targets"]) // 2
            probe = ridge_probe(found["probe"][:half], targets[:half], found["probe"][half:])
            scores["probe_auc"] = macro_auroc(probe, targets[half:])
        if prompts is not None and "text" in found:
            texts = self.net.encode_text(prompts["input_ids"].to(self.device))
            labels = class_embeddings(texts, prompts["owner"].to(self.device), targets.shape[1])
            scores["zero_shot_auc"] = macro_auroc(found["ecg"] @ labels.T, targets)
        self.log_dict({f"val/{name}": value for name, value in scores.items()}, rank_zero_only=True, sync_dist=False)

    def on_train_end(self) -> None:
        """Write the weights in the original's layout."""
        if self.export is not None and self.trainer.is_global_zero and hasattr(self.net, "text"):
            data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
            save_coca(self.net, self.export, tokenizer=data.tokenizer, epoch=self.current_epoch)

    def configure_optimizers(self) -> Any:
        """The optimiser with warm-up and cosine over the whole run."""
        hp = self.hparams
        groups = parameter_groups(self.net, hp["lr"], hp["weight_decay"])
        optimizer = self.optimizer_factory([{k: v for k, v in g.items() if k != "names"} for g in groups])
        scheduler = warmup_cosine(optimizer, int(self.trainer.estimated_stepping_batches), hp["warmup"], hp["final_lr"])
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
