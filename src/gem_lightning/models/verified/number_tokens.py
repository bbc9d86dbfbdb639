"""Tokens of a vocabulary that write numbers, whatever the tokenizer: SentencePiece, BPE, digit by digit."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import numpy as np

_PART = re.compile(r" ?[−-]?[\d.,]+.*|[−-]$| [−-]?$", re.DOTALL)
_CANDIDATE = re.compile(r"[\d.,−-]")
_NUMBER = re.compile(r"[−-]?(?:\d+(?:\.\d+)?|\.\d+)")


class NumberTokens:
    """What each token of a vocabulary adds to a number.

    Args:
        tokenizer: Any tokenizer of transformers.
    """

    def __init__(self, tokenizer: Any) -> None:
        size = len(tokenizer)
        anchor = tokenizer(":", add_special_tokens=False)["input_ids"][-1:]
        before = len(tokenizer.decode(anchor))
        special = set(tokenizer.all_special_ids)
        self.size = size
        self.literal: dict[int, str] = {}
        for index, token in enumerate(tokenizer.convert_ids_to_tokens(list(range(size)))):
            if index in special or token is None or not _CANDIDATE.search(str(token)):
                continue
            text = tokenizer.decode([*anchor, index])[before:]  # as it reads behind other text
            if _PART.fullmatch(text):
                self.literal[index] = text
        # the first byte of a minus sign that the vocabulary lacks as a whole
        minus = tokenizer(":−", add_special_tokens=False)["input_ids"][len(anchor) :]
        self.minus = {minus[0]} - self.literal.keys() if len(minus) > 1 else set()
        self.allowed = lru_cache(4096)(self._allowed)

    def begins(self, index: int) -> bool:
        """Whether a token begins a number: a digit or a minus sign, also behind a blank."""
        return index in self.minus or self.literal.get(index, "").lstrip()[:1] in tuple("0123456789−-")

    def spaced(self, index: int) -> bool:
        """Whether a token brings its blank along."""
        return self.literal.get(index, "").startswith(" ")

    def _allowed(self, written: str, targets: frozenset[str], spaced: bool | None) -> np.ndarray:
        """Return (V,) whether each token may follow.

        Args:
            written: What has been written of the number.
            targets: How the whole number may be written.
            spaced: At the start: whether the token must bring a blank along; None anywhere else.
        """
        done = written in targets or (written.endswith(".") and written[:-1] in targets)
        found = np.full(self.size, done)
        for index, text in self.literal.items():
            fits = spaced is None or text.startswith(" ") == spaced
            found[index] = fits and admits(written, text if written else text.lstrip(), targets)
        if not written and not spaced:
            for index in self.minus:
                found[index] = any(target.startswith("−") for target in targets)
        elif written:
            for index in self.minus:
                found[index] = done
        return found


def admits(written: str, more: str, targets: frozenset[str]) -> bool:
    """Whether ``more`` may follow what has been written of a number so that it ends as one of ``targets``."""
    full = written + more
    if not more or any(target.startswith(full) for target in targets):
        return bool(more)
    number = _NUMBER.match(full)
    if number is None or number.group() not in targets:
        return False
    rest = full[number.end() :]
    # the number is whole: what follows must not lengthen it ("96" then ".5"), and must come behind it
    return number.end() >= len(written.rstrip(".")) and not re.match(r"[.,]?\d", rest)
