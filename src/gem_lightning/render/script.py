"""Notes in a hand-like script: strokes of the package's own alphabet, shaken a little."""

from __future__ import annotations

import functools
from importlib import resources

import numpy as np

_PER_SPAN = 6
_T = np.arange(_PER_SPAN)[:, None] / _PER_SPAN
_BASIS = 0.5 * np.concatenate(  # (places, four points) of a Catmull-Rom span
    [-_T + 2 * _T**2 - _T**3, 2 - 5 * _T**2 + 3 * _T**3, _T + 4 * _T**2 - 3 * _T**3, _T**3 - _T**2], axis=1
)


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
    """The strokes of a written word, y down, x-height 1, starting at (0, 0); every letter differs a little."""
    pen, strokes = 0.0, []
    slant = rng.uniform(0.1, 0.4)
    for letter in text.lower():
        if letter not in alphabet():
            pen += 6.0
            continue
        advance, shapes = alphabet()[letter]
        size, lift = rng.uniform(0.88, 1.12), rng.normal(0, 0.5)
        for shape in shapes:
            x, y = (smooth(shape + rng.normal(0, 0.25, shape.shape)) * size).T
            strokes.append(np.stack([pen + x + slant * y, -(y + lift)], axis=1) / 10)
        pen += advance * size + 1.5
    return strokes
