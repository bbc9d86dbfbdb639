"""Public names about text, where users know them; the code lives in claims, composition and samples."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gem_lightning.claims.claim import Claim
    from gem_lightning.claims.conflicts import conflicts
    from gem_lightning.claims.extract import extract
    from gem_lightning.claims.report import ClaimReport, Verdict
    from gem_lightning.claims.verify import verify
    from gem_lightning.composition.compose import Composition, compose, compose_with_claims
    from gem_lightning.composition.questions import QuestionAnswer, ask, compare, conversation
    from gem_lightning.samples.io import read_samples, write_samples
    from gem_lightning.samples.sample import InstructionSample

_HOME_OF = {
    "Claim": "claims.claim",
    "ClaimReport": "claims.report",
    "Composition": "composition.compose",
    "InstructionSample": "samples.sample",
    "QuestionAnswer": "composition.questions",
    "Verdict": "claims.report",
    "ask": "composition.questions",
    "compare": "composition.questions",
    "compose": "composition.compose",
    "compose_with_claims": "composition.compose",
    "conflicts": "claims.conflicts",
    "conversation": "composition.questions",
    "extract": "claims.extract",
    "read_samples": "samples.io",
    "verify": "claims.verify",
    "write_samples": "samples.io",
}
__all__ = sorted(_HOME_OF)


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        from gem_lightning.renamed import resolve

        return resolve(__name__, name)
    value = getattr(importlib.import_module(f"gem_lightning.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
