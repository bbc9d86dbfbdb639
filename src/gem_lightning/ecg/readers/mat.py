"""MATLAB files: CPSC 2018 (500 Hz, mV, standard order, age and sex inside) and version 7.3 with one array."""

from __future__ import annotations

import io
import zlib

import numpy as np

from gem_lightning.ecg.readers import hdf5
from gem_lightning.ecg.readers.base import Options, RawEcg, Source, check_rate, check_size, patient
from gem_lightning.ecg.readers.tables import oriented
from gem_lightning.ecg.record import LEADS
from gem_lightning.errors import EcgReadError

# stated in the challenge's description
_FS = 500.0
# miCOMPRESSED of the level 5 format
_COMPRESSED = 15


def read(source: Source, options: Options) -> RawEcg:
    """The struct ``ECG`` with ``data``, ``sex`` and ``age``."""
    from scipy.io import loadmat

    data = source.data
    _refuse_bombs(source)
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
    check_size(source.budget, *signal.shape)
    values = {name: np.ravel(record[name]) for name in ("age", "sex") if name in record.dtype.names}
    facts = {name: value[0] if len(value) else None for name, value in values.items()}
    age = facts.get("age")
    age = None if age is None or not np.isfinite(float(age)) or age < 0 else int(age)
    return RawEcg(signal, options.fs or _FS, LEADS, (options.units or "mV",) * 12, patient(age, facts.get("sex")))


def read_hdf5(source: Source, options: Options) -> RawEcg:
    """The array ``val``, ``ECG``, ``ecg`` or ``ECG.data`` of a MATLAB 7.3 file, which is HDF5."""
    try:
        with hdf5.opened(source) as file:
            for name in ("val", "ECG", "ecg", "ECG/data", "data"):
                found = hdf5.dataset(file, name, source)
                if found is not None and found.ndim == 2 and found.dtype.kind in "fiu":
                    check_size(source.budget, *sorted(found.shape))
                    table = np.asarray(found, dtype=np.float64)
                    break
            else:
                raise EcgReadError(
                    f"expected an array 'val' or 'ECG' in the MATLAB 7.3 file {source.name}, got none; save it with -v7"
                )
    except OSError as error:
        raise EcgReadError(
            f"expected a whole MATLAB 7.3 file, got a damaged one: {source.name}; copy it again or save it with -v7"
        ) from error
    signal, names, _ = oriented(table, options.lead_names, source.name)
    units = options.units or ("mV" if options.gain else None)
    if options.fs is None or units is None:
        raise EcgReadError(
            f"expected a sampling rate and a unit for {source.name}, got rate {options.fs} and unit {units}; the file "
            "does not hold them: pass fs=500, units='mV'"
        )
    return RawEcg(signal / (options.gain or 1.0), check_rate(options.fs), names, (units,) * len(signal))


def _refuse_bombs(source: Source) -> None:
    """Count what the compressed elements of a level 5 file unpack to, without keeping it."""
    at, data = 128, source.data  # MAT-file level 5: 116 bytes of text, subsystem offset, version, endianness
    while at + 8 <= len(data):
        kind, size = (int.from_bytes(data[at + i : at + i + 4], "little") for i in (0, 4))
        at += 8
        if kind == _COMPRESSED:
            unpack = zlib.decompressobj()
            rest = data[at : at + size]
            while rest:
                # 1 MiB at a time: a bomb is stopped by the budget before it is in memory
                source.budget.spend("bytes", len(unpack.decompress(rest, 1 << 20)))
                rest = unpack.unconsumed_tail
        at += size
