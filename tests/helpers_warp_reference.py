"""Reference of :mod:`gem_lightning.render.kernels.warp` in whole-array numpy."""

from __future__ import annotations

import numpy as np

from gem_lightning.render.kernels.warp import STEP


def look(tall, wide, inverse, fields, lines, at_x, at_y, light, inside):  # type: ignore[no-untyped-def]
    """As :func:`gem_lightning.render.kernels.warp.look`."""
    height, width = light.shape
    dx, dy, lit, relief = np.moveaxis(_nodes_to_pixels(fields, height, width), 2, 0)
    y, x = np.mgrid[0:height, 0:width] + 0.5
    a, b, c, d, e, f, g, h, i = inverse
    w = 1.0 / (g * x + h * y + i)
    sx = (a * x + b * y + c) * w + dx
    sy = (d * x + e * y + f) * w + dy
    edge = np.minimum(np.minimum(sx, wide - sx), np.minimum(sy, tall - sy)) + 0.5
    for nx, ny, offset, half, side, core, begin, end in lines:
        off, along = nx * sx + ny * sy - offset, nx * sy - ny * sx
        on = (np.abs(off) < half) & (along > begin) & (along < end)
        near = 1.0 - np.abs(off) / half
        relief = relief + np.where(on, np.where(off > 0, side, -side) * near * near, 0.0)
        relief = relief - np.where(on & (near > 0.8), core * (near - 0.8) * 5.0, 0.0)
    at_x[:], at_y[:] = sx - 0.5, sy - 0.5
    light[:] = lit + relief * np.clip(edge, 0.0, 1.0)
    inside[:] = edge


def expose(picture, light, inside, tone, desk, grain, noise, starts, moire):  # type: ignore[no-untyped-def]
    """As :func:`gem_lightning.render.kernels.warp.expose`."""
    height, width = light.shape
    if moire[0] > 0.0:
        y, x = np.mgrid[0:height, 0:width] + 0.5
        turn = moire[1] * x + moire[2] * y + moire[3] + light
        turn = 2.0 * (turn - np.floor(turn)) - 1.0
        light *= 1.0 + moire[0] * 4.0 * turn * (1.0 - np.abs(turn))
    rows, columns = np.nonzero(inside < 1.0)
    edge = inside[rows, columns].astype(np.float64)
    share = np.maximum(edge, 0.0)
    shade = np.where((edge > -desk[3]) & (edge <= 0.0), 1.0 - 0.35 * (1.0 + edge / desk[3]), 1.0 - share)
    below = picture[rows, columns] * share[:, None]
    picture[rows, columns] = (below + np.asarray(desk[:3]) * shade[:, None] + 0.5).astype(np.uint8)
    at = starts[:, :, None] + np.arange(width)
    dust = grain[at[:, 0]] * np.float32(noise) + np.float32(0.5)
    hue = grain[at[:, 1]] * np.float32(0.4 * noise)
    value = picture * (tone * light[..., None]) + np.stack([dust + hue, dust, dust - hue], axis=-1)
    picture[:] = np.clip(value.astype(np.int32), 0, 255)


def _nodes_to_pixels(fields: np.ndarray, height: int, width: int) -> np.ndarray:
    """Fields (rows, columns, n) at the nodes, interpolated to (H, W, n)."""
    r, c = np.arange(height) / STEP, np.arange(width) / STEP
    r0, c0 = r.astype(np.int64), c.astype(np.int64)
    fy, fx = (r - r0)[:, None, None], (c - c0)[None, :, None]
    lines = fields[r0] * (1 - fy) + fields[r0 + 1] * fy
    return lines[:, c0] * (1 - fx) + lines[:, c0 + 1] * fx
