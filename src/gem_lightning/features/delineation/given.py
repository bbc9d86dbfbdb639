"""Marks that are known for the whole heart, from experts or a network, as a delineation of every lead."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gem_lightning.ecg.record import EcgRecord
from gem_lightning.features.delineation.filters import fill_gaps
from gem_lightning.features.delineation.order import in_order
from gem_lightning.features.schema import MARKS, Delineation

_SAME_BEAT_S = 0.15  # R peaks of two delineations closer than this are one beat, as in LUDB's scoring
_WAVES = (MARKS[:3], MARKS[3:6], MARKS[6:])


def with_marks(
    base: Delineation, record: EcgRecord, marks: dict[str, np.ndarray], beat_class: np.ndarray | None = None
) -> Delineation:
    """Return ``base`` with other marks: onsets and offsets in all leads alike, peaks where each lead deviates most.

    Trust, noise, atrial activity and, where no classes are given, the kinds of beats are those of ``base``, the native
    delineation of the same record.

    Args:
        base: Of ``record``.
        record: The record.
        marks: Per name of MARKS (beats,) samples of the record, over all leads together; NaN where absent.
        beat_class: (beats,); None takes the class of the nearest beat of ``base``, ``normal`` where there is none.
    """
    if not len(marks["R"]):
        return base
    signal = fill_gaps(record.signal)
    trusted = base.trust > 0
    leads = {name: np.where(trusted[:, None], marks[name], np.nan) for name in MARKS}
    for onset, peak, offset in _WAVES:
        leads[peak] = np.where(trusted[:, None], _peaks(signal, marks[onset], marks[offset]), np.nan)
    whole = dict(marks) | {
        "R": np.nan_to_num(np.nanmedian(np.where(np.isfinite(leads["R"]), leads["R"], marks["R"]), 0))
    }
    return replace(
        base,
        marks=in_order(leads),
        global_marks=in_order(whole),
        beat_class=_classes(base, marks["R"], record.fs) if beat_class is None else np.asarray(beat_class, object),
        reason=None,
    )


def _peaks(signal: np.ndarray, onsets: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """(leads, beats) samples where each lead is farthest from the line between a wave's ends; NaN without a wave."""
    out = np.full((len(signal), len(onsets)), np.nan)
    for beat, (on, off) in enumerate(zip(onsets, offsets)):
        if np.isfinite(on) and np.isfinite(off) and off - on >= 2:
            a, b = round(on), round(off)
            wave = signal[:, max(a, 0) : b + 1]
            if wave.shape[1] > 2:
                chord = np.linspace(wave[:, 0], wave[:, -1], wave.shape[1], axis=1)
                out[:, beat] = max(a, 0) + np.abs(wave - chord).argmax(1)
    return out


def same_beats(peaks: np.ndarray, others: np.ndarray, fs: float) -> np.ndarray:
    """Return for each R peak (beats,) the index of the same beat among ``others`` (n,), -1 where there is none."""
    if not len(others):
        return np.full(len(peaks), -1)
    apart = np.nan_to_num(np.abs(peaks[:, None] - others), nan=np.inf)  # (beats, n)
    nearest = apart.argmin(1)
    return np.where(apart[np.arange(len(peaks)), nearest] <= _SAME_BEAT_S * fs, nearest, -1)


def _classes(base: Delineation, peaks: np.ndarray, fs: float) -> np.ndarray:
    partner = same_beats(peaks, base.global_marks["R"], fs)
    kinds = np.full(len(peaks), "normal", object)
    kinds[partner >= 0] = base.beat_class[partner[partner >= 0]]
    return kinds
