"""The trace kernel without numba: the same intervals as :mod:`gem_lightning.render.kernels.stroke`, by whole arrays."""

from __future__ import annotations

import numpy as np

SUBCOLUMNS = 4
DENSE_PX = 0.02


def _spans(y: np.ndarray, x0: float, dx: float, half: float, xc: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest y (columns,) that the stroke of ``y`` reaches on each vertical line ``xc``."""
    n = y.size
    low, high = np.full(xc.size, 1e30), np.full(xc.size, -1e30)
    left, right = (xc - half - x0) / dx, (xc + half - x0) / dx
    first, last = np.ceil(left).astype(np.int64), np.floor(right).astype(np.int64)
    for entered, at in ((first - 1, left), (last, right)):
        on = (entered >= 0) & (entered < n - 1)
        k = np.where(on, entered, 0)
        value = y[k] + (y[np.minimum(k + 1, n - 1)] - y[k]) * (at - k)
        low, high = np.where(on, np.minimum(low, value), low), np.where(on, np.maximum(high, value), high)
    first, last = np.maximum(first, 0), np.minimum(last, n - 1)
    for step in range(int((last - first).max(initial=-1)) + 1):
        on = first + step <= last
        k = np.where(on, first + step, 0)
        reach = np.sqrt(np.maximum(half * half - (x0 + k * dx - xc) ** 2, 0.0))
        low = np.where(on, np.minimum(low, y[k] - reach), low)
        high = np.where(on, np.maximum(high, y[k] + reach), high)
    if n < 2 or dx * dx < 8.0 * half * DENSE_PX:
        return low, high
    slope = np.diff(y) / dx
    drop = half / np.sqrt(1.0 + slope * slope)
    begin, end = np.maximum(first - 1, 0), np.minimum(last, n - 2)
    for step in range(int((end - begin).max(initial=-1)) + 1):
        inside = begin + step <= end
        k = np.where(inside, begin + step, 0)
        for side in (1.0, -1.0):
            p = xc - (x0 + k * dx) + side * slope[k] * drop[k]
            on = inside & (p >= 0.0) & (p <= dx)
            edge = y[k] + slope[k] * p + side * drop[k]
            if side > 0:
                high = np.where(on, np.maximum(high, edge), high)
            else:
                low = np.where(on, np.minimum(low, edge), low)
    return low, high


def _below(first: np.ndarray, last: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Mean of how far edges (columns,) that run straight from ``first`` to ``last`` reach below ``rows``, px."""
    p, q = first - rows, last - rows
    gap = np.where(np.abs(p - q) < 1e-6, 1.0, np.abs(p - q))
    crossing = np.maximum(p, q) ** 2 / (2.0 * gap)
    same_side = (np.minimum(p, q) >= 0.0) | (np.abs(p - q) < 1e-6)
    return np.where(np.maximum(p, q) <= 0.0, 0.0, np.where(same_side, 0.5 * (p + q), crossing))


def _stroke(
    image: np.ndarray, y: np.ndarray, x0: float, dx: float, half: float, ink: tuple[int, int, int], strength: float
) -> None:
    """Blend the stroke of one gap-free run (px) into the image."""
    height, width = image.shape[:2]
    left = max(0, int(np.floor(x0 - half)))
    right = min(width - 1, int(np.floor(x0 + (y.size - 1) * dx + half)))
    if right < left:
        return
    columns = right - left + 1
    xc = left + np.arange(columns * SUBCOLUMNS + 1) / SUBCOLUMNS
    low, high = _spans(y, x0, dx, half, xc)
    hit = high >= low
    if not hit.any():
        return
    top = max(0, int(np.floor(low[hit].min())))
    bottom = min(height - 1, int(np.floor(high[hit].max())))
    below = np.zeros((bottom - top + 2, columns))
    rows = np.arange(top, bottom + 2, dtype=np.float64)[:, None]
    both = hit[:-1] & hit[1:]
    for s in range(SUBCOLUMNS):
        at, after = slice(s, -1, SUBCOLUMNS), slice(s + 1, None, SUBCOLUMNS)
        thick = _below(high[at], high[after], rows) - _below(low[at], low[after], rows)
        below += np.where(both[s::SUBCOLUMNS], thick, 0.0)
    share = ((below[:-1] - below[1:]) * (256.0 * strength / SUBCOLUMNS) + 0.5).astype(np.int64)[..., None]
    patch = image[top : bottom + 1, left : right + 1]
    paper = patch.astype(np.int64)
    patch[:] = (paper + (((np.asarray(ink) - paper) * share + 128) >> 8)).astype(np.uint8)


def stroke_traces(image, signal, rows, first, last, x0, dx, baseline, scale, limits, half, ink, strength):  # type: ignore[no-untyped-def]
    """As :func:`gem_lightning.render.kernels.stroke.stroke_traces`."""
    held = np.zeros(len(rows), np.int64)
    for j, row in enumerate(rows):
        at = baseline[j] - signal[row, first[j] : last[j]].astype(np.float64) * scale[j]
        known = ~np.isnan(at)
        held[j] = np.count_nonzero(known & ((at < limits[0]) | (at > limits[1])))
        at = np.clip(at, *limits)
        borders = np.flatnonzero(np.diff(np.concatenate([[False], known, [False]]).astype(np.int8)))
        for begin, end in zip(borders[::2], borders[1::2]):
            _stroke(image, at[begin:end], x0[j] + begin * dx, dx, half, ink, strength)
    return held
