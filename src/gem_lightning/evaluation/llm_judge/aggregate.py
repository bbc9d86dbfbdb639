"""Aggregate judge scores over records: means with intervals, and bounds on the effect of missing ones."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Mapping
from typing import Any

from gem_lightning.errors import DataError
from gem_lightning.evaluation.llm_judge.parsing import Criterion, read
from gem_lightning.evaluation.statistics import mean_interval


def aggregate(
    answers: Mapping[str, Any],
    criteria: tuple[Criterion, ...],
    groups: Mapping[str, Hashable] | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Compute metrics over the judged records.

    Args:
        answers: The judge's answers by record id, texts or parsed dicts; None or "" counts as unreadable.
        criteria: Criteria expected in every answer.
        groups: Patient of each id, for the intervals.
        draws: Number of bootstrap resamples; 0 for none.
        seed: Seed of the bootstrap.

    Returns:
        ``means`` (over the records that have the criterion), ``intervals``, ``bounds`` (lowest and highest mean if
        every missing value were 0 or full; None where there is no upper bound), ``per_id``, ``n``, ``complete``,
        ``unreadable`` (ids), ``missing`` (criterion to reason to count), ``repairs`` (corrections and their counts).

    Raises:
        DataError: No answers.
    """
    if not answers:
        raise DataError("expected the judge's answers by id, got none")
    parsed = {name: read(answer, criteria) for name, answer in answers.items()}
    missing: dict[str, Counter[str]] = {c.name: Counter() for c in criteria}
    repairs: Counter[str] = Counter()
    for one in parsed.values():
        repairs.update(one.repairs)
        for name, reason in one.missing.items():
            missing[name][reason] += 1
    known = None if groups is None else [groups.get(name) for name in parsed]
    means, intervals, bounds = {}, {}, {}
    for criterion in criteria:
        column = [one.values.get(criterion.name, math.nan) * criterion.scale for one in parsed.values()]
        interval = mean_interval(column, known, draws=draws, seed=seed)
        if not math.isnan(interval.value):
            means[criterion.name] = interval.value
            intervals[criterion.name] = interval.to_dict()
        total = sum(value for value in column if not math.isnan(value))
        gaps = sum(missing[criterion.name].values())
        high = (total + gaps * criterion.maximum * criterion.scale) / len(column) if gaps else total / len(column)
        bounds[criterion.name] = [total / len(column), high if math.isfinite(high) else None]
    return {
        "means": means,
        "intervals": intervals,
        "bounds": bounds,
        "per_id": {name: one.values for name, one in parsed.items()},
        "n": len(parsed),
        "complete": sum(not one.missing for one in parsed.values()),
        "unreadable": [name for name, one in parsed.items() if not one.readable],
        "missing": {name: dict(reasons) for name, reasons in missing.items() if reasons},
        "repairs": dict(repairs),
    }
