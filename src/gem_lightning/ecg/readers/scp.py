"""SCP-ECG (EN 1064): Huffman codes of first or second differences."""

from __future__ import annotations

import binascii
import re
import struct
from functools import lru_cache
from typing import Any

import numpy as np

from gem_lightning.ecg.leads import lead_from_code
from gem_lightning.ecg.readers.base import (
    RawEcg,
    Source,
    check_rate,
    check_size,
    measurements,
    patient,
    years_between,
)
from gem_lightning.errors import EcgReadError

_HEADER = 16  # bytes before the content of each section
_DEFAULT_TABLE = 19999
_UNDEFINED = 29999
# (bits of the prefix, bits in all, value, prefix with its first bit lowest): table C.1 of the standard's annex.
_DEFAULT: tuple[tuple[int, int, int, int], ...] = (
    (1, 1, 0, 0),
    *((n + 2, n + 2, sign * n, (1 << n) - 1 | (sign < 0) << (n + 1)) for n in range(1, 9) for sign in (1, -1)),
    (10, 18, 0, 511),
    (10, 26, 0, 1023),
)


def read(source: Source) -> RawEcg:
    """The rhythm data (section 6) of an SCP file."""
    data = source.data
    sections = _sections(data)
    absent = [i for i in (3, 6) if i not in sections]
    if absent:
        raise EcgReadError(f"expected sections 3 and 6 with leads and rhythm, got no section {absent[0]}; export again")
    leads, lengths = _leads(sections[3])
    step_nv, step_us, differences, bimodal = struct.unpack_from("<HHBB", sections[6])
    if bimodal:
        raise EcgReadError("expected plain compression, got bimodal; export the ECG without sample decimation")
    if not step_nv or not step_us or differences > 2:
        raise EcgReadError(f"expected amplitude and time steps, got {step_nv} nV and {step_us} us; the file is damaged")
    table = _table(sections.get(2))
    check_size(len(leads), max(lengths), len(sections[6]) * 8)
    sizes = struct.unpack_from(f"<{len(leads)}H", sections[6], 6)
    at, rows = 6 + 2 * len(leads), []
    for size, samples in zip(sizes, lengths):
        rows.append(_integrate(_values(sections[6][at : at + size], samples, table), differences))
        at += size
    if len(set(lengths)) > 1:
        raise EcgReadError("expected leads recorded together, got different lengths; export the leads of one period")
    meta = _person(sections.get(1, b"")) | measurements(_measured(sections.get(7, b"")))
    if binascii.crc_hqx(data[2:], 0xFFFF) != int.from_bytes(data[:2], "little"):
        meta["checksum_mismatch"] = True
    return RawEcg(np.stack(rows) * float(step_nv), check_rate(1e6 / step_us), leads, ("nV",) * len(leads), meta)


def _sections(data: bytes) -> dict[int, bytes]:
    """Content of each section that is there."""
    if len(data) < 32:
        raise EcgReadError("expected an SCP file, got fewer than 32 bytes; the file is truncated")
    (stated,) = struct.unpack_from("<I", data, 2)
    if stated > len(data):
        raise EcgReadError(
            f"expected {stated:,} bytes as stated in the header, got {len(data):,}; the file is truncated"
        )
    (length,) = struct.unpack_from("<I", data, 10)
    found: dict[int, bytes] = {}
    for at in range(6 + _HEADER, min(6 + length, len(data) - 9), 10):
        number, size, position = struct.unpack_from("<HII", data, at)
        if size > _HEADER and position >= 1:
            content = data[position - 1 + _HEADER : position - 1 + size]
            if len(content) != size - _HEADER:
                raise EcgReadError(f"expected section {number} of {size} bytes, got {len(content)}; truncated")
            found.setdefault(number, content)
    return found


def _leads(section: bytes) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Names and numbers of samples."""
    count, flags = section[0], section[1]
    if flags & 1:
        raise EcgReadError("expected plain rhythm data, got a subtracted reference beat; export without subtraction")
    entries = [struct.unpack_from("<IIB", section, 2 + 9 * i) for i in range(count)]
    names = tuple(lead_from_code(f"2:{code}") or f"lead {code}" for _, _, code in entries)
    lengths = tuple(end - start + 1 for start, end, _ in entries)
    check_size(count, min(lengths, default=0))
    return names, lengths


def _table(section: bytes | None) -> tuple[tuple[int, int, int, int], ...] | None:
    """The Huffman table, None where samples are plain 16 bit."""
    if section is None:
        return None
    (tables,) = struct.unpack_from("<H", section)
    if tables == _DEFAULT_TABLE:
        return _DEFAULT
    if tables != 1:
        raise EcgReadError(f"expected one Huffman table, got {tables}; export with the default table")
    (count,) = struct.unpack_from("<H", section, 2)
    codes = [struct.unpack_from("<BBBhI", section, 4 + 9 * i) for i in range(count)]
    if not codes or any(prefix > 32 or not 1 <= prefix <= total <= 64 for prefix, total, *_ in codes):
        raise EcgReadError("expected a sound Huffman table, got impossible code lengths; the file is damaged")
    return tuple((prefix, total, value, code) for prefix, total, _, value, code in codes)


@lru_cache(maxsize=8)
def _pattern(table: tuple[tuple[int, int, int, int], ...]) -> tuple[re.Pattern[str], dict[str, tuple[int, int]]]:
    """A regular expression for one code, and the value of each prefix with its number of raw bits."""
    prefixes = {f"{code:0{prefix}b}"[::-1][:prefix]: (value, total - prefix) for prefix, total, value, code in table}
    ordered = sorted(prefixes, key=len, reverse=True)
    return re.compile("|".join(f"({p})([01]{{{prefixes[p][1]}}})" for p in ordered)), prefixes


def _values(data: bytes, samples: int, table: tuple[tuple[int, int, int, int], ...] | None) -> np.ndarray:
    """Decoded values (samples,) of one lead, differences not yet summed."""
    if table is None:
        check_size(1, samples, len(data) // 2)
        return np.frombuffer(data, "<i2", samples).astype(np.int64)
    expression, prefixes = _pattern(table)
    bits = bin(int.from_bytes(b"\x01" + data, "big"))[3:]  # the leading 1 keeps zeros at the start
    values, at = np.empty(samples, dtype=np.int64), 0
    for i in range(samples):
        match = expression.match(bits, at)
        if match is None:
            raise EcgReadError(f"expected {samples} samples of a lead, got {i}; the file is truncated or damaged")
        prefix, raw = (group for group in match.groups() if group is not None)
        value, width = prefixes[prefix]
        values[i] = value if not width else int(raw, 2) - (int(raw[0]) << width)
        at = match.end()
    return values


def _integrate(values: np.ndarray, differences: int) -> np.ndarray:
    """Sum differences once or twice; the first sample (or two) are stored as they are."""
    out = values.copy()
    if differences == 2 and len(out) > 2:
        slopes = np.concatenate([[out[1] - out[0]], out[2:]]).cumsum()
        out[1:] = out[0] + slopes.cumsum()
    elif differences == 1:
        out = out.cumsum()
    return out


def _person(section: bytes) -> dict[str, Any]:
    """Age and sex among the tagged fields of section 1."""
    fields: dict[int, bytes] = {}
    at = 0
    while at + 3 <= len(section) and section[at] != 255:
        (size,) = struct.unpack_from("<H", section, at + 1)
        fields.setdefault(section[at], section[at + 3 : at + 3 + size])
        at += 3 + size
    age: Any = None
    if len(fields.get(4, b"")) >= 3 and (value := int.from_bytes(fields[4][:2], "little")):
        age = f"{value}{' ymwdh'[fields[4][2]] if fields[4][2] < 6 else ''}"
    else:
        dates = [fields.get(tag, b"") for tag in (5, 25)]
        texts = [f"{int.from_bytes(d[:2], 'little'):04d}{d[2]:02d}{d[3]:02d}" if len(d) >= 4 else "" for d in dates]
        age = years_between(*texts)
    return patient(age, {b"\x01": "M", b"\x02": "F"}.get(fields.get(8, b"")[:1]))


def _measured(section: bytes) -> dict[str, Any]:
    """Global intervals and axes of section 7."""
    if len(section) < 22:
        return {}
    rr, _, p_on, _, qrs_on, qrs_off, t_off = struct.unpack_from("<7H", section, 2)
    axes = struct.unpack_from("<3h", section, 16)

    def span(start: int, end: int) -> int | None:
        return end - start if 0 <= start < end < _UNDEFINED else None

    found = {"rr_ms": rr if 0 < rr < _UNDEFINED else None, "pr_ms": span(p_on, qrs_on)}
    found |= {"qrs_ms": span(qrs_on, qrs_off), "qt_ms": span(qrs_on, t_off)}
    names = ("p_axis_deg", "qrs_axis_deg", "t_axis_deg")
    return found | {name: axis if abs(axis) <= 360 else None for name, axis in zip(names, axes)}
