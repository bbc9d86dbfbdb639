"""Words: texts about an ECG, composed from its measurements, and every claim in a text checked against them."""

from __future__ import annotations

import importlib
from typing import Any

# Bound eagerly: a lazily imported submodule of the same name would hide the function. Both modules import in < 5 ms.
from gem_lightning.grounding.compose import Composition, compose, compose_with_claims

_HOMES = {
    "Claim": "claims",
    "ClaimReport": "claims",
    "Verdict": "claims",
    "conflicts": "claims",
    "extract": "claims",
    "verify": "claims",
    "QuestionAnswer": "questions",
    "ask": "questions",
    "compare": "questions",
    "conversation": "questions",
    "InstructionSample": "sample",
    "read_samples": "sample",
    "write_samples": "sample",
}

__all__ = ["Composition", "compose", "compose_with_claims", *_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
