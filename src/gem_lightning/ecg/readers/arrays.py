"""NPY and NPZ: arrays of numbers; rate, unit and names come with an NPZ or from the caller."""

from __future__ import annotations

import io
import zipfile

import numpy as np

from gem_lightning.ecg.readers.base import Options, RawEcg, Source, check_rate, check_size
from gem_lightning.ecg.readers.tables import oriented
from gem_lightning.errors import EcgReadError

_SIGNALS = ("signal", "ecg", "data", "arr_0")


def read_npy(source: Source, options: Options) -> RawEcg:
    """One array, (leads, samples) or its transpose."""
    return _record(_npy(source, source.data), {}, options, source)


def read_npz(source: Source, options: Options) -> RawEcg:
    """The array ``signal`` (or ``ecg``, ``data``) of an archive; ``fs``, ``units``, ``leads`` where it has them."""
    arrays: dict[str, np.ndarray] = {}
    with zipfile.ZipFile(io.BytesIO(source.data)) as archive:
        entries = [entry for entry in archive.infolist() if entry.filename.endswith(".npy")]
        source.budget.check("channels", len(entries))
        for entry in entries:
            source.budget.spend("bytes", entry.file_size)
            with archive.open(entry) as file:
                content = file.read(entry.file_size + 1)
            arrays[entry.filename.removesuffix(".npy")] = _npy(source, content)
    key = next((key for key in _SIGNALS if key in arrays), None)
    if key is None:
        raise EcgReadError(f"expected an array 'signal', got {', '.join(arrays) or 'none'} in {source.name}; rename it")
    return _record(arrays[key], arrays, options, source)


def _record(table: np.ndarray, stated: dict[str, np.ndarray], options: Options, source: Source) -> RawEcg:
    def value(key: str) -> str | None:
        return str(stated[key].ravel()[0]) if key in stated and stated[key].size else None

    fs = options.fs if options.fs is not None else value("fs")
    units = options.units or value("units") or ("mV" if options.gain else None)
    if fs is None or units is None:
        raise EcgReadError(
            f"expected a sampling rate and a unit for {source.name}, got rate {fs} and unit {units}; the file does not "
            "hold them: pass fs=500, units='mV'"
        )
    names = options.lead_names or (tuple(map(str, stated["leads"].ravel())) if "leads" in stated else None)
    signal, leads, _ = oriented(table, names, source.name)
    if options.gain and not options.units:
        signal = signal / options.gain
    check_size(source.budget, *signal.shape)
    return RawEcg(signal, check_rate(float(fs)), leads, (str(units),) * len(signal))


def _npy(source: Source, data: bytes) -> np.ndarray:
    """An array of plain numbers whose bytes are all there; pickles are refused."""
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = header(file, max_header_size=10_000)
    if dtype.hasobject or dtype.kind not in "fiubUS":
        raise EcgReadError(
            f"expected numbers, got {dtype} in {source.name}; pickled objects are refused: save a float array"
        )
    values = int(np.prod([int(n) for n in shape], dtype=object)) if shape else 1
    source.budget.check("samples", values)
    if values * max(dtype.itemsize, 1) > len(data):
        raise EcgReadError(
            f"expected the {values:,} values of its header, got {len(data):,} bytes: {source.name} is cut"
        )
    file.seek(0)
    return np.load(file, allow_pickle=False)
