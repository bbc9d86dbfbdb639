"""ISHNE Holter standard output file (Badilini, ISHNE Standard Output Format task force, 1998)."""

from __future__ import annotations

import struct

import numpy as np

from gem_lightning.ecg.readers.base import (
    Options,
    RawEcg,
    Source,
    acquired,
    check_rate,
    check_size,
    patient,
    years_between,
)
from gem_lightning.errors import EcgReadError

_FIXED = 522  # 8 bytes magic, 2 bytes checksum, 512 bytes header
_NAMES = {5: "I", 6: "II", 7: "III", 8: "aVR", 9: "aVL", 10: "aVF", **{i: f"V{i - 10}" for i in range(11, 17)}}
_IDENTITY = (("first_name", 28, 40), ("last_name", 68, 40), ("id", 108, 20))  # name, offset, bytes
_NAMES |= {2: "X", 3: "Y", 4: "Z"}


def read(source: Source, options: Options) -> RawEcg:
    """All leads of an ISHNE file; resolutions are in nV."""
    data = source.data
    if len(data) < _FIXED:
        raise EcgReadError(f"expected an ISHNE header of {_FIXED} bytes, got {len(data)}; the file is truncated")
    # offsets after the magic number, its CRC and the length of the variable block (Badilini 1998)
    size, _, start = struct.unpack_from("<iii", data, 14)
    count, *rest = struct.unpack_from("<37h", data, 156)
    codes, resolution = rest[:12], rest[24:36]
    (rate,) = struct.unpack_from("<h", data, 272)
    if not 1 <= count <= 12 or not _FIXED <= start <= len(data):
        raise EcgReadError(
            f"expected 1 to 12 leads and samples inside the file, got {count} and offset {start}; damaged"
        )
    values = np.frombuffer(data[start : start + (len(data) - start) // 2 * 2], "<i2")
    samples = _length(size, count, len(values))
    check_size(source.budget, count, samples, len(values))
    if any(nv <= 0 for nv in resolution[:count]):
        raise EcgReadError(f"expected a resolution in nV per lead, got {resolution[:count]}; amplitudes mean nothing")
    counts = values[: samples * count].reshape(samples, count).T
    signal = counts * np.array(resolution[:count], dtype=np.float64)[:, None]
    names = tuple(_NAMES.get(code, f"lead {code}") for code in codes[:count])
    (sex,) = struct.unpack_from("<h", data, 128)
    clock = ":".join(f"{value:02d}" for value in struct.unpack_from("<3h", data, 150))
    meta = patient(_age(data), {1: "M", 2: "F"}.get(sex)) | acquired(clock)
    texts = {name: data[at : at + size].split(b"\0")[0].decode("latin-1").strip() for name, at, size in _IDENTITY}
    return RawEcg(signal, check_rate(rate), names, ("nV",) * count, meta, {k: v for k, v in texts.items() if v})


def _length(size: int, count: int, stored: int) -> int:
    """Samples per lead: writers put either that or the total of all leads into the header."""
    if size <= 0:
        return stored // count
    is_total = size * count > stored and size % count == 0 and 0 <= stored - size < count
    return size // count if is_total else size


def _age(data: bytes) -> int | None:
    """From dates of birth and recording (day, month, year)."""
    dates = (struct.unpack_from("<3h", data, at) for at in (132, 138))
    return years_between(*(f"{y:04d}{m:02d}{d:02d}" if y > 1800 and m > 0 and d > 0 else "" for d, m, y in dates))
