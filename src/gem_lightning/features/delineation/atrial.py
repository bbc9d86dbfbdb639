"""Atrial waves in the pauses between beats: P waves that are not conducted, and flutter."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import as_strided

from gem_lightning.features.delineation.arrays import median, nanmedian, rms, sums
from gem_lightning.features.delineation.filters import PAD, RATE, Views, ms
from gem_lightning.features.delineation.qrs import Qrs

STEP = 4  # every fourth sample is enough for waves below 24 Hz
HALF = ms(60)  # half the length of the pattern that is looked for
LIKE = 0.75  # correlation with the pattern over all leads
SIZE = (0.4, 2.5)  # height against the pattern
AFTER_T = ms(40)  # a pause begins this long after the T wave ...
BEFORE_P = ms(60)  # ... and ends this long before the P wave's usual place
FLUTTER_PER_S = 1.5  # more waves a second of pause than this are flutter ...
FLUTTER_MIN = 3  # ... if there are this many
FLUTTER_HZ = (3.8, 5.4)  # atrial rate of typical flutter, 230 to 320 a minute
FLUTTER_SHARE = 0.2  # of the power between 3 and 10 Hz lies within 0.35 Hz of the peak ...
FLUTTER_SHARE_UNEVEN = 0.3  # ... or this much, where RR is uneven: a few values are soon multiples of something
STEADY_RR = 0.05  # in flutter most RR intervals equal the one before, within this share ...
MULTIPLE_RR = 0.15  # ... or all are multiples of the atrial cycle, within this share of it (root mean square)
MIN_RR = 4  # fewer RR intervals show neither
MIN_MV = 0.03  # free P waves, root mean square over leads
FREE_PER_BEAT = 0.8  # fewer free P waves than this per beat are chance resemblances, as in fibrillation
UNEVEN = 0.08  # distances of free P waves are multiples of one cycle, within this share of it
FLUTTER_CYCLE = ms(180), ms(342)  # 330 to 176 a minute, the slow ones under drugs
CLOCKWORK = 0.12  # of a cycle: flutter's waves depart from its multiples by less (root mean square), chance by 0.15
MIN_PAUSE = ms(240)
FASTEST = ms(270)  # P waves are not closer, 220 a minute


@dataclass(frozen=True)
class Atria:
    """What the atria do between beats.

    Attributes:
        extra: (n,) P peaks that no QRS complex follows, padded working samples.
        flutter: Waves like those before the QRS complexes fill the pauses too.
    """

    extra: np.ndarray
    flutter: bool = False


def pauses(views: Views, qrs: Qrs, t_off: np.ndarray, trusted: np.ndarray, before: int) -> list[tuple[int, int]]:
    """Return the gaps from each T end to ``before`` samples ahead of the next QRS onset or the record's end."""
    end = nanmedian(t_off[trusted])
    end = np.where(np.isfinite(end), end, qrs.off + ms(300))
    before_first = qrs.on[0] - median(np.diff(qrs.on)) + median(end - qrs.on) if len(end) > 1 else PAD
    start = np.r_[max(before_first, PAD), end + AFTER_T].astype(int)
    stop = np.r_[qrs.on, PAD + views.samples].astype(int) - before
    return [(a, b) for a, b in zip(start, stop) if b > a]


def activity(views: Views, trusted: np.ndarray, qrs: Qrs, t_off: np.ndarray) -> float:
    """Return what oscillates between T end and the next QRS complex, mV (root mean square over leads); NaN unknown."""
    gaps = np.array(pauses(views, qrs, t_off, trusted, ms(20))).reshape(-1, 2)
    gaps = -(-gaps[gaps[:, 1] - gaps[:, 0] >= MIN_PAUSE] // STEP)
    if not len(gaps):
        return float("nan")
    start, stop = gaps.T
    x = views.p[:, ::STEP][trusted].astype(np.float64)
    t = np.arange(x.shape[1])
    total, moment, square = (s[:, stop] - s[:, start] for s in (sums(x), sums(t * x), sums(x * x)))  # (leads, gaps)
    count, middle = stop - start, (start + stop - 1) / 2
    slope = moment - middle * total  # of a line, taken away as baseline wander, times the spread of its places
    rest = square / count - (total / count) ** 2 - slope**2 / (count * count * (count**2 - 1) / 12)
    return float(np.median(np.sqrt(np.maximum(rest.mean(0), 0))))


def search(views: Views, trusted: np.ndarray, pattern: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find every place in the record that resembles a pattern.

    Args:
        views: Filtered signals.
        trusted: (leads,) bool.
        pattern: (trusted leads, 2 * HALF // STEP) at the reduced rate.

    Returns:
        Correlation (places,), zero where the size does not fit, and the padded working sample of each centre (places,).
    """
    x = views.p[:, ::STEP][trusted]
    width = pattern.shape[1]
    pattern = pattern - pattern.mean(1, keepdims=True)
    places = x.shape[1] - width + 1
    lagged = pattern.T @ x  # (lags, samples); a place's product is the sum along a diagonal
    lag, sample = lagged.strides
    product = as_strided(lagged, (width, places), (lag + sample, sample), writeable=False).sum(0)
    total, square = sums(x), sums(np.einsum("ls,ls->s", x, x))
    mean = total[:, width:] - total[:, :-width]
    energy = square[width:] - square[:-width] - np.einsum("ls,ls->s", mean, mean) / width
    norm = np.sum(pattern**2)
    like = product / np.sqrt(np.maximum(energy, 1e-9) * norm + 1e-12)
    size = product / (norm + 1e-12)
    fits = (size > SIZE[0]) & (size < SIZE[1])
    return np.where(fits, like, 0), np.arange(places) * STEP + HALF


def between_beats(
    views: Views, trusted: np.ndarray, usual: np.ndarray, centre: int, steps_apart: int, qrs: Qrs, t_off: np.ndarray
) -> Atria:
    """Find waves of the usual P form that no QRS complex follows.

    Args:
        views: Filtered signals.
        trusted: (leads,) bool.
        usual: (leads, span) what usually precedes a QRS complex, up to its onset, mV.
        centre: Index of the P peak in it.
        steps_apart: Working samples from one of its columns to the next, 1, 2 or 4.
        qrs: QRS complexes.
        t_off: (leads, beats) T ends.
    """
    span, half = usual.shape[1], HALF // steps_apart
    centre = min(max(centre, half), span - half)
    pattern = usual[trusted][:, centre - half : centre + half : STEP // steps_apart]
    gaps = pauses(views, qrs, t_off, trusted, steps_apart * (span - centre) + BEFORE_P + HALF // 2)
    found = _peaks(*search(views, trusted, pattern), gaps)
    seconds = max(sum(b - a for a, b in gaps) / ms(1000), 0.3)
    if len(found) < FLUTTER_MIN or len(found) / seconds <= FLUTTER_PER_S:
        return Atria(found)
    return Atria(found, _clockwork(np.sort(np.r_[found, qrs.on - steps_apart * (span - centre)])))


def _clockwork(waves: np.ndarray) -> bool:
    """Return whether waves (n,), samples, follow each other as fast as flutter's and at multiples of one cycle.

    Where a P wave's shape is found in the pauses by chance, it is at no fixed place.
    """
    apart = np.diff(waves)
    apart = apart[apart > ms(100)]
    if len(apart) < FLUTTER_MIN:
        return False
    cycles = apart / np.arange(*FLUTTER_CYCLE, ms(4))[:, None]
    return bool(rms(cycles - np.round(cycles), axis=1).min() < CLOCKWORK)


def free_p(views: Views, trusted: np.ndarray, qrs: Qrs, t_off: np.ndarray) -> Atria:
    """Find P waves without relation to QRS: alike bumps in the pauses, not faster than a sinus node fires."""
    nothing = Atria(np.zeros(0))
    gaps = [g for g in pauses(views, qrs, t_off, trusted, HALF) if g[1] - g[0] >= MIN_PAUSE]
    bumps = []
    for start, stop in gaps:
        y = views.p[trusted][:, start:stop:STEP]
        level = rms(y - np.median(y, axis=1, keepdims=True))
        edge = HALF // STEP
        if len(level) > 2 * edge and level[edge:-edge].max() > MIN_MV:
            bumps.append(start + STEP * (edge + int(level[edge:-edge].argmax())))
    if len(bumps) < 3:
        return nothing
    shapes = np.stack([views.p[trusted][:, b - HALF : b + HALF : STEP] for b in bumps])  # (bumps, leads, width)
    flat = (shapes - shapes.mean(-1, keepdims=True)).reshape(len(bumps), -1)
    flat = flat / (np.linalg.norm(flat, axis=1, keepdims=True) + 1e-9)
    alike = flat @ flat.T > LIKE
    group = alike[int(alike.sum(1).argmax())]
    if group.sum() < max(3, len(bumps) / 2):
        return nothing
    found = _peaks(*search(views, trusted, np.median(shapes[group], axis=0)), gaps)
    if len(found) < max(3, FREE_PER_BEAT * len(qrs.on)):
        return nothing
    apart = np.diff(found)
    cycle = np.median(apart[apart < 1.5 * apart.min()])
    uneven = np.median(np.abs(apart / cycle - np.round(apart / cycle)))
    if cycle < FASTEST or uneven > UNEVEN:
        return nothing
    return Atria(found)


def _peaks(like: np.ndarray, place: np.ndarray, gaps: list[tuple[int, int]]) -> np.ndarray:
    """Return centres (n,) of the best matches inside the gaps, none closer than 120 ms."""
    inside = np.zeros(len(like), bool)
    for start, stop in gaps:
        inside |= (place >= start) & (place <= stop)
    like = np.where(inside, like, 0)
    top = np.flatnonzero((like[1:-1] > LIKE) & (like[1:-1] >= like[:-2]) & (like[1:-1] > like[2:])) + 1
    keep: list[int] = []
    for i in top:
        if keep and place[i] - place[keep[-1]] < ms(120):
            if like[i] > like[keep[-1]]:
                keep[-1] = int(i)
            continue
        keep.append(int(i))
    return place[keep].astype(float)


def organised(views: Views, leads: np.ndarray, beats: np.ndarray, qrs: Qrs, own: np.ndarray) -> bool:
    """Return whether what is left after taking the usual beat away is one steady oscillation at a flutter's rate.

    Coarse fibrillation can look like that for ten seconds, but conducts at random; flutter conducts each n-th wave.

    Args:
        views: Filtered signals.
        leads: Rows to look at, best II, III, aVF and V1.
        beats: (beats,) padded working samples.
        qrs: QRS complexes.
        own: (beats,) bool, which are conducted from the atria: not those of the ventricles.
    """
    x = views.p[leads, ::STEP].astype(np.float64)
    centre, count = beats // STEP, x.shape[1]
    before, after = ms(100) // STEP, ms(600) // STEP
    index = np.clip(centre[:, None] + np.arange(-before, after), 0, count - 1)
    cut = x[:, index]
    usual = np.median(cut - cut.mean(-1, keepdims=True), axis=1)  # (leads, before + after)
    following = np.r_[centre[1:] - before, count]
    margin = ms(32) // STEP
    for k, here in enumerate(centre):
        start, stop = max(here - before, 0), min(here + after, int(following[k]))
        x[:, start:stop] -= usual[:, start - here + before : stop - here + before]
        first, last = max(qrs.on[k] // STEP - margin, 0), min(qrs.off[k] // STEP + margin, count - 1)
        share = np.linspace(0, 1, last - first + 1)
        x[:, first : last + 1] = x[:, [first]] * (1 - share) + x[:, [last]] * share
    x = x[:, PAD // STEP : count - PAD // STEP]
    x = (x - x.mean(1, keepdims=True)) * np.hanning(x.shape[1])
    power = (np.abs(np.fft.rfft(x, 4096, axis=1)) ** 2).sum(0)
    hertz = np.fft.rfftfreq(4096, STEP / RATE)
    atrial = (hertz > 3) & (hertz < 10)
    peak = hertz[atrial][power[atrial].argmax()]
    share_at_peak = power[np.abs(hertz - peak) < 0.35].sum() / (power[atrial].sum() + 1e-12)
    rr = np.diff(beats)[own[1:] & own[:-1]]
    if len(rr) < MIN_RR or not FLUTTER_HZ[0] <= peak <= FLUTTER_HZ[1]:
        return False
    least = FLUTTER_SHARE if steady(rr) else FLUTTER_SHARE_UNEVEN
    return bool(share_at_peak > least) and conducted_in_ratio(rr, RATE / peak)


def steady(rr: np.ndarray) -> bool:
    """Return whether RR (n,) mostly equal the one before."""
    return bool(np.median(np.abs(np.diff(rr))) < STEADY_RR * np.median(rr))


def conducted_in_ratio(rr: np.ndarray, cycle: float) -> bool:
    """Return whether RR (n,) are mostly equal, or multiples of a cycle within a tenth of ``cycle``; samples."""
    waves = rr / (cycle * np.linspace(0.9, 1.1, 21))[:, None]
    return steady(rr) or bool(rms(waves - np.round(waves), axis=1).min() < MULTIPLE_RR)
