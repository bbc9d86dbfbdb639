"""Map page pixels to camera pixels and apply light, desk and sensor noise; compiled by numba.

Between the two passes OpenCV fetches the page's colours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit

STEP = 8  # px between the nodes of a field


@dataclass(frozen=True)
class Warp:
    """A projective map with a small smooth displacement on top.

    The image's point p shows the page's point ``inverse(p) + displacement(p)``.

    Attributes:
        matrix: (3, 3) map of the page's pixels to the image's pixels.
        field: (rows, columns, 2) displacement in page px at the nodes (every ``STEP`` px), or None.
    """

    matrix: np.ndarray
    field: np.ndarray | None = None

    def _project(self, points: np.ndarray) -> np.ndarray:
        x, y, w = self.matrix @ np.stack([points[:, 0], points[:, 1], np.ones(len(points))])
        return np.stack([x / w, y / w], axis=1)

    def _displacement(self, points: np.ndarray) -> np.ndarray:
        assert self.field is not None
        rows, columns = self.field.shape[:2]
        at = np.clip(points / STEP, 0, [columns - 1, rows - 1])
        low = np.minimum(at.astype(np.int64), [columns - 2, rows - 2])
        (fx, fy), (c, r) = (at - low).T[..., None], low.T
        f = self.field
        return (f[r, c] * (1 - fx) + f[r, c + 1] * fx) * (1 - fy) + (f[r + 1, c] * (1 - fx) + f[r + 1, c + 1] * fx) * fy

    def forward(self, points: np.ndarray) -> np.ndarray:
        """Points (n, 2) of the page as points of the image, px."""
        image = self._project(points)
        if self.field is not None:
            for _ in range(8):  # the displacement is small and smooth, so this settles to a hundredth of a pixel
                image = self._project(points - self._displacement(image))
        return image


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
def _look_row(inverse, nodes, y, xs, ys, lights, reliefs):
    """Map a row of pixels to the page, and the light there, folds apart; arrays of whole cells."""
    a, b, c, d, e, f, g, h, i = inverse
    for cell in range(xs.shape[0] // STEP):
        for j in range(STEP):
            k, fx = cell * STEP + j, j / STEP
            xs[k] = nodes[0, cell] + (nodes[0, cell + 1] - nodes[0, cell]) * fx
            ys[k] = nodes[1, cell] + (nodes[1, cell + 1] - nodes[1, cell]) * fx
            lights[k] = nodes[2, cell] + (nodes[2, cell + 1] - nodes[2, cell]) * fx
            reliefs[k] = nodes[3, cell] + (nodes[3, cell + 1] - nodes[3, cell]) * fx
    for k in range(xs.shape[0]):  # no branch and no look-up here, so that the compiler does several at a time
        x = k + 0.5
        w = 1.0 / (g * x + h * y + i)
        xs[k] += (a * x + b * y + c) * w
        ys[k] += (d * x + e * y + f) * w


@njit(cache=True, nogil=True)
def look(tall, wide, inverse, fields, lines, at_x, at_y, light, inside):
    """Aim every pixel of the image at the page.

    Args:
        tall, wide: Size of the page, px.
        inverse: (9,) map of the image's pixels to the page's pixels.
        fields: (rows, columns, 4) at the nodes: displacement x, y (page px), light on all (1 = as printed) and light
            that the paper's relief adds.
        lines: (n, 8) folds and creases: normal (2), offset, half width (px), light side, dark core, first and last
            place along the line.
        at_x, at_y: Float32 (H, W), written: the point of the page, as OpenCV counts (pixel middles are whole).
        light: Float32 (H, W), written: the light there.
        inside: Float32 (H, W), written: distance from the page's edge, px, plus a half; negative off the page.
    """
    height, width = light.shape
    nodes, cells = np.empty((4, fields.shape[1])), (width + STEP - 1) // STEP
    xs, ys, lights, reliefs = np.empty((4, cells * STEP))
    for row in range(height):
        r0, fy = row // STEP, (row % STEP) / STEP
        for k in range(nodes.shape[1]):
            for j in range(4):
                nodes[j, k] = fields[r0, k, j] * (1 - fy) + fields[r0 + 1, k, j] * fy
        _look_row(inverse, nodes, row + 0.5, xs, ys, lights, reliefs)
        for k in range(lines.shape[0]):
            for begin in range(0, cells * STEP, STEP):
                middle = begin + STEP // 2
                if abs(lines[k, 0] * xs[middle] + lines[k, 1] * ys[middle] - lines[k, 2]) < lines[k, 3] + 3 * STEP:
                    for j in range(begin, begin + STEP):
                        reliefs[j] += _fold(lines, k, xs[j], ys[j])
        for k in range(width):
            sx, sy = xs[k], ys[k]
            across = sx if sx < wide - sx else wide - sx
            edge = sy if sy < tall - sy else tall - sy
            edge = (across if across < edge else edge) + 0.5
            share = edge if edge < 1.0 else 1.0
            share = share if share > 0.0 else 0.0
            at_x[row, k], at_y[row, k] = sx - 0.5, sy - 0.5
            light[row, k] = lights[k] + reliefs[k] * share
            inside[row, k] = edge


@njit(cache=True, nogil=True)
def expose(image, light, inside, tone, desk, grain, noise, starts, moire):
    """Light the fetched image, lay it on the desk and add the sensor's noise.

    Args:
        image: Uint8 (H, W, 3), the page's colours, changed in place.
        light, inside: Of :func:`look`; ``light`` is changed by moire.
        tone: Float32 (3,) factor of each channel.
        desk: (4,) colour around the page, and how far the page's shadow falls on it, px.
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
                    below = image[row, column, channel] * share
                    image[row, column, channel] = np.uint8(below + desk[channel] * shade + 0.5)
        first, second = grain[starts[row, 0] :], grain[starts[row, 1] :]
        for column in range(width):  # whole numbers before the clamp: a branch on noise is never predicted
            dust, hue = first[column] * grey + half, second[column] * tinge
            red = np.int32(image[row, column, 0] * (tone[0] * lit[column]) + (dust + hue))
            green = np.int32(image[row, column, 1] * (tone[1] * lit[column]) + dust)
            blue = np.int32(image[row, column, 2] * (tone[2] * lit[column]) + (dust - hue))
            image[row, column, 0] = min(max(red, zero), top)
            image[row, column, 1] = min(max(green, zero), top)
            image[row, column, 2] = min(max(blue, zero), top)
