"""The period of a grid whose fine lines a blur has taken, under blotches of light."""

import cv2
import numpy as np
import pytest

from gem_lightning.digitizer.lattice import grid_contrast, observe_grid


@pytest.mark.parametrize("period", [18.0, 26.0, 34.0])
def test_heavy_lines_alone_give_the_period(period):
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:900, 0:1200].astype(np.float64)
    lines = np.minimum(np.abs(x % period - period / 2), np.abs(y % period - period / 2))
    page = 225 - 40 * np.exp(-(lines**2) / 2)
    blotches = cv2.GaussianBlur(rng.normal(size=page.shape), (0, 0), 25)
    page *= 1 + 0.15 * blotches / blotches.std()
    page = cv2.GaussianBlur(page, (0, 0), 2) + rng.normal(0, 6, page.shape)
    image = np.repeat(np.clip(page, 0, 255).astype(np.uint8)[..., None], 3, 2)
    found = observe_grid(grid_contrast(image))
    step = np.linalg.norm(found.gradient, axis=1)  # mm per px
    assert found.period == pytest.approx(period, rel=0.05)  # of the page; its tiles know better
    assert np.median(5 / step) == pytest.approx(period, rel=0.01)
