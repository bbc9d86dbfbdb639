"""CPSC 2018 (China Physiological Signal Challenge) MATLAB files: 500 Hz, mV, standard order, age and sex inside."""

from __future__ import annotations

import io
import zlib

import numpy as np

from gem_lightning.ecg.readers.base import MAX_VALUES, Options, RawEcg, Source, check_size, patient
from gem_lightning.ecg.record import LEADS
from gem_lightning.errors import EcgReadError

_FS = 500.0
_COMPRESSED = 15


def read(source: Source, options: Options, format: str) -> RawEcg:
    """The struct ``ECG`` with ``data``, ``sex`` and ``age``."""
    from scipy.io import loadmat

    data = source.data
    _refuse_bombs(data)
    content = loadmat(io.BytesIO(data), variable_names=["ECG"], struct_as_record=True)
    if "ECG" not in content or content["ECG"].dtype.names is None or "data" not in content["ECG"].dtype.names:
        raise EcgReadError(
            f"expected a struct ECG with data, sex and age, got none in {source.name}; for the CinC layout put the "
            ".hea file next to the .mat"
        )
    record = content["ECG"].ravel()[0]
    signal = np.asarray(record["data"], dtype=np.float64)
    if signal.ndim != 2 or len(signal) != 12:
        raise EcgReadError(f"expected data of shape (12, samples), got {signal.shape}; transpose it")
    check_size(*signal.shape)
    values = {name: np.ravel(record[name]) for name in ("age", "sex") if name in record.dtype.names}
    facts = {name: value[0] if len(value) else None for name, value in values.items()}
    age = facts.get("age")
    age = None if age is None or not np.isfinite(float(age)) or age < 0 else int(age)
    return RawEcg(signal, options.fs or _FS, LEADS, (options.units or "mV",) * 12, patient(age, facts.get("sex")))


def _refuse_bombs(data: bytes) -> None:
    """Count what the compressed elements of a level 5 file unpack to, without keeping it."""
    at, budget = 128, MAX_VALUES * 8
    while at + 8 <= len(data):
        kind, size = (int.from_bytes(data[at + i : at + i + 4], "little") for i in (0, 4))
        at += 8
        if kind == _COMPRESSED:
            unpack = zlib.decompressobj()
            rest = data[at : at + size]
            while rest and budget > 0:
                budget -= len(unpack.decompress(rest, 1 << 20))
                rest = unpack.unconsumed_tail
            if budget <= 0:
                raise EcgReadError(f"expected at most {MAX_VALUES:,} samples, got a file that unpacks to more; refused")
        at += size
