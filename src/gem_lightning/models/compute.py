"""Compute options: dtypes, kernels, activation recomputation and compilation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import create_selective_checkpoint_contexts
from transformers.modeling_layers import GradientCheckpointingLayer

from gem_lightning.errors import GemError

ATTENTIONS = ("sdpa", "eager", "flash_attention_2", "flex_attention")
_DTYPES = ("float32", "bfloat16", "float16", "float64")

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


@dataclass(frozen=True)
class Kernels:
    """Implementations of a network's parts; they change speed and memory, not the result.

    Attributes:
        attention: One of :data:`ATTENTIONS`.
        loss: ``auto`` (Liger's fused kernel on a GPU where it is installed, else chunks), ``chunked``, or ``liger``,
            which is an error where it cannot run.
        compile: ``torch.compile`` each layer of the language model; a string names the backend.
    """

    attention: str = "sdpa"
    loss: str = "auto"
    compile: bool | str = False


def as_dtype(dtype: str | torch.dtype) -> torch.dtype:
    """Return a dtype of weights by its name.

    Raises:
        GemError: There is none of this name.
    """
    if isinstance(dtype, str) and dtype not in _DTYPES:
        raise GemError(f"expected dtype to be one of {_DTYPES}, got {dtype!r}")
    return getattr(torch, dtype) if isinstance(dtype, str) else dtype


def check_compute(arguments: Mapping[str, Any]) -> None:
    """Refuse what no network can be computed with, before one is built.

    Args:
        arguments: Of :func:`gem_lightning.models.build_gem`.

    Raises:
        GemError: An unknown dtype, attention, backend of ``torch.compile``, or way to recompute; or flash-attn, which
            is no extra of this package, is not installed.
    """
    as_dtype(arguments.get("dtype") or "float32")
    kernels = arguments.get("kernels") or Kernels()
    attention, backend = kernels.attention, kernels.compile
    if attention not in ATTENTIONS:
        raise GemError(f"expected attention to be one of {ATTENTIONS}, got {attention!r}")
    if attention == "flash_attention_2" and find_spec("flash_attn") is None:
        raise GemError("expected flash-attn for attention=flash_attention_2, got none; pip install flash-attn, or sdpa")
    if isinstance(backend, str) and backend not in torch.compiler.list_backends(exclude_tags=()):  # type: ignore
        raise GemError(
            f"expected compile to be true, false or one of {torch.compiler.list_backends()}, got {backend!r}"
        )
    _check_recompute(arguments.get("gradient_checkpointing") or False)


def recompute(model: Any, how: bool | int | str) -> None:
    """Choose which activations of the language model are computed again in the backward pass.

    Args:
        model: A ``GemForConditionalGeneration``, changed in place.
        how: False keeps all; True keeps only what enters a layer (a third more FLOPs); a number n does so in every
            n-th layer; ``selective`` keeps matrix products and attention and computes the rest again (about no FLOPs).

    Raises:
        GemError: Something else.
    """
    _check_recompute(how)
    if not how:
        return
    options: dict[str, Any] = {"use_reentrant": False}
    if how == "selective":
        options["context_fn"] = partial(create_selective_checkpoint_contexts, _KEPT)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=options)
    every = 1 if how == "selective" else int(how)
    for number, layer in enumerate(language_layers(model)):
        layer.gradient_checkpointing = number % every == 0


def recomputes(model: Any) -> bool:
    """Return whether some layer of a network computes its activations again in the backward pass."""
    return any(getattr(part, "gradient_checkpointing", False) for part in model.modules())


def _check_recompute(how: bool | int | str) -> None:
    if how != "selective" and not (isinstance(how, int) and how >= 0):
        raise GemError(f"expected gradient_checkpointing to be true, false, selective or a number, got {how!r}")


def compile_layers(model: nn.Module, backend: bool | str = True) -> None:
    """``torch.compile`` each layer of the language model by itself: alike layers share one compilation.

    Args:
        model: Changed in place; names of parameters stay.
        backend: Of ``torch.compile``; True takes inductor.
    """
    for layer in language_layers(model):
        layer.compile(backend="inductor" if backend is True else backend)


def language_layers(model: Any) -> list[Any]:
    """List the language model's layers of a ``GemForConditionalGeneration`` or a peft wrapper of it, in order."""
    body = model.get_base_model().model if hasattr(model, "get_base_model") else model.model
    return [module for module in body.language_model.modules() if isinstance(module, GradientCheckpointingLayer)]
