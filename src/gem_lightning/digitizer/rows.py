"""Rows of traces on a flat page: where they run, and their height in each column."""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from scipy.ndimage import gaussian_filter1d, maximum_filter1d
from scipy.signal import find_peaks

from gem_lightning.digitizer.rectify import PX_PER_MM

_SEEN = 0.3  # of the network's trace map: a trace runs through the column
_FAINT = 0.15  # below, the map is paper
_EDGE_MM = 7.0  # of the page, where no baseline lies but the shadow of a fold or a margin
_CLOSEST_MM = 7.0  # between two rows: twelve rows on a letter page lie 15 mm apart
#: A row is where traces dwell: at least this share of the strongest row's, and as much above the valley next to it.
_LEAST_ROW, _LEAST_RISE = 0.08, 0.05
_REACH = (1.2, 1.0)  # pitches above and below a baseline that a trace is sought in: R waves are taller than S deep
#: Of a pixel up or down along ink and over blank paper, and of any jump, as from a lead's end to the next one (ours).
_INK_COST, _BLANK_COST, _JUMP_COST = 0.01, 0.08, 6.0
_TAKEN_COST = 2.5  # of a pixel on a neighbour's trace: crossings are short
_FAR_COST = 1.0  # of a pitch away from the own baseline, squared, beyond half a pitch
_FLOOR = 5e-3  # of the map in the logarithm: an unseen column costs 5
_GAP_PX = 4  # a steep flank may hide a trace for so long; the pulse in front of a row ends a millimetre before it


@dataclass(frozen=True)
class Row:
    """One row of traces.

    Attributes:
        baseline: Height at which it dwells, px of the flat page.
        height: float64 (W,) of the trace in the middle of each column, px; meaningless outside ``start`` to ``stop``.
        confidence: float32 (W,) in [0, 1].
        start, stop: First and last place of the trace, px, to fractions of a column.
        fine: float64 (4 W,) height at quarter columns, from the ink; None where it was not seen.
        explained: float64 (W,) share of the ink near the trace that the trace explains; None like ``fine``.
    """

    baseline: float
    height: np.ndarray
    confidence: np.ndarray
    start: float
    stop: float
    fine: np.ndarray | None = None
    explained: np.ndarray | None = None


def find_baselines(trace: np.ndarray) -> np.ndarray:
    """Return the heights at which traces dwell, px, from top to bottom.

    Args:
        trace: The network's trace map (H, W).
    """
    profile = gaussian_filter1d(np.clip(trace - _FAINT, 0, None).sum(1), 0.8 * PX_PER_MM)
    top = float(profile.max())
    if top <= 0:
        return np.zeros(0)
    peaks, _ = find_peaks(
        np.pad(profile, 1), height=_LEAST_ROW * top, distance=int(_CLOSEST_MM * PX_PER_MM), prominence=_LEAST_RISE * top
    )
    edge = _EDGE_MM * PX_PER_MM
    return peaks[(peaks > edge) & (peaks < len(profile) - edge)].astype(float) - 1


def follow_rows(trace: np.ndarray, baselines: np.ndarray) -> list[Row]:
    """Follow each row's trace from left to right, twice: then with what the neighbours took.

    Args:
        trace: The network's trace map (H, W).
        baselines: As :func:`find_baselines` gives them.
    """
    if not len(baselines):
        return []
    pitch = float(np.median(np.diff(baselines))) if len(baselines) > 1 else trace.shape[0] / 3
    found = [_follow(trace, base, pitch, None) for base in baselines]
    if len(baselines) > 1:
        taken = [_taken(trace.shape, *one) for one in found]
        for k, base in enumerate(baselines):
            others = [taken[j] for j in (k - 1, k + 1) if 0 <= j < len(taken)]
            found[k] = _follow(trace, base, pitch, np.maximum.reduce(others))
    rows = []
    for base, (height, confidence) in zip(baselines, found, strict=True):
        ends = _ends(confidence)
        if ends is not None:
            rows.append(Row(float(base), height, confidence, *ends))
    return rows


def _follow(
    trace: np.ndarray, baseline: float, pitch: float, taken: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    top = max(0, int(baseline - _REACH[0] * pitch))
    bottom = min(trace.shape[0], int(baseline + _REACH[1] * pitch) + 1)
    band = trace[top:bottom]
    cost = -np.log(np.clip(band, _FLOOR, 1)).astype(np.float64)
    away = np.clip(np.abs(np.arange(top, bottom) - baseline) / pitch - 0.5, 0, None)
    cost += _FAR_COST * away[:, None] ** 2
    if taken is not None:
        cost += _TAKEN_COST * taken[top:bottom]
    stroke = maximum_filter1d(band, 3, axis=1)  # a steep stroke leans over a column or two
    path = _cheapest_path(cost, _BLANK_COST - (_BLANK_COST - _INK_COST) * np.clip(2 * stroke, 0, 1), _JUMP_COST)
    near = np.clip(path[None] + np.arange(-3, 4)[:, None], 0, band.shape[0] - 1)
    weight = band[near, np.arange(band.shape[1])[None]]
    height = (weight * near).sum(0) / (weight.sum(0) + 1e-9)
    seen = weight.sum(0) > 0.05  # of seven pixels: no weight, no centre
    return np.where(seen, height, path) + top + 0.5, weight.max(0)


def _taken(shape: tuple[int, ...], height: np.ndarray, confidence: np.ndarray) -> np.ndarray:
    taken = np.zeros(shape, np.float32)
    columns = np.flatnonzero(confidence > _SEEN)
    for step in range(-2, 3):  # a trace's width
        taken[np.clip(height[columns].astype(int) + step, 0, shape[0] - 1), columns] = 1
    return taken


def _ends(confidence: np.ndarray) -> tuple[float, float] | None:
    """First and last place of a trace, by where its confidence passes one half; None where it is hardly seen."""
    dense = gaussian_filter1d((confidence > _SEEN).astype(np.float64), 2 * PX_PER_MM)
    inside = np.flatnonzero(dense > 0.5)
    if len(inside) < 5 * PX_PER_MM:  # half a centimetre is no row
        return None
    seen = np.flatnonzero(confidence > 0.5)
    seen = seen[(seen >= inside[0] - 4 * PX_PER_MM) & (seen <= inside[-1] + 4 * PX_PER_MM)]
    if not len(seen):
        return None
    first = _connected(confidence, int(inside[0]), -1)
    last = _connected(confidence, int(inside[-1]), 1)
    return float(first), float(last + 1)


def _connected(confidence: np.ndarray, column: int, step: int) -> int:
    """Walk from a column outwards while the trace goes on; a gap of two thirds of a millimetre ends it."""
    gap, last = 0, column
    while 0 <= column < len(confidence) and gap <= _GAP_PX:
        if confidence[column] > 0.5:
            gap, last = 0, column
        else:
            gap += 1
        column += step
    return last


@numba.njit(cache=True)
def _cheapest_path(cost: np.ndarray, step: np.ndarray, jump: float) -> np.ndarray:
    """Return the row (W,) in each column of the path of least cost.

    Args:
        cost: (H, W) of being at a pixel.
        step: (H, W) of moving up or down over a pixel.
        jump: Of a move at most, however far.
    """
    height, width = cost.shape
    total = cost[:, 0].copy()
    origin = np.zeros((width, height), np.int32)
    moved = np.empty(height)
    source = np.empty(height, np.int32)
    for x in range(1, width):
        best = 0
        for y in range(1, height):
            if total[y] < total[best]:
                best = y
        for y in range(height):
            moved[y] = total[y]
            source[y] = y
        for y in range(1, height):
            if moved[y - 1] + step[y, x] < moved[y]:
                moved[y] = moved[y - 1] + step[y, x]
                source[y] = source[y - 1]
        for y in range(height - 2, -1, -1):
            if moved[y + 1] + step[y, x] < moved[y]:
                moved[y] = moved[y + 1] + step[y, x]
                source[y] = source[y + 1]
        for y in range(height):
            if total[best] + jump < moved[y]:
                moved[y] = total[best] + jump
                source[y] = best
            origin[x, y] = source[y]
            total[y] = moved[y] + cost[y, x]
    path = np.empty(width, np.int64)
    path[width - 1] = np.argmin(total)
    for x in range(width - 1, 0, -1):
        path[x - 1] = origin[x, path[x]]
    return path
