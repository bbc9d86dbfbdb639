"""The camera's pass without numba: the same sums as :func:`gem_lightning.render.warp.photograph`, by whole arrays."""

from __future__ import annotations

import numpy as np

from gem_lightning.render.warp_map import STEP


def photograph(page, out, inverse, fields, lines, tone, desk, grain, noise, key, moire):  # type: ignore[no-untyped-def]
    """As :func:`gem_lightning.render.warp.photograph`."""
    height, width = out.shape[:2]
    tall, wide = page.shape[:2]
    dx, dy, light, relief = np.moveaxis(_nodes_to_pixels(fields, height, width), 2, 0)
    y, x = np.mgrid[0:height, 0:width] + 0.5
    a, b, c, d, e, f, g, h, i = inverse
    w = 1.0 / (g * x + h * y + i)
    sx = (a * x + b * y + c) * w + dx
    sy = (d * x + e * y + f) * w + dy
    inside = np.minimum(np.minimum(sx, wide - sx), np.minimum(sy, tall - sy)) + 0.5
    share = np.clip(inside, 0.0, 1.0)
    for nx, ny, offset, half, side, core, begin, end in lines:
        off, along = nx * sx + ny * sy - offset, nx * sy - ny * sx
        on = (np.abs(off) < half) & (along > begin) & (along < end)
        near = 1.0 - np.abs(off) / half
        relief = relief + np.where(on, np.where(off > 0, side, -side) * near * near, 0.0)
        relief = relief - np.where(on & (near > 0.8), core * (near - 0.8) * 5.0, 0.0)
    light = light + relief * share
    if moire[0] > 0.0:
        turn = moire[1] * x + moire[2] * y + moire[3] + light
        turn = 2.0 * (turn - np.floor(turn)) - 1.0
        light = light * (1.0 + moire[0] * 4.0 * turn * (1.0 - np.abs(turn)))
    value = _bilinear(page, np.clip(sx - 0.5, 0.0, wide - 1.000001), np.clip(sy - 0.5, 0.0, tall - 1.000001))
    fallen = (inside > -desk[3]) & (inside <= 0.0)
    shade = np.where(fallen, 1.0 - 0.35 * (1.0 + inside / desk[3]), 1.0 - share)
    value = value * share[..., None] + np.asarray(desk[:3]) * shade[..., None]
    value = value * tone * light[..., None] + _dust(height, width, key, grain) * noise
    out[:] = np.clip(value + 0.5, 0.0, 255.0).astype(np.uint8)


def _nodes_to_pixels(fields: np.ndarray, height: int, width: int) -> np.ndarray:
    """Fields (rows, columns, n) at the nodes, interpolated to (H, W, n)."""
    r, c = np.arange(height) / STEP, np.arange(width) / STEP
    r0, c0 = r.astype(np.int64), c.astype(np.int64)
    fy, fx = (r - r0)[:, None, None], (c - c0)[None, :, None]
    lines = fields[r0] * (1 - fy) + fields[r0 + 1] * fy
    return lines[:, c0] * (1 - fx) + lines[:, c0 + 1] * fx


def _bilinear(page: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The page's colour (H, W, 3) at pixel places (x, y)."""
    x0, y0 = x.astype(np.int64), y.astype(np.int64)
    fx, fy = ((x - x0) * 256.0).astype(np.int64)[..., None], ((y - y0) * 256.0).astype(np.int64)[..., None]
    page = page.astype(np.int64)
    top = page[y0, x0] * (256 - fx) + page[y0, x0 + 1] * fx
    bottom = page[y0 + 1, x0] * (256 - fx) + page[y0 + 1, x0 + 1] * fx
    return (top * (256 - fy) + bottom * fy) / 65536.0


def _dust(height: int, width: int, key: np.uint64, grain: np.ndarray) -> np.ndarray:
    """Noise (H, W, 3) of variance 1: a hashed counter picks from the table, a little of it coloured."""
    count = np.arange(1, height * width + 1, dtype=np.uint64)
    with np.errstate(over="ignore"):
        state = np.uint64(key) + count * np.uint64(0x9E3779B97F4A7C15)
        bits = (state ^ (state >> np.uint64(32))) * np.uint64(0xBF58476D1CE4E5B9)
    bits ^= bits >> np.uint64(29)
    grey, tinge = (grain[((bits >> np.uint64(12 * k)) & np.uint64(4095)).astype(np.int64)] for k in range(2))
    tinge = 0.4 * tinge
    return np.stack([grey + tinge, grey, grey - tinge], axis=-1).reshape(height, width, 3)
