"""Verdicts of the sentences of a text that is being written."""

from __future__ import annotations

import re

from gem_lightning.claims.report import Verdict
from gem_lightning.claims.verify import verify
from gem_lightning.features import EcgFeatures

_SENTENCE_END = re.compile(r"[.!?](?=\s)|\n")


class SentenceChecker:
    """Verdicts of a growing text, each given out once, when its sentence has ended.

    Args:
        features: Measurements of the record.

    Attributes:
        text: The text so far.
    """

    def __init__(self, features: EcgFeatures) -> None:
        self.features, self.text, self.end = features, "", 0

    def add(self, part: str) -> tuple[Verdict, ...]:
        """Append to the text; return the verdicts of the sentences that end with it."""
        self.text += part
        ends = [match.end() for match in _SENTENCE_END.finditer(self.text, self.end)]
        return self._until(self.text[: ends[-1]], ends[-1]) if ends else ()

    def rest(self) -> tuple[Verdict, ...]:
        """Return the verdicts of what stands after the last end of a sentence."""
        return self._until(self.text, len(self.text) + 1)

    def _until(self, text: str, end: int) -> tuple[Verdict, ...]:
        found = tuple(v for v in verify(text, self.features).verdicts if v.claim.span[1] > self.end)
        self.end = end
        return found
