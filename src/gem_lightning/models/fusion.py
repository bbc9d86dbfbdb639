"""Where tower features go: tiles merged into one sequence per image, features scattered onto placeholders."""

from __future__ import annotations

import hashlib
import math
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn

from gem_lightning.errors import DataError
from gem_lightning.render.fit import best_grid

_OUTPUTS: ContextVar[OrderedDict[Any, Tensor] | None] = ContextVar("tower outputs", default=None)
_SLACK = 1.1  # of LLaVA-NeXT: a side may be 10 % longer than the bound before the grid is scaled down
_KEPT = 64  # items; 350 MB at the published size, where an image has 576 tokens of 4,096 values in bf16


def build_projector(kind: str, width_in: int, width_out: int) -> nn.Module:
    """Build a projector by its published name.

    Args:
        kind: ``linear``, or ``mlpNx_gelu`` for N linear layers with exact GELU between them.
        width_in: Width of the tokens that come in.
        width_out: Width of the tokens that go out.

    Returns:
        (..., width_in) -> (..., width_out). An ``mlpNx_gelu`` is an ``nn.Sequential`` whose parameters are named
        ``0.weight``, ``2.weight`` and so on, as in the published files.

    Raises:
        DataError: The name is unknown.
    """
    if kind == "linear":
        return nn.Linear(width_in, width_out)
    depth = re.fullmatch(r"mlp(\d+)x_gelu", kind)
    if not depth or int(depth[1]) < 1:
        raise DataError(f"expected a projector such as linear or mlp2x_gelu, got {kind!r}")
    layers: list[nn.Module] = [nn.Linear(width_in, width_out)]
    for _ in range(int(depth[1]) - 1):
        layers += [nn.GELU(), nn.Linear(width_out, width_out)]
    return nn.Sequential(*layers)


def kept_window(size: tuple[int, int], grid: tuple[int, int]) -> tuple[slice, slice]:
    """Return rows and columns of a feature grid that show the image and not its padding.

    Args:
        size: (width, height) of the image, pixels.
        grid: (columns, rows) of the feature grid.

    Returns:
        Slices (rows, columns); the margin is cut evenly, rounded down.
    """
    (width, height), (columns, rows) = size, grid
    if width / height > columns / rows:
        margin = (rows - int(height * (columns / width))) // 2
        return slice(margin, rows - margin), slice(0, columns)
    margin = (columns - int(width * (rows / height))) // 2
    return slice(0, rows), slice(margin, columns - margin)


def bounded_grid(rows: int, columns: int, side: int, max_tiles: int | None) -> tuple[int, int]:
    """Rows and columns of a feature grid that holds about ``max_tiles`` tiles of ``side`` x ``side`` tokens at most.

    Source: LLaVA-NeXT's ``anyres_max_N``.
    """
    shrink = math.sqrt(rows * columns / (max_tiles * side**2)) if max_tiles else 1.0
    return (rows, columns) if shrink <= _SLACK else (int(rows // shrink), int(columns // shrink))


def count_image_tokens(
    tiles: int,
    size: tuple[int, int],
    *,
    merge: str,
    side: int,
    tile_tokens: int,
    tile_size: int,
    pinpoints: Sequence[Sequence[int]] | None,
    max_tiles: int | None = None,
) -> int:
    """Count the tokens that :func:`merge_tiles` makes of one image, without any features.

    Args:
        tiles: Number of tiles of the image.
        size: (width, height) of the image, pixels.
        merge: ``flat``, ``spatial`` or ``spatial_unpad``.
        side: Patches along one side of a tile.
        tile_tokens: Tokens of one tile.
        tile_size: Side of a tile, pixels.
        pinpoints: Canvases of anyres, pixels.
        max_tiles: Bound of ``spatial_unpad``, see :func:`bounded_grid`.
    """
    if merge != "spatial_unpad":
        return tiles * tile_tokens
    if tiles == 1:
        return tile_tokens + 1
    width, height = best_grid(size, _needed(pinpoints))
    grid = (width // tile_size * side, height // tile_size * side)
    rows, columns = kept_window(size, grid)
    down, across = bounded_grid(rows.stop - rows.start, columns.stop - columns.start, side, max_tiles)
    return tile_tokens + down * (across + 1)


def merge_tiles(
    features: Tensor,
    size: tuple[int, int] | None,
    *,
    merge: str,
    side: int,
    tile_size: int,
    pinpoints: Sequence[Sequence[int]] | None,
    newline: Tensor | None,
    max_tiles: int | None = None,
) -> Tensor:
    """Merge the tokens of one image's tiles into one sequence.

    ``flat`` concatenates the tiles. ``spatial`` keeps the overview first and reads the grid of the other tiles row by
    row across tiles; ``spatial_unpad`` also drops the rows or columns of padding, scales a grid of more than
    ``max_tiles`` down (bilinear) and ends each row with a newline token. Source: LLaVA-1.6 and LLaVA-NeXT.

    Args:
        features: (tiles, tile tokens, H), the overview tile first.
        size: (width, height) of the image, pixels; needed where there are several tiles and ``merge`` is not flat.
        merge: ``flat``, ``spatial`` or ``spatial_unpad``.
        side: Patches along one side of a tile.
        tile_size: Side of a tile, pixels.
        pinpoints: Canvases of anyres, pixels.
        newline: (H,) for ``spatial_unpad``.
        max_tiles: Bound of ``spatial_unpad``, see :func:`bounded_grid`.

    Returns:
        (tokens, H).

    Raises:
        DataError: The tiles do not fill the canvas that belongs to the image's size, or something needed is missing.
    """
    if merge == "flat":
        return features.flatten(0, 1)
    unpad = merge == "spatial_unpad"
    if unpad and newline is None:
        raise DataError("expected a newline embedding for spatial_unpad, got none; set image_newline=True")
    if features.shape[0] == 1:
        return features[0] if newline is None or not unpad else torch.cat([features[0], newline[None]])
    if size is None:
        raise DataError("expected image_sizes for images of several tiles, got None; pass (width, height) per image")
    width, height = best_grid(size, _needed(pinpoints))
    across, down = width // tile_size, height // tile_size
    if across * down != features.shape[0] - 1:
        raise DataError(
            f"expected {across} x {down} tiles and an overview for an image of {size[0]} x {size[1]} pixels, got "
            f"{features.shape[0]} tiles; give each image its own size"
        )
    grid = features[1:].unflatten(0, (down, across)).unflatten(2, (side, side))  # (down, across, side, side, H)
    grid = grid.transpose(1, 2).flatten(0, 1).flatten(1, 2)  # (down * side, across * side, H)
    if unpad and newline is not None:
        rows, columns = kept_window(size, (across * side, down * side))
        grid = grid[rows, columns]
        kept = bounded_grid(grid.shape[0], grid.shape[1], side, max_tiles)
        if kept != grid.shape[:2]:
            grid = nn.functional.interpolate(grid.permute(2, 0, 1)[None], kept, mode="bilinear")[0].permute(1, 2, 0)
        grid = torch.cat([grid, newline.expand(grid.shape[0], 1, -1)], dim=1)
    return torch.cat([features[0], grid.flatten(0, 1)])


def scatter_features(embeds: Tensor, mask: Tensor, features: Tensor, what: str) -> Tensor:
    """Put features where the placeholders are, in reading order.

    Args:
        embeds: (B, S, H).
        mask: (B, S) true at the placeholders.
        features: (N, H), N the number of placeholders.
        what: Name of the modality, for the error.

    Raises:
        DataError: The numbers of placeholders and features differ.
    """
    expected = int(mask.sum())
    if expected != features.shape[0]:
        raise DataError(
            f"expected as many {what} features as placeholders, got {features.shape[0]} features and {expected} "
            f"placeholders in input_ids; pass every {what} that the text refers to, and the text through GemProcessor"
        )
    return embeds.masked_scatter(mask[..., None], features.to(embeds.device, embeds.dtype))


@contextmanager
def keep_tower_outputs() -> Iterator[None]:
    """Within the block a tower runs once for each distinct ECG or image, however many questions refer to it.

    A block inside another one shares its outputs. Only for inference: the outputs carry no gradient's graph on.
    """
    if _OUTPUTS.get() is not None:
        yield
        return
    token = _OUTPUTS.set(OrderedDict())
    try:
        yield
    finally:
        _OUTPUTS.reset(token)


def tower_outputs(
    values: Sequence[Tensor], facts: Sequence[Any], compute: Callable[[list[int]], Sequence[Tensor]]
) -> list[Tensor]:
    """Return each item's tokens, from :func:`keep_tower_outputs` where it has been computed.

    Args:
        values: Input of the tower, one tensor per item.
        facts: What else an item's tokens depend on.
        compute: Indices of items → the tokens of each.
    """
    kept = None if torch.compiler.is_compiling() else _OUTPUTS.get()
    if kept is None:
        return list(compute(list(range(len(values)))))
    keys = [(_digest(value), fact) for value, fact in zip(values, facts, strict=True)]
    new: dict[Any, int] = {}
    for index, key in enumerate(keys):
        if key not in kept:
            new.setdefault(key, index)
    computed = dict(zip(new, compute(list(new.values())) if new else (), strict=True))
    found = [computed[key] if key in computed else kept[key] for key in keys]
    for key, value in computed.items():
        kept[key] = value
        if len(kept) > _KEPT:
            kept.popitem(last=False)
    return found


def _digest(value: Tensor) -> bytes:
    plain = value.detach().contiguous().cpu().view(torch.uint8).numpy()
    return hashlib.blake2b(plain.tobytes(), digest_size=16).digest() + str(tuple(value.shape)).encode()


def _needed(pinpoints: Sequence[Sequence[int]] | None) -> Sequence[Sequence[int]]:
    if not pinpoints:
        raise DataError("expected image_grid_pinpoints for images of several tiles, got none; set them in the config")
    return pinpoints
