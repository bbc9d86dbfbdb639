"""QRS onset and offset over all leads on the average beat of each class, whose noise is lower than a single beat's."""

from __future__ import annotations

import numpy as np

from gem_lightning.features.delineation.arrays import first_true, held, last_true, median, quantile, rms, windows
from gem_lightning.features.delineation.filters import RATE, SLOPE_HZ, SLOPE_SHARE, Views, ms
from gem_lightning.features.delineation.qrs import global_edges

BEFORE, AFTER = ms(300), ms(400)  # cut around a beat: it holds enough rest for the floor of the slope
ALIGN, JITTER = ms(240), ms(24)  # beats are aligned by their slope within ALIGN, by up to JITTER either way
SHARE = 0.005  # the average complex ends where its slope falls below this share of the steepest ...
REST_ON, REST_OFF = 0.9, 1.5  # ... or below this, mV/s: smaller than an eye sees on paper, T waves begin so (LUDB) ...
NOISE = 3.0  # ... or below this multiple of the noise that averaging leaves
HOLD_ON, HOLD_OFF = ms(12), ms(24)  # ... for so long
FURTHER = ms(24)  # and no further outside the edges of its steep part: beyond lie P and T waves ...
LATEST = ms(60)  # ... but so far, if ...
SLOW_MV, SLOW_LEADS = 0.05, 0.25  # ... a quarter of the leads is still half a mm away from its ST line ...
ST_SPAN = ms(40)  # ... which is drawn through so much after the end
BIAS_ON, BIAS_OFF = 0.4, -2.1  # samples, so that experts (LUDB, odd) and simulated truth are missed alike
SMEAR = 0.27  # two standard deviations of the slope's Gaussian are this over its corner: it widens what it shows


def average_edges(
    views: Views, trusted: np.ndarray, beats: np.ndarray, beat_class: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return onset and offset (beats,) of every QRS complex, from the average beat of its class.

    Args:
        views: Filtered signals.
        trusted: (leads,) bool.
        beats: (beats,) padded working samples.
        beat_class: (beats,) class of each.
    """
    slope = views.slope[trusted]
    energy = rms(slope)[None]
    on, off = np.zeros(len(beats)), np.zeros(len(beats))
    noise = 0.0  # of one beat; taken from the classes with most beats first
    for kind in sorted(set(beat_class.tolist()), key=lambda k: -np.count_nonzero(beat_class == k)):
        here = np.flatnonzero(beat_class == kind)
        centre = beats[here] + _jitter(energy, beats[here])
        cut = windows(slope, centre, BEFORE, AFTER)
        usual = median(cut.swapaxes(1, 2)) if len(here) > 1 else cut[:, 0]
        if len(here) > 2:
            apart = np.abs(cut[..., ::4] - usual[:, None, ::4]).reshape(len(usual), -1)
            noise = noise or 1.48 * float(rms(median(apart)))  # 1.48: median deviation to standard deviation
        first, last, late = _edges(rms(usual), noise / np.sqrt(len(here)))
        if late > last and _stands_off(views.p[trusted], centre + last, late - last):
            last = late
        on[here], off[here] = centre + first + BIAS_ON, centre + last + BIAS_OFF
    smeared = SMEAR * (RATE / min(SLOPE_HZ, SLOPE_SHARE * RATE / views.scale) - RATE / SLOPE_HZ)  # at low rates only
    return on + smeared, off - smeared


def _jitter(energy: np.ndarray, beats: np.ndarray) -> np.ndarray:
    """Return by how many samples each beat (beats,) lies after its place in the average of all."""
    half = ALIGN // 2
    cut = windows(energy, beats, half + JITTER, half + JITTER)[0]  # (beats, width)
    if len(cut) < 2:
        return np.zeros(len(beats), int)
    usual = median(cut.T)[JITTER:-JITTER]
    shifted = np.lib.stride_tricks.sliding_window_view(cut, 2 * half, axis=1)  # (beats, shifts, 2 half)
    return (shifted @ usual).argmax(1) - JITTER


def _edges(slope: np.ndarray, noise: float) -> tuple[int, int, int]:
    """Return onset and offset against the centre, samples, of an average complex with slope (BEFORE + AFTER,) mV/s.

    The third number is a later offset, where the slope comes to rest not far beyond; else the same offset.
    """
    floor = float(quantile(slope, 0.25))
    noise = noise or floor  # a single beat shows its noise only where it rests
    begin, end = (int(edge[0]) for edge in global_edges(slope, floor, np.array([BEFORE])))
    steepest = slope[begin : end + 1].max(initial=0.0)
    index = np.arange(len(slope))
    low, high = (max(SHARE * steepest, rest, NOISE * noise) for rest in (REST_ON, REST_OFF))
    first = int(last_true(held(slope < low, HOLD_ON, forward=False) & (index <= begin)))
    rest = int(first_true(held(slope < high, HOLD_OFF, forward=True) & (index >= end)))
    first = max(first, begin - FURTHER)  # -1 where it never rests
    last = min(rest if rest >= 0 else end, end + FURTHER)
    return first - BEFORE, last - BEFORE, (rest if last < rest <= end + LATEST else last) - BEFORE


def _stands_off(signal: np.ndarray, off: np.ndarray, late: int) -> bool:
    """Return whether the usual beat is not over at ``off`` (beats,), but ``late`` samples later.

    Where few leads show a last, slow wave, such as a late S, the slope over all leads hardly does. But these leads
    stand away from the line on which they run on after it.
    """
    y = median(windows(signal, off, 0, late + ST_SPAN).swapaxes(1, 2))  # (leads, width)
    st, t = y[:, late:], np.arange(ST_SPAN) - (ST_SPAN - 1) / 2
    line = st.mean(1) + (st @ t) / (t @ t) * (-late - (ST_SPAN - 1) / 2)
    away = np.sort(np.abs(y[:, 0] - line))
    return bool(away[-max(round(SLOW_LEADS * len(away)), 1)] > SLOW_MV)
