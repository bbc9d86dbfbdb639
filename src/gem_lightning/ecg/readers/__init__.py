"""Readers: one file a format, and the registry that finds the right one."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np

from gem_lightning.ecg import preprocess
from gem_lightning.ecg.leads import complete_limb_leads, in_standard_order, lead_name
from gem_lightning.ecg.pack import SUFFIX as PACK
from gem_lightning.ecg.pack import read_pack
from gem_lightning.ecg.readers.base import Options, RawEcg, Source, check_rate, check_size, to_mv
from gem_lightning.ecg.readers.detect import detect, unzipped
from gem_lightning.ecg.readers.identify import ReadWarning, complete
from gem_lightning.ecg.readers.plausible import check_values
from gem_lightning.ecg.record import LEADS, EcgRecord
from gem_lightning.errors import EcgReadError, MissingExtraError
from gem_lightning.plugins import plugins

__all__ = ["FORMATS", "ReadWarning", "read_contracts", "read_ecg"]

#: Format -> module and function that reads it.
_READERS = {
    "wfdb": ("wfdb", "read"),
    "dicom": ("dicom", "read"),
    "cpsc": ("mat", "read"),
    "mat73": ("mat", "read_hdf5"),
    "csv": ("tables", "read"),
    "xlsx": ("tables", "read_xlsx"),
    "npy": ("arrays", "read_npy"),
    "npz": ("arrays", "read_npz"),
    "chapman": ("tables", "read_chapman"),
    "aecg": ("aecg", "read"),
    "sierra": ("sierra", "read"),
    "muse": ("muse", "read"),
    "ishne": ("ishne", "read"),
    "code15": ("code15", "read"),
    "edf": ("edf", "read"),
    "bdf": ("edf", "read"),
    "scp": ("scp", "read"),
    "cardiosoft": ("cardiosoft", "read"),
    "schiller": ("schiller", "read"),
    "eli": ("eli", "read"),
    "mfer": ("mfer", "read"),
    "atc": ("atc", "read"),
    "fhir": ("fhir", "read"),
    "contec": ("contec", "read"),
    "parquet": ("parquet", "read"),
    "paper": ("gem_lightning.digitizer.reader", "read"),  # of a layer above, loaded where an image is read
}
FORMATS: tuple[str, ...] = tuple(_READERS)


def outside_readers() -> dict[str, EntryPoint]:
    """Return readers of other packages, by their entry points in the group ``gem_lightning.readers``.

    The name of an entry point is the format and the suffix of its files; it loads a function of ``Source`` and
    ``Options`` that returns a ``RawEcg`` (all in :mod:`gem_lightning.ecg.readers.base`).
    """
    return {name: point for name, point in plugins("readers").items() if name not in _READERS}


def read_ecg(
    path_or_bytes: str | os.PathLike[str] | bytes,
    format: str | None = None,
    contract: str = "clean",
    leads: str = "12",
    deidentify: bool = True,
    *,
    fs: float | None = None,
    units: str | None = None,
    lead_names: tuple[str, ...] | list[str] | None = None,
    gain: float | None = None,
    index: int | None = None,
) -> EcgRecord:
    """Read an ECG file of any supported format.

    Args:
        path_or_bytes: A path (for WFDB the header, or the record's name without ending), or a file's content.
        format: One of :data:`FORMATS`; detected from the content where None.
        contract: ``clean``: standard lead order by name, 500 Hz, mV, short gaps repaired and flagged in ``quality``.
            ``gem``: what the original GEM feeds its tower: for WFDB rows, rate and units of the file, for other formats
            standard order at 500 Hz in mV; 0 where unknown, 5,000 samples.
        leads: ``12`` requires the standard leads; ``any`` accepts what is there.
        deidentify: Keep only age (90 stands for 90 and over), sex, device, the device's measurements and its
            statements; otherwise ``meta["identity"]`` holds what the file states about patient, place and time.
        fs: Sampling rate, Hz, where the file does not hold it or holds a wrong one.
        units: Unit of the samples, where the file does not hold it.
        lead_names: Names of the rows; without names twelve rows are read in standard order, with a warning.
        gain: Counts per mV, where the file holds uncalibrated samples.
        index: Which recording of a file that holds several (CODE-15, packs of ours), from 0.

    Returns:
        The record; ``meta["notes"]`` lists what was assumed, repaired or left out.

    Raises:
        EcgReadError: The file cannot be read as requested; the message names the expected and actual value and a fix.
    """
    how: dict[str, Any] = {"fs": fs, "units": units, "lead_names": lead_names, "gain": gain, "index": index}
    return read_contracts(path_or_bytes, (contract,), format, leads, deidentify, **how)[0]


def read_contracts(
    path_or_bytes: str | os.PathLike[str] | bytes,
    contracts: Sequence[str],
    format: str | None = None,
    leads: str = "12",
    deidentify: bool = True,
    *,
    fs: float | None = None,
    units: str | None = None,
    lead_names: Sequence[str] | None = None,
    gain: float | None = None,
    index: int | None = None,
) -> list[EcgRecord]:
    """Read a file once and return it under each of several signal contracts; arguments as :func:`read_ecg`."""
    for contract in contracts:
        if contract not in ("clean", "gem"):
            raise EcgReadError(f"expected contract 'clean' or 'gem', got {contract!r}")
    if leads not in ("12", "any"):
        raise EcgReadError(f"expected leads '12' or 'any', got {leads!r}")
    if isinstance(path_or_bytes, (str, os.PathLike)) and os.fspath(path_or_bytes).endswith(PACK):
        record = read_pack(path_or_bytes, index or 0)
        return [preprocess.gem(record) if c == "gem" else preprocess.clean(record, leads=leads) for c in contracts]
    source = unzipped(_source(path_or_bytes))
    suffix = "" if source.path is None else source.path.suffix[1:].lower()
    name = format or (suffix if suffix in outside_readers() else detect(source))
    if name not in _READERS and name not in outside_readers():
        raise EcgReadError(f"expected a format of {', '.join((*FORMATS, *outside_readers()))}, got {name!r}")
    options = Options(fs, units, None if lead_names is None else tuple(lead_names), gain, index)
    raw = complete(_read(name, source, options), options)
    check_size(source.budget, *raw.signal.shape)
    check_rate(raw.fs)
    source.budget.check("samples", raw.signal.size * max(1.0, preprocess.CLEAN_FS / raw.fs))
    raw = check_values(raw)
    meta = {"format": name, **raw.meta, **({"notes": raw.notes} if raw.notes else {})}
    if not deidentify:
        meta |= {"source": source.name, "identity": raw.identity}
    return [_to_gem(raw, meta, leads, name) if c == "gem" else _to_clean(raw, meta, leads) for c in contracts]


def _source(given: str | os.PathLike[str] | bytes) -> Source:
    if isinstance(given, (bytes, bytearray, memoryview)):
        return Source(content=bytes(given))
    if not isinstance(given, (str, os.PathLike)):
        raise EcgReadError(f"expected a path or bytes, got {type(given).__name__}; an EcgRecord needs no reading")
    path = Path(given)
    if "\0" in str(path):
        raise EcgReadError("expected a path, got one with a null character")
    if path.is_dir():
        raise EcgReadError(f"expected a file, got the folder {path.name or str(path)!r}; name one record in it")
    if not path.is_file():
        header = path.with_name(path.name + ".hea") if path.name else path
        if not header.is_file():
            raise EcgReadError(f"expected a file, got {str(path)!r}, which does not exist; check the path")
        path = header
    return Source(path)


def _read(name: str, source: Source, options: Options) -> RawEcg:
    """Run a reader; whatever a damaged file makes it raise becomes one clear error."""
    if name in outside_readers():
        read = outside_readers()[name].load()
    else:
        module, function = _READERS[name]
        read = getattr(import_module(module if "." in module else f"{__name__}.{module}"), function)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of format libraries about fields that are not used here
            return read(source, options)
    except (EcgReadError, MissingExtraError):
        raise
    except OSError as error:
        raise EcgReadError(
            f"expected to read {source.name}, got {error.strerror or error}; check its rights"
        ) from error
    except Exception as error:  # a parser fed with damaged bytes can fail in any way
        raise EcgReadError(
            f"expected a sound {name} file, got a damaged one: {source.name} ({type(error).__name__}: "
            f"{str(error)[:120]}); copy or export it again, or name its true format with format="
        ) from error


def _keep(names: tuple[str, ...], leads: str) -> list[int]:
    """Indices of the requested rows: the standard leads, or all."""
    return [i for i, name in enumerate(names) if leads == "any" or name in LEADS]


def _scaled(signal: np.ndarray, rows: list[int], factors: list[float]) -> np.ndarray:
    """The rows in float32, each times its factor."""
    if rows != list(range(len(signal))):
        signal = signal[rows]
    with np.errstate(over="ignore", invalid="ignore"):
        if any(factor != 1 for factor in factors):
            signal = signal * np.array(factors)[:, None]
        return signal.astype(np.float32)


def _to_clean(raw: RawEcg, meta: dict[str, Any], leads: str) -> EcgRecord:
    names = tuple(lead_name(name) or name for name in raw.leads)
    rows = _keep(names, leads)
    if not rows:
        raise EcgReadError(
            f"expected leads named {', '.join(LEADS)}, "
            f"got {', '.join(repr(n[:20]) for n in raw.leads[:15]) or 'none'}; name the rows with lead_names=, "
            "or read them as they are with leads='any'"
        )
    signal = _scaled(raw.signal, rows, [to_mv(raw.units[i]) for i in rows])
    record = EcgRecord(signal, raw.fs, tuple(names[i] for i in rows), meta)
    return preprocess.clean(record, leads=leads)


def _to_gem(raw: RawEcg, meta: dict[str, Any], leads: str, format: str) -> EcgRecord:
    """As the original reads WFDB: values of the file in its own units; it never read other formats."""
    if format != "wfdb":
        return preprocess.gem(_to_clean(raw, meta, leads))
    names = tuple(lead_name(name) or name for name in raw.leads)
    rows = _keep(names, leads)
    signal = _scaled(raw.signal, rows, [1.0] * len(rows))
    kept = tuple(names[i] for i in rows)
    if leads == "12" and set(kept) != set(LEADS):  # eight stored leads: no order of the original to keep
        signal, kept, _ = complete_limb_leads(signal, kept)
        signal, kept = in_standard_order(signal, kept), LEADS
    return preprocess.gem(EcgRecord(signal, raw.fs, kept, meta))
