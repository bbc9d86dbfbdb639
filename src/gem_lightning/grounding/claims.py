"""Every claim of a text, and whether the signal bears it out."""

from __future__ import annotations

from gem_lightning.grounding.claim import Claim
from gem_lightning.grounding.grammar import parse
from gem_lightning.grounding.lexicon import lexicon
from gem_lightning.grounding.scanner import sentences

__all__ = ["Claim", "extract"]

#: Characters of a text that are read; no interpretation is longer, and junk must not cost more than a moment.
MAX_CHARS = 200_000
_MEMO_SIZE = 20_000
_memo: dict[str, list[Claim]] = {}


def extract(text: str, language: str = "en") -> list[Claim]:
    """The claims of a text, in order, after the conventions of docs/claims.md.

    Args:
        text: Any text; what is not understood is passed over.
        language: Lexicon to read with.

    Returns:
        Claims with spans into ``text``. Sentences read before are remembered.
    """
    if not isinstance(text, str):
        from gem_lightning.errors import GemError

        raise GemError(f"expected a text, got {type(text).__name__}; decode bytes before")
    words = lexicon(language)
    found: list[Claim] = []
    for start, sentence in sentences(text[:MAX_CHARS]):
        key = sentence if language == "en" else f"{language}\n{sentence}"
        claims = _memo.get(key)
        if claims is None:
            claims = parse(sentence, words)
            if len(_memo) >= _MEMO_SIZE:
                _memo.clear()
            _memo[key] = claims
        for c in claims:
            a, b = c.span
            found.append(Claim(*c[:10], (a + start, b + start)))
    return found
