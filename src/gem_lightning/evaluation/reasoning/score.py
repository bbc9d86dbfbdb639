"""Scores of answered chains: accuracy of each kind of question, depth, completion, with intervals by patient."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gem_lightning.composition.chains.chain import INITIAL, KINDS, Chain
from gem_lightning.errors import DataError
from gem_lightning.evaluation.reasoning.answers import candidates, chosen, right
from gem_lightning.evaluation.statistics import bootstrap_sums

REASONING = KINDS[1:]


@dataclass(frozen=True)
class Marked:
    """A chain with what is right and what cannot be read in its answers; without answers all is wrong."""

    chain: Chain
    right: tuple[bool, ...]
    unreadable: tuple[bool, ...]
    answered: bool

    @property
    def depth(self) -> int:
        """Return the number of loops that are passed before the first wrong answer."""
        at = 1  # the initial question is no part of the reasoning
        for passed, step in enumerate(self.chain.steps):
            end = at + len(step.questions)
            if not all(self.right[at:end]):
                return passed
            at = end
        return len(self.chain.steps)

    @property
    def complete(self) -> bool:
        """Return whether every question of the reasoning is answered right."""
        return all(self.right[1:])

    @property
    def first_error(self) -> str | None:
        """Return the kind of the first question of the reasoning that is answered wrong."""
        kinds = (question.kind for question in self.chain.questions[1:])
        return next((kind for kind, good in zip(kinds, self.right[1:]) if not good), None)


def mark(chain: Chain, answers: Sequence[Any] | None) -> Marked:
    """Mark the answers to a chain, one for each question in order; None where there are none."""
    if answers is None:
        count = len(chain.questions)
        return Marked(chain, (False,) * count, (False,) * count, False)
    pairs = list(zip(chain.questions, answers, strict=True))
    return Marked(chain, tuple(right(q, a) for q, a in pairs), tuple(not chosen(q, a) for q, a in pairs), True)


def reasoning_metrics(marked: Sequence[Marked], draws: int = 1000) -> dict[str, Any]:
    """Pool marked chains into metrics with 95 % intervals, resampled by patient where known, else by record.

    Every question is asked with the right answers to the earlier ones, so the accuracies are those that the published
    evaluation calls "with ground truth"; depth and completion end a chain at its first wrong answer.

    Returns:
        ``accuracy`` (over all questions of the reasoning, and by kind), ``depth`` (mean loops passed), ``depth_share``
        (of the loops there are), ``completion``, ``initial`` (the diagnosis asked for at once), ``final`` (the last
        decision), ``chance`` (completion of a random answerer), counts, and the same by diagnosis.
    """
    groups = [m.chain.patient or f"{m.chain.source}/{m.chain.record}" for m in marked]
    present = [kind for kind in REASONING if any(q.kind == kind for m in marked for q in m.chain.questions)]
    parts = np.array([_parts(m, present) for m in marked], float)
    names = ["all", "initial", "final", "depth", "depth_share", "completion", *present]
    intervals = bootstrap_sums(parts, _ratios, groups, draws)
    table = {name: interval.to_dict() for name, interval in zip(names, intervals)}
    by_diagnosis: dict[str, list[Marked]] = defaultdict(list)
    for m in marked:
        by_diagnosis[m.chain.diagnosis].append(m)
    return {
        "accuracy": table.pop("all") | {kind: table.pop(kind) for kind in present},
        **table,
        "chance": float(np.mean([_chance(m.chain) for m in marked])),
        "chains": len(marked),
        "answered": sum(m.answered for m in marked),
        "unreadable": sum(sum(m.unreadable) for m in marked),
        "questions": sum(len(m.right) for m in marked),
        "first_errors": dict(Counter(m.first_error for m in marked if m.first_error).most_common()),
        "by_diagnosis": {name: _summary(some) for name, some in sorted(by_diagnosis.items())},
    }


def _parts(m: Marked, kinds: Sequence[str]) -> list[float]:
    """Return (right, of) for every metric, one after the other."""
    found: list[float] = [sum(m.right[1:]), len(m.right) - 1, m.right[0], 1, m.right[-1], 1, m.depth, 1]
    found += [m.depth, len(m.chain.steps), m.complete, 1]
    for kind in kinds:
        hits = [good for question, good in zip(m.chain.questions, m.right) if question.kind == kind]
        found += [sum(hits), len(hits)]
    return found


def _ratios(sums: np.ndarray) -> np.ndarray:
    """Map sums (draws, 2 k) of numerators and denominators to ratios (draws, k)."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return sums[:, ::2] / sums[:, 1::2]


def _chance(chain: Chain) -> float:
    """Return the probability that uniform guesses complete a chain."""
    guesses = (1 / len(candidates(question)) for question in chain.questions if question.kind != INITIAL)
    return float(np.prod(list(guesses)))


def _summary(marked: Sequence[Marked]) -> dict[str, Any]:
    count = len(marked)
    return {
        "chains": count,
        "present": sum(m.chain.present for m in marked),
        "initial": sum(m.right[0] for m in marked) / count,
        "depth": sum(m.depth for m in marked) / count,
        "completion": sum(m.complete for m in marked) / count,
    }


def predicted_answers(chains: Sequence[Chain], rows: Mapping[str, Any], path: str) -> dict[str, list[Any]]:
    """Match rows of a predictions file to chains.

    Args:
        chains: The chains.
        rows: Id → answers.
        path: Of the file, for messages.

    Raises:
        DataError: An id is not of these chains, or a row has another number of answers than its chain has questions.
    """
    counts = {chain.id: len(chain.questions) for chain in chains}
    unknown = [name for name in rows if name not in counts]
    if unknown:
        raise DataError(
            f"expected ids of the {len(counts)} chains in {path}, got {len(unknown)} others, such as {unknown[0]!r}; "
            "are these answers to another file?"
        )
    for name, answers in rows.items():
        if not isinstance(answers, list) or len(answers) != counts[name]:
            got = f"{len(answers)}" if isinstance(answers, list) else type(answers).__name__
            raise DataError(
                f"expected {counts[name]} answers for chain {name} in {path}, one for each question in order with the "
                f"initial one first, got {got}"
            )
    return dict(rows)
