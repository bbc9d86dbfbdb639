"""Regularity, variability, patterns of premature beats, and how P waves relate to QRS complexes."""

from __future__ import annotations

import numpy as np

from gem_lightning.features.delineation.arrays import quantile
from gem_lightning.features.schema import Delineation, Rhythm

REGULAR_CV = 0.06  # RR varies less than this share of its mean
PR_SPREAD_MS = 25.0  # interquartile range of PR below which it is constant
PAUSE = 1.3  # an RR above this multiple of the usual one is a pause
GROUPS, MIN_RR = 3, 6  # RR of group beating have at most three values (short, long, pause); fewer RR show no groups ...
GROUPED = 0.8  # ... and the gaps between these make up this share of their range (simulated fibrillation: 0.76 at most)
PATTERNS = {2: "bigeminy", 3: "trigeminy", 4: "quadrigeminy"}


def rhythm(marks: Delineation, rr_ms: np.ndarray, pr_ms: np.ndarray) -> Rhythm:
    """Return the rhythm of the strip.

    Args:
        marks: Delineation with at least one beat.
        rr_ms: (beats,) RR to the beat before, ms; NaN for the first.
        pr_ms: (beats,) PR, ms.
    """
    rr = rr_ms[np.isfinite(rr_ms)]
    normal = marks.beat_class == "normal"
    pairs = normal[1:] & normal[:-1]
    nn = rr_ms[1:][pairs & np.isfinite(rr_ms[1:])]
    step = np.diff(rr_ms[1:])[pairs[1:] & pairs[:-1]] if len(rr_ms) > 2 else np.zeros(0)
    step = step[np.isfinite(step)]
    cv = float(np.std(rr) / np.mean(rr)) if len(rr) >= 2 else None
    pr = pr_ms[np.isfinite(pr_ms)]
    quartiles = quantile(pr, 0.75) - quantile(pr, 0.25) if len(pr) >= 3 else None
    notes = []
    if _blocked(marks, rr):
        notes.append("p_free_of_qrs")
    if marks.flutter:
        notes.append("flutter_waves")
    own = marks.beat_class != "premature_ventricular"
    if in_groups(rr_ms[1:][own[1:] & own[:-1]]):
        notes.append("grouped_rr")
    if (marks.beat_class == "paced").any():
        notes.append("paced_spikes")
    return Rhythm(
        regular=None if cv is None or len(rr) < 2 else cv < REGULAR_CV,
        rr_cv=cv,
        p_per_qrs=float(np.isfinite(marks.global_marks["P"]).mean()),
        pr_constant=None if quartiles is None else bool(quartiles < PR_SPREAD_MS),
        pattern=_pattern(marks.beat_class),
        sdnn_ms=float(np.std(nn, ddof=1)) if len(nn) >= 3 else None,
        rmssd_ms=float(np.sqrt(np.mean(step**2))) if len(step) >= 2 else None,
        atrial_mv=marks.atrial_mv if np.isfinite(marks.atrial_mv) else None,
        noise_mv=marks.noise_mv if np.isfinite(marks.noise_mv) else None,
        notes=tuple(notes),
    )


def _blocked(marks: Delineation, rr_ms: np.ndarray) -> bool:
    """Return whether P waves without QRS are credible: at least two, with pauses or as many as half the beats."""
    count = len(marks.extra_p)
    pause = len(rr_ms) > 0 and rr_ms.max() > PAUSE * np.median(rr_ms)
    return count >= 2 and bool(pause or count >= marks.beats / 2)


def in_groups(rr_ms: np.ndarray) -> bool:
    """Return whether RR (n,) keep to two or three values, each met at least twice: not irregularly irregular."""
    rr = np.sort(rr_ms[np.isfinite(rr_ms)])
    if len(rr) < MIN_RR:
        return False
    gaps = np.diff(rr)
    for count in range(1, GROUPS):
        largest = np.sort(np.argsort(gaps)[-count:])
        size = np.diff(np.r_[-1, largest, len(gaps)])
        if size.min() >= 2 and gaps[largest].sum() > GROUPED * (rr[-1] - rr[0]):
            return True
    return False


def _pattern(beat_class: np.ndarray) -> str | None:
    """Return the pattern of premature beats: every second, third or fourth beat, at least three times in a row."""
    early = np.flatnonzero([str(c).startswith("premature") for c in beat_class])
    if len(early) < 3:
        return None
    gaps = np.diff(early)
    for gap, name in PATTERNS.items():
        same = gaps == gap
        if (same[1:] & same[:-1]).any():
            return name
    return None
