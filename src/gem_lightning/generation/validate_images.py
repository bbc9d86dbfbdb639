"""Check that an image shows the signal of its sample: its traces are correlated with the record."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from gem_lightning.ecg.record import EcgRecord
from gem_lightning.errors import DataError, GemError

LAYOUTS = ("3x4+1", "3x4+3", "3x4", "6x2", "12x1")
_COLUMNS, _LEVELS = 160, 96  # sampling points along and across a strip


def read_image(source: str | Path | bytes) -> np.ndarray:
    """Decode an image file or bytes to uint8 (H, W, 3), RGB.

    Raises:
        DataError: It cannot be decoded, or is truncated.
    """
    from PIL import Image

    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError) as error:
        name = "the embedded image" if isinstance(source, bytes) else Path(source).name
        raise DataError(f"expected a complete image in {name}, got: {error}") from None


def agreement(image: np.ndarray, record: EcgRecord, geometry: Any) -> float:
    """Return the median over the strips of the correlation between the ink of a strip and its lead, -1 to 1.

    Args:
        image: uint8 (H, W, 3).
        record: Record that it should show.
        geometry: Positions of the strips in such an image (``RenderedEcg.geometry``).
    """
    import cv2

    # Paper and coloured grids have a bright channel, ink has none; comparing with the paper nearby cancels shadows.
    bright = image.max(axis=2).astype(np.float32)
    darkness = cv2.blur(bright, (int(8 * geometry.px_per_mm) | 1,) * 2) - bright
    # above half of the darkest half per cent: ink, not grid
    weight = np.clip(darkness - np.percentile(darkness, 99.5) / 2, 0, None)
    for _, x0, y0, x1, y1 in geometry.texts:
        weight[max(int(y0), 0) : int(y1) + 1, max(int(x0), 0) : int(x1) + 1] = 0
    strips = (_strip(weight, record, geometry, i) for i in range(len(geometry.traces)))
    found = [r for r in strips if r is not None]
    return float(np.median(found)) if found else 0.0


def _strip(weight: np.ndarray, record: EcgRecord, geometry: Any, index: int) -> float | None:
    """Return the correlation of one strip; None for a lead that is flat or not in the record."""
    flat = geometry.flat or geometry
    trace = flat.traces[index]
    lead = trace.lead.lstrip("-−")
    if lead not in record.leads:
        return None
    sign = -1.0 if trace.lead != lead else 1.0
    # 20 ms off the ends, where column borders and neighbours touch the trace
    t = np.linspace(trace.t0 + 0.02, trace.t1 - 0.02, _COLUMNS)
    half = (t[1] - t[0]) / 2
    near = t[:, None] + np.linspace(-half, half, 5)  # a column of ink spans the range of the signal within it
    place = np.clip((near * record.fs).astype(int), 0, record.samples - 1)
    values = sign * np.nan_to_num(record.lead(lead))[place]
    want = (values.min(axis=1) + values.max(axis=1)) / 2
    if want.std() < 1e-3:
        return None
    _, y0, _, y1 = trace.box
    scale = trace.gain * flat.px_per_mm
    v = np.linspace((trace.baseline_y - y1) / scale, (trace.baseline_y - y0) / scale, _LEVELS)
    points = geometry.locate(index, np.repeat(t, _LEVELS), np.tile(v, _COLUMNS))
    x, y = (np.clip(points[:, k].astype(int), 0, weight.shape[1 - k] - 1) for k in (0, 1))
    seen = weight[y, x].reshape(_COLUMNS, _LEVELS)
    total = seen.sum(axis=1)
    inked = total > 0
    if inked.sum() < _COLUMNS / 4:
        return 0.0
    level = (seen[inked] * v).sum(axis=1) / total[inked]
    # a flat strip correlates with nothing
    if level.std() < 1e-6:
        return 0.0
    return float(np.corrcoef(level, np.clip(want[inked], v[0], v[-1]))[0, 1])


def image_shows(
    image: np.ndarray, record: EcgRecord, renderer: Any = None, seed: int | None = None, threshold: float = 0.5
) -> tuple[bool, float]:
    """Return whether the image shows the record, and the agreement.

    Args:
        image: uint8 (H, W, 3).
        record: Record that it should show.
        renderer: Renderer of the image; None tries the usual layouts at its size.
        seed: Seed of the rendering.
        threshold: Minimum agreement.
    """
    best = -1.0
    for drawn in _drawings(image, record, renderer, seed):
        if drawn.image.shape != image.shape:
            continue
        if np.array_equal(drawn.image, image):
            return True, 1.0
        best = max(best, agreement(image, record, drawn.geometry))
        if best >= threshold:
            break
    return best >= threshold, best


def _drawings(image: np.ndarray, record: EcgRecord, renderer: Any, seed: int | None) -> Iterable[Any]:
    from gem_lightning.render import EcgRenderer

    if renderer is not None:
        yield renderer(record, seed=seed)
        return
    for layout in LAYOUTS:
        try:
            yield EcgRenderer(layout=layout, size=image.shape[:2])(record, seed=seed)
        except GemError:  # the layout does not fit this size
            continue
