"""File names of records: one file per id, whatever the id contains."""

from __future__ import annotations

import hashlib
import string

# letters, digits and these stand for themselves; a dot too, inside the name
_PLAIN = frozenset((string.ascii_letters + string.digits + "_-").encode())
_DOT = ord(".")
# a name of 255 bytes is the limit of common file systems; the rest is for suffixes and temporary names
_LONGEST = 150
_RESERVED = {"con", "prn", "aux", "nul", *(f"{kind}{n}" for kind in ("com", "lpt") for n in range(10))}


def file_name(identifier: str) -> str:
    """Return the file name, without suffix, of a record's id: two ids never share one.

    Every other byte of the UTF-8 text is written as ``%XX``, as in URLs. A name longer than 150 characters becomes
    ``%h`` and a hash of 128 bits, which no encoded name starts with. Append the suffix to it as text:
    ``Path.with_suffix`` would cut an id at its last dot.
    """
    raw = identifier.encode("utf-8", "surrogatepass")
    inner = range(1, len(raw) - 1)
    name = "".join(
        chr(byte) if byte in _PLAIN or (byte == _DOT and i in inner) else f"%{byte:02X}" for i, byte in enumerate(raw)
    )
    if name.split(".")[0].lower() in _RESERVED:  # devices of Windows, whatever the suffix
        name = f"%{raw[0]:02X}{name[1:]}"
    if len(name) > _LONGEST:
        return f"%h{hashlib.blake2b(raw, digest_size=16).hexdigest()}"
    return name or "%"
