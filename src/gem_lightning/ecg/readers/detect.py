"""Detect a file's format from its content, or its name where that is ambiguous; unpack gzip within the budget."""

from __future__ import annotations

import re
import zlib

from gem_lightning.ecg.readers.base import Source
from gem_lightning.ecg.readers.budget import LIMITS
from gem_lightning.ecg.readers.contec import is_contec
from gem_lightning.errors import EcgReadError

_MAGIC = (
    (b"\x89HDF\r\n\x1a\n", "code15"),
    (b"ISHNE1.0", "ishne"),
    (b"\x93NUMPY", "npy"),
    (b"0       ", "edf"),
    (b"\xffBIOSEMI", "bdf"),
    (b"MATLAB 5.0", "cpsc"),
    (b"MATLAB 7.3", "mat73"),
    (b"ALIVE\0\0\0", "atc"),
    (b"PAR1", "parquet"),
    (b"\x02\x00\x00\x00UL", "dicom"),  # file meta group without the 128 bytes before it
)
_ROOTS = {"annotatedecg": "aecg", "restingecgdata": "sierra", "restingecg": "muse"}
_ROOTS |= {"cardiologyxml": "cardiosoft", "ecg": "eli", "examdescript": "schiller"}
_ENDINGS = {".hea": "wfdb", ".dat": "wfdb", ".csv": "csv", ".tsv": "csv", ".txt": "csv", ".dcm": "dicom"}
_ENDINGS |= {".scp": "scp", ".edf": "edf", ".bdf": "bdf", ".npy": "npy", ".npz": "npz", ".hdf5": "code15"}
_ENDINGS |= {".h5": "code15", ".ecg": "ishne", ".mwf": "mfer", ".xlsx": "xlsx", ".json": "fhir", ".atc": "atc"}
_PAGES = (b"%PDF", b"\x89PNG\r\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"GIF8", b"BM")  # a PDF, or an image


def unzipped(source: Source) -> Source:
    """The source itself, or its content where it is compressed with gzip.

    Raises:
        EcgReadError: Damaged, or it unpacks to more than the budget allows.
    """
    if source.head(3) != b"\x1f\x8b\x08":
        return source
    unpack = zlib.decompressobj(wbits=31)  # 31: gzip's header with the largest window
    try:
        content = unpack.decompress(source.data, LIMITS["unpacked bytes"] + 1)
    except zlib.error as error:
        raise EcgReadError(f"expected a sound gzip file, got {error} in {source.name}; copy it again") from error
    source.budget.check("unpacked bytes", len(content))
    return Source(content=content, given=source.budget)


def detect(source: Source) -> str:
    """The format's name.

    Raises:
        EcgReadError: Empty, or nothing that is known.
    """
    head = source.head()
    if not head:
        raise EcgReadError(f"expected an ECG, got an empty file: {source.name}; copy it again")
    if head.startswith(_PAGES):
        return "paper"
    ending = source.path.suffix.lower() if source.path is not None else ""
    if ending in (".mat", ".dat") and source.path is not None and source.path.with_suffix(".hea").is_file():
        return "wfdb"  # the CinC Challenge's layout: gain, rate and names are in the header next to it
    if head[128:132] == b"DICM":
        return "dicom"
    # section 0 names itself after the CRC, the length and its own 8 bytes of header (EN 1064)
    if head[16:22] == b"SCPECG":
        return "scp"
    if head[:2] == b"\x40\x04" or b"MFR " in head[:16] or b"MFER" in head[:16]:
        return "mfer"
    if head[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        return "xlsx" if b"xl/" in head or b"[Content_Types].xml" in head or ending == ".xlsx" else "npz"
    for magic, name in _MAGIC:
        if head.startswith(magic):
            return name
    if is_contec(head):
        return "contec"
    root = _xml_root(head)
    if root in _ROOTS:
        return _ROOTS[root]
    if ending == ".mat":
        raise EcgReadError(
            f"expected a header {source.name.removesuffix('.mat')}.hea next to {source.name}, got none; gain, rate and "
            "lead names of a CinC record are there: copy it into the same folder"
        )
    if root is None and _is_wfdb_header(head):
        return "wfdb"
    if ending in _ENDINGS:
        return _ENDINGS[ending]
    if head.lstrip()[:1] == b"{":
        return "fhir"
    found = f"XML with the root element {root!r}" if root else f"bytes that begin with {head[:8]!r}"
    raise EcgReadError(
        f"expected an ECG file, got {found} in {source.name}; the readable formats are listed in docs/ecg.md: name one "
        "with format="
    )


def _is_wfdb_header(head: bytes) -> bool:
    """Whether the first line that is no comment reads "name leads rate ..." and the next one "file format ..."."""
    lines = [line.split() for line in head.split(b"\n") if line.strip() and not line.startswith(b"#")][:2]
    return (
        len(lines) == 2
        and len(lines[0]) >= 3
        and len(lines[1]) >= 3
        and lines[0][1].isdigit()
        and lines[0][2][:1].isdigit()
        and lines[1][1][:1].isdigit()
    )


def _xml_root(head: bytes) -> str | None:
    """The first element's name in lower case, without its namespace; None where this is not XML."""
    for encoding in ("utf-16" if head[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig", "latin-1"):
        text = head[: len(head) // 2 * 2].decode(encoding, errors="ignore").lstrip()
        if not text.startswith("<"):
            return None
        text = re.sub(r"<\?.*?\?>|<!--.*?-->|<!DOCTYPE[^>\[]*(\[.*?\])?[^>]*>", "", text, flags=re.DOTALL)
        match = re.search(r"<(?:[\w.-]+:)?([\w.-]+)", text)
        if match:
            return match[1].lower()
    return None
