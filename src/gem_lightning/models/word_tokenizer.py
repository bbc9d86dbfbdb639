"""A small tokenizer for models from scratch: whole clinical words, single digits, any other text byte by byte."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from transformers import PreTrainedTokenizerFast

PACKAGED = Path(__file__).parent / "tokenizers" / "ecg_bpe.json"
_SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """The packaged tokenizer of 640 tokens, learned from composed interpretations (see :func:`learn_tokenizer`)."""
    return PreTrainedTokenizerFast(tokenizer_file=str(PACKAGED), **_SPECIAL)


def learn_tokenizer(texts: Iterable[str], vocab_size: int = 640) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer whose digits stand alone, so that a network can learn numbers place by place.

    Args:
        texts: To learn the merges from.
        vocab_size: Tokens, at least 256 bytes and the three special ones.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(_SPECIAL.values()),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **_SPECIAL)
