"""Simulated 12-lead ECGs whose fiducials, measurements and diagnoses are known exactly.

Every wave is exactly zero outside its onset and offset, so the marks are true by construction and not an annotator's
opinion. One seed is one patient: the same seed with another diagnosis keeps axis, amplitudes and R progression.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from gem_lightning.ecg.leads import limb_leads
from gem_lightning.ecg.record import LEADS, EcgRecord
from gem_lightning.ecg.simulation import truth
from gem_lightning.ecg.simulation.morphology import TERRITORIES, Heart, build
from gem_lightning.ecg.simulation.noise import recording_noise
from gem_lightning.ecg.simulation.rhythm import CHAMBERS, RHYTHMS, Pace, Schedule, place
from gem_lightning.ecg.simulation.waves import Beat, draw, weights
from gem_lightning.errors import DataError

# Ranges that a diagnosis draws from instead of a healthy person's.
_RANGES: dict[str, dict[str, tuple[float, float]]] = {
    "sinus_bradycardia": {"heart_rate": (40, 56)},
    "sinus_tachycardia": {"heart_rate": (106, 142), "pr_ms": (118, 142), "p_ms": (80, 98)},
    "sinus_arrhythmia": {"heart_rate": (60, 76)},
    "atrial_fibrillation": {"heart_rate": (66, 125)},
    "atrial_flutter": {"heart_rate": (68, 78)},
    "av_block_1": {"pr_ms": (215, 300), "heart_rate": (60, 84)},
    "av_block_2_mobitz_1": {"pr_ms": (160, 190), "heart_rate": (62, 80)},
    "av_block_2_mobitz_2": {"pr_ms": (140, 185), "heart_rate": (64, 84)},
    "av_block_3": {"heart_rate": (32, 46)},
    "rbbb": {"qrs_ms": (126, 158), "qrs_mv": (0.65, 0.9)},
    "incomplete_rbbb": {"qrs_ms": (111, 118)},
    "lbbb": {"qrs_ms": (128, 168), "axis_deg": (-28, 45), "pr_ms": (140, 190)},
    "lafb": {"axis_deg": (-72, -48), "qrs_ms": (92, 112)},
    "lpfb": {"axis_deg": (102, 128), "qrs_ms": (92, 112)},
    "left_axis_deviation": {"axis_deg": (-62, -34)},
    "right_axis_deviation": {"axis_deg": (98, 135)},
    "rvh": {"axis_deg": (104, 140), "qrs_mv": (0.75, 1.0)},
    "lvh": {"chest": (1.75, 2.2), "qrs_mv": (1.5, 1.9), "axis_deg": (-25, 15), "transition": (-0.2, 0.4)},
    "low_voltage": {"qrs_mv": (0.24, 0.34), "chest": (0.22, 0.32), "p_mv": (0.06, 0.08), "t_mv": (0.12, 0.16)},
    "long_qtc": {"qtc_ms": (490, 560), "heart_rate": (55, 88)},
    "short_qtc": {"qtc_ms": (305, 332), "heart_rate": (56, 80)},
    "t_peaked": {"heart_rate": (56, 85)},
    "pathological_q": {"qrs_ms": (100, 118), "axis_deg": (-15, 40)},
    "pac": {"heart_rate": (58, 78), "every": (4, 6)},
    "pvc": {"heart_rate": (58, 82), "every": (4, 6)},
    "bigeminy": {"heart_rate": (60, 80), "every": (2, 2)},
    "paced_rhythm": {"heart_rate": (60, 80), "qrs_ms": (150, 178)},
    "pre_excitation": {"pr_ms": (88, 112), "p_ms": (72, 82), "qrs_ms": (118, 142)},
}
_HEALTHY: dict[str, tuple[float, float]] = {
    "heart_rate": (62, 97),
    "pr_ms": (128, 188),
    "p_ms": (86, 112),
    "qrs_ms": (78, 104),
    "qtc_ms": (385, 425),
    "axis_deg": (-8, 78),
    "p_axis_deg": (35, 68),
    "t_turn_deg": (-20, 25),
    "p_mv": (0.1, 0.17),
    "qrs_mv": (0.75, 1.2),
    "t_mv": (0.24, 0.4),
    "chest": (0.8, 1.15),
    "chest_t": (0.75, 1.25),
    "transition": (-0.5, 0.5),
    "st_mv": (0.22, 0.34),
    "q_mv": (0.32, 0.45),
    "every": (3, 5),
}
_OTHERS = (
    "territory",
    "snr_db",
    "wander_mv",
    "mains_hz",
    "ratio",
    "escape",
    "chamber",
    "qt_ms",
    "t_axis_deg",
    "age",
    "sex",
)
# Ranges of parameters that are met exactly; beyond them waves would overlap.
_POSSIBLE: dict[str, tuple[float, float]] = {
    "heart_rate": (15, 350),
    "pr_ms": (40, 600),
    "p_ms": (30, 180),
    "qrs_ms": (60, 240),
    "qt_ms": (160, 800),
    "qtc_ms": (200, 800),
}
DIAGNOSES: tuple[str, ...] = tuple(
    sorted({"sinus", *RHYTHMS, *_RANGES, "st_elevation", "st_depression", "t_inversion", "pathological_q"})
)


@dataclass(frozen=True)
class SimulatedEcg:
    """A simulated recording with the truth about it.

    Attributes:
        record: The recording, mV.
        marks: Per name of :data:`~gem_lightning.ecg.simulation.truth.MARKS`, (12, beats) samples, NaN where absent.
            ``R`` is the largest deflection of the QRS of either sign.
        global_marks: The same names, (beats,): earliest onset, latest offset, and the peak over all leads.
        diagnoses: Every finding code that is true of this record.
        parameters: True values: ``heart_rate``, ``rr_ms``, ``pr_ms``, ``p_ms``, ``qrs_ms``, ``qt_ms``, ``qtc_ms`` (by
            formula), ``axis_deg`` (P, QRS, T), ``st_mv`` (lead, point), ``amplitudes_mv``, of a paced rhythm
            ``paced_chamber``, and the requested parameters.
        beat_class: (beats,) normal, premature_supraventricular, premature_ventricular or paced.
        extra_p: (n,) peaks of P waves that no QRS follows, samples.
        clean: (12, samples) the signal without noise, mV.
    """

    record: EcgRecord
    marks: dict[str, np.ndarray]
    global_marks: dict[str, np.ndarray]
    diagnoses: tuple[str, ...]
    parameters: dict[str, Any]
    beat_class: np.ndarray
    extra_p: np.ndarray
    clean: np.ndarray


def simulate(
    diagnosis: str | Sequence[str] = "sinus", seed: int = 0, fs: float = 500, seconds: float = 10, **parameters: Any
) -> SimulatedEcg:
    """One 12-lead ECG with a known diagnosis.

    Args:
        diagnosis: A name of :data:`DIAGNOSES`, or several that go together (``("rbbb", "lafb")``).
        seed: The patient; equal arguments give equal bytes.
        fs: Sampling rate, Hz.
        seconds: Duration, s.
        **parameters: Fixed values instead of drawn ones: ``heart_rate`` (bpm; the atrial rate in second-degree block),
            ``pr_ms p_ms qrs_ms qt_ms qtc_ms``, ``axis_deg p_axis_deg t_axis_deg``, ``p_mv qrs_mv t_mv`` (frontal
            vectors), ``chest chest_t`` (precordial factors), ``transition``, ``territory`` and ``st_mv`` or ``q_mv``,
            ``every`` (beats per ectopic or dropped beat), ``ratio`` (flutter waves per QRS), ``escape`` (junctional or
            ventricular), ``chamber`` (of pacing: ventricle, atrium, atrium and ventricle), ``snr_db`` (None is clean),
            ``wander_mv``, ``mains_hz``, ``age``, ``sex`` (M or F).

    Raises:
        DataError: An unknown diagnosis or parameter, a value that no beat can have, two rhythms at once, or a duration
            too short for a beat.
    """
    codes = _codes(diagnosis)
    values, extra = _values(codes, seed, parameters)
    rng = np.random.default_rng([seed, 1])
    heart = _heart(codes, values, extra)
    territory = extra.get("territory") or ("anterior" if "t_inversion" in codes else "inferior")
    if territory not in TERRITORIES:
        raise DataError(f"expected a territory of {', '.join(TERRITORIES)}, got {territory!r}")
    if fs <= 0 or seconds < 1.5:
        raise DataError(f"expected fs above 0 Hz and at least 1.5 s, got {fs} Hz and {seconds} s")
    beats = build(codes, heart, territory)
    pace = _pace(heart, values, extra, seconds)
    schedule = place(RHYTHMS[_rhythm(codes)](pace, rng), pace, rng)
    samples = round(fs * seconds)
    eight = _signal(schedule, beats, samples, fs, rng)
    clean = limb_leads(eight.astype(np.float32))
    snr_db = extra.get("snr_db")
    if snr_db is not None:
        wander = extra.get("wander_mv", 0.06)
        eight = eight + recording_noise(eight, fs, snr_db, wander, extra.get("mains_hz", 50), rng)
    signal = clean if snr_db is None else limb_leads(eight.astype(np.float32))
    meta = {"format": "simulated", "age": values["age"], "sex": values["sex"]}
    known = truth.tabulate(schedule, beats, samples, fs)
    facts = known.parameters | {"seed": seed, "snr_db": snr_db, "territory": territory, **meta}
    return SimulatedEcg(
        record=EcgRecord(signal, fs, LEADS, meta),
        marks=known.marks,
        global_marks=known.global_marks,
        diagnoses=truth.diagnoses(codes, known.parameters, values["age"], values["sex"], territory),
        parameters={f.name: getattr(heart, f.name) for f in fields(heart)} | facts,
        beat_class=known.beat_class,
        extra_p=known.extra_p,
        clean=clean,
    )


def simulate_cohort(
    count: int,
    seed: int = 0,
    diagnoses: Sequence[str | Sequence[str]] = ("sinus",),
    fs: float = 500,
    seconds: float = 10,
    **parameters: Any,
) -> Iterator[SimulatedEcg]:
    """A balanced cohort: patient ``i`` has diagnosis ``i % len(diagnoses)`` and a seed that no other cohort shares.

    Args:
        count: Number of patients, below 1,000,000.
        seed: The cohort; two cohorts with different seeds have no patient in common.
        diagnoses: What to cycle through.
        fs: Hz.
        seconds: Duration of each, s.
        **parameters: As in :func:`simulate`, for everybody.
    """
    for i in range(count):
        yield simulate(diagnoses[i % len(diagnoses)], seed * 1_000_000 + i, fs, seconds, **parameters)


def _codes(diagnosis: str | Sequence[str]) -> frozenset[str]:
    """The diagnoses as a set of known codes with one rhythm at most."""
    names = [diagnosis] if isinstance(diagnosis, str) else list(diagnosis)
    names = ["sinus" if name == "sinus_rhythm" else name for name in names]
    unknown = [name for name in names if name not in DIAGNOSES]
    if unknown:
        raise DataError(f"expected diagnoses among {', '.join(DIAGNOSES)}, got {', '.join(map(repr, unknown))}")
    rhythms = [name for name in names if name in RHYTHMS and name != "sinus"]
    if len(rhythms) > 1:
        raise DataError(f"expected at most one rhythm, got {' and '.join(rhythms)}; simulate them one at a time")
    return frozenset(names)


def _rhythm(codes: frozenset[str]) -> str:
    return next((code for code in codes if code in RHYTHMS and code != "sinus"), "sinus")


def _values(codes: frozenset[str], seed: int, parameters: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Drawn or given values of this patient, and the other options."""
    unknown = [name for name in parameters if name not in _HEALTHY and name not in _OTHERS]
    if unknown:
        raise DataError(f"expected parameters among {', '.join((*_HEALTHY, *_OTHERS))}, got {', '.join(unknown)}")
    rng = np.random.default_rng([seed, 0])
    drawn = rng.uniform(size=len(_HEALTHY))  # one draw a name, so that a patient stays the same across diagnoses
    values: dict[str, Any] = {}
    for name, u in zip(_HEALTHY, drawn):
        low, high = _HEALTHY[name]
        for code in sorted(codes):
            if code == "paced_rhythm" and parameters.get("chamber") == "atrium":
                continue  # the ventricles are activated as in anybody
            if name == "axis_deg" and code not in ("lafb", "lpfb") and codes & {"lafb", "lpfb"}:
                continue  # a hemiblock is defined by its axis
            low, high = _RANGES.get(code, {}).get(name, (low, high))
        values[name] = low + u * (high - low)
    values["age"] = parameters.get("age", int(rng.integers(19, 92)))
    values["sex"] = parameters.get("sex", "MF"[int(rng.integers(2))])
    extra = {name: value for name, value in parameters.items() if name in _OTHERS and value is not None}
    values |= {name: value for name, value in parameters.items() if name in _HEALTHY}
    _check_given(parameters, values)
    return values, extra


def _check_given(given: dict[str, Any], values: dict[str, Any]) -> None:
    """Refuse what would have to be changed to be drawn."""
    for name, (low, high) in _POSSIBLE.items():
        low = max(low, values["qrs_ms"] + 60) if name == "qt_ms" else low  # room for a T wave
        high = min(high, values["pr_ms"] - 6) if name == "p_ms" else high
        if given.get(name) is not None and not low <= given[name] <= high:
            raise DataError(f"expected {name} from {low:g} to {high:g}, got {given[name]:g}; choose one in between")


def _heart(codes: frozenset[str], values: dict[str, Any], extra: dict[str, Any]) -> Heart:
    """Intervals that fit each other and the rate."""
    rr = 60.0 / values["heart_rate"]
    # a wide QRS lengthens the QT by a part of its widening, unless a short QTc was requested
    widened = 0.3 * max(0.0, values["qrs_ms"] - 100) if "short_qtc" not in codes else 0.0
    # between the exponents of Fridericia (1/3) and Bazett (1/2), so that neither formula is favoured
    qt = extra.get("qt_ms", (values["qtc_ms"] + widened) * rr**0.42)
    # 6 ms of PQ segment remain in which the isoelectric level can be read
    p_ms = min(values["p_ms"], values["pr_ms"] - 6)
    # T takes some 44 % of the QT, within the 95 to 210 ms of healthy hearts
    wave = np.clip(0.44 * qt, 95, 210)
    # T follows the QRS axis part of the way: the angle between them stays below 60 degrees
    t_axis = extra.get("t_axis_deg", values["axis_deg"] * 0.6 + 14 + values["t_turn_deg"])
    return Heart(
        **{f.name: float(values[f.name]) for f in fields(Heart) if f.name in values and f.name != "p_ms"},
        p_ms=float(p_ms),
        qt_ms=float(qt),
        t_ms=float(min(wave, qt - values["qrs_ms"] - 15)),
        t_axis_deg=float(t_axis),
    )


def _pace(heart: Heart, values: dict[str, Any], extra: dict[str, Any], seconds: float) -> Pace:
    """The schedule's needs, in seconds."""
    rr = 60.0 / heart.heart_rate
    chamber = extra.get("chamber", "ventricle")
    if chamber not in CHAMBERS.values():
        raise DataError(f"expected a chamber of {', '.join(CHAMBERS.values())}, got {chamber!r}")
    # typical flutter runs at about 300 per minute; 1:1 conduction is not simulated
    ratio = extra.get("ratio") or max(2, round(300 / heart.heart_rate))
    return Pace(
        rr=rr,
        pr=heart.pr_ms / 1000,
        p=heart.p_ms / 1000,
        qrs=heart.qrs_ms / 1000,
        qt=heart.qt_ms / 1000,
        seconds=seconds,
        every=round(values["every"]),
        ratio=ratio,
        escape=extra.get("escape", "junctional"),
        chamber=chamber,
    )


def _signal(
    schedule: Schedule, beats: dict[str, Beat], samples: int, fs: float, rng: np.random.Generator
) -> np.ndarray:
    """The eight independent leads (8, samples) without noise, mV."""
    total = np.zeros((8, samples))
    # amplitudes vary by 2 % with breathing (about 13 a minute)
    breath = 1 + 0.02 * np.sin(2 * np.pi * 0.22 * schedule.qrs + rng.uniform(0, 6))  # (n,)
    for kind in np.unique(schedule.kind):
        beat, here = beats[str(kind)], schedule.kind == kind
        onsets, gains = schedule.qrs[here], breath[here]
        for waves in (beat.qrs, beat.st, beat.t, beat.spike):
            total += draw(waves, onsets, gains, samples, fs)
        p = schedule.p[here]
        for waves in (beat.p, beat.p_spike):
            total += draw(waves, p[~np.isnan(p)], gains[~np.isnan(p)], samples, fs)
    total += draw(beats["normal"].p, schedule.extra_p, np.ones(len(schedule.extra_p)), samples, fs)
    if schedule.atria is not None:
        total += _atrial_waves(schedule, samples, fs, rng)
    return total


def _atrial_waves(schedule: Schedule, samples: int, fs: float, rng: np.random.Generator) -> np.ndarray:
    """Fibrillatory or flutter waves (8, samples), mV."""
    t = np.arange(samples) / fs
    if schedule.atria == "flutter":
        cycle = (t - schedule.qrs[0]) * schedule.atrial_rate / 60 + rng.uniform()
        # two harmonics make the sawtooth: slow descent, steep rise
        saw = -(np.sin(2 * np.pi * cycle) + 0.4 * np.sin(4 * np.pi * cycle)) / 1.2
        # negative in the inferior leads, small and positive in V1: counter-clockwise typical flutter
        return np.outer(weights(rng.uniform(0.14, 0.2), -92.0, (0.12, 0.06, 0.02, 0.02, 0.02, 0.02)), saw)
    total = np.zeros((8, samples))
    for _ in range(3):
        # 300 to 480 per minute, the frequency itself wandering a few times a second
        rate, turn = rng.uniform(5.0, 8.0), rng.uniform(0.25, 0.6)
        phase = 2 * np.pi * (rate * t + rng.uniform()) + 1.5 * np.sin(2 * np.pi * turn * t)
        # f waves of 12 to 26 µV in the limb leads
        spread = weights(rng.uniform(0.012, 0.026), rng.uniform(40, 100), rng.uniform(0.3, 1, 6) * 0.02)
        # largest in V1, over the right atrium
        spread[2] = rng.uniform(0.03, 0.055)
        total += np.outer(spread, np.sin(phase))
    return total
