"""Detect a file's format from its content, and from its name only where the content is ambiguous."""

from __future__ import annotations

import re

from gem_lightning.ecg.readers.base import Source
from gem_lightning.errors import EcgReadError

_MAGIC = (
    (b"\x89HDF\r\n\x1a\n", "code15"),
    (b"ISHNE1.0", "ishne"),
    (b"ANN  1.0", None),
    (b"PK\x03\x04", "npz"),
    (b"PK\x05\x06", "npz"),
    (b"\x93NUMPY", "npy"),
    (b"0       ", "edf"),
    (b"MATLAB 5.0", "cpsc"),
)
_ROOTS = {"annotatedecg": "aecg", "restingecgdata": "sierra", "restingecg": "muse"}
_ENDINGS = {".hea": "wfdb", ".dat": "wfdb", ".csv": "csv", ".tsv": "csv", ".txt": "csv", ".dcm": "dicom"}
_ENDINGS |= {".scp": "scp", ".edf": "edf", ".npy": "npy", ".npz": "npz", ".hdf5": "code15", ".h5": "code15"}
_ENDINGS |= {".ecg": "ishne"}


def detect(source: Source) -> str:
    """The format's name.

    Raises:
        EcgReadError: Empty, or nothing that is known.
    """
    head = source.head()
    if not head:
        raise EcgReadError(f"expected an ECG, got an empty file: {source.name}; copy it again")
    ending = source.path.suffix.lower() if source.path is not None else ""
    if ending == ".mat" and source.path is not None and source.path.with_suffix(".hea").is_file():
        return "wfdb"  # the CinC Challenge's layout: gain, rate and names are in the header next to it
    if ending == ".dat" and source.path is not None and source.path.with_suffix(".hea").is_file():
        return "wfdb"
    if head[128:132] == b"DICM":
        return "dicom"
    if head[16:22] == b"SCPECG":
        return "scp"
    for magic, name in _MAGIC:
        if head.startswith(magic) and name:
            return name
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
    found = f"XML with the root element {root!r}" if root else f"bytes that begin with {head[:8]!r}"
    raise EcgReadError(
        f"expected an ECG file, got {found} in {source.name}; known formats are WFDB, DICOM, HL7 aECG, Philips Sierra, "
        "GE MUSE XML, ISHNE, EDF, SCP-ECG, CPSC .mat, CODE-15 HDF5, CSV, NPY and NPZ: name one with format="
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
