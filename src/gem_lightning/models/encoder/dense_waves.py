"""Dense labels of an ECG, P, QRS and T in every 20 ms, made from marks and decoded into marks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gem_lightning.ecg.recombination.values import intervals, true_values
from gem_lightning.ecg.simulation.truth import MARKS

WAVES = ("P", "QRS", "T")  # rows of the dense labels
BIN_S = 0.02  # of one label
INTERVALS = ("rate_bpm", "pr_ms", "qrs_ms", "qt_ms", "p_share")  # of decode_intervals, in this order
UNKNOWN = -1.0  # label of a bin that was not annotated
_EDGES = (("P_on", "P_off"), ("QRS_on", "QRS_off"), ("T_on", "T_off"))
# Shortest waves that are believed, s; what is shorter is a flicker of the probabilities. All ours.
_SHORTEST_S = {"P": 0.03, "QRS": 0.04, "T": 0.06}
_PR_END_S = (-0.32, 0.03)  # a P wave of a beat ends within this distance of the QRS onset
_T_LATE_S = 0.02  # a T wave ends so long after the next QRS onset at the latest


def targets_of(
    marks: dict[str, np.ndarray],
    beat_class: Sequence[str] | np.ndarray,
    signal: np.ndarray,
    fs: float,
    af: bool | None,
    pvc: bool | None = None,
    span: tuple[float, float] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the targets of :meth:`DenseEncoder.loss` for one ECG.

    Args:
        marks: Per name of MARKS, (beats,) samples over all leads together; NaN where absent.
        beat_class: (beats,).
        signal: (12, samples) mV.
        fs: Hz.
        af, pvc: See :func:`gem_lightning.ecg.recombination.true_values`.
        span: First and last sample that were annotated; None is the whole record.

    Returns:
        ``waves`` (3, bins) share of each 20 ms in P, QRS and T, -1 where unknown, and ``values`` (33,), float32.
    """
    waves = wave_shares(marks, signal.shape[1], fs, span)
    return waves, true_values(np.nan_to_num(signal), marks, beat_class, fs, af, pvc).astype(np.float32)


def wave_shares(
    marks: dict[str, np.ndarray], samples: int, fs: float, span: tuple[float, float] | None = None
) -> np.ndarray:
    """Return (3, bins) float32: the share of each 20 ms that lies in P, QRS and T; -1 outside ``span``."""
    bins = round(samples / fs / BIN_S)
    width = BIN_S * fs
    starts = np.arange(bins) * width
    out = np.zeros((3, bins), np.float32)
    for row, (onset, offset) in zip(out, _EDGES):
        for on, off in zip(marks[onset], marks[offset]):
            if np.isfinite(on) and np.isfinite(off):
                row += np.clip((np.minimum(off, starts + width) - np.maximum(on, starts)) / width, 0, 1)
    np.clip(out, 0, 1, out=out)
    if span is not None:
        out[:, (starts < span[0]) | (starts + width > span[1])] = UNKNOWN
    return out


def decode_waves(logits: np.ndarray, fs: float) -> dict[str, np.ndarray]:
    """Decode one ECG's dense logits into the marks of its beats.

    A wave lasts from where its probability rises through one half to where it falls below, interpolated between the
    centres of bins, so that edges are finer than 20 ms.

    Args:
        logits: (3, bins) of P, QRS, T.
        fs: Hz of the marks.

    Returns:
        Per name of MARKS (beats,) samples, NaN where absent; peaks are the middles of waves.
    """
    found = {wave: _runs(row, _SHORTEST_S[wave]) for wave, row in zip(WAVES, logits)}
    qrs = found["QRS"]
    marks = {name: np.full(len(qrs), np.nan) for name in MARKS}
    for beat, (on, off) in enumerate(qrs):
        before = qrs[beat - 1, 1] if beat else -np.inf
        after = qrs[beat + 1, 0] if beat + 1 < len(qrs) else np.inf
        p, t = found["P"], found["T"]
        apart = p[:, 1] - on
        p = p[(apart > _PR_END_S[0]) & (apart < _PR_END_S[1]) & (p[:, 0] > before)]
        t = t[(t[:, 1] > off) & (t[:, 0] > on) & (t[:, 1] < after + _T_LATE_S)]
        for names, (start, end) in zip(
            (MARKS[:3], MARKS[3:6], MARKS[6:]),
            (p[-1] if len(p) else (np.nan, np.nan), (on, off), t[-1] if len(t) else (np.nan, np.nan)),
        ):
            for name, at in zip(names, (start, (start + end) / 2, end)):
                marks[name][beat] = at * fs
    return marks


def decode_intervals(logits: np.ndarray) -> dict[str, float]:
    """Return ``rate_bpm pr_ms qrs_ms qt_ms p_share`` of one ECG's dense logits (3, bins); NaN where none is seen.

    The first and the last complex may be cut by the record's ends, so their durations do not count where others do.
    """
    marks = decode_waves(logits, 1000.0)
    beats = len(marks["R"])
    inner = {name: column[1:-1] if beats > 2 and name != "R" else column for name, column in marks.items()}
    if beats > 2:
        whole = intervals(inner | {"R": marks["R"][1:-1]}, np.full(beats - 2, "normal", object), 1000.0)
        return whole | {"rate_bpm": intervals(marks, np.full(beats, "normal", object), 1000.0)["rate_bpm"]}
    return intervals(marks, np.full(beats, "normal", object), 1000.0)


def _runs(logits: np.ndarray, shortest: float) -> np.ndarray:
    """Return onset and offset (runs, 2), s, of stretches whose probability exceeds one half."""
    p = 1 / (1 + np.exp(-np.clip(logits, -30, 30)))
    p = np.concatenate([[0.0], p, [0.0]])  # bin i has its centre at (i + 0.5) bins; with the zero before, index i + 1
    rises = np.flatnonzero((p[:-1] < 0.5) & (p[1:] >= 0.5))
    falls = np.flatnonzero((p[:-1] >= 0.5) & (p[1:] < 0.5))
    on = rises + (0.5 - p[rises]) / (p[rises + 1] - p[rises])
    off = falls + (p[falls] - 0.5) / (p[falls] - p[falls + 1])
    runs = np.stack([(on - 0.5) * BIN_S, (off - 0.5) * BIN_S], axis=1)
    return runs[runs[:, 1] - runs[:, 0] > shortest]
