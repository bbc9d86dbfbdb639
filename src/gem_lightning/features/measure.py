"""Measurements of a 12-lead ECG, per beat, per lead and summarised."""

from __future__ import annotations

from contextlib import suppress
from math import isfinite
from typing import Any

import numpy as np

from gem_lightning.ecg.excerpts import is_like_paper
from gem_lightning.ecg.record import EcgRecord
from gem_lightning.errors import GemError
from gem_lightning.features.delineate import delineate
from gem_lightning.features.delineation.arrays import median, nanmedian
from gem_lightning.features.delineation.stimuli import by_chamber
from gem_lightning.features.measurement import waves
from gem_lightning.features.measurement.axes import frontal_axis, scale_error, transition, voltages
from gem_lightning.features.measurement.rhythm import rhythm
from gem_lightning.features.measurement.u_wave import u_heights
from gem_lightning.features.measurement.waves import BeatSignal, beat_columns
from gem_lightning.features.schema import (
    QTC_FORMULAS,
    ST_POINTS,
    STIMULI,
    BeatTable,
    Delineation,
    EcgFeatures,
    LeadFeatures,
    Rhythm,
    checked_age,
    checked_sex,
)

INTERVALS = {
    "p_ms": ("P_on", "P_off"),
    "pr_ms": ("P_on", "QRS_on"),
    "qrs_ms": ("QRS_on", "QRS_off"),
    "qt_ms": ("QRS_on", "T_off"),
    "jt_ms": ("QRS_off", "T_off"),
}
T_P_APART_MS = 8.0  # two samples at 250 Hz: a T wave that ends nearer to the next P wave ends unseen
SUMMARISED = (
    "p_mv", "p_ms", "pr_ms", "q_mv", "q_ms", "r_mv", "r_ms", "s_mv", "s_ms", "r2_mv", "r_peak_ms", "qrs_mv",
    "qrs_ms", "t_mv", "t_ms", "qt_ms", "st_slope_mv_s",
)  # fmt: skip
RARE = (
    "q_mv",
    "q_ms",
    "r_mv",
    "r_ms",
    "s_mv",
    "s_ms",
    "r2_mv",
    "r_peak_ms",
)  # in fewer than half of the beats: not there


def measure(
    record: EcgRecord, delineation: Delineation | None = None, age: float | None = None, sex: str | None = None
) -> EcgFeatures:
    """Measure a record.

    Args:
        record: The record; at least one lead.
        delineation: Its marks; found with :func:`delineate` when not given.
        age: Of the patient, years; None takes ``record.meta["age"]``.
        sex: ``M`` or ``F`` (texts that begin so are understood); None takes ``record.meta["sex"]``.

    Returns:
        Measurements in ms, mV, bpm and degrees; None (NaN in the beat table) where something cannot be measured.

    Raises:
        GemError: The age is out of range or the sex not understood (in ``record.meta`` such values count as unknown).
    """
    patient = _patient(record, age, sex)
    marks = delineate(record) if delineation is None else delineation
    if not np.isfinite(marks.global_marks["QRS_on"] + marks.global_marks["QRS_off"]).any():
        return _nothing(record, marks, patient)
    signal = BeatSignal(record, marks)
    whole = _intervals(marks)
    by_lead = beat_columns(signal, marks)
    beats = BeatTable(nanmedian(marks.marks["R"]) / marks.fs, marks.beat_class, whole, by_lead, marks.leads)
    counted = _counted(marks)
    average, margin = waves.average_qrs(signal, marks, counted)
    leads, st = _leads(signal, marks, by_lead, counted, waves.qrs_notes(average, margin, signal.fs))
    middle = {name: _number(float(nanmedian(whole[name][counted]))) for name in INTERVALS}
    rr = whole["rr_ms"][np.isfinite(whole["rr_ms"])]
    mean_rr = float(rr.mean()) if len(rr) else None
    return EcgFeatures(
        heart_rate_bpm=60000 / mean_rr if mean_rr else None,
        rr_ms=float(median(rr)) if len(rr) else None,
        p_ms=middle["p_ms"],
        pr_ms=middle["pr_ms"],
        qrs_ms=middle["qrs_ms"],
        qt_ms=middle["qt_ms"],
        jt_ms=middle["jt_ms"],
        qtc_ms=corrected_qt(middle["qt_ms"], mean_rr),
        axis_deg=_axes(signal, marks, by_lead, counted),
        st_mv=st,
        leads=leads,
        beats=beats,
        rhythm=rhythm(marks, whole["rr_ms"], whole["pr_ms"]),
        voltages_mv=voltages(leads),
        ranges={
            n: (float(np.nanmin(c)), float(np.nanmax(c)))
            for n, c in whole.items()
            if n not in STIMULI and np.isfinite(c).any()
        },
        transition=transition(leads),
        # leads of other moments show other beats, which need not add up
        scale_error=None if is_like_paper(record) else scale_error(average, marks.leads, marks.trust),
        fs=record.fs,
        seconds=record.seconds,
        **patient,
    )


def _patient(record: EcgRecord, age: float | None, sex: str | None) -> dict[str, Any]:
    """Return age and sex as given, else as the record's file states them."""
    known: dict[str, Any] = {"age": checked_age(age), "sex": checked_sex(sex)}
    for name, check in (("age", checked_age), ("sex", checked_sex)):
        if known[name] is None:
            with suppress(GemError, TypeError, ValueError, AttributeError):  # a header may hold anything
                known[name] = check(record.meta.get(name))
    return known


def corrected_qt(qt_ms: float | None, rr_ms: float | None) -> dict[str, float | None]:
    """Return QT corrected for rate, ms, by formula.

    Bazett 1920: QT / sqrt(RR). Fridericia 1920: QT / RR^(1/3). Framingham (Sagie 1992): QT + 154 (1 - RR).
    Hodges 1983: QT + 1.75 (rate - 60). RR in s, QT in ms.
    """
    if qt_ms is None or rr_ms is None:
        return dict.fromkeys(QTC_FORMULAS)
    rr = rr_ms / 1000
    return {
        "bazett": qt_ms / rr**0.5,
        "fridericia": qt_ms / rr ** (1 / 3),
        "framingham": qt_ms + 154 * (1 - rr),
        "hodges": qt_ms + 1.75 * (60 / rr - 60),
    }


def _number(value: float) -> float | None:
    """Return a plain float, None for NaN."""
    return float(value) if isfinite(value) else None


def _intervals(marks: Delineation) -> dict[str, np.ndarray]:
    """Return the global columns (beats,), ms; implausible ones (not above zero) are NaN."""
    g, per_ms = marks.global_marks, 1000 / marks.fs
    whole = {"rr_ms": np.r_[np.nan, np.diff(g["R"])] * per_ms}
    for name, (start, stop) in INTERVALS.items():
        value = (g[stop] - g[start]) * per_ms
        whole[name] = np.where(value > 0, value, np.nan)
    # where the next P wave begins on the T wave, or stands in its place, its end cannot be seen
    fused = np.r_[g["P_on"][1:] - g["T_off"][:-1] < T_P_APART_MS / per_ms, False]
    if 2 * fused.sum() > np.isfinite(whole["qt_ms"]).sum():  # then the others are the exceptions
        fused[:] = True
    for name in ("qt_ms", "jt_ms"):
        whole[name][fused] = np.nan
    return whole | dict(zip(STIMULI, by_chamber(marks.stimuli, g["QRS_on"], g["QRS_off"], marks.fs)))


def _counted(marks: Delineation) -> np.ndarray:
    """Return (beats,) which beats the medians are over: normal ones, else paced ones, else all."""
    known = np.isfinite(marks.global_marks["QRS_on"] + marks.global_marks["QRS_off"])
    for wanted in ("normal", "paced"):
        chosen = (marks.beat_class == wanted) & known
        if chosen.any():
            return chosen
    return known


def _leads(
    signal: BeatSignal,
    marks: Delineation,
    by_lead: dict[str, np.ndarray],
    counted: np.ndarray,
    notes: list[tuple[str, ...]],
) -> tuple[dict[str, LeadFeatures], dict[str, dict[str, float | None]]]:
    """Return every lead summarised over the beats that count, and its ST levels."""
    names = [*SUMMARISED, *(f"st_{p.lower()}_mv" for p in ST_POINTS)]
    stack = np.stack([by_lead[n][:, counted] for n in names])  # (columns, leads, beats)
    middle = dict(zip(names, nanmedian(stack, axis=-1)))
    beats = marks.global_marks["R"][counted]
    shown = signal.shown(np.where(np.isfinite(beats), beats, 0).round().astype(int)[:, None]).sum(-1)
    often = np.isfinite(stack).sum(-1) >= 0.5 * np.maximum(shown, 1)
    for k, name in enumerate(names):
        if name in RARE:
            middle[name] = np.where(often[k], middle[name], np.nan)
    p_phases, t_phases = (_phases(signal, marks, wave, counted) for wave in ("P", "T"))
    u_mv = u_heights(signal, marks, counted)
    leads, st = {}, {}
    for i, lead in enumerate(marks.leads):
        row = {name: float(middle[name][i]) for name in names}
        st[lead] = {p: _number(row[f"st_{p.lower()}_mv"]) for p in ST_POINTS}
        leads[lead] = LeadFeatures(
            **{name: _number(row[name]) for name in SUMMARISED},
            p_form=waves.wave_form(p_phases[i], row["p_mv"], 0.0),
            qrs_form=waves.qrs_form(*(row[n] for n in ("q_mv", "r_mv", "s_mv", "r2_mv"))),
            qrs_notes=notes[i],
            t_form=waves.wave_form(t_phases[i], row["t_mv"], waves.FLAT_MV),
            u_mv=_number(float(u_mv[i])),
            st_form=waves.st_form(row["st_j_mv"], row["st_j40_mv"], row["st_j80_mv"], row["st_slope_mv_s"]),
            trust=float(marks.trust[i]),
        )
    return leads, st


def _phases(signal: BeatSignal, marks: Delineation, wave: str, counted: np.ndarray) -> list[tuple[float, float]]:
    """Return per lead the median highest and lowest excursion (mV) of a wave between its own onset and offset."""
    on, off = (marks.marks[f"{wave}_{end}"][:, counted] for end in ("on", "off"))
    shown = np.isfinite(on) & np.isfinite(off)
    share = np.linspace(0, 1, 17)
    place = np.where(shown, on, 0)[..., None] + share * np.where(shown, off - on, 0)[..., None]
    lead = signal.samples * np.arange(len(place))[:, None, None]
    y = signal.signal.take(lead + place.round().astype(int))
    if wave == "P":
        fused = waves.on_t_wave(marks.marks["P_on"], marks.marks["T_off"], marks.fs)[:, counted]
        y = y - waves.level_under_p(y[..., :1], fused[..., None], share)
    y = np.where(shown[..., None], y, np.nan)
    middle = nanmedian(y, axis=1)
    return list(zip(middle.max(-1).tolist(), middle.min(-1).tolist()))


def _axes(
    signal: BeatSignal, marks: Delineation, by_lead: dict[str, np.ndarray], counted: np.ndarray
) -> dict[str, float | None]:
    """Return the frontal axes of P, QRS and T from each wave's mean level between its global onset and offset."""
    out: dict[str, float | None] = {}
    limb = [i for i, lead in enumerate(marks.leads) if lead in ("I", "II", "III", "aVF") and marks.trust[i] > 0]
    share = np.linspace(0, 1, 41)
    for wave in ("P", "QRS", "T"):
        on, off = (marks.global_marks[f"{wave}_{end}"][counted] for end in ("on", "off"))
        shown = np.isfinite(on) & np.isfinite(off)
        if not limb or not shown.any():
            out[wave] = None
            continue
        place = (on[shown, None] + share * (off - on)[shown, None]).round().astype(int)
        y = signal.signal[np.array(limb)[:, None, None], place]  # (leads, beats, points)
        seen = signal.shown(place)[limb]
        if wave == "P":
            fused = waves.on_t_wave(marks.global_marks["P_on"], marks.global_marks["T_off"], marks.fs)[counted][shown]
            y = y - waves.level_under_p(y[..., :1], fused[:, None], share)
        net = nanmedian(np.where(seen, y.mean(-1), np.nan), axis=1)
        out[wave] = frontal_axis({marks.leads[i]: float(v) for i, v in zip(limb, net)})
    return out


def _nothing(record: EcgRecord, marks: Delineation, patient: dict[str, Any]) -> EcgFeatures:
    """Return the features of a record without beats: everything None, and the reason."""
    absent: dict[str, np.ndarray] = {name: np.zeros(0) for name in ("rr_ms", *INTERVALS, *STIMULI)}
    return EcgFeatures(
        heart_rate_bpm=None, rr_ms=None, p_ms=None, pr_ms=None, qrs_ms=None, qt_ms=None, jt_ms=None,
        qtc_ms=dict.fromkeys(QTC_FORMULAS),
        axis_deg=dict.fromkeys(("P", "QRS", "T")),
        st_mv={lead: dict.fromkeys(ST_POINTS) for lead in marks.leads},
        leads={lead: LeadFeatures(trust=float(t)) for lead, t in zip(marks.leads, marks.trust)},
        beats=BeatTable(np.zeros(0), np.zeros(0, object), absent, {}, marks.leads),
        rhythm=Rhythm(),
        fs=record.fs,
        seconds=record.seconds,
        reason=marks.reason,
        **patient,
    )  # fmt: skip
