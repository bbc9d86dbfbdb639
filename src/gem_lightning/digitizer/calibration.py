"""Calibration pulses on a flat page: gain, speed and the height of 0 mV of their rows."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from gem_lightning.digitizer.rectify import PX_PER_MM
from gem_lightning.render.layout import PULSE_MV, PULSE_S

GAINS = (5.0, 10.0, 20.0)  # mm per mV that devices print
SPEEDS = (12.5, 25.0, 50.0)  # mm per s
_SEEN = 0.5  # of the network's pulse map
_NEAR = 0.15  # a pulse differs by less than this share from what its gain and speed would draw


@dataclass(frozen=True)
class Pulse:
    """One calibration pulse.

    Attributes:
        baseline: Height of its feet, px of the flat page.
        stop: Its right end, px.
        height, width: mm.
    """

    baseline: float
    stop: float
    height: float
    width: float

    @property
    def gain(self) -> float | None:
        """mm per mV, or None where its height is that of no usual gain."""
        return _nearest(self.height / PULSE_MV, GAINS)

    @property
    def speed(self) -> float | None:
        """mm per s, or None where its width is that of no usual speed."""
        return _nearest(self.width / PULSE_S, SPEEDS)


def find_pulses(pulse: np.ndarray, cover: np.ndarray | None = None) -> list[Pulse]:
    """Measure every calibration pulse.

    Args:
        pulse: The network's pulse map (H, W).
        cover: Share of ink in each pixel, which the pulses that the map shows are measured by; None: by the map.
    """
    mask = cv2.morphologyEx((pulse > _SEEN).astype(np.uint8), cv2.MORPH_CLOSE, np.ones((5, 5)))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask)
    found = []
    for k in range(1, count):
        x, y, width, height, _ = stats[k]
        if height < 3 * PX_PER_MM or width < 2 * PX_PER_MM:  # less than 5 mm/mV and 12.5 mm/s draw
            continue
        own = cv2.dilate((labels[y : y + height, x : x + width] == k).astype(np.uint8), np.ones((5, 5)))
        seen = pulse if cover is None else np.clip(cover, 0, 1)
        one = _measure(seen[y : y + height, x : x + width] * own)
        if one is not None:
            foot, high, wide = one
            found.append(Pulse(y + foot, float(x + width), high / PX_PER_MM, wide / PX_PER_MM))
    return found


def _measure(part: np.ndarray) -> tuple[float, float, float] | None:
    """Foot's height, height and width, px, of the pulse in a map of it alone; None where it is none."""
    rows, columns = part.sum(1), part.sum(0)
    level = np.arange(len(rows)) + 0.5
    upper, lower = level < len(rows) / 2, level >= len(rows) / 2
    top = _centre(np.where(upper, rows, 0), level)
    foot = _centre(np.where(lower, rows, 0), level)
    place = np.arange(len(columns)) + 0.5
    tall = np.where(columns > 0.5 * columns.max(), columns, 0)  # the two flanks
    middle = (place * tall).sum() / (tall.sum() + 1e-9)
    left, right = (_centre(np.where(side, tall, 0), place) for side in (place < middle, place >= middle))
    if None in (top, foot, left, right):
        return None
    assert top is not None and foot is not None and left is not None and right is not None  # noqa: PT018
    return foot, foot - top, right - left


def _centre(weight: np.ndarray, place: np.ndarray) -> float | None:
    """Centre of the heaviest line in a profile, within two pixels of its peak."""
    if weight.max(initial=0) <= 0:
        return None
    near = np.abs(place - place[int(np.argmax(weight))]) <= 2
    return float((weight * place)[near].sum() / weight[near].sum())


def _nearest(value: float, known: tuple[float, ...]) -> float | None:
    best = min(known, key=lambda one: abs(value / one - 1))
    return best if abs(value / best - 1) < _NEAR else None
