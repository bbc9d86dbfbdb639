"""Phrase table of the composer, and joining of phrases to sentences."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any

import yaml

from gem_lightning.ecg.record import LEADS


@cache
def table(language: str) -> dict[str, Any]:
    """Load the phrase table of a language once."""
    text = resources.files("gem_lightning.composition").joinpath(f"compose_{language}.yaml").read_text("utf-8")
    return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


_IN_MM = 0.3  # share of texts that state amplitudes in mm; never both units in one text


class Phrases:
    """Phrases of one language, chosen by a seed; amplitudes of one text are all in mV or all in mm.

    Args:
        seed: None draws a new one each time.
        language: Suffix of the phrase file.
    """

    def __init__(self, seed: int | None = 0, language: str = "en") -> None:
        self.table = table(language)
        self.random = random.Random(seed)
        self.hedges: dict[str, str] = {}
        self.in_mm = self.random.random() < _IN_MM

    def first(self, code: str) -> str:
        """Return the plain name of a finding."""
        return self.table["findings"][code][0]

    def name(self, code: str) -> str:
        """Return one of the names of a finding."""
        return self.random.choice(self.table["findings"][code])

    def hedge(self, code: str, certainty: str) -> str:
        """Return the hedge of a finding, the same in every sentence of a text; empty for a definite one."""
        if certainty == "definite":
            return ""
        choices = ("probable", "likely") if certainty == "probable" else ("possible", "suspected")
        if code not in self.hedges:
            self.hedges[code] = self.pick(*choices)
        return f"{self.hedges[code]} "

    def pick(self, *choices: str) -> str:
        """Return one of the given wordings."""
        return self.random.choice(choices)


def join(items: Sequence[str], last: str = "and") -> str:
    """Join to ``a, b and c``."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} {last} {items[-1]}"


_CASED = ("rsR'", "qR", "rS")  # QRS forms, whose letters mean amplitudes


def sentence(text: str) -> str:
    """Capitalise and add a full stop; lead names, QRS forms and capitals keep their case."""
    head = text.split(" ", 1)[0]
    kept = head in LEADS or head[:1].isupper() or head in _CASED
    return (text if kept else text[:1].upper() + text[1:]) + "."
