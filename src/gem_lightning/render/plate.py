"""Background of a page: paper, grid, calibration pulses, lead names, footer."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np

from gem_lightning.errors import RenderError
from gem_lightning.render.font import draw_text
from gem_lightning.render.geometry import Box, Text
from gem_lightning.render.layout import BIG_BOX, PULSE_MV, PULSE_S, Scene

NAME_MM, NAME_PX = 2.9, 6.0  # height of capitals: by paper, but never too few pixels to read
# line widths of printed ECG paper
_MINOR_MM, _MAJOR_MM = 0.12, 0.22


@dataclass(frozen=True)
class Style:
    """Colours (RGB 0-255) and line widths (mm) of a page."""

    paper: tuple[float, float, float] = (255, 255, 255)
    minor: tuple[float, float, float] = (253, 222, 218)
    major: tuple[float, float, float] = (250, 150, 145)
    ink: tuple[float, float, float] = (20, 20, 24)
    dots: bool = False
    minor_mm: float = _MINOR_MM
    major_mm: float = _MAJOR_MM


@functools.cache
def styles() -> dict[str, dict[str, Any]]:
    """``styles.yaml`` by name."""
    import yaml

    return yaml.safe_load(resources.files("gem_lightning.render").joinpath("styles.yaml").read_text("utf-8"))


def find_style(style: str | Mapping[str, Any] | Style) -> Style:
    """A style by name, or from a mapping of the fields of :class:`Style`.

    Raises:
        RenderError: An unknown name or field.
    """
    if isinstance(style, Style):
        return style
    if isinstance(style, str):
        if style not in styles():
            raise RenderError(f"expected a style out of {', '.join(styles())} or a mapping of colours, got {style!r}")
        style = styles()[style]
    known = Style.__dataclass_fields__
    if unknown := set(style) - set(known):
        raise RenderError(f"expected style fields out of {', '.join(known)}, got {sorted(unknown)}")
    colors = ("paper", "minor", "major", "ink")
    fields: dict[str, Any] = {k: tuple(float(c) for c in v) if k in colors else v for k, v in style.items()}
    return Style(**fields)


def line_coverage(pixels: int, pitch: float, offset: float, width: float) -> np.ndarray:
    """Exact coverage (pixels,) of lines ``width`` wide at ``offset + k * pitch``, px."""

    def filled(x: np.ndarray) -> np.ndarray:  # ink left of x, counted from one line's left edge
        whole = np.floor(x / pitch)
        return whole * width + np.minimum(x - whole * pitch, width)

    edges = np.arange(pixels + 1) - offset + width / 2
    return np.clip(np.diff(filled(edges)), 0.0, 1.0)


def draw_grid(size: tuple[int, int], px_per_mm: float, origin: tuple[float, float], style: Style) -> np.ndarray:
    """Paper with its grid, uint8 (H, W, 3); the grid runs over the whole image, in phase with the page."""
    height, width = size
    canvas = np.broadcast_to(np.asarray(style.paper, np.float32), (height, width, 3)).copy()
    for pitch, line, color, dots in (
        (1.0, style.minor_mm * (2.2 if style.dots else 1.0), style.minor, style.dots),
        (BIG_BOX, style.major_mm, style.major, False),
    ):
        across = line_coverage(width, pitch * px_per_mm, origin[0], line * px_per_mm).astype(np.float32)
        down = line_coverage(height, pitch * px_per_mm, origin[1], line * px_per_mm).astype(np.float32)
        cover = np.outer(down, across) if dots else 1 - np.outer(1 - down, 1 - across)
        canvas += (np.asarray(color, np.float32) - canvas) * cover[..., None]
    return np.rint(canvas).astype(np.uint8)


def box_coverage(shape: tuple[int, int], box: Box) -> tuple[slice, slice, np.ndarray]:
    """Rows, columns and exact coverage of an axis-aligned box, px."""
    x0, y0, x1, y1 = box
    r0, r1 = max(0, int(np.floor(y0))), min(shape[0], int(np.ceil(y1)))
    c0, c1 = max(0, int(np.floor(x0))), min(shape[1], int(np.ceil(x1)))
    rows, columns = np.arange(r0, max(r0, r1)), np.arange(c0, max(c0, c1))
    down = np.clip(np.minimum(rows + 1, y1) - np.maximum(rows, y0), 0, 1)
    across = np.clip(np.minimum(columns + 1, x1) - np.maximum(columns, x0), 0, 1)
    return slice(r0, max(r0, r1)), slice(c0, max(c0, c1)), np.outer(down, across)


def draw_boxes(image: np.ndarray, boxes: list[Box], color: tuple[float, ...]) -> None:
    """Fill the union of axis-aligned boxes (lines are thin boxes) with exact edges."""
    union = np.zeros(image.shape[:2], np.float32)
    for box in boxes:
        rows, columns, cover = box_coverage(image.shape[:2], box)
        np.maximum(union[rows, columns], cover, out=union[rows, columns])
    r, c = np.nonzero(union)
    below = image[r, c].astype(np.float32)
    image[r, c] = np.rint(below + (np.asarray(color, np.float32) - below) * union[r, c, None]).astype(np.uint8)


def pulse_outline(x: float, baseline: float, speed: float, gain: float) -> list[tuple[float, float]]:
    """The calibration pulse as a polyline, mm."""
    end, top = x + PULSE_S * speed, baseline - PULSE_MV * gain
    # 1.5 mm of baseline on both sides of the pulse, as electrocardiographs print it
    return [(x - 1.5, baseline), (x, baseline), (x, top), (end, top), (end, baseline), (end + 1.5, baseline)]


def separator_lines(scene: Scene) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """Two dashes above and below the baseline at each border between leads, mm."""
    reach = min(4.0, scene.pitch / 4)
    return [
        ((x, y + low), (x, y + low + 2.5)) for x, y in scene.separators for low in (-reach - 2.5, reach)
    ]  # fmt: skip


def name_cap(px_per_mm: float, pitch: float) -> float:
    """Height of the lead names' capitals, px."""
    # names take at most a quarter of a row
    return max(min(NAME_MM, pitch * 0.24) * px_per_mm, NAME_PX)


def draw_plate(
    scene: Scene,
    size: tuple[int, int],
    px_per_mm: float,
    origin: tuple[float, float],
    style: Style,
    speed: float,
    line_px: float,
    footer: str,
    names: bool = True,
    pulses: bool = True,
    separators: bool = True,
) -> tuple[np.ndarray, list[Box], list[Text]]:
    """Everything but the traces: the image, the pulses' boxes and the texts."""
    image = draw_grid(size, px_per_mm, origin, style)

    def px(x: float, y: float) -> tuple[float, float]:
        return origin[0] + x * px_per_mm, origin[1] + y * px_per_mm

    half, lines, boxes, texts = line_px / 2, [], [], []
    for x, baseline, gain in scene.pulses if pulses else ():
        points = [px(*p) for p in pulse_outline(x, baseline, speed, gain)]
        for (ax, ay), (bx, by) in itertools.pairwise(points):
            lines.append((min(ax, bx) - half, min(ay, by) - half, max(ax, bx) + half, max(ay, by) + half))
        (left, bottom), (right, top) = points[1], points[3]
        boxes.append((left, top, right, bottom))
    for (x, upper), (_, lower) in separator_lines(scene) if separators else ():
        (ax, ay), (_, by) = px(x, upper), px(x, lower)
        lines.append((ax - half, ay, ax + half, by))
    draw_boxes(image, lines, style.ink)
    cap = name_cap(px_per_mm, scene.pitch)
    for lead, x, y in scene.names if names else ():
        texts.append(Text(lead, *draw_text(image, lead, *px(x, y), cap, style.ink)))
    if footer:
        # 2.2 mm capitals; below 5.5 px letters run together
        small = max(2.2 * px_per_mm, 5.5)
        x, y = px(scene.slots[0].x, scene.bottom + 6.0)
        texts.append(Text(footer, *draw_text(image, footer, x, y, small, style.ink)))
    return image, boxes, texts
