"""Judged free-text tasks of ECG-Bench: generated reports (0 to 10 for diagnosis, waveform, rhythm) and the arena."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np

from gem_lightning.errors import DataError
from gem_lightning.evaluation.llm_judge.aggregate import aggregate
from gem_lightning.evaluation.llm_judge.grounding_legacy import LegacyScoreError
from gem_lightning.evaluation.llm_judge.parsing import Criterion

ASPECTS: dict[str, tuple[Criterion, ...]] = {
    "ptb-test-report": (
        Criterion("Diagnosis", 10, "mean", 10),
        Criterion("Waveform", 10, "mean", 10, aliases=("Form",)),
        Criterion("Rhythm", 10, "mean", 10),
    ),
    "arena": (
        Criterion("Accuracy", 10, "mean", 10),
        Criterion("Completeness", 10, "mean", 10),
        Criterion("Instruction Adherence", 10, "mean", 10),
    ),
}


def score(
    judgements: dict[str, Any],
    rules: str = "strict",
    task: str = "ptb-test-report",
    groups: Mapping[str, Hashable] | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Score the judge's answers on reports or arena answers.

    Args:
        judgements: The judge's answers by record id.
        rules: ``strict``, or ``legacy`` (in the order of the ids; an unreadable answer takes the score before it).
        task: ``ptb-test-report`` or ``arena``.
        groups: Patient of each id, for intervals by patient.
        draws: Number of bootstrap resamples of ``strict``.
        seed: Seed of the bootstrap.

    Returns:
        ``aspects`` (name to mean, 0 to 100), ``count`` and ``average``; under ``strict`` also the entries of
        :func:`gem_lightning.evaluation.llm_judge.aggregate.aggregate`.

    Raises:
        DataError: Unknown rules or task, or no answers.
        LegacyScoreError: The original program would stop (``legacy``).
    """
    if task not in ASPECTS:
        raise DataError(f"expected task {' or '.join(ASPECTS)}, got {task!r}")
    if rules == "legacy":
        return _legacy(judgements)
    if rules != "strict":
        raise DataError(f"expected rules 'strict' or 'legacy', got {rules!r}")
    result = aggregate(judgements, ASPECTS[task], groups, draws, seed)
    whole = [np.mean(list(f.values())) * 10 for f in result["per_id"].values() if len(f) == len(ASPECTS[task])]
    return result | {
        "aspects": result["means"],
        "count": result["complete"],
        "average": float(np.mean(whole)) if whole else None,
    }


def _legacy(judgements: dict[str, str]) -> dict[str, Any]:
    by_aspect: dict[str, list[float]] = {}
    by_record: list[float] = []
    value: Any = None
    for name in sorted(judgements):
        value = _legacy_value(judgements[name], value)
        try:
            scores = {aspect: entry["Score"] for aspect, entry in value.items()}
            by_record.append(sum(scores.values()) / len(scores) * 10)
        except (AttributeError, KeyError, TypeError, ZeroDivisionError) as error:
            raise LegacyScoreError(
                f"expected aspects with a Score in answer {name!r}, got {judgements[name]!r:.80}: the original "
                f"stops here ({type(error).__name__}); use rules='strict'"
            ) from None
        for aspect, number in scores.items():
            by_aspect.setdefault(aspect, []).append(number)
    return {
        "aspects": {aspect: float(np.mean(numbers) * 10) for aspect, numbers in by_aspect.items()},
        "count": len(by_record),
        "average": float(np.mean(by_record)),
    }


def _legacy_value(text: str, before: Any) -> Any:
    """Parse a file as the original does; the previous file's value when it is neither JSON nor fenced."""
    try:
        return json.loads(text)
    except ValueError:
        content = text.strip()
    if content.startswith("```"):
        content = content.partition("\n")[2].strip()
    if not content.endswith("```"):
        return before
    content = content[: content.rfind("\n```")] if "\n```" in content else content[:-3]
    try:
        return json.loads(content.strip())
    except ValueError as error:
        raise LegacyScoreError(f"expected JSON inside the fence, got {text!r:.80}: the original stops here") from error
