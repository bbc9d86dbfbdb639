"""Signals and images as the arrays that the towers read, as the published models were trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import PIL.Image

from gem_lightning.ecg.preprocess import clean, fit_length
from gem_lightning.ecg.record import EcgRecord
from gem_lightning.errors import DataError
from gem_lightning.models.fusion import count_image_tokens
from gem_lightning.render.fit import best_grid, image_fit

# LLaVA's names, as configs and checkpoints hold them → ours
MODES = {"pad": "letterbox", "stretch": "stretch", "ori": "gem", "anyres": "anyres"}
# of OpenAI's CLIP preprocessor
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)  # of CLIP's training images, as open_clip publishes them
Image = np.ndarray | PIL.Image.Image


@dataclass(frozen=True)
class ImageOptions:
    """How images become tiles, and tiles tokens.

    Attributes:
        image_size: Side of a tile, pixels.
        patch_size: Side of a patch, pixels.
        image_mode: ``pad``, ``stretch``, ``ori`` or ``anyres``, see :func:`image_tiles`.
        image_merge: ``flat``, ``spatial`` or ``spatial_unpad``, as in the model's config.
        image_grid_pinpoints: Canvases of anyres, pixels.
        image_max_tiles: N of LLaVA's ``anyres_max_N``, as in the model's config.
        image_mean: Mean colour, 0 to 1.
        image_std: Standard deviation of the colours.
        tile_tokens: Tokens of one tile; None means one per patch.
    """

    image_size: int = 336
    patch_size: int = 14
    image_mode: str = "pad"
    image_merge: str = "flat"
    image_grid_pinpoints: Sequence[Sequence[int]] | None = None
    image_max_tiles: int | None = None
    image_mean: Sequence[float] = CLIP_MEAN
    image_std: Sequence[float] = CLIP_STD
    tile_tokens: Any = None

    def __post_init__(self) -> None:
        pinpoints = self.image_grid_pinpoints
        plain = {  # lists, as JSON files hold them
            "image_grid_pinpoints": [list(pair) for pair in pinpoints] if pinpoints else None,
            "image_mean": list(self.image_mean),
            "image_std": list(self.image_std),
            "tile_tokens": self.tile_tokens or (self.image_size // self.patch_size) ** 2,
        }
        for name, value in plain.items():
            object.__setattr__(self, name, value)

    def count_tiles(self, size: tuple[int, int] | None) -> int:
        """Count the tiles of an image of ``size`` (width, height), pixels."""
        if self.image_mode != "anyres":
            return 1
        if size is None:
            raise DataError("expected image_sizes for anyres, got none; pass (width, height) per image")
        width, height = best_grid(size, self.image_grid_pinpoints or [])
        return 1 + (width // self.image_size) * (height // self.image_size)

    def count_tokens(self, size: tuple[int, int] | None, tiles: int = 1) -> int:
        """Count the tokens of an image of ``size`` (width, height) cut into ``tiles``."""
        if size is None and (self.image_mode == "anyres" or tiles > 1):
            raise DataError("expected the sizes of the images for anyres, got none; pass images or image_sizes")
        return count_image_tokens(
            tiles,
            size or (1, 1),
            merge=self.image_merge,
            side=self.image_size // self.patch_size,
            tile_tokens=self.tile_tokens,
            tile_size=self.image_size,
            pinpoints=self.image_grid_pinpoints,
            max_tiles=self.image_max_tiles,
        )


@dataclass(frozen=True)
class EcgOptions:
    """How records become arrays, and arrays tokens.

    Attributes:
        ecg_samples: Samples per lead that the ECG tower reads.
        ecg_patch_size: Samples per ECG token.
        sampling_rate: Rate that the ECG tower was trained at, Hz.
        contract: ``clean`` orders leads by name and resamples; ``gem`` takes rows and rate as they are, as the
            published weights were trained.
        ecg_token_count: Tokens of one record, where they are not one per patch and a class token.

    Raises:
        DataError: The contract is neither of the two.
    """

    ecg_samples: int = 5000
    ecg_patch_size: int = 50
    sampling_rate: float = 500.0
    contract: str = "clean"
    ecg_token_count: int | None = None

    def __post_init__(self) -> None:
        if self.contract not in ("clean", "gem"):
            raise DataError(f"expected the contract clean or gem, got {self.contract!r}")


def to_image(image: Image) -> PIL.Image.Image:
    """Convert an image to RGB.

    Raises:
        DataError: An array that is not uint8 (H, W, 3) or (H, W).
    """
    if isinstance(image, PIL.Image.Image):
        return image.convert("RGB")
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.shape[2:] not in ((), (3,)):
        what = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise DataError(f"expected images as uint8 arrays (H, W, 3) or PIL images, got {what}; convert them first")
    return PIL.Image.fromarray(image).convert("RGB")


def image_tiles(
    image: Image,
    mode: str = "pad",
    size: int = 336,
    pinpoints: Sequence[Sequence[int]] | None = None,
    mean: Sequence[float] = CLIP_MEAN,
) -> np.ndarray:
    """Cut one image into tiles, with bicubic resampling.

    Args:
        image: uint8 (H, W, 3) or a PIL image.
        mode: ``pad`` makes it square first; ``stretch`` resizes both sides to ``size``; ``ori`` resizes the short side
            and cuts the ends of the long one off (only for weights trained like this); ``anyres`` gives an overview and
            tiles of the image at a higher resolution (LLaVA-1.6).
        size: Side of a tile, pixels.
        pinpoints: Canvases of anyres, pixels.
        mean: Mean colour of the tower's images, 0 to 1; ``pad`` fills with it.

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
    tiles = image_fit(np.asarray(to_image(image)), MODES[mode], size, pinpoints or (), fill, warn=False)
    return tiles.transpose(0, 3, 1, 2)


def normalise(tiles: np.ndarray, mean: Sequence[float] = CLIP_MEAN, std: Sequence[float] = CLIP_STD) -> np.ndarray:
    """Convert uint8 (tiles, 3, h, w) to float32 of mean 0 and deviation 1 over the tower's training images."""
    shift, scale = (np.asarray(value, np.float32)[:, None, None] for value in (mean, std))
    return (tiles * np.float32(1 / 255) - shift) / scale


def signal_values(ecg: Any, samples: int = 5000, sampling_rate: float = 500.0, contract: str = "clean") -> np.ndarray:
    """Return a signal of fixed length, without NaN.

    Args:
        ecg: An :class:`EcgRecord`, or an array (leads, T) in standard lead order at ``sampling_rate``, mV.
        samples: Samples per lead of the result; shorter signals end in zeros, longer ones are cut.
        sampling_rate: Of the result, Hz.
        contract: ``clean`` orders a record's leads by name and resamples it; ``gem`` takes rows and rate as they are.

    Returns:
        float32 (leads, samples), mV.

    Raises:
        DataError: Not a signal of leads and samples.
    """
    if isinstance(ecg, EcgRecord):
        signal = (clean(ecg, sampling_rate) if contract == "clean" else ecg).signal
    else:
        signal = np.asarray(ecg, dtype=np.float32)
    if signal.ndim != 2 or 0 in signal.shape:
        raise DataError(f"expected an ECG of shape (leads, samples), got {signal.shape}; pass one record at a time")
    return fit_length(signal, samples)
