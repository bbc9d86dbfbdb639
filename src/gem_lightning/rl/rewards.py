"""Reward of a completion: a weighted sum of terms, each a Hydra node."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from gem_lightning.claims.report import CONTRADICTED, SUPPORTED, ClaimReport
from gem_lightning.errors import GemError
from gem_lightning.models.verified.rerank import repetition
from gem_lightning.revision.grammar import faults
from gem_lightning.revision.segments import segments
from gem_lightning.rl.facts import Facts


@dataclass(frozen=True)
class Written:
    """A completion as its reward sees it.

    Attributes:
        text: Without special tokens.
        tokens: Number of tokens, the end's included.
        ended: It ended by itself before the limit.
        report: Its claims, verified against the truth where it is known, else against the measurements.
    """

    text: str
    tokens: int
    ended: bool
    report: ClaimReport


class RewardTerm(Protocol):
    """A part of the reward."""

    weight: float

    def __call__(self, written: Written) -> float:
        """Return the value of a completion, before its weight."""
        ...


class ClaimScore:
    """The claim score in [0, 1]: true and informative statements and covered findings, less weighed errors.

    Args:
        weight: Of this term.
    """

    def __init__(self, weight: float = 1.0) -> None:
        self.weight = weight

    def __call__(self, written: Written) -> float:
        """Return :attr:`gem_lightning.claims.report.ClaimReport.score`."""
        return written.report.score


class Precision:
    """True of decided claims; for comparison only, because a model raises it by stating less.

    Args:
        weight: Of this term.
    """

    def __init__(self, weight: float = 1.0) -> None:
        self.weight = weight

    def __call__(self, written: Written) -> float:
        """Return the share; 0 where nothing is decided."""
        return written.report.precision or 0.0


class Length:
    """Penalty of texts that come near the limit, or reach it without an end (DAPO, arXiv:2503.14476, section 3.4).

    Args:
        longest: Tokens at which the penalty is full.
        margin: Tokens before that, over which it grows from 0.
        weight: Of this term.

    Raises:
        GemError: The margin is empty.
    """

    def __init__(self, longest: int, margin: int, weight: float = 1.0) -> None:
        if margin < 1:
            raise GemError(f"expected a margin of at least 1 token, got {margin}")
        self.longest, self.margin, self.weight = longest, margin, weight

    def __call__(self, written: Written) -> float:
        """Return 0 to -1; -1 for a text without an end."""
        if not written.ended:
            return -1.0
        return -min(1.0, max(0.0, (written.tokens - self.longest + self.margin) / self.margin))


class Repetition:
    """Penalty of phrases of four words that occur again.

    Args:
        weight: Of this term.
    """

    def __init__(self, weight: float = 1.0) -> None:
        self.weight = weight

    def __call__(self, written: Written) -> float:
        """Return 0 to -1: the share of repeated phrases."""
        return -repetition(written.text)


class Format:
    """Penalty of sentences with a fault of grammar, and of texts that miss a pattern.

    Args:
        pattern: Regular expression that the whole text has to match; None requires only that it is not empty.
        weight: Of this term.
    """

    def __init__(self, pattern: str | None = None, weight: float = 1.0) -> None:
        self.pattern, self.weight = re.compile(pattern or r"(?s).*\S.*"), weight

    def __call__(self, written: Written) -> float:
        """Return 0 to -1: the share of faulty sentences; -1 for a text that does not match."""
        if not self.pattern.fullmatch(written.text):
            return -1.0
        sentences = [s for s in segments(written.text) if s.strip()]
        wrong = sum(bool(faults(s, last=k == len(sentences) - 1)) for k, s in enumerate(sentences))
        return -wrong / max(1, len(sentences))


@dataclass(frozen=True)
class Rewarded:
    """The reward of one completion.

    Attributes:
        total: Weighted sum.
        terms: Unweighted, by name.
        right, wrong: Decided claims.
        stated, abnormal: Abnormal findings of the record that the text states, and all of them.
    """

    total: float
    terms: Mapping[str, float]
    right: int
    wrong: int
    stated: int
    abnormal: int


class Reward:
    """Weighted sum of terms over completions.

    Args:
        **terms: By name, as they appear in logs; None leaves one out.

    Raises:
        GemError: There is no term.
    """

    def __init__(self, **terms: Any) -> None:
        self.terms: dict[str, RewardTerm] = {name: term for name, term in terms.items() if term is not None}
        if not self.terms:
            raise GemError("expected at least one reward term, got none")

    def __call__(self, texts: Sequence[str], tokens: Sequence[int], ended: Sequence[bool],
                 facts: Sequence[Facts]) -> list[Rewarded]:  # fmt: skip
        """Reward completions of several prompts.

        Args:
            texts: The G of the first prompt first.
            tokens: Of each text.
            ended: Whether each ended before the limit.
            facts: One per prompt.
        """
        group = len(texts) // len(facts)
        known: dict[tuple[int, str], ClaimReport] = {}  # a group often writes one text several times
        rewarded = []
        for at, (text, count, end) in enumerate(zip(texts, tokens, ended, strict=True)):
            key = (at // group, text)
            if key not in known:
                known[key] = facts[key[0]].report(text)
            rewarded.append(self.of(Written(text, int(count), bool(end), known[key])))
        return rewarded

    def of(self, written: Written) -> Rewarded:
        """Reward one completion."""
        values = {name: term(written) for name, term in self.terms.items()}
        report = written.report
        return Rewarded(
            sum(term.weight * values[name] for name, term in self.terms.items()),
            values,
            report.count(SUPPORTED),
            report.count(CONTRADICTED),
            len(report.mentioned),
            len(report.abnormal),
        )
