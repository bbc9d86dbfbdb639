"""Tokens for ECG reports: a small vocabulary learned offline, and the collation of pairs."""

from __future__ import annotations

import os
import re
import string
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gem_lightning.errors import DataError

_SENTENCE_END = re.compile(r"(?<=[.;])\s+")
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


# 2048 pieces cover the sentences of composed reports whole; real reports need MedCPT's vocabulary
def train_tokenizer(texts: Iterable[str], vocab_size: int = 2048) -> Any:
    """Train a lower-case tokenizer in BERT's form on the most frequent words of ``texts``, single digits and letters.

    Single digits let a small model relate values it never saw whole; an unknown word is spelled. Equal texts give an
    equal vocabulary, which the trainers of the ``tokenizers`` library do not promise.

    Args:
        texts: Reports.
        vocab_size: Largest number of tokens; the padding id is 0.

    Returns:
        A ``transformers`` fast tokenizer that puts ``[CLS]`` before and ``[SEP]`` behind.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    normalizer = normalizers.BertNormalizer(lowercase=True)
    splitter = pre_tokenizers.Sequence(
        [pre_tokenizers.BertPreTokenizer(), pre_tokenizers.Digits(individual_digits=True)]
    )
    words = Counter(w for text in texts for w, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text)))
    letters = sorted(set(string.ascii_lowercase + string.digits + string.punctuation).union(*words))
    entries = [*_SPECIAL, *letters, *(f"##{letter}" for letter in letters)]
    frequent = sorted((w for w in words if len(w) > 1), key=lambda w: (-words[w], w))
    vocabulary = {entry: i for i, entry in enumerate([*entries, *frequent][: max(vocab_size, len(entries))])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, splitter
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[(name, vocabulary[name]) for name in ("[CLS]", "[SEP]")]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )


def load_tokenizer(source: str | os.PathLike) -> Any:
    """Return the tokenizer of a text tower, from a folder or hub id.

    Raises:
        DataError: There is none, or it has no padding token.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(os.fspath(source))
    except (OSError, ValueError) as error:
        raise DataError(f"expected a tokenizer in {source}, got none: {error}") from error
    if tokenizer.pad_token_id is None:
        raise DataError(f"expected a tokenizer with a padding token in {source}, got none; choose a BERT-like one")
    return tokenizer


def tokenizer_for(
    source: str | os.PathLike | None, texts: Iterable[str], vocab_size: int, folder: str | os.PathLike
) -> Any:
    """Return the tokenizer at ``source``; None takes the one in ``folder`` or learns one there, for resumed runs."""
    if source is not None:
        return load_tokenizer(source)
    place = Path(folder)
    if not (place / "tokenizer.json").is_file():
        tokenizer = train_tokenizer(texts, vocab_size)
        partial = place.with_name(f".{place.name}.{os.getpid()}")
        tokenizer.save_pretrained(partial)
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            partial.rename(place)
        except OSError:  # another process of this run was first; theirs is equal
            import shutil

            shutil.rmtree(partial)
    return load_tokenizer(place)


# 77 tokens: the context of CLIP's and CoCa's text towers, with its two end marks
def encode_texts(tokenizer: Any, texts: Sequence[str], max_length: int = 77) -> dict[str, Tensor]:
    """``input_ids`` and ``attention_mask`` (B, L), padded to the longest and cut to ``max_length`` tokens."""
    encoded = tokenizer(list(texts), padding=True, truncation=True, max_length=max_length, return_tensors="pt")
    return {"input_ids": encoded["input_ids"], "attention_mask": encoded["attention_mask"]}


def some_sentences(text: str, share: float, rng: np.random.Generator) -> str:
    """Return a random ``share`` of the sentences of ``text``, at least one, in their order."""
    sentences = _SENTENCE_END.split(text)
    kept = rng.uniform(size=len(sentences)) < share
    kept[rng.integers(len(sentences))] = True
    return " ".join(sentence for sentence, keep in zip(sentences, kept) if keep)


class EcgTextCollator:
    """Items of ``EcgTextDataset`` to a batch.

    A batch holds ``ecg_values`` (B, 12, T), ``input_ids`` and ``attention_mask`` (B, L), ``index`` (B,), ``epoch`` (B,)
    and, with labels, ``targets`` (B, labels).

    Args:
        tokenizer: Of the text tower.
        max_length: Longest text, tokens.
        keep_sentences: Share of each text's sentences to keep, at least one, in their order: short prompts become
            familiar, and a pair shows another side each epoch. 1 keeps all.
        seed: Of what is kept; with epoch and index it decides.
    """

    def __init__(self, tokenizer: Any, max_length: int = 77, keep_sentences: float = 1.0, seed: int = 0) -> None:
        self.tokenizer, self.max_length = tokenizer, max_length
        self.keep_sentences, self.seed = keep_sentences, seed

    def __call__(self, items: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        """Return a batch from at least one item."""
        texts = [item["text"] for item in items]
        if self.keep_sentences < 1:
            keys = ([self.seed, item["epoch"], item["index"]] for item in items)
            texts = [some_sentences(t, self.keep_sentences, np.random.default_rng(key)) for t, key in zip(texts, keys)]
        batch = encode_texts(self.tokenizer, texts, self.max_length)
        batch["ecg_values"] = torch.from_numpy(np.stack([item["ecg"] for item in items]))
        for name in ("index", "epoch"):
            batch[name] = torch.tensor([item[name] for item in items])
        if "targets" in items[0]:
            batch["targets"] = torch.from_numpy(np.stack([item["targets"] for item in items]))
        return batch
