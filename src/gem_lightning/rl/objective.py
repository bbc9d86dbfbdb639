"""Objectives of preference and reward training: group advantages, clipped policy loss, k3 divergence, DPO."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from gem_lightning.errors import GemError

SCALES = ("std", "none")
_LEAST_SPREAD = 1e-6  # a group whose rewards are equal has no advantage instead of a division by zero


@dataclass(frozen=True)
class GrpoOptions:
    """Settings of a GRPO run.

    Attributes:
        group: Completions of each prompt, G.
        updates: Optimiser steps on the completions of one rollout, each on its own prompts.
        micro_prompts: Prompts of one forward and backward pass, with all their completions.
        clip_low: Ratio to the rollout's policy below which a token's gain no longer counts, as a distance from 1.
        clip_high: The same above 1; DAPO (arXiv:2503.14476) takes 0.28.
        beta: Weight of the divergence from the reference; 0 needs no reference.
        scale: Divide a group's advantages by the deviation of its rewards (``std``, arXiv:2402.03300) or not (``none``,
            arXiv:2503.20783).
        max_grad_norm: Gradients are scaled down to it.

    Raises:
        GemError: A setting that no run can have.
    """

    group: int = 16
    updates: int = 1
    micro_prompts: int = 8
    clip_low: float = 0.2  # PPO's value (arXiv:1707.06347)
    clip_high: float = 0.28
    beta: float = 0.04  # of arXiv:2402.03300
    scale: str = "std"
    max_grad_norm: float = 1.0

    def __post_init__(self) -> None:
        if self.group < 2:
            raise GemError(f"expected at least two completions a prompt, got group={self.group}: they are compared")
        if self.updates < 1 or self.micro_prompts < 1:
            raise GemError(
                f"expected updates and micro_prompts of at least 1, got {self.updates}, {self.micro_prompts}"
            )
        if not (0 < self.clip_low <= 1 and self.clip_high > 0 and self.beta >= 0 and self.max_grad_norm > 0):
            raise GemError(
                "expected clip_low in (0, 1], clip_high and max_grad_norm above 0 and beta of at least 0, got "
                f"{self.clip_low}, {self.clip_high}, {self.max_grad_norm}, {self.beta}"
            )
        if self.scale not in SCALES:
            raise GemError(f"expected scale to be one of {SCALES}, got {self.scale!r}")


def group_advantages(rewards: Tensor, scale: str = "std") -> Tensor:
    """Compare each completion with the others of its prompt.

    Args:
        rewards: (prompts, G).
        scale: See :class:`GrpoOptions`.

    Returns:
        (prompts, G): reward less the group's mean, over its standard deviation under ``std``; 0 where all are equal.
    """
    centred = rewards - rewards.mean(1, keepdim=True)
    if scale == "none":
        return centred
    spread = rewards.std(1, keepdim=True, correction=0)
    return torch.where(spread > _LEAST_SPREAD, centred / spread.clamp_min(_LEAST_SPREAD), torch.zeros_like(centred))


def policy_loss(
    logps: Tensor, old: Tensor, advantages: Tensor, mask: Tensor, options: GrpoOptions
) -> tuple[Tensor, Tensor]:
    """Sum the clipped surrogate of PPO over tokens, each of which weighs the same.

    Args:
        logps: (rows, T) log-probabilities of the written tokens, with a graph.
        old: (rows, T) of the policy that wrote them.
        advantages: (rows,) of each completion.
        mask: (rows, T) True where a token was written.
        options: Its clip range.

    Returns:
        The sum, to be divided by the number of tokens of the whole update, and the number of clipped tokens.
    """
    ratio = torch.exp((logps - old).masked_fill(~mask, 0.0))
    gain = advantages[:, None]
    free = ratio * gain
    held = ratio.clamp(1 - options.clip_low, 1 + options.clip_high) * gain
    loss = -torch.minimum(free, held).masked_fill(~mask, 0.0).sum()
    return loss, ((held < free) & mask).sum()


def k3_divergence(logps: Tensor, reference: Tensor, mask: Tensor) -> Tensor:
    """Sum an unbiased and never negative estimate of KL(policy || reference) over tokens.

    ``exp(r) - r - 1`` with r = log reference - log policy (J. Schulman, "Approximating KL divergence", 2020).

    Args:
        logps: (rows, T), with a graph.
        reference: (rows, T) of the reference.
        mask: (rows, T) True where a token was written.
    """
    gap = (reference - logps).masked_fill(~mask, 0.0)
    return (torch.exp(gap) - gap - 1).sum()


def dpo_loss(chosen: Tensor, rejected: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    """Compute the loss of direct preference optimisation (arXiv:2305.18290).

    Args:
        chosen: (pairs,) log-probability of each preferred text under the policy less that under the reference.
        rejected: The same of the other texts.
        beta: How strongly the reference holds.

    Returns:
        (pairs,) losses, and (pairs,) margins by which the policy prefers the preferred text.
    """
    margin = beta * (chosen - rejected)
    return -logsigmoid(margin), margin.detach()
