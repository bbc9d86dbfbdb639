"""Tables of records as rows, and the ways they write a number or a sex."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gem_lightning.ecg.readers.base import sex_letter
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
        titles = file.readline()
        file.seek(0)
        yield from csv.DictReader(file, delimiter=max(",;\t", key=titles.count))


def number_or_none(value: Any) -> float | None:
    """A number in text, or None for empty, NaN and words."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if number == number else None


def age_or_none(value: Any) -> float | None:
    """An age in years, or None for what is no age of a person."""
    age = number_or_none(value)
    return age if age is not None and 0 <= age <= 150 else None


def split_in_words(value: Any) -> str | None:
    """``train``, ``val`` or ``test`` from the ways data sets write it; None where there is none.

    Raises:
        DataError: It is none of these.
    """
    text = str(value or "").strip().lower()
    found = _SPLITS.get(text)
    if text and found is None:
        raise DataError(f"expected a split among {', '.join(_SPLITS)}, got {value!r}")
    return found


_SPLITS = {name: name for name in ("train", "val", "test")}
_SPLITS |= {"training": "train", "valid": "val", "validation": "val", "dev": "val", "testing": "test"}


def sex_in_words(value: Any) -> str | None:
    """``female``, ``male`` or None from the ways data sets write it."""
    return {"F": "female", "M": "male"}.get(sex_letter(value) or "")
