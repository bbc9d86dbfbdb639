"""Height of the U wave, between the end of T and the next P wave, in the median of the beats."""

from __future__ import annotations

import numpy as np

from gem_lightning.features.delineation.arrays import nanmedian
from gem_lightning.features.measurement.waves import BeatSignal
from gem_lightning.features.schema import Delineation

FROM_MS = 20.0  # after the end of T, lest its flank be part of it
SPAN_MS = 240.0  # a U wave is over that long after the end of T; ours
LEVEL_MS = (40.0, 10.0)  # before the next P wave: the level that the U wave is measured against
ROOM_MS = 180.0  # a shorter stretch from T to the next P wave shows no U wave apart from both; ours
SMOOTH_MS = 30.0  # a U wave lasts 100 ms and more
BEATS = 3  # fewer leave noise of the U wave's own height


def u_heights(signal: BeatSignal, marks: Delineation, counted: np.ndarray) -> np.ndarray:
    """Measure the U wave of each lead.

    Args:
        signal: The record against its PQ level.
        marks: Its delineation.
        counted: (beats,) which beats medians are over.

    Returns:
        (leads,) signed height of the tallest deflection apart from T and P, mV: 0 where there is none, NaN where the
        rate or a rhythm without P waves leaves no room for one.
    """
    start = marks.global_marks["T_off"] + signal.ms(FROM_MS)
    next_p = np.append(marks.global_marks["P_on"][1:], np.nan)
    room = next_p - start
    used = counted & np.isfinite(room) & (room >= signal.ms(ROOM_MS))
    out = np.full(len(signal.signal), np.nan)
    if used.sum() < BEATS:
        return out
    width = min(signal.ms(SPAN_MS), int(room[used].min()) - signal.ms(LEVEL_MS[1]))
    after_t = nanmedian(_cut(signal, start[used], width), axis=1)  # (leads, width)
    before_p = next_p[used] - signal.ms(LEVEL_MS[0])
    level = nanmedian(_cut(signal, before_p, signal.ms(LEVEL_MS[0] - LEVEL_MS[1])).mean(-1), axis=1)
    span = signal.ms(SMOOTH_MS)
    smooth = np.stack([np.convolve(lead, np.ones(span) / span, mode="valid") for lead in after_t - level[:, None]])
    for lead, y in enumerate(smooth):
        peak = int(np.abs(y).argmax())
        turns = 0 < peak < len(y) - 1  # else it is the flank of T or P
        out[lead] = y[peak] if turns else 0.0
    return out


def _cut(signal: BeatSignal, start: np.ndarray, width: int) -> np.ndarray:
    """Cut (leads, beats, width) from ``start`` (beats,), mV; NaN where a lead is not known."""
    place = start.round().astype(int)[:, None] + np.arange(width)
    y = signal.signal[:, np.clip(place, 0, signal.samples - 1)]
    return np.where(signal.shown(place)[..., None], y, np.nan)
