"""The trace kernel: exact vertical coverage of a thick polyline, compiled by numba.

A trace is a function of time, so a vertical line meets its pen stroke in one interval. The interval's ends are the
envelopes of discs of the pen's radius around every sample and of the edges between them, both in closed form. Each
pixel column averages ``SUBCOLUMNS`` such intervals; within a column the coverage of a pixel is exact.
:mod:`gem_lightning.render.stroke_numpy` computes the same without numba.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

SUBCOLUMNS = 4


@njit(cache=True, nogil=True, inline="never")
def _span(y, n, x0, dx, half, xc, rise, drop):
    """Lowest and highest y that the stroke of y[:n] reaches on the vertical line at ``xc`` (low > high: none)."""
    low, high = 1e30, -1e30
    first = int(math.ceil((xc - half - x0) / dx))
    last = int(math.floor((xc + half - x0) / dx))
    first = max(first, 0)
    last = min(last, n - 1)
    for k in range(first, last + 1):
        away = x0 + k * dx - xc
        reach = math.sqrt(max(half * half - away * away, 0.0))
        low = min(low, y[k] - reach)
        high = max(high, y[k] + reach)
    for k in range(max(first - 1, 0), min(last, n - 2) + 1):
        # The edge's offset line touches the pen's disc where the disc's middle is `rise` beside the line.
        slope = (y[k + 1] - y[k]) / dx
        start = x0 + k * dx
        p = xc + rise[k] - start
        if 0.0 <= p <= dx:
            high = max(high, y[k] + slope * p + drop[k])
        p = xc - rise[k] - start
        if 0.0 <= p <= dx:
            low = min(low, y[k] + slope * p - drop[k])
    return low, high


@njit(cache=True, nogil=True, inline="never")
def _stroke(image, y, n, x0, dx, half, ink, strength, rise, drop, low, high):
    """Blend the stroke of one gap-free run ``y[:n]`` (px) into the image."""
    height, width = image.shape[0], image.shape[1]
    for k in range(n - 1):
        slope = (y[k + 1] - y[k]) / dx
        norm = 1.0 / math.sqrt(1.0 + slope * slope)
        rise[k] = half * slope * norm
        drop[k] = half * norm
    left = max(0, int(math.floor(x0 - half)))
    right = min(width - 1, int(math.floor(x0 + (n - 1) * dx + half)))
    for column in range(left, right + 1):
        top, bottom = 1e30, -1e30
        for s in range(SUBCOLUMNS):
            a, b = _span(y, n, x0, dx, half, column + (s + 0.5) / SUBCOLUMNS, rise, drop)
            low[s], high[s] = a, b
            if b >= a:
                top = min(top, a)
                bottom = max(bottom, b)
        if bottom < top:
            continue
        for row in range(max(0, int(math.floor(top))), min(height - 1, int(math.floor(bottom))) + 1):
            cover = 0.0
            for s in range(SUBCOLUMNS):
                part = min(high[s], row + 1.0) - max(low[s], float(row))
                if part > 0.0:
                    cover += part
            cover *= strength / SUBCOLUMNS
            if cover > 0.0:
                for channel in range(3):
                    below = float(image[row, column, channel])
                    image[row, column, channel] = np.uint8(below + (ink[channel] - below) * cover + 0.5)


@njit(cache=True, nogil=True)
def stroke_traces(image, signal, rows, first, last, x0, dx, baseline, scale, limits, half, ink, strength):
    """Draw every trace.

    Args:
        image: Uint8 (H, W, 3), changed in place.
        signal: Float32 (leads, samples), mV; NaN leaves a gap.
        rows: (traces,) row of ``signal``.
        first, last: (traces,) samples ``first`` to ``last`` (not included).
        x0: (traces,) x of sample ``first``, px.
        dx: px per sample.
        baseline: (traces,) y of 0 mV, px.
        scale: (traces,) px per mV, negative for an inverted lead.
        limits: (top, bottom) where traces are held, px.
        half: Half of the pen's width, px.
        ink: (3,) colour, 0 to 255.
        strength: Opacity of the ink, 0 to 1.

    Returns:
        (traces,) number of samples held at a limit.
    """
    longest = 1
    for j in range(rows.shape[0]):
        longest = max(longest, last[j] - first[j])
    y, rise, drop = np.empty(longest), np.empty(longest), np.empty(longest)
    low, high = np.empty(SUBCOLUMNS), np.empty(SUBCOLUMNS)
    held = np.zeros(rows.shape[0], np.int64)
    for j in range(rows.shape[0]):
        n = 0
        for k in range(first[j], last[j] + 1):
            value = np.float64(signal[rows[j], k]) if k < last[j] else np.nan
            if math.isnan(value):
                if n > 0:
                    start = x0[j] + (k - n - first[j]) * dx
                    _stroke(image, y, n, start, dx, half, ink, strength, rise, drop, low, high)
                n = 0
                continue
            at = baseline[j] - value * scale[j]
            if at < limits[0] or at > limits[1]:
                held[j] += 1
                at = min(max(at, limits[0]), limits[1])
            y[n] = at
            n += 1
    return held
