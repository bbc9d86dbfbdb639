"""The T wave: its peak deviates most from a line between two QRS onsets, its ends follow the trapezium method."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gem_lightning.features.delineation.arrays import at, gradient, median, rms, sign_of, windows
from gem_lightning.features.delineation.filters import PAD, RATE, Views, ms
from gem_lightning.features.delineation.qrs import Qrs, rr_samples

STEP = 2  # every second sample is enough below 14 Hz; inside windows all lengths are in steps


def steps(milliseconds: float) -> int:
    """Return milliseconds as steps of a T window."""
    return round(milliseconds * RATE / STEP / 1000)


SPAN = steps(750)  # window after the QRS complex in which the T wave lies
REACH = steps(70)  # to either side of the peak, for how far it stands out
START = steps(70)  # a T peak is never earlier after the QRS complex
BEFORE_QRS = ms(150)  # nearer before a QRS complex what stands out is rather a P wave ...
P_RISES = steps(50)  # so much later, in fast rhythms, the P wave rises out of the T wave's end
OVER_P = 0.3  # ... than a T wave, if this share of its height stands out earlier
FOOT = 0.1  # a lead's T wave is of this share of what deviates most at least: the foot of a wave bends, but is none
RIGHT, LEFT = steps(100), steps(85)  # length of the trapezium after (before) the steepest point
ON_SLOPE, ON_SHIFT = 0.77, steps(52)  # experts' T onset: this share of the way from J to the T peak, less the shift ...
ON_SPREAD = steps(16)  # ... and never further from there than this (LUDB, odd records) ...
ON_TALL_MV = 0.3  # ... later by more only in waves taller than this, in proportion: they show their own onset
MIN_MV = 0.006  # smaller deflections are no T wave
BIAS_ON, BIAS_OFF = -2, -4  # samples by which experts mark earlier (LUDB, odd records)


@dataclass(frozen=True)
class Wave:
    """A wave's onset, peak and offset, (leads, beats) in padded working samples; NaN where absent."""

    on: np.ndarray
    peak: np.ndarray
    off: np.ndarray

    def absent(self) -> Wave:
        """Return a wave of the same shape that is absent everywhere."""
        return Wave(*(np.full_like(self.peak, np.nan) for _ in range(3)))


def trapezium_end(y: np.ndarray, steepest: np.ndarray, reach: np.ndarray) -> np.ndarray:
    """Return the end of a descending flank: the point that spans the largest trapezium with the steepest point.

    Vazquez-Seisdedos et al., "New approach for T-wave end detection on electrocardiogram", BioMedical Engineering
    OnLine 10:77 (2011).

    Args:
        y: (..., width) signal, upright, so that it falls after ``steepest``.
        steepest: (...) index of the steepest descent.
        reach: (...) index of the far side of the trapezium, beyond the end.

    Returns:
        (...) index of the end.
    """
    index = np.arange(y.shape[-1], dtype=np.int32)
    base = (2 * reach - steepest).astype(np.float32)[..., None] - index.astype(np.float32)
    area = (at(y, steepest)[..., None] - y) * base
    allowed = (index >= steepest[..., None]) & (index <= reach[..., None])
    return np.where(allowed, area, -np.inf).argmax(-1)


def find_t(views: Views, trusted: np.ndarray, beats: np.ndarray, qrs: Qrs) -> Wave:
    """Find the T waves of every lead and beat."""
    start = qrs.off
    _, rr = rr_samples(beats)
    limit = _limit(views, beats, qrs, rr)
    level = median(windows(views.t, qrs.on, ms(20), 0))
    following = np.concatenate([level[:, 1:], level[:, -1:]], axis=1)
    slope_to_next = (following - level) / np.maximum(rr, 1)
    line = level[..., None] + slope_to_next[..., None] * (STEP * np.arange(SPAN, dtype=np.float32))
    deviation = windows(views.t, start, 0, STEP * SPAN, STEP) - line  # (leads, beats, SPAN)
    before_p = np.r_[(qrs.on[1:] - qrs.off[:-1] - BEFORE_QRS) // STEP, limit[-1:]]
    peak, bend = _peak(deviation, trusted, limit, np.minimum(before_p, limit))
    off, on = _ends(deviation * sign_of(bend), peak, np.minimum(limit, before_p + P_RISES - steps(40)))
    last = PAD + views.samples
    present = (np.abs(bend) > MIN_MV) & (start + STEP * limit < last) & (limit > START) & trusted[:, None]

    def place(index: np.ndarray, bias: int = 0) -> np.ndarray:
        return np.where(present, start + STEP * index + bias, np.nan)

    return Wave(place(on, BIAS_ON), place(peak), place(off, BIAS_OFF))


def _limit(views: Views, beats: np.ndarray, qrs: Qrs, rr: np.ndarray) -> np.ndarray:
    """Return the latest T end, steps after QRS (beats,): by rate, before the next beat, inside the record."""
    by_rate = 0.62 * np.sqrt(rr * RATE) - (qrs.off - beats)
    following = np.r_[qrs.on[1:], qrs.on[-1] + rr[-1]] - qrs.off - ms(90)
    limit = np.minimum(np.minimum(by_rate, following), PAD + views.samples - 1 - qrs.off) / STEP
    return np.clip(limit, steps(140), SPAN - steps(50)).astype(int)


def _peak(
    deviation: np.ndarray, trusted: np.ndarray, limit: np.ndarray, before_p: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return T peak (leads, beats) after the QRS complex, and how far it stands out (signed, mV).

    What stands out is measured against the signal 70 ms to either side, so that a shifted ST segment is not taken for
    the T wave; first over all leads together, then in each lead near that place. Beyond ``before_p`` (beats,) lies the
    next P wave, unless nothing comparable stands out before it.
    """
    index = np.arange(SPAN)
    before = np.maximum(index - REACH, steps(40))
    after = np.minimum(index + REACH, SPAN - 1)
    bend = deviation - (deviation.take(before, axis=-1) + deviation.take(after, axis=-1)) / 2
    allowed = (index >= START) & (index < limit[:, None])
    height = np.where(allowed, rms(bend[trusted]), -1)
    early = np.where(index < before_p[:, None], height, -1)
    centre = np.where(early.max(1) > OVER_P * height.max(1), early.argmax(1), height.argmax(1))
    low = np.maximum(centre - steps(90), START)
    high = np.maximum(np.minimum(centre + steps(90), limit - steps(30)), low + 2)
    near = (index >= low[:, None]) & (index <= high[:, None])
    size = np.where(near, np.abs(deviation), 0)
    own = near & (bend * deviation > 0) & (size > FOOT * size.max(-1, keepdims=True))
    sharpest = np.where(np.where(own.any(-1)[..., None], own, near), np.abs(bend), -1).argmax(-1)
    most = at(bend, sharpest)
    close = near & (np.abs(index - sharpest[..., None]) <= steps(40))
    peak = np.where(close, deviation * sign_of(most), -np.inf).argmax(-1)
    return peak, most


def _ends(upright: np.ndarray, peak: np.ndarray, limit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return offset and onset (leads, beats) after the QRS complex of T waves made upright."""
    index = np.arange(SPAN)
    slope = gradient(upright)
    last = np.minimum(np.minimum(peak + steps(220), limit + steps(40)), SPAN - 1)
    falling = (index >= peak[..., None] + steps(8)) & (index <= np.minimum(peak + steps(130), last)[..., None])
    steepest = np.where(falling, -slope, -np.inf).argmax(-1)
    reach = np.minimum(np.minimum(steepest + RIGHT, np.maximum(last, steepest + steps(40))), SPAN - 1)
    off = trapezium_end(upright, steepest, reach)
    rising = (index <= peak[..., None] - steps(8)) & (index >= np.maximum(peak - steps(150), steps(10))[..., None])
    steepest = np.where(rising, slope, -np.inf).argmax(-1)
    reach = np.maximum(steepest - LEFT, 0)
    mirror = SPAN - 1
    on = mirror - trapezium_end(upright[..., ::-1], mirror - steepest, mirror - reach)
    usual = ON_SLOPE * peak - ON_SHIFT
    tall = np.maximum(np.abs(at(upright, peak)) / ON_TALL_MV, 1)
    return off, np.clip(on, usual - ON_SPREAD, usual + ON_SPREAD * tall)
