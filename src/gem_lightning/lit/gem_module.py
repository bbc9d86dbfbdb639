"""LightningModule that trains a GEM on ECG conversations."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from lightning import LightningModule
from lightning.pytorch.strategies import FSDPStrategy, Strategy
from torch import Tensor, nn

from gem_lightning.errors import GemError
from gem_lightning.lit.callbacks.nan_guard import NanGuard
from gem_lightning.lit.optim import Optimization, freeze_dead_layers, freeze_unreached, set_trainable
from gem_lightning.models.compat import check_fit
from gem_lightning.models.configuration_gem import IGNORE_INDEX, GemConfig
from gem_lightning.models.lora import held_apart
from gem_lightning.models.sharding import compute_buffers
from gem_lightning.rl.logps import Encode
from gem_lightning.rl.rollout import encoder_of


class GemLitModule(LightningModule):
    """Next-token training of a GEM on ECG conversations.

    The network is built in :meth:`configure_model`, on whatever device or mesh the strategy chose, from a factory:
    so checkpoints hold no pickled module and load with ``weights_only=True``.

    Args:
        net: Called without arguments (with ``shard=``, see ``build_gem``, under a sharded strategy), returns the
            network: a ``GemForConditionalGeneration`` or a peft wrapper of it.
        optim: Optimiser and schedule.
        freeze: Name patterns of parameters that do not train.
        unfreeze: Patterns excluded from ``freeze``.
        lr_by_pattern: Name pattern to its own peak learning rate.
        seed: Of dropout and other random draws inside the network.
        nonfinite: ``stop`` or ``skip`` a step whose loss or gradient is not finite, see :class:`NanGuard`.
        auxiliary_weight: Of the ECG encoder's own loss on the targets of a batch, added to that of the texts; 0 omits
            it. The encoder needs ``supervised`` and ``loss``, as :class:`DenseTower` has them.
    """

    net: Any

    def __init__(
        self,
        net: Callable[..., nn.Module],
        optim: Optimization | None = None,
        freeze: Iterable[str] = (),
        unfreeze: Iterable[str] = (),
        lr_by_pattern: Mapping[str, float] | None = None,
        seed: int = 0,
        nonfinite: str = "stop",
        auxiliary_weight: float = 0.0,
    ) -> None:
        super().__init__()
        self.net_factory, self.optim = net, optim or Optimization()
        self.freeze_patterns, self.unfreeze_patterns = tuple(freeze), tuple(unfreeze)
        self.lr_by_pattern, self.seed = lr_by_pattern, seed
        self.auxiliary_weight = auxiliary_weight
        self.save_hyperparameters(
            self.optim.values() | {"freeze": list(freeze), "unfreeze": list(unfreeze), "seed": seed}
        )
        self.guard = NanGuard(nonfinite)

    def configure_model(self) -> None:
        """Build the network once, sharded if the strategy shards, and freeze what is configured."""
        if hasattr(self, "net"):
            return
        self.net = self.build_net()
        set_trainable(self.net, self.freeze_patterns, self.unfreeze_patterns)
        freeze_unreached(self.net)

    def build_net(self) -> nn.Module:
        """Return a network of the factory, sharded if the strategy shards."""
        sharding = getattr(self.trainer.strategy, "sharding", None) if self._trainer is not None else None
        return self.net_factory() if sharding is None else self.net_factory(shard=sharding)

    def on_fit_start(self) -> None:
        """Recompute the buffers, which ``precision=bf16-true`` has rounded too."""
        compute_buffers(self.net)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse the state of another architecture before anything is overwritten."""
        if "state_dict" in checkpoint:
            check_fit(checkpoint["state_dict"], self.state_dict())

    def train(self, mode: bool = True) -> GemLitModule:
        """Set training mode; frozen parts stay in eval mode."""
        super().train(mode)
        if mode and hasattr(self, "net"):
            freeze_dead_layers(self.net)
        return self

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """Return all weights; for adapters over a model that is in a folder, the trainable ones only."""
        state = super().state_dict(*args, **kwargs)
        learned = held_apart(getattr(self, "net", None))
        return state if learned is None else {k: v for k, v in state.items() if k.removeprefix("net.") in learned}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load the result of :meth:`state_dict`."""
        strict = strict and held_apart(getattr(self, "net", None)) is None
        return super().load_state_dict(state_dict, strict, assign)

    def forward(self, **batch: Tensor) -> Any:
        """Return the network's output; see ``GemForConditionalGeneration.forward``."""
        return self.net(**batch)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Return the mean cross-entropy of the answers' tokens over the batches of all processes."""
        torch.manual_seed(self._seed_of(batch))
        labels = answer_tokens(batch)
        divisor = self.trainer.strategy.reduce(labels.float(), reduce_op="mean").clamp(min=1)
        loss = self._supervised_loss(batch, divisor) if self.auxiliary_weight else self._loss(batch, divisor)
        self.guard.watch(loss, batch.get("ids"))
        self.log("train/loss", loss, prog_bar=True, sync_dist=self.trainer.world_size > 1, batch_size=1)
        return loss

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Log the same loss over validation samples, weighted by their answer tokens."""
        self._log_loss("val/loss", batch)

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Log the same loss over test samples."""
        self._log_loss("test/loss", batch)

    def configure_optimizers(self) -> Any:
        """Return the optimiser with warm-up and cosine decay over the whole run."""
        return self.optim.configure(self.net, int(self.trainer.estimated_stepping_batches), self.lr_by_pattern)

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip by the norm over all parameters, sharded ones included; log it; skip a step that is not finite."""
        parameters = [p for p in self.parameters() if p.grad is not None]
        norm = clip_gradients(self.trainer.strategy, parameters, gradient_clip_val or float("inf"))
        self.log("train/grad_norm", norm)
        scaled = getattr(self.trainer.precision_plugin, "scaler", None) is not None
        if not self.guard.let_pass(norm, scaled):
            for parameter in parameters:
                parameter.grad = None
            self.log("train/skipped_steps", float(self.guard.skipped))

    @property
    def encode(self) -> Encode:
        """Return what makes the network's inputs of encoded prompts, with every modality where processes need it."""
        complete = partial(with_every_modality, config=self.net.config) if self.trainer.world_size > 1 else None
        return encoder_of(self.net, self.trainer.datamodule.processor, complete)  # type: ignore[attr-defined]

    def _log_loss(self, name: str, batch: dict[str, Any]) -> None:
        answers = max(int(answer_tokens(batch)), 1)
        self.log(name, self._loss(batch), prog_bar=True, sync_dist=True, batch_size=answers)

    def _supervised_loss(self, batch: dict[str, Any], divisor: Tensor) -> Tensor:
        """Return the texts' loss plus the weighted loss of what the encoder read in the same pass."""
        tower: Any = next((part for part in self.net.modules() if hasattr(part, "supervised")), None)
        if tower is None:
            raise GemError(
                "expected an ECG encoder that takes targets for auxiliary_weight, got none; use "
                "model/net/ecg=dense_tower, or set model.auxiliary_weight=0"
            )
        with tower.supervised(batch.get("targets"), batch.get("target_rows")) as supervision:
            loss = self._loss(batch, divisor)
        own = tower.loss(supervision)
        if own is None:
            return loss
        self.log("train/encoder_loss", own, sync_dist=self.trainer.world_size > 1, batch_size=1)
        return loss + self.auxiliary_weight * own

    def _loss(self, batch: dict[str, Any], divisor: Tensor | None = None) -> Tensor:
        inputs = {k: v for k, v in batch.items() if k not in ("ids", "counts", "targets", "target_rows")}
        if self.trainer.world_size > 1:
            inputs = with_every_modality(inputs, self.net.config)
        return self.net(**inputs, return_logits=False, num_items_in_batch=divisor).loss

    def _seed_of(self, batch: dict[str, Any]) -> int:
        """Derive the seed from step and samples, so that a resumed run drops the same units."""
        key = repr((self.seed, self.trainer.global_step, batch.get("ids"))).encode()
        # 56 bits: a signed int64 holds every value
        return int.from_bytes(hashlib.blake2b(key, digest_size=7).digest(), "little")


def answer_tokens(batch: Mapping[str, Any]) -> Tensor:
    """Count the tokens of a batch that the loss is taken over, a scalar."""
    return (batch["labels"][:, 1:] != IGNORE_INDEX).sum()


def with_every_modality(inputs: Mapping[str, Any], config: GemConfig) -> dict[str, Any]:
    """Add an empty tensor for a modality that the batch lacks.

    Every process then runs every tower and computes every parameter's gradient (zeros), whatever its samples hold:
    otherwise some processes would wait for collectives that others never enter.
    """
    filled = dict(inputs)
    device = inputs["input_ids"].device
    if config.ecg_config is not None and inputs.get("ecg_values") is None:
        filled["ecg_values"] = torch.zeros(0, config.ecg_config.leads, config.ecg_config.samples, device=device)
    if config.vision_config is not None and inputs.get("pixel_values") is None:
        side = config.vision_config.image_size
        filled["pixel_values"] = torch.zeros(0, 3, side, side, device=device)
    return filled


def clip_gradients(strategy: Strategy, parameters: Sequence[nn.Parameter], limit: float) -> Tensor:
    """Scale gradients down to a norm of at most ``limit``.

    Args:
        strategy: The trainer's.
        parameters: With gradients, whole or sharded.
        limit: May be infinite.

    Returns:
        The norm over all gradients of all processes before scaling, a scalar.
    """
    if isinstance(strategy, FSDPStrategy):
        root: Any = strategy.model
        return root.clip_grad_norm_(limit)
    norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    if hasattr(norm, "full_tensor"):
        norm = norm.full_tensor()
    nn.utils.clip_grads_with_norm_(parameters, limit, norm)
    return norm
