"""Records whose leads are known for a part of the time each, as on paper: delineated by stretches, then joined."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Protocol

import numpy as np

from gem_lightning.ecg.excerpts import WHOLE, stretches
from gem_lightning.ecg.record import EcgRecord
from gem_lightning.features.delineation.beats import rr_change
from gem_lightning.features.delineation.filters import PAD, views
from gem_lightning.features.delineation.given import same_beats
from gem_lightning.features.delineation.p_wave import UNEVEN_RR
from gem_lightning.features.delineation.qrs import beat_energy, find_beats
from gem_lightning.features.schema import MARKS, Delineation

_P = MARKS[:3]


class Delineate(Protocol):
    """Delineates a record without long gaps; ``known`` are its beats, samples."""

    def __call__(self, record: EcgRecord, known: np.ndarray | None = None, /) -> Delineation:
        """Return its marks."""
        ...


def delineate_excerpts(record: EcgRecord, delineate: Delineate) -> Delineation:
    """Delineate each stretch with its own leads and join their beats.

    Leads that are known throughout (a rhythm strip) give the beats and their classes; a stretch adds the marks of its
    leads to them. Without a rhythm strip whatever leads are known give the beats, P waves are taken for such in an even
    rhythm alone, and blocked ones are not looked for: two or three beats show neither.

    Args:
        record: A record for which :func:`is_in_excerpts` holds.
        delineate: Delineates one stretch.
    """
    rows = np.flatnonzero(np.isfinite(record.signal).mean(1) >= WHOLE)
    base = _part(record, (0, record.samples, rows), delineate, None) if len(rows) else None
    reason = None if base is None else base.reason
    if reason := reason or _doubted(record, delineate):
        return replace(_base(record, np.zeros(0), []), reason=reason)
    beats = _beats_of_all(record) if base is None else base.global_marks["R"]
    parts = [_part(record, stretch, delineate, beats) for stretch in stretches(record)]
    parts = [part for part in parts if part.beats]
    base = base or _base(record, beats, parts)
    for part in parts:
        _add(base, part)
    atrial = [part.atrial_mv for part in parts if np.isfinite(part.atrial_mv)]
    noise = [part.noise_mv for part in parts if np.isfinite(part.noise_mv)]
    return replace(
        base,
        trust=np.maximum.reduce([base.trust, *(part.trust for part in parts)]),
        atrial_mv=base.atrial_mv if np.isfinite(base.atrial_mv) or not atrial else float(np.median(atrial)),
        stimuli=np.sort(np.concatenate([part.stimuli for part in (base, *parts)])),
        noise_mv=base.noise_mv if np.isfinite(base.noise_mv) or not noise else float(np.median(noise)),
    )


def _doubted(record: EcgRecord, delineate: Delineate) -> str | None:
    """Return why most stretches show no heart beats when each is looked at alone; None where they do."""
    alone = [_part(record, stretch, delineate, None) for stretch in stretches(record)]
    reasons = [part.reason for part in alone if not part.beats]
    return reasons[0] or "no QRS complex was found" if len(reasons) > len(alone) / 2 else None


def _part(
    record: EcgRecord, stretch: tuple[int, int, np.ndarray], delineate: Delineate, beats: np.ndarray | None
) -> Delineation:
    """Delineate some leads over a stretch; marks are samples of the record, rows all of its leads."""
    start, stop, rows = stretch
    leads = tuple(record.leads[i] for i in rows)
    inside = None if beats is None else beats[(beats > start) & (beats < stop - 1)] - start
    found = delineate(EcgRecord(record.signal[rows, start:stop], record.fs, leads, record.meta), inside)
    marks = {name: np.full((len(record.leads), found.beats), np.nan) for name in MARKS}
    for name in MARKS:
        marks[name][rows] = found.marks[name] + start
    trust = np.zeros(len(record.leads))
    trust[rows] = found.trust
    return replace(
        found,
        marks=marks,
        global_marks={name: column + start for name, column in found.global_marks.items()},
        trust=trust,
        leads=record.leads,
        extra_p=found.extra_p + start,
        stimuli=found.stimuli + start,
    )


def _beats_of_all(record: EcgRecord) -> np.ndarray:
    """Return beats, samples, from the slopes of whatever leads are known at a time."""
    view = views(record)
    trusted = np.isfinite(record.signal).any(1) & (np.ptp(view.clean, axis=1) > 0)
    found = find_beats(view, trusted, beat_energy(view, trusted)) if trusted.any() else np.zeros(0)
    return (found - PAD) / view.scale


def _base(record: EcgRecord, beats: np.ndarray, parts: list[Delineation]) -> Delineation:
    """The beats of a record without a rhythm strip, with the classes and marks that the stretches give them."""
    beat_class = np.full(len(beats), "normal", dtype=object)
    whole = {name: np.full(len(beats), np.nan) for name in MARKS} | {"R": beats}
    for part in parts:
        for k, nearest in _shared(beats, part, record.fs):
            beat_class[nearest] = part.beat_class[k]
            for name in MARKS:
                whole[name][nearest] = part.global_marks[name][k]
    if rr_change(whole["R"], beat_class == "normal") > UNEVEN_RR:
        whole |= {name: np.full(len(beats), np.nan) for name in _P}
    return Delineation(
        marks={name: np.full((len(record.leads), len(beats)), np.nan) for name in MARKS},
        global_marks=whole,
        beat_class=beat_class,
        trust=np.zeros(len(record.leads)),
        fs=record.fs,
        leads=record.leads,
        reason=None if parts else "no QRS complex was found in what is known of the leads",
        flutter=sum(part.flutter for part in parts) > len(parts) / 2,
    )


def _shared(times: np.ndarray, part: Delineation, fs: float) -> Iterator[tuple[int, int]]:
    """Return pairs of a stretch's beat and the beat at that time, where there is one."""
    partners = same_beats(part.global_marks["R"], times, fs)
    return ((k, int(nearest)) for k, nearest in enumerate(partners) if nearest >= 0)


def _add(base: Delineation, part: Delineation) -> None:
    """Write a stretch's marks into the beats that it shares with the whole record."""
    for k, nearest in _shared(base.global_marks["R"].copy(), part, base.fs):
        without_p = not np.isfinite(base.global_marks["P"][nearest])
        for name in MARKS:
            if name in _P and without_p:  # the whole rhythm says so
                continue
            column = part.marks[name][:, k]
            shown = np.isfinite(column)
            base.marks[name][shown, nearest] = column[shown]
            if np.isfinite(part.global_marks[name][k]):  # more leads see more of a wave than a rhythm strip alone
                base.global_marks[name][nearest] = part.global_marks[name][k]
