"""Tokens for ECG reports: a small vocabulary learned offline, and the collation of pairs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gem_lightning.errors import DataError

_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def train_tokenizer(texts: Iterable[str], vocab_size: int = 2048) -> Any:
    """A lower-case WordPiece tokenizer in BERT's form whose numbers are single digits, learned from ``texts``.

    Single digits let a small model relate values it never saw whole.

    Args:
        texts: Reports.
        vocab_size: Largest number of tokens; the padding id is 0.

    Returns:
        A ``transformers`` fast tokenizer that puts ``[CLS]`` before and ``[SEP]`` behind.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.BertPreTokenizer(), pre_tokenizers.Digits(individual_digits=True)]
    )
    tokenizer.train_from_iterator(
        texts, trainers.WordPieceTrainer(vocab_size=vocab_size, special_tokens=list(_SPECIAL), show_progress=False)
    )
    cls, sep = tokenizer.token_to_id("[CLS]"), tokenizer.token_to_id("[SEP]")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", cls), ("[SEP]", sep)]
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
    """The tokenizer of a text tower, from a folder or hub id.

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
    """The tokenizer at ``source``; None takes the one in ``folder`` or learns one there, so that a run can go on."""
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


def encode_texts(tokenizer: Any, texts: Sequence[str], max_length: int = 77) -> dict[str, Tensor]:
    """``input_ids`` and ``attention_mask`` (B, L), padded to the longest and cut to ``max_length`` tokens."""
    encoded = tokenizer(list(texts), padding=True, truncation=True, max_length=max_length, return_tensors="pt")
    return {"input_ids": encoded["input_ids"], "attention_mask": encoded["attention_mask"]}


class EcgTextCollator:
    """Items of ``EcgTextDataset`` to a batch.

    A batch holds ``ecg_values`` (B, 12, T), ``input_ids`` and ``attention_mask`` (B, L), ``index`` (B,), ``epoch`` (B,)
    and, with labels, ``targets`` (B, labels).

    Args:
        tokenizer: Of the text tower.
        max_length: Longest text, tokens.
    """

    def __init__(self, tokenizer: Any, max_length: int = 77) -> None:
        self.tokenizer, self.max_length = tokenizer, max_length

    def __call__(self, items: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        """A batch from at least one item."""
        batch = encode_texts(self.tokenizer, [item["text"] for item in items], self.max_length)
        batch["ecg_values"] = torch.from_numpy(np.stack([item["ecg"] for item in items]))
        for name in ("index", "epoch"):
            batch[name] = torch.tensor([item[name] for item in items])
        if "targets" in items[0]:
            batch["targets"] = torch.from_numpy(np.stack([item["targets"] for item in items]))
        return batch
