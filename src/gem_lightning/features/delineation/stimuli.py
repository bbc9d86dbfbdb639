"""Pacemaker stimuli by beat: which of them belong to the atria and which to the ventricles."""

from __future__ import annotations

import numpy as np

from gem_lightning.features.delineation.arrays import median

# The ventricles answer within this time, the atria and the AV node together never do, ms (ours: LUDB's paced beats 19
# to 50, the shortest intervals from the atrium to the QRS complex in pre-excitation about 90) ...
LATENCY_MS = 80.0
FUSION_MS = 40.0  # ... a stimulus this long after the QRS onset still shares the beat with what the atria conduct ...
UNSTEADY_MS = 25.0  # the AV node's delay varies by less (median deviation); an artefact's place does not (ours)
LONGEST_MS = 400.0  # ... and longer before it another beat's: as long as a conducted PR interval hardly ever is (ours)


def by_chamber(
    stimuli: np.ndarray, onsets: np.ndarray, ends: np.ndarray, per_second: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return for each beat how long before its QRS onset the atria and the ventricles were stimulated, ms.

    Args:
        stimuli: (n,) onsets of stimuli, samples.
        onsets: (beats,) QRS onsets, samples.
        ends: (beats,) QRS offsets, samples: an earlier stimulus belongs to the beat before.
        per_second: Samples a second.

    Returns:
        (beats,) each; NaN where there is no such stimulus, negative where it follows the QRS onset.
    """
    if not len(stimuli):
        return np.full(len(onsets), np.nan), np.full(len(onsets), np.nan)
    ahead = (onsets[:, None] - stimuli[None, :]) * (1000.0 / per_second)  # (beats, stimuli)
    ventricular = (ahead >= -FUSION_MS) & (ahead <= LATENCY_MS)
    since = stimuli[None, :] > np.r_[-np.inf, ends[:-1]][:, None]
    atrial = _last(ahead, (ahead > LATENCY_MS) & (ahead <= LONGEST_MS) & since)
    known = atrial[np.isfinite(atrial)]
    if len(known) and median(np.abs(known - median(known))) > UNSTEADY_MS:
        atrial = np.full(len(onsets), np.nan)
    return atrial, _last(ahead, ventricular)


def _last(ahead: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Return the shortest of the chosen times of each row; NaN where none is chosen."""
    shortest = np.where(chosen, ahead, np.inf).min(axis=1)
    return np.where(np.isfinite(shortest), shortest, np.nan)
