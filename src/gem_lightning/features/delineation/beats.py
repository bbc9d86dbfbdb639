"""Heartbeat classification: which candidates are heartbeats, and of what kind each one is."""

from __future__ import annotations

import numpy as np

from gem_lightning.features.delineation.arrays import median, quantile, windows
from gem_lightning.features.delineation.filters import PAD, RATE, Views, ms
from gem_lightning.features.delineation.qrs import Qrs
from gem_lightning.features.delineation.stimuli import by_chamber

ALIKE = 0.5  # real beats correlate with another beat at least so much (median over beats; noise stays below 0.35)
SAME_FORM = 0.85  # beats that correlate at least so much share one form
OTHER_FORM = 0.7  # beats that correlate less than this with the usual ones have another form
QUIET_BETWEEN = 0.65  # between real beats the slope energy falls below this share of a beat's; in fibrillation not
QUIET_FAST = 0.45  # the same for rhythms faster than FAST
SMOOTH = 0.6  # slopes above 6 Hz against slopes below 14 Hz (root mean square); waves without QRS have less
QUIET_SMOOTH = 0.2  # and then already this much energy between beats is too much
FAST = ms(430)  # RR, 140 bpm
EARLY = 0.87  # a premature beat's RR is below this share of the usual one
STEADY = 0.06  # RR of one kind differ by less than this share
ALTERNATE = 6  # fewer RR are long and short in turn by chance
WIDER = ms(16)  # a ventricular beat's QRS complex is longer than the usual one by this, at least
WIDE = ms(110)


def likeness(views: Views, trusted: np.ndarray, beats: np.ndarray) -> np.ndarray:
    """Return (beats, beats) correlation of QRS complexes over all trusted leads."""
    cut = windows(views.p[trusted], beats, ms(100), ms(140))[..., ::4]
    flat = (cut - cut.mean(-1, keepdims=True)).transpose(1, 0, 2).reshape(len(beats), -1)
    flat = flat / (np.linalg.norm(flat, axis=1, keepdims=True) + 1e-9)
    return flat @ flat.T


def doubt(views: Views, trusted: np.ndarray, beats: np.ndarray, energy: np.ndarray, alike: np.ndarray) -> str | None:
    """Return why these candidates are no heartbeats, or None where they are."""
    inside = energy[PAD : PAD + views.samples]
    typical = median(energy[beats])
    if len(beats) < 3:
        calm = quantile(inside, 0.3) / typical
        return "no QRS complex stands out from the noise" if calm > QUIET_FAST else None
    slow = np.diff(views.t[trusted, ::4], axis=1) * np.float32(RATE / 4)
    smooth = np.sqrt(np.mean(views.beat[trusted, ::4] ** 2) / (np.mean(slow**2) + 1e-12))
    gap = median(np.minimum.reduceat(energy[: beats[-1]], beats[:-1])) / typical
    others = alike - 2 * np.eye(len(beats))
    if len(beats) >= 4 and median(others.max(1)) < ALIKE:
        return "noise: no two QRS candidates are alike"
    fast = median(np.diff(beats)) < FAST
    if gap > (QUIET_FAST if fast else QUIET_BETWEEN) or (smooth < SMOOTH and gap > QUIET_SMOOTH):
        return "continuous activity without distinct QRS complexes, as in ventricular fibrillation or noise"
    return None


def classify(views: Views, beats: np.ndarray, qrs: Qrs, alike: np.ndarray) -> np.ndarray:
    """Return (beats,) class of each beat, a name of ``schema.BEAT_CLASSES``.

    Beats of one form make a group; the usual group is the largest (of equals, the narrower). Another form that is
    wider is ventricular, another form as narrow is unknown. An early beat of the usual form in an otherwise regular
    rhythm is supraventricular. Paced are beats with a stimulus of the ventricles; one of the atria alone leaves the
    class to the form.
    """
    count = len(beats)
    label = np.full(count, "normal", dtype=object)
    width = (qrs.off - qrs.on).astype(float)
    group = _usual_group(alike, width)
    usual = median(alike[:, group]) > OTHER_FORM
    base = float(median(width[usual])) if usual.any() else 0.0
    early = _early(beats, usual)
    wider = (width > base + WIDER) & (width > WIDE)
    label[early] = "premature_supraventricular"
    whole = (beats > PAD + ms(100)) & (beats < PAD + views.samples - ms(140))
    label[~usual & whole] = "unknown"
    wide = ~usual & wider & whole
    if wide.any():  # noise can hide the width of one beat, hardly its form
        wide |= ~usual & whole & (alike[:, wide].max(1) > SAME_FORM)
    label[wide] = "premature_ventricular"
    if len(views.spikes):
        paced = np.isfinite(by_chamber(views.spikes[:, 0], qrs.on, qrs.off, RATE)[1])
        if paced.mean() > 0.5:  # of some beats the spike is too small to be seen
            paced |= median(alike[:, paced]) > SAME_FORM
        label[paced] = "paced"
    return label


def rr_change(beats: np.ndarray, counted: np.ndarray) -> float:
    """Return the change from one RR to the next (root mean square) as a share of RR, over runs of counted beats.

    Args:
        beats: (beats,) samples.
        counted: (beats,) bool.

    Returns:
        0 where fewer than three changes are seen.
    """
    rr = np.diff(beats)
    pair = counted[1:] & counted[:-1]
    change = np.diff(rr)[pair[1:] & pair[:-1]]
    return float(np.sqrt(np.mean(change**2)) / np.mean(rr[pair])) if len(change) >= 3 else 0.0


def _usual_group(alike: np.ndarray, width: np.ndarray) -> np.ndarray:
    """Return (beats,) members of the largest group of beats that share a form; of equally large ones the narrowest."""
    same = alike > SAME_FORM
    size = same.sum(1)
    candidates = np.flatnonzero(size >= 0.8 * size.max())
    typical = [median(width[same[i]]) for i in candidates]
    return same[candidates[int(np.argmin(typical))]]


def _longer_of_two(rr: np.ndarray) -> float:
    """Return the longer RR of a rhythm in which every second RR (n,) is short, 0 in any other rhythm."""
    if len(rr) < ALTERNATE:
        return 0.0
    halves = rr[::2], rr[1::2]
    middle = [float(median(half)) for half in halves]
    steady = all(np.abs(half - m).max() < STEADY * m for half, m in zip(halves, middle))
    return max(middle) if steady and min(middle) < EARLY * max(middle) else 0.0


def _early(beats: np.ndarray, usual: np.ndarray) -> np.ndarray:
    """Return (beats,) which come early in the rhythm of the usual beats; none where that is irregular by itself."""
    early = np.zeros(len(beats), bool)
    rr = np.diff(beats)
    if len(rr) < 3:
        return early
    plain = rr[usual[1:] & usual[:-1]]
    reference = float(median(plain)) if len(plain) >= 3 else float(np.mean(rr))
    if usual.all():
        reference = max(reference, _longer_of_two(rr))
    early[1:] = rr < EARLY * reference
    steady = rr[~early[1:] & ~np.r_[False, early[1:-1]]]
    if len(steady) >= 3 and median(np.abs(steady - median(steady))) > STEADY * median(steady):
        return np.zeros(len(beats), bool)
    # Two early beats in a row of the usual form are a faster rhythm, not two premature beats.
    run = early & (np.r_[False, early[:-1]] | np.r_[early[1:], False]) & usual
    return early & ~run
