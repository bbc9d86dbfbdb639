"""Write records as WFDB."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

import numpy as np

from gem_lightning.ecg.record import EcgRecord
from gem_lightning.jobs import write_atomically

# 1 µV a count
_COUNTS_PER_MV = 1000.0
# "no sample" of format 16
_UNKNOWN = -32768


def write_wfdb(record: EcgRecord, path: str | os.PathLike[str]) -> Path:
    """Write ``path``.hea and ``path``.dat: 16 bit, 1 µV a count (coarser only where a lead exceeds 32 mV).

    Args:
        record: Any leads, mV; NaN is written as the format's "no sample".
        path: Where to, with or without ``.hea``. The header keeps this name. A header can only hold letters, digits,
            ``_`` and ``-`` in the name of the signal file: other names are mapped to one with a hash in it.

    Returns:
        The header's path.
    """
    target = Path(path)
    target = target.with_suffix("") if target.suffix in (".hea", ".dat") else target
    name = target.name
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        name = f"{re.sub(r'[^A-Za-z0-9_-]', '_', name)}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    signal = np.where(np.isfinite(record.signal), record.signal, np.nan).astype(np.float64)
    largest = np.nanmax(np.abs(signal), axis=1, initial=1e-9)
    gains = np.minimum(_COUNTS_PER_MV, np.floor(32_000 / largest))
    gains = np.where(gains >= 1, gains, 32_000 / largest)
    scaled = np.rint(signal * gains[:, None])
    counts = np.where(np.isnan(scaled), _UNKNOWN, scaled).astype("<i2")  # (leads, samples)
    lines = [f"{name} {len(counts)} {record.fs:.10g} {counts.shape[1]}"]
    for lead, gain, row in zip(record.leads, gains, counts):
        first = int(row[0]) if len(row) else 0
        lines.append(f"{name}.dat 16 {gain:.10g}(0)/mV 16 0 {first} {_checksum(row)} 0 {lead}")
    lines += [f"# {key.capitalize()}: {record.meta[key]}" for key in ("age", "sex") if key in record.meta]
    write_atomically(target.with_name(name + ".dat"), np.ascontiguousarray(counts.T).tobytes())
    header = target.with_name(target.name + ".hea")
    write_atomically(header, ("\n".join(lines) + "\n").encode("ascii"))
    return header


def _checksum(row: np.ndarray) -> int:
    """The 16-bit signed sum that a header holds."""
    total = int(row.astype(np.int64).sum()) & 0xFFFF
    return total - 0x10000 if total >= 0x8000 else total
