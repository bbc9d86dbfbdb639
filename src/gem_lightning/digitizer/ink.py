"""Ink of the traces on a flat page: finer than the network's columns, and exact at the tips of narrow waves.

A pen of width w draws a wave as the union of discs along it. The upper edge of that ink, moved down by the disc that
fits under it, touches the wave at its peaks; the lower edge, moved up, touches it at its troughs; on the flanks both
give the wave itself. So the middle of the ink is taken on flanks, and the edge's own estimate at tips.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numba
import numpy as np
from scipy.ndimage import grey_dilation
from scipy.signal import find_peaks

from gem_lightning.digitizer.network import against_paper
from gem_lightning.digitizer.rows import Row

FINE = 4  # places a column: 24 per mm, so that a pen's disc is round
_HALF = 0.5  # cover at an edge; px that the two estimates of a wave may differ by
_TIP_PX = 1.0  # by which a tip stands out from the ink next to it
_FLAT = 1.0  # px a column: where a run of ink is as long as the pen is wide
_SURE, _SEEN = 0.6, 0.1  # of the network: pixels that show the ink's colour, and what is no paper
_WIDE_PX = 5  # of strokes side by side, whose darkest part an edge has half of
_FEWEST = 500  # px, for a colour
_NEAR_PX = 4  # of the network's path, where the ink of a column is looked for
_BEFORE_PX, _GAP_PX = 1.5, 6  # before a row's start, where the network may not see its ink; a gap in a trace: 1 mm
_STROKE_PX = 60  # 1 cm: longer than a letter or a tick next to a trace
_WHOLE = 0.9  # of a row, less of which in long strokes says nothing of its ends
_CAP = 0.31  # of the pen's width, by which ink begins before the trace: between a round and a flat end (ours)
_LONGEST_PX = 150.0  # 25 mm up and down from the path: a taller wave leaves the paper


def ink_cover(page: np.ndarray, trace: np.ndarray, paper: np.ndarray) -> np.ndarray | None:
    """Share of each pixel (H, W) that is covered by the traces' ink: 1 in the middle of a stroke, near 0 on the grid.

    The colour is projected so that ink differs most from what else is on the page (Fisher's discriminant): black on red
    paper is recognised by its red. None where no trace is sure.

    Args:
        page: uint8 (H, W, 3), flat.
        trace: The network's trace map (H, W).
        paper: bool (H, W): where paper is.
    """
    sure = (trace > _SURE) & paper
    if sure.sum() < _FEWEST:
        return None
    value = against_paper(page)
    blanks = value[paper & (cv2.dilate(trace, np.ones((9, 9))) < _SEEN)][::7]
    if len(blanks) < _FEWEST:
        return None
    level, blank = np.median(value[sure], 0), np.median(blanks, 0)
    direction = np.linalg.solve(np.cov(blanks.T) + 1e-4 * np.eye(3), blank - level)
    scale = float(direction @ (blank - level))
    return np.clip(((blank - value) @ direction.astype(np.float32)) / scale, 0, 3).astype(np.float32)


def refined(cover: np.ndarray, row: Row) -> Row:
    """Return the row with its trace's height at quarter columns, and its ends where the ink ends.

    Args:
        cover: As :func:`ink_cover` gives it.
        row: As :func:`~gem_lightning.digitizer.rows.follow_rows` gives it.
    """
    height, width = cover.shape
    top, bottom = max(0, int(row.height.min() - _LONGEST_PX)), min(height, int(row.height.max() + _LONGEST_PX) + 1)
    darkest = cv2.dilate(cover[top:bottom], np.ones((_WIDE_PX, _WIDE_PX)))
    share = cover[top:bottom] / np.maximum(darkest, 1)  # a thin stroke is paler than the thick of a steep one
    band = cv2.resize(share, (width * FINE, bottom - top), interpolation=cv2.INTER_CUBIC)
    places = (np.arange(width * FINE) + 0.5) / FINE - 0.5
    path = np.interp(places, np.arange(width), row.height) - top
    upper, lower = _runs(band, path, _NEAR_PX, _LONGEST_PX)
    seen = np.isfinite(upper)
    slope = np.abs(np.gradient(path)) * FINE
    flat = seen & (slope < _FLAT)
    if flat.sum() < 50:
        return row
    pen = float(np.median((lower - upper)[flat]))
    upper, lower = np.where(seen, upper, path - pen / 2), np.where(seen, lower, path + pen / 2)
    high, low = _shrunk(upper, pen, 1.0), _shrunk(lower, pen, -1.0)
    found = replace(row, fine=_wave(high, low, upper, lower) + top)
    ends = _ends(seen, upper, lower, row)
    return found if ends is None else replace(found, start=ends[0] + _CAP * pen, stop=ends[1] - _CAP * pen)


def _ends(seen: np.ndarray, upper: np.ndarray, lower: np.ndarray, row: Row) -> tuple[float, float] | None:
    """Where the ink of a row begins and ends, px: with its first and last stroke that is as long as a trace's."""
    places = np.flatnonzero(seen)
    places = places[places >= (row.start - _BEFORE_PX) * FINE]
    if not len(places):
        return None
    gap = np.diff(places) > _GAP_PX * FINE
    a, b = places[:-1], places[1:]
    torn = np.maximum(upper[a], upper[b]) - np.minimum(lower[a], lower[b]) > _GAP_PX
    strokes = np.split(places, np.flatnonzero(gap | torn) + 1)
    long = [stroke for stroke in strokes if stroke[-1] - stroke[0] > _STROKE_PX * FINE]
    if not long or long[-1][-1] - long[0][0] < _WHOLE * (row.stop - row.start) * FINE:
        return None
    return long[0][0] / FINE, (long[-1][-1] + 1) / FINE


@numba.njit(cache=True)
def _runs(band: np.ndarray, path: np.ndarray, near: int, longest: float) -> tuple[np.ndarray, np.ndarray]:
    """Upper and lower edge (W,) of the ink that the path runs through; NaN where there is none."""
    height, width = band.shape
    upper, lower = np.full(width, np.nan), np.full(width, np.nan)
    for x in range(width):
        centre = int(path[x])
        at = -1
        for step in range(near + 1):
            for y in (centre - step, centre + step):
                if 0 <= y < height and at < 0 and band[y, x] > 0.5:
                    at = y
        if at < 0:
            continue
        y = at
        while y > 0 and band[y - 1, x] > 0.5 and at - y < longest:
            y -= 1
        if y > 0:
            a, b = band[y - 1, x], band[y, x]
            upper[x] = y - (b - 0.5) / (b - a) + 0.5
        else:
            upper[x] = 0.0
        y = at
        while y < height - 1 and band[y + 1, x] > 0.5 and y - at < longest:
            y += 1
        if y < height - 1:
            a, b = band[y, x], band[y + 1, x]
            lower[x] = y + (a - 0.5) / (a - b) + 0.5
        else:
            lower[x] = float(height)
    return upper, lower


def _shrunk(edge: np.ndarray, pen: float, side: float) -> np.ndarray:
    """Move an edge of the ink back by the pen's disc: ``side`` 1 for the upper edge, -1 for the lower one."""
    reach = int(pen / 2 * FINE)
    disc = np.sqrt((pen / 2) ** 2 - (np.arange(-reach, reach + 1) / FINE) ** 2)
    return side * grey_dilation(side * edge, structure=disc, mode="nearest")


def _wave(high: np.ndarray, low: np.ndarray, upper: np.ndarray, lower: np.ndarray) -> np.ndarray:
    """The wave between its estimates from above and from below: their mean where they agree, the nearer tip's else."""
    out = (high + low) / 2
    apart = low - high > _HALF
    edges = np.flatnonzero(np.diff(np.r_[False, apart, False].astype(int)))
    for start, stop in zip(edges[::2], edges[1::2], strict=True):
        peak, trough = (_from_tip(edge[start:stop]) for edge in (-upper, lower))
        if np.isfinite([peak, trough]).any():
            out[start:stop] = np.where(peak <= trough, high[start:stop], low[start:stop])
    return out


def _from_tip(edge: np.ndarray) -> np.ndarray:
    """How far each place is from the nearest tip of an edge, upwards; infinite where there is none."""
    tips, _ = find_peaks(edge, prominence=_TIP_PX)
    place = np.arange(len(edge), dtype=float)
    return np.abs(place[:, None] - tips[None]).min(1, initial=np.inf)
