"""Every claim of a text, and whether the signal bears it out."""

from __future__ import annotations

from functools import cache

from gem_lightning.claims.claim import Claim
from gem_lightning.claims.grammar import parse
from gem_lightning.claims.parser.lexicon import lexicon
from gem_lightning.claims.parser.tokenize import sentences
from gem_lightning.claims.sentence_cache import Memo

__all__ = ["Claim", "extract"]


#: Characters of a text that are read; no interpretation is longer, and junk must not cost more than a moment.
MAX_CHARS = 200_000


@cache
def _memo(language: str) -> Memo:
    words = lexicon(language)
    return Memo(lambda sentence: parse(sentence, words))


def extract(text: str, language: str = "en") -> list[Claim]:
    """The claims of a text, in order, after the conventions of docs/claims.md.

    Args:
        text: Any text; what is not understood is passed over.
        language: Lexicon to read with.

    Returns:
        Claims with spans into ``text``. Forms of sentences are remembered (``sentence_cache.py``).
    """
    if not isinstance(text, str):
        from gem_lightning.errors import GemError

        raise GemError(f"expected a text, got {type(text).__name__}; decode bytes before")
    memo = _memo(language)
    found: list[Claim] = []
    for start, sentence in sentences(text[:MAX_CHARS]):
        found += memo.claims(sentence, start)
    return found
