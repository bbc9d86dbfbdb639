"""The training step around a GEM network."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from lightning import LightningModule
from torch import Tensor, nn

from gem_lightning.lit.callbacks.nan_guard import NanGuard
from gem_lightning.lit.distributed import answer_tokens, clip_gradients, with_every_modality
from gem_lightning.lit.optim import (
    freeze_dead_layers,
    freeze_unreached,
    parameter_groups,
    set_trainable,
    warmup_cosine,
)
from gem_lightning.models.compat.names import check_fit
from gem_lightning.models.lora import held_apart
from gem_lightning.models.sharding import compute_buffers


class GemLitModule(LightningModule):
    """Next-token training of a GEM on ECG conversations.

    The network is built in :meth:`configure_model`, on whatever device or mesh the strategy chose, from a factory:
    so checkpoints hold no pickled module and load with ``weights_only=True``.

    Args:
        net: Called without arguments (with ``shard=``, see ``build_gem``, where a strategy shares networks out), gives
            the network: a ``GemForConditionalGeneration`` or a peft wrapper of it.
        optimizer: Called with parameter groups, gives the optimiser.
        lr: Peak learning rate.
        weight_decay: For matrices; biases and norms never decay.
        warmup: Share of all steps below 1, else a number of steps.
        final_lr: Rate at the end as a share of ``lr``.
        freeze: Name patterns of parameters that do not train.
        unfreeze: Patterns taken back from ``freeze``.
        lr_by_pattern: Name pattern to its own peak rate.
        seed: Of dropout and other draws inside the network.
        nonfinite: ``stop`` or ``skip`` where a loss or gradient is not finite, see :class:`NanGuard`.
    """

    net: Any

    def __init__(
        self,
        net: Callable[..., nn.Module],
        optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.AdamW,
        lr: float = 2e-5,
        weight_decay: float = 0.0,
        warmup: float = 0.03,
        final_lr: float = 0.0,
        freeze: Iterable[str] = (),
        unfreeze: Iterable[str] = (),
        lr_by_pattern: Mapping[str, float] | None = None,
        seed: int = 0,
        nonfinite: str = "stop",
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=["net", "optimizer"])
        self.net_factory = net
        self.optimizer_factory = optimizer
        self.guard = NanGuard(nonfinite)

    def configure_model(self) -> None:
        """Build the network once, shared out where the strategy says so, and freeze what is asked."""
        if hasattr(self, "net"):
            return
        sharding = getattr(self.trainer.strategy, "sharding", None) if self._trainer is not None else None
        self.net = self.net_factory() if sharding is None else self.net_factory(shard=sharding)
        set_trainable(self.net, self.hparams["freeze"], self.hparams["unfreeze"])
        freeze_unreached(self.net)

    def on_fit_start(self) -> None:
        """``precision=bf16-true`` has rounded the buffers too: compute them again."""
        compute_buffers(self.net)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse the state of another architecture before anything is overwritten."""
        if "state_dict" in checkpoint:
            check_fit(checkpoint["state_dict"], self.state_dict())

    def train(self, mode: bool = True) -> GemLitModule:
        """Training mode; frozen parts stay in eval mode."""
        super().train(mode)
        if mode and hasattr(self, "net"):
            freeze_dead_layers(self.net)
        return self

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """What a checkpoint keeps: all weights; of adapters over a model that lies in a folder, what learns."""
        state = super().state_dict(*args, **kwargs)
        learned = held_apart(getattr(self, "net", None))
        return state if learned is None else {k: v for k, v in state.items() if k.removeprefix("net.") in learned}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Put back what :meth:`state_dict` gave."""
        strict = strict and held_apart(getattr(self, "net", None)) is None
        return super().load_state_dict(state_dict, strict, assign)

    def forward(self, **batch: Tensor) -> Any:
        """The network's own output; see ``GemForConditionalGeneration.forward``."""
        return self.net(**batch)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Mean cross-entropy of the answers' tokens, over the batches of all processes together."""
        torch.manual_seed(self._seed_of(batch))
        labels = answer_tokens(batch)
        loss = self._loss(batch, self.trainer.strategy.reduce(labels.float(), reduce_op="mean").clamp(min=1))
        self.guard.watch(loss, batch.get("ids"))
        self.log("train/loss", loss, prog_bar=True, sync_dist=self.trainer.world_size > 1, batch_size=1)
        return loss

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Log the same loss over held-out samples, weighted by their answer tokens."""
        answers = max(int(answer_tokens(batch)), 1)
        self.log("val/loss", self._loss(batch), prog_bar=True, sync_dist=True, batch_size=answers)

    def configure_optimizers(self) -> Any:
        """AdamW-like optimiser with warm-up and cosine over the whole run."""
        hp = self.hparams
        groups = parameter_groups(self.net, hp["lr"], hp["weight_decay"], hp["lr_by_pattern"])
        optimizer = self.optimizer_factory([{k: v for k, v in g.items() if k != "names"} for g in groups])
        scheduler = warmup_cosine(optimizer, int(self.trainer.estimated_stepping_batches), hp["warmup"], hp["final_lr"])
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip by the norm over all parameters, sharded ones included; log it; leave a step out that is not finite."""
        parameters = [p for p in self.parameters() if p.grad is not None]
        norm = clip_gradients(self.trainer.strategy, parameters, gradient_clip_val or float("inf"))
        self.log("train/grad_norm", norm)
        scaled = getattr(self.trainer.precision_plugin, "scaler", None) is not None
        if not self.guard.let_pass(norm, scaled):
            for parameter in parameters:
                parameter.grad = None
            self.log("train/skipped_steps", float(self.guard.skipped))

    def _loss(self, batch: dict[str, Any], divisor: Tensor | None = None) -> Tensor:
        inputs = {k: v for k, v in batch.items() if k not in ("ids", "counts")}
        if self.trainer.world_size > 1:
            inputs = with_every_modality(inputs, self.net.config)
        return self.net(**inputs, return_logits=False, num_items_in_batch=divisor).loss

    def _seed_of(self, batch: dict[str, Any]) -> int:
        """Drawn anew from what the batch is, so that a resumed run drops the same units."""
        key = repr((self.hparams["seed"], self.trainer.global_step, batch.get("ids"))).encode()
        return int.from_bytes(hashlib.blake2b(key, digest_size=7).digest(), "little")
