"""Batched generation for any mix of modalities; each sample's answer is the one it gets alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from gem_lightning.models.processing_gem import as_device


@torch.inference_mode()
def generate_texts(
    model: Any,
    processor: Any,
    examples: Sequence[Mapping[str, Any]],
    max_new_tokens: int = 512,
    batch_size: int = 8,
    **settings: Any,
) -> list[str]:
    """Generate answers, greedily unless ``settings`` differ.

    Args:
        model: A ``GemForConditionalGeneration`` or a peft wrapper of it.
        processor: Its ``GemProcessor``.
        examples: Each with ``question`` (or ``conversation``) and, where there are any, ``record`` and ``image``; a
            list of records or images goes to the markers in the question.
        max_new_tokens: Longest answer.
        batch_size: Examples at a time; the longest come together.
        **settings: For ``generate``.

    Returns:
        One text per example, in their order.
    """
    parameter = next(p for p in model.parameters() if p.dtype.is_floating_point)
    training = model.training
    model.eval()
    texts = [""] * len(examples)
    try:
        items = [_encode(processor, example) for example in examples]
        order = sorted(range(len(items)), key=lambda index: -len(items[index]["input_ids"]))
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            batch = as_device(processor.pad([items[row] for row in rows], "left"), parameter.device, parameter.dtype)
            del batch["labels"]
            options = {"do_sample": False, "max_new_tokens": max_new_tokens, "pad_token_id": processor.pad_id}
            ids = model.generate(**batch, **options | settings)
            new = ids[:, batch["input_ids"].shape[1] :]
            for row, text in zip(rows, processor.tokenizer.batch_decode(new, skip_special_tokens=True)):
                texts[row] = text.strip()
    finally:
        model.train(training)
    return texts


def _encode(processor: Any, example: Mapping[str, Any]) -> dict[str, Any]:
    conversation = example.get("conversation") or [{"from": "human", "value": example["question"]}]
    ecgs, images = (_as_list(example.get(name)) for name in ("record", "image"))
    from gem_lightning.models.placeholders import read_messages, share_out

    messages, own_ecgs, own_images = share_out(
        [read_messages(conversation)], [ecgs] if ecgs else [], [images] if images else []
    )[0]
    return processor.encode(messages, own_ecgs, own_images, add_generation_prompt=True)


def _as_list(value: Any) -> list[Any]:
    return [] if value is None else list(value) if isinstance(value, (list, tuple)) else [value]
