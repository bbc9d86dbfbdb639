"""What a recombined ECG is to be: donors, intervals, gains, lead mixing, and when its beats come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gem_lightning.ecg.recombination.fragments import Donor

# Ranges of resting ECGs, healthy and ill, wider than the donors' own so that no value is more likely than its
# neighbours: all ours. (low, high), (rarely low, rarely high)
_RATE_BPM = ((42.0, 130.0), (33.0, 165.0))
_PR_S = ((0.11, 0.24), (0.09, 0.34))
_QTC_S = (0.36, 0.47)
_QT_FREE_S = (0.29, 0.52)  # QT that does not follow the rate, so that a model measures it
_QRS_SCALE = ((0.78, 1.2), (0.75, 1.6))
_QRS_S = (0.066, 0.19)
_RARELY = 0.12  # how often a value comes from the wider range
_FREE_QT = 0.25  # how often QT does not follow the rate
_SAME_DONOR = 0.35  # how often P, QRS and T are one patient's: their usual combination
_NO_P = 0.04  # regular rhythm without P waves, so that a missing P wave alone is not fibrillation
_PVC, _PAC = 0.15, 0.07  # share of records with premature beats
_SHORTEST_RR_S = 0.3  # the refractory period: no beat comes sooner
_MIX, _MIX_P, _MIX_T = 0.12, 0.1, 0.15  # deviation of the lead mixing: another axis and another chest


@dataclass(frozen=True)
class Plan:
    """One ECG before it is put together; times in s, matrices (8, 8) over leads I, II, V1 to V6.

    Attributes:
        qrs_donor, p_donor, t_donor, rest_donor: Whose parts are used; ``p_donor`` None leaves P waves out.
        af: f waves of a fibrillating donor lie over everything.
        pr, qt, qrs: Intervals of normal beats.
        mix, mix_p, mix_t: Lead mixing of QRS, P and ST–T.
        p_gain, qrs_gain, t_gain, rest_gain: Factors of amplitude; ``t_gain`` (8, 1) carries signs.
        st_mv: (8, 1) offset of the ST segment.
        p_scale: Factor of the P wave's duration.
        onsets: (n,) QRS onsets, ascending, from before the start to after the end.
        kinds: (n,) normal, premature_supraventricular or premature_ventricular.
    """

    qrs_donor: Donor
    p_donor: Donor | None
    t_donor: Donor
    rest_donor: Donor
    af: bool
    pr: float
    qt: float
    qrs: float
    mix: np.ndarray
    mix_p: np.ndarray
    mix_t: np.ndarray
    p_gain: float
    qrs_gain: float
    t_gain: np.ndarray
    rest_gain: float
    st_mv: np.ndarray
    p_scale: float
    onsets: np.ndarray
    kinds: np.ndarray


@dataclass(frozen=True)
class Pool:
    """Donors by what they can give."""

    beats: Sequence[Donor]
    p: Sequence[Donor]
    quiet: Sequence[Donor]
    fibrillating: Sequence[Donor]
    ectopic: Sequence[Donor]


def draw(pool: Pool, rng: np.random.Generator, fs: float, seconds: float, af_share: float) -> Plan:
    """Draw an ECG."""
    af = bool(len(pool.fibrillating)) and rng.uniform() < af_share
    rr = 60 / _range(rng, *_RATE_BPM)
    qrs_donor = _one(pool.beats, rng)
    same = rng.uniform() < _SAME_DONOR
    t_donor = qrs_donor if same else _one(pool.beats, rng)
    p_donor = qrs_donor if same and qrs_donor.p else _one(pool.p, rng)
    rest = _one(pool.fibrillating if af else pool.quiet, rng)
    typical = float(np.median([beat.qrs.shape[1] for beat in qrs_donor.beats])) / fs
    qrs = float(np.clip(typical * _range(rng, *_QRS_SCALE), *_QRS_S))
    free = rng.uniform() < _FREE_QT
    qt = rng.uniform(*_QT_FREE_S) if free else rng.uniform(*_QTC_S) * np.sqrt(rr) + 0.3 * max(0.0, qrs - 0.1)
    qt = max(min(qt, rr - 0.08), qrs + 0.1)  # 80 ms of rest remain, and 100 ms of ST and T
    pr = min(_range(rng, *_PR_S), max(0.09, rr - qt + 0.03))  # P may begin in the last 30 ms of T
    onsets, kinds = _schedule(rng, rr, seconds, af)
    mix = _mixing(rng, _MIX)
    flips = np.where(rng.uniform(size=(8, 1)) < 0.12, -1.0, 1.0) * (-1.0 if rng.uniform() < 0.12 else 1.0)
    return Plan(
        qrs_donor=qrs_donor,
        p_donor=None if af or rng.uniform() < _NO_P else p_donor,
        t_donor=t_donor,
        rest_donor=rest,
        af=af,
        pr=float(pr),
        qt=float(qt),
        qrs=qrs,
        mix=mix,
        mix_p=mix @ _mixing(rng, _MIX_P),
        mix_t=mix @ _mixing(rng, _MIX_T),
        p_gain=float(np.exp(rng.normal(0, 0.35))),
        qrs_gain=float(np.exp(rng.normal(0, 0.3))),
        t_gain=flips * np.exp(rng.normal(0, 0.4)),
        rest_gain=float(np.exp(rng.normal(0, 0.3))),
        st_mv=rng.normal(0, 0.06, (8, 1)) * (rng.uniform() < 0.3),
        p_scale=float(rng.uniform(0.85, 1.2)),
        onsets=onsets,
        kinds=kinds,
    )


def _schedule(rng: np.random.Generator, rr: float, seconds: float, af: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return QRS onsets (n,), s, and kinds (n,) of beats from before the start to after the end."""
    # fibrillation's RR varies by a tenth to a quarter, sinus rhythm's by breathing
    spread = rng.uniform(0.1, 0.28) if af else rng.uniform(0, 0.03) if rng.uniform() < 0.8 else rng.uniform(0.03, 0.12)
    ectopic = rng.uniform() < _PVC
    early = not af and rng.uniform() < _PAC
    onsets: list[float] = []
    kinds: list[str] = []
    at = -rng.uniform(0, 1) * rr
    while at < seconds + rr:
        kind, draw_kind = "normal", rng.uniform()
        if onsets and ectopic and draw_kind < 0.2 and kinds[-1] == "normal":
            kind = "premature_ventricular"
        elif onsets and early and draw_kind > 0.8 and kinds[-1] == "normal":
            kind = "premature_supraventricular"
        # a premature beat comes 20 to 40 % early; after a ventricular one the pause makes up for it
        shift = rr * rng.uniform(0.2, 0.4) if kind != "normal" else 0.0
        onsets.append(max(at - shift, onsets[-1] + _SHORTEST_RR_S) if onsets else at)
        kinds.append(kind)
        step = rr * max(0.45, 1 + spread * float(rng.normal()))
        at += step if kind != "premature_supraventricular" else step - shift / 2
    return np.array(onsets), np.array(kinds, object)


def _range(rng: np.random.Generator, usual: tuple[float, float], rare: tuple[float, float]) -> float:
    return float(rng.uniform(*(rare if rng.uniform() < _RARELY else usual)))


def _mixing(rng: np.random.Generator, size: float) -> np.ndarray:
    return np.eye(8) + size * rng.normal(size=(8, 8))


def _one(donors: Sequence[Donor], rng: np.random.Generator) -> Donor:
    return donors[int(rng.integers(len(donors)))]
