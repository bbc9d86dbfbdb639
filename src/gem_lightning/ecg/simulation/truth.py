"""The exact fiducials, measurements and finding codes of a simulated record."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any

import numpy as np

from gem_lightning.ecg.record import LEADS
from gem_lightning.ecg.simulation.rhythm import CHAMBERS, Schedule
from gem_lightning.ecg.simulation.waves import Beat, Wave, fiducials, net_axis, template

MARKS: tuple[str, ...] = ("P_on", "P", "P_off", "QRS_on", "R", "QRS_off", "T_on", "T", "T_off")

_WALLS = {
    "inferior": ("inferior",),
    "lateral": ("lateral",),
    "high_lateral": ("lateral",),
    "septal": ("septal",),
    "anterior": ("anterior",),
    "anteroseptal": ("anterior", "septal"),
    "anterolateral": ("anterior", "lateral"),
    "inferolateral": ("inferior", "lateral"),
}
# Contiguous leads: any two of a wall, and neighbours on the chest. These and the limits below are the findings' own
# (features/criteria/criteria.yaml; tests/features holds the two together).
_CONTIGUOUS = (
    *combinations(("II", "III", "aVF"), 2),
    *combinations(("I", "aVL", "V5", "V6"), 2),
    *pairwise(("V1", "V2", "V3", "V4", "V5", "V6")),
)
LONG_QTC_MS = {"M": 450.0, "F": 460.0}
SHORT_QTC_MS = 360.0
AXES_DEG = {
    "extreme_axis_deviation": (-180, -90),
    "left_axis_deviation": (-90, -30),
    "right_axis_deviation": (90, 180),
}


@dataclass(frozen=True)
class Truth:
    """As in :class:`~gem_lightning.ecg.simulation.simulate.SimulatedEcg`."""

    marks: dict[str, np.ndarray]
    global_marks: dict[str, np.ndarray]
    beat_class: np.ndarray
    extra_p: np.ndarray
    parameters: dict[str, Any]


def tabulate(schedule: Schedule, beats: dict[str, Beat], samples: int, fs: float) -> Truth:
    """Marks of all beats whose QRS lies inside the record, and the values that follow from them."""
    longest = {kind: max(wave.off for wave in beat.qrs) / 1000 for kind, beat in beats.items()}
    ends = np.array([longest[str(kind)] for kind in schedule.kind])
    inside = (schedule.qrs >= 0) & ((schedule.qrs + ends) * fs <= samples - 1)
    order = np.flatnonzero(inside)[np.argsort(schedule.qrs[inside])]
    marks = {name: np.full((12, len(order)), np.nan) for name in MARKS}
    whole = {name: np.full(len(order), np.nan) for name in MARKS}
    tables = {str(kind): _fiducials(beats[str(kind)]) for kind in np.unique(schedule.kind[order])}
    for kind, groups in tables.items():
        places = np.flatnonzero(schedule.kind[order] == kind)
        for group, (names, per_lead, together) in groups.items():
            start = (schedule.p if group == "P" else schedule.qrs)[order[places]] * fs  # (beats of this kind,)
            times = start + together[:, None] * fs / 1000
            uncut = (times[0] >= 0) & (times[2] <= samples - 1)  # False also where there is no such wave (NaN)
            for name, offsets, moment in zip(names, per_lead, times):
                marks[name][:, places[uncut]] = (offsets * fs / 1000)[:, None] + start[uncut]
                whole[name][places[uncut]] = moment[uncut]
    extra = schedule.extra_p * fs + fiducials(beats["normal"].p, "P")[1][1] * fs / 1000
    extra = extra[(extra >= 0) & (extra <= samples - 1)]
    classes = np.array([beats[str(kind)].beat_class for kind in schedule.kind[order]], dtype=object)
    main = _main_kind(schedule, order)
    parameters = _measurements(whole, classes, beats, main, fs)
    parameters["atrial_rate"] = schedule.atrial_rate
    if main in CHAMBERS:
        parameters["paced_chamber"] = CHAMBERS[main]
    return Truth(marks, whole, classes.astype(str), np.sort(extra), parameters)


def _fiducials(beat: Beat) -> dict[str, tuple[tuple[str, ...], np.ndarray, np.ndarray]]:
    groups: dict[str, tuple[tuple[str, ...], tuple[Wave, ...]]] = {
        "P": (MARKS[:3], beat.p),
        "QRS": (MARKS[3:6], beat.qrs),
        "T": (MARKS[6:], beat.t),
    }
    return {name: (marks, *fiducials(waves, name)) for name, (marks, waves) in groups.items()}


def _main_kind(schedule: Schedule, order: np.ndarray) -> str:
    kinds = schedule.kind[order]
    for kind in ("normal", "escape", *CHAMBERS):
        if kind in kinds:
            return kind
    return str(kinds[0]) if len(kinds) else "normal"


def _measurements(
    whole: dict[str, np.ndarray], classes: np.ndarray, beats: dict[str, Beat], main: str, fs: float
) -> dict[str, Any]:
    """True values, medians over the beats that are not premature."""
    counted = ~np.char.startswith(classes.astype(str), "premature")
    ms = 1000 / fs

    def median(values: np.ndarray) -> float | None:
        values = values[counted & np.isfinite(values)]
        return float(np.median(values)) if len(values) else None

    rr = float(np.diff(whole["QRS_on"]).mean() * ms) if len(classes) > 1 else None
    qt = median((whole["T_off"] - whole["QRS_on"]) * ms)
    beat = beats[main]
    has_p = bool(np.isfinite(whole["P_on"]).any())
    return {
        "beats": len(classes),
        "rr_ms": rr,
        "heart_rate": 60_000 / rr if rr else None,
        "pr_ms": median((whole["QRS_on"] - whole["P_on"]) * ms),
        "p_ms": median((whole["P_off"] - whole["P_on"]) * ms),
        "qrs_ms": median((whole["QRS_off"] - whole["QRS_on"]) * ms),
        "qt_ms": qt,
        "qtc_ms": _corrected(qt, rr),
        "axis_deg": {
            "P": net_axis(beat.p) if has_p else None,
            "QRS": net_axis(beat.qrs),
            "T": net_axis(beat.t),
        },
        "st_mv": _st(beat),
        "amplitudes_mv": _amplitudes(beat, has_p),
    }


def _corrected(qt: float | None, rr: float | None) -> dict[str, float | None]:
    """QTc, ms: Bazett 1920, Fridericia 1920, Framingham (Sagie 1992), Hodges 1983."""
    if qt is None or rr is None:
        return dict.fromkeys(("bazett", "fridericia", "framingham", "hodges"))
    s = rr / 1000
    return {
        "bazett": qt / s**0.5,
        "fridericia": qt / s ** (1 / 3),
        "framingham": qt + 154 * (1 - s),
        # Hodges 1983: 1.75 ms for each beat per minute above 60
        "hodges": qt + 1.75 * (60 / s - 60),
    }


def _st(beat: Beat) -> dict[str, dict[str, float]]:
    """Level at J and 40, 60, 80 ms later against the level before the QRS, mV per lead."""
    j = max(wave.off for wave in beat.qrs)
    levels = template(beat.st, j + np.array([0.0, 40.0, 60.0, 80.0])) + template(
        beat.t, j + np.array([0, 40, 60, 80.0])
    )
    return {lead: dict(zip(("J", "J40", "J60", "J80"), map(float, row))) for lead, row in zip(LEADS, levels)}


def _amplitudes(beat: Beat, has_p: bool) -> dict[str, dict[str, float]]:
    """Largest positive and negative QRS deflection, P and T peak of either sign, mV per lead."""
    # 1 ms steps: longer than any QRS, ST and T of the simulator
    grid = np.arange(0.0, 700.0)
    qrs = template(beat.qrs + beat.st, grid[grid <= max(wave.off for wave in beat.qrs)])
    peaks = {"P": template(beat.p if has_p else (), grid), "T": template(beat.t, grid) + template(beat.st, grid)}
    table = {lead: {"R": float(max(y.max(), 0)), "S": float(max(-y.min(), 0))} for lead, y in zip(LEADS, qrs)}
    start = int(max(wave.off for wave in beat.qrs)) + 1
    for name, waves in peaks.items():
        for lead, y in zip(LEADS, waves if name == "P" else waves[:, start:]):
            table[lead][name] = float(y[np.abs(y).argmax()])
    return table


def diagnoses(codes: frozenset[str], facts: dict[str, Any], age: float, sex: str, territory: str) -> tuple[str, ...]:
    """List all finding codes that hold: those requested, and those that rate, axis, PR, QTc and territory imply."""
    found = set(codes) - {"sinus", "sinus_rhythm", "sinus_bradycardia", "sinus_tachycardia"}
    other = {"atrial_fibrillation", "atrial_flutter", "av_block_3", "paced_rhythm"} & found
    if not other:
        rate = facts["atrial_rate"] or facts["heart_rate"] or 75.0
        found.add("sinus_bradycardia" if rate < 60 else "sinus_tachycardia" if rate > 100 else "sinus_rhythm")
    both = facts.get("paced_chamber") == CHAMBERS["paced_both"]  # the pacemaker sets its PR interval
    if not other & {"av_block_3"} and not both and (facts["pr_ms"] or 0) > 200 and "av_block_2_mobitz_1" not in found:
        found.add("av_block_1")
    if "bigeminy" in found:
        found.add("pvc")
    axis = facts["axis_deg"]["QRS"]
    # stimuli of the atrium alone leave the ventricles' activation as it is
    ventricles_paced = "paced_rhythm" in found and facts["paced_chamber"] != "atrium"
    if not ventricles_paced:
        found |= {name for name, (low, high) in AXES_DEG.items() if low < axis < high}
    qtc = facts["qtc_ms"]["fridericia"]
    if qtc:
        found |= {"long_qtc"} if qtc >= LONG_QTC_MS[sex] else {"short_qtc"} if qtc <= SHORT_QTC_MS else set()
    secondary = {"lbbb", "pre_excitation"} & found
    if not (secondary or ventricles_paced) and {"st_elevation", "st_depression"} & found:
        found |= _st_codes(facts["st_mv"], age, sex)
    if {"st_elevation", "pathological_q"} & set(codes):
        found |= {f"mi_{wall}" for wall in _WALLS[territory]}
    if found == {"sinus_rhythm"}:
        found.add("normal_ecg")
    return tuple(sorted(found))


def _st_codes(st_mv: dict[str, dict[str, float]], age: float, sex: str) -> set[str]:
    """Two contiguous leads up or down (universal definition of MI, 2018): 0.1 mV up, by sex and age in V2 and V3."""
    level = {lead: points["J"] for lead, points in st_mv.items()}
    chest = 0.15 if sex == "F" else 0.25 if age < 40 else 0.2
    up = {lead for lead, mv in level.items() if lead != "aVR" and mv >= (chest if lead in ("V2", "V3") else 0.1)}
    down = {lead for lead, mv in level.items() if mv <= -0.05 and st_mv[lead]["J80"] <= -0.05}
    codes = {"st_elevation"} if any({*pair} <= up for pair in _CONTIGUOUS) else set()
    return codes | ({"st_depression"} if any({*pair} <= down for pair in _CONTIGUOUS) else set())
