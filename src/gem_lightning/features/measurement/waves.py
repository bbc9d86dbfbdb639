"""Amplitudes, durations and forms of every wave in every lead, beat by beat and averaged."""

from __future__ import annotations

from math import isnan

import numpy as np

from gem_lightning.ecg.record import EcgRecord
from gem_lightning.features.delineation.arrays import at, first_true, last_true, median, nanmedian
from gem_lightning.features.delineation.filters import fill_gaps, without_mains
from gem_lightning.features.schema import ST_POINTS, Delineation

DEFLECTION_MV = 0.025  # a smaller Q, R, S or R' cannot be distinguished from noise
J_MARGIN_MS = 12.0  # the J level is read this long after the QRS offset, lest the end of the QRS complex be part of it
FUSED_MS = 40.0  # a P wave that begins sooner after a T wave stands on its flank
T_SHARE = 0.4  # the T wave's flank has ended after this share of such a P wave
ST_SPAN_MS = 80.0  # the ST slope is taken over this stretch after the J point


class BeatSignal:
    """The record's samples, without mains, against the isoelectric line, cut per beat.

    The isoelectric reference is the PQ level: the median of the 20 to 4 ms before the global QRS onset. Between two
    beats the reference runs straight from one PQ level to the next, which takes a wandering baseline away; the first
    beat's level holds before it, the last one's after it.

    Args:
        record: The record, at its own rate.
        marks: Its delineation, with at least one beat.
    """

    def __init__(self, record: EcgRecord, marks: Delineation) -> None:
        self.fs = record.fs
        signal = without_mains(fill_gaps(record.signal), record.fs, marks.mains_hz)
        onset = marks.global_marks["QRS_on"]
        known = np.isfinite(onset)
        index = np.arange(-self.ms(20), -self.ms(4) + 1)
        at_onset = np.clip(onset[known].round().astype(int)[:, None] + index, 0, record.samples - 1)
        level = median(signal[:, at_onset])  # (leads, known beats)
        self.signal = signal - level @ hats(onset[known] - self.ms(12), record.samples) if known.any() else signal
        self.samples = record.samples
        self.known = np.isfinite(record.signal)

    def shown(self, place: np.ndarray) -> np.ndarray:
        """Return (leads, beats) whether a lead is known at all places (beats, points) of a beat, in samples."""
        if self.known.all():
            return np.ones((len(self.known), len(place)), bool)
        return self.known[:, np.clip(place, 0, self.samples - 1)].all(-1)

    def ms(self, milliseconds: float) -> int:
        """Return milliseconds as samples of the record."""
        return round(milliseconds * self.fs / 1000)

    def level(self, marks: np.ndarray, half_ms: float = 4) -> np.ndarray:
        """Return the mean (leads, beats), mV, within ``half_ms`` of marks (leads, beats) or (beats,); NaN without."""
        marks = np.broadcast_to(marks, (len(self.signal), marks.shape[-1]))
        shown = np.isfinite(marks)
        half = self.ms(half_ms)
        value = self.cut(np.where(shown, marks, 0).round().astype(int) - half, 2 * half + 1).mean(-1)
        return np.where(shown & (marks <= self.samples - 1), value, np.nan)

    def cut(self, start: np.ndarray, width: int) -> np.ndarray:
        """Cut stretches (leads, beats, width), mV, from ``start`` (leads, beats); moved inwards at the ends."""
        width = min(width, self.samples)
        start = np.minimum(np.maximum(start, 0), self.samples - width)
        start = start + self.samples * np.arange(len(start))[:, None]  # in the flattened signal
        return self.signal.take(start[..., None] + np.arange(width))


def hats(knots: np.ndarray, samples: int) -> np.ndarray:
    """Return weights (knots, samples) of a line from knot to knot, level before the first and after the last."""
    grid = np.arange(samples)
    if len(knots) == 1:
        return np.ones((1, samples), np.float32)
    left = np.clip(np.searchsorted(knots, grid, side="right") - 1, 0, len(knots) - 2)
    share = np.clip((grid - knots[left]) / np.diff(knots)[left], 0, 1)
    weights = np.zeros((len(knots), samples), np.float32)
    weights[left, grid] = 1 - share
    weights[left + 1, grid] = share
    return weights


def on_t_wave(p_on: np.ndarray, t_off: np.ndarray, fs: float) -> np.ndarray:
    """Return (..., beats) whether a P wave begins on or right after the T wave of the beat before."""
    earlier = np.concatenate([np.full_like(t_off[..., :1], np.nan), t_off[..., :-1]], axis=-1)
    return p_on - earlier < FUSED_MS * fs / 1000


def level_under_p(start: np.ndarray, fused: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Return the level that a P wave is measured against, mV, at each share (0 to 1) of its duration.

    It is the level at its onset; where that lies on a T wave, this falls to the PQ level (0) over the first
    :data:`T_SHARE` of the P wave.
    """
    return start * np.where(fused, np.clip(1 - share / T_SHARE, 0, 1), 1)


def beat_columns(signal: BeatSignal, marks: Delineation) -> dict[str, np.ndarray]:
    """Return the columns of :class:`~gem_lightning.features.schema.BeatTable` that are per lead, (leads, beats)."""
    lead = {name: marks.marks[name] for name in marks.marks}
    every = marks.global_marks
    per_ms = 1000 / marks.fs
    fused = on_t_wave(lead["P_on"], lead["T_off"], marks.fs)
    before_p = np.where(fused, 0, signal.level(lead["P_on"] - signal.ms(6), 6))
    columns = {
        "p_mv": signal.level(lead["P"]) - before_p,
        "p_ms": (lead["P_off"] - lead["P_on"]) * per_ms,
        "pr_ms": (every["QRS_on"] - lead["P_on"]) * per_ms,
        **deflections(signal, lead["QRS_on"], lead["QRS_off"]),
        "qrs_ms": (lead["QRS_off"] - lead["QRS_on"]) * per_ms,
        "t_mv": signal.level(lead["T"], 6),
        "t_ms": (lead["T_off"] - lead["T_on"]) * per_ms,
        "qt_ms": (lead["T_off"] - lead["QRS_on"]) * per_ms,
        "st_ms": (lead["T_on"] - lead["QRS_off"]) * per_ms,
    }
    shown = np.isfinite(lead["QRS_on"])
    for point in ST_POINTS:
        shift = every["QRS_off"] + signal.ms(float(point[1:] or J_MARGIN_MS))
        columns[f"st_{point.lower()}_mv"] = np.where(shown, signal.level(shift), np.nan)
    rise = columns["st_j80_mv"] - columns["st_j_mv"]
    columns["st_slope_mv_s"] = rise / (ST_SPAN_MS / 1000)
    return columns


def deflections(signal: BeatSignal, on: np.ndarray, off: np.ndarray) -> dict[str, np.ndarray]:
    """Measure Q, R, S and R\' of every complex.

    The tallest upward deflection is R, unless a smaller upward one and then a downward one come before it: then those
    are r and S, and the tallest is R'. A complex without an upward deflection is QS, given as Q.

    Args:
        signal: The record against its PQ level.
        on: (leads, beats) QRS onset, samples.
        off: (leads, beats) QRS offset, samples.

    Returns:
        ``q_mv q_ms r_mv r_ms s_mv s_ms r2_mv r_peak_ms qrs_mv``, (leads, beats), NaN where absent; ``r_peak_ms`` runs
        from the onset in the lead to the tallest upward deflection.
    """
    shown = np.isfinite(on) & np.isfinite(off)
    last = np.where(shown, off - on, 0).round().astype(int)[..., None]
    y = signal.cut(np.where(shown, on, 0).round().astype(int), int(last.max(initial=0)) + 1)
    i = np.arange(y.shape[-1])
    inside = i <= last

    def extreme(sign: int, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return index and height (positive) of the extreme between two indices (leads, beats)."""
        allowed = (i >= low[..., None]) & (i <= high[..., None])
        index = np.where(allowed, sign * y, -np.inf).argmax(-1)
        return index, np.maximum(sign * at(y, index), 0)

    end = last[..., 0]
    zero = np.zeros_like(end)
    top, top_mv = extreme(1, zero, end)
    dip, dip_mv = extreme(-1, zero, top)
    first, first_mv = extreme(1, zero, dip)
    second = (first_mv > DEFLECTION_MV) & (dip_mv > DEFLECTION_MV)  # r S R', the last one tallest
    low, low_mv = extreme(-1, top, end)
    _, later_mv = extreme(1, low, end)
    later_mv = np.where(low_mv > DEFLECTION_MV, later_mv, 0)
    r, r_mv = np.where(second, first, top), np.where(second, first_mv, top_mv)
    s, s_mv = np.where(second, dip, low), np.where(second, dip_mv, low_mv)
    q, q_mv = extreme(-1, zero, r)
    r2_mv = np.where(second, top_mv, later_mv)
    down, down_mv = extreme(-1, zero, end)
    only_down = r_mv <= DEFLECTION_MV
    q, q_mv = np.where(only_down, down, q), np.where(only_down, down_mv, q_mv)
    span = per_deflection_ms(y, inside, (q, r, s), 1000 / signal.fs)
    real = {"q": q_mv, "r": r_mv, "s": np.where(only_down, 0, s_mv)}
    out = {}
    for (name, value), length in zip(real.items(), span):
        present = shown & (value > DEFLECTION_MV)
        out[f"{name}_mv"] = np.where(present, value, np.nan)
        out[f"{name}_ms"] = np.where(present, length, np.nan)
    upright = shown & (top_mv > DEFLECTION_MV)
    out["r_peak_ms"] = np.where(upright, top * (1000 / signal.fs), np.nan)
    out["r2_mv"] = np.where(shown & (r2_mv > DEFLECTION_MV), r2_mv, np.nan)
    high = np.where(inside, y, -np.inf).max(-1)
    out["qrs_mv"] = np.where(shown, np.maximum(high, 0) + down_mv, np.nan)
    return out


def per_deflection_ms(
    y: np.ndarray, inside: np.ndarray, peaks: tuple[np.ndarray, ...], per_ms: float
) -> list[np.ndarray]:
    """Return how long the signal keeps its sign around each peak, inside the complex, ms."""
    i = np.arange(y.shape[-1])
    spans = []
    for peak in peaks:
        same = (y * np.where(at(y, peak) < 0, -1, 1)[..., None] > 0) & inside
        left = last_true(~same & (i < peak[..., None]))
        right = first_true(~same & (i > peak[..., None]))
        right = np.where(right < 0, y.shape[-1], right)
        spans.append((right - left - 1) * per_ms)
    return spans


# -- forms ------------------------------------------------------------------------------------------------------------

LARGE_MV = 0.5  # deflections below are written with a small letter: 5 mm, the usual convention
LARGE_SHARE = 0.5  # ... unless they reach this share of the complex's largest deflection
FLAT_MV = 0.05  # a T wave within half a small box of the baseline is flat
SECOND_SHARE = 0.35  # the smaller phase of a biphasic wave reaches this share of the larger
HORIZONTAL_MV_S = 0.6  # ST slope within this is horizontal: half a small box in 80 ms
BEND_MV = 0.02  # departure of the ST segment's middle from its chord that makes it concave or convex
NOTCH_SHARE = 0.06  # a notch is at least this share of the complex's height deep ...
NOTCH_MV = 0.04  # ... and at least this deep
DELTA_MS = 30.0  # a delta wave: slow for this long at the start ...
DELTA_SHARE = 0.18  # ... at less than this share of the steepest slope


def qrs_form(q: float, r: float, s: float, r2: float) -> str | None:
    """Return letters of the deflections, such as ``qRs``, ``rsR'`` or ``QS``; amplitudes in mV, NaN where absent."""
    sizes = [0.0 if isnan(size) else size for size in (q, r, s, r2)]
    largest = max(sizes)
    if largest <= DEFLECTION_MV:
        return None
    if sizes[1] <= DEFLECTION_MV and sizes[3] <= DEFLECTION_MV:
        return "QS"
    text = ""
    for letter, size, mark in zip("qrsr", sizes, ("", "", "", "'")):
        if size > DEFLECTION_MV:
            large = size >= LARGE_MV or size >= LARGE_SHARE * largest
            text += (letter.upper() if large else letter) + mark
    return text


def average_qrs(signal: BeatSignal, marks: Delineation, beats: np.ndarray) -> tuple[np.ndarray, int]:
    """Return the mean QRS of the beats that count, (leads, width) mV, from 20 ms before onset; and that margin."""
    onset = marks.global_marks["QRS_on"][beats]
    length = nanmedian(marks.global_marks["QRS_off"][beats] - onset)
    margin = signal.ms(20)
    width = int(length) + 2 * margin
    index = onset[np.isfinite(onset)].round().astype(int)[:, None] + np.arange(-margin, width - margin)
    shown = signal.shown(index)
    beats_mv = signal.signal[:, np.clip(index, 0, signal.samples - 1)]
    weight = np.where(shown.any(1, keepdims=True), shown, True)  # a lead without a known beat keeps what fills it
    return np.stack([mv[use].mean(0) for mv, use in zip(beats_mv, weight)]), margin


def qrs_notes(average: np.ndarray, margin: int, fs: float) -> list[tuple[str, ...]]:
    """Return ``notched`` and ``delta`` per lead where they apply."""
    body = average[:, margin:-margin] if average.shape[1] > 2 * margin + 4 else average
    slope = np.diff(average, axis=1)
    steepest = np.abs(slope).max(1)
    early = round(DELTA_MS * fs / 1000)
    start = np.abs(slope[:, margin : margin + early])
    rise = np.abs(average[:, margin + early] - average[:, margin]) if average.shape[1] > margin + early else None
    notes = []
    notched = _notched(body)
    for i in range(len(body)):
        found = []
        if notched[i]:
            found.append("notched")
        slow = steepest[i] > 0 and start[i].max(initial=0) < DELTA_SHARE * 2 * steepest[i]
        if rise is not None and slow and rise[i] > 0.1 and start[i].mean() > 0.03 * steepest[i]:
            found.append("delta")
        notes.append(tuple(found))
    return notes


def _notched(y: np.ndarray) -> np.ndarray:
    """Return (leads,) whether each complex (leads, width) turns back without crossing the baseline."""
    rising = np.sign(np.diff(y, axis=1))
    lead, turn = np.nonzero(rising[:, 1:] != rising[:, :-1])
    height = y[lead, turn + 1]
    need = np.maximum(NOTCH_MV, NOTCH_SHARE * np.ptp(y, axis=1))[lead]
    same_side = (np.sign(height[1:]) == np.sign(height[:-1])) & (lead[1:] == lead[:-1])
    inner = same_side & (np.abs(np.diff(height)) >= need[1:])
    # A notch is a retreat and a return, both deep enough, on one side of the baseline.
    found = np.zeros(len(y), bool)
    found[lead[1:-1][inner[1:] & inner[:-1]]] = True
    return found


def wave_form(phases: tuple[float, float], peak: float, flat: float) -> str:
    """Name the form from (highest, lowest) excursion, mV: upright, inverted, biphasic, flat or absent."""
    if not np.isfinite(peak):
        return "absent"
    high, low = max(phases[0], 0.0), max(-phases[1], 0.0)
    if max(high, low) < flat:
        return "flat"
    if min(high, low) >= max(SECOND_SHARE * max(high, low), flat):
        return "biphasic"
    return "upright" if peak > 0 else "inverted"


def st_form(j: float, middle: float, late: float, slope: float) -> str | None:
    """Return the form of the ST segment from its levels at J, J+40 and J+80 (mV) and its slope (mV/s)."""
    if not np.isfinite(slope):
        return None
    bend = middle - (j + late) / 2
    if abs(bend) >= BEND_MV and max(abs(j), abs(late)) >= 0.1:
        return "convex" if bend > 0 else "concave"
    if abs(slope) <= HORIZONTAL_MV_S:
        return "horizontal"
    return "upsloping" if slope > 0 else "downsloping"
