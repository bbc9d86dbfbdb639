"""Decoding loop for batches: a row whose text has ended leaves the batch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

#: Rows leave the cache when so many of them have ended. Ours: leaving copies the cache, as much work as two steps.
LEAVING = 0.125


def positions(mask: Tensor) -> Tensor:
    """Count the positions (rows, S) of real tokens; padding gets any."""
    return (mask.long().cumsum(1) - 1).clamp_min(0)


def decode_rows(
    model: Any,
    input_ids: Tensor,
    logits_processor: Any,
    stopping_criteria: Any,
    generation_config: Any,
    streamer: Any = None,
    **model_kwargs: Any,  # ``generate`` passes by this name alone what it has prepared
) -> Tensor:
    """Decode greedily or by sampling, as ``generate``'s own loop, which goes on with ended rows until the last ends.

    A ``custom_generate`` of ``generate``. Processors, criteria and streamer see all rows at every step.

    Args:
        model: A ``GemForConditionalGeneration``.
        input_ids: (rows, S) prompts, padded on the left.
        logits_processor: Takes ids and scores (rows, V).
        stopping_criteria: Takes ids; returns (rows,) whether each ends.
        generation_config: ``do_sample`` and ``pad_token_id``.
        streamer: Takes the new tokens (rows,).
        **model_kwargs: ``attention_mask`` (rows, S), None without padding; ``past_key_values``, a cache that is empty
            or holds the first columns; for reading the prompts their signals and images.

    Returns:
        (rows, S + new), padded behind the end of a row.
    """
    cache, mask = model_kwargs.pop("past_key_values"), model_kwargs.pop("attention_mask", None)
    is_padded, known = mask is not None, cache.get_seq_length()
    mask = torch.ones_like(input_ids) if mask is None else mask
    data = {**model_kwargs, "input_ids": input_ids[:, known:], "position_ids": positions(mask)[:, known:]}
    ids, going = input_ids, torch.ones(len(input_ids), dtype=torch.bool, device=input_ids.device)
    rows = torch.arange(len(input_ids), device=input_ids.device)  # those in the cache
    logits = None  # of all rows; an ended one keeps its last
    while True:
        shown = mask if is_padded else None
        last = model(**data, attention_mask=shown, past_key_values=cache).logits[:, -1]
        last = last.to(torch.float32, copy=True).to(ids.device)
        logits = last if logits is None else logits.index_copy(0, rows, last)
        tokens = _chosen(logits_processor(ids, logits.clone()), generation_config.do_sample)
        ids = torch.cat([ids, torch.where(going, tokens, generation_config.pad_token_id)[:, None]], dim=1)
        going = going & ~stopping_criteria(ids, None)
        if streamer is not None:
            streamer.put(ids[:, -1].cpu())
        if not going.any():
            break
        staying = going[rows]
        if staying.sum() <= (1 - LEAVING) * len(rows):
            kept = staying.nonzero()[:, 0]
            cache.batch_select_indices(kept)
            rows, mask = rows[kept], mask[kept]
        mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)
        data = {"input_ids": ids[rows, -1:], "position_ids": mask.sum(1, keepdim=True) - 1, "use_cache": True}
    if streamer is not None:
        streamer.end()
    return ids


def _chosen(scores: Tensor, do_sample: bool) -> Tensor:
    return scores.softmax(-1).multinomial(1)[:, 0] if do_sample else scores.argmax(-1)
