"""Verified answers of a model to encoded prompts, in every mode."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from transformers import LogitsProcessorList

from gem_lightning.errors import DataError
from gem_lightning.features.schema import EcgFeatures, Finding
from gem_lightning.models.inference.generation import generate_encoded
from gem_lightning.models.verified.decoder import SentenceDecoder
from gem_lightning.models.verified.guide import GuidedNumbers
from gem_lightning.models.verified.rerank import best_of
from gem_lightning.revision.edit import Revision
from gem_lightning.revision.options import VerifyOptions
from gem_lightning.revision.revise import TextWriter, collect, revise_sentences
from gem_lightning.revision.reviser import Reviser

DEFAULT_TEXTS = 8  # of ``rerank``: half of the gain of 16 texts at a quarter of the rows of 32 (ours)


def verified_answer(
    model: Any,
    processor: Any,
    item: Mapping[str, Any],
    features: EcgFeatures,
    found: Sequence[Finding],
    options: VerifyOptions,
    max_new_tokens: int = 512,
    seed: int | None = None,
    question: str = "",
    **settings: Any,
) -> Revision:
    """Answer one encoded prompt under verification.

    Args:
        model: A ``GemForConditionalGeneration`` or a peft wrapper of it.
        processor: Its ``GemProcessor``.
        item: As ``encode_example`` makes it.
        features: Measurements of the record.
        found: Its findings.
        options: How.
        max_new_tokens: Longest answer.
        seed: Of what is sampled.
        question: Which a text under ``revise`` or ``guide`` has to answer, see :class:`Reviser`.
        **settings: For ``generate``.

    Raises:
        DataError: Settings that the mode does not allow, or a prompt longer than the context.
    """
    reviser = Reviser(features, found, options, question)
    if options.verify in ("revise", "guide"):
        writer = sentence_writer(model, processor, item, reviser, max_new_tokens, seed, **settings)
        for _ in revise_sentences(writer, reviser):
            pass
        return collect(reviser, writer.tokens)
    if options.verify == "report":
        raise DataError("expected guide, revise or rerank for one answer, got report; use verified_answers")
    count = options.tries or DEFAULT_TEXTS
    text, tokens = best_of(model, processor, item, features, found, count, max_new_tokens, seed=seed, settings=settings)
    return flagged(text, features, found, options, tokens)


def flagged(
    text: str, features: EcgFeatures, found: Sequence[Finding], options: VerifyOptions, tokens: int
) -> Revision:
    """Verify a finished text sentence by sentence without rewriting it; ``complete`` still adds to it."""
    reviser = Reviser(features, found, replace(options, tries=0, on_fail="flag"))
    for _ in revise_sentences(TextWriter(text), reviser):
        pass
    return collect(reviser, tokens)


def sentence_writer(
    model: Any,
    processor: Any,
    item: Mapping[str, Any],
    reviser: Reviser,
    max_new_tokens: int = 512,
    seed: int | None = None,
    **settings: Any,
) -> SentenceDecoder:
    """Build what writes sentence by sentence, with numbers guided where the reviser's options ask for it."""
    if reviser.options.verify != "guide":
        return SentenceDecoder(model, processor, item, max_new_tokens, seed, **settings)
    guide = GuidedNumbers(processor.tokenizer, reviser.facts, len(item["input_ids"]))
    settings["logits_processor"] = LogitsProcessorList([*settings.get("logits_processor", ()), guide])
    reviser.is_guided = _Since(guide)
    return SentenceDecoder(model, processor, item, max_new_tokens, seed, **settings)


class _Since:
    """Whether a guide has changed a token since it was last asked."""

    def __init__(self, guide: GuidedNumbers) -> None:
        self.guide, self.seen = guide, 0

    def __call__(self) -> bool:
        before, self.seen = self.seen, self.guide.changed
        return self.seen > before


def verified_answers(
    model: Any,
    processor: Any,
    items: Sequence[Mapping[str, Any]],
    measured: Sequence[tuple[EcgFeatures, Sequence[Finding]]],
    options: VerifyOptions,
    max_new_tokens: int = 512,
    seeds: Sequence[int] | None = None,
    questions: Sequence[str] | None = None,
    **settings: Any,
) -> Iterator[Revision]:
    """Answer several encoded prompts one after the other; arguments as :func:`verified_answer`, one of each per item.

    Without ``seeds`` what is sampled follows torch's initial seed.
    """
    if options.verify == "report":  # nothing is decided while the model writes: one batch
        size = max(1, len(items))
        texts = generate_encoded(model, processor, items, max_new_tokens, size, seeds, **settings)
        for text, (features, found) in zip(texts, measured, strict=True):
            count = len(processor.tokenizer(text, add_special_tokens=False)["input_ids"])
            yield flagged(text, features, found, options, count)
        return
    base = torch.initial_seed()
    for k, (item, (features, found)) in enumerate(zip(items, measured, strict=True)):
        seed = base + k if seeds is None else seeds[k]
        question = questions[k] if questions else ""
        yield verified_answer(
            model, processor, item, features, found, options, max_new_tokens, seed, question, **settings
        )
