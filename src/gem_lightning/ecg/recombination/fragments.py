"""What one patient gives to recombined ECGs: P waves, QRS complexes, ST–T stretches and the rest between beats."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from gem_lightning.ecg.leads import in_standard_order
from gem_lightning.ecg.recombination.marked import MarkedRecord

INDEPENDENT = (0, 1, 6, 7, 8, 9, 10, 11)  # I, II, V1 to V6: the other limb leads follow from I and II
_HIGH_PASS_HZ = 0.5  # takes the baseline's wander away and leaves ST nearly as it is
_BASE_S = 0.008  # the level that a wave begins from
_SHORTEST_ST_S = 0.08  # from J to T end; a shorter stretch is a slip of the marks
_REST_GAP_S = 0.012  # kept from the waves on either side, where marks are uncertain
_SHORTEST_REST_S = 0.1  # a rest between beats that still shows its texture


@dataclass(frozen=True)
class Beat:
    """QRS complex and ST–T of one beat, over the level before it.

    Attributes:
        qrs: (8, n) from onset to offset, mV.
        st: (8, m) from QRS offset to T end, mV; its end lies on the level before the beat.
        t_on: Share of ``st`` before the T wave.
    """

    qrs: np.ndarray
    st: np.ndarray
    t_on: float


@dataclass(frozen=True)
class Donor:
    """One patient's parts, leads I, II, V1 to V6.

    Attributes:
        patient: Name.
        af: Atrial fibrillation: the rest holds f waves.
        p: P waves (8, n), mV, zero at both ends.
        beats: Beats of the main kind.
        ectopic: Ventricular premature beats.
        rest: What lies between T end and the next wave (8, n), mV, of mean 0.
    """

    patient: str
    af: bool
    p: tuple[np.ndarray, ...]
    beats: tuple[Beat, ...]
    ectopic: tuple[Beat, ...]
    rest: tuple[np.ndarray, ...]


def cut_all(records: Iterable[MarkedRecord], fs: float) -> list[Donor]:
    """Cut every record that holds at least one whole beat, resampled to ``fs`` Hz."""
    donors = (cut(marked, fs) for marked in records)
    return [donor for donor in donors if donor.beats]


def cut(marked: MarkedRecord, fs: float) -> Donor:
    """Cut one record at its marks."""
    eight, marks = _prepared(marked, fs)
    p: list[np.ndarray] = []
    rest: list[np.ndarray] = []
    beats: list[Beat] = []
    ectopic: list[Beat] = []
    ends = np.append(np.where(np.isfinite(marks["P_on"]), marks["P_on"], marks["QRS_on"])[1:], np.inf)
    for i, kind in enumerate(marked.beat_class):
        wave = _p_wave(eight, marks["P_on"][i], marks["P_off"][i])
        if wave is not None:
            p.append(wave)
        beat = _beat(eight, {name: column[i] for name, column in marks.items()}, fs)
        if beat is None:
            continue
        (ectopic if kind == "premature_ventricular" else beats).append(beat)
        start, end = marks["T_off"][i] + _REST_GAP_S * fs, ends[i] - _REST_GAP_S * fs
        if np.isfinite(end) and end - start > _SHORTEST_REST_S * fs:
            stretch = eight[:, round(start) : round(end)]
            rest.append(stretch - stretch.mean(1, keepdims=True))
    return Donor(marked.patient, bool(marked.af), tuple(p), tuple(beats), tuple(ectopic), tuple(rest))


def _prepared(marked: MarkedRecord, fs: float) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return the eight independent leads (8, samples) without wander at ``fs`` Hz, and the marks in its samples."""
    from scipy.signal import butter, resample_poly, sosfiltfilt

    record = marked.record
    signal = np.nan_to_num(in_standard_order(record.signal, record.leads)[list(INDEPENDENT)].astype(float))
    if record.fs != fs:
        signal = resample_poly(signal, round(fs * 2), round(record.fs * 2), axis=1)
    sections = butter(2, _HIGH_PASS_HZ, "high", fs=fs, output="sos")
    return sosfiltfilt(sections, signal, axis=1), {k: v * fs / record.fs for k, v in marked.marks.items()}


def _p_wave(eight: np.ndarray, onset: float, offset: float) -> np.ndarray | None:
    if not np.isfinite([onset, offset]).all() or round(onset) < 0 or offset - onset < 3:
        return None
    wave = eight[:, round(onset) : round(offset) + 1]
    return wave - np.linspace(wave[:, 0], wave[:, -1], wave.shape[1], axis=1)


def _beat(eight: np.ndarray, marks: dict[str, float], fs: float) -> Beat | None:
    edges = np.array([marks["QRS_on"], marks["QRS_off"], marks["T_off"]])
    base_samples = round(_BASE_S * fs)
    if not np.isfinite(edges).all():
        return None
    onset, j, end = np.rint(edges).astype(int)
    if onset < base_samples or end + base_samples >= eight.shape[1] or end - j < _SHORTEST_ST_S * fs or j <= onset:
        return None
    base = eight[:, onset - base_samples : onset + 1].mean(1, keepdims=True)
    st = eight[:, j : end + 1] - base
    last = eight[:, end - base_samples : end + base_samples].mean(1) - base[:, 0]
    st = st - np.linspace(np.zeros(8), last, st.shape[1], axis=1)
    # T begins about a third of the way where no mark says so
    t_on = (marks["T_on"] - j) / st.shape[1] if np.isfinite(marks["T_on"]) else 0.35
    return Beat(eight[:, onset : j + 1] - base, st, float(np.clip(t_on, 0, 0.9)))
