"""Paper ECGs back to signals: a photo or scan in, a record with its trust out."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

# "a as a" exports a name to strict type checkers, which cannot read the __all__ of this file.
if TYPE_CHECKING:
    from gem_lightning.digitizer.page import DigitizedEcg as DigitizedEcg
    from gem_lightning.digitizer.page import PageMapping as PageMapping
    from gem_lightning.digitizer.page import digitize as digitize
    from gem_lightning.digitizer.rectify import rectify as rectify

_WHERE = {"DigitizedEcg": "page", "PageMapping": "page", "digitize": "page", "rectify": "rectify"}

__all__ = sorted(_WHERE)


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
