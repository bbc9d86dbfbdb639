"""Turn a photo or scan of ECG paper into a flat page of known scale, by its grid alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from scipy.optimize import least_squares
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import breadth_first_order, minimum_spanning_tree

from gem_lightning.digitizer.lattice import GridObservations, grid_contrast, observe_grid

PX_PER_MM = 6.0  # of the flat page: what is lost by sampling a trace lies 27 dB below it
_STEP = 8  # px of the flat page between the nodes of the displacement field
_LONGEST_MM = 420.0  # A3: a page that seems larger is cut there
#: (lines' distance, smoothing), mm, of each pass: heavy lines place the page, their harmonics (a thin line has many)
#: within a millimetre also where fine lines are blurred, and fine lines to hundredths (ours, by drawn photos).
_PASSES = ((5.0, 25.0), (5.0, 12.0), (2.5, 10.0), (5 / 3, 8.0), (1.0, 8.0), (1.0, 5.0))
_BETWEEN_LINES = 0.1  # per mm: half way between two harmonics of heavy lines, where only noise is
_PLAIN = 2.5  # times the noise: a line's phase is then known to a tenth of its spacing
_FAINTEST = 1e-6  # of the paper's brightness: on blank pages nothing stands out
_SMOOTH_MM, _NOISE_MM = 12.0, 0.03  # of the field on a flat page: traces disturb the lines next to them (ours)
_STRETCH = 0.12  # of paper: folds of a photo stretch it less
_PLAINLY = 0.35  # of the lattice's strong amplitude: a third of it is still plain
_STANDS_OUT = 0.5  # of the noise, for a grid to be seen: its amplitude is three and a half times as large
_WEAK = 0.06  # of the lattice's strong amplitude: less is no paper


@dataclass(frozen=True)
class Rectified:
    """A flat page at :data:`PX_PER_MM`.

    Attributes:
        page: uint8 (H, W, 3).
        paper: bool (H, W), where the grid is seen.
        offset: (x, y) of the page's corner in the paper's coordinates, mm.
        matrix: 3 x 3, paper (mm) to image (px), before the displacement.
        field: float32 (h, w, 2) displacement, mm, at nodes :data:`_STEP` px apart.
        misfit: Median error of the tiles' gradients against the homography, share of the scale.
        strength: Share of the page on which the grid is plainly seen.
        px_per_mm: Scale of the source image in the middle of the page.
        torn: Share of the page on which the field stretches the paper more than any paper can.
    """

    page: np.ndarray
    paper: np.ndarray
    offset: np.ndarray
    matrix: np.ndarray
    field: np.ndarray
    misfit: float
    strength: float
    px_per_mm: float
    torn: float = 0.0

    def to_image(self, points: np.ndarray) -> np.ndarray:
        """Return where points (n, 2) of the flat page, px, lie in the source image, px."""
        points = np.asarray(points, np.float64)
        nodes = (points / _STEP).astype(np.float32)
        moved = cv2.remap(self.field, nodes[:, 0], nodes[:, 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return _project(self.matrix, points / PX_PER_MM + self.offset + moved.reshape(-1, 2))


def rectify(image: np.ndarray) -> Rectified:
    """Flatten an image of ECG paper.

    The grid's local spectra give a homography; the phase of the grid's lines on the page that it makes gives what is
    left: folds, waves, a lens. Positions are relative to the grid: a heavy line lies at each multiple of 5 mm.

    Args:
        image: uint8 (H, W, 3), upright within 20 degrees.
    """
    height, width = image.shape[:2]
    contrast = grid_contrast(image)
    found = observe_grid(contrast)
    to_paper, misfit = fit_homography(found, width, height)
    matrix = np.linalg.inv(to_paper)
    corners = _project(to_paper, np.array([[0, 0], [width, 0], [width, height], [0, height]], float))
    low = corners.min(0)
    size = np.ceil((np.minimum(corners.max(0), low + _LONGEST_MM) - low) * PX_PER_MM).astype(int)
    nodes = np.stack(np.meshgrid(*(np.arange(0, n + _STEP + 1, _STEP) for n in size)), -1).astype(np.float64)
    field = np.zeros(nodes.shape, np.float32)
    strength, visible = np.zeros((2, 1, 1), np.float32), np.float32(0)
    for spacing, smooth in _PASSES:
        flat = _warp(contrast, matrix, nodes, low, field, size, 0.0)
        step, strength, seen = _phase_shift(flat, low, spacing, smooth)
        visible = np.maximum(visible, seen)
        field = field + cv2.resize(step, (nodes.shape[1], nodes.shape[0]))
    field = _without_noise(field)
    page = _warp(image, matrix, nodes, low, field, size, None)
    covered = _warp(np.ones((height, width), np.float32), matrix, nodes, low, field, size, 0.0) > 0.5
    paper = _paper_mask(strength, size) & covered
    middle = _project(matrix, np.array([[0, 0], [1, 0]]) + low + size / PX_PER_MM / 2)
    scale = float(np.linalg.norm(middle[1] - middle[0]))
    share = float((visible > _STANDS_OUT).mean())
    return Rectified(
        page, paper, low, matrix, field, misfit, share, scale, _torn_share(field, strength.min(0) > _PLAINLY)
    )


def fit_homography(found: GridObservations, width: int, height: int) -> tuple[np.ndarray, float]:
    """Fit the projection whose gradients agree with the tiles' best.

    Returns:
        3 x 3 matrix, image (px) to paper (mm, from the image's centre), and the median error of the gradients.
    """
    half = max(width, height) / 2
    x, y = ((found.centre - [width / 2, height / 2]) / half).T
    seen = found.gradient * half
    weight = np.sqrt(np.clip(found.score - np.percentile(found.score, 10), 0.05, None))
    weight = weight / weight.max()
    start = [float(np.median(seen[found.family == k, j])) for k in (0, 1) for j in (0, 1)]

    def error(parameters: np.ndarray) -> np.ndarray:
        a, b, d, e, g, h = parameters
        depth = g * x + h * y + 1
        across, down = (a * x + b * y) / depth, (d * x + e * y) / depth
        time = np.stack([a - across * g, b - across * h]) / depth
        volt = np.stack([d - down * g, e - down * h]) / depth
        return (np.where(found.family == 0, time, volt).T - seen) / abs(start[0])

    def residual(parameters: np.ndarray) -> np.ndarray:
        return (weight[:, None] * error(parameters)).ravel()

    best = least_squares(residual, [*start, 0.0, 0.0], loss="soft_l1", f_scale=0.01).x  # 1 % of the scale
    a, b, d, e, g, h = best
    centred = np.array([[1 / half, 0, -width / 2 / half], [0, 1 / half, -height / 2 / half], [0, 0, 1]])
    matrix = np.array([[a, b, 0], [d, e, 0], [g, h, 1]]) @ centred
    off, order = np.hypot(*error(best).T), np.argsort(weight)
    half_way = np.searchsorted(np.cumsum(weight[order]), weight.sum() / 2)
    sure = weight >= weight[order[half_way]]  # tiles off the paper say nothing
    return matrix, float(np.median(off[sure]))


def _phase_shift(flat: np.ndarray, low: np.ndarray, spacing: float, smooth: float) -> tuple[np.ndarray, ...]:
    """Return how far the lines lie from their places, and how plainly they are seen.

    Returns:
        Shift (h, w, 2), mm; the lattice's amplitude (2, h, w); and how far both families stand out of the noise (h, w),
        0 to 1.
    """
    sigma = smooth * PX_PER_MM / _STEP
    shifts, strengths, plain = [], [], []
    for axis in (0, 1):
        z = _demodulated(flat, low, axis, 1 / spacing, sigma)
        amplitude = np.abs(z)
        noise = np.abs(_demodulated(flat, low, axis, 1 / spacing + _BETWEEN_LINES, sigma))
        noise = cv2.GaussianBlur(noise, (0, 0), 2 * sigma)
        strong = float(np.percentile(amplitude, 90)) + 1e-9
        seen = np.clip(1 - (_PLAIN * (noise + _FAINTEST) / (amplitude + _FAINTEST)) ** 2, 0, 1)
        weight = seen * np.clip(amplitude / strong, 0, 1) ** 1.5
        shift = -_unwrapped(np.angle(z), weight) * spacing / (2 * np.pi)
        shifts.append(_smoothed(shift * weight, weight, 0.6 * sigma))
        strengths.append(amplitude / strong)
        plain.append(seen)
    return np.stack(shifts, -1).astype(np.float32), np.stack(strengths).astype(np.float32), np.minimum(*plain)


def _demodulated(flat: np.ndarray, low: np.ndarray, axis: int, frequency: float, sigma: float) -> np.ndarray:
    """Complex amplitude (h, w) of dark lines across an axis, of so many per mm, around each node."""
    place = low[axis] + (np.arange(flat.shape[1 - axis]) + 0.5) / PX_PER_MM
    carrier = np.exp(-2j * np.pi * frequency * place).astype(np.complex64)
    wave = flat * (carrier[None] if axis == 0 else carrier[:, None])
    small = [
        cv2.resize(np.ascontiguousarray(part), None, fx=1 / _STEP, fy=1 / _STEP, interpolation=cv2.INTER_AREA)
        for part in (wave.real, wave.imag)
    ]
    real, imaginary = (cv2.GaussianBlur(part, (0, 0), sigma) for part in small)
    return -(real + 1j * imaginary)


def _unwrapped(phase: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Add whole turns to a phase (h, w) so that it runs on smoothly, from where it is surest to where it is not.

    The nodes are joined by the tree whose weakest steps are as sure as can be; no step of it is half a turn.
    """
    height, width = phase.shape
    index = np.arange(height * width).reshape(height, width)
    ends, costs = [], []
    for axis in (0, 1):
        one, two = (np.take(index, range(a, index.shape[axis] - 1 + a), axis).ravel() for a in (0, 1))
        step = np.abs(_within_half_turn(phase.flat[two] - phase.flat[one])) / np.pi
        costs.append((1 + step) / (np.minimum(weight.flat[one], weight.flat[two]) + 1e-3))
        ends.append((one, two))
    one, two = (np.concatenate(part) for part in zip(*ends, strict=True))
    tree = minimum_spanning_tree(
        coo_matrix((np.concatenate(costs), (one, two)), shape=(index.size, index.size)).tocsr()
    )
    order, before = breadth_first_order(tree, int(np.argmax(weight)), directed=False)
    flat = phase.ravel().astype(np.float64)
    for node in order[1:]:
        flat[node] = flat[before[node]] + _within_half_turn(flat[node] - flat[before[node]])
    usual = float((flat * weight.ravel()).sum() / (weight.sum() + 1e-9))
    flat -= 2 * np.pi * round(usual / (2 * np.pi))
    return flat.reshape(phase.shape)


def _within_half_turn(angle: Any) -> Any:
    return (angle + np.pi) % (2 * np.pi) - np.pi


def _smoothed(weighted: np.ndarray, weight: np.ndarray, sigma: float) -> np.ndarray:
    total = cv2.GaussianBlur(weight.astype(np.float32), (0, 0), sigma) + 1e-3
    return cv2.GaussianBlur(weighted.astype(np.float32), (0, 0), sigma) / total


def _without_noise(field: np.ndarray) -> np.ndarray:
    """Keep of the field's fine structure what stands out of the noise that traces leave in it (Wiener's filter)."""
    sigma = _SMOOTH_MM * PX_PER_MM / _STEP
    smooth = cv2.GaussianBlur(field, (0, 0), sigma)
    fine = field - smooth
    power = cv2.GaussianBlur((fine**2).mean(-1), (0, 0), sigma)[..., None]
    return (smooth + fine * np.clip(1 - _NOISE_MM**2 / (power + 1e-9), 0, 1)).astype(np.float32)


def _torn_share(field: np.ndarray, plain: np.ndarray) -> float:
    """Share of the plain grid on which the field changes along time by more than :data:`_STRETCH` mm a mm."""
    change = np.abs(np.diff(field[..., 0], axis=1)) * PX_PER_MM / _STEP
    height, width = (min(n, m) for n, m in zip(change.shape, plain.shape, strict=True))
    inner = cv2.erode(plain[:height, :width].astype(np.uint8), np.ones((5, 5))) > 0
    return float((change[:height, :width][inner] > _STRETCH).mean()) if inner.any() else 0.0


def _paper_mask(strength: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Where both families of lines are seen, without holes that a trace or a text makes."""
    mask = (strength.min(0) > _WEAK).astype(np.uint8)
    mask = cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((9, 9)))
    mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((31, 31)))
    return cv2.resize(mask, (int(size[0]), int(size[1])), interpolation=cv2.INTER_NEAREST) > 0


def _project(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    moved = np.concatenate([points, np.ones((*points.shape[:-1], 1))], -1) @ matrix.T
    return moved[..., :2] / moved[..., 2:]


def _warp(
    image: np.ndarray,
    matrix: np.ndarray,
    nodes: np.ndarray,
    low: np.ndarray,
    field: np.ndarray,
    size: np.ndarray,
    border: float | None,
) -> np.ndarray:
    """Draw the image on the flat page; outside of it ``border``, or its edge for None."""
    source = (_project(matrix, (nodes + 0.5) / PX_PER_MM + low + field) - 0.5).astype(np.float32)
    y, x = np.mgrid[0 : size[1], 0 : size[0]].astype(np.float32) / _STEP
    across, down = (cv2.remap(np.ascontiguousarray(source[..., k]), x, y, cv2.INTER_LINEAR) for k in (0, 1))
    if border is None:
        return cv2.remap(image, across, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return cv2.remap(image, across, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=border)
