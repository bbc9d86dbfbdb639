"""Public names about text, where users know them; the code lives in claims, composition and samples."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

# "a as a" exports a name to strict type checkers, which cannot read the __all__ of this file.
if TYPE_CHECKING:
    from gem_lightning.claims.claim import Claim as Claim
    from gem_lightning.claims.conflicts import conflicts as conflicts
    from gem_lightning.claims.extract import extract as extract
    from gem_lightning.claims.report import ClaimReport as ClaimReport
    from gem_lightning.claims.report import Verdict as Verdict
    from gem_lightning.claims.verify import verify as verify
    from gem_lightning.composition.compose import Composition as Composition
    from gem_lightning.composition.compose import compose as compose
    from gem_lightning.composition.compose import compose_with_claims as compose_with_claims
    from gem_lightning.composition.questions import QuestionAnswer as QuestionAnswer
    from gem_lightning.composition.questions import ask as ask
    from gem_lightning.composition.questions import compare as compare
    from gem_lightning.composition.questions import conversation as conversation
    from gem_lightning.samples.io import read_samples as read_samples
    from gem_lightning.samples.io import write_samples as write_samples
    from gem_lightning.samples.sample import InstructionSample as InstructionSample

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
