"""Pictures as the image tower's squares: equal to the original implementation's tiles."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from gem_lightning.errors import RenderError
from gem_lightning.render import EcgRenderer, RenderWarning, image_fit, load_ecg_image
from gem_lightning.render.fit import _warn_of_crop, anyres, letterbox


@pytest.fixture(scope="module")
def images(golden):
    folder = golden / "gem_tiny" / "images"
    if not folder.is_dir():
        pytest.skip(f"golden tiles are not here: {folder}")
    return folder, np.load(folder / "tiles_u8.npz")


@pytest.mark.parametrize("name", ["img0", "img1", "img2"])
@pytest.mark.parametrize(("how", "original"), [("gem", "ori"), ("letterbox", "pad"), ("anyres", "anyres")])
def test_tiles_of_the_original(images, name, how, original):
    folder, tiles = images
    if f"{name}.{original}" not in tiles:
        pytest.skip("not recorded")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RenderWarning)
        ours = image_fit(load_ecg_image(folder / f"{name}.png"), how)
    theirs = tiles[f"{name}.{original}"].reshape(-1, 3, 336, 336).transpose(0, 2, 3, 1)
    assert np.array_equal(ours, theirs)


def test_gem_warns_once_of_the_crop(record):
    page = EcgRenderer(size=(336, 435))(record)
    _warn_of_crop.cache_clear()
    with pytest.warns(RenderWarning, match="32 mm"):
        square = image_fit(page.image, "gem")[0]
    assert np.array_equal(square, page.image[:, 49 : 49 + 336])
    assert (435 - 336) / 2 / page.geometry.px_per_mm == pytest.approx(32, abs=0.3)


def test_letterbox_keeps_every_label(record):
    page = EcgRenderer(size=(336, 435))(record)
    square = letterbox(page.image)
    assert square.shape == (336, 336, 3)
    assert np.all(square[0] == (122, 116, 104))
    whole = EcgRenderer(size=(336, 336))(record).image
    assert letterbox(whole) is whole


def test_anyres_shapes_and_refusals(record):
    page = EcgRenderer(size=(336, 435))(record).image
    assert anyres(page).shape == (3, 336, 336, 3)  # 672 x 336 holds it and wastes least
    with pytest.raises(RenderError, match="letterbox"):
        image_fit(page, "crop")
    with pytest.raises(RenderError, match="uint8"):
        image_fit(page.astype(float))
