"""What the digitiser's network sees and says, and its forward pass from stored weights."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any

import cv2
import numpy as np

from gem_lightning.errors import explain_import

#: Maps that the network draws: a trace's sample in each column; calibration pulses; all other print.
TRACE, PULSE, PRINT = 0, 1, 2
MAPS = 3
_BACKGROUND_PX = 61  # 10 mm: wider than a QRS complex, narrower than a shadow
_TILE, _OVERLAP = 448, 32  # px; the overlap holds the network's field of view
WEIGHTS = "trace.safetensors"


def network_input(page: np.ndarray) -> np.ndarray:
    """Return a page relative to its local background, so that light, shadow and paper colour do not matter.

    Args:
        page: uint8 (H, W, 3).

    Returns:
        float32 (3, H, W).
    """
    return np.ascontiguousarray(((against_paper(page) - 1) * 4).transpose(2, 0, 1))


def against_paper(page: np.ndarray) -> np.ndarray:
    """Return float32 (H, W, 3): each colour of a page over that of the paper around it, 1 on blank paper."""
    value = page.astype(np.float32)
    return value / (cv2.blur(value, (_BACKGROUND_PX, _BACKGROUND_PX), borderType=cv2.BORDER_REFLECT) + 8)


def draw_maps(page: np.ndarray, where: np.ndarray, weights: dict[str, Any] | None = None) -> np.ndarray:
    """Run the network over a flat page, tile by tile.

    Args:
        page: uint8 (H, W, 3).
        where: bool (H, W): tiles without any of it are skipped.
        weights: As :func:`load_weights` gives them; None takes the packaged ones.

    Returns:
        float32 (MAPS, H, W) in [0, 1].

    Raises:
        LightInstallError: torch is not installed.
    """
    try:
        import torch
    except ImportError as error:
        raise explain_import(error) from error

    weights = load_weights() if weights is None else weights
    height, width = page.shape[:2]
    image = network_input(page)
    image = np.pad(image, ((0, 0), (0, max(0, _TILE - height)), (0, max(0, _TILE - width))), mode="edge")
    found = np.zeros((MAPS, *image.shape[1:]), np.float32)
    step = _TILE - 2 * _OVERLAP
    with torch.inference_mode():
        for y in _starts(image.shape[1], step):
            for x in _starts(image.shape[2], step):
                if not where[y : y + _TILE, x : x + _TILE].any():
                    continue
                tile = torch.from_numpy(image[None, :, y : y + _TILE, x : x + _TILE].copy())
                maps = torch.sigmoid(forward(weights, tile))[0].numpy()
                top, left = (_OVERLAP if y else 0), (_OVERLAP if x else 0)
                found[:, y + top : y + _TILE, x + left : x + _TILE] = maps[:, top:, left:]
    return found[:, :height, :width]


def _starts(length: int, step: int) -> list[int]:
    last = length - _TILE
    return sorted({*range(0, max(1, last), step), last})


def forward(weights: dict[str, Any], x: Any) -> Any:
    """Return the network's logits (N, MAPS, H, W) for images (N, 3, H, W); H and W are multiples of 16.

    The convolutions of ``models.trace_net.TraceNet`` with its normalisation folded into them: ``down.i.j``, ``up.i``
    and ``out``.
    """
    import torch
    from torch.nn import functional

    def conv(value: Any, name: str) -> Any:
        return functional.conv2d(value, weights[f"{name}.weight"], weights[f"{name}.bias"], padding="same")

    depth = 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("down."))
    kept = []
    for i in range(depth):
        x = x if i == 0 else functional.max_pool2d(x, 2)
        for j in (0, 1):
            x = functional.relu(conv(x, f"down.{i}.{j}"))
        kept.append(x)
    for i, skip in enumerate(kept[-2::-1]):
        x = functional.interpolate(x, scale_factor=2, mode="nearest")
        x = functional.relu(conv(torch.cat([x, skip], 1), f"up.{i}"))
    return conv(x, "out")


@cache
def load_weights() -> dict[str, Any]:
    """Read the packaged weights."""
    return read_weights(resources.files("gem_lightning.digitizer").joinpath(WEIGHTS).read_bytes())


def read_weights(data: bytes) -> dict[str, Any]:
    """Return the weights of a file that ``experiment=digitizer`` wrote."""
    from safetensors.torch import load

    return {name: value.float() for name, value in load(data).items()}
