"""The P wave: present where the PQ stretch repeats from beat to beat and stands above its noise."""

from __future__ import annotations

import numpy as np

from gem_lightning.features.delineation.arrays import at, gradient, median, nanmedian, rms, sign_of, windows
from gem_lightning.features.delineation.atrial import Atria, between_beats, free_p
from gem_lightning.features.delineation.filters import PAD, Views
from gem_lightning.features.delineation.qrs import Qrs, rr_samples
from gem_lightning.features.delineation.t_wave import STEP, Wave, steps, trapezium_end

SPAN = steps(300)  # window before the QRS complex in which its P wave lies; inside windows lengths are in steps
GUARD = steps(14)  # the last stretch before the QRS complex holds no P peak
AFTER_T = steps(14)  # the level before the P wave is read this long after the window begins, off the T wave's flank
MIN_MV = 0.020  # a P wave over all leads (root mean square) is not smaller
MIN_SNR = 1.5  # nor less than this multiple of what differs from beat to beat
MIN_SNR_UNEVEN = 5.0  # the same where RR varies, so that fibrillation is possible ...
UNEVEN_RR = 0.1  # ... by more than this share (standard deviation over mean)
SECOND_PHASE = 0.45  # a second phase of at least this share of the first makes a P wave biphasic
MIN_LEAD_MV = 0.015  # a lead shows no P wave where the usual beat does not exceed this ...
LEAD_SNR = 0.9  # ... by less than this multiple of how uncertain its usual beat is
MIN_LIKENESS = 0.40  # a beat's PQ stretch correlates at least so much with the usual one
RIGHT, LEFT = steps(36), steps(44)  # length of the trapezium after (before) the steepest point
BIAS_ON, BIAS_OFF = 0, -2.0  # samples by which experts differ (LUDB, odd records)


def find_p(
    views: Views, trusted: np.ndarray, beats: np.ndarray, qrs: Qrs, t_off: np.ndarray, usual_beats: np.ndarray
) -> tuple[Wave, Atria]:
    """Find the P waves of every lead and beat, and atrial waves that no QRS complex follows.

    Args:
        views: Filtered signals.
        trusted: (leads,) bool.
        beats: (beats,) padded working samples.
        qrs: QRS complexes.
        t_off: (leads, beats) T ends: a P wave begins after the T wave of the beat before.
        usual_beats: (beats,) bool, beats that may have a P wave of the usual form.
    """
    start = qrs.on - STEP * SPAN
    deviation, allowed = _deviation(views, trusted, beats, qrs, t_off)
    absent = np.full(deviation.shape[:2], np.nan)
    none = Wave(absent, absent, absent)
    usable = (allowed.mean(1) > 0.3) & usual_beats & (start > PAD)
    if not usable.any():
        return none, free_p(views, trusted, qrs, t_off)
    usual = median(deviation[:, usable].swapaxes(1, 2))  # (leads, SPAN)
    present = _present(deviation[trusted], usual[trusted], usable, beats)
    if not present.any():
        return none, free_p(views, trusted, qrs, t_off)
    index = np.arange(SPAN)
    centre = int(rms(usual[trusted]).argmax())
    atria = between_beats(views, trusted, usual, centre, STEP, qrs, t_off)
    if atria.flutter:
        return none, atria
    near = (np.abs(index - centre) <= steps(45)) & allowed
    middle = np.where(near, rms(deviation[trusted]), -1).argmax(1)
    near = (np.abs(index - middle[:, None]) <= steps(36)) & allowed
    peak = np.where(near, np.abs(deviation), -1).argmax(-1)
    on, off = _ends(deviation, peak)
    around = slice(max(centre - steps(50), 0), centre + steps(50))
    unrest = median(rms(deviation[:, usable, around] - usual[:, None, around], axis=-1))  # (leads,)
    visible = np.abs(usual[:, around]).max(1) > MIN_LEAD_MV + LEAD_SNR * unrest / np.sqrt(usable.sum())
    shown = present & (trusted & visible)[:, None]

    def place(index: np.ndarray, bias: float = 0) -> np.ndarray:
        return np.where(shown, start + STEP * index + bias, np.nan)

    return Wave(place(on, BIAS_ON), place(peak), place(off, BIAS_OFF)), atria


def _deviation(
    views: Views, trusted: np.ndarray, beats: np.ndarray, qrs: Qrs, t_off: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the deviation from the line T end to QRS onset (leads, beats, SPAN), and where a P wave can be."""
    index = np.arange(SPAN)
    before, _ = rr_samples(beats)
    t_end = nanmedian(t_off[trusted])
    t_end = np.r_[0, np.where(np.isfinite(t_end), t_end, 0)[:-1]]
    first = np.maximum((t_end - qrs.on) / STEP + SPAN - steps(10), SPAN - np.minimum(0.42 * before / STEP, SPAN))
    first = np.clip(first, 0, SPAN - steps(90)).astype(int)
    last = SPAN - GUARD
    allowed = (index >= first[:, None]) & (index <= last)
    signal = windows(views.p, qrs.on, STEP * SPAN, 0, STEP)
    left = at(signal, np.broadcast_to(first + AFTER_T, signal.shape[:2]))[..., None]
    right = median(signal[..., SPAN - steps(24) : SPAN - steps(6)])[..., None]
    share = np.clip((index - first[:, None]) / (last - first)[:, None], 0, 1).astype(np.float32)
    return np.where(allowed, signal - (share * right + (1 - share) * left), 0), allowed


def _present(deviation: np.ndarray, usual: np.ndarray, usable: np.ndarray, beats: np.ndarray) -> np.ndarray:
    """Return (beats,) whether each beat has a P wave; arguments hold trusted leads only."""
    flat = deviation.transpose(1, 0, 2).reshape(deviation.shape[1], -1)
    shape = usual.reshape(-1)
    likeness = flat @ shape / (np.linalg.norm(flat, axis=1) * np.linalg.norm(shape) + 1e-12)
    height = rms(usual).max()
    unrest = np.sqrt(median(np.mean((deviation[:, usable] - usual[:, None]) ** 2, axis=(0, 2))))
    rr = np.diff(beats)[usable[1:] & usable[:-1]]
    uneven = len(rr) >= 3 and np.std(rr) > UNEVEN_RR * np.mean(rr)
    enough = height > max(MIN_MV, (MIN_SNR_UNEVEN if uneven else MIN_SNR) * unrest)
    return (likeness > MIN_LIKENESS) & usable & enough


def _ends(deviation: np.ndarray, peak: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return onset and offset (leads, beats) in the window, of the first and the last phase of a biphasic wave."""
    index = np.arange(SPAN)
    mirror = SPAN - 1

    def end(wave: np.ndarray, top: np.ndarray, length: int) -> np.ndarray:
        """Return the end of the wave after its last phase."""
        sign = sign_of(at(wave, top))
        later = (index > top[..., None]) & (index <= top[..., None] + steps(60))
        dip = np.where(later, -sign * wave, -np.inf).argmax(-1)
        second = np.abs(at(wave, dip)) > SECOND_PHASE * np.abs(at(wave, top))
        second &= at(-sign * wave, dip) > 0
        top = np.where(second, dip, top)
        upright = wave * np.where(second[..., None], -sign, sign)
        falling = (index >= top[..., None] + steps(4)) & (index <= top[..., None] + steps(70))
        steepest = np.where(falling, -gradient(upright), -np.inf).argmax(-1)
        return trapezium_end(upright, steepest, np.minimum(steepest + length, mirror))

    return mirror - end(deviation[..., ::-1], mirror - peak, LEFT), end(deviation, peak, RIGHT)
