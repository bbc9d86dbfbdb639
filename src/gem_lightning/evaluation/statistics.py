"""How sure a figure is: bootstrap intervals (by patient), paired tests between runs, agreement between judges."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gem_lightning.errors import DataError

Statistic = Callable[[np.ndarray], np.ndarray]
CHUNK = 64  # draws whose weights are held at once: 64 x 10,000 records are 5 MB


@dataclass(frozen=True)
class Interval:
    """A figure with its percentile bootstrap interval.

    Attributes:
        value: On all records.
        low, high: Ends of the interval; NaN where it cannot be said.
        level: Of confidence.
        n: Records.
        groups: Units drawn: patients where known, else records.
    """

    value: float
    low: float
    high: float
    n: int
    groups: int
    level: float = 0.95

    def to_dict(self) -> dict[str, Any]:
        """Plain values; NaN becomes None."""
        return {name: (None if value != value else value) for name, value in vars(self).items()}

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def group_index(groups: Sequence[Hashable] | None, n: int) -> np.ndarray:
    """Group number (n,) of each record; a None group is a record of its own."""
    if groups is None:
        return np.arange(n)
    if len(groups) != n:
        raise DataError(f"expected one group per record: {n}, got {len(groups)}")
    seen: dict[Hashable, int] = {}
    return np.array([seen.setdefault(("record", i) if g is None else g, len(seen)) for i, g in enumerate(groups)])


def draw_weights(index: np.ndarray, draws: int, seed: int) -> Any:
    """Yield (draws in chunk, n) float32 arrays: how often each record's group was drawn with replacement."""
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
    """Intervals of figures that depend on the records only through sums: accuracies, F1, means, errors.

    Args:
        parts: (n, k) what each record adds to each sum.
        statistic: From sums (draws, k) to figures (draws, m).
        groups: (n,) patients, drawn as wholes; None draws records.
        draws: 0 gives NaN ends.
        seed: Of the draws.
        level: Of confidence.

    Returns:
        m intervals.
    """
    parts = np.asarray(parts, np.float64).reshape(len(parts), -1)
    index = group_index(groups, len(parts))
    values = np.atleast_2d(statistic(parts.sum(0, keepdims=True)))[0]
    count = int(index.max()) + 1 if len(index) else 0
    grouped = np.zeros((count, parts.shape[1]))
    np.add.at(grouped, index, parts)
    drawn = [statistic(w.astype(np.float64) @ grouped) for w in draw_weights(np.arange(count), draws, seed)]
    return _intervals(values, drawn, len(parts), count, level)


def bootstrap_weights(
    statistic: Statistic,
    n: int,
    groups: Sequence[Hashable] | None = None,
    draws: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> list[Interval]:
    """Intervals of any figure that takes record weights (draws, n) to figures (draws, m), such as AUC."""
    index = group_index(groups, n)
    values = np.atleast_2d(statistic(np.ones((1, n), np.float32)))[0]
    drawn = [statistic(weights) for weights in draw_weights(index, draws, seed)]
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
    """The mean of the values that are not NaN, with its interval."""
    column = np.asarray(values, np.float64)
    known = ~np.isnan(column)
    parts = np.stack([np.where(known, column, 0), known], 1)
    return bootstrap_sums(parts, ratio, groups, **options)[0]


def ratio(sums: np.ndarray) -> np.ndarray:
    """(draws, 2) numerator and denominator to (draws, 1); NaN for 0 / 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return sums[:, :1] / sums[:, 1:2]


def weighted_auc(scores: np.ndarray, positive: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Area under the ROC curve with ties counted half, under each row of weights.

    Args:
        scores: (n,) higher means more likely.
        positive: (n,) bool.
        weights: (draws, n).

    Returns:
        (draws,), NaN where a draw has one class only.
    """
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(scores[order]) != 0])
    pos = np.add.reduceat(weights[:, order] * positive[order], starts, axis=1).astype(np.float64)  # (draws, ties)
    neg = np.add.reduceat(weights[:, order] * ~positive[order], starts, axis=1).astype(np.float64)
    below = np.cumsum(neg, 1) - neg
    with np.errstate(invalid="ignore", divide="ignore"):
        return (pos * (below + neg / 2)).sum(1) / (pos.sum(1) * neg.sum(1))


@dataclass(frozen=True)
class PairedTest:
    """Two runs on the same records.

    Attributes:
        difference: Mean of a − b, with its interval (by group).
        p_value: Two-sided, of the sign-flip permutation test over groups.
        wins, losses, ties: Records where a is higher, lower, equal.
        mcnemar: Exact McNemar p when both are right-or-wrong values, else None.
    """

    difference: Interval
    p_value: float
    wins: int
    losses: int
    ties: int
    mcnemar: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return vars(self) | {"difference": self.difference.to_dict()}


def paired_test(
    a: Sequence[float], b: Sequence[float], groups: Sequence[Hashable] | None = None, draws: int = 10_000, seed: int = 0
) -> PairedTest:
    """Compare two runs' per-record figures (n,); records where either is NaN are left out.

    Raises:
        DataError: The lengths differ, or no record has both.
    """
    if len(a) != len(b):
        raise DataError(f"expected the same records in both runs, got {len(a)} and {len(b)}; match them by id first")
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    both = ~(np.isnan(x) | np.isnan(y))
    if not both.any():
        raise DataError(f"expected records with a figure in both runs, got none of {len(a)}")
    kept = None if groups is None else [g for g, keep in zip(groups, both) if keep]
    gap = (x - y)[both]
    index = group_index(kept, len(gap))
    sums = np.bincount(index, gap)
    rng = np.random.default_rng(seed)
    observed, extreme = abs(sums.sum()), 0
    for start in range(0, draws, 256):
        flips = rng.integers(0, 2, (min(256, draws - start), len(sums))) * 2 - 1
        extreme += int((np.abs(flips @ sums) >= observed - 1e-12).sum())
    wins, losses = int((gap > 0).sum()), int((gap < 0).sum())
    binary = bool(np.isin(np.r_[x[both], y[both]], (0.0, 1.0)).all())
    return PairedTest(
        mean_interval(gap, kept, draws=min(draws, 1000), seed=seed),
        (extreme + 1) / (draws + 1),
        wins,
        losses,
        len(gap) - wins - losses,
        _mcnemar(wins, losses) if binary else None,
    )


def _mcnemar(wins: int, losses: int) -> float:
    from scipy.stats import binomtest

    return float(binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """P values adjusted for being several (Holm, 1979)."""
    order = np.argsort(p_values)
    adjusted = np.empty(len(p_values))
    worst = 0.0
    for rank, place in enumerate(order):
        worst = max(worst, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = worst
    return adjusted.tolist()


def krippendorff_alpha(ratings: np.ndarray | Sequence[Sequence[float]], level: str = "interval") -> float:
    """Agreement between raters: 1 is perfect, 0 is chance (Krippendorff, Content Analysis, 2004, chapter 11).

    Args:
        ratings: (raters, units), NaN where a rater did not rate.
        level: Of measurement: ``nominal``, ``ordinal`` or ``interval``.

    Returns:
        Alpha; NaN when fewer than two units have two ratings, 1 when all ratings are equal.
    """
    table = np.asarray(ratings, np.float64)
    table = table[:, (~np.isnan(table)).sum(0) >= 2]
    known = ~np.isnan(table)
    if table.shape[1] < 2:
        return float("nan")
    values = np.unique(table[known])
    counts = (table[:, :, None] == values).sum(0).astype(float)  # (units, values)
    pairs = counts.sum(1, keepdims=True) - 1
    together = (counts / pairs).T @ counts - np.diag((counts / pairs).sum(0))  # coincidence matrix
    margin = together.sum(0)
    expected = np.outer(margin, margin) - np.diag(margin)
    distance = _distance(values, margin, level)
    chance = (expected * distance).sum() / (margin.sum() - 1)
    return float(1 - (together * distance).sum() / chance) if chance > 0 else 1.0


def _distance(values: np.ndarray, margin: np.ndarray, level: str) -> np.ndarray:
    if level == "nominal":
        return 1.0 - np.eye(len(values))
    if level == "interval":
        return (values[:, None] - values) ** 2
    if level == "ordinal":
        reach = np.cumsum(margin)
        low, high = np.minimum.outer(np.arange(len(values)), np.arange(len(values))), None
        high = np.maximum.outer(np.arange(len(values)), np.arange(len(values)))
        between = reach[high] - reach[low] + margin[low]  # all ratings from one value to the other
        return (between - (margin[low] + margin[high]) / 2) ** 2 * (low != high)
    raise DataError(f"expected level nominal, ordinal or interval, got {level!r}")
