"""12-lead ECG interpretation with text tied to measured evidence. Research software, not a medical device.

Public names are imported on first use, so that ``import gem_lightning`` takes milliseconds and has no side effects.
``import gem_lightning.models`` registers the model family with transformers' Auto classes.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

_HOMES = {
    "gem_lightning.ecg": ("LEADS", "EcgReadError", "EcgRecord", "quality", "read_ecg", "simulate", "write_wfdb"),
    "gem_lightning.features": ("Delineation", "EcgFeatures", "Finding", "delineate", "findings", "measure"),
    "gem_lightning.render": ("EcgRenderer", "RenderedEcg"),
    "gem_lightning.digitizer": ("DigitizedEcg", "digitize"),
    "gem_lightning.grounding": ("ClaimReport", "InstructionSample", "compose", "extract", "verify"),
    "gem_lightning.models": ("EcgTransformer", "Gem", "GemForConditionalGeneration", "GemProcessor", "Interpretation"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
__all__ = ["__version__", *_HOME_OF]

if TYPE_CHECKING:
    from gem_lightning.claims.extract import extract
    from gem_lightning.claims.report import ClaimReport
    from gem_lightning.claims.verify import verify
    from gem_lightning.composition.compose import compose
    from gem_lightning.digitizer import DigitizedEcg, digitize
    from gem_lightning.ecg import LEADS, EcgReadError, EcgRecord, quality, read_ecg, simulate, write_wfdb
    from gem_lightning.features import Delineation, EcgFeatures, Finding, delineate, findings, measure
    from gem_lightning.models import EcgTransformer, Gem, GemForConditionalGeneration, GemProcessor, Interpretation
    from gem_lightning.render import EcgRenderer, RenderedEcg
    from gem_lightning.samples.sample import InstructionSample


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'gem_lightning' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
