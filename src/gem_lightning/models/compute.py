"""What a step computes twice to save memory, and what it compiles to save time."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import create_selective_checkpoint_contexts
from transformers.modeling_layers import GradientCheckpointingLayer

from gem_lightning.errors import GemError

# Results that cost most to compute again: matrix products and attention
_KEPT = [
    torch.ops.aten.mm.default,
    torch.ops.aten.addmm.default,
    torch.ops.aten.bmm.default,
    torch.ops.aten._scaled_dot_product_flash_attention.default,
    torch.ops.aten._scaled_dot_product_efficient_attention.default,
    torch.ops.aten._scaled_dot_product_cudnn_attention.default,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default,
]


def recompute(model: Any, how: bool | int | str) -> None:
    """Choose which activations of the language model are computed again in the backward pass.

    Args:
        model: A ``GemForConditionalGeneration``, changed in place.
        how: False keeps all; True keeps only what enters a layer (a third more FLOPs); a number n does so in every
            n-th layer; ``selective`` keeps matrix products and attention and computes the rest again (about no FLOPs).

    Raises:
        GemError: Something else.
    """
    if not isinstance(how, int) and how != "selective":
        raise GemError(f"expected gradient_checkpointing to be true, false, selective or a number, got {how!r}")
    if not how:
        return
    options: dict[str, Any] = {"use_reentrant": False}
    if how == "selective":
        options["context_fn"] = partial(create_selective_checkpoint_contexts, _KEPT)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=options)
    every = 1 if how == "selective" else int(how)
    for number, layer in enumerate(language_layers(model)):
        layer.gradient_checkpointing = number % every == 0


def compile_layers(model: nn.Module, backend: bool | str = True) -> None:
    """``torch.compile`` each layer of the language model by itself: alike layers share one compilation.

    Args:
        model: Changed in place; names of parameters stay.
        backend: Of ``torch.compile``; True takes inductor.
    """
    for layer in language_layers(model):
        layer.compile(backend="inductor" if backend is True else backend)


def language_layers(model: Any) -> list[Any]:
    """The layers of the language model of a ``GemForConditionalGeneration`` or a peft wrapper of it, in order."""
    body = model.get_base_model().model if hasattr(model, "get_base_model") else model.model
    return [module for module in body.language_model.modules() if isinstance(module, GradientCheckpointingLayer)]
