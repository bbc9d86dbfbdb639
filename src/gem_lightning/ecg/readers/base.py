"""Types and checks that all readers share."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from gem_lightning.ecg.readers.budget import Budget
from gem_lightning.errors import EcgReadError

__all__ = ["Options", "RawEcg", "Source"]

# below 20 Hz no QRS complex survives; above 50 kHz no electrocardiograph samples
MIN_FS, MAX_FS = 20.0, 50_000.0

_TO_MV = {"mv": 1.0, "uv": 1e-3, "µv": 1e-3, "μv": 1e-3, "microv": 1e-3, "nv": 1e-6, "v": 1e3}
_TO_MV |= {"millivolt": 1.0, "millivolts": 1.0, "microvolt": 1e-3, "microvolts": 1e-3, "volt": 1e3, "volts": 1e3}


@dataclass(frozen=True)
class Options:
    """What the caller states about a file that does not hold it.

    Attributes:
        fs: Sampling rate, Hz.
        units: Unit of the samples.
        lead_names: Names of the rows.
        gain: Counts per mV of uncalibrated samples.
        index: Which recording of a file that holds several.
    """

    fs: float | None = None
    units: str | None = None
    lead_names: tuple[str, ...] | None = None
    gain: float | None = None
    index: int | None = None


@dataclass(frozen=True)
class RawEcg:
    """A recording as the file has it.

    Attributes:
        signal: (leads, samples) in ``units``, NaN where unknown.
        fs: Hz.
        leads: Names as in the file, or standard ones.
        units: One per lead.
        meta: Facts without identifiers: ``age``, ``sex``, ``device``, ``device_measurements``, ``dx``,
            ``acquisition_offset_s``.
        identity: Patient, place and time as in the file; kept only on request.
        notes: What a reader assumed, repaired or left out, one sentence each.
    """

    signal: np.ndarray
    fs: float
    leads: tuple[str, ...]
    units: tuple[str, ...]
    meta: dict[str, Any] = field(default_factory=dict)
    identity: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Source:
    """A file on disk, or bytes without a place; ``budget`` bounds the work of reading it."""

    path: Path | None = None
    content: bytes | None = None
    given: Budget | None = None

    @cached_property
    def budget(self) -> Budget:
        """Work left for this file and those that it names."""
        return self.given or Budget(self.name)

    @property
    def name(self) -> str:
        """For messages: the file's name or "bytes"."""
        return self.path.name if self.path is not None else "the bytes given"

    @cached_property
    def data(self) -> bytes:
        """The whole content."""
        self.budget.spend("bytes", len(self.content or b"") if self.path is None else self.path.stat().st_size)
        return (self.content or b"") if self.path is None else self.path.read_bytes()

    def head(self, count: int = 4096) -> bytes:
        """The first bytes, without reading the rest."""
        if self.path is None:
            return (self.content or b"")[:count]
        with self.path.open("rb") as file:
            return file.read(count)

    def sibling(self, name: str) -> Source:
        """Open a file in the same folder, by bare name.

        Raises:
            EcgReadError: The name leads elsewhere, there is no such file, or the source is bytes.
        """
        if not name or name in (".", "..") or "\0" in name or re.search(r"[/\\]|://", name):
            raise EcgReadError(
                f"expected a plain file name next to the header, got {name[:80]!r}; "
                "a header may not point elsewhere: put its files into one folder"
            )
        if self.path is None:
            raise EcgReadError(f"expected a path, got bytes of a header that needs {name!r}; give the .hea file's path")
        path = self.path.with_name(name)
        if not path.is_file():
            raise EcgReadError(f"expected {name} next to {self.name}, got no such file; copy it into the same folder")
        linked = path.is_symlink() or self.path.is_symlink()
        if linked and path.resolve().parent != self.path.resolve().parent:
            raise EcgReadError(
                f"expected {name} in the folder of {self.name}, got a link to another folder; copy the file itself"
            )
        return Source(path, given=self.budget)


def check_size(budget: Budget, leads: float, samples: float, available: float | None = None) -> None:
    """Refuse impossible sizes before memory is allocated.

    Args:
        budget: Of the file.
        leads: Number of leads that the file claims.
        samples: Samples per lead that it claims.
        available: Values that its bytes can hold, where known.
    """
    if leads < 1:
        raise EcgReadError(f"expected 12 leads, got {leads:g}; the file holds no ECG")
    if samples < 1:
        raise EcgReadError("expected at least one sample per lead, got 0; the recording is empty")
    budget.check("channels", leads)
    budget.check("samples", leads * samples)
    if available is not None and leads * samples > available:
        raise EcgReadError(
            f"expected {leads * samples:,.0f} samples as stated in the header, got bytes for {available:,.0f}; "
            "the file is truncated: copy it again"
        )


def check_rate(fs: float) -> float:
    """The sampling rate, Hz, if it can be one of an ECG."""
    if not (np.isfinite(fs) and MIN_FS <= fs <= MAX_FS):
        raise EcgReadError(f"expected a sampling rate from {MIN_FS:g} to {MAX_FS:g} Hz, got {fs:g}; correct the header")
    return float(fs)


def is_voltage(unit: str) -> bool:
    """Whether ``unit`` is a spelling of V, mV, µV or nV."""
    return _unit_key(unit) in _TO_MV


@lru_cache(maxsize=1024)
def _unit_key(unit: str) -> str:
    return re.sub(r"[\s_]", "", unit.strip().lower())


def to_mv(unit: str) -> float:
    """Factor from ``unit`` to mV.

    Raises:
        EcgReadError: Not a voltage.
    """
    key = _unit_key(unit)
    if key not in _TO_MV:
        raise EcgReadError(
            f"expected a voltage unit (mV, uV, nV, V), got {unit[:40]!r}; give units= or correct the header"
        )
    return _TO_MV[key]


def age_in_years(text: Any) -> int | None:
    """Whole years from 51, "51", "042Y", "18 months"; 90 stands for 90 and over, as older ages identify people."""
    match = re.match(r"\s*(\d{1,3})(?:\.\d*)?\s*([a-z]*)", str(text).lower())
    if not match:
        return None
    # units of DICOM's age string (PS3.5, VR AS), and SCP's hours
    per_year = {"m": 12, "w": 52, "d": 365, "h": 8766}.get(match[2][:1], 1)
    # ages above 89 are one class in de-identified data (HIPAA safe harbor, 45 CFR 164.514)
    return min(int(match[1]) // per_year, 90)


def sex_letter(text: Any) -> str | None:
    """``M``, ``F`` or None from any common spelling."""
    key = str(text).strip().lower()
    if key in ("m", "male", "man", "männlich", "masculin"):
        return "M"
    return "F" if key in ("f", "w", "female", "woman", "weiblich", "féminin") else None


def patient(age: Any = None, sex: Any = None) -> dict[str, Any]:
    """``age`` (years) and ``sex`` where known."""
    facts = {"age": None if age in (None, "") else age_in_years(age), "sex": sex_letter(sex)}
    return {name: value for name, value in facts.items() if value is not None}


def number(text: Any) -> float | None:
    """A finite number, or None."""
    try:
        value = float(text)
    except (TypeError, ValueError):
        return None
    return value if np.isfinite(value) else None


def measurements(values: dict[str, Any]) -> dict[str, Any]:
    """``{"device_measurements": {...}}`` of the numbers among ``values``; nothing where there is none."""
    known = {name: round(v, 3) for name, text in values.items() if (v := number(text)) is not None}
    return {"device_measurements": known} if known else {}


_STAMPS = (
    re.compile(r"\d{8}(\d\d)(\d\d)(\d\d)?"),  # HL7 and DICOM: 20260131235959
    re.compile(r"(\d\d)(\d\d)(\d\d)(?:\.\d+)?$"),  # DICOM time: 235959.000
    re.compile(r"(?:\d{4}-\d\d-\d\d[T ])?(\d\d?)[:.](\d\d)(?:[:.](\d\d))?"),  # ISO, or a clock
)


def acquired(stamp: Any) -> dict[str, int]:
    """``acquisition_offset_s``: when the recording began, seconds after midnight; empty where that is not stated.

    The date is in ``identity`` alone: a time of day without it does not identify a person.
    """
    text = str(stamp or "").strip()
    for pattern in _STAMPS:
        if match := pattern.match(text):
            hours, minutes, seconds = (int(part or 0) for part in match.groups())
            stated = hours < 24 and minutes < 60 and seconds < 60
            return {"acquisition_offset_s": 3600 * hours + 60 * minutes + seconds} if stated else {}
    return {}


def years_between(birth: Any, then: Any) -> int | None:
    """Age in whole years from two dates that begin with YYYYMMDD, or None."""
    first, second = (re.sub(r"\D", "", str(date or ""))[:8] for date in (birth, then))
    if len(first) < 8 or len(second) < 8:
        return None
    years = int(second[:4]) - int(first[:4]) - (second[4:] < first[4:])
    return years if 0 <= years < 130 else None  # beyond the oldest person known, a date is a placeholder
