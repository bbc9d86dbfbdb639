"""Which layout a page has: the one whose leads agree with each other as Einthoven and Goldberger say they must."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from gem_lightning.ecg.record import LEADS
from gem_lightning.render.layout import catalogue, find_layout

#: Limb leads as sums of I and II (Einthoven; Goldberger).
_OF_I_II = {"I": (1, 0), "II": (0, 1), "III": (-1, 1), "aVR": (-0.5, -0.5), "aVL": (1, -0.5), "aVF": (-0.5, 1)}
_CHEST = tuple(lead for lead in LEADS if lead.startswith("V"))
#: Share of the leads' power that the relations may leave over: what tracing errors of 15 dB leave (ours).
AGREES = 0.03
#: The same where QRS complexes agree as well as the rest: noise of the ECG itself leaves more of the quiet time (ours).
AGREES_EVENLY = 0.045
#: The same over all of the time; beyond it, and twice what quiet time leaves, rows that cross were swapped, and chest
#: leads may be too (ours).
CROSSED = 0.03
#: The next best layout has to leave at least this many times more (ours).
_CLEARLY = 3.0
_AGREEING = 0.85  # of the time: where QRS complexes of two rows cross, either may be followed (ours)
_ERROR_MM = 0.15  # of a traced sample; so that flat leads do not decide by their errors


@dataclass(frozen=True)
class Strip:
    """A lead's place on the page: row, and start and stop as shares of the row's width."""

    lead: str
    row: int
    start: float
    stop: float


@dataclass(frozen=True)
class Choice:
    """A layout and how well its leads agree.

    Attributes:
        name: Of ``layouts.yaml``.
        strips: Of all rows.
        left_over: Share of power that the relations leave over most of the time; None where none can be tested.
        at_worst: The same over all of the time.
    """

    name: str
    strips: tuple[Strip, ...]
    left_over: float | None
    at_worst: float | None = None

    @property
    def crossed(self) -> bool:
        """Whether rows were swapped where they cross: the leads disagree at their QRS complexes only."""
        if self.left_over is None or self.at_worst is None:
            return False
        return self.at_worst > max(CROSSED, 2 * self.left_over)


def strips_of(name: str) -> tuple[Strip, ...]:
    """Return the strips of a layout of ``layouts.yaml``, row by row."""
    rows, rhythm, _ = find_layout(name)
    found = []
    for k, row in enumerate([*rows, *([lead] for lead in rhythm)]):
        found += [Strip(lead, k, c / len(row), (c + 1) / len(row)) for c, lead in enumerate(row)]
    return tuple(found)


def row_count(name: str) -> int:
    """Return the number of rows of a layout."""
    return 1 + max(strip.row for strip in strips_of(name))


def rank_layouts(signals: np.ndarray, names: Sequence[str] | None = None) -> list[Choice]:
    """Test every layout of as many rows as there are, the one that agrees best first.

    Args:
        signals: float (rows, columns): the rows' traces in mm, upwards, over the same stretch; NaN where unseen.
        names: Of the layouts to test; None tests all of ``layouts.yaml``.
    """
    known = catalogue()["layouts"] if names is None else names
    fitting = [name for name in known if row_count(name) == len(signals)]
    choices = []
    for name in fitting:
        strips = strips_of(name)
        choices.append(Choice(name, strips, *_left_over(signals, strips)))
    return sorted(choices, key=lambda c: 2.0 if c.left_over is None else c.left_over)


def chosen(choices: Sequence[Choice]) -> Choice | None:
    """Return the layout that the leads prove, None where none does or two do."""
    if not choices or choices[0].left_over is None:
        return None
    if choices[0].left_over > (AGREES if choices[0].crossed else AGREES_EVENLY):
        return None
    rivals = [c for c in choices[1:] if c.left_over is not None and not _same_leads(c, choices[0])]
    if rivals and rivals[0].left_over < _CLEARLY * max(choices[0].left_over, 1e-3):  # type: ignore[operator]
        return None
    return choices[0]


def _same_leads(one: Choice, two: Choice) -> bool:
    return {(s.lead, s.row, s.start) for s in one.strips} == {(s.lead, s.row, s.start) for s in two.strips}


def _left_over(signals: np.ndarray, strips: Sequence[Strip]) -> tuple[float | None, float | None]:
    """Share of the power of strips shown at one time that no heart could make; None where any signals would fit.

    Over the :data:`_AGREEING` part of the time that agrees best, and over all of it.
    """
    columns = signals.shape[1]
    edges = sorted({edge for strip in strips for edge in (strip.start, strip.stop)})
    wrong, power = np.zeros(2), np.zeros(2)
    for start, stop in pairwise(edges):
        together = [s for s in strips if s.start <= start and s.stop >= stop]
        a, b = int(np.ceil(start * columns)), int(stop * columns)
        margin = (b - a) // 20  # next to a border the traces of two leads may touch
        seen = signals[[s.row for s in together], a + margin : b - margin]
        weights = np.array([_weights(s.lead) for s in together])
        free = len(together) - np.linalg.matrix_rank(weights)
        seen = seen[:, np.isfinite(seen).all(0)]
        if free == 0 or seen.shape[1] < 20:
            continue
        seen = seen - np.median(seen, axis=1, keepdims=True)
        involved = _involved(weights)
        basis = np.linalg.svd(weights[involved])[0][:, : np.linalg.matrix_rank(weights[involved])]
        rest = seen[involved] - basis @ (basis.T @ seen[involved])
        each = (rest**2).sum(0)
        own = (seen[involved] ** 2).sum(0) + involved.sum() * _ERROR_MM**2
        for k, share in enumerate((_AGREEING, 1.0)):
            kept = each <= np.quantile(each, share)
            wrong[k] += each[kept].sum() * involved.sum() / free
            power[k] += own[kept].sum()
    quiet, whole = (float(w / p) if p else None for w, p in zip(wrong, power, strict=True))
    return quiet, whole


def _involved(weights: np.ndarray) -> np.ndarray:
    """Which strips a relation can be tested on: those that the others together can make up."""
    rank = np.linalg.matrix_rank(weights)
    return np.array([np.linalg.matrix_rank(np.delete(weights, k, 0)) == rank for k in range(len(weights))])


def _weights(lead: str) -> np.ndarray:
    """A lead in terms of I, II and V1 to V6; a minus in front inverts it."""
    sign, name = (-1.0, lead[1:]) if lead.startswith("-") else (1.0, lead)
    limb = _OF_I_II.get(name, (0.0, 0.0))
    return sign * np.array([*limb, *(float(name == chest) for chest in _CHEST)])
