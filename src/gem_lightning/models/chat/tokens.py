"""Prompts as token ids and labels, exactly as the slow SentencePiece tokenizers of the published models make them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer, normalizers

from gem_lightning.errors import DataError
from gem_lightning.models.configuration_gem import IGNORE_INDEX

IMAGE, ECG = "<image>", "<ecg>"
# negative ids, as in LLaVA: they never reach an embedding
IMAGE_MARKER, ECG_MARKER = -200, -201
MARKERS = {IMAGE: IMAGE_MARKER, ECG: ECG_MARKER}
SPLIT = re.compile("(<image>|<ecg>)")


@dataclass(frozen=True)
class Piece:
    """A stretch of the prompt.

    Attributes:
        text: Literal text.
        learnt: The model is to write it.
        markers: ``<image>`` and ``<ecg>`` in it stand for an image and an ECG.
    """

    text: str
    learnt: bool = False
    markers: bool = False


def encode_whole(
    pieces: Sequence[Piece], tokenizer: Any, markers: bool = True, special: bool = True
) -> tuple[list[int], list[int]]:
    """Tokenize the text between two markers at once; a token that touches a learnt character is learnt.

    Args:
        pieces: The prompt.
        tokenizer: A fast tokenizer.
        markers: Split at markers.
        special: Let the tokenizer add its first token (BOS), once.

    Returns:
        Ids with -200 and -201 at the markers, and labels.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise DataError(f"expected a fast tokenizer (character offsets), got {type(tokenizer).__name__}")
    text = "".join(piece.text for piece in pieces)
    learnt, marks, position = [], [], 0
    for piece in pieces:
        if piece.learnt:
            learnt.append((position, position + len(piece.text)))
        if markers and piece.markers:
            marks += [(position + found.start(), found.group()) for found in SPLIT.finditer(piece.text)]
        position += len(piece.text)
    ids: list[int] = []
    labels: list[int] = []
    start = 0
    for at, name in [*marks, (len(text), None)]:
        new = encode_text(text[start:at], tokenizer, special)
        drop = int(start > 0 and special and bool(new) and new[0][0] == tokenizer.bos_token_id)
        for token, left, right in new[drop:]:
            hit = right > left and any(left + start < end and right + start > begin for begin, end in learnt)
            ids.append(token)
            labels.append(token if hit else IGNORE_INDEX)
        if name is not None:
            ids.append(MARKERS[name])
            labels.append(IGNORE_INDEX)
            start = at + len(name)
    return ids, labels


def encode_text(text: str, tokenizer: Any, special: bool = True) -> list[tuple[int, int, int]]:
    """Tokenize a text and return its tokens with the characters that they cover.

    Converted SentencePiece tokenizers add the leading blank only where the text does not begin with one; the slow ones
    that the published models were trained with always add it. This does as the slow ones do.

    Args:
        text: Any text.
        tokenizer: A fast tokenizer of transformers.
        special: Let the tokenizer add its special tokens (BOS).

    Returns:
        (id, first character, character after the last) per token; equal bounds for added tokens.
    """
    scheme = getattr(getattr(tokenizer.backend_tokenizer, "pre_tokenizer", None), "prepend_scheme", None)
    if scheme == "always":
        encoded = _always_blank(tokenizer).encode(text, add_special_tokens=special)
        return [(token, *span) for token, span in zip(encoded.ids, encoded.offsets)]
    extra = int(scheme == "first" and text.startswith(" "))
    encoded = tokenizer(" " * extra + text, return_offsets_mapping=True, add_special_tokens=special)
    spans = [(max(left - extra, 0), max(right - extra, 0)) for left, right in encoded["offset_mapping"]]
    return [(token, *span) for token, span in zip(encoded["input_ids"], spans)]


def _always_blank(tokenizer: Any) -> Any:
    """Return the backend of a ``legacy`` SentencePiece tokenizer that prepends a blank to every text, made once."""
    backend = tokenizer.__dict__.get("_gem_always_blank")
    if backend is None:
        backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        backend.pre_tokenizer = None
        backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        backend.no_truncation()
        backend.no_padding()
        tokenizer.__dict__["_gem_always_blank"] = backend
    return backend


def encode_pieces(pieces: Sequence[Piece], tokenizer: Any, markers: bool = True) -> tuple[list[int], list[int]]:
    """Tokenize every piece on its own, and each line break that ends a piece too (Qwen's training does so).

    Returns:
        Ids with -200 and -201 at the markers, and labels; of what ends an answer, the line break is not learnt.
    """
    ids: list[int] = []
    labels: list[int] = []
    for piece in pieces:
        body = piece.text if piece.markers else piece.text.removesuffix("\n")
        for part in SPLIT.split(body) if markers and piece.markers else [body]:
            new = [MARKERS[part]] if markers and piece.markers and part in MARKERS else tokenizer(part)["input_ids"]
            ids += new
            labels += new if piece.learnt else [IGNORE_INDEX] * len(new)
        tail = tokenizer("\n")["input_ids"] if body != piece.text else []
        ids += tail
        labels += [IGNORE_INDEX] * len(tail)
    return ids, labels
