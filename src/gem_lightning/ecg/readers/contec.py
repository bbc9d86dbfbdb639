"""Contec ECG90A: a header of 43 bytes, 16-bit counts of eight leads at 800 Hz, a footer of 37 bytes.

Layout as found from exported files by N. Rigacci (ecg-contec, 2019): there is no public specification, so the format is
read only where the file's size fits it exactly and its date is one.
"""

from __future__ import annotations

import re

import numpy as np

from gem_lightning.ecg.readers.base import Options, RawEcg, Source, acquired, check_size, patient
from gem_lightning.errors import EcgReadError

# bytes; the footer repeats patient data
_HEADER, _FOOTER = 43, 37
# 800 Hz, 5 µV a count, zero at mid-scale of 12 bits, and the count for a loose electrode
_FS, _STEP_UV, _ZERO, _NULL = 800.0, 5.0, 2048, 0x6800
_NAMES = ("II", "III", "V1", "V2", "V3", "V4", "V5", "V6")
_DATE = re.compile(rb"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")


def is_contec(head: bytes) -> bool:
    """Whether a date stands where this device writes it."""
    # the format has no magic number: its recording date stands at a fixed place
    return _DATE.match(head[10:30]) is not None


def read(source: Source, options: Options) -> RawEcg:
    """The eight stored leads; a row of zeros ends the recording."""
    data = source.data
    body = data[_HEADER : len(data) - _FOOTER]
    if not is_contec(data[:64]) or len(body) % 16:
        raise EcgReadError(f"expected rows of 16 bytes after 43, got {len(body)} bytes in {source.name}; truncated")
    counts = np.frombuffer(body, "<u2").reshape(-1, 8)
    ends = np.flatnonzero((counts == 0).all(axis=1))
    counts = counts[: ends[0]] if len(ends) else counts
    check_size(source.budget, 8, len(counts))
    signal = (counts.T - float(_ZERO)) * _STEP_UV
    signal[counts.T == _NULL] = np.nan
    name = data[32:40].split(b"\0")[0].decode("latin-1").strip()
    identity = {"name": name, "date": data[10:29].decode("latin-1")}
    meta = patient(data[41] or None, {0: "F", 1: "M"}.get(data[40])) | {"device": "Contec ECG90A"}
    return RawEcg(signal, _FS, _NAMES, ("uV",) * 8, meta | acquired(identity["date"]), identity)
