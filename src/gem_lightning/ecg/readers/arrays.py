"""CSV, NPY and NPZ: numbers without a rate or a unit, which the caller or the data set's format has to give."""

from __future__ import annotations

import csv
import io
import zipfile

import numpy as np

from gem_lightning.ecg.leads import lead_name
from gem_lightning.ecg.readers.base import MAX_VALUES, Options, RawEcg, Source, check_rate, check_size
from gem_lightning.ecg.record import LEADS
from gem_lightning.errors import EcgReadError

_MAX_CSV_BYTES = 64 * 1024 * 1024


def read(source: Source, options: Options, format: str) -> RawEcg:
    """A table with one column (or row) a lead."""
    stated: dict[str, np.ndarray] = {}
    names: tuple[str, ...] | None = None
    if format in ("csv", "chapman"):
        table, names = _csv(source)
    elif format == "npy":
        table = _npy(source.data, source.name)
    else:
        stated = _npz(source)
        table = next((stated[key] for key in ("signal", "ecg", "data", "arr_0") if key in stated), np.zeros(0))
        names = tuple(map(str, stated["leads"].ravel())) if "leads" in stated else None
    if format == "chapman":  # Zheng et al., Sci Data 7, 48 (2020)
        stated = {"fs": np.array(500), "units": np.array("uV")}
    fs = options.fs if options.fs is not None else _stated(stated, "fs")
    units = options.units if options.units is not None else _stated(stated, "units")
    if fs is None or units is None:
        raise EcgReadError(
            f"expected a sampling rate and a unit for {source.name}, got fs={fs} and units={units}; a {format.upper()} "
            "file does not hold them: pass fs=500, units='mV' (on the command line --fs 500 --units mV, for generate "
            "source.fs=500 source.units=mV)"
        )
    signal, names = _oriented(table, options.lead_names or names)
    check_size(*signal.shape)
    return RawEcg(signal, check_rate(float(fs)), names, (str(units),) * len(signal))


def _stated(stated: dict[str, np.ndarray], key: str) -> str | None:
    return str(stated[key].ravel()[0]) if key in stated and stated[key].size else None


def _oriented(table: np.ndarray, names: tuple[str, ...] | None) -> tuple[np.ndarray, tuple[str, ...]]:
    """(leads, samples) and names; the axis whose length fits the names holds the leads."""
    if table.ndim != 2 or 0 in table.shape:
        raise EcgReadError(f"expected an array (leads, samples), got shape {table.shape}; store one ECG a file")
    count = len(names) if names else len(LEADS)
    if table.shape[0] != count and table.shape[1] != count:
        raise EcgReadError(
            f"expected {count} leads along one axis, got shape {table.shape}; name them: lead_names= (--leads)"
        )
    signal = table if table.shape[0] == count else table.T
    with np.errstate(invalid="ignore", over="ignore"):
        return np.asarray(signal, dtype=np.float64), tuple(names or LEADS)


def _csv(source: Source) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """Numbers and, where the first line holds them, lead names; columns that are no leads (time) are dropped."""
    if len(source.data) > _MAX_CSV_BYTES:
        raise EcgReadError(
            f"expected at most {_MAX_CSV_BYTES:,} bytes of CSV, got {len(source.data):,}; cut the recording"
        )
    text = source.data.decode("utf-8-sig", errors="replace")
    first = text.lstrip().split("\n", 1)[0]
    delimiter = max(",;\t ", key=first.count)
    rows = [row for row in csv.reader(io.StringIO(text), delimiter=delimiter) if any(cell.strip() for cell in row)]
    if not rows:
        raise EcgReadError(f"expected rows of numbers, got none in {source.name}")
    if any(len(row) != len(rows[0]) for row in rows):
        raise EcgReadError(
            f"expected {len(rows[0])} columns in every row, got others in {source.name}; correct the file"
        )
    titles = [cell.strip() for cell in rows[0]] if not _is_number(rows[0][0]) or not _is_number(rows[0][-1]) else None
    body = [[cell.strip() or "nan" for cell in row] for row in rows[1 if titles else 0 :]]
    try:
        table = np.array(body, dtype=np.float64)
    except ValueError as error:
        raise EcgReadError(f"expected numbers below the first line, got {str(error)[-60:]} in {source.name}") from error
    if titles and any(lead_name(title) for title in titles):
        columns = [i for i, title in enumerate(titles) if lead_name(title)]
        return table[:, columns], tuple(titles[i] for i in columns)
    return table, None


def _is_number(text: str) -> bool:
    try:
        float(text.strip() or "nan")
    except ValueError:
        return False
    return True


def _npy(data: bytes, name: str) -> np.ndarray:
    """An array of plain numbers whose bytes are all there; pickles are refused."""
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = header(file, max_header_size=10_000)
    if dtype.hasobject or dtype.kind not in "fiubUS":
        raise EcgReadError(f"expected numbers, got {dtype} in {name}; pickled objects are refused: save a float array")
    values = int(np.prod([int(n) for n in shape], dtype=object)) if shape else 1
    if values > MAX_VALUES or values * max(dtype.itemsize, 1) > len(data):
        raise EcgReadError(f"expected the {values:,} values of its header, got {len(data):,} bytes: {name} is cut")
    file.seek(0)
    return np.load(file, allow_pickle=False)


def _npz(source: Source) -> dict[str, np.ndarray]:
    """The arrays of a zip archive that does not unpack to more than an ECG can be."""
    with zipfile.ZipFile(io.BytesIO(source.data)) as archive:
        entries = [entry for entry in archive.infolist() if entry.filename.endswith(".npy")]
        if sum(entry.file_size for entry in entries) > MAX_VALUES * 8 or len(entries) > 1000:
            raise EcgReadError(f"expected at most {MAX_VALUES:,} samples, got an archive that unpacks to more; refused")
        arrays = {}
        for entry in entries:
            with archive.open(entry) as file:
                content = file.read(entry.file_size + 1)
            arrays[entry.filename.removesuffix(".npy")] = _npy(content, entry.filename)
    if not any(key in arrays for key in ("signal", "ecg", "data", "arr_0")):
        raise EcgReadError(f"expected an array 'signal', got {', '.join(arrays) or 'none'} in {source.name}; rename it")
    return arrays
