"""Cross-entropy of the next token, with logits only where there is a label."""

from __future__ import annotations

import os
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from gem_lightning.errors import GemError, MissingExtraError
from gem_lightning.models.configuration_gem import IGNORE_INDEX

LOSSES = ("auto", "chunked", "liger")


def next_token_loss(
    hidden: Tensor,
    labels: Tensor,
    head: nn.Module,
    vocab_size: int,
    chunk_mib: int = 64,
    num_items_in_batch: Tensor | int | None = None,
    how: str = "auto",
) -> Tensor:
    """Compute the mean cross-entropy over the labelled positions; equal to the plain loss over all logits.

    Only positions whose next label counts reach ``head``, in chunks whose logits are recomputed in the backward pass,
    so memory does not grow with batch or length. Where Liger is installed (arXiv:2410.10989) its fused kernel takes the
    place of the chunks on a GPU: gradients come with the forward pass, nothing is recomputed.

    Args:
        hidden: (B, S, H) last hidden states.
        labels: (B, S); -100 is ignored.
        head: (n, H) -> (n, V).
        vocab_size: V.
        chunk_mib: Memory of one chunk's float32 logits, MiB.
        num_items_in_batch: Divisor in place of the number of labels (gradient accumulation).
        how: One of :data:`LOSSES`.

    Returns:
        Scalar float32; 0 (with a graph) where nothing is labelled.
    """
    targets = labels[:, 1:].to(hidden.device)
    counted = targets != IGNORE_INDEX
    states, targets = hidden[:, :-1][counted], targets[counted]  # (n, H), (n,)
    total = hidden.new_zeros((), dtype=torch.float32) + hidden[:0].sum().float()
    if len(targets) and _fuses(how, head, states):
        total = total + _liger()(head.weight, states, targets)
    else:
        rows = max(1, chunk_mib * 2**20 // (4 * vocab_size))  # 4 bytes: logits are float32 in the loss
        for chunk in zip(states.split(rows), targets.split(rows)):
            if torch.is_grad_enabled():
                total = total + checkpoint(_summed, *chunk, head, use_reentrant=False)
            else:
                total = total + _summed(*chunk, head)
    return total / (max(len(targets), 1) if num_items_in_batch is None else num_items_in_batch)


def check_loss(how: str, device_type: str | None = None) -> None:
    """Refuse a loss that cannot be had.

    Args:
        how: As configured.
        device_type: Where it will run, such as ``cuda``; None where that is not known yet.

    Raises:
        GemError: No such loss, or Liger without a GPU.
        MissingExtraError: Liger is not installed.
    """
    if how not in LOSSES:
        raise GemError(f"expected loss to be one of {LOSSES}, got {how!r}")
    if how == "liger" and find_spec("liger_kernel") is None:
        raise MissingExtraError("liger_kernel", "liger")
    if how == "liger" and device_type not in (None, "cuda") and not _interpreted():
        raise GemError(f"expected a GPU for loss=liger, got {device_type}; loss=auto takes Liger where it can run")


def _fuses(how: str, head: nn.Module, states: Tensor) -> bool:
    """Return whether Liger's kernel computes this loss; it reads a plain weight, and needs a label."""
    if how == "liger":
        check_loss(how, states.device.type)
        return True
    fits = type(head) is nn.Linear and head.bias is None and states.is_cuda and torch.is_grad_enabled()
    return how == "auto" and fits and find_spec("liger_kernel") is not None


@cache
def _liger() -> Any:
    from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss

    return LigerFusedLinearCrossEntropyLoss(reduction="sum", accum_dtype=torch.float32)


def _interpreted() -> bool:
    """Triton runs its kernels on the CPU, slowly: for tests."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def _summed(states: Tensor, targets: Tensor, head: nn.Module) -> Tensor:
    return nn.functional.cross_entropy(head(states).float(), targets, reduction="sum")
