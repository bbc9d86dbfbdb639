"""Optimisation settings, learning-rate schedule, parameter groups and frozen parts."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from gem_lightning.errors import GemError
from gem_lightning.models.lora import plain_name


@dataclass(frozen=True)
class Optimization:
    """Optimiser and learning-rate schedule of a run; ``conf/optim`` holds the values.

    Attributes:
        optimizer: Called with parameter groups, returns the optimiser.
        lr: Peak learning rate.
        weight_decay: For matrices; biases, norms and temperatures never decay.
        warmup: Share of all steps if below 1, else a number of steps.
        final_lr: Rate at the end as a share of ``lr``.
    """

    optimizer: Callable[..., Optimizer] = torch.optim.AdamW
    lr: float = 2e-5  # learning rate and warm-up of LLaVA-1.5's second stage, which the original kept
    weight_decay: float = 0.0
    warmup: float = 0.03
    final_lr: float = 0.0

    def values(self) -> dict[str, float]:
        """Return the numbers by name, as hyperparameters for loggers and checkpoints."""
        return {name: value for name, value in asdict(self).items() if name != "optimizer"}

    def configure(
        self, network: nn.Module, steps: int, lr_by_pattern: Mapping[str, float] | None = None
    ) -> dict[str, Any]:
        """Build optimiser and scheduler as ``LightningModule.configure_optimizers`` returns them.

        Args:
            network: Its trainable parameters are optimised.
            steps: Optimiser steps of the whole run.
            lr_by_pattern: See :func:`parameter_groups`.
        """
        groups = parameter_groups(network, self.lr, self.weight_decay, lr_by_pattern)
        optimizer = self.optimizer([{k: v for k, v in g.items() if k != "names"} for g in groups])
        scheduler = warmup_cosine(optimizer, steps, self.warmup, self.final_lr)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def warmup_cosine(optimizer: Optimizer, total_steps: int, warmup: float = 0.03, final: float = 0.0) -> LambdaLR:
    """Schedule a linear warm-up, then half a cosine to ``final``.

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


#: Parts that a network may lack; the others exist in every GEM.
TOWERS = ("model.ecg_tower.", "model.vision_tower.")


def set_trainable(network: nn.Module, freeze: Iterable[str] = (), unfreeze: Iterable[str] = ()) -> list[str]:
    """Freeze parameters by name pattern; patterns of ``unfreeze`` win.

    Names are those of the plain network, also under adapters (``plain_name`` in :mod:`gem_lightning.models.lora`).

    Args:
        network: Changed in place.
        freeze: Shell patterns of parameter names, such as ``model.vision_tower.*``; those of a tower that
            the network lacks are met.
        unfreeze: Patterns excluded from ``freeze``; with adapters, also what trains whole alongside them.

    Returns:
        Names of the parameters that stay trainable.

    Raises:
        GemError: A pattern matches no parameter, or nothing remains trainable.
    """
    names = [name for name in map(plain_name, dict(network.named_parameters())) if name is not None]
    absent = [tower for tower in TOWERS if not any(name.startswith(tower) for name in names)]
    freeze = [pattern for pattern in freeze if not pattern.startswith(tuple(absent))]
    for pattern in (*freeze, *unfreeze):
        if not fnmatch.filter(names, pattern):
            parts = sorted({".".join(name.split(".")[:2]) for name in names})
            raise GemError(f"expected a pattern of parameter names, got {pattern!r}, which matches none of {parts}")
    trainable = []
    for full, parameter in network.named_parameters():
        name = plain_name(full)
        if name is None:
            continue
        if _matches(name, unfreeze):
            _check_learnable(name, parameter)
            parameter.requires_grad_(True)
        elif _matches(name, freeze):
            parameter.requires_grad_(False)
        if parameter.requires_grad:
            trainable.append(name)
    if not trainable:
        raise GemError(f"expected something to train, got everything frozen by {list(freeze)}; freeze less")
    return trainable


def freeze_unreached(network: Any) -> None:
    """Freeze layers after the features that are read, which no gradient reaches.

    DDP waits for the gradient of every parameter that requires one.

    Args:
        network: A ``GemForConditionalGeneration`` or a peft wrapper of it; changed in place.
    """
    config = network.config
    unreached = ["*vision_tower.post_layernorm.*", "*vision_tower.head.*"]
    if config.ecg_config is not None and config.ecg_config.encoder is None:
        unreached += ["*ecg_tower.ln_post.*", "*ecg_tower.proj"]
    if config.vision_config is not None:
        layers = config.vision_config.num_hidden_layers
        layer = config.vision_feature_layer
        last = layer if layer >= 0 else layers + 1 + layer  # hidden state k is the output of layer k
        unreached += [f"*vision_tower.encoder.layers.{number}.*" for number in range(last, layers)]
    if config.image_merge != "spatial_unpad":
        unreached.append("*image_newline")
    for name, parameter in network.named_parameters():
        if _matches(name, unreached):
            parameter.requires_grad_(False)


def freeze_dead_layers(network: nn.Module) -> None:
    """Set frozen sub-modules to eval mode, so that their dropout and statistics stay off."""
    for module in network.modules():
        parameters = list(module.parameters())
        if parameters and not any(p.requires_grad for p in parameters):
            module.eval()


def parameter_groups(
    network: nn.Module, lr: float, weight_decay: float = 0.0, lr_by_pattern: Mapping[str, float] | None = None
) -> list[dict[str, Any]]:
    """Group parameters: matrices decay, biases and norms do not; rates by name pattern.

    Args:
        network: Only parameters that require gradients are taken.
        lr: Peak rate where no pattern matches.
        weight_decay: For parameters of two or more dimensions.
        lr_by_pattern: Shell pattern of parameter names to peak rate; the first match counts.

    Returns:
        Groups with ``params``, ``names``, ``lr`` and ``weight_decay``.

    Raises:
        GemError: A pattern matches no trainable parameter.
    """
    rates = dict(lr_by_pattern or {})
    unused = set(rates)
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    for full, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        name = plain_name(full) or full
        pattern = next((p for p in rates if fnmatch.fnmatchcase(name, p)), None)
        unused.discard(pattern or "")
        rate = lr if pattern is None else rates[pattern]
        decay = weight_decay if parameter.ndim > 1 else 0.0
        group = groups.setdefault((rate, decay), {"params": [], "names": [], "lr": rate, "weight_decay": decay})
        group["params"].append(parameter)
        group["names"].append(name)
    if unused:
        raise GemError(
            f"expected patterns that reach trainable parameters, got {sorted(unused)}; see model.freeze, model.unfreeze"
        )
    return list(groups.values())


def _check_learnable(name: str, parameter: nn.Parameter) -> None:
    if not parameter.is_floating_point():
        raise GemError(
            f"expected weights that can train, got {name}, which is quantised; train it through lora instead"
        )


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
