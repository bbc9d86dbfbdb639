"""Vendors' XML, parsed without entities and without namespaces."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING

from gem_lightning.errors import EcgReadError

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_MAX_BYTES = 128 * 1024 * 1024


def parse(data: bytes, name: str) -> Element:
    """The root element, tags without namespaces.

    Entities are refused by defusedxml; its default of allowing a DOCTYPE stays, because MUSE files have one.

    Raises:
        EcgReadError: Not well-formed, or entities inside.
    """
    if len(data) > _MAX_BYTES:
        raise EcgReadError(f"expected at most {_MAX_BYTES:,} bytes of XML, got {len(data):,} in {name}; cut the file")
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
