"""Handwritten notes, stains and punched holes; each is drawn into an image in place."""

from __future__ import annotations

import functools
from importlib import resources

import numpy as np

# Nothing clinical: a note must not give a diagnosis away.
_NOTES = ("seen", "ok", "file", "repeat", "bed 4", "copy", "ward 7", "10:42", "for dr k", "old ecg?", "08/11", "noted")
_PENS = ((25, 40, 120), (20, 20, 30), (150, 25, 35), (30, 70, 160))
# points a span: smooth at the 4 mm that notes are tall
_PER_SPAN = 6
_T = np.arange(_PER_SPAN)[:, None] / _PER_SPAN
_BASIS = 0.5 * np.concatenate(  # (places, four points) of a Catmull-Rom span
    [-_T + 2 * _T**2 - _T**3, 2 - 5 * _T**2 + 3 * _T**3, _T + 4 * _T**2 - 3 * _T**3, _T**3 - _T**2], axis=1
)


def scribble(page: np.ndarray, px_per_mm: float, rng: np.random.Generator) -> None:
    """Write a note, a tick, an underline or a ring with a pen."""
    import cv2

    height, width = page.shape[:2]
    kind = rng.random()
    # seven notes in ten marks, the rest rings and underlines
    if kind < 0.7:
        strokes = [s * rng.uniform(2.2, 4.5) for s in write(str(rng.choice(_NOTES)), rng)]
    elif kind < 0.85:
        turn = np.linspace(0.3, 6.8, 40)[:, None]
        strokes = [np.concatenate([np.cos(turn) * rng.uniform(8, 20), np.sin(turn) * rng.uniform(6, 12)], axis=1)]
    else:
        strokes = [np.stack([np.linspace(0, rng.uniform(15, 45), 12), rng.normal(0, 0.3, 12)], axis=1)]
    angle = rng.normal(0, 0.08)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    at = rng.uniform([0.08, 0.08], [0.75, 0.95]) * [width, height]
    color = _PENS[rng.integers(len(_PENS))]
    thick = max(1, round(rng.uniform(0.4, 0.7) * px_per_mm))
    lines = [np.rint(((s @ turn.T) * px_per_mm + at) * 16).astype(np.int32)[:, None] for s in strokes]
    cv2.polylines(page, lines, False, color, thick, cv2.LINE_AA, shift=4)


def blot(page: np.ndarray, px_per_mm: float, rng: np.random.Generator) -> None:
    """Leave a stain: a cup's ring or a drop that dried with a dark edge."""
    import cv2

    height, width = page.shape[:2]
    ring = rng.random() < 0.5
    radius = (rng.uniform(30, 42) if ring else rng.uniform(6, 25)) * px_per_mm
    at = rng.random(2) * [width, height]
    turn = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    # a cup's ring is nearly round, a dried drop is not
    away = radius * (1 + (0.02 if ring else 0.07) * sum(np.cos(k * turn + rng.uniform(0, 6.28)) for k in (2, 3, 5)))
    r0, r1 = int(max(0, at[1] - 1.3 * radius)), int(min(height, at[1] + 1.3 * radius))
    c0, c1 = int(max(0, at[0] - 1.3 * radius)), int(min(width, at[0] + 1.3 * radius))
    edge = np.stack([at[0] - c0 + away * np.cos(turn), at[1] - r0 + away * np.sin(turn)], axis=1)
    outline = np.rint(edge * 16).astype(np.int32)[:, None]
    mask = np.zeros((r1 - r0, c1 - c0), np.uint8)
    if not ring:
        cv2.fillPoly(mask, [outline], 130, cv2.LINE_AA, 4)
    cv2.polylines(mask, [outline], True, 255, max(1, round(rng.uniform(1.0, 2.5) * px_per_mm)), cv2.LINE_AA, 4)
    cv2.GaussianBlur(mask, (0, 0), max(0.5, 0.5 * px_per_mm), dst=mask)
    color = np.array([[120, 78, 40], [150, 120, 70], [110, 110, 140]][rng.integers(3)], np.float32)
    # a stain darkens by 15 to 40 %, never to opacity
    fraction = rng.uniform(0.15, 0.4) / 255 * (1 - color / 255)
    patch = page[r0:r1, c0:c1]
    patch[:] = (patch * (1 - mask[..., None] * fraction.astype(np.float32))).astype(np.uint8)


def pierce(page: np.ndarray, px_per_mm: float, count: int, desk: np.ndarray, rng: np.random.Generator) -> None:
    """Punch filing holes along the left or the upper edge: 6 mm wide, 80 mm apart, 12 mm from the edge (ISO 838)."""
    import cv2

    height, width = page.shape[:2]
    upright = rng.random() < 0.5
    length = height if upright else width
    for k in range(count):
        along = length / 2 + (k - (count - 1) / 2) * 80 * px_per_mm
        middle = (12 * px_per_mm, along) if upright else (along, 12 * px_per_mm)
        center = tuple(round(v * 16) for v in middle)
        cv2.circle(page, center, round(3.1 * px_per_mm * 16), (95, 90, 85), -1, cv2.LINE_AA, shift=4)
        inner = (center[0] + round(0.3 * px_per_mm * 16), center[1] + round(0.3 * px_per_mm * 16))
        cv2.circle(page, inner, round(2.8 * px_per_mm * 16), tuple(float(v) for v in desk), -1, cv2.LINE_AA, shift=4)


@functools.cache
def alphabet() -> dict[str, tuple[float, list[np.ndarray]]]:
    """Advance and strokes (n, 2) of each character, y up, x-height 10."""
    text = resources.files("gem_lightning.render").joinpath("fonts/script.txt").read_text(encoding="ascii")
    letters = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            letter, advance, strokes = line.split(" ", 2)
            points = [[[float(v) for v in p.split(",")] for p in s.split()] for s in strokes.split(" / ")]
            letters[letter] = (float(advance), [np.array(p) for p in points])
    return letters


def smooth(points: np.ndarray) -> np.ndarray:
    """A Catmull-Rom curve (m, 2) through points (n, 2)."""
    if len(points) < 3:
        return points
    padded = np.concatenate([2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]])
    corners = np.stack([padded[:-3], padded[1:-2], padded[2:-1], padded[3:]]).reshape(4, -1)
    curve = (_BASIS @ corners).reshape(_PER_SPAN, -1, 2).swapaxes(0, 1).reshape(-1, 2)
    return np.concatenate([curve, points[-1:]])


def write(text: str, rng: np.random.Generator) -> list[np.ndarray]:
    """Strokes of handwriting, y down, x-height 1, starting at (0, 0); every letter differs a little."""
    pen, strokes = 0.0, []
    # 10 to 40 % of slant, as in right-handed writing
    slant = rng.uniform(0.1, 0.4)
    for letter in text.lower():
        if letter not in alphabet():
            pen += 6.0
            continue
        advance, shapes = alphabet()[letter]
        # letters differ by a tenth in size and half a unit in height
        size, lift = rng.uniform(0.88, 1.12), rng.normal(0, 0.5)
        for shape in shapes:
            x, y = (smooth(shape + rng.normal(0, 0.25, shape.shape)) * size).T
            strokes.append(np.stack([pen + x + slant * y, -(y + lift)], axis=1) / 10)
        pen += advance * size + 1.5
    return strokes
