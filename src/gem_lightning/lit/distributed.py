"""What processes have to agree on in a step: the divisor of the loss, the parts that run, the norm of the gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch.strategies import FSDPStrategy, Strategy
from torch import Tensor, nn

from gem_lightning.models.configuration_gem import IGNORE_INDEX, GemConfig


def answer_tokens(batch: Mapping[str, Any]) -> Tensor:
    """Number of tokens of a batch that the loss is taken over, a scalar."""
    return (batch["labels"][:, 1:] != IGNORE_INDEX).sum()


def with_every_modality(inputs: Mapping[str, Any], config: GemConfig) -> dict[str, Any]:
    """Inputs with an empty tensor for a modality that the batch lacks.

    So every process runs every tower and gives every parameter a gradient (of zeros), whatever its samples hold:
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
        parameters: With gradients, whole or shared out.
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
