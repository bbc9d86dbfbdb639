"""Refuse values that no electrocardiograph can have recorded, and note those that look like a slip of unit."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np

from gem_lightning.ecg.quality import SCALE_MV, scale_slip
from gem_lightning.ecg.readers.base import RawEcg, is_voltage, to_mv
from gem_lightning.ecg.readers.identify import ReadWarning
from gem_lightning.errors import EcgReadError

MAX_MV = 1e5
"""Largest value: a 16-bit file in microvolts that is read as mV stays below 32,768; ten times that is damage (ours)."""
MIN_MV = 1e-6
"""Smallest peak of a signal that is not zero throughout: a hundredth of the finest converter's step (ours)."""
MIN_SECONDS = 0.3
"""Known signal that a lead must hold: one beat at 200 per minute (ours)."""


def check_values(raw: RawEcg) -> RawEcg:
    """The recording, with a note where its scale is doubtful.

    Raises:
        EcgReadError: Values beyond any amplifier, or too little known signal.
    """
    low, high = np.fmin.reduce(raw.signal, axis=1), np.fmax.reduce(raw.signal, axis=1)  # NaN is passed over
    if np.isinf(low).any() or np.isinf(high).any():
        return check_values(replace(raw, signal=np.where(np.isinf(raw.signal), np.nan, raw.signal)))
    if np.isnan(low).all():
        raise EcgReadError("expected at least one known sample, got only NaN; the recording holds no signal")
    seconds = raw.signal.shape[1] / raw.fs
    if np.isnan(raw.signal).any():
        seconds = (~np.isnan(raw.signal)).sum(axis=1).max() / raw.fs
    if seconds < MIN_SECONDS:
        raise EcgReadError(
            f"expected at least {MIN_SECONDS:g} s of known signal, got {seconds:.3f} s; shorter than a beat"
        )
    factors = np.array([to_mv(unit) if is_voltage(unit) else 1.0 for unit in raw.units])
    with np.errstate(over="ignore"):
        peak = np.nan_to_num(np.maximum(np.abs(low), np.abs(high)) * factors, posinf=np.inf)
    if peak.max() > MAX_MV or 0 < peak.max() < MIN_MV:
        raise EcgReadError(
            f"expected values of an ECG, got {peak.max():.3g} mV in {raw.leads[int(peak.argmax())] or 'a row'}; gain, "
            "unit or samples are wrong: export the recording again"
        )
    return _note_slip(raw, factors) if peak.max() > SCALE_MV else raw


def _note_slip(raw: RawEcg, factors: np.ndarray) -> RawEcg:
    """Note microvolts that were declared as mV; the values stay."""
    known = [row[~np.isnan(row)] for row in raw.signal]
    # the outer 1 % left out: a single spike or calibration pulse must not set the scale
    spread = [np.ptp(np.percentile(row, (0.5, 99.5))) * f if len(row) else 0.0 for row, f in zip(known, factors)]
    note = scale_slip(np.array(spread))
    if note is None:
        return raw
    warnings.warn(f"{note}; pass units='uV'", ReadWarning, stacklevel=4)
    return replace(raw, notes=(*raw.notes, note))
