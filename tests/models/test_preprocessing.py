"""Pixels as the original makes them."""

import numpy as np
import pytest
from PIL import Image

from gem_lightning.errors import DataError
from gem_lightning.models.preprocessing import image_tiles, normalise

PINPOINTS = [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]]


@pytest.mark.parametrize("mode", ["ori", "pad", "anyres"])
@pytest.mark.parametrize("name", ["img0", "img1", "img2"])
def test_tiles_equal_golden(gem_tiny, name, mode):
    golden = np.load(gem_tiny / "images" / "tiles_u8.npz")
    if f"{name}.{mode}" not in golden:
        pytest.skip("not in golden")
    found = image_tiles(Image.open(gem_tiny / "images" / f"{name}.png"), mode, 336, PINPOINTS)
    assert np.array_equal(found.reshape(golden[f"{name}.{mode}"].shape), golden[f"{name}.{mode}"])


def test_normalised_statistics(gem_tiny):
    import json

    facts = json.loads((gem_tiny / "images" / "pixel_expected.json").read_text())
    values = normalise(image_tiles(Image.open(gem_tiny / "images" / "img0.png"), "anyres", 336, PINPOINTS))
    assert np.allclose(
        values.mean(axis=(2, 3), dtype=np.float64), facts["per_channel_mean"]["img0"]["anyres"], atol=1e-5
    )
    assert values.dtype == np.float32


def test_pad_and_stretch_keep_every_edge_and_ori_does_not():
    page = np.full((850, 1100, 3), 255, np.uint8)
    page[:, :40] = page[:, -40:] = 0  # a letter page with black margins left and right
    assert image_tiles(page, "ori").min() > 200
    for mode in ("pad", "stretch"):
        assert image_tiles(page, mode).min() < 50


def test_bad_pictures_are_refused():
    with pytest.raises(DataError, match="uint8"):
        image_tiles(np.zeros((10, 10, 3), np.float32))
    with pytest.raises(DataError, match="mode"):
        image_tiles(np.zeros((10, 10, 3), np.uint8), "nonsense")
