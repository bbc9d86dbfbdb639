"""The values of an ECG that follow from its marks: rate, intervals, axis, presence of P, ST level and T amplitude."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gem_lightning.ecg.record import LEADS

#: Names of the values, in the order of every table of them. ``p``, ``af`` and ``pvc`` are 0 or 1; the axis is a point
#: on the unit circle; ``st_*`` and ``t_*`` are mV.
QUANTITIES: tuple[str, ...] = (
    *("rate_bpm", "pr_ms", "qrs_ms", "qt_ms", "axis_sin", "axis_cos", "p", "af", "pvc"),
    *(f"st_{lead}" for lead in LEADS),
    *(f"t_{lead}" for lead in LEADS),
)
_BASE_S = 0.016  # the level before the QRS complex: shorter than any PQ segment
_ST_S = (0.04, 0.06)  # after the J point: past the end of the QRS complex, before the T wave rises; ours
_T_FROM_S = 0.08  # T is looked for after the ST point
_SHORTEST_T_S = 0.08  # of the stretch from J to T end; what is shorter holds no T wave


def true_values(
    signal: np.ndarray,
    marks: dict[str, np.ndarray],
    beat_class: Sequence[str] | np.ndarray,
    fs: float,
    af: bool | None,
    pvc: bool | None = None,
) -> np.ndarray:
    """Return the values (33,) of :data:`QUANTITIES`, medians over the beats that are not premature; NaN where unknown.

    Args:
        signal: (12, samples) mV in standard order, NaN as 0.
        marks: Per name of MARKS, (beats,) samples, over all leads together.
        beat_class: (beats,).
        fs: Hz.
        af: Atrial fibrillation; None where unknown.
        pvc: Ventricular premature beats; None takes the classes' word.
    """
    out = np.full(len(QUANTITIES), np.nan)
    classes = np.asarray(beat_class, object)
    counted = counted_beats(classes)
    found = intervals(marks, classes, fs)
    has_p = bool(found["p_share"] >= 0.5) and not af
    out[:4] = found["rate_bpm"], found["pr_ms"] if has_p else np.nan, found["qrs_ms"], found["qt_ms"]
    out[6] = float(has_p)
    out[7] = np.nan if af is None else float(af)
    out[8] = float("premature_ventricular" in classes.tolist()) if pvc is None else float(pvc)
    out[4:6], out[9:21], out[21:33] = _amplitudes(signal, marks, np.flatnonzero(counted), fs)
    return out


def counted_beats(beat_class: np.ndarray) -> np.ndarray:
    """Return which beats (beats,) count for medians: those that are not premature or paced; all where none is left."""
    counted = np.array([str(kind) in ("normal", "unknown") for kind in beat_class], bool)
    return counted if counted.any() else np.ones(len(beat_class), bool)


def intervals(marks: dict[str, np.ndarray], beat_class: np.ndarray, fs: float) -> dict[str, float]:
    """Return ``rate_bpm pr_ms qrs_ms qt_ms`` (NaN where unknown) and ``p_share``, the share of beats with a P wave.

    Args:
        marks: Per name of MARKS, (beats,) samples, over all leads together.
        beat_class: (beats,).
        fs: Hz.
    """
    counted = counted_beats(beat_class)
    peaks = marks["R"][np.isfinite(marks["R"])]
    out = dict.fromkeys(("rate_bpm", "pr_ms", "qrs_ms", "qt_ms"), np.nan)
    if len(peaks) > 1:
        out["rate_bpm"] = float(60 * fs * (len(peaks) - 1) / (peaks[-1] - peaks[0]))
    ends = (("pr_ms", "P_on", "QRS_on"), ("qrs_ms", "QRS_on", "QRS_off"), ("qt_ms", "QRS_on", "T_off"))
    for name, onset, offset in ends:
        length = (marks[offset] - marks[onset])[counted] * 1000 / fs
        length = length[np.isfinite(length) & (length > 0)]
        if len(length):
            out[name] = float(np.median(length))
    out["p_share"] = float(np.isfinite(marks["P_on"][counted]).mean()) if len(beat_class) else 0.0
    return out


def _amplitudes(
    signal: np.ndarray, marks: dict[str, np.ndarray], beats: np.ndarray, fs: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return axis (2,) as sine and cosine, ST level (12,) and T amplitude (12,), mV: medians over beats."""
    areas, levels, peaks = [], [], []
    ends = np.stack([marks[name][beats] for name in ("QRS_on", "QRS_off", "T_off")], axis=1)
    for onset, offset, t_off in ends:
        if not np.isfinite([onset, offset]).all() or onset < _BASE_S * fs:
            continue
        a, j = round(onset), round(offset)
        if j + _ST_S[1] * fs + 1 > signal.shape[1]:
            continue
        base = signal[:, a - round(_BASE_S * fs) : a + 1].mean(1)
        areas.append((signal[:, a : j + 1] - base[:, None]).sum(1))
        levels.append(signal[:, j + round(_ST_S[0] * fs) : j + round(_ST_S[1] * fs) + 1].mean(1) - base)
        if np.isfinite(t_off) and t_off < signal.shape[1] and t_off - j > _SHORTEST_T_S * fs:
            wave = signal[:, j + round(_T_FROM_S * fs) : round(t_off) + 1] - base[:, None]
            if wave.shape[1]:
                peaks.append(wave[np.arange(12), np.abs(wave).argmax(1)])
    unknown = np.full(12, np.nan)
    axis = np.full(2, np.nan)
    if areas:
        area = np.median(areas, axis=0)
        x, y = area[0], 2 / np.sqrt(3) * area[5]  # I points along 0°, aVF along 90° and is 2/√3 shorter than a lead
        axis = np.array([y, x]) / (np.hypot(x, y) + 1e-9)
    return axis, np.median(levels, axis=0) if levels else unknown, np.median(peaks, axis=0) if peaks else unknown
