"""Tokens of images in many tiles, against transformers' own LLaVA-OneVision."""

from types import SimpleNamespace

import numpy as np
import torch
from transformers.models.llava_onevision.modeling_llava_onevision import LlavaOnevisionModel

from gem_lightning.models.fusion import count_image_tokens, merge_tiles
from gem_lightning.render.fit import best_grid

TILE, SIDE = 56, 4
GRIDS = [[TILE * across, TILE * down] for across in range(1, 7) for down in range(1, 7)]


def test_bounded_tokens_equal_onevision_s():
    torch.manual_seed(0)
    vision = SimpleNamespace(image_size=TILE, patch_size=TILE // SIDE)
    theirs = SimpleNamespace(config=SimpleNamespace(vision_config=vision))
    theirs.config.image_grid_pinpoints = [grid[::-1] for grid in GRIDS]  # (height, width)
    newline, scaled = torch.randn(8), 0
    for size in np.random.default_rng(0).integers(20, 700, (60, 2)).tolist():
        width, height = best_grid(size, GRIDS)
        tiles = 1 + (width // TILE) * (height // TILE)
        features = torch.randn(tiles, SIDE**2, 8)
        sizes = {"merge": "spatial_unpad", "side": SIDE, "tile_size": TILE, "pinpoints": GRIDS, "max_tiles": 9}
        found = merge_tiles(features, size, newline=newline, **sizes)
        arguments = ([features], torch.tensor([size[::-1]]), newline, "anyres_max_9")
        wanted = LlavaOnevisionModel.pack_image_features(theirs, *arguments)[0][0]
        assert torch.allclose(found, wanted, atol=1e-6)
        assert count_image_tokens(tiles, size, tile_tokens=SIDE**2, **sizes) == len(found)
        scaled += tiles > 10
    assert 20 < scaled < 60  # both sides of the bound were seen
