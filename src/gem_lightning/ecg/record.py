"""The record that everything else is computed from."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from gem_lightning.errors import EcgReadError

LEADS: tuple[str, ...] = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")


@dataclass(frozen=True)
class EcgRecord:
    """One ECG recording in physical units.

    Args:
        signal: Float32 array (leads, samples), mV. NaN marks a sample that is not known.
        fs: Sampling rate, Hz.
        leads: Lead names, one per row of ``signal``; the standard names are :data:`LEADS`.
        meta: Facts about the recording without identifiers (format, age, sex, device, source file name).
        quality: Flags set while reading (for example repaired samples), or None.

    Raises:
        EcgReadError: The shape, the rate or the lead names contradict each other.
    """

    signal: np.ndarray
    fs: float
    leads: tuple[str, ...] = LEADS
    meta: dict[str, Any] = field(default_factory=dict)
    quality: Any = None

    def __repr__(self) -> str:
        return f"EcgRecord({len(self.leads)} leads, {self.seconds:.1f} s at {self.fs:g} Hz, {self.meta})"

    def __post_init__(self) -> None:
        signal = np.ascontiguousarray(self.signal, dtype=np.float32)
        if signal.ndim != 2:
            raise EcgReadError(
                f"expected a signal of shape (leads, samples), got shape {signal.shape}; "
                "add the lead axis, for example signal[None]"
            )
        if signal.shape[0] != len(self.leads):
            raise EcgReadError(
                f"expected one row per lead: {len(self.leads)} lead names, got {signal.shape[0]} rows; "
                "transpose the signal or name every row"
            )
        if not np.isfinite(self.fs) or self.fs <= 0:
            raise EcgReadError(f"expected a sampling rate above 0 Hz, got {self.fs}; give fs in Hz")
        object.__setattr__(self, "signal", signal)
        object.__setattr__(self, "fs", float(self.fs))
        object.__setattr__(self, "leads", tuple(self.leads))

    @property
    def samples(self) -> int:
        """Number of samples per lead."""
        return self.signal.shape[1]

    @property
    def seconds(self) -> float:
        """Duration, s."""
        return self.samples / self.fs

    def lead(self, name: str) -> np.ndarray:
        """One lead's samples (samples,), mV.

        Raises:
            EcgReadError: The record has no such lead.
        """
        if name not in self.leads:
            raise EcgReadError(f"expected one of the leads {', '.join(self.leads)}, got {name!r}")
        return self.signal[self.leads.index(name)]

    def with_signal(self, signal: np.ndarray, **changes: Any) -> EcgRecord:
        """The same record with another signal (and other changed fields)."""
        return replace(self, signal=signal, **changes)
