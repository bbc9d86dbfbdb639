"""Technical quality of a recording: whether it can be measured, and its faults (no diagnoses).

The limits are engineering choices, in physical units and listed here as constants; ``docs/ecg.md`` lists how often they
fire on real recordings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from gem_lightning.ecg.excerpts import is_like_paper
from gem_lightning.ecg.leads import LIMB_FROM_I_II
from gem_lightning.ecg.record import LEADS, EcgRecord

FLAT_MV = 0.01
"""Spread (0.5th to 99.5th percentile, less wander) below which a lead shows no heart."""
NOISE_CARE_MV, NOISE_LOST_MV = 0.04, 0.15
"""Root mean square above about 25 Hz between the QRS complexes."""
MAINS_CARE_MV = 0.03
"""Amplitude of the 50 or 60 Hz component over that of its neighbours."""
WANDER_CARE_MV = 1.0
"""Range of the baseline (averaged over 1 s)."""
SATURATED_SHARE = 0.01
"""Share of samples that stand still at the largest or smallest value."""
COARSE_MV = 0.02
"""Step between two values of the signal above which small waves are a few steps high; recorders have 0.001 to 0.01."""
# any unknown sample is worth knowing; with half of a lead gone nothing of it can be trusted
MISSING_CARE, MISSING_LOST = 0.0, 0.5
# below 5 s a slow rhythm has too few beats to judge; below 2 s there may be none
SHORT_CARE_S, SHORT_LOST_S = 5.0, 2.0
SLOW_HZ = 125
"""Rate at which all but noise and mains is looked at."""
SCALE_MV = 50.0
"""Usual range of a lead above which microvolts were declared as mV: tall QRS complexes reach some 10 mV."""
INCONSISTENT_SHARE = 0.1
"""Root mean square of III - (II - I) over that of the limb leads."""
DOUBTFUL_TRUST = 0.5
"""Trust of a lead off paper below which it is named as doubtful: the digitiser counts nothing below as sure (ours)."""
PARTLY_KNOWN = 0.2
"""Share of the 12 leads' samples that are unknown above which a model's text is not relied on: it reads zeros there.
50 simulated ECGs, ``gem_small``: 0.16, 0.18, 0.34 and 1.22 contradicted statements a text with 0, 8, 25 and 69 %
unknown, and urgency denied in 9 texts of the last. Ours."""


@dataclass(frozen=True)
class LeadQuality:
    """One lead.

    Attributes:
        verdict: ``usable``, ``care`` or ``unusable``.
        reasons: Names of faults: missing, flat, saturated, noise, mains, wander, coarse.
        noise_mv, mains_mv, wander_mv, step_mv: As the constants of this module define them.
        missing: Share of unknown samples.
        trust: 1 for usable, 0.5 for care, 0 for unusable.
    """

    verdict: str
    reasons: tuple[str, ...]
    noise_mv: float
    mains_mv: float
    wander_mv: float
    missing: float
    step_mv: float = 0.0

    @property
    def trust(self) -> float:
        """Weight of the lead, 0 to 1."""
        return {"usable": 1.0, "care": 0.5}.get(self.verdict, 0.0)


@dataclass(frozen=True)
class Quality:
    """A recording's technical quality.

    Attributes:
        verdict: ``usable``; ``care``: read it knowing the reasons; ``unusable``: do not read it.
        reasons: One sentence each, beginning with the fault's name and a colon.
        leads: By lead name.
    """

    verdict: str
    reasons: tuple[str, ...]
    leads: dict[str, LeadQuality]

    @property
    def refused(self) -> str | None:
        """Why the recording must not be interpreted; None where it may be."""
        if self.verdict != "unusable":
            return None
        return f"This recording cannot be read reliably and is not interpreted: {'; '.join(self.reasons)}."


def quality(record: EcgRecord) -> Quality:
    """Judge a recording.

    Args:
        record: Any leads and rate, mV; NaN where unknown. A lead of a digitised page is judged on the excerpt that the
            page shows.
    """
    if "paper" in record.meta or is_like_paper(record):
        return _page_quality(record)
    signal, fs = record.signal, record.fs
    missing = np.mean(~np.isfinite(signal), axis=1)  # (leads,)
    x = np.where(np.isfinite(signal), signal, 0.0) if missing.any() else signal
    short = record.seconds < SHORT_LOST_S
    if short or not len(signal):
        text = f"short: {record.seconds:.1f} s of signal; at least {SHORT_LOST_S:g} s are needed"
        return Quality("unusable", (text,), {name: _lost(share) for name, share in zip(record.leads, missing)})
    step = max(1, round(fs / SLOW_HZ))
    some = x[:, ::step]
    wander = _moving_average(some, round(fs / step))
    level = some - wander
    noise, mains, spread, saturated = _noise(x, fs, step), _mains(x, fs), _spread(level), _saturation(x)
    ranges, steps = np.ptp(wander, axis=1), _value_step(some)
    leads = {}
    for i, name in enumerate(record.leads):
        leads[name] = _judge_lead(missing[i], spread[i], saturated[i], noise[i], mains[i], float(ranges[i]), steps[i])
    reasons = [f"scale: {slip}"] if (slip := scale_slip(spread)) else []
    reasons += _lead_reasons(leads)
    if record.seconds < SHORT_CARE_S:
        reasons.append(f"short: {record.seconds:.1f} s of signal")
    if set(LEADS) <= set(record.leads):
        usable = all(leads[name].verdict != "unusable" for name in LEADS)
        reasons += _limb_reasons(level[[record.leads.index(name) for name in LEADS]], fs / step, usable)
    return Quality(_verdict(leads, reasons), tuple(reasons), leads)


def partly_known(record: EcgRecord) -> str | None:
    """Why a record is known in part only: it is off paper, or much of the 12 leads is missing; None for a whole one."""
    known = sum(float(np.mean(np.isfinite(record.lead(name)))) for name in LEADS if name in record.leads)
    missing = 1 - known / len(LEADS)
    if "paper" in record.meta:
        return f"digitised from paper, {1 - missing:.0%} of the 12 leads shown"
    return f"{missing:.0%} of the 12 leads missing" if missing > PARTLY_KNOWN else None


def _page_quality(record: EcgRecord) -> Quality:
    """Judge each lead of a digitised page from its first to its last sample on the page."""
    leads = {}
    for name, row in zip(record.leads, record.signal):
        shown = np.flatnonzero(np.isfinite(row))
        if len(shown):
            excerpt = EcgRecord(row[None, shown[0] : shown[-1] + 1], record.fs, (name,))
            leads[name] = quality(excerpt).leads[name]
        else:
            leads[name] = _lost(1.0)
    reasons = _lead_reasons(leads)
    trust = record.meta.get("paper", {}).get("trust", {})
    if doubtful := [name for name in record.leads if 0 < trust.get(name, 1.0) < DOUBTFUL_TRUST]:
        reasons.append(f"paper: traces hard to follow in {', '.join(doubtful)}")
    return Quality(_verdict(leads, reasons), tuple(reasons), leads)


def _verdict(leads: dict[str, LeadQuality], reasons: Sequence[str]) -> str:
    """``unusable`` with half of the leads lost, ``care`` for any reason."""
    lost = sum(lead.verdict == "unusable" for lead in leads.values())
    return "unusable" if 2 * lost >= len(leads) else "care" if reasons else "usable"


def scale_slip(spread: np.ndarray) -> str | None:
    """Describe a likely slip of 1000 between microvolts and mV.

    Args:
        spread: (leads,) range of each lead without its largest and smallest 0.5 %, mV.
    """
    usual = float(np.median(spread))
    if usual <= SCALE_MV:
        return None
    return f"a lead usually spans {usual:.0f} mV: probably microvolts declared as mV, 1000 times too large"


def _lost(missing: float) -> LeadQuality:
    return LeadQuality("unusable", ("short",), float("nan"), float("nan"), float("nan"), float(missing))


def _judge_lead(
    missing: float, spread: float, saturated: float, noise: float, mains: float, wander: float, step: float
) -> LeadQuality:
    """Collect the faults of one lead and its verdict."""
    faults = {
        "missing": (missing > MISSING_CARE, missing > MISSING_LOST),
        "flat": (spread < FLAT_MV, spread < FLAT_MV),
        "saturated": (saturated > SATURATED_SHARE, saturated > 20 * SATURATED_SHARE),
        "noise": (noise > NOISE_CARE_MV, noise > NOISE_LOST_MV),
        "mains": (mains > MAINS_CARE_MV, mains > 20 * MAINS_CARE_MV),
        "wander": (wander > WANDER_CARE_MV, wander > 10 * WANDER_CARE_MV),
        "coarse": (step > COARSE_MV, False),
    }
    reasons = tuple(name for name, (care, _) in faults.items() if care)
    lost = any(lost for _, lost in faults.values())
    verdict = "unusable" if lost else "care" if reasons else "usable"
    return LeadQuality(verdict, reasons, float(noise), float(mains), float(wander), float(missing), float(step))


def _lead_reasons(leads: dict[str, LeadQuality]) -> list[str]:
    """One sentence per fault with the leads that have it."""
    descriptions = {
        "missing": lambda q: f"{q.missing:.0%} unknown",
        "flat": lambda q: "no signal",
        "saturated": lambda q: "stands at its limit",
        "noise": lambda q: f"{q.noise_mv:.2f} mV",
        "mains": lambda q: f"{q.mains_mv:.2f} mV of 50 or 60 Hz",
        "wander": lambda q: f"{q.wander_mv:.1f} mV",
        "coarse": lambda q: f"steps of {q.step_mv:.3f} mV",
    }
    found = []
    for fault, describe in descriptions.items():
        there = [f"{name} ({describe(lead)})" for name, lead in leads.items() if fault in lead.reasons]
        if there:
            found.append(f"{fault}: {', '.join(there)}")
    return found


def _moving_average(x: np.ndarray, width: int) -> np.ndarray:
    """Centred mean over ``width`` (made odd) samples (leads, samples); shorter at the edges."""
    samples = x.shape[1]
    half = min(max(0, width // 2), (samples - 1) // 2)
    total = np.zeros((len(x), samples + 1))
    np.cumsum(x, axis=1, out=total[:, 1:])
    out = np.empty(x.shape, dtype=np.float32)
    np.subtract(total[:, 2 * half + 1 :], total[:, : samples - 2 * half], out=out[:, half : samples - half])
    out[:, half : samples - half] *= 1 / (2 * half + 1)
    ends = np.arange(half)
    out[:, :half] = total[:, ends + half + 1] / (ends + half + 1)
    out[:, samples - half :] = (total[:, [-1]] - total[:, samples - 2 * half + ends]) / (2 * half - ends)
    return out


def _noise(x: np.ndarray, fs: float, step: int) -> np.ndarray:
    """Root mean square (leads,) of what a 20 ms average leaves, from the median, which ignores the QRS complexes."""
    # 20 ms: shorter than the narrowest wave, longer than a cycle of muscle noise
    half = min(max(1, round(0.02 * fs) // 2), (x.shape[1] - 1) // 2)
    stop = x.shape[1] - 2 * half
    around = sum(x[:, i : i + stop : step] for i in range(2 * half + 1))
    fast = np.abs(x[:, half : half + stop : step] - around / np.float32(2 * half + 1))
    middle = fast.shape[1] // 2
    # 0.6745: the median of the absolute values of normal noise, in standard deviations
    return np.partition(fast, middle, axis=1)[:, middle] / 0.6745


def _value_step(x: np.ndarray) -> np.ndarray:
    """Smallest distance (leads,) between two different values of a lead, mV; 0 where it has one value only."""
    gaps = np.diff(np.sort(x, axis=1), axis=1)
    # values that differ by rounding of single precision are the same
    smallest = np.where(gaps > 1e-5, gaps, np.inf).min(axis=1, initial=np.inf)
    return np.where(np.isfinite(smallest), smallest, 0.0)


def _spread(level: np.ndarray) -> np.ndarray:
    """Distance (leads,) between nearly the smallest and nearly the largest value."""
    last = level.shape[1] - 1
    # the outermost half per cent is artefact more often than signal
    low, high = round(0.005 * last), round(0.995 * last)
    ordered = np.partition(level, (low, high), axis=1)
    return ordered[:, high] - ordered[:, low]


def _saturation(x: np.ndarray) -> np.ndarray:
    """Share (leads,) of samples in runs of 4 or more at the largest or smallest value, if that is not the baseline."""
    still = np.zeros(x.shape, dtype=bool)
    middle = x[:, x.shape[1] // 2]
    for limits in (x.max(axis=1), x.min(axis=1)):
        # a lead that rests at its extreme is flat, not saturated: the extreme has to lie away from the baseline
        far = (np.abs(limits - middle) > 0.2) | (np.abs(limits) > 1.0)
        still |= x == np.where(far, limits, np.nan)[:, None]
    # four in a row: two or three equal extremes occur in clean quantised signals
    runs = still[:, :-3] & still[:, 1:-2] & still[:, 2:-1] & still[:, 3:]
    return np.minimum(4 * runs.mean(axis=1), 1.0)


@lru_cache(maxsize=8)
def _tones(samples: int, fs: float) -> tuple[np.ndarray, tuple[int, ...]]:
    """Windowed sines and cosines (samples, 2 · frequencies) at and next to 50 and 60 Hz, and the mains frequencies."""
    # above 0.45 of the rate a tone folds back
    mains = tuple(f for f in (50, 60) if f < 0.45 * fs)
    # compared with the neighbours 3 Hz away, so that QRS energy does not count as mains
    frequencies = np.array([f + d for f in mains for d in (-3.0, 0.0, 3.0)])
    turns = np.outer(np.arange(samples) / fs, frequencies) * 2 * np.pi
    window = np.hanning(samples)[:, None] * 2 / max(np.hanning(samples).sum(), 1.0)
    return np.concatenate([np.cos(turns) * window, np.sin(turns) * window], axis=1).astype(np.float32), mains


def _mains(x: np.ndarray, fs: float) -> np.ndarray:
    """Amplitude (leads,) at 50 or 60 Hz above that 3 Hz away, mV."""
    tones, mains = _tones(x.shape[1], fs)
    if not mains:
        return np.zeros(len(x))
    parts = (x - x.mean(axis=1, keepdims=True)).astype(np.float32) @ tones
    half = parts.shape[1] // 2
    amplitude = np.hypot(parts[:, :half], parts[:, half:]).reshape(len(x), len(mains), 3)
    return np.maximum(amplitude[:, :, 1] - np.maximum(amplitude[:, :, 0], amplitude[:, :, 2]), 0).max(axis=1)


def _limb_reasons(level: np.ndarray, fs: float, usable: bool) -> list[str]:
    """Limb leads that contradict each other, or electrodes that appear exchanged; ``level`` (12, samples), mV."""
    size = float(np.sqrt(np.mean(np.square(level[:6])))) + 1e-9
    expected = LIMB_FROM_I_II @ level[:2]
    # relative to all six: a lead that is nearly flat may be off by its own size
    error = np.sqrt(np.mean(np.square(level[:6] - expected), axis=1)) / size
    if error.max() > INCONSISTENT_SHARE:
        return [f"inconsistent: {_misfit(level, expected, size)}"]
    if not usable:
        return []
    swap = swapped_electrodes(level, fs)
    return [f"swapped: the electrodes {swap} appear exchanged"] if swap else []


def _misfit(level: np.ndarray, expected: np.ndarray, size: float) -> str:
    """Which labels would make the limb leads fit, if any."""
    for a, b in ((4, 5), (3, 4), (3, 5)):
        exchanged = level[:6].copy()
        exchanged[[a, b]] = exchanged[[b, a]]
        if np.sqrt(np.mean(np.square(exchanged - expected))) < 0.5 * INCONSISTENT_SHARE * size:
            return f"the leads {LEADS[a]} and {LEADS[b]} have each other's names"
    off = np.sqrt(np.mean(np.square(level[:6] - expected), axis=1)) / size
    worst = [LEADS[i] for i in np.flatnonzero(off > INCONSISTENT_SHARE)]
    return f"{', '.join(worst)} do not follow from I and II; lead names, order or single gains are wrong"


def swapped_electrodes(level: np.ndarray, fs: float) -> str | None:
    """Arm (LA-RA) or right arm and leg (RA-LL) electrodes exchanged, or None.

    Both the QRS complexes and what lies between them (P, T) have to point against V5 and V6; either alone also occurs
    with axis deviation or inferior infarction. An LA-LL exchange cannot be recognised without earlier recordings.

    Args:
        level: The standard leads (12, samples), mV, without wander.
        fs: Hz.
    """
    step = max(1, round(fs / SLOW_HZ))
    x = level[:, ::step]
    speed = np.abs(np.diff(x, axis=1, prepend=x[:, :1])).sum(axis=0)
    speed = _moving_average(speed[None], round(0.1 * fs / step))[0]  # 0.1 s: the length of a narrow QRS complex
    # 98th percentile, not the maximum: one spike must not hide the beats
    beats = speed > 0.35 * np.sort(speed)[round(0.98 * (len(speed) - 1))]
    rest = _moving_average(beats[None].astype(float), round(0.06 * fs / step))[0] == 0
    left = x[10] + x[11]

    def agrees(lead: np.ndarray) -> tuple[float, float]:
        return _likeness(lead[beats], left[beats]), _likeness(lead[rest], left[rest])

    found = []
    undone = {"LA-RA": (-x[0], x[2]), "RA-LL": (-x[2], -x[1])}  # I and II as they would be
    for lead, name in ((x[0], "LA-RA"), (x[1], "RA-LL")):
        complexes, between = agrees(lead)
        # a left lead that is itself negative (pacing, lateral infarction) is no evidence about the electrodes
        if complexes < -0.3 and between < -0.4 and _net(left[beats]) > 0 > _net(lead[beats]):
            found.append((sum(agrees(undone[name][0]) + agrees(undone[name][1])), name))
    return max(found)[1] if found else None


def _net(a: np.ndarray) -> float:
    """Whether deflections from the median are mostly upwards (above 0) or downwards: their third moment."""
    return float(np.mean((a - np.median(a)) ** 3)) if len(a) else 0.0


def _likeness(a: np.ndarray, b: np.ndarray) -> float:
    """Correlation of two stretches, 0 where there is too little."""
    if len(a) < 20:  # fewer points correlate by chance
        return 0.0
    a, b = a - a.mean(), b - b.mean()
    return float(a @ b / (np.sqrt((a @ a) * (b @ b)) + 1e-12))
