"""Strict figures over many judgements: means with intervals, and bounds on what the missing ones could change."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Mapping
from typing import Any

from gem_lightning.errors import DataError
from gem_lightning.evaluation.llm_judge import parsing as judgement
from gem_lightning.evaluation.llm_judge.parsing import Criterion
from gem_lightning.evaluation.statistics import mean_interval


def aggregate(
    judgements: dict[str, Any],
    criteria: tuple[Criterion, ...],
    groups: Mapping[str, Hashable] | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Figures of judged records.

    Args:
        judgements: Answers by record id, texts or parsed dicts; None or "" counts as unreadable.
        criteria: What is expected of every answer.
        groups: Patient of each id, for the intervals.
        draws: Bootstrap draws; 0 for none.
        seed: Of the bootstrap.

    Returns:
        ``means`` (over the records that have the criterion), ``intervals``, ``bounds`` (lowest and highest mean were
        every missing figure 0 or full; None where there is no upper bound), ``per_id``, ``n``, ``complete``,
        ``unreadable`` (ids), ``missing`` (criterion to reason to count), ``repairs`` (liberties and how often).

    Raises:
        DataError: No judgements.
    """
    if not judgements:
        raise DataError("expected judgements by id, got none")
    read = {name: judgement.read(answer, criteria) for name, answer in judgements.items()}
    missing: dict[str, Counter[str]] = {c.name: Counter() for c in criteria}
    repairs: Counter[str] = Counter()
    for one in read.values():
        repairs.update(one.repairs)
        for name, why in one.missing.items():
            missing[name][why] += 1
    known = None if groups is None else [groups.get(name) for name in read]
    means, intervals, bounds = {}, {}, {}
    for criterion in criteria:
        column = [one.figures.get(criterion.name, math.nan) * criterion.scale for one in read.values()]
        interval = mean_interval(column, known, draws=draws, seed=seed)
        if not math.isnan(interval.value):
            means[criterion.name] = interval.value
            intervals[criterion.name] = interval.to_dict()
        total = sum(value for value in column if not math.isnan(value))
        gaps = sum(missing[criterion.name].values())
        high = (total + gaps * criterion.most * criterion.scale) / len(column) if gaps else total / len(column)
        bounds[criterion.name] = [total / len(column), high if math.isfinite(high) else None]
    return {
        "means": means,
        "intervals": intervals,
        "bounds": bounds,
        "per_id": {name: one.figures for name, one in read.items()},
        "n": len(read),
        "complete": sum(not one.missing for one in read.values()),
        "unreadable": [name for name, one in read.items() if not one.readable],
        "missing": {name: dict(reasons) for name, reasons in missing.items() if reasons},
        "repairs": dict(repairs),
    }
