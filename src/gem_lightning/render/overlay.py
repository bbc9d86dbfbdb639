"""Fiducials and intervals drawn over the traces, wherever the camera put them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from gem_lightning.ecg.record import EcgRecord
from gem_lightning.render.draw import EcgRenderer
from gem_lightning.render.font import draw_text
from gem_lightning.render.geometry import Geometry, RenderedEcg

if TYPE_CHECKING:
    from gem_lightning.features.schema import Delineation

# green, red, blue: the waves are named too, so that no reader depends on hue
WAVE_COLORS = {"P": (46, 139, 87), "QRS": (200, 40, 60), "T": (40, 90, 200)}
_INTERVALS = (("PR", "P_on", "QRS_on", 0), ("QT", "QRS_on", "T_off", 1))
# share of paper colour in the bands of waves, and radius of a peak's dot, mm
_BAND, _PEAK = 0.16, 0.75


def render_with_marks(
    record: EcgRecord,
    delineation: Delineation,
    renderer: EcgRenderer | None = None,
    seed: int | Sequence[int] | None = None,
) -> RenderedEcg:
    """A record with its waves shaded, their peaks dotted, and PR and QT as bars under the lowest strip.

    Args:
        record: The record.
        delineation: Its marks, in samples of the same record.
        renderer: How to draw; default ``EcgRenderer()``.
        seed: Of the renderer's artifacts.
    """
    drawn = (renderer or EcgRenderer())(record, seed)
    image, geometry = drawn.image.copy(), drawn.geometry
    for index, trace in enumerate(geometry.traces):
        lead = trace.lead.removeprefix("-")
        if lead not in delineation.leads:
            continue
        row = delineation.leads.index(lead)
        marks = {name: values[row] / delineation.fs for name, values in delineation.marks.items()}
        for wave, color in WAVE_COLORS.items():
            _shade(image, geometry, index, marks[f"{wave}_on"], marks[f"{wave}_off"], color)
            sign = -1.0 if trace.lead.startswith("-") else 1.0
            _dot(
                image,
                geometry,
                index,
                marks["R" if wave == "QRS" else wave],
                sign * record.lead(lead),
                record.fs,
                color,
            )
    lowest = max(range(len(geometry.traces)), key=lambda k: (geometry.flat or geometry).traces[k].baseline_y)
    whole = {name: values / delineation.fs for name, values in delineation.global_marks.items()}
    for name, begin, end, step in _INTERVALS:
        _bars(image, geometry, lowest, name, whole[begin], whole[end], step)
    return replace(drawn, image=image)


def _on_strip(geometry: Geometry, index: int, begin: np.ndarray, end: np.ndarray) -> np.ndarray:
    """(n, 2) begins and ends that lie on the strip's window, s; NaN ones are left out."""
    trace = geometry.traces[index]
    spans = np.stack([begin, end], axis=-1)
    spans = spans[np.isfinite(spans).all(-1) & (spans[:, 1] > trace.t0) & (spans[:, 0] < trace.t1)]
    return np.clip(spans, trace.t0, trace.t1)


def _corners(geometry: Geometry, index: int, span: np.ndarray, up: float, down: float) -> np.ndarray:
    """Image corners (4, 2) of the box from ``up`` to ``down`` mm about the baseline, px."""
    gain = geometry.traces[index].gain
    at = geometry.locate(index, span[[0, 1, 1, 0]], np.array([up, up, down, down]) / gain)
    return np.rint(at * 16 - 8).astype(np.int32)


def _shade(image: np.ndarray, geometry: Geometry, index: int, begin: np.ndarray, end: np.ndarray, color: tuple) -> None:
    import cv2

    flat = geometry.flat or geometry
    box = flat.traces[index].box
    # bands end before the next row begins
    half = 0.3 * (box[3] - box[1]) / flat.px_per_mm
    for span in _on_strip(geometry, index, begin, end):
        corners = _corners(geometry, index, span, half, -half)
        x0, y0 = np.maximum(corners.min(0) // 16, 0)
        x1, y1 = corners.max(0) // 16 + 2
        patch = image[y0:y1, x0:x1]
        if patch.size:
            tinted = patch.copy()
            cv2.fillPoly(tinted, [corners - [x0 * 16, y0 * 16]], color, cv2.LINE_AA, 4)
            patch[:] = cv2.addWeighted(patch, 1 - _BAND, tinted, _BAND, 0)


def _dot(
    image: np.ndarray, geometry: Geometry, index: int, at: np.ndarray, lead: np.ndarray, fs: float, color: tuple
) -> None:
    import cv2

    trace = geometry.traces[index]
    at = at[np.isfinite(at) & (at >= trace.t0) & (at <= trace.t1)]
    samples = np.clip(np.rint(at * fs).astype(np.int64), 0, lead.size - 1)
    known = np.isfinite(lead[samples])
    # a dot smaller than 1.2 px disappears
    radius = max(1.2, _PEAK * geometry.px_per_mm)
    for x, y in np.rint(geometry.locate(index, at[known], lead[samples[known]]) * 16 - 8).astype(int).tolist():
        cv2.circle(image, (x, y), round(radius * 16), color, -1, cv2.LINE_AA, 4)


def _bars(
    image: np.ndarray, geometry: Geometry, index: int, name: str, begin: np.ndarray, end: np.ndarray, step: int
) -> None:
    """Bars under a strip for an interval, its name at the first one."""
    import cv2

    depth = -9.0 - 3.0 * step
    color = (70, 70, 70) if step else (120, 60, 140)
    spans = _on_strip(geometry, index, begin, end)
    for k, span in enumerate(spans):
        corners = _corners(geometry, index, span, depth + 0.35, depth - 0.35)
        cv2.fillPoly(image, [corners], color, cv2.LINE_AA, 4)
        if k == 0:
            x, y = corners[0] / 16
            # letters of 1.9 mm, at least 5 px so that they can be read
            cap = max(1.9 * geometry.px_per_mm, 5.0)
            draw_text(image, name, max(x - cap * 2.4, 0), y + cap * 0.7, cap, color)
