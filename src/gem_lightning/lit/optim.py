"""Learning-rate schedule and parameter groups."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from gem_lightning.errors import GemError


def warmup_cosine(optimizer: Optimizer, total_steps: int, warmup: float = 0.03, final: float = 0.0) -> LambdaLR:
    """Linear warm-up, then half a cosine to ``final``.

    Args:
        optimizer: Its groups keep their own peak rates.
        total_steps: Optimiser steps of the whole run.
        warmup: Share of ``total_steps`` when below 1, else a number of steps.
        final: Rate at the end as a share of the peak.

    Returns:
        A scheduler to be stepped after every optimiser step.
    """
    if total_steps < 1:
        raise GemError(f"expected at least one training step, got {total_steps}; raise trainer.max_steps or max_epochs")
    first = max(1, round(warmup * total_steps if warmup < 1 else warmup))

    def factor(step: int) -> float:
        if step < first:
            return (step + 1) / (first + 1)
        progress = min(1.0, (step - first) / max(1, total_steps - first))
        return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * progress))

    return LambdaLR(optimizer, factor)


def set_trainable(network: nn.Module, freeze: Iterable[str] = (), unfreeze: Iterable[str] = ()) -> list[str]:
    """Freeze parameters by name pattern; patterns of ``unfreeze`` win.

    Args:
        network: Changed in place.
        freeze: Shell patterns of parameter names, such as ``model.vision_tower.*``.
        unfreeze: Patterns taken back from ``freeze``.

    Returns:
        Names of the parameters that stay trainable.

    Raises:
        GemError: A pattern matches no parameter, or nothing is left to train.
    """
    names = [name for name, _ in network.named_parameters()]
    for pattern in (*freeze, *unfreeze):
        if not fnmatch.filter(names, pattern):
            parts = sorted({".".join(name.split(".")[:2]) for name in names})
            raise GemError(f"expected a pattern of parameter names, got {pattern!r}, which matches none of {parts}")
    trainable = []
    for name, parameter in network.named_parameters():
        frozen = _matches(name, freeze) and not _matches(name, unfreeze)
        if frozen:
            parameter.requires_grad_(False)
        elif parameter.requires_grad:
            trainable.append(name)
    if not trainable:
        raise GemError(f"expected something to train, got everything frozen by {list(freeze)}; freeze less")
    return trainable


def freeze_dead_layers(network: nn.Module) -> None:
    """Frozen sub-modules go to eval mode, so that no dropout or statistic of theirs moves."""
    for module in network.modules():
        parameters = list(module.parameters())
        if parameters and not any(p.requires_grad for p in parameters):
            module.eval()


def parameter_groups(
    network: nn.Module, lr: float, weight_decay: float = 0.0, lr_by_pattern: Mapping[str, float] | None = None
) -> list[dict[str, Any]]:
    """Optimiser groups: matrices decay, biases and norms do not; rates by name pattern.

    Args:
        network: Only parameters that require gradients are taken.
        lr: Peak rate where no pattern matches.
        weight_decay: For parameters of two or more dimensions.
        lr_by_pattern: Shell pattern of parameter names to peak rate; the first match counts.

    Returns:
        Groups with ``params``, ``names``, ``lr`` and ``weight_decay``.

    Raises:
        GemError: A pattern reaches no trainable parameter.
    """
    rates = dict(lr_by_pattern or {})
    unused = set(rates)
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        pattern = next((p for p in rates if fnmatch.fnmatchcase(name, p)), None)
        unused.discard(pattern or "")
        rate = lr if pattern is None else rates[pattern]
        decay = weight_decay if parameter.ndim > 1 else 0.0
        group = groups.setdefault((rate, decay), {"params": [], "names": [], "lr": rate, "weight_decay": decay})
        group["params"].append(parameter)
        group["names"].append(name)
    if unused:
        raise GemError(f"expected patterns that reach trainable parameters, got {sorted(unused)}; see docs/training.md")
    return list(groups.values())


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
