"""The two signal contracts: ``clean`` for everything new, ``gem`` for published weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

from gem_lightning.ecg.leads import complete_limb_leads, in_standard_order
from gem_lightning.ecg.record import LEADS, EcgRecord
from gem_lightning.errors import EcgReadError

# the rate of nearly all public 12-lead sets, and of the published encoder
CLEAN_FS = 500.0
# 10 s at 500 Hz: the length that the published encoder takes
GEM_SAMPLES = 5000
REPAIRABLE_S = 0.04
"""Longest gap that is bridged, s: shorter than any QRS complex, so that no wave is invented or lost."""


@dataclass(frozen=True)
class Repairs:
    """What was done to a signal while reading, per lead in samples of the result.

    Attributes:
        repaired: Samples that were unknown and are bridged by a straight line.
        missing: Samples that are unknown and stay NaN.
        derived: Leads computed from other limb leads.
        resampled_from: Sampling rate of the file where it was changed, Hz.
    """

    repaired: dict[str, int] = field(default_factory=dict)
    missing: dict[str, int] = field(default_factory=dict)
    derived: tuple[str, ...] = ()
    resampled_from: float | None = None

    def __bool__(self) -> bool:
        return bool(self.repaired or self.missing or self.derived or self.resampled_from)


def clean(record: EcgRecord, fs: float = CLEAN_FS, leads: str = "12") -> EcgRecord:
    """Standard lead order by name, ``fs`` Hz, gaps repaired or marked.

    Args:
        record: Leads with standard names in any order, mV.
        fs: Sampling rate of the result, Hz; the anti-alias filter is that of ``scipy.signal.resample_poly``.
        leads: ``12`` requires the twelve (missing limb leads are derived), ``any`` accepts what is there.

    Raises:
        EcgReadError: A lead is missing, nothing is finite, or ``leads`` is something else.
    """
    signal, names, derived = complete_limb_leads(record.signal, record.leads)
    if leads == "12":
        signal, names = in_standard_order(signal, names), LEADS
    elif leads == "any":
        order = sorted(range(len(names)), key=lambda i: LEADS.index(names[i]) if names[i] in LEADS else 12 + i)
        signal, names = signal[order], tuple(names[i] for i in order)
    else:
        raise EcgReadError(f"expected leads '12' or 'any', got {leads!r}")
    known = np.isfinite(signal)
    if not known.any():
        raise EcgReadError("expected at least one known sample, got only NaN; the recording holds no signal")
    if not known.all():
        signal = np.where(known, signal, np.nan)
    bridged, unknown, repaired = bridge_gaps(signal, max(1, round(REPAIRABLE_S * record.fs)))
    out, unknown = resample(bridged, unknown, record.fs, fs)
    if unknown.any():
        out = np.where(unknown, np.nan, out)
    scale = fs / record.fs
    repairs = Repairs(
        repaired={n: max(1, round(c * scale)) for n, c in zip(names, repaired) if c},
        missing={n: int(c) for n, c in zip(names, unknown.sum(axis=1)) if c},
        derived=tuple(lead for lead in derived if lead in names),
        resampled_from=None if record.fs == fs else record.fs,
    )
    return EcgRecord(out, fs, names, record.meta, repairs if repairs else record.quality)


def gem(record: EcgRecord) -> EcgRecord:
    """The original GEM's input: rows and rate as in the file, NaN and inf as 0, zero-padded or cut to 5,000 samples."""
    if not np.isfinite(record.signal).any():
        raise EcgReadError("expected at least one known sample, got only NaN; the recording holds no signal")
    return record.with_signal(fit_length(record.signal, GEM_SAMPLES))


def fit_length(signal: np.ndarray, samples: int) -> np.ndarray:
    """A signal (leads, T) as float32 (leads, samples), a new array: the end cut or filled with 0, NaN and inf as 0."""
    fitted = np.zeros((len(signal), samples), dtype=np.float32)
    kept = signal[:, :samples]
    fitted[:, : kept.shape[1]] = np.nan_to_num(kept, nan=0.0, posinf=0.0, neginf=0.0)
    return fitted


def bridge_gaps(signal: np.ndarray, longest: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Straight lines over runs of NaN.

    Args:
        signal: (leads, samples) with NaN where unknown.
        longest: Longest run, samples, that counts as repaired.

    Returns:
        The signal without NaN (0 where a whole lead is unknown), the mask (leads, samples) of what remains unknown
        because its run is longer or touches an edge, and the number of repaired samples per lead.
    """
    unknown = np.isnan(signal)
    repaired = np.zeros(len(signal), dtype=int)
    if not unknown.any():
        return signal, unknown, repaired
    filled, at = signal.copy(), np.arange(signal.shape[1])
    for row, lost in enumerate(unknown):
        if not lost.any():
            continue
        if lost.all():
            filled[row] = 0.0
            continue
        filled[row, lost] = np.interp(at[lost], at[~lost], signal[row, ~lost])
        edges = np.flatnonzero(np.diff(np.concatenate([[0], lost.astype(np.int8), [0]])))
        for start, stop in zip(edges[::2], edges[1::2]):
            if stop - start <= longest and start > 0 and stop < len(at):
                unknown[row, start:stop] = False
                repaired[row] += stop - start
    return filled, unknown, repaired


def resample(signal: np.ndarray, unknown: np.ndarray, fs: float, to: float) -> tuple[np.ndarray, np.ndarray]:
    """Polyphase resampling with a zero-phase anti-alias filter.

    Args:
        signal: (leads, samples) without NaN.
        unknown: (leads, samples) mask of what is not known.
        fs: Rate of the signal, Hz.
        to: Wanted rate, Hz.

    Returns:
        Signal (leads, round(samples · to / fs)) and the mask at the new rate.
    """
    if fs == to:
        return signal, unknown
    from scipy.signal import resample_poly

    ratio = Fraction(to / fs).limit_denominator(10_000)
    samples = max(1, round(signal.shape[1] * to / fs))
    # a ratio that cannot be written with small integers would need a filter of the signal's size
    if signal.shape[1] * ratio.numerator / ratio.denominator > 4 * samples or ratio == 0:
        raise EcgReadError(f"expected a sampling rate that can be brought to {to} Hz, got {fs} Hz; check fs")
    out = resample_poly(signal, ratio.numerator, ratio.denominator, axis=1, padtype="line")
    if out.shape[1] < samples:
        out = np.pad(out, ((0, 0), (0, samples - out.shape[1])), mode="edge")
    nearest = np.minimum((np.arange(samples) * fs / to).round().astype(int), signal.shape[1] - 1)
    return out[:, :samples], unknown[:, nearest]
