"""The camera's pass: warp, light, folds, desk and sensor noise in one sweep over the pixels, compiled by numba."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from gem_lightning.render.warp_map import STEP


@njit(cache=True, nogil=True, inline="always")
def _fold(lines, k, sx, sy):
    """Light that fold or crease ``k`` adds at a point of the page."""
    off = lines[k, 0] * sx + lines[k, 1] * sy - lines[k, 2]
    half = lines[k, 3]
    if off <= -half or off >= half:
        return 0.0
    along = lines[k, 0] * sy - lines[k, 1] * sx
    if along <= lines[k, 6] or along >= lines[k, 7]:
        return 0.0
    near = 1.0 - abs(off) / half
    light = (lines[k, 4] if off > 0 else -lines[k, 4]) * near * near
    if near > 0.8:
        light -= lines[k, 5] * (near - 0.8) * 5.0
    return light


@njit(cache=True, nogil=True)
def _look(inverse, nodes, lines, cell, y, xs, ys, lights, reliefs):
    """Where ``STEP`` neighbouring pixels look on the page, and the light there."""
    a, b, c, d, e, f, g, h, i = inverse
    u0, v0, l0, f0 = nodes[cell, 0], nodes[cell, 1], nodes[cell, 2], nodes[cell, 3]
    u1, v1 = nodes[cell + 1, 0] - u0, nodes[cell + 1, 1] - v0
    l1, f1 = nodes[cell + 1, 2] - l0, nodes[cell + 1, 3] - f0
    for j in range(STEP):  # no branch and no look-up here, so that the compiler does several at a time
        fx = j / STEP
        x = cell * STEP + j + 0.5
        w = 1.0 / (g * x + h * y + i)
        xs[j] = (a * x + b * y + c) * w + u0 + u1 * fx
        ys[j] = (d * x + e * y + f) * w + v0 + v1 * fx
        lights[j] = l0 + l1 * fx
        reliefs[j] = f0 + f1 * fx
    middle = STEP // 2
    for k in range(lines.shape[0]):
        if abs(lines[k, 0] * xs[middle] + lines[k, 1] * ys[middle] - lines[k, 2]) < lines[k, 3] + 3 * STEP:
            for j in range(STEP):
                reliefs[j] += _fold(lines, k, xs[j], ys[j])


@njit(cache=True, nogil=True, inline="always")
def _sample(page, wide, tall, sx, sy, colors):
    """The page's colour at a point, bilinear in 1/256 px; ``page`` is flat."""
    one, three, stride = np.uint64(1), np.uint64(3), wide * 3
    tx, ty = sx - 0.5, sy - 0.5
    right, bottom = wide - 1.000001, tall - 1.000001
    tx = 0.0 if tx < 0.0 else tx if tx < right else right
    ty = 0.0 if ty < 0.0 else ty if ty < bottom else bottom
    x0, y0 = np.int64(tx), np.int64(ty)
    qx, qy = np.int64((tx - x0) * 256.0), np.int64((ty - y0) * 256.0)
    v00, v01, v10, v11 = (256 - qx) * (256 - qy), qx * (256 - qy), (256 - qx) * qy, qx * qy
    p = np.uint64(y0 * stride + x0 * 3)
    q = p + np.uint64(stride)
    for channel in range(3):
        total = v00 * page[p] + v01 * page[p + three] + v10 * page[q] + v11 * page[q + three]
        colors[channel] = total / 65536.0
        p, q = p + one, q + one


@njit(cache=True, nogil=True)
def photograph(page, out, inverse, fields, lines, tone, desk, grain, noise, key, moire):
    """Look at the page through the warp, under a light, with a noisy sensor.

    Args:
        page: Uint8 (H, W, 3), contiguous.
        out: Uint8 (H, W, 3), written.
        inverse: (9,) map of the picture's pixels to the page's pixels.
        fields: (rows, columns, 4) at the nodes: displacement x, y (page px), light on all (1 = as printed) and light
            that the paper's relief adds.
        lines: (n, 8) folds and creases: normal (2), offset, half width (px), light side, dark core, first and last
            place along the line.
        tone: (3,) factor of each channel.
        desk: (4,) colour beside the page, and how far the page's shadow falls on it, px.
        grain: (4096,) a table of normal deviates.
        noise: Standard deviation, grey levels.
        key: Uint64 seed of the noise.
        moire: (4,) amplitude, turns per px in x and y, phase in turns.
    """
    height, width, tall, wide = out.shape[0], out.shape[1], page.shape[0], page.shape[1]
    flat, nodes = page.reshape(-1), np.empty((fields.shape[1], 4))
    colors, dust = np.empty(3), np.empty(3)
    xs, ys, lights, reliefs = np.empty(STEP), np.empty(STEP), np.empty(STEP), np.empty(STEP)
    low, twelve = np.uint64(4095), np.uint64(12)
    for row in range(height):
        r0, fy = row // STEP, (row % STEP) / STEP
        for k in range(nodes.shape[0]):
            for j in range(4):
                nodes[k, j] = fields[r0, k, j] * (1 - fy) + fields[r0 + 1, k, j] * fy
        for column in range(width):
            j = column % STEP
            if j == 0:
                _look(inverse, nodes, lines, column // STEP, row + 0.5, xs, ys, lights, reliefs)
            sx, sy = xs[j], ys[j]
            across = sx if sx < wide - sx else wide - sx
            inside = sy if sy < tall - sy else tall - sy
            inside = (across if across < inside else inside) + 0.5
            share = 1.0 if inside > 1.0 else inside if inside > 0.0 else 0.0
            light = lights[j] + reliefs[j] * share
            if moire[0] > 0.0:
                turn = moire[1] * (column + 0.5) + moire[2] * (row + 0.5) + moire[3] + light
                turn = 2.0 * (turn - math.floor(turn)) - 1.0
                light *= 1.0 + moire[0] * 4.0 * turn * (1.0 - abs(turn))  # nearly a sine
            _sample(flat, wide, tall, sx, sy, colors)
            if inside < 1.0:
                shade = 1.0 - share
                if -desk[3] < inside <= 0.0:
                    shade = 1.0 - 0.35 * (1.0 + inside / desk[3])
                for channel in range(3):
                    colors[channel] = colors[channel] * share + desk[channel] * shade
            key += np.uint64(0x9E3779B97F4A7C15)
            bits = (key ^ (key >> np.uint64(32))) * np.uint64(0xBF58476D1CE4E5B9)
            bits ^= bits >> np.uint64(29)
            grey, tinge = grain[bits & low] * noise, grain[(bits >> twelve) & low] * noise * 0.4
            dust[0], dust[1], dust[2] = grey + tinge, grey, grey - tinge
            for channel in range(3):  # whole numbers before the clamp: a branch on noise is never predicted
                value = np.int64(colors[channel] * tone[channel] * light + dust[channel] + 0.5)
                out[row, column, channel] = min(max(value, 0), 255)
