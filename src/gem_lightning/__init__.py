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

# "a as a" exports a name to strict type checkers, which cannot read the __all__ of this file.
if TYPE_CHECKING:
    from gem_lightning.claims.extract import extract as extract
    from gem_lightning.claims.report import ClaimReport as ClaimReport
    from gem_lightning.claims.verify import verify as verify
    from gem_lightning.composition.compose import compose as compose
    from gem_lightning.digitizer import DigitizedEcg as DigitizedEcg
    from gem_lightning.digitizer import digitize as digitize
    from gem_lightning.ecg import LEADS as LEADS
    from gem_lightning.ecg import EcgReadError as EcgReadError
    from gem_lightning.ecg import EcgRecord as EcgRecord
    from gem_lightning.ecg import quality as quality
    from gem_lightning.ecg import read_ecg as read_ecg
    from gem_lightning.ecg import simulate as simulate
    from gem_lightning.ecg import write_wfdb as write_wfdb
    from gem_lightning.features import Delineation as Delineation
    from gem_lightning.features import EcgFeatures as EcgFeatures
    from gem_lightning.features import Finding as Finding
    from gem_lightning.features import delineate as delineate
    from gem_lightning.features import findings as findings
    from gem_lightning.features import measure as measure
    from gem_lightning.models import EcgTransformer as EcgTransformer
    from gem_lightning.models import Gem as Gem
    from gem_lightning.models import GemForConditionalGeneration as GemForConditionalGeneration
    from gem_lightning.models import GemProcessor as GemProcessor
    from gem_lightning.models import Interpretation as Interpretation
    from gem_lightning.render import EcgRenderer as EcgRenderer
    from gem_lightning.render import RenderedEcg as RenderedEcg
    from gem_lightning.samples.sample import InstructionSample as InstructionSample


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'gem_lightning' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
