"""Filtered views of the signal for the wave finders, from one Fourier transform, all at 500 Hz; pacemaker spikes.

Filters are zero-phase gains on the spectrum, so no wave is shifted, and the change of sampling rate costs nothing:
the spectrum is cut or extended to the working rate before it is transformed back.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy import fft

from gem_lightning.ecg.record import EcgRecord
from gem_lightning.features.delineation.arrays import median

RATE = 500  # working rate of all wave finders, Hz
SLOPE_HZ = 45.0  # corner of the Gaussian under which QRS edges are found, Hz ...
SLOPE_SHARE = 0.28  # ... and at most this share of the record's rate: a spectrum that ends abruptly rings around edges
SPIKE_MARGIN = 6  # working samples around a pacemaker spike that the filters still smear it into
BEAT, SLOPE = 1, 2  # places of these views in the stack
PAD = RATE  # samples of mirrored signal kept before and after, so that no window leaves the array

# glibc gives the top of its heap back to the system after every record, to take it again page by page for the next,
# until a block about this large has been freed once; that is a tenth of a record's time.
np.empty(31 << 20, np.uint8)


@dataclass(frozen=True)
class Views:
    """Filtered copies of the signal, (leads, PAD + samples + PAD) float32 each, at :data:`RATE`.

    Attributes:
        clean: 0.5-60 Hz, mV: amplitudes.
        beat: Slope of 6-28 Hz, mV/s: where QRS complexes stand out.
        slope: Slope under a 45 Hz Gaussian (narrower below 160 Hz), mV/s: QRS edges.
        t: Under a 14 Hz Gaussian, mV.
        p: Under a 24 Hz Gaussian, mV.
        spikes: (n, 2) first and last sample of pacemaker spikes, padded working samples; the views are without them.
        samples: Real samples, without padding, at :data:`RATE`.
        scale: Working samples per sample of the record.
        mains_hz: Frequencies of mains that the views are without.
    """

    clean: np.ndarray
    beat: np.ndarray
    slope: np.ndarray
    t: np.ndarray
    p: np.ndarray
    spikes: np.ndarray
    samples: int
    scale: float
    mains_hz: tuple[float, ...] = ()


def ms(milliseconds: float) -> int:
    """Return milliseconds as working samples."""
    return round(milliseconds * RATE / 1000)


@lru_cache(maxsize=8)
def _gains(length: int, slope_hz: float) -> np.ndarray:
    """Return the gains (views, frequencies) for a real transform of ``length`` samples at :data:`RATE`; complex64."""
    f = fft.rfftfreq(length, 1 / RATE)
    f[0] = 1e-6

    def high(corner: float, order: int) -> np.ndarray:
        return 1 / (1 + (corner / f) ** (2 * order))

    def low(corner: float, order: int) -> np.ndarray:
        return 1 / (1 + (f / corner) ** (2 * order))

    def gauss(corner: float) -> np.ndarray:
        return np.exp(-0.5 * np.log(2) * (f / corner) ** 2)  # half power, -3 dB, at the corner

    derivative = 2j * np.pi * f
    gains = [
        high(0.5, 2) * low(60, 4),
        high(6, 3) * low(28, 3) * derivative,
        high(0.5, 2) * gauss(slope_hz) * derivative,
        high(0.5, 2) * gauss(14),
        high(0.8, 2) * gauss(24),
    ]
    return np.stack(gains).astype(np.complex64)


def fill_gaps(signal: np.ndarray) -> np.ndarray:
    """Replace unknown samples by a straight line between their neighbours; a lead without any value becomes zero."""
    known = np.isfinite(signal)
    if known.all():
        return signal
    filled = signal.copy()
    grid = np.arange(signal.shape[1])
    for i in np.flatnonzero(~known.all(1)):
        filled[i] = np.interp(grid, grid[known[i]], signal[i, known[i]]) if known[i].any() else 0.0
    return filled


def _mirror(x: np.ndarray, before: int, after: int) -> np.ndarray:
    """Continue each lead by point reflection at its ends; what the signal is too short for repeats the last value."""
    n = x.shape[1]
    left = 2 * x[:, :1] - x[:, min(before, n - 1) : 0 : -1]
    right = 2 * x[:, -1:] - x[:, -2 : -min(after, n - 1) - 2 : -1]
    left = np.concatenate([np.repeat(left[:, :1], before - left.shape[1], axis=1), left], axis=1)
    right = np.concatenate([right, np.repeat(right[:, -1:], after - right.shape[1], axis=1)], axis=1)
    return np.concatenate([left, x, right], axis=1)


def views(record: EcgRecord) -> Views:
    """Return all filtered views of a record of at least half a second."""
    fs, n = record.fs, record.samples
    x, spikes = remove_spikes(fill_gaps(record.signal), fs)
    x = x - median(x[:, ::8])[:, None]  # the filters take the rest
    seconds = int(np.ceil(n / fs)) + 2 * PAD // RATE
    length, total = RATE * seconds, round(fs * seconds)
    before = round(PAD * fs / RATE)
    spectrum = fft.rfft(_mirror(x, before, total - n - before), axis=1)  # (leads, total // 2 + 1)
    lines = tuple(hertz for hertz in MAINS_HZ if _has_line(spectrum, hertz, fs / total))
    if lines:
        x = without_mains(x, fs, lines)
        spectrum = fft.rfft(_mirror(x, before, total - n - before), axis=1)
    bins = length // 2 + 1
    if spectrum.shape[1] < bins:
        spectrum = np.pad(spectrum, ((0, 0), (0, bins - spectrum.shape[1])))
    scale = length / total
    spectrum = spectrum[:, :bins] * np.float32(scale)
    stack = fft.irfft(spectrum[None] * _gains(length, min(SLOPE_HZ, SLOPE_SHARE * fs))[:, None], length, axis=-1)
    samples = round(n * scale)
    stack = stack[..., : 2 * PAD + samples]
    spikes = PAD + np.round(spikes * scale).astype(int)
    for first, last in spikes:  # what a spike leaves behind is no slope of the heart's
        stack[[BEAT, SLOPE], :, first - SPIKE_MARGIN : last + SPIKE_MARGIN] = 0
    clean, beat, slope, t, p = stack
    return Views(clean, beat, slope, t, p, spikes=spikes, samples=samples, scale=scale, mains_hz=lines)


# -- mains ------------------------------------------------------------------------------------------------------------

MAINS_HZ = (50.0, 60.0)
LINE_HZ, NEXT_HZ = 1.0, 4.0  # a line holds its power within LINE_HZ, its neighbourhood reaches to NEXT_HZ ...
LINE_RATIO = 8.0  # ... and has this many times less power per Hz; a QRS complex has no line
LINE_MV = 0.02  # and smaller ones are left: the filters below 24 Hz leave little of them
LINE_S = 0.5  # mains change slowly: amplitude and phase are averaged over this long


def _has_line(spectrum: np.ndarray, hertz: float, step: float) -> bool:
    """Return whether a spectrum (leads, frequencies) in mV, ``step`` Hz apart, has a line in any lead."""
    middle, narrow, wide = (round(f / step) for f in (hertz, LINE_HZ, NEXT_HZ))
    around = np.abs(spectrum[:, middle - wide : middle + wide + 1]) ** 2
    if around.shape[1] < 2 * wide + 1:
        return False
    line = around[:, wide - narrow : wide + narrow + 1]
    rest = (around.sum(1) - line.sum(1)) / (2 * (wide - narrow))
    amplitude = 2 * np.sqrt(line.sum(1)) / (2 * (spectrum.shape[1] - 1))
    return bool(((line.mean(1) > LINE_RATIO * rest) & (amplitude > LINE_MV)).any())


def without_mains(x: np.ndarray, fs: float, lines: tuple[float, ...]) -> np.ndarray:
    """Return leads (leads, samples) without their oscillation at each frequency of ``lines``, followed over time."""
    for hertz in lines:
        turn = np.exp(-2j * np.pi * hertz / fs * np.arange(x.shape[1]))
        width = min(round(LINE_S * fs), x.shape[1])
        total = np.cumsum(np.concatenate([np.zeros((len(x), 1)), x * turn], axis=1), axis=1)
        mean = (total[:, width:] - total[:, :-width]) / width
        left = width // 2
        mean = np.pad(mean, ((0, 0), (left, x.shape[1] - mean.shape[1] - left)), mode="edge")
        x = (x - 2 * (mean * turn.conj()).real).astype(x.dtype)
    return x


# -- pacemaker spikes -------------------------------------------------------------------------------------------------

MIN_RATE = 240.0  # at lower sampling rates a spike cannot be distinguished from a QRS complex, Hz
STEP_S, QUIET_S = 0.004, 0.012  # a spike is a change within the first, and the second before it shows none
JUMP_MV = 0.4  # root of the sum of squares of that change over twelve leads
ABRUPT = 3.0  # how many times the largest change in the 20 to 8 ms before
FEW_LEADS, ABRUPT_FEW = 6, 7.0  # fewer leads do not show whether spikes are alike
AV_DELAY_S = (0.06, 0.4)  # from the stimulus of the atria to that of the ventricles (ours: devices allow 30 to 350 ms)
PULSE_S, RETURN_SMALL = 0.016, 0.5  # it is at its height after so long at most, and 40 ms later below this share of it
SMALL_MV = 0.1  # such a stimulus, smoothed by the recorder, on the average beat (LUDB, 45: 0.20; without: below 0.02)
RESTLESS = 4.0  # a lead that usually changes by this many times the usual lead's change is not looked at
REST_MV = 0.02  # added to that change, so that rounding in a flat stretch is no edge
SAME_ELECTRODE = 0.9  # spikes of one electrode are distributed over the leads alike (cosine); noise is not
MIN_COUNT = 3  # a pacemaker does not fire once: so many are alike
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
    step, reach = round(STEP_S * fs), round(LONGEST_MS * fs / 1000)
    if fs < MIN_RATE or signal.shape[1] < fs:
        return signal, nothing
    change = signal[:, step:] - signal[:, :-step]
    unrest = median(np.abs(change[:, ::8]))
    calm = unrest <= RESTLESS * median(unrest) + REST_MV  # noise of one lead would make all its peaks alike
    seen, change = signal[calm], change[calm]
    jump = _jump(change)
    sharp = _sharp(jump, fs, JUMP_MV, ABRUPT if len(seen) >= FEW_LEADS else ABRUPT_FEW)
    if not len(sharp):
        return signal, nothing
    starts = sharp[np.r_[True, np.diff(sharp) > reach]]
    tried = [_span(seen, jump, start, step, reach) for start in starts]
    found = [(start, span) for start, span in zip(starts, tried) if span is not None]
    steepest = [start + int(jump[start : start + step + 1].argmax()) for start, _ in found]
    spans = np.array([span for (_, span), like in zip(found, _repeated(change[:, steepest])) if like], int)
    if not len(spans):
        return signal, nothing
    clean = _bridged(signal, spans)
    ahead = _ahead(clean[calm], spans[:, 0], fs)
    if ahead is None:
        return clean, spans
    return _bridged(clean, ahead), np.sort(np.concatenate([spans, ahead]), axis=0)


def _bridged(signal: np.ndarray, spans: np.ndarray) -> np.ndarray:
    """Return leads (leads, samples) with a straight line in place of each span, first and last sample (n, 2)."""
    clean = signal.copy()
    for first, last in spans:
        share = np.linspace(0, 1, last - first + 1)
        clean[:, first : last + 1] = signal[:, [first]] * (1 - share) + signal[:, [last]] * share
    return clean


def _jump(change: np.ndarray) -> np.ndarray:
    """Return the change within STEP_S, mV: root of the sum of squares over twelve leads of such changes (leads, n)."""
    power = np.square(change)
    total, counted = power.sum(0), len(change)
    if counted > 2:  # no pacemaker's spike is in one lead only; a broken lead's jumps are
        total, counted = total - power.max(0), counted - 1
    return np.sqrt(total * 12 / counted)


def _sharp(jump: np.ndarray, fs: float, least: float, abrupt: float) -> np.ndarray:
    """Return the samples at which jumps of at least so many mV are so many times those just before."""
    step, quiet = round(STEP_S * fs), round(QUIET_S * fs)
    high = np.flatnonzero(jump > least)
    high = high[high >= 2 * step + quiet]
    if not len(high):
        return high
    before = np.lib.stride_tricks.sliding_window_view(jump, quiet)[high - step - quiet].max(-1)
    return high[jump[high] > abrupt * (before + REST_MV)]


def _ahead(signal: np.ndarray, spikes: np.ndarray, fs: float) -> np.ndarray | None:
    """Return first and last samples (n, 2) of smaller stimuli at one distance ahead of the spikes (n,), None without.

    A pacemaker's delay from the atria to the ventricles is constant, so the average of what precedes its spikes holds
    the stimulus of the atria, however small, and of P waves and noise nothing that is as abrupt.
    """
    far, near, step = (round(seconds * fs) for seconds in (AV_DELAY_S[1], AV_DELAY_S[0], STEP_S))
    spikes = spikes[spikes >= far]
    if len(spikes) < MIN_COUNT or len(signal) < FEW_LEADS:
        return None
    mean = np.mean([signal[:, spike - far : spike] for spike in spikes], axis=0)
    jump = _jump(mean[:, step:] - mean[:, :-step])
    sharp = _sharp(jump[: far - near], fs, SMALL_MV, ABRUPT)
    if not len(sharp):
        return None
    start = int(sharp[jump[sharp].argmax()])
    away = np.linalg.norm(mean[:, start : start + round(LONGEST_MS * fs / 1000)] - mean[:, [start - 1]], axis=0)
    if away.argmax() > PULSE_S * fs or away[-1] > RETURN_SMALL * away.max():  # a QRS complex of a regular rhythm
        return None
    first = spikes - far + start - 1
    return np.stack([first, first + int(np.flatnonzero(away > TAIL_SHARE * away.max())[-1]) + 2 * step], axis=1)


def _repeated(vectors: np.ndarray) -> np.ndarray:
    """Return which of n changes (leads, n) are distributed over the leads like at least MIN_COUNT, itself included."""
    unit = vectors / (np.linalg.norm(vectors, axis=0) + 1e-12)
    return (np.abs(unit.T @ unit) > SAME_ELECTRODE).sum(axis=1) >= MIN_COUNT


def _span(signal: np.ndarray, jump: np.ndarray, start: int, step: int, reach: int) -> tuple[int, int] | None:
    """Return first and last sample of a spike, or None where the signal rises slowly or stays away (a QRS complex)."""
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
