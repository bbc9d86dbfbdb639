"""Pictures to the tiles that an image tower reads, pixel for pixel as the published models were trained."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from gem_lightning.errors import DataError
from gem_lightning.render.fit import image_fit

# LLaVA's names, as configs and checkpoints hold them → ours
MODES = {"pad": "letterbox", "stretch": "stretch", "ori": "gem", "anyres": "anyres"}
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
            and cuts the ends of the long one off (only for weights that were trained so); ``anyres`` gives an overview
            and tiles of the picture at a higher resolution (LLaVA-1.6).
        size: Side of a tile, pixels.
        pinpoints: Canvases of anyres, pixels.
        mean: Mean colour of the tower's pictures, 0 to 1; ``pad`` fills with it.

    Returns:
        uint8 (tiles, 3, size, size).

    Raises:
        DataError: The mode is unknown, or anyres lacks its canvases.
    """
    if mode not in MODES:
        raise DataError(f"expected an image mode of {', '.join(MODES)}, got {mode!r}")
    if mode == "anyres" and not pinpoints:
        raise DataError("expected image_grid_pinpoints for anyres, got none; set them in the processor")
    fill = [int(value * 255) for value in mean]
    tiles = image_fit(np.asarray(to_image(picture)), MODES[mode], size, pinpoints or (), fill, warn=False)
    return tiles.transpose(0, 3, 1, 2)


def normalise(tiles: np.ndarray, mean: Sequence[float] = CLIP_MEAN, std: Sequence[float] = CLIP_STD) -> np.ndarray:
    """uint8 (tiles, 3, h, w) to float32 of mean 0 and deviation 1 over the tower's training pictures."""
    shift, scale = (np.asarray(value, np.float32)[:, None, None] for value in (mean, std))
    return (tiles * np.float32(1 / 255) - shift) / scale
