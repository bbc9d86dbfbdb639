"""Log-probabilities of completions, with each prompt read once for all completions of its group."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from gem_lightning.models.inference.rows import positions

#: Encoded prompts to the network's inputs: padded on the left, on its device, without labels.
Encode = Callable[[Sequence[Mapping[str, Any]]], dict[str, Any]]


def completion_logps(
    model: Any,
    encode: Encode,
    items: Sequence[Mapping[str, Any]],
    ids: Tensor,
    mask: Tensor,
    temperature: float = 1.0,
    shared: bool = True,
) -> Tensor:
    """Compute the log-probability of every token of completions, with a graph where gradients are enabled.

    Args:
        model: A ``GemForConditionalGeneration`` or a peft wrapper of it.
        encode: Makes a batch of prompts.
        items: Prompts as ``GemProcessor.encode`` makes them.
        ids: (prompts * G, T) tokens that follow, the G of the first prompt first.
        mask: (prompts * G, T) True where a token was written.
        temperature: Of the policy.
        shared: Read each prompt once and let its G completions follow its cache. False reads it with each of them,
            which layers that recompute their activations need; the numbers are the same.

    Returns:
        (prompts * G, T) float32; meaningless where ``mask`` is False.
    """
    group = len(ids) // len(items)
    if shared:
        logits = _after_cache(model, encode(items), ids, mask, group)
    else:
        logits = _after_copies(model, encode([item for item in items for _ in range(group)]), ids, mask)
    return chosen_logps(logits, ids, temperature)


def chosen_logps(logits: Tensor, ids: Tensor, temperature: float = 1.0) -> Tensor:
    """Return the log-probability, float32 (rows, T), of ``ids`` (rows, T) under ``logits`` (rows, T, V)."""
    return (logits.float() / temperature).log_softmax(-1).gather(-1, ids[..., None])[..., 0]


def read_prompts(model: Any, prompts: Mapping[str, Any], group: int) -> tuple[Tensor, Any, Tensor]:
    """Read each prompt once and repeat what follows from it for the completions of its group.

    Args:
        model: The network.
        prompts: A batch, padded on the left.
        group: G.

    Returns:
        Logits (prompts * G, 1, V) of the first token; the cache of prompts * G rows; their mask (prompts * G, P).
    """
    mask = prompts["attention_mask"]
    out = model(**prompts, position_ids=positions(mask), use_cache=True, logits_to_keep=1, return_logits=True)
    cache = out.past_key_values
    cache.batch_repeat_interleave(group)
    return out.logits.repeat_interleave(group, 0), cache, mask.repeat_interleave(group, 0)


def _after_cache(model: Any, prompts: Mapping[str, Any], ids: Tensor, mask: Tensor, group: int) -> Tensor:
    first, cache, before = read_prompts(model, prompts, group)
    if ids.shape[1] == 1:
        return first
    whole = torch.cat([before, mask[:, :-1].to(before.dtype)], 1)  # nothing follows the last token: it is not read
    out = model(
        input_ids=ids[:, :-1],
        attention_mask=whole,
        position_ids=positions(whole)[:, before.shape[1] :],
        past_key_values=cache,
        use_cache=True,
        return_logits=True,
    )
    return torch.cat([first, out.logits], 1)  # (rows, T, V)


def _after_copies(model: Any, prompts: dict[str, Any], ids: Tensor, mask: Tensor) -> Tensor:
    before = prompts.pop("attention_mask")
    whole = torch.cat([before, mask.to(before.dtype)], 1)
    joined = torch.cat([prompts.pop("input_ids"), ids], 1)
    settings = {"position_ids": positions(whole), "use_cache": False, "logits_to_keep": ids.shape[1] + 1}
    out = model(input_ids=joined, attention_mask=whole, return_logits=True, **settings, **prompts)
    return out.logits[:, :-1]  # (rows, T, V)
