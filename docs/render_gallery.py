"""Draws the pictures of the render page: every layout, style and preset, from a simulated record.

python docs/render_gallery.py OUT_FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from gem_lightning.ecg import simulate
from gem_lightning.features import delineate
from gem_lightning.render import EcgRenderer, render_with_marks
from gem_lightning.render.artifacts import presets
from gem_lightning.render.layout import catalogue
from gem_lightning.render.plate import styles

SIZE = (510, 660)


def sheet(pictures: list[np.ndarray], columns: int) -> np.ndarray:
    """Pictures of one size side by side, in rows of ``columns``, 8 px apart."""
    height, width = pictures[0].shape[:2]
    rows = -(-len(pictures) // columns)
    canvas = np.full((rows * (height + 8) - 8, columns * (width + 8) - 8, 3), 255, np.uint8)
    for k, picture in enumerate(pictures):
        y, x = k // columns * (height + 8), k % columns * (width + 8)
        canvas[y : y + height, x : x + width] = picture
    return canvas


def main(target: Path) -> None:
    """Write every sheet into ``target``."""
    from PIL import Image

    target.mkdir(parents=True, exist_ok=True)
    record = simulate("sinus", seed=4).record
    pages = {
        "layouts": sheet([EcgRenderer(name, size=SIZE)(record).image for name in catalogue()["layouts"]], 3),
        "styles": sheet([EcgRenderer(size=SIZE, style=name)(record).image for name in styles()], 3),
        "sizes": EcgRenderer(size=(336, 435))(record).image,
        "marks": render_with_marks(record, delineate(record), EcgRenderer(size=(850, 1100))).image,
    }
    for name in presets():
        renderer = EcgRenderer(size=SIZE, artifacts=name)
        pages[name] = sheet([renderer(record, seed).image for seed in range(1 if name == "clean" else 6)], 3)
    for name, image in pages.items():
        Image.fromarray(image).save(target / f"render_{name}.jpg", quality=85)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "site/images"))
