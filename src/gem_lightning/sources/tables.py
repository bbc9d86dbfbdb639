"""Read rows of tables (CSV, Parquet, JSON, Excel) and normalise their numbers, splits and sexes."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

from gem_lightning.ecg.readers.base import sex_letter
from gem_lightning.errors import DataError, MissingExtraError


def table_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a Parquet, JSON (list, or dict by id), JSON Lines or CSV file.

    Raises:
        DataError: The file is no such table.
    """
    reader, kind = _READERS.get(path.suffix, (_csv_rows, "a CSV file in UTF-8"))
    try:
        yield from reader(path)
    except (ValueError, csv.Error, OSError) as error:  # pyarrow raises ValueErrors
        raise DataError(f"expected {kind} at {path}, got: {str(error).splitlines()[0]}") from error


def _parquet_rows(path: Path) -> Iterator[dict[str, Any]]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=1024):
            yield from batch.to_pylist()


def _json_rows(path: Path) -> Iterator[dict[str, Any]]:
    rows = json.loads(path.read_text(encoding="utf-8"))
    if isinstance(rows, dict):
        rows = [{"id": name, **(row if isinstance(row, dict) else {"text": row})} for name, row in rows.items()]
    yield from rows


def _json_lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                try:
                    yield json.loads(line)
                except ValueError as error:
                    raise ValueError(f"line {number} is not JSON ({error})") from None


def _csv_rows(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        titles = file.readline()
        file.seek(0)
        yield from csv.DictReader(file, delimiter=max(",;\t", key=titles.count))


_READERS = {
    ".parquet": (_parquet_rows, "a Parquet file"),
    ".json": (_json_rows, "a JSON file"),
    ".jsonl": (_json_lines, "a JSON Lines file"),
}


def xlsx_rows(path: Path) -> Iterator[dict[str, str]]:
    """Yield the rows of an Excel workbook's first sheet as column title → stripped text; empty cells are empty texts.

    Raises:
        DataError: The file is no such workbook.
        MissingExtraError: openpyxl is not installed.
    """
    import pandas as pd

    try:
        table = pd.read_excel(path, dtype=str, keep_default_na=False, na_filter=False, engine="openpyxl")
    except ImportError:
        raise MissingExtraError("openpyxl", "formats") from None
    except (BadZipFile, KeyError, ValueError, OSError) as error:
        raise DataError(f"expected an Excel workbook (.xlsx) at {path}, got {error}; download it again") from None
    for row in table.to_dict("records"):
        cells = {str(title).strip(): str(value).strip() for title, value in row.items()}
        if any(cells.values()):
            yield cells


def number_or_none(value: Any) -> float | None:
    """Parse a number; None for empty cells, NaN and other text."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if number == number else None


def age_or_none(value: Any) -> float | None:
    """Parse an age in years; None outside 0 to 150."""
    age = number_or_none(value)
    return age if age is not None and 0 <= age <= 150 else None


def normalise_split(value: Any) -> str | None:
    """Return ``train``, ``val`` or ``test`` from the spellings in use; None for an empty value.

    Raises:
        DataError: An unknown spelling.
    """
    text = str(value or "").strip().lower()
    found = _SPLITS.get(text)
    if text and found is None:
        raise DataError(f"expected a split among {', '.join(_SPLITS)}, got {value!r}")
    return found


_SPLITS = {name: name for name in ("train", "val", "test")}
_SPLITS |= {"training": "train", "valid": "val", "validation": "val", "dev": "val", "testing": "test"}


def normalise_sex(value: Any) -> str | None:
    """Return ``female``, ``male`` or None from the spellings in use."""
    return {"F": "female", "M": "male"}.get(sex_letter(value) or "")
