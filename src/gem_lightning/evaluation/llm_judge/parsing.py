"""Strict reading of a judge's answer: which criteria, which scores, within bounds, and an account of the rest."""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from gem_lightning.evaluation.llm_judge.lenient_json import Read, arithmetic, read_json


@dataclass(frozen=True)
class Criterion:
    """What a judge scores.

    Attributes:
        name: As in the published tables.
        high: Largest score of one entry; the smallest is 0.
        combine: ``share`` (mean over ``high``), ``sum``, ``sum/N`` (sum clipped at N, over N) or ``mean``.
        scale: Factor from a record's figure to the table's.
        aliases: Other spellings in use.
    """

    name: str
    high: float
    combine: str
    scale: float = 1.0
    aliases: tuple[str, ...] = ()

    def figure(self, scores: list[float]) -> float | None:
        """One record's figure from its entries, or None when there is nothing to combine."""
        if self.combine == "sum":
            return sum(scores)
        if self.combine.startswith("sum/"):
            return min(sum(scores), float(self.combine[4:]))
        if not scores:
            return None
        return sum(scores) / len(scores) / (self.high if self.combine == "share" else 1.0)

    @property
    def most(self) -> float:
        """Largest possible figure of a record; infinite for an open sum."""
        if self.combine == "sum":
            return math.inf
        if self.combine.startswith("sum/"):
            return float(self.combine[4:])
        return 1.0 if self.combine == "share" else self.high


@dataclass
class Judgement:
    """One answer, read.

    Attributes:
        figures: Criterion to the record's figure.
        missing: Criterion to why it has none: absent, cut off, empty, null, out of range, not a number.
        repairs: Liberties that reading took.
        readable: The answer holds a JSON object.
    """

    figures: dict[str, float] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    repairs: Counter[str] = field(default_factory=Counter)
    readable: bool = True


def read(answer: Any, criteria: tuple[Criterion, ...]) -> Judgement:
    """Read one answer, a text or an already parsed dict."""
    parsed = Read(answer) if isinstance(answer, dict) else read_json(answer if isinstance(answer, str) else "")
    result = Judgement(repairs=Counter(parsed.repairs), readable=isinstance(parsed.value, dict))
    members = {plain(str(key)): value for key, value in (parsed.value or {}).items()}
    cut = {plain(key) for key in parsed.cut}
    for criterion in criteria:
        name = next((plain(n) for n in (criterion.name, *criterion.aliases) if plain(n) in members), None)
        if name is None:
            result.missing[criterion.name] = "unreadable" if not result.readable else "absent"
            continue
        if name in cut:
            result.missing[criterion.name] = "cut off"
            continue
        if name != plain(criterion.name):
            result.repairs["other spelling"] += 1
        scores, why = _scores(members[name], criterion.high, result.repairs)
        figure = criterion.figure(scores) if why is None else None
        if figure is None:
            result.missing[criterion.name] = why or "empty"
        else:
            result.figures[criterion.name] = figure
    return result


def plain(key: str) -> str:
    """A key without case, blanks and punctuation."""
    return re.sub(r"[^a-z0-9]", "", key.lower())


def _scores(value: Any, high: float, repairs: Counter[str]) -> tuple[list[float], str | None]:
    """Scores of a criterion's entries; one unusable entry makes the whole criterion unusable."""
    if not isinstance(value, list):
        repairs["not a list"] += 1
        value = [value]
    scores: list[float] = []
    for entry in value:
        if isinstance(entry, dict):
            named = {plain(str(key)): item for key, item in entry.items()}
            if "score" not in named:
                return [], "no score"
            entry = named["score"]
        number, why = number_of(entry, high, repairs)
        if number is None:
            return [], why
        scores.append(number)
    return scores, None


def number_of(value: Any, high: float, repairs: Counter[str]) -> tuple[float | None, str | None]:
    """A score as a number in [0, high], or why it is none; "2/2" is two of two, "85%" is 85."""
    if value is None:
        return None, "null"
    if isinstance(value, bool):
        return None, "not a number"
    if isinstance(value, str):
        text = value.strip().rstrip("%").strip()
        of = re.fullmatch(r"\+?(\d+(?:\.\d+)?)\s*/\s*(\d+(?:\.\d+)?)", text)
        if of and float(of[2]) == high:
            repairs["score of the scale"] += 1
            text = of[1]
        try:
            value = arithmetic(text)
        except ValueError:
            return None, "not a number"
        repairs["number as text" if re.fullmatch(r"[+-]?\d+(\.\d+)?", text) else "arithmetic"] += 1
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None, "not a number"
    if not math.isfinite(number):
        return None, "not a number"
    if not 0 <= number <= high:
        return None, "out of range"
    return number, None
