"""The trace kernel: exact vertical coverage of a thick polyline, compiled by numba.

A trace is a function of time, so a vertical line meets its pen stroke in one interval. The interval's ends are the
envelopes of discs of the pen's radius around the samples and of the edges between them, both in closed form; where
samples lie so close that the discs alone are within ``DENSE_PX`` of the edges, the edges are left out. The
interval is known at ``SUBCOLUMNS`` + 1 places of each pixel column; between them its ends run straight, and the
coverage of a pixel is the exact area.
:mod:`gem_lightning.render.kernels.stroke_numpy` computes the same without numba.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

# four pieces a pixel column: the covered area errs by less than one grey level
SUBCOLUMNS = 4
# closer samples are merged: they cannot change the outline
DENSE_PX = 0.02


@njit(cache=True, nogil=True, inline="never")
def _span(y, n, x0, dx, half, xc, dense):
    """Lowest and highest y that the stroke of y[:n] reaches on the vertical line at ``xc`` (low > high: none)."""
    low, high = 1e30, -1e30
    left, right = (xc - half - x0) / dx, (xc + half - x0) / dx
    first, last = int(np.ceil(left)), int(np.floor(right))
    inside = 0 <= first - 1 < n - 1
    if inside:  # where the edge enters the pen's reach, the disc has no height
        value = y[first - 1] + (y[first] - y[first - 1]) * (left - (first - 1))
        low, high = value, value
    if 0 <= last < n - 1:
        value = y[last] + (y[last + 1] - y[last]) * (right - last)
        if value < low:
            low = value
        if value > high:
            high = value
    first = max(first, 0)
    last = min(last, n - 1)
    away = x0 + first * dx - xc
    for k in range(first, last + 1):
        square = half * half - away * away
        reach = math.sqrt(square) if square > 0.0 else 0.0
        value = y[k]
        if value - reach < low:
            low = value - reach
        if value + reach > high:
            high = value + reach
        away += dx
    if dense:
        return low, high
    for k in range(max(first - 1, 0), min(last, n - 2) + 1):
        # The edge's offset line touches the pen's disc where the disc's middle is `rise` off the line.
        slope = (y[k + 1] - y[k]) / dx
        drop = half / math.sqrt(1.0 + slope * slope)
        rise = slope * drop
        start = xc - (x0 + k * dx)
        if 0.0 <= start + rise <= dx:
            high = max(high, y[k] + slope * (start + rise) + drop)
        if 0.0 <= start - rise <= dx:
            low = min(low, y[k] + slope * (start - rise) - drop)
    return low, high


@njit(cache=True, nogil=True, inline="always")
def _below(first, last, row):
    """Mean of how far an edge that runs straight from ``first`` to ``last`` reaches below ``row``, px."""
    p, q = first - row, last - row
    if p <= 0.0 and q <= 0.0:
        return 0.0
    if (p >= 0.0 and q >= 0.0) or abs(q - p) < 1e-6:
        return 0.5 * (p + q)
    return p * p / (2.0 * (p - q)) if p > 0.0 else q * q / (2.0 * (q - p))


@njit(cache=True, nogil=True, inline="always")
def _thickness(low, high, row):
    """Ink of a column below ``row``, summed over its parts, px."""
    total = 0.0
    for s in range(SUBCOLUMNS):
        if high[s] >= low[s] and high[s + 1] >= low[s + 1]:
            total += _below(high[s], high[s + 1], row) - _below(low[s], low[s + 1], row)
    return total


@njit(cache=True, nogil=True, inline="never")
def _stroke(image, y, n, x0, dx, half, ink, strength, low, high):
    """Blend the stroke of one gap-free run ``y[:n]`` (px) into the image."""
    height, width = image.shape[0], image.shape[1]
    dense = dx * dx < 8.0 * half * DENSE_PX
    left = max(0, int(np.floor(x0 - half)))
    right = min(width - 1, int(np.floor(x0 + (n - 1) * dx + half)))
    weight = 256.0 * strength / SUBCOLUMNS
    red, green, blue = ink
    low[SUBCOLUMNS], high[SUBCOLUMNS] = _span(y, n, x0, dx, half, float(left), dense)
    for column in range(left, right + 1):
        low[0], high[0] = low[SUBCOLUMNS], high[SUBCOLUMNS]
        for s in range(1, SUBCOLUMNS + 1):
            low[s], high[s] = _span(y, n, x0, dx, half, column + s / SUBCOLUMNS, dense)
        top, bottom = 1e30, -1e30
        for s in range(SUBCOLUMNS + 1):
            if high[s] >= low[s]:
                top = min(top, low[s])
                bottom = max(bottom, high[s])
        if bottom < top:
            continue
        begin = max(0, int(np.floor(top)))
        before = _thickness(low, high, begin)
        for row in range(begin, min(height - 1, int(np.floor(bottom))) + 1):
            after = _thickness(low, high, row + 1)
            share = int((before - after) * weight + 0.5)
            before = after
            pixel = image[row, column]
            pixel[0] += np.uint8(((red - np.int64(pixel[0])) * share + 128) >> 8)
            pixel[1] += np.uint8(((green - np.int64(pixel[1])) * share + 128) >> 8)
            pixel[2] += np.uint8(((blue - np.int64(pixel[2])) * share + 128) >> 8)


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
        limits: (top, bottom) where traces are clipped, px.
        half: Half of the pen's width, px.
        ink: Three ints, 0 to 255.
        strength: Opacity of the ink, 0 to 1.

    Returns:
        (traces,) number of samples clipped at a limit.
    """
    longest = 1
    for j in range(rows.shape[0]):
        longest = max(longest, last[j] - first[j])
    y = np.empty(longest)
    low, high = np.empty(SUBCOLUMNS + 1), np.empty(SUBCOLUMNS + 1)
    clipped = np.zeros(rows.shape[0], np.int64)
    for j in range(rows.shape[0]):
        n = 0
        lead, zero, factor = signal[rows[j]], baseline[j], scale[j]
        for k in range(first[j], last[j]):
            value = zero - np.float64(lead[k]) * factor
            if value != value:
                if n > 0:
                    start = x0[j] + (k - n - first[j]) * dx
                    _stroke(image, y, n, start, dx, half, ink, strength, low, high)
                n = 0
                continue
            if value < limits[0] or value > limits[1]:
                clipped[j] += 1
                value = min(max(value, limits[0]), limits[1])
            y[n] = value
            n += 1
        if n > 0:
            start = x0[j] + (last[j] - n - first[j]) * dx
            _stroke(image, y, n, start, dx, half, ink, strength, low, high)
    return clipped
