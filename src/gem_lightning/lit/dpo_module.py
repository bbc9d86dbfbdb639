"""LightningModule that trains a GEM on pairs of answers by direct preference optimisation (arXiv:2305.18290)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gem_lightning.errors import GemError
from gem_lightning.lit.gem_module import GemLitModule
from gem_lightning.lit.optim import Optimization
from gem_lightning.lit.reference import Reference
from gem_lightning.models.compute import recomputes
from gem_lightning.rl.logps import completion_logps
from gem_lightning.rl.objective import dpo_loss


class DpoModule(GemLitModule):
    """Preference training: the better of two answers becomes more likely than under the reference, the other less.

    Args:
        net: As for :class:`GemLitModule`.
        beta: How strongly the reference holds.
        optim: Optimiser and schedule.
        freeze: Name patterns of parameters that do not train.
        unfreeze: Patterns excluded from ``freeze``.
        lr_by_pattern: Name pattern to its own peak learning rate.
        seed: Of the random draws inside the network.
        nonfinite: ``stop`` or ``skip`` a step whose loss or gradient is not finite.

    Raises:
        GemError: ``beta`` is not above 0.
    """

    def __init__(
        self,
        net: Callable[..., nn.Module],
        beta: float = 0.1,  # of arXiv:2305.18290
        optim: Optimization | None = None,
        freeze: Iterable[str] = (),
        unfreeze: Iterable[str] = (),
        lr_by_pattern: Mapping[str, float] | None = None,
        seed: int = 0,
        nonfinite: str = "stop",
    ) -> None:
        super().__init__(net, optim, freeze, unfreeze, lr_by_pattern, seed, nonfinite)
        if not beta > 0:
            raise GemError(f"expected beta above 0, got {beta}")
        self.beta = beta
        self.reference: Reference | None = None

    def configure_model(self) -> None:
        """Build the network and the reference."""
        super().configure_model()
        if self.reference is None:
            self.reference = Reference(self.net, self.build_net)

    def on_fit_start(self) -> None:
        """Bring the reference to the device."""
        super().on_fit_start()
        assert self.reference is not None
        self.reference.to(self.device)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Return the mean loss of the batch's pairs."""
        torch.manual_seed(self._seed_of(batch))
        loss, margin = self._pairs(batch)
        self.guard.watch(loss, batch["ids"])
        self._log("train", loss, margin)
        return loss

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Log the same over validation pairs."""
        self._log("val", *self._pairs(batch))

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Log the same over test pairs."""
        self._log("test", *self._pairs(batch))

    def _pairs(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        processor = self.trainer.datamodule.processor  # type: ignore[attr-defined]
        answers = [{"input_ids": ids, "labels": ids} for pair in batch["answers"] for ids in pair]
        padded = processor.pad(answers)
        ids, mask = (padded[name].to(self.device) for name in ("input_ids", "attention_mask"))
        mask = mask.bool()

        def likelihoods(net: Any) -> Tensor:  # of both answers, (pairs, 2)
            logps = completion_logps(net, self.encode, batch["items"], ids, mask, shared=not recomputes(net))
            return logps.masked_fill(~mask, 0.0).sum(1).view(-1, 2)

        assert self.reference is not None
        policy = likelihoods(self.net)
        with self.reference.network(self.net) as reference:
            before = likelihoods(reference)
        gained = policy - before
        loss, margin = dpo_loss(gained[:, 0], gained[:, 1], self.beta)
        return loss.mean(), margin

    def _log(self, stage: str, loss: Tensor, margin: Tensor) -> None:
        options: dict[str, Any] = {"sync_dist": self.trainer.world_size > 1, "batch_size": len(margin)}
        self.log(f"{stage}/loss", loss.detach(), prog_bar=True, **options)
        self.log(f"{stage}/preferred", (margin > 0).float().mean(), **options)
