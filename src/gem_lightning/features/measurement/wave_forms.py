"""Forms of P, QRS, ST and T in words, read from each lead's average beat and medians."""

from __future__ import annotations

from math import isnan

import numpy as np

from gem_lightning.features.delineation.arrays import nanmedian
from gem_lightning.features.measurement.waves import DEFLECTION_MV, BeatSignal
from gem_lightning.features.schema import Delineation

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
    """Letters of the deflections, such as ``qRs``, ``rsR'`` or ``QS``; amplitudes in mV, NaN where absent."""
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
    """Mean QRS complex of the beats that count, (leads, width) mV, from 20 ms before the onset; and that margin."""
    onset = marks.global_marks["QRS_on"][beats]
    length = nanmedian(marks.global_marks["QRS_off"][beats] - onset)
    margin = signal.ms(20)
    width = int(length) + 2 * margin
    index = onset[np.isfinite(onset)].round().astype(int)[:, None] + np.arange(-margin, width - margin)
    return signal.signal[:, np.clip(index, 0, signal.samples - 1)].mean(1), margin


def qrs_notes(average: np.ndarray, margin: int, fs: float) -> list[tuple[str, ...]]:
    """Per lead, ``notched`` and ``delta`` where they apply."""
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
    """(leads,) whether each lead's complex (leads, width) turns back on its way without crossing the baseline."""
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
    """``upright``, ``inverted``, ``biphasic``, ``flat`` or ``absent`` from the (highest, lowest) excursion, mV."""
    if not np.isfinite(peak):
        return "absent"
    high, low = max(phases[0], 0.0), max(-phases[1], 0.0)
    if max(high, low) < flat:
        return "flat"
    if min(high, low) >= max(SECOND_SHARE * max(high, low), flat):
        return "biphasic"
    return "upright" if peak > 0 else "inverted"


def st_form(j: float, middle: float, late: float, slope: float) -> str | None:
    """Form of the ST segment from its levels at J, J+40 and J+80 (mV) and its slope (mV/s)."""
    if not np.isfinite(slope):
        return None
    bend = middle - (j + late) / 2
    if abs(bend) >= BEND_MV and max(abs(j), abs(late)) >= 0.1:
        return "convex" if bend > 0 else "concave"
    if abs(slope) <= HORIZONTAL_MV_S:
        return "horizontal"
    return "upsloping" if slope > 0 else "downsloping"
