"""Vendors' XML, parsed without entities and without namespaces."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING

import numpy as np

from gem_lightning.ecg.readers.base import Source, check_rate, check_size, number
from gem_lightning.errors import EcgReadError

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element


def parse(source: Source) -> Element:
    """The root element, tags without namespaces.

    Entities are refused by defusedxml; its default of allowing a DOCTYPE stays, because MUSE files have one.

    Raises:
        EcgReadError: Not well-formed, or entities inside.
    """
    data, name = source.data, source.name
    # Every element opens with "<" and every attribute has a "=": counting both is far cheaper than parsing them.
    source.budget.check("XML tags", data.count(b"<") + data.count(b"="))
    from xml.etree.ElementTree import ParseError

    from defusedxml.common import DefusedXmlException
    from defusedxml.ElementTree import fromstring

    try:
        root = fromstring(data)
    except DefusedXmlException as error:
        raise EcgReadError(f"expected plain XML, got entities in {name}; remove its DOCTYPE's entities") from error
    except ParseError as error:
        raise EcgReadError(f"expected well-formed XML, got {error} in {name}; copy or export the file again") from error
    for element in root.iter():
        if isinstance(element.tag, str):
            element.tag = element.tag.rpartition("}")[2]
    return root


def text(root: Element, path: str, default: str = "") -> str:
    """Stripped text of the first element at ``path``."""
    found = root.find(path)
    return (found.text or "").strip() if found is not None else default


def base64_bytes(content: str | None, name: str) -> bytes:
    """Decoded base64, blanks ignored.

    Raises:
        EcgReadError: Other characters, or a length that is none of base64's.
    """
    try:
        return base64.b64decode("".join((content or "").split()), validate=True)
    except binascii.Error as error:
        raise EcgReadError(f"expected base64 samples, got {error} in {name}; copy or export the file again") from error


def integers(content: str | None, source: Source) -> np.ndarray:
    """Numbers (n,) separated by blanks or commas.

    Raises:
        EcgReadError: Something else between them, or more than the budget allows.
    """
    words = (content or "").replace(",", " ").split()
    source.budget.spend("table cells", len(words))
    try:
        values = np.array(words, dtype=np.float64)
    except ValueError as error:
        raise EcgReadError(
            f"expected numbers, got {str(error)[-40:]} in {source.name}; export the file again"
        ) from error
    if not np.isfinite(values).all():
        raise EcgReadError(f"expected finite samples, got damaged digits in {source.name}; export the file again")
    return values


def texts(root: Element, *tags: str) -> tuple[str, ...]:
    """Text of every element with one of these tags, blanks folded, empty and repeated ones left out."""
    found = (" ".join("".join(e.itertext()).split()) for e in root.iter() if e.tag in tags)
    return tuple(dict.fromkeys(text for text in found if text))


def identity(root: Element, *paths: str) -> dict[str, str]:
    """Fields that identify a patient, a place or a time, by their last tag."""
    found = {path.split("/")[-1]: text(root, path) for path in paths}
    return {key: value for key, value in found.items() if value}


def equal_rows(rows: list[np.ndarray], source: Source) -> np.ndarray:
    """(leads, samples) from rows of one length.

    Raises:
        EcgReadError: None, or of several lengths.
    """
    length = min((len(row) for row in rows), default=0)
    check_size(source.budget, len(rows), length)
    if any(len(row) != length for row in rows):
        raise EcgReadError("expected leads of one length, got several; the file is truncated: export it again")
    return np.stack(rows)


def rate(value: str | None) -> float:
    """A sampling rate, Hz.

    Raises:
        EcgReadError: None is stated, or an impossible one.
    """
    return check_rate(number(value) or 0.0)
