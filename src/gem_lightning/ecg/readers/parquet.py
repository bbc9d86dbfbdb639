"""Parquet: one column a lead; rate and unit from the metadata that ``write_ecg`` leaves, or from the caller."""

from __future__ import annotations

import io
import json

import numpy as np

from gem_lightning.ecg.readers.base import Options, RawEcg, Source, check_rate, check_size, patient
from gem_lightning.errors import EcgReadError


def read(source: Source, options: Options) -> RawEcg:
    """The numeric columns of a file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = pq.ParquetFile(io.BytesIO(source.data))
    check_size(source.budget, file.metadata.num_columns, file.metadata.num_rows)
    source.budget.spend("bytes", sum(file.metadata.row_group(i).total_byte_size for i in range(file.num_row_groups)))
    stated = json.loads((file.schema_arrow.metadata or {}).get(b"ecg", b"{}"))
    numeric = [f.name for f in file.schema_arrow if pa.types.is_floating(f.type) or pa.types.is_integer(f.type)]
    fs, units = options.fs or stated.get("fs"), stated.get("units") or options.units
    if fs is None or units is None or not numeric:
        raise EcgReadError(
            f"expected numeric columns, a sampling rate and a unit for {source.name}, got {len(numeric)} columns, "
            f"fs={fs} and units={units}; pass fs=500, units='mV'"
        )
    table = file.read(columns=numeric)
    signal = np.stack([table[name].to_numpy().astype(np.float64) for name in numeric])
    meta = patient(stated.get("age"), stated.get("sex"))
    return RawEcg(signal, check_rate(float(fs)), tuple(numeric), (str(units),) * len(numeric), meta)
