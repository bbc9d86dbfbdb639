"""SCP-ECG (EN 1064): Huffman codes of differences, reference beats, bimodal compression."""

from __future__ import annotations

import binascii
import struct
from typing import Any, NamedTuple

import numpy as np

from gem_lightning.ecg.leads import lead_from_code
from gem_lightning.ecg.readers import huffman
from gem_lightning.ecg.readers.base import (
    Options,
    RawEcg,
    Source,
    acquired,
    check_rate,
    check_size,
    measurements,
    patient,
    years_between,
)
from gem_lightning.errors import EcgReadError

_HEADER = 16  # bytes before the content of each section
# number of tables that stands for the default one (EN 1064, 5.5)
_DEFAULT_TABLE = 19999
# stands for a measurement that was not made
_UNDEFINED = 29999
_NAMES = {0: "last_name", 1: "first_name", 2: "patient_id", 31: "sequence_number"}
_REFERENCE_SUBTRACTED = 1  # flag of section 3
_MOST_MISSING = 0.5  # of the stated samples that may be absent; with fewer the file is cut (ours)


class Leads(NamedTuple):
    """Section 3: names, first sample (from 1) and number of samples of each lead, and the flags."""

    names: tuple[str, ...]
    starts: tuple[int, ...]
    lengths: tuple[int, ...]
    flags: int


class Beats(NamedTuple):
    """Section 4, sample numbers from 1: the fiducial point in the reference beat, QRS complexes, protected zones."""

    length_ms: int
    fiducial: int
    complexes: list[tuple[int, int, int, int]]  # type, start, fiducial, end
    protected: list[tuple[int, int]]


def read(source: Source, options: Options) -> RawEcg:
    """The rhythm data (section 6) of an SCP file."""
    data = source.data
    sections = _sections(data)
    absent = [i for i in (3, 6) if i not in sections]
    if absent:
        raise EcgReadError(f"expected sections 3 and 6 with leads and rhythm, got no section {absent[0]}; export again")
    leads = _leads(sections[3], source)
    # section 6: multiplier in nV, interval in µs, encoding, bimodal compression
    step_nv, step_us, differences, bimodal = struct.unpack_from("<HHBB", sections[6])
    if not step_nv or not step_us or differences > 2:
        raise EcgReadError(f"expected amplitude and time steps, got {step_nv} nV and {step_us} us; the file is damaged")
    table = _table(sections.get(2), source)
    check_size(source.budget, len(leads.names), max(leads.lengths), len(sections[6]) * 8)
    if table is not None:
        source.budget.check("Huffman-coded samples", sum(leads.lengths))
    beats = _beats(sections) if bimodal or leads.flags & _REFERENCE_SUBTRACTED else None
    reference_us = struct.unpack_from("<HH", sections[5])[1] if beats and len(sections.get(5, b"")) > 6 else 0
    every = step_us // reference_us if bimodal and reference_us and step_us % reference_us == 0 else 1
    stored = _stored(leads, beats, every) if every > 1 and beats else list(leads.lengths)
    rows = _decoded_rows(sections[6], stored, table, differences)
    if every > 1 and beats:
        rows = [_expand(row, start, length, beats, every) for row, start, length in zip(rows, *leads[1:3])]
        step_us = reference_us
    rows, notes = _cut_equal(rows, leads)
    signal = np.stack(rows) * float(step_nv)
    if leads.flags & _REFERENCE_SUBTRACTED and beats:
        _add_reference(signal, sections, leads, beats, table)
    meta = _person(sections.get(1, b"")) | measurements(_measured(sections.get(7, b"")))
    statements = _statements(sections.get(8, b""))
    meta |= {"statements": statements} if statements else {}
    if binascii.crc_hqx(data[2:], 0xFFFF) != int.from_bytes(data[:2], "little"):
        meta["checksum_mismatch"] = True
    units, identity = ("nV",) * len(rows), _identity(sections.get(1, b""))
    return RawEcg(signal, check_rate(1e6 / step_us), leads.names, units, meta, identity, notes)


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
    # pointers of section 0: id (2), length (4), index from 1 (4)
    for at in range(6 + _HEADER, min(6 + length, len(data) - 9), 10):
        number, size, position = struct.unpack_from("<HII", data, at)
        if size > _HEADER and position >= 1:
            content = data[position - 1 + _HEADER : position - 1 + size]
            if len(content) != size - _HEADER:
                raise EcgReadError(f"expected section {number} of {size} bytes, got {len(content)}; truncated")
            found.setdefault(number, content)
    return found


def _leads(section: bytes, source: Source) -> Leads:
    """Names and sample ranges; writers count the first sample as 1, some as 0 with the last one past the end."""
    count, flags = section[0], section[1]
    source.budget.check("channels", count)
    # section 3, 9 bytes a lead: first sample, last sample, lead code
    entries = [struct.unpack_from("<IIB", section, 2 + 9 * i) for i in range(count)]
    names = tuple(lead_from_code(f"2:{code}") or f"lead {code}" for _, _, code in entries)
    lengths = tuple(end - start + (1 if start else 0) for start, end, _ in entries)
    check_size(source.budget, count, min(lengths, default=0))
    return Leads(names, tuple(max(start, 1) for start, _, _ in entries), lengths, flags)


def _table(section: bytes | None, source: Source) -> tuple[huffman.Code, ...] | None:
    """The Huffman table, None where samples are plain 16 bit."""
    if section is None:
        return None
    (tables,) = struct.unpack_from("<H", section)
    if tables == _DEFAULT_TABLE:
        return huffman.DEFAULT
    if tables != 1:
        raise EcgReadError(f"expected one Huffman table, got {tables}; export with the default table")
    (count,) = struct.unpack_from("<H", section, 2)
    source.budget.check("Huffman codes", count)
    codes = [struct.unpack_from("<BBBhI", section, 4 + 9 * i) for i in range(count)]
    return huffman.check_table([(prefix, total, value, code) for prefix, total, _, value, code in codes])


def _decoded_rows(
    section: bytes, counts: list[int], table: tuple[huffman.Code, ...] | None, differences: int
) -> list[np.ndarray]:
    """Samples of each lead of section 5 or 6, at most ``counts``."""
    sizes = struct.unpack_from(f"<{len(counts)}H", section, 6)
    at, rows = 6 + 2 * len(counts), []
    for size, count in zip(sizes, counts):
        part = section[at : at + size]
        plain = table is None
        values = np.frombuffer(part[: len(part) // 2 * 2], "<i2")[:count].astype(np.int64) if plain else None
        rows.append(_integrate(huffman.decode(part, count, table) if values is None else values, differences))  # type: ignore[arg-type]
        at += size
    return rows


def _cut_equal(rows: list[np.ndarray], leads: Leads) -> tuple[list[np.ndarray], tuple[str, ...]]:
    """Leads of one length; what is stored counts where the header states more, and is noted."""
    if len(set(leads.lengths)) > 1 or len(set(leads.starts)) > 1:
        raise EcgReadError("expected leads recorded together, got different periods; export the leads of one period")
    stated, stored = leads.lengths[0], min(map(len, rows))
    if stored < stated * _MOST_MISSING:
        raise EcgReadError(f"expected {stated} samples of a lead, got {stored}; the file is truncated or damaged")
    note = (f"{stated} samples a lead stated, {stored} stored",) if stored < stated else ()
    return [row[:stored] for row in rows], note


def _beats(sections: dict[int, bytes]) -> Beats:
    """Section 4.

    Raises:
        EcgReadError: Compression needs it, or section 5, and it is not there.
    """
    absent = [i for i in (4, 5) if len(sections.get(i, b"")) < 6]
    if absent:
        raise EcgReadError(
            f"expected section {absent[0]} with the QRS complexes of the compressed rhythm, got none; export the ECG "
            "without reference beat and bimodal compression"
        )
    length_ms, fiducial, count = struct.unpack_from("<HHH", sections[4])
    if 6 + 14 * count > len(sections[4]):
        raise EcgReadError(f"expected {count} QRS complexes in section 4, got fewer bytes; the file is truncated")
    # section 4, 14 bytes a beat: type, first sample, fiducial point, last sample
    complexes = [struct.unpack_from("<HIII", sections[4], 6 + 14 * i) for i in range(count)]
    at = 6 + 14 * count
    whole = at + 8 * count <= len(sections[4])
    protected = [struct.unpack_from("<II", sections[4], at + 8 * i) for i in range(count)] if whole else []
    return Beats(length_ms, fiducial, complexes, [(a, b) for a, b in protected if 0 < a < b])  # type: ignore[misc]


def _pieces(start: int, length: int, beats: Beats, every: int) -> list[tuple[int, int]]:
    """(first sample from 0, samples) that each stored value stands for: one in protected zones, else ``every``."""
    shielded = np.zeros(length + every, dtype=bool)
    for first, last in beats.protected:
        shielded[max(first - start, 0) : max(last - start + 1, 0)] = True
    pieces, at = [], 0
    while at < length:
        size = 1 if shielded[at] else every
        pieces.append((at, size))
        at += size
    return pieces


def _stored(leads: Leads, beats: Beats, every: int) -> list[int]:
    return [len(_pieces(start, length, beats, every)) for start, length in zip(leads.starts, leads.lengths)]


def _expand(row: np.ndarray, start: int, length: int, beats: Beats, every: int) -> np.ndarray:
    """Undo bimodal compression: straight lines between the means outside the protected zones."""
    pieces = _pieces(start, length, beats, every)[: len(row)]
    middles = [at + (size - 1) / 2 for at, size in pieces]
    end = min(length, pieces[-1][0] + pieces[-1][1]) if pieces else 0
    return np.interp(np.arange(end), middles, row[: len(pieces)])


def _add_reference(
    signal: np.ndarray, sections: dict[int, bytes], leads: Leads, beats: Beats, table: tuple[huffman.Code, ...] | None
) -> None:
    """Add the reference beat (section 5) to the residuals ``signal`` (leads, samples), nV, at each beat of type 0."""
    step_nv, step_us, differences, _ = struct.unpack_from("<HHBB", sections[5])
    count = round(beats.length_ms * 1000 / step_us) if step_us else 0
    if not count or not step_nv:
        raise EcgReadError("expected a reference beat with its length and steps, got none; export without subtraction")
    reference = _decoded_rows(sections[5], [count] * len(leads.names), table, differences)
    for row, beat, start in zip(signal, reference, leads.starts):
        for kind, first, fiducial, last in beats.complexes:
            shift = fiducial - beats.fiducial  # sample number of the reference beat's sample 1, less one
            a, b = max(first, start, shift + 1), min(last, start + len(row) - 1, shift + len(beat))
            if kind == 0 and b >= a:
                row[a - start : b - start + 1] += beat[a - 1 - shift : b - shift] * float(step_nv)


def _integrate(values: np.ndarray, differences: int) -> np.ndarray:
    """Sum differences once or twice; the first sample (or two) are stored as they are."""
    out = values.copy()
    if differences == 2 and len(out) > 2:
        slopes = np.concatenate([[out[1] - out[0]], out[2:]]).cumsum()
        out[1:] = out[0] + slopes.cumsum()
    elif differences == 1:
        out = out.cumsum()
    return out


def _tagged(section: bytes) -> dict[int, bytes]:
    """The first field of each tag of section 1."""
    fields: dict[int, bytes] = {}
    at = 0
    while at + 3 <= len(section) and section[at] != 255:
        (size,) = struct.unpack_from("<H", section, at + 1)
        fields.setdefault(section[at], section[at + 3 : at + 3 + size])
        at += 3 + size
    return fields


def _date(field: bytes) -> str:
    return f"{int.from_bytes(field[:2], 'little'):04d}{field[2]:02d}{field[3]:02d}" if len(field) >= 4 else ""


def _identity(section: bytes) -> dict[str, str]:
    """Names, identifiers and dates of section 1."""
    fields = _tagged(section)
    found = {name: fields.get(tag, b"").split(b"\0")[0].decode("latin-1").strip() for tag, name in _NAMES.items()}
    found |= {"birth_date": _date(fields.get(5, b"")), "acquisition_date": _date(fields.get(25, b""))}
    return {name: text for name, text in found.items() if text}


def _statements(section: bytes) -> tuple[str, ...]:
    """Texts of the full interpretation (section 8): after 9 bytes, each with a number and a length."""
    if len(section) < 9:
        return ()
    at, found = 9, []
    for _ in range(section[8]):
        if at + 3 > len(section):
            break
        (size,) = struct.unpack_from("<H", section, at + 1)
        found.append(section[at + 3 : at + 3 + size].split(b"\0")[0].decode("latin-1").strip())
        at += 3 + size
    return tuple(text for text in found if text)


def _person(section: bytes) -> dict[str, Any]:
    """Age and sex among the tagged fields of section 1."""
    fields = _tagged(section)
    age: Any = years_between(_date(fields.get(5, b"")), _date(fields.get(25, b"")))
    if len(fields.get(4, b"")) >= 3 and (value := int.from_bytes(fields[4][:2], "little")):
        age = f"{value}{' ymwdh'[fields[4][2]] if fields[4][2] < 6 else ''}"
    clock = ":".join(f"{value:02d}" for value in fields.get(26, b"")[:3])  # tag 26: hours, minutes, seconds
    return patient(age, {b"\x01": "M", b"\x02": "F"}.get(fields.get(8, b"")[:1])) | acquired(clock)


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
