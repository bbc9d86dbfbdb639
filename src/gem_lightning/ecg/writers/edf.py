"""Write records as EDF+ with pyedflib."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from gem_lightning.ecg.record import EcgRecord
from gem_lightning.errors import EcgReadError, MissingExtraError
from gem_lightning.jobs import write_atomically


def write_edf(record: EcgRecord, path: Path) -> Path:
    """16 bits over each lead's own range.

    Raises:
        EcgReadError: Unknown samples, which EDF cannot mark, or a rate or length that its data records cannot hold.
    """
    try:
        import pyedflib
    except ImportError as error:
        raise MissingExtraError("pyedflib", "formats") from error
    if not np.isfinite(record.signal).all():
        raise EcgReadError("expected known samples throughout, got NaN, which EDF cannot mark; write wfdb or dicom")
    if record.fs != round(record.fs) or record.samples % round(record.fs):
        raise EcgReadError(
            f"expected whole seconds at a whole rate, got {record.samples} samples at {record.fs:g} Hz; EDF holds no "
            "others: write wfdb or dicom"
        )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "record.edf"
        with pyedflib.EdfWriter(str(file), len(record.leads), file_type=pyedflib.FILETYPE_EDFPLUS) as writer:
            if record.meta.get("sex"):
                writer.setSex(int(record.meta["sex"] == "M"))
            for i, (lead, row) in enumerate(zip(record.leads, record.signal)):
                reach = _reach(row)
                writer.setSignalHeader(i, {
                    "label": f"ECG {lead}", "dimension": "uV", "sample_frequency": round(record.fs),
                    "physical_min": -reach, "physical_max": reach, "digital_min": -32767, "digital_max": 32767,
                    "transducer": "", "prefilter": "",
                })  # fmt: skip
            writer.writeSamples([row.astype(np.float64) * 1000 for row in record.signal])
        write_atomically(path, file.read_bytes())
    return path


def _reach(row: np.ndarray) -> float:
    """Half of the physical range, µV: an integer, since the header has eight characters for it."""
    return float(max(1000, np.ceil(np.abs(row).max() * 1000)))
