"""Calibrated 12-lead paper images of records, with camera artefacts on request."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

# "a as a" exports a name to strict type checkers, which cannot read the __all__ of this file.
if TYPE_CHECKING:
    from gem_lightning.render.draw import EcgRenderer as EcgRenderer
    from gem_lightning.render.draw import Page as Page
    from gem_lightning.render.draw import RenderWarning as RenderWarning
    from gem_lightning.render.fit import image_fit as image_fit
    from gem_lightning.render.folder import render_folder as render_folder
    from gem_lightning.render.geometry import Geometry as Geometry
    from gem_lightning.render.geometry import RenderedEcg as RenderedEcg
    from gem_lightning.render.geometry import Text as Text
    from gem_lightning.render.geometry import Trace as Trace
    from gem_lightning.render.kernels.warp import Warp as Warp
    from gem_lightning.render.load import load_ecg_image as load_ecg_image
    from gem_lightning.render.overlay import render_with_marks as render_with_marks
    from gem_lightning.render.plate import Style as Style

_WHERE = {
    "EcgRenderer": "draw",
    "Page": "draw",
    "RenderWarning": "draw",
    "Geometry": "geometry",
    "RenderedEcg": "geometry",
    "Text": "geometry",
    "Trace": "geometry",
    "Style": "plate",
    "Warp": "kernels.warp",
    "image_fit": "fit",
    "load_ecg_image": "load",
    "render_folder": "folder",
    "render_with_marks": "overlay",
}

__all__ = sorted(_WHERE)


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
