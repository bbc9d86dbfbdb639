"""Fit images to the square inputs of an image tower; uint8 in, uint8 out, Pillow's bicubic as in training.

Rendering straight at ``size=(336, 336)`` needs none of this: the page then lies whole inside the square.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Sequence

import numpy as np

from gem_lightning.errors import RenderError

CLIP_MEAN_COLOR = (122, 116, 104)  # CLIP's mean, as LLaVA pads
GRID = ((336, 672), (672, 336), (672, 672), (1008, 336), (336, 1008))  # LLaVA-1.6, (width, height)


def letterbox(image: np.ndarray, size: int = 336, fill: Sequence[int] = CLIP_MEAN_COLOR) -> np.ndarray:
    """The whole image (H, W, 3) in a square (size, size, 3), padded on two sides: every label stays inside."""
    image = _checked(image)
    height, width = image.shape[:2]
    side = max(height, width)
    if height != width:
        square = np.empty((side, side, 3), np.uint8)
        square[:] = np.asarray(fill, np.uint8)
        top, left = (side - height) // 2, (side - width) // 2
        square[top : top + height, left : left + width] = image
        image = square
    return _resize(image, size, size)


def stretch(image: np.ndarray, size: int = 336) -> np.ndarray:
    """The whole image (H, W, 3) squeezed into (size, size, 3): millimetres differ by axis afterwards."""
    return _resize(_checked(image), size, size)


def gem(image: np.ndarray, size: int = 336) -> np.ndarray:
    """The original's way, for its published weights: short side to ``size``, middle square (size, size, 3) kept.

    A letter page loses about 32 mm on each side, and with them lead names and calibration pulses.
    """
    image = _checked(image)
    height, width = image.shape[:2]
    if height < width:
        image = _resize(image, size, int(size * width / height))
    else:
        image = _resize(image, int(size * height / width), size)
    top, left = (image.shape[0] - size) // 2, (image.shape[1] - size) // 2
    return np.ascontiguousarray(image[top : top + size, left : left + size])


def anyres(image: np.ndarray, size: int = 336, grid: Sequence[Sequence[int]] = GRID) -> np.ndarray:
    """LLaVA-1.6's tiles (1 + n, size, size, 3): the squeezed whole, then the padded image cut into a grid.

    Args:
        image: (H, W, 3).
        size: Side of a tile, px.
        grid: Allowed (width, height) of the cut image, px.
    """
    image = _checked(image)
    width, height = best_grid((image.shape[1], image.shape[0]), grid)
    across, down = width / image.shape[1], height / image.shape[0]
    if across < down:
        inner = (min(int(np.ceil(image.shape[0] * across)), height), width)
    else:
        inner = (height, min(int(np.ceil(image.shape[1] * down)), width))
    canvas = np.zeros((height, width, 3), np.uint8)
    top, left = (height - inner[0]) // 2, (width - inner[1]) // 2
    canvas[top : top + inner[0], left : left + inner[1]] = _resize(image, *inner)
    rows, columns = height // size, width // size
    tiles = canvas.reshape(rows, size, columns, size, 3).swapaxes(1, 2).reshape(-1, size, size, 3)
    return np.concatenate([stretch(image, size)[None], tiles])


def best_grid(size: tuple[int, int], grid: Sequence[Sequence[int]]) -> tuple[int, int]:
    """The canvas that keeps most of an image's resolution, and of these the one that wastes least.

    Source: LLaVA-1.6, ``select_best_resolution``, with its integer truncation.

    Args:
        size: (width, height) of the image, px.
        grid: Canvases to choose from; the first number of each pair is compared with the width.

    Returns:
        (width, height) of the canvas, px.
    """
    width, height = size

    def merit(canvas: Sequence[int]) -> tuple[int, int]:
        scale = min(canvas[0] / width, canvas[1] / height)
        kept = min(int(width * scale) * int(height * scale), width * height)
        return kept, kept - canvas[0] * canvas[1]

    best = max(grid, key=merit)
    return int(best[0]), int(best[1])


def image_fit(
    image: np.ndarray,
    how: str = "letterbox",
    size: int = 336,
    grid: Sequence[Sequence[int]] = GRID,
    fill: Sequence[int] = CLIP_MEAN_COLOR,
    warn: bool = True,
) -> np.ndarray:
    """An image (H, W, 3) as tiles (n, size, size, 3), uint8; one tile for all but ``anyres``.

    Args:
        image: uint8 RGB.
        how: :func:`letterbox`, :func:`stretch`, :func:`gem` or :func:`anyres`.
        size: Side of a tile, px.
        grid: Canvases of ``anyres``, px.
        fill: Colour of the sides that ``letterbox`` adds.
        warn: Log once what ``gem`` cuts off; False where the weights were trained so.

    Raises:
        RenderError: ``how`` is something else, or the image is not uint8 RGB.
    """
    ways: dict[str, Callable[[], np.ndarray]] = {
        "letterbox": lambda: letterbox(image, size, fill)[None],
        "stretch": lambda: stretch(image, size)[None],
        "gem": lambda: gem(image, size)[None],
        "anyres": lambda: anyres(image, size, grid),
    }
    if how not in ways:
        raise RenderError(f"expected image_fit out of {', '.join(ways)}, got {how!r}")
    tiles = ways[how]()
    # 5 %: the distortion that readers of a chart notice
    if warn and how == "gem" and max(image.shape[:2]) > 1.05 * min(image.shape[:2]):
        _warn_of_crop()
    return tiles


def _checked(image: np.ndarray) -> np.ndarray:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or min(image.shape) == 0:
        raise RenderError(f"expected a uint8 RGB image (H, W, 3), got {image.dtype} {image.shape}")
    return image


def _resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    if image.shape[:2] == (height, width):
        return image
    from PIL import Image

    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))


@functools.cache
def _warn_of_crop() -> None:
    from gem_lightning.render.draw import RenderWarning

    warnings.warn(
        "image_fit 'gem' keeps the middle square only: a letter page loses about 32 mm on each side, lead names and "
        "calibration pulses included; use letterbox unless the weights were trained so",
        RenderWarning,
        stacklevel=3,
    )
