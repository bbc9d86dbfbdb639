"""Write records as CSV and Parquet: one column a lead, in mV."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from gem_lightning.ecg.record import EcgRecord
from gem_lightning.jobs import write_atomically


def write_csv(record: EcgRecord, path: Path) -> Path:
    """Titles ``time [s]``, ``I [mV]``, ...; an unknown sample is an empty cell. Rounded to 0.1 µV."""
    titles = ",".join(["time [s]", *(f"{lead} [mV]" for lead in record.leads)])
    times = np.arange(record.samples) / record.fs
    rows = (
        ",".join([f"{t:.9g}", *("" if np.isnan(v) else f"{v:.4f}" for v in values)])
        for t, values in zip(times, record.signal.T.astype(np.float64))
    )
    write_atomically(path, ("\n".join([titles, *rows]) + "\n").encode())
    return path


def write_parquet(record: EcgRecord, path: Path) -> Path:
    """Float32 columns named by lead; rate, unit, age and sex in the schema's metadata."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    facts: dict[str, Any] = {"fs": record.fs, "units": "mV"}
    facts |= {key: record.meta[key] for key in ("age", "sex") if key in record.meta}
    columns: dict[str, Any] = {lead: pa.array(row, pa.float32()) for lead, row in zip(record.leads, record.signal)}
    table = pa.table(columns)
    buffer = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({b"ecg": json.dumps(facts).encode()}), buffer)
    write_atomically(path, buffer.getvalue())
    return path
