"""An instrument's reading in a question: numbers that an answer quotes, unless the signal says otherwise."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import replace
from typing import Any

import numpy as np

from gem_lightning.ecg.record import EcgRecord
from gem_lightning.features.delineate import delineate
from gem_lightning.features.measure import corrected_qt, measure
from gem_lightning.features.reliability import LIMITS
from gem_lightning.features.schema import EcgFeatures

#: A careful instrument's error, as a share of the limit beyond which two readings disagree; ours.
_ERROR = 0.2
#: How far a wrong value is off, in such limits: plainly beyond one, and still a value that a person can have; ours.
_WRONG = (2.0, 6.0)
_LEAST = {"heart_rate_bpm": 30.0, "pr_ms": 90.0, "qrs_ms": 60.0, "qt_ms": 240.0}  # a wrong value is not absurd; ours


_SHOWS = "The instrument reads: "
_REFERS = re.compile(r"\W*the instrument\b", re.IGNORECASE)


def instrument_reading(record: EcgRecord) -> EcgFeatures:
    """Measure a record as an instrument would: by the mean of both delineators."""
    return measure(record, delineate(record, backend="ensemble"))


def with_instrument(question: str, reading: EcgFeatures) -> str:
    """Put an instrument's rate, PR, QRS and QT before a question, marked as such."""
    values = []
    for field, (name, _, unit) in LIMITS.items():
        value = getattr(reading, field)
        values.append(f"{name} not measured" if value is None else f"{name} {value:.0f} {unit}")
    return f"{_SHOWS}{', '.join(values)}. {question}"


def without_instrument(question: str) -> tuple[str, bool]:
    """Return a question without the reading that :func:`with_instrument` put before it, and whether there was one."""
    head, shown, rest = question.rpartition(_SHOWS)
    return (head + rest.partition(". ")[2], True) if shown else (question, False)


def refers_to_instrument(sentence: str) -> bool:
    """Whether a sentence of an answer is about an instrument's reading, see :func:`disagreement`."""
    return _REFERS.match(sentence) is not None


def disagreement(wrong: Collection[str]) -> str:
    """Return the sentence of an answer that does not follow some fields of the reading; empty without any."""
    names = " and ".join(LIMITS[field][0] for field in LIMITS if field in wrong)
    return f" The instrument's {names} does not agree with the signal." if names else ""


def drawn_reading(
    truth: EcgFeatures, wrong: bool, draw: np.random.Generator
) -> tuple[EcgFeatures, EcgFeatures, tuple[str, ...]]:
    """Draw an instrument's reading of a record whose truth is known.

    Args:
        truth: Of the record.
        wrong: One of the values is far off.
        draw: Draws errors.

    Returns:
        The reading; what an answer quotes, that is the reading but for the wrong value; and the wrong value's field.
    """
    known = {field: value for field in LIMITS if (value := getattr(truth, field)) is not None}
    near = {
        field: value + float(np.clip(draw.normal(0, _ERROR), -0.9, 0.9)) * LIMITS[field][1]
        for field, value in known.items()
    }
    quoted = _with_values(truth, {field: float(round(value)) for field, value in near.items()})
    if not (wrong and known):
        return quoted, quoted, ()
    field = str(draw.choice(sorted(known)))
    limit, value = LIMITS[field][1], known[field]
    off = draw.uniform(*_WRONG) * limit * (1 if value - _WRONG[1] * limit < _LEAST[field] else draw.choice([-1, 1]))
    misread: dict[str, Any] = {field: float(round(value + off))}
    return replace(quoted, **misread), _with_values(quoted, {field: value}), (field,)


def _with_values(features: EcgFeatures, values: dict[str, Any]) -> EcgFeatures:
    """Put values in place of the measured ones, with what follows from rate and QT."""
    changed = replace(features, **values)
    rate = changed.heart_rate_bpm
    rr = changed.rr_ms if rate is None else 60_000 / rate
    return replace(changed, rr_ms=rr, qtc_ms=corrected_qt(changed.qt_ms, rr))
