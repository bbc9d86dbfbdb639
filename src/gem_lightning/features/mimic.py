"""Features from MIMIC-IV-ECG's machine measurements, for records without a signal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gem_lightning.errors import GemError
from gem_lightning.features.measure import corrected_qt
from gem_lightning.features.schema import BeatTable, EcgFeatures, Rhythm, checked_age, checked_sex

MISSING = 29999  # the device's code for "not measured"
COLUMNS = ("rr_interval", "p_onset", "p_end", "qrs_onset", "qrs_end", "t_end", "p_axis", "qrs_axis", "t_axis")


def from_mimic_csv(row: Mapping[str, Any], age: float | None = None, sex: str | None = None) -> EcgFeatures:
    """Read features from one row of ``machine_measurements.csv``.

    Args:
        row: Column name -> text or number. Used are ``rr_interval p_onset p_end qrs_onset qrs_end t_end`` (ms) and
            ``p_axis qrs_axis t_axis`` (degrees); 29999, empty and absent values count as missing.
        age: Of the patient, years; the table does not hold it.
        sex: ``M`` or ``F``.

    Returns:
        Rate, intervals, QTc and axes; no beats and no leads, since the device does not give them.

    Raises:
        GemError: None of the columns is there, or a value is no number.
    """
    if not any(name in row for name in COLUMNS):
        raise GemError(f"expected a row with columns such as {', '.join(COLUMNS)}; got {', '.join(map(str, row))}")
    get = {name: _value(row.get(name), name) for name in COLUMNS}
    rr = get["rr_interval"] if get["rr_interval"] and get["rr_interval"] > 0 else None

    def span(start: str, stop: str) -> float | None:
        a, b = get[start], get[stop]
        return b - a if a is not None and b is not None and b > a else None

    qt = span("qrs_onset", "t_end")
    empty: dict[str, np.ndarray] = {
        name: np.zeros(0) for name in ("rr_ms", "p_ms", "pr_ms", "qrs_ms", "qt_ms", "jt_ms")
    }
    return EcgFeatures(
        heart_rate_bpm=60000 / rr if rr else None,
        rr_ms=rr,
        p_ms=span("p_onset", "p_end"),
        pr_ms=span("p_onset", "qrs_onset"),
        qrs_ms=span("qrs_onset", "qrs_end"),
        qt_ms=qt,
        jt_ms=span("qrs_end", "t_end"),
        qtc_ms=corrected_qt(qt, rr),
        axis_deg={wave: _angle(get[f"{wave.lower()}_axis"]) for wave in ("P", "QRS", "T")},
        st_mv={},
        leads={},
        beats=BeatTable(np.zeros(0), np.zeros(0, object), empty, {}, ()),
        rhythm=Rhythm(),
        reason="measured by the device: one value a record",
        age=checked_age(age),
        sex=checked_sex(sex),
    )


def _value(value: Any, name: str) -> float | None:
    """Return a number, or None where the device had none."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise GemError(f"expected a number in column {name}, got {value!r}") from None
    return None if not np.isfinite(number) or number == MISSING else number


def _angle(degrees: float | None) -> float | None:
    """Return an axis in (-180, 180]."""
    return None if degrees is None else 180.0 - (180.0 - degrees) % 360.0
