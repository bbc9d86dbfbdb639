"""When atria and ventricles beat in each rhythm."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

_LEAD_IN_S = 3.0  # beats before the record starts, so that its first seconds are like the rest

#: Chambers that a pacemaker may stimulate, by the kind of beat that follows.
CHAMBERS: dict[str, str] = {"paced": "ventricle", "paced_atrium": "atrium", "paced_both": "atrium and ventricle"}


@dataclass(frozen=True)
class Schedule:
    """Times of one recording, s from its start.

    Attributes:
        qrs: (n,) QRS onsets.
        kind: (n,) kind of beat: normal, pac, pvc, escape, or of :data:`CHAMBERS`.
        p: (n,) onset of the P that each QRS follows, NaN where there is none.
        extra_p: (m,) onsets of P waves that no QRS follows.
        atrial_rate: Of the atria, per minute, or None where it is the heart rate.
        atria: ``fibrillation``, ``flutter`` or None.
    """

    qrs: np.ndarray
    kind: np.ndarray
    p: np.ndarray
    extra_p: np.ndarray = field(default_factory=lambda: np.zeros(0))
    atrial_rate: float | None = None
    atria: str | None = None


@dataclass(frozen=True)
class Pace:
    """Parameters of a rhythm: seconds throughout, ``every`` counts beats, ``ratio`` atrial beats per QRS;
    ``chamber`` is that of pacing, of :data:`CHAMBERS`."""

    rr: float
    pr: float
    p: float
    qrs: float
    qt: float
    seconds: float
    every: int
    ratio: int
    escape: str
    chamber: str


def sinus(pace: Pace, rng: np.random.Generator) -> Schedule:
    """Regular, but for a little respiratory variation."""
    # 1.2 % each at random and with breathing: RR stays regular by every criterion
    return _conducted(_sinus_times(pace, rng, 0.012, 0.012), pace.pr)


def sinus_arrhythmia(pace: Pace, rng: np.random.Generator) -> Schedule:
    """The sinus rate follows breathing: longest and shortest RR differ by well over 160 ms."""
    # large enough for an RR range of 160 ms at any rate
    return _conducted(_sinus_times(pace, rng, 0.01, max(0.14, 0.11 / pace.rr)), pace.pr)


def atrial_fibrillation(pace: Pace, rng: np.random.Generator) -> Schedule:
    """No P; RR without any order."""
    # the AV node's refractory time: no QRS before the T wave of the last one has ended
    shortest = max(0.34, min(pace.qt + 0.06, 0.8 * pace.rr))
    count = _count(pace)
    # skewed to the right, as RR intervals of fibrillation are
    rr = shortest + rng.gamma(1.6, (pace.rr - shortest) / 1.6, count)
    # the requested mean rate holds exactly
    rr *= pace.rr / rr.mean()
    qrs = np.cumsum(rr) - _LEAD_IN_S
    return Schedule(qrs, np.full(count, "normal"), np.full(count, np.nan), atria="fibrillation")


def atrial_flutter(pace: Pace, rng: np.random.Generator) -> Schedule:
    """Sawtooth atria; each ``ratio``-th wave is conducted."""
    count = _count(pace)
    qrs = np.arange(count) * pace.rr - _LEAD_IN_S
    rate = 60.0 * pace.ratio / pace.rr
    return Schedule(qrs, np.full(count, "normal"), np.full(count, np.nan), atrial_rate=rate, atria="flutter")


def av_block_2_mobitz_1(pace: Pace, rng: np.random.Generator) -> Schedule:
    """PR grows by ever smaller steps until a P is not conducted."""
    p = _sinus_times(pace, rng, 0.006, 0.0)
    place = np.arange(len(p)) % pace.every
    growth = 0.09 * (1 - 0.5**place) / 0.5  # 0, 90, 135, 157 ms longer than the first
    # the last P of each group is dropped
    conducted = place < pace.every - 1
    return _dropped(p, conducted, pace.pr + growth, pace)


def av_block_2_mobitz_2(pace: Pace, rng: np.random.Generator) -> Schedule:
    """PR constant; each ``every``-th P is not conducted."""
    p = _sinus_times(pace, rng, 0.006, 0.0)
    conducted = np.arange(len(p)) % pace.every < pace.every - 1
    return _dropped(p, conducted, np.full(len(p), pace.pr), pace)


def av_block_3(pace: Pace, rng: np.random.Generator) -> Schedule:
    """Atria at their own rate, ventricles at a slow regular escape."""
    # a sinus rate that no escape rhythm can be mistaken for
    atrial = rng.uniform(68, 98)
    p = _sinus_times(replace(pace, rr=60.0 / atrial), rng, 0.008, 0.008)
    count = _count(pace)
    qrs = np.arange(count) * pace.rr * 1.0 + rng.uniform(0, 0.3) - _LEAD_IN_S
    kind = np.full(count, "escape" if pace.escape == "ventricular" else "normal")
    return Schedule(qrs, kind, np.full(count, np.nan), p, atrial_rate=atrial)


def paced_rhythm(pace: Pace, rng: np.random.Generator) -> Schedule:
    """Pacing, exactly regular; a P precedes each QRS where the atrium is paced."""
    qrs = np.arange(_count(pace)) * pace.rr - _LEAD_IN_S
    kind = next(name for name, chamber in CHAMBERS.items() if chamber == pace.chamber)
    p = np.full(len(qrs), np.nan) if kind == "paced" else qrs - pace.pr
    return Schedule(qrs, np.full(len(qrs), kind), p)


def pvc(pace: Pace, rng: np.random.Generator) -> Schedule:
    """Each ``every``-th beat is an early ventricular beat; the sinus node continues, so the pause compensates."""
    base = sinus(pace, rng)
    early = np.arange(len(base.qrs)) % pace.every == pace.every - 1
    # the first beat has no predecessor to be early against
    early[0] = False
    # a ventricular beat comes after the T wave, at a bit over half of the RR interval
    coupling = max(rng.uniform(0.54, 0.62) * pace.rr, pace.qt + 0.03)
    qrs = np.where(early, np.roll(base.qrs, 1) + coupling, base.qrs)
    return replace(base, qrs=qrs, kind=np.where(early, "pvc", "normal"), p=np.where(early, np.nan, base.p))


def pac(pace: Pace, rng: np.random.Generator) -> Schedule:
    """Each ``every``-th beat is an early atrial beat and resets the sinus."""
    base = _sinus_times(pace, rng, 0.012, 0.008)
    early = np.arange(len(base)) % pace.every == pace.every - 1
    early[0] = False
    rr = np.diff(base, prepend=base[0] - pace.rr)
    # an atrial beat needs time to conduct: later than a ventricular one
    coupling = max(rng.uniform(0.62, 0.7) * pace.rr, pace.qt + 0.02)
    # the pause after it is a little longer than RR (the sinus node is reset, not skipped)
    rr = np.where(early, coupling, rr) + np.where(np.roll(early, 1), 0.04 * pace.rr, 0.0)
    p = base[0] + np.cumsum(rr) - rr[0]
    return replace(_conducted(p, pace.pr), kind=np.where(early, "pac", "normal"))


RHYTHMS: dict[str, Callable[[Pace, np.random.Generator], Schedule]] = {
    "sinus": sinus,
    "sinus_arrhythmia": sinus_arrhythmia,
    "atrial_fibrillation": atrial_fibrillation,
    "atrial_flutter": atrial_flutter,
    "av_block_2_mobitz_1": av_block_2_mobitz_1,
    "av_block_2_mobitz_2": av_block_2_mobitz_2,
    "av_block_3": av_block_3,
    "paced_rhythm": paced_rhythm,
    "pac": pac,
    "pvc": pvc,
    "bigeminy": pvc,
}


def place(schedule: Schedule, pace: Pace, rng: np.random.Generator) -> Schedule:
    """Shift all times so that no QRS is cut by the start or the end of the record."""
    offset = rng.uniform(0, pace.rr)
    # wide enough for an ectopic beat among narrow ones
    width = max(pace.qrs, 0.16)
    # moved on in 20 ms steps until no complex touches an end; 3 s are longer than any RR
    for step in np.arange(0.0, 3.0, 0.02):
        onset = schedule.qrs + offset + step
        # 60 ms before and 40 ms after a QRS also stay inside, so that its edges can be marked
        cut = [(onset - 0.06 < edge) & (edge < onset + width + 0.04) for edge in (0.0, pace.seconds)]
        if not np.any(cut):
            break
    shift = offset + step
    return replace(schedule, qrs=onset, p=schedule.p + shift, extra_p=schedule.extra_p + shift)


def _count(pace: Pace) -> int:
    """Enough beats for the record and a margin on both sides."""
    # 1.3 and 8 beats in reserve: jitter and pauses shorten what a count of beats covers
    return int((pace.seconds + 2 * _LEAD_IN_S + 2 * pace.rr) / pace.rr * 1.3) + 8


def _sinus_times(pace: Pace, rng: np.random.Generator, jitter: float, breathing: float) -> np.ndarray:
    """Onsets of sinus P waves (n,), s: RR varies at random and with breathing, both as shares of RR."""
    count = _count(pace)
    rr = np.full(count, pace.rr) * (1 + jitter * rng.standard_normal(count).clip(-2, 2))
    # 11 to 15 breaths a minute, at any phase
    breath = 2 * np.pi * (rng.uniform(0.18, 0.25) * np.arange(count) * pace.rr + rng.uniform())
    return np.cumsum(rr * (1 + breathing * np.sin(breath))) - _LEAD_IN_S - pace.pr


def _conducted(p: np.ndarray, pr: float) -> Schedule:
    """Every P is followed by a QRS after ``pr`` s."""
    return Schedule(p + pr, np.full(len(p), "normal"), p)


def _dropped(p: np.ndarray, conducted: np.ndarray, pr: np.ndarray, pace: Pace) -> Schedule:
    """Only the conducted P waves are followed by a QRS."""
    qrs = (p + pr)[conducted]
    return Schedule(qrs, np.full(len(qrs), "normal"), p[conducted], p[~conducted], atrial_rate=60.0 / pace.rr)
