"""Records with marks of their waves, by experts or by a delineator, fused over leads."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gem_lightning.ecg.record import EcgRecord
from gem_lightning.ecg.simulation.truth import MARKS
from gem_lightning.errors import DataError

WAVES = {"P": MARKS[:3], "QRS": MARKS[3:6], "T": MARKS[6:]}
_SYMBOLS = {"p": "P", "N": "QRS", "t": "T"}  # WFDB annotation codes
# Where a wave of a beat is looked for, ms from its R peak: the longest PR and QT that a resting ECG shows, with room.
_NEAR_MS = {"P": (-500.0, -20.0), "QRS": (-120.0, 120.0), "T": (40.0, 700.0)}
_BEAT_GAP_MS = 200.0  # R peaks of one beat differ less between leads, two beats lie further apart
_FEWEST_LEADS = 4  # a wave that fewer leads show is not one of the whole heart's
_T_BEFORE_NEXT_MS = 80.0  # a T peak lies at least so long before the next R peak
_WIDER, _EARLIER = 1.35, 0.88  # a ventricular premature beat is so much wider and earlier than the record's median


@dataclass(frozen=True)
class MarkedRecord:
    """A recording and where its waves lie.

    Attributes:
        record: 12 leads in the order of :data:`gem_lightning.ecg.record.LEADS`, mV.
        marks: Per name of :data:`gem_lightning.ecg.simulation.truth.MARKS`, (beats,) samples of the record over all
            leads together; NaN where a wave is absent.
        beat_class: (beats,) normal, premature_supraventricular, premature_ventricular, paced or unknown.
        patient: Name of the patient; records of one patient share it.
        af: Atrial fibrillation; None where it is not known.
        pvc: There are ventricular premature beats; None where it is not known.
        origin: Name of the database.
        licence: Licence of the recording.
        span: First and last sample between which every wave is marked; None is the whole record.
    """

    record: EcgRecord
    marks: dict[str, np.ndarray]
    beat_class: np.ndarray
    patient: str
    af: bool | None = None
    pvc: bool | None = None
    origin: str = "not stated"
    licence: str = "not stated"
    span: tuple[float, float] | None = None


def read_lead_marks(path: str | os.PathLike[str], extensions: Sequence[str]) -> list[dict[str, np.ndarray]]:
    """Read WFDB annotation files of single leads, ``(`` onset, ``p N t`` peak, ``)`` offset, as LUDB has them.

    Args:
        path: The record without an ending.
        extensions: Of the annotation files, one a lead.

    Returns:
        Per lead, per wave ``P QRS T`` an array (waves, 3) of onset, peak and offset, samples; NaN where unmarked.
    """
    import wfdb

    leads = []
    for extension in extensions:
        note = wfdb.rdann(os.fspath(path), extension)
        found: dict[str, list[tuple[float, float, float]]] = {wave: [] for wave in WAVES}
        last = len(note.symbol) - 1
        for k, symbol in enumerate(note.symbol):
            if symbol in _SYMBOLS:
                onset = note.sample[k - 1] if k and note.symbol[k - 1] == "(" else np.nan
                offset = note.sample[k + 1] if k < last and note.symbol[k + 1] == ")" else np.nan
                found[_SYMBOLS[symbol]].append((onset, note.sample[k], offset))
        leads.append({wave: np.array(rows, float).reshape(-1, 3) for wave, rows in found.items()})
    return leads


def fuse_leads(leads: Sequence[dict[str, np.ndarray]], fs: float) -> dict[str, np.ndarray]:
    """Return the marks of whole beats: second-earliest onset, second-latest offset, and the median peak, over leads.

    The very first and last over twelve leads is one annotator's slip more often than a wave that one lead alone shows.

    Args:
        leads: Per lead, per wave (waves, 3), samples, as :func:`read_lead_marks` returns them.
        fs: Hz.

    Returns:
        Per name of MARKS (beats,) samples; beats are the QRS complexes that at least four leads show.

    Raises:
        DataError: There is no such beat.
    """
    peaks = np.sort(np.concatenate([lead["QRS"][:, 1] for lead in leads]))
    groups = np.split(peaks, np.flatnonzero(np.diff(peaks) > _BEAT_GAP_MS * fs / 1000) + 1)
    centres = np.array([np.median(group) for group in groups if len(group) >= _FEWEST_LEADS])
    if not len(centres):
        raise DataError(f"expected QRS complexes that {_FEWEST_LEADS} leads mark, got none")
    marks = {name: np.full(len(centres), np.nan) for name in MARKS}
    for beat, centre in enumerate(centres):
        before = centres[beat - 1] - centre if beat else -np.inf
        after = centres[beat + 1] - centre if beat + 1 < len(centres) else np.inf
        for wave, names in WAVES.items():
            rows = _rows_of(leads, wave, centre, before, after, fs)
            if rows is not None:
                for name, position in zip(names, rows):
                    marks[name][beat] = position
    return marks


def _rows_of(
    leads: Sequence[dict[str, np.ndarray]], wave: str, centre: float, before: float, after: float, fs: float
) -> tuple[float, float, float] | None:
    """Return onset, peak and offset of one wave of the beat at ``centre``; its neighbours lie at before and after."""
    low, high = (edge * fs / 1000 for edge in _NEAR_MS[wave])
    low = max(low, before + _BEAT_GAP_MS * fs / 1000)
    high = min(high, after - _T_BEFORE_NEXT_MS * fs / 1000)
    chosen = []
    for lead in leads:
        apart = lead[wave][:, 1] - centre
        near = np.flatnonzero((apart > low) & (apart < high))
        if len(near):  # the last P wave before the beat, else the wave next to it
            chosen.append(lead[wave][near[-1] if wave == "P" else near[np.abs(apart[near]).argmin()]])
    if len(chosen) < _FEWEST_LEADS:
        return None
    table = np.array(chosen)
    onset, offset = (np.sort(table[np.isfinite(table[:, k]), k]) for k in (0, 2))
    if min(len(onset), len(offset)) < 2:
        return None
    return float(onset[1]), float(np.median(table[:, 1])), float(offset[-2])


def wide_and_early(marks: dict[str, np.ndarray]) -> np.ndarray:
    """Classify beats (beats,) by width and prematurity alone, for expert marks that name no class."""
    width, rr = marks["QRS_off"] - marks["QRS_on"], np.diff(marks["R"], prepend=np.nan)
    if np.isfinite(rr).sum() < 2:
        return np.full(len(width), "normal", object)
    ectopic = (width > _WIDER * np.nanmedian(width)) & (rr < _EARLIER * np.nanmedian(rr))
    return np.where(ectopic, "premature_ventricular", "normal").astype(object)
