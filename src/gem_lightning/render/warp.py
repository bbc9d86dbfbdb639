"""The camera's passes: where each pixel looks, and what light, desk and sensor make of it; compiled by numba.

Between the two OpenCV fetches the page's colours. :mod:`gem_lightning.render.warp_numpy` computes the same without
numba.
"""

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
def _look_cell(inverse, nodes, cell, y, xs, ys, lights, reliefs):
    """Where ``STEP`` neighbouring pixels look on the page, and the light there, folds apart."""
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


@njit(cache=True, nogil=True)
def look(tall, wide, inverse, fields, lines, at_x, at_y, light, inside):
    """Aim every pixel of the picture at the page.

    Args:
        tall, wide: Size of the page, px.
        inverse: (9,) map of the picture's pixels to the page's pixels.
        fields: (rows, columns, 4) at the nodes: displacement x, y (page px), light on all (1 = as printed) and light
            that the paper's relief adds.
        lines: (n, 8) folds and creases: normal (2), offset, half width (px), light side, dark core, first and last
            place along the line.
        at_x, at_y: Float32 (H, W), written: where the pixel looks, as OpenCV counts (pixel middles are whole).
        light: Float32 (H, W), written: the light there.
        inside: Float32 (H, W), written: distance from the page's edge, px, plus a half; negative beside the page.
    """
    height, width = light.shape
    nodes = np.empty((fields.shape[1], 4))
    xs, ys, lights, reliefs = np.empty(STEP), np.empty(STEP), np.empty(STEP), np.empty(STEP)
    middle = STEP // 2
    for row in range(height):
        r0, fy = row // STEP, (row % STEP) / STEP
        for k in range(nodes.shape[0]):
            for j in range(4):
                nodes[k, j] = fields[r0, k, j] * (1 - fy) + fields[r0 + 1, k, j] * fy
        for cell in range((width + STEP - 1) // STEP):
            _look_cell(inverse, nodes, cell, row + 0.5, xs, ys, lights, reliefs)
            for k in range(lines.shape[0]):
                if abs(lines[k, 0] * xs[middle] + lines[k, 1] * ys[middle] - lines[k, 2]) < lines[k, 3] + 3 * STEP:
                    for j in range(STEP):
                        reliefs[j] += _fold(lines, k, xs[j], ys[j])
            begin = cell * STEP
            for j in range(min(STEP, width - begin)):
                sx, sy = xs[j], ys[j]
                across = sx if sx < wide - sx else wide - sx
                edge = sy if sy < tall - sy else tall - sy
                edge = (across if across < edge else edge) + 0.5
                share = 1.0 if edge > 1.0 else edge if edge > 0.0 else 0.0
                at_x[row, begin + j], at_y[row, begin + j] = sx - 0.5, sy - 0.5
                light[row, begin + j] = lights[j] + reliefs[j] * share
                inside[row, begin + j] = edge


@njit(cache=True, nogil=True)
def expose(picture, light, inside, tone, desk, grain, noise, starts, moire):
    """Light the fetched picture, lay it on the desk and add the sensor's noise.

    Args:
        picture: Uint8 (H, W, 3), the page's colours, changed in place.
        light, inside: Of :func:`look`; ``light`` is changed by moire.
        tone: Float32 (3,) factor of each channel.
        desk: (4,) colour beside the page, and how far the page's shadow falls on it, px.
        grain: Float32 table of normal deviates, longer than 65,536 + W.
        noise: Standard deviation, grey levels.
        starts: (H, 2) where each row begins in the table, for grey and for coloured noise.
        moire: (4,) amplitude, turns per px in x and y, phase in turns.
    """
    height, width = light.shape
    grey, tinge = np.float32(noise), np.float32(0.4 * noise)
    half, top, zero = np.float32(0.5), np.int32(255), np.int32(0)
    for row in range(height):
        lit = light[row]
        if moire[0] > 0.0:
            for column in range(width):
                turn = moire[1] * (column + 0.5) + moire[2] * (row + 0.5) + moire[3] + lit[column]
                turn = 2.0 * (turn - math.floor(turn)) - 1.0
                lit[column] *= 1.0 + moire[0] * 4.0 * turn * (1.0 - abs(turn))  # nearly a sine
        for column in range(width):
            edge = inside[row, column]
            if edge < 1.0:
                share = max(edge, 0.0)
                shade = 1.0 - 0.35 * (1.0 + edge / desk[3]) if -desk[3] < edge <= 0.0 else 1.0 - share
                for channel in range(3):
                    below = picture[row, column, channel] * share
                    picture[row, column, channel] = np.uint8(below + desk[channel] * shade + 0.5)
        first, second = grain[starts[row, 0] :], grain[starts[row, 1] :]
        for column in range(width):  # whole numbers before the clamp: a branch on noise is never predicted
            dust, hue = first[column] * grey + half, second[column] * tinge
            red = np.int32(picture[row, column, 0] * (tone[0] * lit[column]) + (dust + hue))
            green = np.int32(picture[row, column, 1] * (tone[1] * lit[column]) + dust)
            blue = np.int32(picture[row, column, 2] * (tone[2] * lit[column]) + (dust - hue))
            picture[row, column, 0] = min(max(red, zero), top)
            picture[row, column, 1] = min(max(green, zero), top)
            picture[row, column, 2] = min(max(blue, zero), top)
