"""Signal and wave marks of a record as plain values, from which the page's scripts draw."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import numpy as np

from gem_lightning.features.delineate import delineate
from gem_lightning.features.schema import MARKS

if TYPE_CHECKING:
    from gem_lightning.ecg.record import EcgRecord
    from gem_lightning.features.schema import Delineation
    from gem_lightning.reporting.interpretation import Interpretation

SHOWN_SECONDS = 60.0  # of a longer recording; ten minutes would make a page of 10 MB
_MICROVOLTS = 1000.0  # a page stores µV as int16: ±32 mV, finer than any recorder
_UNKNOWN = -32768


def trace_data(interpretation: Interpretation) -> dict[str, Any]:
    """Collect the signal and its wave marks; a refused recording has no marks.

    Returns:
        ``fs`` Hz; ``seconds``; ``leads``; ``signal``: base64 of int16 (leads, samples) µV, little-endian, -32768 where
        unknown; ``marks``: per name of :data:`MARKS`, per lead, per beat the sample or None.
    """
    record = interpretation.record
    marks = None if interpretation.refused else delineate(record)
    return {
        "fs": record.fs,
        "seconds": record.seconds,
        "leads": list(record.leads),
        "signal": _packed_signal(record),
        "marks": {} if marks is None else _marks(marks),
    }


def _packed_signal(record: EcgRecord) -> str:
    """Pack the first minute as base64 of int16 µV, row by row."""
    signal = record.signal[:, : int(SHOWN_SECONDS * record.fs)]
    scaled = np.clip(np.nan_to_num(signal) * _MICROVOLTS, _UNKNOWN + 1, -_UNKNOWN - 1)
    packed = np.where(np.isfinite(signal), np.round(scaled), _UNKNOWN).astype("<i2")
    return base64.b64encode(packed.tobytes()).decode()


def _marks(found: Delineation) -> dict[str, list[list[int | None]]]:
    return {
        name: [[round(float(v)) if np.isfinite(v) else None for v in row] for row in found.marks[name]]
        for name in MARKS
    }
