"""Rows of an Excel workbook's first sheet, as some data sets ship their tables (ECMA-376, Office Open XML)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element
from zipfile import BadZipFile, ZipFile

from defusedxml.ElementTree import fromstring

from gem_lightning.errors import DataError

_NAMESPACE = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
_LARGEST = 256 * 1024 * 1024  # bytes of one unpacked part


def xlsx_rows(path: Path) -> Iterator[dict[str, str]]:
    """Each row below the first as column title → text, stripped; empty cells are empty texts.

    Raises:
        DataError: The file is no such workbook.
    """
    try:
        with ZipFile(path) as book:
            if max(part.file_size for part in book.infolist()) > _LARGEST:
                raise DataError(f"{path.name}: expected parts of at most {_LARGEST:,} bytes, got larger ones")
            names = set(book.namelist())
            shared = _shared(book.read("xl/sharedStrings.xml")) if "xl/sharedStrings.xml" in names else []
            sheet = book.read("xl/worksheets/sheet1.xml")
    except (BadZipFile, KeyError, ValueError, OSError) as error:
        raise DataError(f"expected an Excel workbook (.xlsx) at {path}, got {error}; fetch it again") from None
    titles: dict[int, str] | None = None
    for row in fromstring(sheet).iter(f"{_NAMESPACE}row"):
        cells = {_column(cell.get("r", "")): _text(cell, shared) for cell in row.iter(f"{_NAMESPACE}c")}
        if titles is None:
            titles = cells
        elif any(cells.values()):
            yield {title: cells.get(column, "") for column, title in titles.items()}


def _shared(xml: bytes) -> list[str]:
    items = fromstring(xml).iter(f"{_NAMESPACE}si")
    return ["".join(part.text or "" for part in item.iter(f"{_NAMESPACE}t")) for item in items]


def _column(reference: str) -> int:
    """Number of the column in a cell's name, such as 28 for AB7."""
    number = 0
    for letter in re.sub(r"[^A-Z]", "", reference):
        number = 26 * number + ord(letter) - 64
    return number


def _text(cell: Element, shared: list[str]) -> str:
    if cell.get("t") == "inlineStr":
        return "".join(part.text or "" for part in cell.iter(f"{_NAMESPACE}t")).strip()
    value = cell.findtext(f"{_NAMESPACE}v") or ""
    return (shared[int(value)] if cell.get("t") == "s" and value else value).strip()
