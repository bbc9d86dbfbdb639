"""Move a followed trace until the line that it would draw is the ink that is seen: exact on flanks and at tips.

A trace is a chain of knots. The cover of a pixel follows from its distance to the chain, the pen's width and the page's
blur; its change with each knot's height is known, so Gauss and Newton's steps need a tridiagonal system only. The first
steps see a blurred page: a knot moves only where the line's edge and the ink's overlap.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import cv2
import numba
import numpy as np
from scipy.linalg import solveh_banded
from scipy.ndimage import map_coordinates
from scipy.optimize import least_squares

from gem_lightning.digitizer.rows import Row

FINE = 4  # knots a column: 24 per mm, twelve ms of a 500 Hz recording hold seven of them
_BLURS = (2.0, 1.0, 0.5)  # px, of the first rounds; the network's path lies within two pixels of the ink
_ROUNDS = 2  # without blur, each after the pen is measured on what the round before found
_STEPS = 6  # of Gauss and Newton a round
_FARTHEST = 6.0  # px a knot moves in a step
_STIFF, _SOFT = 0.006, 0.3  # weight of a bend, and px a column squared from which it costs less: a tip is a bend
_DAMPED = 5e-4  # of knots that no pixel is near
_MORE, _LESS = 0.3, 0.6  # cover more and less than drawn, beyond which a pixel counts less: print may lie over a trace
_DARKEST = 1.5  # cover: crossings are darker than a stroke, and no more ink
_ROOM_PX = 60  # above and below the path, 1 cm, that a tip may lie away
_LEVEL = 0.3  # px a column: a stretch on which the pen is measured
_FEWEST = 50  # columns to measure the pen on
_PALEST = 0.2  # cover in a trace's middle; less is the grid
_PROFILE = 4  # px to either side of the trace that show the pen
_BEFORE_PX = 1.5  # before a row's start, where the network may not see its ink; a pulse's foot is further
_GAP_PX = 4  # between two strokes of one trace
_STROKE_PX = 25  # 4 mm: longer than a letter or a tick next to a trace
_DARK = 0.4  # of the ink in a line's middle: glare and shadow make it paler
_WHOLE = 0.9  # of a row, less of which in long strokes says nothing of its ends
_CAP = 0.3  # of half the pen's width, by which ink begins before the trace: between a round and a flat end (ours)


class Pen(NamedTuple):
    """Half of the pen's width and the page's blur, px, and the cover of its solid ink."""

    half: float
    blur: float
    level: float

    @property
    def peak(self) -> float:
        """Cover in the middle of a line."""
        return float(_cover(0.0, *self)[0])

    def blurred(self, blur: float) -> Pen:
        """The pen on a page that is blurred further."""
        return self._replace(blur=math.hypot(self.blur, blur))


def redraw(cover: np.ndarray, rows: Sequence[Row]) -> list[Row]:
    """Return the rows with their traces' height at quarter columns, and how much of their ink each column explains.

    Args:
        cover: As :func:`~gem_lightning.digitizer.ink.ink_cover` gives it.
        rows: As :func:`~gem_lightning.digitizer.rows.follow_rows` gives them.
    """
    image = np.minimum(cover, _DARKEST).astype(np.float64)
    chains = [_Chain.of(row) for row in rows]
    pen = measured_pen(image, chains) if chains else None
    if pen is None:
        return list(rows)
    free = np.ones_like(image)
    for blur in _BLURS:
        seen = cv2.GaussianBlur(image, (0, 0), blur)
        for chain in chains:
            chain.improve(seen, free, pen.blurred(blur))
    drawn = [chain.drawn(image.shape, pen) for chain in chains]
    weights = [_not_drawn(drawn[:k] + drawn[k + 1 :], free) for k in range(len(chains))]
    for _ in range(_ROUNDS):
        pen = measured_pen(image, chains) or pen
        for chain, weight in zip(chains, weights, strict=True):
            chain.improve(image, weight, pen)
    found = []
    for row, chain, weight in zip(rows, chains, weights, strict=True):
        fine = np.repeat(row.height, FINE)
        fine[chain.first : chain.first + len(chain.height)] = chain.height
        start, stop = chain.ends(image, pen) or (row.start, row.stop)
        explained = chain.explained(image, weight, pen)
        found.append(replace(row, fine=fine, explained=explained, start=start, stop=stop))
    return found


def _not_drawn(others: Sequence[np.ndarray], free: np.ndarray) -> np.ndarray:
    """Weight (H, W) of pixels for a chain: 0 where another one's ink lies."""
    return 1 - np.clip(np.maximum.reduce(others), 0, 1) ** 2 if others else free


class _Chain:
    """One row's knots: at quarter columns from ``first`` on."""

    def __init__(self, first: int, height: np.ndarray) -> None:
        self.first, self.height = first, height

    @classmethod
    def of(cls, row: Row) -> _Chain:
        """The row's own path, and a little beyond its ends."""
        first, last = max(0, int(row.start)), min(len(row.height), math.ceil(row.stop))
        columns = np.arange(first, last)
        beyond = math.ceil(_BEFORE_PX)
        places = np.arange(max(0, first - beyond) * FINE, min(len(row.height), last + beyond) * FINE)
        return cls(int(places[0]), np.interp((places + 0.5) / FINE, columns + 0.5, row.height[columns]))

    @property
    def places(self) -> np.ndarray:
        """Of the knots, px from the left."""
        return (np.arange(self.first, self.first + len(self.height)) + 0.5) / FINE

    def improve(self, image: np.ndarray, weight: np.ndarray, pen: Pen) -> None:
        """Move the knots to where the ink is."""
        top = max(0, int(self.height.min()) - _ROOM_PX)
        bottom = min(len(image), int(self.height.max()) + _ROOM_PX)
        self.height = top + _fitted(image[top:bottom], weight[top:bottom], self.height - top, self.places[0], pen)

    def drawn(self, shape: tuple[int, ...], pen: Pen) -> np.ndarray:
        """The cover (H, W) of the chain alone."""
        out = np.zeros(shape)
        _system(out, out, self.height, self.places[0], *pen, out)
        return out

    def ends(self, image: np.ndarray, pen: Pen) -> tuple[float, float] | None:
        """Where the ink begins and ends, px: with its first and last stroke that is as long as a trace's."""
        way = np.r_[0, np.cumsum(np.hypot(1 / FINE, np.diff(self.height)))]  # along the trace
        steps = np.arange(0, way[-1], 1 / FINE)
        across = np.interp(steps, way, self.places)
        place = np.stack([np.interp(steps, way, self.height), across]) - 0.5
        seen = map_coordinates(image, place, order=1) > _DARK * pen.peak
        inked = np.flatnonzero(seen)
        strokes = np.split(inked, np.flatnonzero(np.diff(inked) > _GAP_PX * FINE) + 1)
        ends = [(across[s[0]], across[s[-1]]) for s in strokes if len(s) and across[s[-1]] - across[s[0]] > _STROKE_PX]
        if not ends or ends[-1][1] - ends[0][0] < _WHOLE * (self.places[-1] - self.places[0]):
            return None
        cap = _CAP * pen.half
        return ends[0][0] + cap, ends[-1][1] - cap

    def explained(self, image: np.ndarray, weight: np.ndarray, pen: Pen) -> np.ndarray:
        """Share (W,) of the ink near the chain, seen or drawn, that is both."""
        drawn = self.drawn(image.shape, pen)
        near = cv2.dilate(drawn, np.ones((5, 3))) > 0.1
        seen = np.where(near, np.clip(image / pen.peak, 0, 1), 0) * weight
        drawn = np.clip(drawn / pen.peak, 0, 1) * weight
        both, either = np.minimum(seen, drawn).sum(0), np.maximum(seen, drawn).sum(0)
        kernel = np.ones(5)  # a column of a tip has few pixels
        return np.convolve(both, kernel, "same") / (np.convolve(either, kernel, "same") + 1e-9)


def measured_pen(image: np.ndarray, chains: Sequence[_Chain]) -> Pen | None:
    """Measure the pen by the cover across level stretches of the traces; None where there are too few or no ink."""
    away, value = (np.concatenate(part) for part in zip(*(_across(image, chain) for chain in chains), strict=True))
    bins = np.rint(away * FINE).astype(int)
    distance, median = [], []
    for k in range(_PROFILE * FINE):
        if (bins == k).sum() > _FEWEST:
            distance.append(k / FINE)
            median.append(float(np.median(value[bins == k])))
    if len(distance) < _PROFILE or median[0] < _PALEST:
        return None

    def misfit(p: np.ndarray) -> np.ndarray:
        return np.array([_cover(d, p[0], p[1], p[2])[0] for d in distance]) + p[3] - median

    # the last is what the grid leaves on blank paper
    found = least_squares(misfit, [0.9, 0.6, 1.0, 0.0], bounds=([0.2, 0.3, 0.2, -0.2], [4.0, 2.5, 2.0, 0.5])).x
    return Pen(*map(float, found[:3]))


def _across(image: np.ndarray, chain: _Chain) -> tuple[np.ndarray, np.ndarray]:
    """Distance from the chain, px, and cover of pixels above and below its level stretches."""
    columns = np.arange(int(chain.places[0]) + 1, int(chain.places[-1]))
    at = np.interp(columns + 0.5, chain.places, chain.height)
    level = np.abs(np.gradient(at)) < _LEVEL if len(at) > 1 else np.zeros(len(at), bool)
    columns, at = columns[level], at[level]
    rows = np.floor(at).astype(int)[None] + np.arange(-_PROFILE, _PROFILE + 1)[:, None]
    inside = (rows >= 0) & (rows < len(image))
    return np.abs(rows + 0.5 - at[None])[inside], image[rows[inside], np.broadcast_to(columns, rows.shape)[inside]]


def _fitted(band: np.ndarray, weight: np.ndarray, height: np.ndarray, first: float, pen: Pen) -> np.ndarray:
    height, band = height.copy(), np.ascontiguousarray(band)
    unused = np.zeros((0, 0))
    for _ in range(_STEPS):
        own, next_, pull = _system(band, weight, height, first, *pen, unused)
        bend = np.diff(height, 2)
        stiff = _STIFF * FINE / (np.abs(bend) * FINE**2 * 0.02 + _SOFT)
        system = np.zeros((3, len(height)))  # upper bands of the symmetric matrix, as scipy stores them
        system[2], system[1, 1:] = own + _DAMPED, next_[:-1]
        for k, factor in enumerate((1.0, 4.0, 1.0)):
            system[2, k : len(height) - 2 + k] += factor * stiff
        system[1, 1:-1] -= 2 * stiff
        system[1, 2:] -= 2 * stiff
        system[0, 2:] += stiff
        force = stiff * bend
        pull[:-2] -= force
        pull[1:-1] += 2 * force
        pull[2:] -= force
        height += np.clip(solveh_banded(system, pull), -_FARTHEST, _FARTHEST)
        np.clip(height, 0, len(band), out=height)
    return height


@numba.njit(cache=True)
def _cover(distance: float, half: float, blur: float, level: float) -> tuple[float, float]:
    """Cover at a distance from a line's middle, and its change with the distance."""
    near, far = (half - distance) / blur, (half + distance) / blur
    value = 0.5 * level * (math.erf(near / math.sqrt(2)) + math.erf(far / math.sqrt(2)))
    slope = level / (blur * math.sqrt(2 * math.pi)) * (math.exp(-(far**2) / 2) - math.exp(-(near**2) / 2))
    return value, slope


@numba.njit(cache=True)
def _system(
    band: np.ndarray,
    weight: np.ndarray,
    height: np.ndarray,
    first: float,
    half: float,
    blur: float,
    level: float,
    out: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Diagonal, off-diagonal and right side of the normal equations; an ``out`` that is not empty is drawn on."""
    knots = len(height)
    own, next_, pull = np.zeros(knots), np.zeros(knots), np.zeros(knots)
    reach = half + 3 * blur
    around = math.ceil(reach * FINE) + 1
    for x in range(max(0, int(first - reach)), min(band.shape[1] - 1, int(first + knots / FINE + reach)) + 1):
        middle = int((x + 0.5 - first) * FINE)
        a, b = max(0, middle - around), min(knots - 1, middle + around + 1)
        if b <= a:
            continue
        low, high = height[a : b + 1].min(), height[a : b + 1].max()
        for y in range(max(0, int(low - reach)), min(band.shape[0] - 1, int(high + reach)) + 1):
            k, t, away, distance = _nearest(height, first, a, b, x + 0.5, y + 0.5, reach)
            if k < 0:
                continue
            value, slope = _cover(distance, half, blur, level)
            if out.size:
                out[y, x] = value
            error = band[y, x] - value
            one = weight[y, x] / (1 + (error / (_MORE if error > 0 else _LESS)) ** 2)
            turn = -slope * away / distance if distance > 1e-6 else 0.0
            left, right = turn * (1 - t), turn * t
            own[k] += one * left * left
            own[k + 1] += one * right * right
            next_[k] += one * left * right
            pull[k] += one * left * error
            pull[k + 1] += one * right * error
    return own, next_, pull


@numba.njit(cache=True)
def _nearest(
    height: np.ndarray, first: float, a: int, b: int, x: float, y: float, reach: float
) -> tuple[int, float, float, float]:
    """Piece of the chain nearest to a pixel, where on it, how far below it the pixel lies, and the distance."""
    best, k, at, away = reach * reach, -1, 0.0, 0.0
    for j in range(a, b):
        up, down = min(height[j], height[j + 1]), max(height[j], height[j + 1])
        if y < up - reach or y > down + reach:
            continue
        dx, dy = 1.0 / FINE, height[j + 1] - height[j]
        from_x, from_y = x - first - j / FINE, y - height[j]
        t = min(1.0, max(0.0, (from_x * dx + from_y * dy) / (dx * dx + dy * dy)))
        ex, ey = from_x - t * dx, from_y - t * dy
        square = ex * ex + ey * ey
        if square < best:
            best, k, at, away = square, j, t, ey
    return k, at, away, math.sqrt(best)
