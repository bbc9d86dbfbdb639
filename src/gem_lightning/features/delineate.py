"""Delineation: onset, peak and offset of every wave of a 12-lead ECG."""

from __future__ import annotations

import numpy as np

from gem_lightning.ecg.excerpts import is_in_excerpts
from gem_lightning.ecg.record import EcgRecord
from gem_lightning.features.delineation.arrays import agree, median, nanmedian, quantile, rms, settle, share_true
from gem_lightning.features.delineation.atrial import Atria, activity, organised
from gem_lightning.features.delineation.average import average_edges
from gem_lightning.features.delineation.backends import delineator
from gem_lightning.features.delineation.beats import classify, doubt, likeness, rr_change
from gem_lightning.features.delineation.excerpts import delineate_excerpts
from gem_lightning.features.delineation.filters import PAD, RATE, Views, ms, views
from gem_lightning.features.delineation.order import in_order
from gem_lightning.features.delineation.p_wave import UNEVEN_RR, find_p
from gem_lightning.features.delineation.qrs import Qrs, beat_energy, find_beats, find_qrs
from gem_lightning.features.delineation.stimuli import by_chamber
from gem_lightning.features.delineation.t_wave import Wave, find_t
from gem_lightning.features.schema import MARKS, Delineation

MIN_SECONDS = 1.0
MIN_BEATS_FLUTTER = 5
MIN_BLOCKED, BLOCKED_SHARE = 2, 0.5  # so many early beats are followed by a P wave that is not conducted, in a block
FLUTTER_LEADS = ("II", "III", "aVF", "V1")  # where flutter waves show best
BEAT_LIMIT = ms(12)  # a lead's QRS and T marks stray no further from their usual distance to the beat ...
P_LIMIT, T_ON_LIMIT, T_OFF_LIMIT = ms(18), ms(32), ms(24)  # ... P and T marks from the median of all leads, P from both
P_NEAR = ms(8)  # P marks nearer than this to that median mostly differ by chance
# How many of twelve leads are left out at either end for the marks of the whole beat, between two of them as a
# quantile is; those of QRS differ most.
LEFT_OUT = {"P_on": 2, "P_off": 1, "QRS_on": 2, "QRS_off": 2, "T_on": 3, "T_off": 0.8}
P_EARLIER_MS = 2.0  # experts see the first P wave over leads begin that much earlier (LUDB, odd records)
WAVES = (MARKS[:3], MARKS[3:6], MARKS[6:])


def delineate(record: EcgRecord, backend: str = "native") -> Delineation:
    """Find onset, peak and offset of every P wave, QRS complex and T wave.

    Args:
        record: Any number of leads, 100-1000 Hz, 2.5-60 s; unknown samples are NaN. Leads that are known for a part of
            the time each, as on paper, count with the beats that they show.
        backend: ``native``; ``neurokit2`` (its discrete wavelet method, lead by lead); ``neural`` (the dense encoder
            inside ``gem_small``, or that of a folder, see :mod:`gem_lightning.models.encoder.dense_delineator`);
            ``ensemble`` (the mean of native and neural).

    Returns:
        Marks in samples of the record; no beats but a ``reason`` where no heart beat can be distinguished from noise.

    Raises:
        GemError: The backend is unknown, or its weights are missing.
    """
    if backend != "native":
        return delineator(backend)(record)
    return delineate_excerpts(record, _delineate) if is_in_excerpts(record) else _delineate(record)


def _delineate(record: EcgRecord, known: np.ndarray | None = None) -> Delineation:
    """Delineate leads that are known throughout; ``known`` are its beats, samples, where other leads show them."""
    if record.seconds < MIN_SECONDS:
        return empty(record, np.zeros(len(record.leads)), f"the record is too short: {record.seconds:.2f} s")
    view = views(record)
    trust = lead_trust(record, view)
    trusted = trust > 0
    if not trusted.any():
        return empty(record, trust, "no lead holds a usable signal (flat, unknown or out of range)")
    energy = beat_energy(view, trusted)
    beats = find_beats(view, trusted, energy) if known is None else (PAD + known * view.scale).round().astype(int)
    if not len(beats):
        return empty(record, trust, "no QRS complex was found")
    alike = likeness(view, trusted, beats)
    if known is None and (reason := doubt(view, trusted, beats, energy, alike)):
        return empty(record, trust, reason)
    qrs = find_qrs(view, trusted, beats)
    beat_class = classify(view, beats, qrs, alike)
    t = find_t(view, trusted, beats, qrs)
    led = np.isfinite(by_chamber(view.spikes[:, 0], qrs.on, qrs.off, RATE)[0])  # a P wave follows the atria's stimulus
    p, atria = find_p(view, trusted, beats, qrs, t.off, np.where(led, "normal", beat_class))
    beat_class = conducted(beats, beat_class, atria)
    if not atria.flutter and not len(atria.extra) and may_flutter(beats, beat_class, p):
        atria = Atria(atria.extra, flutters(record, view, trusted, beats, qrs, beat_class))
    p = p.absent() if atria.flutter else p
    marks = in_order(whole_waves(lead_marks(trusted, beat_class, p, qrs, t), view, record))
    edges = np.stack([to_record(edge, view, record) for edge in average_edges(view, trusted, beats, beat_class)])
    real = np.isfinite(marks["R"]).any(0)  # a beat that the record's end or its neighbour cuts off is none
    if not real.any():
        return empty(record, trust, "no QRS complex lies whole inside the record")
    marks = {name: column[:, real] for name, column in marks.items()}
    return Delineation(
        marks=marks,
        global_marks=in_order(global_marks(marks, edges[:, real], trusted, beat_class[real], record)),
        beat_class=beat_class[real],
        trust=trust,
        fs=record.fs,
        leads=record.leads,
        extra_p=np.zeros(0) if atria.flutter else to_record(atria.extra, view, record),
        flutter=atria.flutter,
        atrial_mv=activity(view, trusted, qrs, t.off),
        noise_mv=noise_mv(view, trusted),
        mains_hz=view.mains_hz,
        stimuli=to_record(view.spikes[:, 0], view, record),
    )


def conducted(beats: np.ndarray, beat_class: np.ndarray, atria: Atria) -> np.ndarray:
    """Return the classes (beats,) without early atrial beats, if a P wave without a QRS complex follows most of them.

    In a Wenckebach block of 3:2 every second beat appears early, because the next P wave is not conducted.
    """
    early = beat_class == "premature_supraventricular"
    blocked = early & np.isin(np.arange(len(beats)), np.searchsorted(beats, atria.extra) - 1)
    if np.count_nonzero(blocked) < max(MIN_BLOCKED, BLOCKED_SHARE * np.count_nonzero(early)):
        return beat_class
    return np.where(early, "normal", beat_class)


def may_flutter(beats: np.ndarray, beat_class: np.ndarray, p: Wave) -> bool:
    """Return whether no P waves were found, or what looks like them leads uneven beats, none of which is premature."""
    uneven = set(beat_class.tolist()) == {"normal"} and rr_change(beats, beat_class == "normal") > UNEVEN_RR
    return bool(uneven or not np.isfinite(p.peak).any())


def noise_mv(view: Views, trusted: np.ndarray) -> float:
    """Return the noise of trusted leads, mV (root mean square): what bends within 10 ms where the heart is at rest."""
    x = view.clean[trusted, PAD : PAD + view.samples]
    bend = np.abs(x[:, 10::3] - 2 * x[:, 5:-5:3] + x[:, :-10:3]) if view.samples > 10 else np.abs(x)
    return float(1.48 / np.sqrt(6) * rms(median(bend)))  # of white noise: 1.48 median to standard deviation, 1 + 4 + 1


def flutters(
    record: EcgRecord, view: Views, trusted: np.ndarray, beats: np.ndarray, qrs: Qrs, beat_class: np.ndarray
) -> bool:
    """Return whether the atria flutter in a record without P waves; a paced rhythm does not show it."""
    rows = np.array([i for i, name in enumerate(record.leads) if trusted[i] and name in FLUTTER_LEADS], int)
    enough = len(rows) and len(beats) >= MIN_BEATS_FLUTTER and "paced" not in beat_class
    return bool(enough and organised(view, rows, beats, qrs, beat_class != "premature_ventricular"))


def lead_marks(trusted: np.ndarray, beat_class: np.ndarray, p: Wave, qrs: Qrs, t: Wave) -> dict[str, np.ndarray]:
    """Draw marks (leads, beats) of trusted leads, working samples, that stand alone to their neighbours."""
    peak = np.where(trusted[:, None], qrs.peak, np.nan)
    anchor = nanmedian(peak)

    def steady(marks: np.ndarray, lead_limit: int, beat_limit: int = BEAT_LIMIT) -> np.ndarray:
        return settle(np.where(trusted[:, None], marks, np.nan), anchor, beat_class, beat_limit, lead_limit)

    p_on, p_off = (agree(steady(end, P_LIMIT, P_LIMIT), P_NEAR) for end in (p.on, p.off))
    return {
        "P_on": p_on, "P": p.peak, "P_off": p_off,
        "QRS_on": steady(qrs.lead_on, 0), "R": peak, "QRS_off": steady(qrs.lead_off, 0),
        "T_on": steady(t.on, T_ON_LIMIT), "T": t.peak, "T_off": steady(t.off, T_OFF_LIMIT),
    }  # fmt: skip


def whole_waves(marks: dict[str, np.ndarray], view: Views, record: EcgRecord) -> dict[str, np.ndarray]:
    """Return marks (leads, beats) as samples of the record, of waves only that lie in it whole."""
    marks = {name: to_record(marks[name], view, record) for name in MARKS}
    for wave in WAVES:
        whole = np.all([np.isfinite(marks[name]) for name in wave], axis=0)
        for name in wave:
            marks[name] = np.where(whole, marks[name], np.nan)
    return marks


def empty(record: EcgRecord, trust: np.ndarray, reason: str) -> Delineation:
    """Build a delineation without beats, with the reason."""
    leads = len(record.leads)
    return Delineation(
        marks={name: np.zeros((leads, 0)) for name in MARKS},
        global_marks={name: np.zeros(0) for name in MARKS},
        beat_class=np.zeros(0, dtype=object),
        trust=trust,
        fs=record.fs,
        leads=record.leads,
        reason=reason,
    )


def lead_trust(record: EcgRecord, view: Views) -> np.ndarray:
    """Return the trust in every lead (leads,).

    0 where a lead is mostly unknown, flat, clipped, out of range, or restless like noise while the others are not;
    else 1 less the share of its usual slope in its steepest slope.
    """
    signal = np.ascontiguousarray(record.signal[:, :: max(1, round(record.fs / 250))])
    known = np.isfinite(signal)
    filled = signal if known.all() else np.where(known, signal, 0)
    top, low, middle = filled.max(1), filled.min(1), median(filled[:, ::4])
    far = 0.2 * (top - low)
    clipped = np.where(top - middle > far, share_true(filled == top[:, None]), 0)
    clipped = np.maximum(clipped, np.where(middle - low > far, share_true(filled == low[:, None]), 0))
    swing = np.ptp(view.clean[:, PAD : PAD + view.samples : 2], axis=1)
    still = share_true(np.abs(filled[:, 1:] - filled[:, :-1]) < 1e-6)
    slope = np.abs(view.beat[:, PAD : PAD + view.samples : 4])
    restless = median(slope) / (quantile(slope, 0.98) + 1e-9)
    sound = (share_true(known) > 0.9) & (clipped < 0.04) & (swing > 0.05) & (swing < 60) & (still < 0.9)
    if sound.any():
        sound &= ~((restless > 0.24) & (restless > 2.5 * median(restless[sound])))
    return np.where(sound, np.clip(1 - restless, 0.05, 1), 0.0)


def to_record(marks: np.ndarray, view: Views, record: EcgRecord) -> np.ndarray:
    """Return padded working samples as samples of the record; NaN where they fall outside it."""
    samples = (marks - PAD) / view.scale
    return np.where((samples >= 0) & (samples <= record.samples - 1), samples, np.nan)


def global_marks(
    marks: dict[str, np.ndarray], edges: np.ndarray, trusted: np.ndarray, beat_class: np.ndarray, record: EcgRecord
) -> dict[str, np.ndarray]:
    """Return per beat an early onset, a late offset and the median peak over trusted leads.

    The very first onset and last offset over leads grow with the number of leads and with noise. So a lead counts with
    its usual distance from the peak over beats of one class, and those that lie outermost are left out
    (:data:`LEFT_OUT`); each beat then moves them by what its leads have in common. QRS onset and offset are the mean of
    that and of ``edges`` (2, beats): on the average beat noise widens less, on single leads more of the complex shows.
    """
    out = {}
    for onset, peak, offset in WAVES:
        out[peak] = nanmedian(marks[peak][trusted])
        for name in (onset, offset):
            apart = marks[name][trusted] - out[peak]
            out[name] = np.full(len(beat_class), np.nan)
            for kind in set(beat_class.tolist()):
                here = beat_class == kind
                usual = nanmedian(apart[:, here], axis=1)  # (leads,)
                known = usual[np.isfinite(usual)]
                if len(known):
                    outer = min(LEFT_OUT[name], len(known) // 2) / 11
                    edge = quantile(known, 1 - outer if name == offset else outer)
                    out[name][here] = out[peak][here] + edge + nanmedian(apart[:, here] - usual[:, None])
    for name, edge in zip(("QRS_on", "QRS_off"), edges):
        out[name] = np.where(np.isfinite(edge), (out[name] + edge) / 2, out[name])
    out["P_on"] = out["P_on"] - P_EARLIER_MS * record.fs / 1000
    return {name: np.clip(out[name], 0, record.samples - 1) for name in MARKS}
