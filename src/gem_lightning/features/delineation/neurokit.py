"""neurokit2's wavelet delineation, lead by lead, as an alternative to the library's own: for comparison."""

from __future__ import annotations

import warnings

import numpy as np

from gem_lightning.ecg.record import EcgRecord
from gem_lightning.errors import explain_import
from gem_lightning.features.delineation.arrays import nanmedian
from gem_lightning.features.delineation.filters import fill_gaps
from gem_lightning.features.delineation.order import in_order
from gem_lightning.features.schema import MARKS, Delineation

_NAMES = {
    "P_on": "ECG_P_Onsets", "P": "ECG_P_Peaks", "P_off": "ECG_P_Offsets", "QRS_on": "ECG_R_Onsets",
    "QRS_off": "ECG_R_Offsets", "T_on": "ECG_T_Onsets", "T": "ECG_T_Peaks", "T_off": "ECG_T_Offsets",
}  # fmt: skip
_NEAR_S = 0.12  # R peaks of two leads closer than this are one beat


def delineate_neurokit(record: EcgRecord, method: str = "dwt") -> Delineation:
    """Delineate every lead by itself with ``neurokit2.ecg_delineate`` and align the beats of the leads.

    Args:
        record: The record.
        method: ``dwt``, ``cwt``, ``peak`` or ``prominence``.

    Returns:
        Marks in samples; a lead that neurokit2 refuses has none and trust 0.
    """
    rate = round(record.fs)
    rows = [_one_lead(row, rate, method) for row in fill_gaps(record.signal)]
    beats = _common_beats([row["R"] for row in rows], _NEAR_S * rate, max(1, len(rows) // 2))
    marks = {name: np.full((len(rows), len(beats)), np.nan) for name in MARKS}
    for i, row in enumerate(rows):
        for k, peak in enumerate(row["R"]):
            near = np.abs(beats - peak)
            if len(beats) and near.min() <= _NEAR_S * rate:
                for name in MARKS:
                    marks[name][i, near.argmin()] = row[name][k]
    marks = in_order(marks)
    return Delineation(
        marks=marks,
        global_marks=in_order({name: nanmedian(marks[name]) for name in MARKS}),
        beat_class=np.full(len(beats), "normal", dtype=object),
        trust=np.isfinite(marks["R"]).any(1).astype(float),
        fs=record.fs,
        leads=record.leads,
        reason=None if len(beats) else "neurokit2 found no beat",
    )


def _one_lead(signal: np.ndarray, rate: int, method: str) -> dict[str, np.ndarray]:
    """Return marks of one lead, (beats,) each."""
    try:
        import neurokit2 as nk
    except ImportError as error:
        raise explain_import(error) from error
    nothing = {name: np.zeros(0) for name in MARKS}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            clean = nk.ecg_clean(signal.astype(float), sampling_rate=rate)
            peaks = nk.ecg_peaks(clean, sampling_rate=rate)[1]["ECG_R_Peaks"]
            found = nk.ecg_delineate(clean, peaks, sampling_rate=rate, method=method)[1]
        except (ValueError, IndexError, KeyError, TypeError, ZeroDivisionError):
            return nothing  # what neurokit2 raises on signals without beats, by version
    out = {"R": np.asarray(peaks, float)}
    for name, key in _NAMES.items():
        values = np.asarray(found.get(key, []), float)
        out[name] = values if len(values) == len(peaks) else np.full(len(peaks), np.nan)
    return out


def _common_beats(peaks: list[np.ndarray], near: float, votes: int) -> np.ndarray:
    """Return beats (n,) that at least ``votes`` leads have."""
    every = np.sort(np.concatenate(peaks)) if peaks else np.zeros(0)
    if not len(every):
        return every
    groups = np.split(every, np.flatnonzero(np.diff(every) > near) + 1)
    return np.array([np.median(g) for g in groups if len(g) >= votes])
