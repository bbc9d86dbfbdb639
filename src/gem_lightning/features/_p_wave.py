"""The P wave: present where the PQ stretch repeats from beat to beat and stands above its noise."""

from __future__ import annotations

import numpy as np

from gem_lightning.features._arrays import at, nanmedian, rms, windows
from gem_lightning.features._atria import Atria, between_beats, free_p
from gem_lightning.features._filters import PAD, Views, ms
from gem_lightning.features._qrs import Qrs, rr_samples
from gem_lightning.features._t_wave import Wave, trapezium_end

SPAN = ms(300)  # window before the QRS complex in which its P wave lies
GUARD = ms(14)  # the last stretch before the QRS complex holds no P peak
MIN_MV = 0.020  # a P wave over all leads (root mean square) is not smaller
MIN_SNR = 1.5  # nor less than this multiple of what differs from beat to beat
MIN_SNR_UNEVEN = 5.0  # the same where RR varies, so that fibrillation is possible ...
UNEVEN_RR = 0.1  # ... by more than this share (standard deviation over mean)
MIN_LIKENESS = 0.40  # a beat's PQ stretch correlates at least so much with the usual one
RIGHT, LEFT = ms(36), ms(45)  # length of the trapezium after (before) the steepest point
BIAS_ON, BIAS_OFF = -1, -1  # samples by which experts differ (LUDB, odd records)


def find_p(
    views: Views, trusted: np.ndarray, beats: np.ndarray, qrs: Qrs, t_off: np.ndarray, usual_beats: np.ndarray
) -> tuple[Wave, Atria]:
    """P waves of every lead and beat, and atrial waves that no QRS complex follows.

    Args:
        views: Filtered signals.
        trusted: (leads,) bool.
        beats: (beats,) padded working samples.
        qrs: QRS complexes.
        t_off: (leads, beats) T ends: a P wave begins after the T wave of the beat before.
        usual_beats: (beats,) bool, beats that may have a P wave of the usual form.
    """
    start = qrs.on - SPAN
    deviation, allowed = _deviation(views, trusted, beats, qrs, t_off)
    absent = np.full(deviation.shape[:2], np.nan)
    none = Wave(absent, absent, absent)
    usable = (allowed.mean(1) > 0.3) & usual_beats & (start > PAD)
    if not usable.any():
        return none, free_p(views, trusted, qrs, t_off)
    usual = np.median(deviation[:, usable], axis=1)  # (leads, SPAN)
    present = _present(deviation[trusted], usual[trusted], usable, beats)
    if not present.any():
        return none, free_p(views, trusted, qrs, t_off)
    index = np.arange(SPAN)
    centre = int(rms(usual[trusted]).argmax())
    atria = between_beats(views, trusted, usual, centre, qrs, t_off)
    if atria.flutter:
        return none, atria
    near = (np.abs(index - centre) <= ms(45)) & allowed
    middle = np.where(near, rms(deviation[trusted]), -1).argmax(1)
    near = (np.abs(index - middle[:, None]) <= ms(36)) & allowed
    peak = np.where(near, np.abs(deviation), -1).argmax(-1)
    on, off = _ends(deviation, peak)
    shown = present & trusted[:, None]
    on = np.where(shown, start + on + BIAS_ON, np.nan)
    off = np.where(shown, start + off + BIAS_OFF, np.nan)
    return Wave(on, np.where(shown, start + peak, np.nan), off), atria


def _deviation(
    views: Views, trusted: np.ndarray, beats: np.ndarray, qrs: Qrs, t_off: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Deviation from the line T end to QRS onset (leads, beats, SPAN), zero where no P can be; and where it can."""
    index = np.arange(SPAN)
    before, _ = rr_samples(beats)
    t_end = nanmedian(t_off[trusted])
    t_end = np.r_[0, np.where(np.isfinite(t_end), t_end, 0)[:-1]]
    first = np.maximum(t_end - (qrs.on - SPAN) - ms(10), SPAN - np.minimum(0.42 * before, SPAN))
    first = np.clip(first, 0, SPAN - ms(90)).astype(int)
    last = SPAN - GUARD
    allowed = (index >= first[:, None]) & (index <= last)
    signal = windows(views.p, qrs.on, SPAN, 0)
    left = at(signal, np.broadcast_to(first, signal.shape[:2]))[..., None]
    right = np.median(signal[..., SPAN - ms(24) : SPAN - ms(6)], -1)[..., None]
    share = np.clip((index - first[:, None]) / (last - first)[:, None], 0, 1)
    return np.where(allowed, signal - (share * right + (1 - share) * left), 0), allowed


def _present(deviation: np.ndarray, usual: np.ndarray, usable: np.ndarray, beats: np.ndarray) -> np.ndarray:
    """(beats,) whether each beat has a P wave; arguments hold trusted leads only."""
    flat = deviation.transpose(1, 0, 2).reshape(deviation.shape[1], -1)
    shape = usual.reshape(-1)
    likeness = flat @ shape / (np.linalg.norm(flat, axis=1) * np.linalg.norm(shape) + 1e-12)
    height = rms(usual).max()
    unrest = np.sqrt(np.median(np.mean((deviation[:, usable] - usual[:, None]) ** 2, axis=(0, 2))))
    rr = np.diff(beats)[usable[1:] & usable[:-1]]
    uneven = len(rr) >= 3 and np.std(rr) > UNEVEN_RR * np.mean(rr)
    enough = height > max(MIN_MV, (MIN_SNR_UNEVEN if uneven else MIN_SNR) * unrest)
    return (likeness > MIN_LIKENESS) & usable & enough


def _ends(deviation: np.ndarray, peak: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Onset and offset (leads, beats) in the window."""
    index = np.arange(SPAN)
    sign = np.where(at(deviation, peak) < 0, -1.0, 1.0)[..., None]
    upright = deviation * sign
    slope = np.gradient(upright, axis=-1)
    falling = (index >= peak[..., None] + ms(4)) & (index <= peak[..., None] + ms(70))
    steepest = np.where(falling, -slope, -np.inf).argmax(-1)
    off = trapezium_end(upright, steepest, np.minimum(steepest + RIGHT, SPAN - 1))
    rising = (index <= peak[..., None] - ms(4)) & (index >= peak[..., None] - ms(70))
    steepest = np.where(rising, slope, -np.inf).argmax(-1)
    mirror = SPAN - 1
    reach = np.maximum(steepest - LEFT, 0)
    on = mirror - trapezium_end(upright[..., ::-1], mirror - steepest, mirror - reach)
    return on, off
