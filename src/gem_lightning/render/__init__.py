"""Calibrated 12-lead paper images of records, with camera artefacts on request."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gem_lightning.render.draw import EcgRenderer, Page, RenderWarning
    from gem_lightning.render.fit import image_fit
    from gem_lightning.render.folder import render_folder
    from gem_lightning.render.geometry import Geometry, RenderedEcg, Text, Trace
    from gem_lightning.render.kernels.warp import Warp
    from gem_lightning.render.load import load_ecg_image
    from gem_lightning.render.overlay import render_with_marks
    from gem_lightning.render.plate import Style

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
