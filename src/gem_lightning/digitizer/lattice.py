"""The grid of ECG paper in an image: direction and period of its lines, place by place, from local spectra."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

#: Weight of the k-th harmonic of the 5 mm lattice: its own and that of the 1 mm lines count most (ours).
_HARMONICS = {1: 1.0, 2: 0.6, 3: 0.6, 4: 0.6, 5: 1.2}
#: Frequencies between the harmonics: energy there means that the true period is longer (ours).
_BETWEEN = (0.5, 1.5, 2.5)
_BETWEEN_WEIGHT = 0.5
_TILT_DEG = 20.0  # a page that is turned further is not held upright; a quarter turn is undone before
#: Widest and narrowest paper that fills an image's longer side, mm: a strip of one lead, a wall-sized print.
_SIDE_MM = (110.0, 450.0)
_TILE_PX = 384  # at least; holds eight large boxes of a page of 1,500 px
_TILES = 5  # along the longer side
_INK = 8.0  # times the grid's spread: darker is a trace or print (ours; heavy lines reach 5)
_FAINTEST_INK = 0.15  # darker than its surroundings by this share: a thin trace in a faded copy (ours)
_BINS = 1024  # of a tile's spectrum: a tenth of a per cent in the period, with interpolation
_LINE_BINS = 25  # twice a line's width in the spectrum of a tile: what is as wide is the traces' and the light's
_LOCAL = 16  # steps of angle and period around the page's that a tile may differ by: perspective of a hand-held camera


class GridObservations(NamedTuple):
    """What each tile of an image says of the grid.

    Attributes:
        family: (n,) 0 for lines of equal time (vertical), 1 for lines of equal voltage.
        centre: (n, 2) of the tile, px.
        gradient: (n, 2) change of the paper's coordinate across the lines, mm per px.
        score: (n,) strength of the lattice over the tile's median spectrum.
        period: px of 5 mm over the whole page.
    """

    family: np.ndarray
    centre: np.ndarray
    gradient: np.ndarray
    score: np.ndarray
    period: float


def grid_contrast(image: np.ndarray) -> np.ndarray:
    """Return how much darker than its surroundings each pixel is; traces and print are blanked out.

    Args:
        image: uint8 (H, W, 3). The darkest colour counts, so that a grid of any colour is seen.

    Returns:
        float32 (H, W); lines are negative.
    """
    smooth = cv2.GaussianBlur(image, (0, 0), 0.6)
    grid, print_ = (_darkness(smooth.min(2)), _darkness(smooth.max(2)))
    ink = np.zeros(grid.shape, np.uint8)
    for ratio in (grid, print_):  # a coloured grid is bright in one colour, black ink in none
        ink |= (ratio < -max(_FAINTEST_INK, _INK * _spread(ratio))).astype(np.uint8)
    spread = _spread(grid)
    grid = np.clip(grid, -3.5 * spread, 2 * spread)
    grid[cv2.dilate(ink, np.ones((3, 3))) > 0] = 0
    return grid - cv2.GaussianBlur(grid, (0, 0), 15)


def _darkness(channel: np.ndarray) -> np.ndarray:
    """Share by which each pixel is brighter than its surroundings, 15 px wide: wider than any line."""
    value = channel.astype(np.float32)
    return value / (cv2.GaussianBlur(value, (0, 0), 15) + 1) - 1


def _spread(ratio: np.ndarray) -> float:
    return 1.5 * float(np.sqrt(np.median(ratio * ratio))) + 1e-3


def observe_grid(contrast: np.ndarray) -> GridObservations:
    """Find the grid's direction and period in each tile of an image.

    Args:
        contrast: As :func:`grid_contrast` gives it.
    """
    tiles = _spectra(contrast)
    side = max(contrast.shape)
    angles = np.deg2rad(np.arange(-_TILT_DEG, _TILT_DEG + 0.1, 0.5))
    shortest = max(9.0, side / _SIDE_MM[1] * 5)  # 9 px: fewer hold no 1 mm lines
    periods = np.exp(np.linspace(np.log(shortest), np.log(side / _SIDE_MM[0] * 5), 120))
    scores = [[_lattice_score(spectrum, angles, periods, family) for _, spectrum in tiles] for family in (0, 1)]
    # neighbours count too: perspective spreads the tiles around the page's own angle and period
    pooled = [np.sum([cv2.dilate(score, np.ones((7, 7))) for score in family], axis=0) for family in scores]
    period = int(np.argmax(pooled[0].max(0) + pooled[1].max(0)))  # boxes are square
    near = slice(max(0, period - 4), period + 5)
    angle = [int(np.argmax(score[:, near].max(1))) for score in pooled]
    rows = []
    for family in (0, 1):
        for (centre, spectrum), score in zip(tiles, scores[family], strict=True):
            rows.append(
                (family, *centre, *_local_peak(spectrum, score, angles, periods, angle[family], period, family))
            )
    found = np.array(rows)
    return GridObservations(found[:, 0].astype(int), found[:, 1:3], found[:, 3:5], found[:, 5], float(periods[period]))


def _spectra(contrast: np.ndarray) -> list[tuple[tuple[float, float], np.ndarray]]:
    """Centre (x, y) and lines of the log spectrum (_BINS, _BINS / 2 + 1) of overlapping tiles."""
    height, width = contrast.shape
    size = min(max(_TILE_PX, max(height, width) // _TILES), height, width)
    window = np.hanning(size)[:, None] * np.hanning(size)[None]
    places = [np.linspace(0, n - size, max(1, int(np.ceil((n - size) / (0.8 * size))) + 1)).astype(int)
              for n in (height, width)]  # fmt: skip
    tiles = []
    for y in np.unique(places[0]):
        for x in np.unique(places[1]):
            power = np.abs(np.fft.rfft2(contrast[y : y + size, x : x + size] * window, (_BINS, _BINS)))
            power = np.fft.fftshift(power, axes=0)
            level = np.log1p(power / (np.median(power) + 1e-9)).astype(np.float32)
            # blur and shadows leave most in the low frequencies: a line is what stands out of its surroundings
            tiles.append(((x + size / 2, y + size / 2), level - cv2.blur(level, (_LINE_BINS, _LINE_BINS))))
    return tiles


def _at(spectrum: np.ndarray, fx: np.ndarray, fy: np.ndarray) -> np.ndarray:
    """Read a spectrum at frequencies (cycles per px) of either sign."""
    sign = np.where(fx < 0, -1.0, 1.0)
    x, y = (fx * sign * _BINS).astype(np.float32), (fy * sign * _BINS + _BINS / 2).astype(np.float32)
    return cv2.remap(spectrum, x, y, cv2.INTER_LINEAR)


def _lattice_score(spectrum: np.ndarray, angles: np.ndarray, periods: np.ndarray, family: int) -> np.ndarray:
    """Score (angles, periods): spectrum at the harmonics of a lattice, less what lies between them."""
    angle, period = np.meshgrid(angles, periods, indexing="ij")
    across = (np.cos(angle), np.sin(angle)) if family == 0 else (-np.sin(angle), np.cos(angle))
    total = np.zeros(angle.shape, np.float32)
    for k, weight in [*_HARMONICS.items(), *((k, -_BETWEEN_WEIGHT) for k in _BETWEEN)]:
        frequency = k / period
        seen = _at(spectrum, frequency * across[0], frequency * across[1])
        total += np.where(frequency < 0.48, weight * seen, 0)  # beyond half a cycle per px nothing is seen
    return total


def _local_peak(
    spectrum: np.ndarray,
    score: np.ndarray,
    angles: np.ndarray,
    periods: np.ndarray,
    angle: int,
    period: int,
    family: int,
) -> tuple[float, float, float]:
    """Gradient (mm per px) and score of a tile's own lattice near the page's."""
    rows, columns = (
        slice(max(0, angle - _LOCAL), angle + _LOCAL + 1),
        slice(max(0, period - _LOCAL), period + _LOCAL + 1),
    )
    u, v = np.unravel_index(np.argmax(score[rows, columns]), score[rows, columns].shape)
    fine_angles = angles[rows.start + u] + np.deg2rad(np.linspace(-0.6, 0.6, 13))
    fine_periods = periods[columns.start + v] * np.exp(np.linspace(-0.02, 0.02, 17))
    fine = _lattice_score(spectrum, fine_angles, fine_periods, family)
    u, v = np.unravel_index(np.argmax(fine), fine.shape)
    turn, step = fine_angles[u], 5 / fine_periods[v]
    across = (np.cos(turn), np.sin(turn)) if family == 0 else (-np.sin(turn), np.cos(turn))
    return step * across[0], step * across[1], float(fine[u, v])
