"""Text as outlines: DejaVu Sans, shipped as curves, so that every size and format draws the same letters."""

from __future__ import annotations

import functools
import re
from importlib import resources
from typing import NamedTuple

import numpy as np

# of DejaVu Sans, as its outlines are stored
UNITS_PER_EM = 2048
CAP_HEIGHT = 1493  # units of DejaVu Sans's em of 2048
# sixteen samples a pixel side: grey levels to 1/256
_OVERSAMPLE = 16
# straight pieces a quadratic curve: below a hundredth of a pixel at these sizes
_CURVE_STEPS = 6


class Glyph(NamedTuple):
    """Advance width and contours in font units, y up; a contour is a list of (command, numbers) with M L Q."""

    advance: int
    contours: tuple[tuple[tuple[str, tuple[float, ...]], ...], ...]


@functools.cache
def glyphs() -> dict[str, Glyph]:
    """Every glyph of the shipped font by character."""
    text = resources.files("gem_lightning.render").joinpath("fonts/dejavu_sans.txt").read_text(encoding="ascii")
    table = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            code, advance, *path = line.split(" ", 2)
            table[chr(int(code, 16))] = Glyph(int(advance), _contours(path[0] if path else ""))
    return table


def _contours(path: str) -> tuple[tuple[tuple[str, tuple[float, ...]], ...], ...]:
    """An SVG path of M L H V Q Z as contours of M L Q."""
    contours: list[list[tuple[str, tuple[float, ...]]]] = []
    x = y = 0.0
    for command, body in re.findall(r"([MLHVQ])([^MLHVQZ]*)", path):
        numbers = [float(n) for n in re.findall(r"-?[\d.]+", body)]
        if command == "M":
            contours.append([])
        step = {"H": 1, "V": 1, "Q": 4}.get(command, 2)
        for i in range(0, len(numbers), step):
            part = tuple(numbers[i : i + step])
            if command == "H":
                part = (part[0], y)
            elif command == "V":
                part = (x, part[0])
            x, y = part[-2:]
            contours[-1].append(("Q" if command == "Q" else "M" if command == "M" and i == 0 else "L", part))
    return tuple(tuple(c) for c in contours)


def flatten(contour: tuple[tuple[str, tuple[float, ...]], ...]) -> np.ndarray:
    """A contour as a closed polygon (n, 2), font units."""
    points: list[tuple[float, float]] = []
    for command, numbers in contour:
        if command == "Q":
            (x0, y0), (x1, y1, x2, y2) = points[-1], numbers
            for k in range(1, _CURVE_STEPS + 1):
                t = k / _CURVE_STEPS
                a, b, c = (1 - t) ** 2, 2 * t * (1 - t), t * t
                points.append((a * x0 + b * x1 + c * x2, a * y0 + b * y1 + c * y2))
        else:
            points.append((numbers[0], numbers[1]))
    return np.array(points)


def spell(text: str) -> str:
    """The text with characters that the font lacks replaced by a question mark."""
    return "".join(ch if ch in glyphs() else "?" for ch in text)


def text_width(text: str, cap: float) -> float:
    """Width of a text whose capitals are ``cap`` high, in the unit of ``cap``."""
    return sum(glyphs()[ch].advance for ch in spell(text)) * cap / CAP_HEIGHT


@functools.lru_cache(maxsize=256)
def text_mask(text: str, cap: float, phase: float = 0.0) -> tuple[np.ndarray, int, int]:
    """Coverage of a text.

    Args:
        text: What to write.
        cap: Height of its capitals, px.
        phase: Distance of the pen's start from a whole pixel, 0 to 1, px.

    Returns:
        Float32 mask (h, w) of 0 to 1, and the (x, y) of its corner from the pen's whole pixel on the baseline, px.
    """
    import cv2

    scale = cap / CAP_HEIGHT
    left, top = 2, int(np.ceil(cap * 1.35)) + 1
    height = top + int(np.ceil(cap * 0.4)) + 1
    width = left + int(np.ceil(text_width(text, cap) + phase)) + 3
    canvas = np.zeros((height * _OVERSAMPLE, width * _OVERSAMPLE), np.uint8)
    pen = left + phase
    for ch in spell(text):
        glyph = glyphs()[ch]
        polygons = []
        for contour in glyph.contours:
            points = flatten(contour) * scale * [1, -1] + [pen, top]
            polygons.append(np.rint((points * _OVERSAMPLE - 0.5) * 16).astype(np.int32))
        if polygons:
            cv2.fillPoly(canvas, polygons, 255, lineType=cv2.LINE_8, shift=4)
        pen += glyph.advance * scale
    mask = canvas.reshape(height, _OVERSAMPLE, width, _OVERSAMPLE).mean((1, 3), dtype=np.float32) / 255
    mask.flags.writeable = False
    return mask, -left, -top


def draw_text(
    image: np.ndarray, text: str, x: float, y: float, cap: float, color: tuple[float, ...]
) -> tuple[float, ...]:
    """Write ``text`` with its pen starting at (x, y), px; returns the box (x0, y0, x1, y1) of its ink.

    The baseline is put on a whole pixel, so that small text stays crisp.
    """
    column, row = int(np.floor(x)), int(np.rint(y))
    mask, dx, dy = text_mask(text, float(cap), round(float(x - column) * 4) / 4)
    rows, columns = np.nonzero(mask.max(1) > 0.02)[0], np.nonzero(mask.max(0) > 0.02)[0]
    if rows.size == 0:
        return (x, y, x, y)
    left, top = column + dx, row + dy
    r0, r1 = max(0, -top), min(mask.shape[0], image.shape[0] - top)
    c0, c1 = max(0, -left), min(mask.shape[1], image.shape[1] - left)
    if r0 < r1 and c0 < c1:
        patch = image[top + r0 : top + r1, left + c0 : left + c1]
        cover = mask[r0:r1, c0:c1, None]
        patch[:] = np.rint(patch + (np.asarray(color, np.float32) - patch) * cover).astype(np.uint8)
    return (left + columns[0], top + rows[0], left + columns[-1] + 1, top + rows[-1] + 1)
