"""Tables of records as rows, and the ways they write a number or a sex."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gem_lightning.errors import DataError


def table_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Rows of a CSV or Parquet file, one at a time.

    Raises:
        DataError: The file is no such table.
    """
    parquet = path.suffix == ".parquet"
    try:
        yield from _parquet_rows(path) if parquet else _csv_rows(path)
    except (ValueError, csv.Error, OSError) as error:  # pyarrow's own are ValueErrors
        kind = "a Parquet file" if parquet else "a CSV file in UTF-8"
        raise DataError(f"expected {kind} at {path}, got: {str(error).splitlines()[0]}") from error


def _parquet_rows(path: Path) -> Iterator[dict[str, Any]]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=1024):
            yield from batch.to_pylist()


def _csv_rows(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        yield from csv.DictReader(file)


def number_or_none(value: Any) -> float | None:
    """A number in text, or None for empty, NaN and words."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if number == number else None


def sex_in_words(value: Any) -> str | None:
    """``female``, ``male`` or None from the ways data sets write it."""
    text = str(value).strip().lower()
    return {"f": "female", "female": "female", "m": "male", "male": "male"}.get(text)
