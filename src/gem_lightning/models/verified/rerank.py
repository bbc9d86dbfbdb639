"""Choose the best of several texts: true, likely, free of repetition, well written."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from gem_lightning.claims.verify import verify
from gem_lightning.features.schema import EcgFeatures, Finding
from gem_lightning.models.fusion import keep_tower_outputs
from gem_lightning.models.inference.generation import continuation_scores, generate_encoded, read_prompt, record_seed
from gem_lightning.revision.grammar import faults
from gem_lightning.revision.segments import segments

_GRAM = 4  # words of a phrase that counts as repeated: shorter ones recur in every interpretation


def best_of(
    model: Any,
    processor: Any,
    item: Mapping[str, Any],
    features: EcgFeatures,
    found: Sequence[Finding],
    count: int,
    max_new_tokens: int,
    seed: int | None = None,
    settings: Mapping[str, Any] | None = None,
) -> tuple[str, int]:
    """Write ``count`` texts, the first greedily and the others sampled, and return the best with all their tokens.

    Args:
        model: The network.
        processor: Its processor.
        item: The encoded prompt.
        features: Measurements of the record.
        found: Its findings.
        count: Number of texts, at least 1.
        max_new_tokens: Longest text.
        seed: Of the sampled texts.
        settings: For ``generate``.
    """
    base = torch.initial_seed() if seed is None else seed
    own = {name: value for name, value in (settings or {}).items() if name != "do_sample"}
    texts = generate_encoded(model, processor, [item], max_new_tokens, 1, do_sample=False, **own)
    if count > 1:
        seeds = [record_seed(base, f"text {k}") for k in range(count - 1)]
        texts += generate_encoded(model, processor, [item] * (count - 1), max_new_tokens, count - 1, seeds,
                                  do_sample=True, **own)  # fmt: skip
    likely, lengths = likelihoods(model, processor, item, texts)
    scores = [score(text, features, found) + p for text, p in zip(texts, likely, strict=True)]
    return texts[max(range(count), key=lambda k: (scores[k], -k))], sum(lengths)


def score(text: str, features: EcgFeatures, found: Sequence[Finding]) -> float:
    """Return the claim score less the shares of repeated phrases and of faulty sentences.

    Each part lies in [0, 1] and they weigh the same, as does the likelihood that :func:`best_of` adds: no weight is
    fitted to a model or a database. An empty text scores 0.
    """
    sentences = [s for s in segments(text) if s.strip()]
    if not sentences:
        return 0.0
    faulty = sum(bool(faults(s, last=k == len(sentences) - 1)) for k, s in enumerate(sentences)) / len(sentences)
    return verify(text, features, findings=found).score - repetition(text) - faulty


def repetition(text: str) -> float:
    """Return the share of four-word phrases that have occurred before."""
    words = text.lower().split()
    grams = [tuple(words[k : k + _GRAM]) for k in range(len(words) - _GRAM + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


@torch.inference_mode()
@keep_tower_outputs()
def likelihoods(
    model: Any, processor: Any, item: Mapping[str, Any], texts: Sequence[str]
) -> tuple[list[float], list[int]]:
    """Compute each text's geometric mean probability of a token, and its number of tokens."""
    written = [processor.tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    logits, cache = read_prompt(model, processor, item)
    tails = [{"input_ids": ids, "labels": ids} for ids in written if ids]
    scores = iter(continuation_scores(model, processor, logits, cache, len(item["input_ids"]), tails))
    totals = [next(scores)[0] if ids else -math.inf for ids in written]
    return [math.exp(total / max(1, len(ids))) for total, ids in zip(totals, written)], [len(ids) for ids in written]
