"""Batched generation for any mix of modalities; each sample's answer is the one it gets alone."""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import takewhile
from typing import Any

import torch
import torch.distributed as dist
from transformers import LogitsProcessor, LogitsProcessorList

from gem_lightning.errors import DataError
from gem_lightning.models.chat.placeholders import read_messages, share_out
from gem_lightning.models.configuration_gem import IGNORE_INDEX
from gem_lightning.models.fusion import keep_tower_outputs
from gem_lightning.models.inference.cache import growing_cache
from gem_lightning.models.inference.rows import decode_rows
from gem_lightning.models.processing_gem import as_device

LEAST_SHARED = 4  # tokens that are worth a forward pass of their own (ours)
#: Settings of ``generate`` that make a cache of their own or run the prompt through another model too.
_OWN_CACHE = {
    "use_cache",
    "cache_implementation",
    "past_key_values",
    "num_beams",
    "assistant_model",
    "prompt_lookup_num_tokens",
}

#: Settings of ``generate`` under which an ended row may leave its batch.
_BY_ROW = {"streamer", "stopping_criteria", "logits_processor", "do_sample", "temperature", "top_k", "top_p"}


def generate_texts(
    model: Any,
    processor: Any,
    examples: Sequence[Mapping[str, Any]],
    max_new_tokens: int = 512,
    batch_size: int = 8,
    seeds: Sequence[int] | None = None,
    **settings: Any,
) -> list[str]:
    """Generate answers, greedily unless ``settings`` differ.

    Args:
        model: A ``GemForConditionalGeneration`` or a peft wrapper of it.
        processor: Its ``GemProcessor``.
        examples: Each with ``question`` (or ``conversation``) and, where there are any, ``record`` and ``image``; a
            list of records or images goes to the markers in the question.
        max_new_tokens: Longest answer; shortened to what the model's context leaves.
        batch_size: Examples at a time; the longest come together.
        seeds: One per example: with ``do_sample=True`` its answer depends on this seed alone, not on its batch.
        **settings: For ``generate``; those that give several texts per example are refused.

    Returns:
        One text per example, in their order.

    Raises:
        DataError: A setting, batch size or number of seeds that cannot hold, or a prompt longer than the context.
    """
    items = [encode_example(processor, example) for example in examples]
    return generate_encoded(model, processor, items, max_new_tokens, batch_size, seeds, **settings)


@torch.inference_mode()
@keep_tower_outputs()  # a record may have several questions
def generate_encoded(
    model: Any,
    processor: Any,
    items: Sequence[Mapping[str, Any]],
    max_new_tokens: int = 512,
    batch_size: int = 8,
    seeds: Sequence[int] | None = None,
    **settings: Any,
) -> list[str]:
    """As :func:`generate_texts` for what :func:`encode_example` has made of the examples.

    Raises:
        DataError: As there.
    """
    _check(items, batch_size, seeds, settings)
    training = model.training
    model.eval()
    texts = [""] * len(items)
    try:
        order = sorted(range(len(items)), key=lambda index: -len(items[index]["input_ids"]))
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            some = [items[row] for row in rows]
            batch = _batch(model, processor, some, own_cache=bool(settings.keys() & _OWN_CACHE))
            length = batch["input_ids"].shape[1]
            options = generation_options(model, processor, length, max_new_tokens, settings)
            if seeds is not None and options["do_sample"]:
                own = SeededSampling([seeds[row] for row in rows])
                options["logits_processor"] = LogitsProcessorList([*options.get("logits_processor", ()), own])
            sharded = dist.is_initialized() and dist.get_world_size() > 1  # all ranks are needed at each step
            if settings.keys() <= _BY_ROW and not sharded:
                options["custom_generate"] = partial(decode_rows, streamer=settings.get("streamer"))
            out = model.generate(**batch, **options)
            ids = out if isinstance(out, torch.Tensor) else out.sequences
            answers = processor.tokenizer.batch_decode(ids[:, length:], skip_special_tokens=True)
            for row, text in zip(rows, answers, strict=True):
                texts[row] = text.strip()
    finally:
        model.train(training)
    return texts


def shared_text(model: Any, items: Sequence[Mapping[str, Any]]) -> int:
    """Count the tokens that all prompts of a batch begin with, up to the first signal or image; 0 where few."""
    media = (model.config.ecg_token_id, model.config.image_token_id)
    columns = zip(*(item["input_ids"] for item in items))
    same = sum(1 for _ in takewhile(lambda column: len(set(column)) == 1 and column[0] not in media, columns))
    return same if len(items) > 1 and same >= LEAST_SHARED else 0


def _batch(model: Any, processor: Any, items: Sequence[Mapping[str, Any]], own_cache: bool) -> dict[str, Any]:
    """Make inputs of ``generate``; without a cache of its own, what all prompts begin with is read once."""
    shared = 0 if own_cache else shared_text(model, items)
    parameter = next(p for p in model.parameters() if p.dtype.is_floating_point)
    own = [{**item, **{name: item[name][shared:] for name in ("input_ids", "labels")}} for item in items]
    batch = dict(as_device(processor.pad(own, "left"), parameter.device, parameter.dtype))
    del batch["labels"]
    if own_cache:
        return batch
    cache = batch["past_key_values"] = growing_cache(model)
    if shared:
        first = torch.as_tensor([items[0]["input_ids"][:shared]], device=parameter.device)
        model(input_ids=first, past_key_values=cache, use_cache=True, logits_to_keep=1)
        cache.batch_repeat_interleave(len(items))
        first = first.expand(len(items), -1)
        for name, before in (("input_ids", first), ("attention_mask", torch.ones_like(first))):
            batch[name] = torch.cat([before, batch[name]], dim=1)
    return batch


def generation_options(
    model: Any, processor: Any, prompt: int, max_new_tokens: int, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Complete settings of ``generate`` for a prompt of so many tokens.

    Raises:
        DataError: A setting that gives several texts per record, or a prompt that fills the context.
    """
    if settings.get("num_return_sequences", 1) != 1:
        count = settings["num_return_sequences"]
        raise DataError(f"expected one text per record, got num_return_sequences={count}; vary seed= instead")
    options = {"do_sample": False, "pad_token_id": processor.pad_id, **settings}
    options["max_new_tokens"] = _room(model, prompt, max_new_tokens)
    if "stop_strings" in options:
        options["tokenizer"] = processor.tokenizer
    return options


@torch.inference_mode()
def option_likelihoods(
    model: Any, processor: Any, example: Mapping[str, Any], options: Sequence[str], batch_size: int = 16
) -> dict[str, float]:
    """Compute the probability of each option as the complete answer.

    The towers and the part of the prompt that all options share run once.

    Args:
        model: A ``GemForConditionalGeneration`` or a peft wrapper of it.
        processor: Its ``GemProcessor``.
        example: As in :func:`generate_texts`, with ``question``.
        options: Answers.
        batch_size: Options at a time.

    Returns:
        Option → probability: exp of the sum over its tokens' log-probabilities.

    Raises:
        DataError: There is no option.
    """
    if not options:
        raise DataError("expected at least one option, got none")
    messages, ecgs, images = _messages(example)
    items = [processor.encode([*messages, {"from": "gpt", "value": option}], ecgs, images) for option in options]
    shared = shared_prompt(items)
    prompt = {**items[0], **{k: items[0][k][:shared] for k in ("input_ids", "labels")}}
    tails = [{k: item[k][shared:] for k in ("input_ids", "labels")} for item in items]
    logits, cache = read_prompt(model, processor, prompt)
    scores = continuation_scores(model, processor, logits, cache, shared, tails, batch_size)
    return {option: math.exp(score) for option, (score, _) in zip(options, scores, strict=True)}


def shared_prompt(items: Sequence[Mapping[str, Any]]) -> int:
    """Count the tokens that encoded conversations with different answers begin with, at most up to an answer."""
    before = [next(at for at, label in enumerate(item["labels"]) if label != IGNORE_INDEX) for item in items]
    columns = zip(*(item["input_ids"][:at] for item, at in zip(items, before, strict=True)))
    return sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, columns))


@torch.inference_mode()
def read_prompt(model: Any, processor: Any, item: Mapping[str, Any]) -> tuple[torch.Tensor, Any]:
    """Return logits (1, 1, V) after an encoded prompt, and its cache."""
    parameter = next(p for p in model.parameters() if p.dtype.is_floating_point)
    batch = as_device(processor.pad([item]), parameter.device, parameter.dtype)
    del batch["labels"]
    out = model(**batch, use_cache=True, logits_to_keep=1)
    return out.logits[:, -1:], out.past_key_values


def reusable(cache: Any, held: Sequence[int], ids: Sequence[int]) -> Any:
    """Cut a cache to what its tokens ``held`` have in common with new ids; None where nothing can be used."""
    if cache is None or not hasattr(cache, "crop") or any(getattr(cache, "is_sliding", [False])):
        return None
    length = cache.get_seq_length()
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(held[:length], ids[:-1])))
    if not same:
        return None
    if same < length:
        cache.crop(same - length)  # negative: tokens to remove
    return cache


@torch.inference_mode()
def continuation_scores(
    model: Any,
    processor: Any,
    logits: torch.Tensor,
    cache: Any,
    shared: int,
    items: Sequence[Mapping[str, Any]],
    batch_size: int = 16,
) -> list[tuple[float, int]]:
    """Score items that continue one prompt.

    Args:
        model: A ``GemForConditionalGeneration`` or a peft wrapper of it.
        processor: Its ``GemProcessor``.
        logits: (1, 1, V) after the prompt's last token.
        cache: Of the prompt; left as it is.
        shared: Tokens of the prompt.
        items: ``input_ids`` and ``labels`` after the prompt.
        batch_size: Items at a time.

    Returns:
        Sum of the log-probabilities of each item's labelled tokens, and their number.
    """
    found: list[tuple[float, int]] = []
    for at in range(0, len(items), batch_size):
        found += _continuations(model, processor, logits, cache, shared, items[at : at + batch_size])
    return found


def _continuations(
    model: Any, processor: Any, first: torch.Tensor, cache: Any, shared: int, items: Sequence[Mapping[str, Any]]
) -> list[tuple[float, int]]:
    count = len(items)
    cache = copy.deepcopy(cache)
    cache.batch_repeat_interleave(count)
    batch = as_device(processor.pad(items), first.device)
    labels = batch.pop("labels")
    batch["attention_mask"] = torch.cat([batch["attention_mask"].new_ones(count, shared), batch["attention_mask"]], 1)
    logits = model(**batch, past_key_values=cache, use_cache=True).logits[:, :-1]
    logits = torch.cat([first.expand(count, -1, -1), logits], dim=1)  # (options, tokens, V)
    wanted = labels != IGNORE_INDEX
    chosen = logits.float().log_softmax(-1).gather(-1, labels.masked_fill(~wanted, 0)[..., None])[..., 0]
    return list(zip((chosen * wanted).sum(1).tolist(), wanted.sum(1).tolist(), strict=True))


class SeededSampling(LogitsProcessor):
    """Sampling with one generator per row: Gumbel noise on the log-probabilities, then the largest.

    ``argmax(log p + Gumbel)`` is distributed as p, so this samples what ``generate`` would, after its temperature and
    top-k or top-p, and independently of the other rows of the batch.

    Args:
        seeds: One per row.
    """

    def __init__(self, seeds: Sequence[int]) -> None:
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Leave one token possible in each row of ``scores`` (rows, vocabulary)."""
        noise = torch.stack([torch.rand(scores.shape[1], generator=g) for g in self.generators]).to(scores.device)
        tiny = torch.finfo(torch.float32).tiny  # log(0) would be infinite
        noisy = scores.float() - torch.log((-torch.log(noise.clamp_min(tiny))).clamp_min(tiny))
        chosen = noisy.argmax(1, keepdim=True)
        return torch.full_like(scores, -torch.inf).scatter(1, chosen, 0.0)


def record_seed(seed: int, name: str) -> int:
    """Derive the sampling seed of one record from the run's seed and the record's own name."""
    # 7 bytes: torch's generators take seeds below 2**63
    return int.from_bytes(hashlib.sha256(f"{seed}\0{name}".encode()).digest()[:7], "big")


def _check(examples: Sequence[Any], batch_size: int, seeds: Sequence[int] | None, settings: Mapping[str, Any]) -> None:
    if batch_size < 1:
        raise DataError(f"expected a batch size of at least 1, got {batch_size}")
    if seeds is not None and len(seeds) != len(examples):
        raise DataError(f"expected {len(examples)} seeds, one per example, got {len(seeds)}")
    if seeds is not None and settings.get("num_beams", 1) > 1 and settings.get("do_sample"):
        raise DataError("expected sampling without beams where each record has its seed, got both; leave num_beams out")


def _room(model: Any, prompt: int, wanted: int) -> int:
    """Tokens that may follow a prompt.

    Raises:
        DataError: The prompt alone fills the context.
    """
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if limit is None:
        return wanted
    if prompt >= limit:
        raise DataError(f"expected a prompt of fewer than {limit} tokens, got {prompt}; shorten the question")
    return min(wanted, limit - prompt)


def encode_example(processor: Any, example: Mapping[str, Any]) -> dict[str, Any]:
    """Encode an example of :func:`generate_texts` up to the start of its answer."""
    return processor.encode(*_messages(example), add_generation_prompt=True)


def _messages(example: Mapping[str, Any]) -> tuple[list[dict[str, str]], list[Any], list[Any]]:
    """An example's conversation, ECGs and images."""
    conversation = example.get("conversation") or [{"from": "human", "value": example["question"]}]
    ecgs, images = (_as_list(example.get(name)) for name in ("record", "image"))
    return share_out([read_messages(conversation)], [ecgs] if ecgs else [], [images] if images else [])[0]


def _as_list(value: Any) -> list[Any]:
    return [] if value is None else list(value) if isinstance(value, (list, tuple)) else [value]
