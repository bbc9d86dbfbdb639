"""Array idioms that the wave finders share: windows around beats, first and last true sample, robust fusion."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import as_strided


def windows(signal: np.ndarray, centre: np.ndarray, before: int, after: int, step: int = 1) -> np.ndarray:
    """Cut a window around every beat.

    Args:
        signal: (leads, samples).
        centre: (beats,) integer sample numbers, at least ``before`` from the start and ``after`` from the end.
        before: Samples before the centre; negative starts later.
        after: Samples after the centre, not included.
        step: Take every so many samples.

    Returns:
        (leads, beats, (before + after) / step).
    """
    width = before + after
    lead, sample = signal.strides
    every = as_strided(  # (leads, starts, width / step); only the rows that are picked are copied
        signal,
        (len(signal), signal.shape[1] - width + 1, -(-width // step)),
        (lead, sample, step * sample),
        writeable=False,
    )
    return every[:, centre - before]


def share_true(mask: np.ndarray) -> np.ndarray:
    """Return the share of true values along the last axis."""
    return np.count_nonzero(mask, axis=-1) / mask.shape[-1]


def first_true(mask: np.ndarray) -> np.ndarray:
    """Return the index of the first true value along the last axis, -1 where there is none."""
    return np.where(mask.any(-1), mask.argmax(-1), -1)


def last_true(mask: np.ndarray) -> np.ndarray:
    """Return the index of the last true value along the last axis, -1 where there is none."""
    return np.where(mask.any(-1), mask.shape[-1] - 1 - mask[..., ::-1].argmax(-1), -1)


def sums(x: np.ndarray) -> np.ndarray:
    """Return the sums of the first 0, 1, ... values along the last axis, double precision: one longer than ``x``."""
    out = np.zeros((*x.shape[:-1], x.shape[-1] + 1))
    np.cumsum(x, axis=-1, out=out[..., 1:])
    return out


def running_mean(x: np.ndarray, width: int) -> np.ndarray:
    """Return the centred moving average of a 1-D array; the ends average what there is."""
    total = sums(x)
    i = np.arange(len(x))
    start, stop = np.clip(i - width // 2, 0, len(x)), np.clip(i - width // 2 + width, 0, len(x))
    return (total[stop] - total[start]) / np.maximum(stop - start, 1)


def held(mask: np.ndarray, count: int, forward: bool) -> np.ndarray:
    """Return where the mask is true for ``count`` samples in a row that start here (forward) or end here."""
    if mask.shape[-1] < count:
        return np.zeros_like(mask)
    full, length = mask, 1  # true where ``length`` samples in a row start
    while length < count:
        step = min(length, count - length)
        full, length = full[..., step:] & full[..., : full.shape[-1] - step], length + step
    rest = np.zeros((*mask.shape[:-1], count - 1), bool)
    return np.concatenate([full, rest] if forward else [rest, full], axis=-1)


def at(x: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Return one value per window: (leads, beats, width) at index (leads, beats) gives (leads, beats)."""
    return x.reshape(-1, x.shape[-1])[np.arange(index.size), index.reshape(-1)].reshape(index.shape)


def quantile(x: np.ndarray, share: float) -> np.ndarray:
    """Return ``np.quantile`` along the last axis of an array without NaN; by partition, faster on small ones."""
    place = share * (x.shape[-1] - 1)
    low = int(place)
    if low == place:
        return np.partition(x, low, axis=-1)[..., low]
    high = low + 1
    part = np.partition(x, (low, high), axis=-1)
    return part[..., low] + (place - low) * (part[..., high] - part[..., low])


def median(x: np.ndarray) -> np.ndarray:
    """Return the median along the last axis of an array without NaN."""
    return quantile(x, 0.5)


def nanmedian(x: np.ndarray, axis: int = 0) -> np.ndarray:
    """Return the median that ignores NaN and gives NaN, silently, where nothing is left.

    Sorts (NaN goes last) and picks: many times faster than ``np.nanmedian`` on small arrays.
    """
    if x.shape[axis] == 0:
        return np.full(np.delete(x.shape, axis), np.nan)
    x = x.swapaxes(axis, -1) if x.ndim == 2 else np.moveaxis(x, axis, -1)  # of two axes the same, but faster
    if not np.isnan(x).any():
        return median(x)
    ordered = np.sort(x, axis=-1)
    count = np.asarray(np.count_nonzero(ordered == ordered, axis=-1))
    return (at(ordered, np.maximum(count - 1, 0) // 2) + at(ordered, np.minimum(count // 2, x.shape[-1] - 1))) / 2


def gradient(x: np.ndarray) -> np.ndarray:
    """Return ``np.gradient`` along the last axis: central differences, one-sided at the ends."""
    out = np.empty_like(x)
    np.subtract(x[..., 2:], x[..., :-2], out=out[..., 1:-1])
    out[..., 1:-1] /= 2
    out[..., 0], out[..., -1] = x[..., 1] - x[..., 0], x[..., -1] - x[..., -2]
    return out


def sign_of(x: np.ndarray) -> np.ndarray:
    """Return -1 or 1 (..., 1), single precision, to make waves (..., width) upright."""
    return np.where(x < 0, np.float32(-1), np.float32(1))[..., None]


def rms(x: np.ndarray, axis: int = 0) -> np.ndarray:
    """Return the root mean square over one axis."""
    return np.sqrt(np.mean(np.square(x), axis=axis))


def agree(marks: np.ndarray, near: float) -> np.ndarray:
    """Draw a beat's marks (leads, beats) to their median over leads, the more the nearer they are to it.

    Small differences between leads are mostly chance, large ones are real: within ``near`` samples four fifths of the
    difference go, far from it nothing does.
    """
    apart = marks - nanmedian(marks)
    return marks - 0.8 * apart * np.exp(-np.square(apart / near))


def settle(marks: np.ndarray, anchor: np.ndarray, kind: np.ndarray, beat_limit: int, lead_limit: int) -> np.ndarray:
    """Draw marks that stand alone towards their neighbours.

    A lead's marks keep within ``beat_limit`` of their median distance to the beat, over beats of one kind; then a
    beat's marks keep within ``lead_limit`` of the median over leads. What lies nearer stays as it is.

    Args:
        marks: (leads, beats) samples, NaN where absent.
        anchor: (beats,) the beat's reference, samples.
        kind: (beats,) class of each beat.
        beat_limit: Samples.
        lead_limit: Samples; 0 leaves leads alone.
    """
    offset = marks - anchor
    for name in set(kind.tolist()):
        here = kind == name
        if np.count_nonzero(here) >= 3:
            middle = nanmedian(offset[:, here], axis=1)[:, None]
            offset[:, here] = np.minimum(np.maximum(offset[:, here], middle - beat_limit), middle + beat_limit)
    if lead_limit:
        middle = nanmedian(offset)
        offset = np.minimum(np.maximum(offset, middle - lead_limit), middle + lead_limit)
    return offset + anchor
