"""Export of measurements: GEM's fourteen sequences per lead, and one flat row per record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gem_lightning.ecg.record import LEADS
from gem_lightning.features.schema import QTC_FORMULAS, ST_POINTS, EcgFeatures, LeadFeatures, plain

if TYPE_CHECKING:
    import pyarrow

# The fourteen sequences of the GEM paper (arXiv 2503.06073): name, unit. One value a heartbeat, in time order.
SEQUENCES: dict[str, str] = {
    "Heart_Rate": "bpm",
    "RR_Interval_1": "ms",  # to the beat before
    "RR_Interval_2": "ms",  # to the beat after
    "P_Amplitude": "mV",
    "P_Duration": "ms",
    "PR_Interval": "ms",
    "QRS_Amplitude": "mV",  # highest minus lowest
    "QRS_Duration": "ms",
    "T_Amplitude": "mV",
    "T_Duration": "ms",
    "ST_Duration": "ms",  # QRS offset to T onset
    "ST_Form": "text",  # horizontal, upslope or declination
    "QT_Interval": "ms",  # QRS onset to T offset
    "QTc_Interval": "ms",  # Bazett, from the RR before
}
_WHOLE = {
    "P_Duration": "p_ms",
    "PR_Interval": "pr_ms",
    "QRS_Duration": "qrs_ms",
    "T_Duration": "t_ms",
    "ST_Duration": "st_ms",
    "QT_Interval": "qt_ms",
}
_AMPLITUDES = {"P_Amplitude": "p_mv", "QRS_Amplitude": "qrs_mv", "T_Amplitude": "t_mv"}
_LEVEL_MV_S = 0.6  # ST slope within this is horizontal: half a small box in 80 ms


def to_measurements(features: EcgFeatures) -> dict[str, dict[str, list[Any]]]:
    """Return the ``machine_measurements`` field.

    Args:
        features: Measurements of one record.

    Returns:
        Lead name -> sequence name (:data:`SEQUENCES`) -> one value per beat in time order; None where absent. Whole
        milliseconds and beats per minute; amplitudes in mV to 3 decimals.
    """
    beats = features.beats
    if not len(beats):
        return {lead: {name: [] for name in SEQUENCES} for lead in beats.leads}
    rr = beats.whole["rr_ms"]
    lead = beats.by_lead
    with np.errstate(invalid="ignore"):
        per_beat = np.stack([60000 / rr, rr, np.r_[rr[1:], np.nan]])  # (3, beats)
        corrected = lead["qt_ms"] / np.sqrt(rr / 1000)
    heart_rate, before, after = _plain(per_beat)
    columns = {name: _plain(lead[column]) for name, column in _WHOLE.items()}
    columns |= {name: _plain(lead[column], 3) for name, column in _AMPLITUDES.items()}
    columns |= {"QTc_Interval": _plain(corrected), "ST_Form": _st_forms(lead["st_slope_mv_s"])}
    out = {}
    for i, name in enumerate(beats.leads):
        row = {key: column[i] for key, column in columns.items()}
        row |= {"Heart_Rate": heart_rate, "RR_Interval_1": before, "RR_Interval_2": after}
        out[name] = {key: row[key] for key in SEQUENCES}
    return out


def _plain(table: np.ndarray, digits: int = 0) -> list[list[Any]]:
    """Round rows to plain numbers, int without digits, None where unknown."""
    known = np.isfinite(table)
    rounded = np.round(np.where(known, table, 0.0).astype(np.float64), digits)
    plain_values = (rounded if digits else rounded.astype(np.int64)).astype(object)
    plain_values[~known] = None
    return plain_values.tolist()


def _st_forms(slopes: np.ndarray) -> list[list[str | None]]:
    """Return the paper's term for each beat's ST segment; ``slopes`` (leads, beats), mV/s."""
    return [[_st_form(slope) for slope in row] for row in slopes.tolist()]


def _st_form(slope: float) -> str | None:
    """Return the paper's term for one beat's ST segment."""
    if slope != slope:
        return None
    if abs(slope) <= _LEVEL_MV_S:
        return "horizontal"
    return "upslope" if slope > 0 else "declination"


_SCALARS = ("heart_rate_bpm", "rr_ms", "p_ms", "pr_ms", "qrs_ms", "qt_ms", "jt_ms")
_RHYTHM = {"regular": "bool", "rr_cv": "double", "p_per_qrs": "double", "pr_constant": "bool", "pattern": "string",
           "sdnn_ms": "double", "rmssd_ms": "double"}  # fmt: skip
_VOLTAGES = ("sokolow_lyon", "sokolow_lyon_avl", "cornell", "peguero", "gubner", "rvh")
_BEATS = ("rr_ms", "p_ms", "pr_ms", "qrs_ms", "qt_ms", "jt_ms")
_FORMS = ("p_form", "qrs_form", "t_form", "st_form")
_LEAD = tuple(n for n in LeadFeatures.__dataclass_fields__ if n not in (*_FORMS, "qrs_notes"))


def columns() -> dict[str, str]:
    """Return every column of :func:`features_row` with its Arrow type; names end in the unit (ms, mv, bpm, deg)."""
    types = dict.fromkeys(_SCALARS, "double")
    types |= {f"qtc_{formula}_ms": "double" for formula in QTC_FORMULAS}
    types |= {f"axis_{wave.lower()}_deg": "double" for wave in ("P", "QRS", "T")}
    types |= {f"rhythm_{name}": kind for name, kind in _RHYTHM.items()} | {"rhythm_notes": "list<string>"}
    types |= {f"voltage_{name}_mv": "double" for name in _VOLTAGES} | {"transition": "string"}
    for lead in LEADS:
        types |= {f"{lead}_{name}": "double" for name in _LEAD}
        types |= {f"{lead}_st_{point.lower()}_mv": "double" for point in ST_POINTS}
        types |= {f"{lead}_{name}": "string" for name in _FORMS} | {f"{lead}_qrs_notes": "list<string>"}
    types |= {"beats": "int32", "beat_time_s": "list<double>", "beat_class": "list<string>"}
    types |= {f"beat_{name}": "list<double>" for name in _BEATS}
    return types | {"fs_hz": "double", "seconds": "double", "reason": "string", "age": "double", "sex": "string"}


def features_row(features: EcgFeatures) -> dict[str, Any]:
    """Build a flat row of plain values, the columns of :func:`columns` in that order; None where absent."""
    row: dict[str, Any] = {name: plain(getattr(features, name)) for name in _SCALARS}
    row |= {f"qtc_{formula}_ms": plain(features.qtc_ms.get(formula)) for formula in QTC_FORMULAS}
    row |= {f"axis_{wave.lower()}_deg": plain(features.axis_deg.get(wave)) for wave in ("P", "QRS", "T")}
    row |= {f"rhythm_{name}": plain(getattr(features.rhythm, name)) for name in (*_RHYTHM, "notes")}
    row |= {f"voltage_{name}_mv": plain(features.voltages_mv.get(name)) for name in _VOLTAGES}
    row["transition"] = features.transition
    for lead in LEADS:
        summary = features.leads.get(lead, LeadFeatures(trust=0.0))
        row |= {f"{lead}_{name}": plain(getattr(summary, name)) for name in (*_LEAD, *_FORMS, "qrs_notes")}
        levels = features.st_mv.get(lead, {})
        row |= {f"{lead}_st_{point.lower()}_mv": plain(levels.get(point)) for point in ST_POINTS}
    beats = features.beats
    row |= {"beats": len(beats), "beat_time_s": plain(beats.time_s), "beat_class": [str(c) for c in beats.beat_class]}
    row |= {f"beat_{name}": plain(beats.whole[name]) for name in _BEATS}
    row |= {"fs_hz": features.fs, "seconds": features.seconds, "reason": features.reason}
    row |= {"age": features.age, "sex": features.sex}
    return {name: row[name] for name in columns()}


def parquet_schema() -> pyarrow.Schema:
    """Return the Arrow schema of :func:`features_row`, every field nullable, its unit in the field's metadata."""
    import pyarrow as pa

    kinds = {
        "double": pa.float64(),
        "int32": pa.int32(),
        "bool": pa.bool_(),
        "string": pa.string(),
        "list<double>": pa.list_(pa.float64()),
        "list<string>": pa.list_(pa.string()),
    }
    units = {"ms": "ms", "mv": "mV", "bpm": "bpm", "deg": "degrees", "s": "s", "hz": "Hz"}

    def unit(name: str) -> dict[str, str] | None:
        if name.endswith("_mv_s"):
            return {"unit": "mV/s"}
        ending = "s" if name == "seconds" else name.rsplit("_", 1)[-1]
        return {"unit": units[ending]} if ending in units else None

    return pa.schema([pa.field(name, kinds[kind], metadata=unit(name)) for name, kind in columns().items()])
