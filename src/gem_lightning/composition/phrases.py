"""The phrase table of compose and how words are joined."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any

import yaml

from gem_lightning.ecg.record import LEADS


@cache
def _table(language: str) -> dict[str, Any]:
    text = resources.files("gem_lightning.composition").joinpath(f"compose_{language}.yaml").read_text("utf-8")
    return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


class Phrases:
    """Phrases of one language, chosen by a seed.

    Args:
        seed: None draws anew each time.
        language: Suffix of the phrase file.
    """

    def __init__(self, seed: int | None = 0, language: str = "en") -> None:
        self.table = _table(language)
        self.random = random.Random(seed)

    def first(self, code: str) -> str:
        """The plain name of a finding."""
        return self.table["findings"][code][0]

    def name(self, code: str) -> str:
        """One of the names of a finding."""
        return self.random.choice(self.table["findings"][code])

    def pick(self, *choices: str) -> str:
        """One of the given wordings."""
        return self.random.choice(choices)


def join(words: Sequence[str], last: str = "and") -> str:
    """``a, b and c``."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}"


def sentence(words: str) -> str:
    """Capitalised, with a full stop; lead names and single letters keep their case."""
    head = words.split(" ", 1)[0]
    start = (
        words if head in LEADS or head[:1].isupper() or head in ("rsR'", "qR", "rS") else words[:1].upper() + words[1:]
    )
    return start + "."
