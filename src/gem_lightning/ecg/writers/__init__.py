"""Writers: records as WFDB, DICOM, EDF, CSV and Parquet; each file reads back within half a digital unit."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path

from gem_lightning.ecg.record import EcgRecord
from gem_lightning.ecg.writers.wfdb import write_wfdb
from gem_lightning.errors import EcgReadError

__all__ = ["SUFFIXES", "write_ecg", "write_wfdb"]

_WRITERS = {
    "wfdb": ("wfdb", "write_wfdb"),
    "dicom": ("dicom", "write_dicom"),
    "edf": ("edf", "write_edf"),
    "csv": ("tables", "write_csv"),
    "parquet": ("tables", "write_parquet"),
}
SUFFIXES = {"wfdb": ".hea", "dicom": ".dcm", "edf": ".edf", "csv": ".csv", "parquet": ".parquet"}


def write_ecg(record: EcgRecord, path: str | os.PathLike[str], format: str | None = None) -> Path:
    """Write a record; age and sex go with it where the format has a place for them, nothing else of ``meta``.

    Args:
        record: Any leads and rate, mV.
        path: File to write; for WFDB the header, with its signal file next to it.
        format: ``wfdb``, ``dicom``, ``edf``, ``csv`` or ``parquet``; None: by the path's suffix.

    Returns:
        The file's path (the header's for WFDB).

    Raises:
        EcgReadError: No such format, or one that cannot hold the record.
    """
    target = Path(path)
    name = format or next((name for name, suffix in SUFFIXES.items() if suffix == target.suffix.lower()), None)
    if name not in _WRITERS:
        raise EcgReadError(f"expected a format of {', '.join(_WRITERS)}, got {name or target.suffix!r}; name it")
    module, function = _WRITERS[name]
    return getattr(import_module(f"{__name__}.{module}"), function)(record, target)
