"""Pictures to the tiles that an image tower reads, pixel for pixel as the published models were trained."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

from gem_lightning.errors import DataError
from gem_lightning.models.fusion import best_grid

MODES = ("pad", "stretch", "ori", "anyres")
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
Picture = np.ndarray | Image.Image


def to_image(picture: Picture) -> Image.Image:
    """A picture as RGB.

    Raises:
        DataError: An array that is not uint8 (H, W, 3) or (H, W).
    """
    if isinstance(picture, Image.Image):
        return picture.convert("RGB")
    if not isinstance(picture, np.ndarray) or picture.dtype != np.uint8 or picture.shape[2:] not in ((), (3,)):
        what = f"{picture.dtype} {picture.shape}" if isinstance(picture, np.ndarray) else type(picture).__name__
        raise DataError(f"expected pictures as uint8 arrays (H, W, 3) or PIL images, got {what}; convert them first")
    return Image.fromarray(picture).convert("RGB")


def image_tiles(
    picture: Picture,
    mode: str = "pad",
    size: int = 336,
    pinpoints: Sequence[Sequence[int]] | None = None,
    mean: Sequence[float] = CLIP_MEAN,
) -> np.ndarray:
    """Tiles of one picture, bicubic.

    Args:
        picture: uint8 (H, W, 3) or a PIL image.
        mode: ``pad`` makes it square first; ``stretch`` resizes both sides to ``size``; ``ori`` resizes the short side
            and cuts the ends of the long one off (a letter page loses 32 mm on each side: only for weights that were
            trained so); ``anyres`` gives an overview and tiles of the picture at a higher resolution (LLaVA-1.6).
        size: Side of a tile, pixels.
        pinpoints: Canvases of anyres, pixels.
        mean: Mean colour of the tower's pictures, 0 to 1; ``pad`` fills with it.

    Returns:
        uint8 (tiles, 3, size, size).

    Raises:
        DataError: The mode is unknown, or anyres lacks its canvases.
    """
    image = to_image(picture)
    if mode == "ori":
        tiles = [_short_side_then_crop(image, size)]
    elif mode == "pad":
        tiles = [_short_side_then_crop(_square(image, mean), size)]
    elif mode == "stretch":
        tiles = [image.resize((size, size), Image.Resampling.BICUBIC)]
    elif mode == "anyres":
        if not pinpoints:
            raise DataError("expected image_grid_pinpoints for anyres, got none; set them in the processor")
        tiles = [image.resize((size, size), Image.Resampling.BICUBIC), *_grid(image, size, pinpoints)]
    else:
        raise DataError(f"expected an image mode of {MODES}, got {mode!r}")
    return np.stack([np.asarray(tile) for tile in tiles]).transpose(0, 3, 1, 2)


def normalise(tiles: np.ndarray, mean: Sequence[float] = CLIP_MEAN, std: Sequence[float] = CLIP_STD) -> np.ndarray:
    """uint8 (tiles, 3, h, w) to float32 of mean 0 and deviation 1 over the tower's training pictures."""
    shift, scale = (np.asarray(value, np.float32)[:, None, None] for value in (mean, std))
    return (tiles * np.float32(1 / 255) - shift) / scale


def _short_side_then_crop(image: Image.Image, size: int) -> Image.Image:
    width, height = image.size
    if width <= height:
        width, height = size, int(size * height / width)
    else:
        width, height = int(size * width / height), size
    image = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - size) // 2, (height - size) // 2
    return image.crop((left, top, left + size, top + size))


def _square(image: Image.Image, mean: Sequence[float]) -> Image.Image:
    width, height = image.size
    side = max(width, height)
    if width == height:
        return image
    canvas = Image.new("RGB", (side, side), tuple(int(value * 255) for value in mean))
    canvas.paste(image, ((side - width) // 2, (side - height) // 2))
    return canvas


def _grid(image: Image.Image, size: int, pinpoints: Sequence[Sequence[int]]) -> list[Image.Image]:
    """Tiles of the picture on the best canvas, black around it, row by row."""
    (width, height), (wide, high) = image.size, best_grid(image.size, pinpoints)
    if wide / width < high / height:
        new = wide, min(math.ceil(height * (wide / width)), high)
    else:
        new = min(math.ceil(width * (high / height)), wide), high
    canvas = Image.new("RGB", (wide, high))
    canvas.paste(image.resize(new, Image.Resampling.BICUBIC), ((wide - new[0]) // 2, (high - new[1]) // 2))
    corners = [(left, top) for top in range(0, high, size) for left in range(0, wide, size)]
    return [canvas.crop((left, top, left + size, top + size)) for left, top in corners]
