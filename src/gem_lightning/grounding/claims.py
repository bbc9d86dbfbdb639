"""Every claim of a text, and whether the signal bears it out."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from gem_lightning.grounding.claim import Claim
from gem_lightning.grounding.grammar import parse
from gem_lightning.grounding.lexicon import lexicon
from gem_lightning.grounding.memo import Memo
from gem_lightning.grounding.scanner import sentences

if TYPE_CHECKING:
    from gem_lightning.grounding.consistency import conflicts
    from gem_lightning.grounding.judge import Verdict
    from gem_lightning.grounding.report import ClaimReport
    from gem_lightning.grounding.verification import verify

__all__ = ["Claim", "ClaimReport", "Verdict", "conflicts", "extract", "verify"]

_HOMES = {"ClaimReport": "report", "Verdict": "judge", "conflicts": "consistency", "verify": "verification"}

#: Characters of a text that are read; no interpretation is longer, and junk must not cost more than a moment.
MAX_CHARS = 200_000


@cache
def _memo(language: str) -> Memo:
    words = lexicon(language)
    return Memo(lambda sentence: parse(sentence, words))


def __getattr__(name: str) -> Any:
    """Judging needs numpy and the features; reading a text does not, so that part comes when it is asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(f"gem_lightning.grounding.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def extract(text: str, language: str = "en") -> list[Claim]:
    """The claims of a text, in order, after the conventions of docs/claims.md.

    Args:
        text: Any text; what is not understood is passed over.
        language: Lexicon to read with.

    Returns:
        Claims with spans into ``text``. Forms of sentences are remembered (``memo.py``).
    """
    if not isinstance(text, str):
        from gem_lightning.errors import GemError

        raise GemError(f"expected a text, got {type(text).__name__}; decode bytes before")
    memo = _memo(language)
    found: list[Claim] = []
    for start, sentence in sentences(text[:MAX_CHARS]):
        found += memo.claims(sentence, start)
    return found
