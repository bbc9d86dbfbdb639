"""The P wave: present where the PQ stretch repeats from beat to beat and stands above its noise."""

from __future__ import annotations

import numpy as np

from gem_lightning.features.delineation.arrays import at, gradient, median, nanmedian, rms, sign_of, windows
from gem_lightning.features.delineation.atrial import Atria, between_beats, free_p
from gem_lightning.features.delineation.beats import rr_change
from gem_lightning.features.delineation.filters import PAD, Views, ms
from gem_lightning.features.delineation.qrs import Qrs, rr_samples
from gem_lightning.features.delineation.t_wave import STEP, Wave, steps, trapezium_end

SPAN = steps(300)  # window before the QRS complex in which its P wave lies; inside windows lengths are in steps
NARROWEST = steps(105)  # ... or, where a T wave ends in it, at least its last so much
GUARD = steps(14)  # the last stretch before the QRS complex holds no P peak
AFTER_T = steps(14)  # the level before the P wave is read this long after the window begins, off the T wave's flank
MIN_MV = 0.014  # a P wave over all leads (root mean square) is not smaller
SINGLE_MV = 0.020  # the same where there is one beat only
QUIET_MV = 0.006  # added to a lead's unrest, so that a lead without noise does not decide alone
HALF = steps(60)  # half the length of a P wave
REPEATS = 0.55  # median correlation of a beat's P wave with that of the others (fibrillation: up to 0.5) ...
REPEATS_FEW, FEW = 0.8, 4  # ... and where so few beats share a class, that chance makes it larger
SHIFT, SHIFT_STEP = steps(48), steps(8)  # a beat's P wave lies so far from its usual place, at most
LIKE = 0.4  # and correlates with the usual one at least so much
UNEVEN_RR = 0.1  # where RR changes by more than this share from beat to beat, atria may fibrillate or flutter ...
ALONE, NEXT = 0.5, steps(76)  # ... and what is this share as high before (further from the peak) is no P wave
AS_HIGH = 0.6  # waves of this share of the height are of one kind
RISE = 0.05  # a wave on the flank of another turns back by this share of its higher side
FAST = ms(500)  # below this RR (120 bpm) a P wave may stand on the flank of a T wave
BEND, ON_T = steps(28), steps(72)  # half the span of a P wave's top, and so long before it the T wave still falls
AGAINST = -0.5  # what bends less against the T wave is no foot of it, whether it turns back or not
SAME_FORM, FEW_LEADS = 0.97, 6  # what is distributed over leads, so many at least, more like the T wave is part of it
NO_P = ("premature_ventricular", "paced")  # beats that no P wave leads, or not at a fixed distance
SECOND_PHASE = 0.45  # a second phase of at least this share of the first makes a P wave biphasic
MIN_LEAD_MV = 0.015  # a lead shows no P wave where the usual beat does not exceed this ...
LEAD_SNR = 0.9  # ... by less than this multiple of how uncertain its usual beat is
RIGHT, LEFT = steps(36), steps(44)  # length of the trapezium after (before) the steepest point
BIAS_ON, BIAS_OFF = 0, -2.0  # samples by which experts differ (LUDB, odd records)


def find_p(
    views: Views, trusted: np.ndarray, beats: np.ndarray, qrs: Qrs, t_off: np.ndarray, beat_class: np.ndarray
) -> tuple[Wave, Atria]:
    """Find the P waves of every lead and beat, and atrial waves that no QRS complex follows.

    Beats of one class share a P wave of one form; whether they have one is decided from them alone, and then beat by
    beat. So a premature beat costs the others nothing, and an uneven rhythm is no evidence against P waves.

    Args:
        views: Filtered signals.
        trusted: (leads,) bool.
        beats: (beats,) padded working samples.
        qrs: QRS complexes.
        t_off: (leads, beats) T ends: a P wave begins after the T wave of the beat before.
        beat_class: (beats,) class of each beat.
    """
    start = qrs.on - STEP * SPAN
    deviation, allowed = _deviation(views, trusted, beats, qrs, t_off)
    absent = np.full(deviation.shape[:2], np.nan)
    none = Wave(absent, absent, absent)
    centre = np.full(len(beats), -1)
    visible = np.zeros(deviation.shape[:2], bool)
    main, fast = None, len(beats) > 1 and median(np.diff(beats)) < FAST
    for members in _groups(beat_class, (allowed.mean(1) > 0.3) & (start > PAD)):
        usual, unrest = _usual(deviation[:, members])
        place = _places(deviation[:, members][trusted], usual[trusted], unrest[trusted])
        if not (place >= 0).any():
            continue
        if fast and _on_flank(views, trusted, beats, qrs, allowed, members, int(median(place[place >= 0]))):
            continue
        centre[members] = place
        middle = int(median(place[place >= 0]))
        if (
            main is None
            and rr_change(beats, members) > UNEVEN_RR
            and not _alone(usual[trusted], allowed[members], middle)
        ):
            return none, Atria(np.zeros(0))
        near = slice(max(middle - HALF, 0), middle + HALF)
        least = MIN_LEAD_MV + LEAD_SNR * unrest / np.sqrt(members.sum())
        visible[:, members] = (np.abs(usual[:, near]).max(1) > least)[:, None]
        main = main or (usual, _last_wave(usual[trusted], middle))
    if main is None:
        return none, free_p(views, trusted, qrs, t_off)
    atria = between_beats(views, trusted, main[0], main[1], STEP, qrs, t_off)
    if atria.flutter:
        return none, atria
    index = np.arange(SPAN)
    near = (np.abs(index - centre[:, None]) <= steps(45)) & allowed
    middle = np.where(near, rms(deviation[trusted]), -1).argmax(1)
    near = (np.abs(index - middle[:, None]) <= steps(36)) & allowed
    peak = np.where(near, np.abs(deviation), -1).argmax(-1)
    on, off = _ends(deviation, peak)
    shown = visible & trusted[:, None] & (centre >= 0)

    def put(index: np.ndarray, bias: float = 0) -> np.ndarray:
        return np.where(shown, start + STEP * index + bias, np.nan)

    return Wave(put(on, BIAS_ON), put(peak), put(off, BIAS_OFF)), atria


def _groups(beat_class: np.ndarray, possible: np.ndarray) -> list[np.ndarray]:
    """Return members (beats,) bool of the groups that share a P wave, the first for most beats.

    Early atrial beats have a P wave of their own, unless there is only one; a QRS complex of another form is no reason.
    """
    early = possible & (beat_class == "premature_supraventricular")
    early &= early.sum() > 1
    rest = possible & ~early & ~np.isin(beat_class, NO_P)
    return [members for members in (rest, early) if members.any()]


def _usual(deviation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the usual beat (leads, SPAN) of (leads, beats, SPAN), and how far a beat departs from it (leads,), mV."""
    usual = median(deviation.swapaxes(1, 2))
    return usual, np.sqrt(median(np.mean(np.square(deviation - usual[:, None]), axis=-1)))


def _places(deviation: np.ndarray, usual: np.ndarray, unrest: np.ndarray) -> np.ndarray:
    """Return where each beat's P wave is centred, (beats,) index in the window, -1 where there is none.

    Every lead counts by its noise. The wave is there if a beat's stretch around the usual centre resembles the sum of
    the other beats'.

    Args:
        deviation: (leads, beats, SPAN) of trusted leads.
        usual: (leads, SPAN) of the same.
        unrest: (leads,) of the same.
    """
    none = np.full(deviation.shape[1], -1)
    weight = 1 / (unrest + QUIET_MV)
    last = SPAN - GUARD - HALF
    centre = int(rms(usual * weight[:, None])[HALF:last].argmax()) + HALF
    count = len(none)
    if rms(usual[:, centre - HALF : centre + HALF]).max() < (MIN_MV if count > 1 else SINGLE_MV):
        return none
    if count == 1:  # nothing to compare it with
        return none + centre + 1
    here = _flat(deviation, weight, centre)
    total = here.sum(0)
    alike = np.einsum("bi,bi->b", _unit(here), _unit(total - here))
    if median(alike) < (REPEATS if count > FEW else REPEATS_FEW):
        return none
    shifts = np.arange(-SHIFT, SHIFT + 1, SHIFT_STEP)
    shifts = shifts[(centre + shifts >= HALF) & (centre + shifts <= SPAN - HALF)]
    like = _shifted(deviation, weight, centre + shifts, total)
    best = like.argmax(0)
    return np.where(like.max(0) > LIKE, centre + shifts[best], -1)


def _on_flank(
    views: Views,
    trusted: np.ndarray,
    beats: np.ndarray,
    qrs: Qrs,
    allowed: np.ndarray,
    members: np.ndarray,
    centre: int,
) -> bool:
    """Return whether what the members (beats,) bool share at a centre is the flank of the T waves before them."""
    early = centre - NEXT
    if early >= 0 and allowed[members, early].mean() >= 0.5:  # those T waves have ended
        return False
    level = median(windows(views.p[trusted], qrs.on[members], STEP * SPAN, 0, STEP).swapaxes(1, 2))
    if rr_change(beats, members) > UNEVEN_RR:
        return True
    alike = _t_likeness(level, centre)
    if len(level) < FEW_LEADS:
        return not _rises(level, centre)
    return not (AGAINST < alike < SAME_FORM or (-SAME_FORM < alike <= AGAINST and _rises(level, centre)))


def _rises(level: np.ndarray, centre: int) -> bool:
    """Return whether the usual beat (leads, SPAN) turns back on both sides of a centre; a T wave's flank does not.

    Leads are taken together in the direction in which the centre departs from both sides.
    """
    side = steps(60)
    low, high = max(centre - side, 0), min(centre + side, SPAN - steps(8))
    direction = level[:, centre] - (level[:, low] + level[:, high]) / 2
    along = direction @ level / (np.linalg.norm(direction) + 1e-12)
    near = max(centre - steps(24), low)
    top = near + int(along[near : centre + steps(24)].argmax())
    depth = along[top] - np.array([along[low : top + 1].min(), along[top : high + 1].min()])
    return bool(depth.min() > max(RISE * depth.max(), MIN_MV))


def _t_likeness(level: np.ndarray, centre: int) -> float:
    """Return how much what bends at a centre is distributed over the leads (leads, SPAN) like the T wave before it.

    The foot of a T wave bends against the T wave in every lead (-1), its shoulder bends as the T wave itself (1); a P
    wave has its own distribution. NaN where nothing bends or too few leads show it.
    """
    if len(level) < FEW_LEADS or not BEND <= centre < SPAN - BEND:
        return float("nan")
    bend = level[:, centre] - (level[:, centre - BEND] + level[:, centre + BEND]) / 2
    t = level[:, max(centre - ON_T, 0)] - level[:, SPAN - GUARD :].mean(1)
    return float(bend @ t / (np.linalg.norm(bend) * np.linalg.norm(t) + 1e-12)) if rms(bend) > MIN_MV else float("nan")


def _last_wave(usual: np.ndarray, centre: int) -> int:
    """Return the centre of the last wave before the QRS complex that is about as high as the one at ``centre``.

    In flutter there are several, and the last one leaves most of the pause to be searched for its like.
    """
    height = rms(usual)
    inner = height[1:-1]
    tops = np.flatnonzero((inner >= height[:-2]) & (inner > height[2:]) & (inner > AS_HIGH * height[centre])) + 1
    tops = tops[(tops > centre + HALF) & (tops <= SPAN - GUARD)]
    return int(tops[-1]) if len(tops) else centre


def _alone(usual: np.ndarray, allowed: np.ndarray, centre: int) -> bool:
    """Return whether the usual wave (leads, SPAN) stands alone where most beats are at rest before it."""
    index = np.arange(SPAN)
    before = (allowed.mean(0) > 0.8) & (index < centre - NEXT)
    before[: int(before.argmax()) + AFTER_T] = False  # the flank of the T wave
    height = rms(usual)
    return not before.any() or bool(height[before].max() < ALONE * height[centre - HALF : centre + HALF].max())


def _flat(deviation: np.ndarray, weight: np.ndarray, centre: int) -> np.ndarray:
    """Return weighted stretches around a centre, level taken away, (beats, leads * 2 HALF)."""
    cut = deviation[..., centre - HALF : centre + HALF] * weight[:, None, None].astype(np.float32)
    cut = cut - cut.mean(-1, keepdims=True)
    return cut.transpose(1, 0, 2).reshape(cut.shape[1], -1)


def _shifted(deviation: np.ndarray, weight: np.ndarray, centres: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Return the correlation (centres, beats) of every beat's stretch around each centre with :func:`_flat`'s sum."""
    scaled = deviation * weight[:, None, None].astype(np.float32)
    cut = np.lib.stride_tricks.sliding_window_view(scaled, 2 * HALF, axis=-1)[:, :, centres - HALF]
    pattern = total.reshape(len(weight), 2 * HALF)  # level taken away, so that a stretch's own level does not count
    product = np.einsum("lbcw,lw->cb", cut, pattern, optimize=True)
    level = cut.sum(-1)
    energy = np.einsum("lbcw,lbcw->cb", cut, cut) - np.einsum("lbc,lbc->cb", level, level) / (2 * HALF)
    return product / (np.sqrt(np.maximum(energy, 0)) * np.linalg.norm(pattern) + 1e-12)


def _unit(x: np.ndarray) -> np.ndarray:
    """Return vectors along the last axis at length one."""
    return x / (np.linalg.norm(x, axis=-1, keepdims=True) + 1e-12)


def _deviation(
    views: Views, trusted: np.ndarray, beats: np.ndarray, qrs: Qrs, t_off: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the deviation from the line T end to QRS onset (leads, beats, SPAN), and where a P wave can be."""
    index = np.arange(SPAN)
    before, _ = rr_samples(beats)
    t_end = nanmedian(t_off[trusted])
    t_end = np.r_[0, np.where(np.isfinite(t_end), t_end, 0)[:-1]]
    first = np.maximum((t_end - qrs.on) / STEP + SPAN - steps(10), SPAN - np.minimum(0.42 * before / STEP, SPAN))
    first = np.clip(first, 0, SPAN - NARROWEST).astype(int)
    last = SPAN - GUARD
    allowed = (index >= first[:, None]) & (index <= last)
    signal = windows(views.p, qrs.on, STEP * SPAN, 0, STEP)
    left = at(signal, np.broadcast_to(first + AFTER_T, signal.shape[:2]))[..., None]
    right = median(signal[..., SPAN - steps(24) : SPAN - steps(6)])[..., None]
    share = np.clip((index - first[:, None]) / (last - first)[:, None], 0, 1).astype(np.float32)
    return np.where(allowed, signal - (share * right + (1 - share) * left), 0), allowed


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
