"""LightningModule that trains a GEM by group relative policy optimisation (arXiv:2402.03300)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from typing import Any

import torch
from lightning.pytorch.strategies import FSDPStrategy
from torch import Tensor, nn

from gem_lightning.errors import GemError
from gem_lightning.lit.gem_module import GemLitModule
from gem_lightning.lit.optim import Optimization
from gem_lightning.lit.reference import Reference
from gem_lightning.models.compute import recomputes
from gem_lightning.rl.logps import completion_logps
from gem_lightning.rl.objective import GrpoOptions, group_advantages, k3_divergence, policy_loss
from gem_lightning.rl.report import ratios, rows_of, step_metrics, totals
from gem_lightning.rl.rewards import Reward
from gem_lightning.rl.rollout import Completions, LocalRollout, RolloutBackend, rollout_seeds


class GrpoModule(GemLitModule):
    """Policy training of a GEM: its own completions, rewarded, each compared with the others of its prompt.

    A batch of prompts is answered by the policy, rewarded, and fed to ``options.updates`` optimiser steps. Dropout is
    off, so that rollout and objective see one distribution. The seeds of the rollout follow from seed, step and prompt:
    a resumed run writes the same texts.

    Args:
        net: As for :class:`GemLitModule`.
        reward: Rewards completions.
        rollout: Samples them.
        options: Of the objective.
        optim: Optimiser and schedule.
        freeze: Name patterns of parameters that do not train.
        unfreeze: Patterns excluded from ``freeze``.
        lr_by_pattern: Name pattern to its own peak learning rate.
        seed: Of the rollouts.
        nonfinite: ``stop`` or ``skip`` a step whose loss or gradient is not finite.

    Attributes:
        written: The last batch's completions as rows of a log.
    """

    def __init__(
        self,
        net: Callable[..., nn.Module],
        reward: Reward,
        rollout: RolloutBackend | None = None,
        options: GrpoOptions | None = None,
        optim: Optimization | None = None,
        freeze: Iterable[str] = (),
        unfreeze: Iterable[str] = (),
        lr_by_pattern: Mapping[str, float] | None = None,
        seed: int = 0,
        nonfinite: str = "stop",
    ) -> None:
        super().__init__(net, optim, freeze, unfreeze, lr_by_pattern, seed, nonfinite)
        self.automatic_optimization = False
        self.reward, self.options = reward, options or GrpoOptions()
        self.rollout: RolloutBackend = LocalRollout() if rollout is None else rollout
        self.reference: Reference | None = None
        self.written: list[dict[str, Any]] = []
        self._validated: Counter[str] = Counter()

    def configure_model(self) -> None:
        """Build the network, and the reference where the objective needs one."""
        super().configure_model()
        if self.reference is None and self.options.beta > 0:
            self.reference = Reference(self.net, self.build_net)

    def on_fit_start(self) -> None:
        """Refuse precisions that scale the loss, and bring the reference to the device."""
        super().on_fit_start()
        if getattr(self.trainer.precision_plugin, "scaler", None) is not None:
            raise GemError("expected trainer.precision of 32-true, bf16-true or bf16-mixed for GRPO, got 16-mixed")
        if self.reference is not None:
            self.reference.to(self.device)

    def configure_optimizers(self) -> Any:
        """Return optimiser and schedule over the optimiser steps of the whole run."""
        trainer = self.trainer
        steps = int(trainer.estimated_stepping_batches)
        if steps != trainer.max_steps:  # Lightning counts one step a batch
            steps *= self.options.updates
        return self.optim.configure(self.net, steps, self.lr_by_pattern)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Tensor]:  # type: ignore[override]
        """Write, reward and compare completions; then take the optimiser steps of this batch."""
        options, step = self.options, self.trainer.global_step
        done = self._sample(batch, rollout_seeds(self.seed, step, batch["ids"], options.group))
        rewarded = self.reward(done.texts, done.mask.sum(1).tolist(), done.ended.tolist(), batch["facts"])
        rewards = torch.tensor([r.total for r in rewarded], device=self.device).view(-1, options.group)
        advantages = group_advantages(rewards, options.scale).flatten()
        self.written = rows_of(step, batch["ids"], done, rewarded, advantages)
        prompts = len(batch["items"])
        if prompts % options.updates:
            raise GemError(
                f"expected data.batch_size in equal parts for options.updates={options.updates}, got {prompts} prompts"
            )
        each, sums = prompts // options.updates, torch.zeros(3, device=self.device)
        for at in range(0, prompts, each):
            span = slice(at * options.group, (at + each) * options.group)
            part = done.rows(span.start, span.stop)
            sums += self._update(batch["items"][at : at + each], part, advantages[span], batch["ids"])
        objective = dict(zip(("loss", "divergence", "clipped"), (sums / options.updates).tolist()))
        values = {f"train/{name}": value for name, value in (step_metrics(rewards, rewarded, done) | objective).items()}
        self.log_dict(values, sync_dist=self.trainer.world_size > 1, batch_size=1)
        return {"loss": sums[0] / options.updates}

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Log the reward of the most likely answers."""
        self._log_answers("val", batch)

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Log the same over test samples."""
        self._log_answers("test", batch)

    def _update(self, items: list[Any], part: Completions, advantages: Tensor, ids: list[Any]) -> Tensor:
        """Take one optimiser step; returns loss, divergence and share of clipped tokens, each a mean over tokens."""
        options, group = self.options, self.options.group
        tokens = self.trainer.strategy.reduce(part.mask.sum().float(), reduce_op="mean").clamp(min=1)
        old = self._old_logps(items, part)
        optimizer: Any = self.optimizers()
        optimizer.zero_grad()
        found = torch.zeros(3, device=self.device)
        for at in range(0, len(items), options.micro_prompts):
            some = items[at : at + options.micro_prompts]
            span = slice(at * group, (at + len(some)) * group)
            rows = part.rows(span.start, span.stop)
            before = None if old is None else old[span, : rows.ids.shape[1]]
            with self._without_sync(last=at + len(some) == len(items)):
                loss, parts = self._objective(some, rows, advantages[span], before)
                self.manual_backward(loss / tokens)
            found += parts
        found /= tokens
        self.guard.watch(found[0], ids)
        self.configure_gradient_clipping(optimizer, options.max_grad_norm)
        optimizer.step()
        schedule: Any = self.lr_schedulers()
        schedule.step()
        return found

    def _objective(
        self, items: list[Any], rows: Completions, advantages: Tensor, old: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Sum the objective over the tokens of some groups; also (3,): the sum, the divergence, the clipped tokens."""
        logps = self._logps(self.net, items, rows)
        loss, clipped = policy_loss(logps, logps.detach() if old is None else old, advantages, rows.mask, self.options)
        divergence = loss.new_zeros(())
        if self.reference is not None:
            with self.reference.network(self.net) as reference:
                before = self._logps(reference, items, rows)
            divergence = k3_divergence(logps, before, rows.mask)
            loss = loss + self.options.beta * divergence
        return loss, torch.stack([loss.detach(), divergence.detach(), clipped])

    def _logps(self, net: Any, items: list[Any], rows: Completions) -> Tensor:
        # eval mode but for layers that recompute: they do so in training mode only, and keep no cache
        net.train(recomputes(net) and torch.is_grad_enabled())
        temperature = self.rollout.temperature or 1.0
        logps = completion_logps(net, self.encode, items, rows.ids, rows.mask, temperature, not net.training)
        net.eval()
        return logps

    def _old_logps(self, items: list[Any], part: Completions) -> Tensor | None:
        """Log-probabilities under the policy that wrote; None where that is the policy itself."""
        if self.options.updates == 1:
            return None
        if part.logps is not None:
            return part.logps
        with torch.no_grad():
            return self._logps(self.net, items, part)

    def _sample(self, batch: dict[str, Any], seeds: list[int], rollout: RolloutBackend | None = None) -> Completions:
        strategy, processor = self.trainer.strategy, self.trainer.datamodule.processor  # type: ignore[attr-defined]
        sharded = getattr(strategy, "sharding", None) is not None or isinstance(strategy, FSDPStrategy)
        write = self.rollout if rollout is None else rollout
        self.net.eval()
        return write(self.net, processor, self.encode, batch["items"], seeds, sharded)

    def _without_sync(self, last: bool) -> Any:
        block = getattr(self.trainer.strategy, "block_backward_sync", None)
        return nullcontext() if last or block is None else block()

    def _log_answers(self, stage: str, batch: dict[str, Any]) -> None:
        greedy = LocalRollout(getattr(self.rollout, "max_new_tokens", 256), 0.0, len(batch["items"]))
        done = self._sample(batch, rollout_seeds(self.seed, 0, batch["ids"], 1), greedy)
        rewarded = self.reward(done.texts, done.mask.sum(1).tolist(), done.ended.tolist(), batch["facts"])
        size = len(rewarded)
        options: dict[str, Any] = {"sync_dist": self.trainer.world_size > 1, "batch_size": size}
        self.log(f"{stage}/reward", sum(r.total for r in rewarded) / size, prog_bar=True, **options)
        self.log(f"{stage}/tokens", float(done.mask.sum()) / size, **options)
        self._validated.update(totals(rewarded))

    def on_validation_epoch_end(self) -> None:
        """Log precision and coverage over all answers."""
        self._log_ratios("val")

    def on_test_epoch_end(self) -> None:
        """Log the same over test samples."""
        self._log_ratios("test")

    def _log_ratios(self, stage: str) -> None:
        counts, self._validated = self._validated, Counter()
        values = {f"{stage}/{name}": value for name, value in ratios(counts).items()}
        self.log_dict(values, sync_dist=self.trainer.world_size > 1, batch_size=1)
