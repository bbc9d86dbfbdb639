"""Signals: files to :class:`EcgRecord`, their quality, and simulated records with known truth."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

# Not lazy: a module and its function share a name, and the function has to be bound last.
from gem_lightning.ecg.quality import Quality, quality
from gem_lightning.ecg.record import LEADS, EcgRecord
from gem_lightning.ecg.simulation.simulate import DIAGNOSES, SimulatedEcg, simulate, simulate_cohort
from gem_lightning.errors import EcgReadError

# "a as a" exports a name to strict type checkers, which cannot read the __all__ of this file.
if TYPE_CHECKING:
    from gem_lightning.ecg.readers import FORMATS as FORMATS
    from gem_lightning.ecg.readers import read_ecg as read_ecg
    from gem_lightning.ecg.writers import write_ecg as write_ecg
    from gem_lightning.ecg.writers import write_wfdb as write_wfdb

_LAZY = {"read_ecg": "readers", "FORMATS": "readers", "write_ecg": "writers", "write_wfdb": "writers"}

__all__ = [
    "DIAGNOSES",
    "LEADS",
    "EcgReadError",
    "EcgRecord",
    "Quality",
    "SimulatedEcg",
    "quality",
    "simulate",
    "simulate_cohort",
    *_LAZY,
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
