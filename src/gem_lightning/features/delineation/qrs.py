"""Heart beats and the QRS complex: where beats are, and its onset, peak and offset over all leads and in each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gem_lightning.features.delineation.arrays import (
    first_true,
    held,
    last_true,
    median,
    quantile,
    rms,
    running_mean,
    windows,
)
from gem_lightning.features.delineation.filters import PAD, RATE, Views, ms

BEFORE, AFTER = ms(170), ms(210)  # window around a beat in which its QRS complex lies
GLOBAL_ON, GLOBAL_OFF = 0.05, 0.08  # share of the steepest slope at which all leads together leave the baseline ...
FLOOR = 3.0  # ... and at least so many times what the slope rests at ...
MOST = 0.15  # ... up to this share: in heavy noise the edges lie outside rather than inside the complex
BODY = 0.2  # a slope of this share near the steepest one belongs to the complex, whatever rests between them ...
FAR_BODY = 0.4  # ... and further off, as in bundle branch block, one of this share
BODY_FLOOR = 2.5  # ... if it is this many times what the slope rests at
APART = ms(36)  # ... and nothing has rested for so long on the way: beyond that lies another wave
LEAD_BODY = 0.35  # a lead's own steep part: this share of its steepest slope
LEAD_ON, LEAD_OFF = 0.015, 0.018  # one lead rests below this share of the usual lead's steepest slope ...
LEAD_FLOOR = 3.0  # ... or this many times what its slope rests at ...
HOLD_ON, HOLD_OFF = ms(12), ms(24)  # ... for so long
NEAR_ON, NEAR_OFF = (ms(24), ms(60)), (ms(60), ms(24))  # no lead's edge is further before (after) that of all leads
PULL_ON, PULL_OFF = 0.65, 0.86  # how far a lead's own edge draws its mark away from that of all leads
BIAS_ON, BIAS_OFF = -0.3, -4.4  # samples by which experts mark from there; negative is earlier (LUDB, odd records)
MIN_RR = ms(240)  # two beats are never closer: 250 beats a minute
STRONG = 0.4  # peaks of slope energy above this share of the strongest define what is typical
WEAKEST = 0.28  # a beat reaches this share of the typical energy
REFRACTORY = ms(360)  # closer than this, the weaker of two peaks is a T or P wave ...
WEAKER, FLATTER = 0.6, 0.3  # ... if its energy, or its steepest slope over leads, is below this share of the other's


@dataclass(frozen=True)
class Qrs:
    """QRS complexes in padded working samples.

    Attributes:
        on, off: (beats,) over all trusted leads together.
        lead_on, peak, lead_off: (leads, beats).
    """

    on: np.ndarray
    off: np.ndarray
    lead_on: np.ndarray
    peak: np.ndarray
    lead_off: np.ndarray


def beat_energy(views: Views, trusted: np.ndarray) -> np.ndarray:
    """Return slope energy of trusted leads, (samples,): each scaled to its steep parts, noisy ones weigh less."""
    slope = np.abs(views.beat[trusted])
    coarse = slope[:, PAD : PAD + views.samples : 4]
    slope = np.minimum(slope / (quantile(coarse, 0.98)[:, None] + 1e-9), 1.0)
    restless = median(slope[:, PAD : PAD + views.samples : 4])
    weight = 1 / (0.03 + restless) ** 2
    return running_mean(weight @ slope / weight.sum(), ms(90))


def local_maxima(x: np.ndarray, distance: int) -> np.ndarray:
    """Return indices of maxima, the greatest first served, none closer than ``distance`` to a greater one."""
    peaks = np.flatnonzero((x[1:-1] > x[:-2]) & (x[1:-1] >= x[2:])) + 1
    keep = np.ones(len(peaks), bool)
    for i in np.argsort(-x[peaks], kind="stable"):
        if keep[i]:
            near = slice(*np.searchsorted(peaks, [peaks[i] - distance + 1, peaks[i] + distance]))
            keep[near] = False
            keep[i] = True
    return peaks[keep]


def find_beats(views: Views, trusted: np.ndarray, energy: np.ndarray) -> np.ndarray:
    """Find candidates for heartbeats (beats,), padded working samples, from :func:`beat_energy` (samples,)."""
    inside = energy[PAD : PAD + views.samples]
    peaks = local_maxima(inside, MIN_RR)
    if not len(peaks):
        return peaks
    height = inside[peaks]
    floor = quantile(inside, 0.3)
    typical = median(height[height > STRONG * quantile(height, 0.95)])
    peaks = peaks[height > floor + WEAKEST * (typical - floor)]
    steep = rms(windows(views.beat[trusted], peaks + PAD, ms(70), ms(70))[..., ::2]).max(-1)
    beats: list[int] = []  # places in ``peaks``
    for new in range(len(peaks)):
        if beats and peaks[new] - peaks[beats[-1]] < REFRACTORY:
            energies, slopes = inside[peaks[[beats[-1], new]]], steep[[beats[-1], new]]
            before, after = (energies < WEAKER * energies.max()) | (slopes < FLATTER * slopes.max())
            if after and not before:
                continue
            if before and not after:
                beats.pop()
        beats.append(new)
    return peaks[beats] + PAD


def find_qrs(views: Views, trusted: np.ndarray, beats: np.ndarray) -> Qrs:
    """Find onset, peak and offset of every QRS complex, over all leads and in each lead."""
    halfway = (beats[1:] + beats[:-1]) // 2  # no complex reaches beyond
    earliest, latest = np.r_[0, halfway], np.r_[halfway, views.clean.shape[1]]
    slope = rms(views.slope[trusted])
    floor = float(quantile(slope[PAD : PAD + views.samples : 3], 0.25))
    on, off = (np.clip(edge, earliest, latest) for edge in global_edges(slope, floor, beats))
    lead_on, lead_off, inside = _lead_edges(views, trusted, beats, on, off)
    level = median(windows(views.clean, on, ms(16), ms(4)))
    deviation = np.abs(windows(views.clean, beats, BEFORE, AFTER) - level[..., None])
    peak = beats - BEFORE + np.where(inside, deviation, -1).argmax(-1)
    lead_on, peak, lead_off = (np.clip(edge, earliest, latest) for edge in (lead_on, peak, lead_off))
    return Qrs(on, off, lead_on, peak, lead_off)


def global_edges(slope: np.ndarray, floor: float, beats: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where the slope of all leads together rises from and returns to its floor, (beats,) each.

    Args:
        slope: (samples,) root mean square over leads, mV/s.
        floor: What it rests at, mV/s.
        beats: (beats,) samples.
    """
    window = windows(slope[None], beats, BEFORE, AFTER)[0]  # (beats, width)
    core = slice(BEFORE - ms(70), BEFORE + ms(70))
    steepest = np.maximum(window[:, core].max(1) - floor, 1e-9)[:, None]
    centre = (core.start + window[:, core].argmax(1))[:, None]
    index = np.arange(window.shape[1])
    apart = np.abs(index - centre)
    steep = (window > np.maximum(BODY_FLOOR * floor, floor + BODY * steepest)) & (apart <= ms(90))
    steep |= (window > np.maximum(BODY_FLOOR * floor, floor + FAR_BODY * steepest)) & (apart <= ms(140))
    steep[np.arange(len(steep)), centre[:, 0]] = True
    noise = np.minimum(FLOOR * floor, floor + MOST * steepest)
    rest = window < np.maximum(noise, floor + GLOBAL_ON * steepest)
    begin = last_true(held(rest, APART, forward=False) & (index < centre))[:, None]
    end = first_true(held(rest, APART, forward=True) & (index > centre))[:, None]
    steep &= (index > begin) & ((index < end) | (end < 0))
    first, last = first_true(steep)[:, None], last_true(steep)[:, None]  # a notch between them is no end
    on = last_true(held(rest, ms(12), forward=False) & (index < first))
    calm = held(window < np.maximum(noise, floor + GLOBAL_OFF * steepest), ms(16), forward=True)
    off = first_true(calm & (index > last))
    on = np.where(on < 0, BEFORE - ms(45), on)
    off = np.where(off < 0, BEFORE + ms(55), off)
    return beats - BEFORE + on, beats - BEFORE + off


def _lead_edges(
    views: Views, trusted: np.ndarray, beats: np.ndarray, on: np.ndarray, off: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return per-lead onset and offset (leads, beats) near those of all leads, and the window of both (beats, width).

    From a lead's own steep part outwards, its complex ends where the slope comes to rest. A lead without a steep part
    has the edges of all leads.
    """
    slope = np.abs(windows(views.slope, beats, BEFORE, AFTER))  # (leads, beats, width)
    index = np.arange(slope.shape[-1])
    place = index + (beats - BEFORE)[:, None]
    within = (place >= on[:, None]) & (place <= off[:, None])
    floor = quantile(np.abs(views.slope[:, PAD : PAD + views.samples : 3]), 0.3)[:, None]
    own = np.maximum(np.where(within, slope, 0).max(-1) - floor, 1e-9)
    usual = median(own[trusted].T)
    low, high = (np.maximum(LEAD_FLOOR * floor, floor + share * usual) for share in (LEAD_ON, LEAD_OFF))
    steep = within & (slope > np.maximum(high, floor + LEAD_BODY * own)[..., None])
    first, last = first_true(steep)[..., None], last_true(steep)[..., None]
    before = last_true(held(slope < low[..., None], HOLD_ON, forward=False) & (index < first))
    after = first_true(held(slope < high[..., None], HOLD_OFF, forward=True) & (index > last))
    none = first[..., 0] < 0
    early = np.where(none | (before < 0), 0, np.clip(before + beats - BEFORE - on, -NEAR_ON[0], NEAR_ON[1]))
    late = np.where(none | (after < 0), 0, np.clip(after + beats - BEFORE - off, -NEAR_OFF[0], NEAR_OFF[1]))
    inside = (place >= (on - ms(20))[:, None]) & (place <= (off + ms(24))[:, None])
    return on + PULL_ON * early + BIAS_ON, off + PULL_OFF * late + BIAS_OFF, inside


def rr_samples(beats: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return RR before and after each beat (beats,), samples; the median at the ends, else one second."""
    rr = np.diff(beats)
    usual = median(rr) if len(rr) else RATE
    return np.r_[usual, rr].astype(float), np.r_[rr, usual].astype(float)
