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

SHOWN_SECONDS = 60.0  # of a longer recording at a time; ten minutes would make a page of 10 MB
_MICROVOLTS = 1000.0  # a page stores µV as int16: ±32 mV, finer than any recorder
_UNKNOWN = -32768


def trace_data(record: EcgRecord, start: float = 0.0, marked: bool = True) -> dict[str, Any]:
    """Collect a section of the signal and its wave marks.

    Args:
        record: The recording.
        start: Of the section, s; it is up to :data:`SHOWN_SECONDS` long.
        marked: Whether waves are marked; not those of a refused recording.

    Returns:
        ``fs`` Hz; ``start`` and ``total`` (of the recording), s; ``leads``; ``signal``: base64 of int16 (leads,
        samples) µV, little-endian, -32768 where unknown; ``marks``: per name of :data:`MARKS`, per lead, per beat of
        the section the sample of the recording or None; ``first``: index of the section's first beat.
    """
    begin = round(min(max(start, 0.0), record.seconds) * record.fs)
    end = begin + round(SHOWN_SECONDS * record.fs)
    marks, first = _marks(delineate(record), begin, end) if marked else ({}, 0)
    return {
        "fs": record.fs,
        "start": begin / record.fs,
        "total": record.seconds,
        "leads": list(record.leads),
        "signal": _packed_signal(record.signal[:, begin:end]),
        "marks": marks,
        "first": first,
    }


def _packed_signal(signal: np.ndarray) -> str:
    """Pack (leads, samples) mV as base64 of int16 µV, row by row."""
    scaled = np.clip(np.nan_to_num(signal) * _MICROVOLTS, _UNKNOWN + 1, -_UNKNOWN - 1)
    packed = np.where(np.isfinite(signal), np.round(scaled), _UNKNOWN).astype("<i2")
    return base64.b64encode(packed.tobytes()).decode()


def _marks(found: Delineation, begin: int, end: int) -> tuple[dict[str, list[list[int | None]]], int]:
    """Marks of the beats with a mark in a section, and the index of the first of them."""
    places = np.concatenate([found.marks[name] for name in MARKS])  # (marks and leads, beats)
    inside = np.flatnonzero(((places >= begin) & (places < end)).any(axis=0))
    if not len(inside):
        return {name: [[] for _ in found.marks[name]] for name in MARKS}, 0
    beats = slice(int(inside[0]), int(inside[-1]) + 1)
    rows = {
        name: [[round(float(v)) if np.isfinite(v) else None for v in row[beats]] for row in found.marks[name]]
        for name in MARKS
    }
    return rows, beats.start
