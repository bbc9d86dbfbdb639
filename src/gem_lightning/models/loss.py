"""Cross-entropy of the next token, with logits only where there is a label."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from gem_lightning.models.configuration_gem import IGNORE_INDEX


def next_token_loss(
    hidden: Tensor,
    labels: Tensor,
    head: nn.Module,
    vocab_size: int,
    chunk_mib: int = 64,
    num_items_in_batch: Tensor | int | None = None,
) -> Tensor:
    """Mean cross-entropy over the labelled positions; equal to the plain loss over all logits.

    Only positions whose next label counts reach ``head``, in chunks whose logits are recomputed in the backward pass,
    so memory does not grow with batch or length.

    Args:
        hidden: (B, S, H) last hidden states.
        labels: (B, S); -100 is ignored.
        head: (n, H) -> (n, V).
        vocab_size: V.
        chunk_mib: Memory of one chunk's float32 logits, MiB.
        num_items_in_batch: Divisor in place of the number of labels (gradient accumulation).

    Returns:
        Scalar float32; 0 (with a graph) where nothing is labelled.
    """
    targets = labels[:, 1:].to(hidden.device)
    counted = targets != IGNORE_INDEX
    states, targets = hidden[:, :-1][counted], targets[counted]  # (n, H), (n,)
    rows = max(1, chunk_mib * 2**20 // (4 * vocab_size))
    total = hidden.new_zeros((), dtype=torch.float32) + hidden[:0].sum().float()
    for start in range(0, len(targets), rows):
        chunk = states[start : start + rows], targets[start : start + rows]
        if torch.is_grad_enabled():
            total = total + checkpoint(_summed, *chunk, head, use_reentrant=False)
        else:
            total = total + _summed(*chunk, head)
    return total / (max(len(targets), 1) if num_items_in_batch is None else num_items_in_batch)


def _summed(states: Tensor, targets: Tensor, head: nn.Module) -> Tensor:
    return nn.functional.cross_entropy(head(states).float(), targets, reduction="sum")
