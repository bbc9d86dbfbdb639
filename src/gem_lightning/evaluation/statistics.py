"""Bootstrap intervals (by patient), paired tests between runs, and agreement between judges."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gem_lightning.errors import DataError

Statistic = Callable[[np.ndarray], np.ndarray]
CHUNK = 64  # resamples whose weights are held at once: 64 x 10,000 records are 5 MB


@dataclass(frozen=True)
class Interval:
    """A value with its percentile bootstrap interval.

    Attributes:
        value: Over all records.
        low, high: Ends of the interval; NaN with fewer than two resampling units or without resamples.
        n: Number of records.
        groups: Number of resampling units: patients where known, else records.
        level: Confidence level.
    """

    value: float
    low: float
    high: float
    n: int
    groups: int
    level: float = 0.95

    def to_dict(self) -> dict[str, Any]:
        """Return plain values; NaN becomes None."""
        return {name: (None if value != value else value) for name, value in vars(self).items()}

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def group_index(groups: Sequence[Hashable] | None, n: int) -> np.ndarray:
    """Return the group number (n,) of each record; a record whose group is None is its own group."""
    if groups is None:
        return np.arange(n)
    if len(groups) != n:
        raise DataError(f"expected one group per record: {n}, got {len(groups)}")
    seen: dict[Hashable, int] = {}
    return np.array([seen.setdefault(("record", i) if g is None else g, len(seen)) for i, g in enumerate(groups)])


def resample_weights(index: np.ndarray, draws: int, seed: int) -> Iterator[np.ndarray]:
    """Yield float32 arrays (resamples in chunk, n): how often each record's group was drawn with replacement."""
    rng = np.random.default_rng(seed)
    count = int(index.max()) + 1 if len(index) else 0
    for start in range(0, draws, CHUNK):
        rows = min(CHUNK, draws - start)
        picked = rng.integers(0, count, (rows, count)) + np.arange(rows)[:, None] * count
        times = np.bincount(picked.ravel(), minlength=rows * count).reshape(rows, count)
        yield times.astype(np.float32)[:, index]


def bootstrap_sums(
    parts: np.ndarray,
    statistic: Statistic,
    groups: Sequence[Hashable] | None = None,
    draws: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> list[Interval]:
    """Return intervals of values that depend on the records only through sums: accuracies, F1, means, errors.

    Args:
        parts: (n, k) contribution of each record to each sum.
        statistic: Maps sums (draws, k) to values (draws, m).
        groups: (n,) patients, resampled as units; None resamples records.
        draws: Number of resamples; 0 gives NaN ends.
        seed: Seed of the resamples.
        level: Confidence level.

    Returns:
        m intervals.
    """
    parts = np.asarray(parts, np.float64).reshape(len(parts), -1)
    index = group_index(groups, len(parts))
    values = np.atleast_2d(statistic(parts.sum(0, keepdims=True)))[0]
    count = int(index.max()) + 1 if len(index) else 0
    grouped = np.zeros((count, parts.shape[1]))
    np.add.at(grouped, index, parts)
    weights = resample_weights(np.arange(count), draws, seed)
    return _intervals(values, [statistic(w.astype(np.float64) @ grouped) for w in weights], len(parts), count, level)


def bootstrap_weights(
    statistic: Statistic,
    n: int,
    groups: Sequence[Hashable] | None = None,
    draws: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> list[Interval]:
    """Return intervals of any statistic that maps record weights (draws, n) to values (draws, m), such as AUC."""
    index = group_index(groups, n)
    values = np.atleast_2d(statistic(np.ones((1, n), np.float32)))[0]
    drawn = [statistic(weights) for weights in resample_weights(index, draws, seed)]
    return _intervals(values, drawn, n, int(index.max()) + 1 if n else 0, level)


def _intervals(values: np.ndarray, drawn: list[np.ndarray], n: int, groups: int, level: float) -> list[Interval]:
    ends = np.full((2, len(values)), np.nan)
    if drawn and groups > 1:
        table = np.concatenate(drawn)
        tail = (1 - level) / 2
        known = ~np.isnan(table).all(0)
        ends[:, known] = np.nanquantile(table[:, known], [tail, 1 - tail], axis=0)
    return [Interval(float(v), float(lo), float(hi), n, groups, level) for v, lo, hi in zip(values, *ends)]


def mean_interval(
    values: Sequence[float] | np.ndarray, groups: Sequence[Hashable] | None = None, **options: Any
) -> Interval:
    """Return the mean of the values that are not NaN, with its interval."""
    column = np.asarray(values, np.float64)
    known = ~np.isnan(column)
    parts = np.stack([np.where(known, column, 0), known], 1)
    return bootstrap_sums(parts, ratio, groups, **options)[0]


def ratio(sums: np.ndarray) -> np.ndarray:
    """Map numerator and denominator (draws, 2) to their ratio (draws, 1); NaN for 0 / 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return sums[:, :1] / sums[:, 1:2]


def nanmean(table: np.ndarray) -> np.ndarray:
    """Return the mean (rows,) over the values of each row that are not NaN; NaN, without a warning, for none."""
    known = ~np.isnan(table)
    with np.errstate(invalid="ignore"):
        return np.where(known, table, 0).sum(1) / known.sum(1)


def weighted_auc(scores: np.ndarray, positive: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Return the area under the ROC curve, ties counted half, under each row of weights.

    Args:
        scores: (n,) higher means more likely.
        positive: (n,) bool.
        weights: (draws, n); None weighs all records equally, in one row.

    Returns:
        (draws,), NaN where a row has one class only.
    """
    weights = np.ones((1, len(scores))) if weights is None else weights
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(scores[order]) != 0])
    pos = np.add.reduceat(weights[:, order] * positive[order], starts, axis=1).astype(np.float64)  # (draws, ties)
    neg = np.add.reduceat(weights[:, order] * ~positive[order], starts, axis=1).astype(np.float64)
    below = np.cumsum(neg, 1) - neg
    with np.errstate(invalid="ignore", divide="ignore"):
        return (pos * (below + neg / 2)).sum(1) / (pos.sum(1) * neg.sum(1))


def macro_auc(scores: np.ndarray, targets: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Return the mean AUC (draws, 1) over the labels that have both classes; scores and targets are (n, labels)."""
    positive = targets > 0
    columns = [weighted_auc(scores[:, i], positive[:, i], weights) for i in range(targets.shape[1])]
    return nanmean(np.stack(columns, 1))[:, None]


@dataclass(frozen=True)
class PairedTest:
    """Comparison of two runs on the same records.

    Attributes:
        difference: Mean of a − b, with its interval (by group).
        p_value: Two-sided, of the sign-flip permutation test over groups.
        wins, losses, ties: Numbers of records where a is higher, lower, equal.
        mcnemar: P value of the exact McNemar test when all values are 0 or 1, else None.
    """

    difference: Interval
    p_value: float
    wins: int
    losses: int
    ties: int
    mcnemar: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return vars(self) | {"difference": self.difference.to_dict()}


def paired_test(
    a: Sequence[float], b: Sequence[float], groups: Sequence[Hashable] | None = None, draws: int = 10_000, seed: int = 0
) -> PairedTest:
    """Compare the per-record values (n,) of two runs; records where either is NaN are excluded.

    Raises:
        DataError: The lengths differ, or no record has both values.
    """
    from scipy.stats import binomtest

    if len(a) != len(b):
        raise DataError(f"expected the same records in both runs, got {len(a)} and {len(b)}; match them by id first")
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    both = ~(np.isnan(x) | np.isnan(y))
    if not both.any():
        raise DataError(f"expected records with a value in both runs, got none of {len(a)}")
    kept = None if groups is None else [g for g, keep in zip(groups, both) if keep]
    gap = (x - y)[both]
    sums = np.bincount(group_index(kept, len(gap)), gap)
    rng = np.random.default_rng(seed)
    observed, extreme = abs(sums.sum()), 0
    # 256 permutations at a time bound the memory
    for start in range(0, draws, 256):
        flips = rng.integers(0, 2, (min(256, draws - start), len(sums))) * 2 - 1
        extreme += int((np.abs(flips @ sums) >= observed - 1e-12).sum())  # rounding must not split equal sums
    wins, losses = int((gap > 0).sum()), int((gap < 0).sum())
    mcnemar = None
    if np.isin(np.r_[x[both], y[both]], (0.0, 1.0)).all():
        mcnemar = float(binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0
    difference = mean_interval(gap, kept, draws=min(draws, 1000), seed=seed)
    return PairedTest(difference, (extreme + 1) / (draws + 1), wins, losses, len(gap) - wins - losses, mcnemar)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust P values for multiple testing (Holm, Scand J Stat 6:65, 1979)."""
    p = np.asarray(p_values, np.float64)
    order = np.argsort(p)
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.maximum.accumulate((len(p) - np.arange(len(p))) * p[order]), 1)
    return adjusted.tolist()


def krippendorff_alpha(ratings: np.ndarray | Sequence[Sequence[float]]) -> float:
    """Return Krippendorff's alpha at interval level: 1 is perfect agreement, 0 is chance.

    With squared differences the coincidence matrix of Krippendorff (Content Analysis, 2004, chapter 11) reduces to sums
    of squares within units and in total.

    Args:
        ratings: (raters, units), NaN where a rater did not rate.

    Returns:
        Alpha; NaN when fewer than two units have two ratings, 1 when all ratings are equal.
    """
    table = np.asarray(ratings, np.float64)
    table = table[:, (~np.isnan(table)).sum(0) >= 2]  # a single rating can neither agree nor disagree
    if table.shape[1] < 2:
        return float("nan")
    raters = (~np.isnan(table)).sum(0)
    within = np.nansum((table - np.nanmean(table, 0)) ** 2, 0)
    total = np.nansum((table - np.nanmean(table)) ** 2)
    n = raters.sum()
    return float(1 - (n - 1) * (raters * within / (raters - 1)).sum() / (n * total)) if total > 0 else 1.0
