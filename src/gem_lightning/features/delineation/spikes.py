"""Pacemaker spikes: found by their abruptness and taken out before anything else is measured."""

from __future__ import annotations

import numpy as np

MIN_RATE = 240.0  # at lower sampling rates a spike is no longer told from a QRS complex, Hz
JUMP_MV = 0.4  # change within 4 ms, root of the sum of squares over twelve leads
ABRUPT = 7.0  # how many times the largest change in the 20 to 8 ms before
REST_MV = 0.02  # added to that change, so that rounding in a flat stretch is no edge
MIN_COUNT = 3  # a pacemaker does not fire once
LONGEST_MS = 40.0  # a spike that the recorder's filter has smeared is not longer
RETURN_SHARE = 0.8  # after it the signal is nearer to where it began than this share of the spike's height
FRONT_SHARE = 0.75  # within 2 ms a spike reaches this share of its height
TAIL_SHARE = 0.35  # its end is the last change of at least this share of the first


def remove_spikes(signal: np.ndarray, fs: float) -> tuple[np.ndarray, np.ndarray]:
    """Bridge pacemaker spikes with straight lines.

    Args:
        signal: (leads, samples), mV, without gaps.
        fs: Hz.

    Returns:
        The signal without spikes (the same array where there are none) and (n, 2) first and last
        sample of each spike.
    """
    nothing = np.zeros((0, 2), int)
    step, quiet = round(0.004 * fs), round(0.012 * fs)
    if fs < MIN_RATE or signal.shape[1] < fs:
        return signal, nothing
    change = signal[:, step:] - signal[:, :-step]
    power = np.square(change)
    total, counted = power.sum(0), len(signal)
    if counted > 2:  # no pacemaker's spike is in one lead only; a broken lead's jumps are
        total, counted = total - power.max(0), counted - 1
    jump = np.sqrt(total * 12 / counted)
    high = np.flatnonzero(jump > JUMP_MV)
    high = high[high >= 2 * step + quiet]
    if not len(high):
        return signal, nothing
    before = np.lib.stride_tricks.sliding_window_view(jump, quiet)[high - step - quiet].max(-1)
    sharp = high[jump[high] > ABRUPT * (before + REST_MV)]
    if not len(sharp):
        return signal, nothing
    starts = sharp[np.r_[True, np.diff(sharp) > LONGEST_MS * fs / 1000]]
    tried = [_span(signal, jump, start, step, round(LONGEST_MS * fs / 1000)) for start in starts]
    spans = [span for span in tried if span is not None]
    if len(spans) < MIN_COUNT:
        return signal, nothing
    clean = signal.copy()
    for first, last in spans:
        share = np.linspace(0, 1, last - first + 1)
        clean[:, first : last + 1] = signal[:, [first]] * (1 - share) + signal[:, [last]] * share
    return clean, np.array(spans)


def _span(signal: np.ndarray, jump: np.ndarray, start: int, step: int, reach: int) -> tuple[int, int] | None:
    """First and last sample of a spike, or None where the signal rises slowly or stays away (a QRS complex)."""
    tail = jump[start : start + reach]
    first = max(start - 1, 0)
    last = start + int(np.flatnonzero(tail >= TAIL_SHARE * tail.max())[-1]) + 2 * step
    last = min(last, signal.shape[1] - 1)
    away = np.sqrt(np.sum((signal[:, first : last + 1] - signal[:, [first]]) ** 2, axis=0))
    half = max(step // 2, 1)
    front = signal[:, start : start + reach + half]
    front = np.sqrt(np.sum((front[:, half:] - front[:, :-half]) ** 2, axis=0)).max(initial=0.0)
    if away[-1] > RETURN_SHARE * away.max() or front < FRONT_SHARE * away.max():
        return None
    return first, last
