"""WFDB records: header (.hea) and signal files, also the CinC Challenge's .mat with a header.

The common layouts are read here, at 2.5 times the speed of the wfdb library, which takes a gain of 0 for 200 and a
rate of 0 for valid, and follows names out of the folder; the rest goes to it after the same checks. Format: WFDB
Applications Guide, header(5) and signal(5).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from gem_lightning.ecg.readers import wfdb_library
from gem_lightning.ecg.readers.base import Options, RawEcg, Source, acquired, check_rate, check_size, number, patient
from gem_lightning.ecg.readers.wfdb_library import BYTES
from gem_lightning.errors import EcgReadError

_LIBRARY = (
    "0",
    "8",
    "16",
    "61",
    "160",
    "80",
    "24",
    "32",
    "212",
    "310",
    "311",
    "508",
    "516",
    "524",
)  # the wfdb library's
_MAX_LINES = 300  # more signals than any record has; the budget refuses them later
_INVALID = {"16": -(1 << 15), "61": -(1 << 15), "160": -(1 << 15), "80": -128, "24": -(1 << 23), "32": -(1 << 31)}
_INVALID |= {"212": -2048, "310": -512, "311": -512}
_FORMAT = re.compile(r"(\d+)(?:x(\d+))?(?::(\d+))?(?:\+(\d+))?")
_GAIN = re.compile(r"([-+0-9.eE]+|nan|inf)(?:\(([-+]?\d+)\))?(?:/(\S+))?", re.IGNORECASE)


@dataclass(frozen=True)
class Channel:
    """One signal line of a header: where the samples are and what a count means."""

    file: str
    format: str
    offset: int
    gain: float
    baseline: float
    units: str
    checksum: int | None
    name: str


@dataclass(frozen=True)
class Header:
    """A header's content; ``samples`` None: not stated; ``uncalibrated``: the caller's gain stands in."""

    fs: float
    samples: int | None
    channels: tuple[Channel, ...]
    comments: tuple[str, ...]
    uncalibrated: bool = False


def read(source: Source, options: Options) -> RawEcg:
    """A WFDB record by its header (or by a signal file next to it)."""
    if source.path is not None and source.path.suffix.lower() != ".hea":
        source = source.sibling(source.path.with_suffix(".hea").name)
    text = _decoded(source.data)
    if _is_unusual(text):
        return wfdb_library.read(source, text, options)
    header = parse_header(text, source, options.gain)
    counts = _samples(source, header)
    baseline, gain, invalid = (
        np.array(values)[:, None]
        for values in zip(*((c.baseline, c.gain, _INVALID[c.format]) for c in header.channels))
    )
    with np.errstate(over="ignore"):  # values are checked with those of all formats
        signal = (counts - baseline) / gain
    unknown = counts == invalid
    if unknown.any():
        signal[unknown] = np.nan
    meta = _facts(header.comments)
    meta |= acquired(next(iter(re.findall(r"\s(\d\d?:\d\d:\d\d)", text.splitlines()[0])), None)) if text else {}
    sums = counts.sum(axis=1, dtype=np.int64) & 0xFFFF  # header(5): a signed 16-bit sum of all samples
    differ = [c.name for c, s in zip(header.channels, sums) if c.checksum is not None and c.checksum & 0xFFFF != s]
    if differ:
        meta["checksum_mismatch"] = tuple(differ)
    return RawEcg(
        signal,
        header.fs,
        tuple(channel.name for channel in header.channels),
        tuple(channel.units for channel in header.channels),
        meta,
        {"comments": header.comments},
        (f"gain {options.gain:g}/mV as given; the header has none",) if header.uncalibrated else (),
    )


def _is_unusual(text: str) -> bool:
    """Whether the record has segments, frames of several samples, skew, or a format of the wfdb library alone."""
    lines = [line.split(None, 2) for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if lines and "/" in lines[0][0]:
        return True
    kinds = {line[1] for line in lines[1:_MAX_LINES] if len(line) > 1}
    found = [_FORMAT.fullmatch(kind) for kind in kinds if kind not in BYTES]
    return any(m and (m[1] not in BYTES or m[2] not in (None, "1") or m[3]) and m[1] in _LIBRARY for m in found)


def _decoded(data: bytes) -> str:
    """A header's text: UTF-8, as names beyond ASCII are written today, else Latin-1."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def parse_header(text: str, source: Source, gain: float | None = None) -> Header:
    """The header, checked.

    Args:
        text: Of the header.
        source: Whose budget it is read on.
        gain: Counts per mV for channels without one.

    Raises:
        EcgReadError: Not a header, an impossible rate, size or gain, or a feature that 12-lead ECGs do not use.
    """
    lines = [line.strip() for line in text.splitlines()]
    comments = tuple(line.lstrip("#").strip() for line in lines if line.startswith("#"))
    fields = [line for line in lines if line and not line.startswith("#")]
    if not fields or len(first := fields[0].split()) < 2:
        raise EcgReadError("expected a WFDB header line 'name leads rate samples', got none; is this a .hea file?")
    count = _whole(first[1], "number of signals")
    fs = check_rate(_real(first[2].split("/")[0].split("(")[0] if len(first) > 2 else "250", "sampling rate"))
    samples = _whole(first[3], "number of samples") if len(first) > 3 else 0
    check_size(source.budget, count, max(samples, 1))
    if len(fields) - 1 < count:
        raise EcgReadError(f"expected {count} signal lines, got {len(fields) - 1}; the header is cut: copy it again")
    channels = tuple(_channel(line, gain) for line in fields[1 : count + 1])
    return Header(
        fs, samples or None, channels, comments, gain is not None and any(map(_lacks_gain, fields[1 : count + 1]))
    )


def _lacks_gain(line: str) -> bool:
    parts = line.split(None, 8)
    match = _GAIN.fullmatch(parts[2]) if len(parts) > 2 else None
    return match is None or number(match[1]) == 0


def _channel(line: str, given: float | None = None) -> Channel:
    parts = line.split(None, 8)
    match = _FORMAT.fullmatch(parts[1]) if len(parts) > 1 else None
    if not match:
        raise EcgReadError(f"expected 'file format gain ...' in the WFDB header, got {line[:60]!r}; correct the header")
    if match[1] not in BYTES:
        raise EcgReadError(
            f"expected WFDB format {', '.join(_LIBRARY)}, got {parts[1]!r}; rewrite it with wfdb's xform"
        )
    gain = _GAIN.fullmatch(parts[2]) if len(parts) > 2 else None
    value = given if given is not None and _lacks_gain(line) else _real(gain[1], "gain") if gain else 0.0
    if not np.isfinite(value) or value == 0:
        raise EcgReadError(
            f"expected a gain in counts per mV, got {parts[2] if len(parts) > 2 else 'none'!r}; without it the "
            "amplitudes are unknown: pass gain= (header(5) assumes gain=200)"
        )
    zero = _real(parts[4], "ADC zero") if len(parts) > 4 else 0.0
    baseline = float(gain[2]) if gain and gain[2] else zero
    checksum = int(parts[6]) if len(parts) > 6 and re.fullmatch(r"-?\d+", parts[6]) else None
    unit = (gain[3] if gain else None) or "mV"
    name = parts[8].strip() if len(parts) > 8 else ""
    return Channel(parts[0], match[1], int(match[4] or 0), value, baseline, unit, checksum, name)


def _samples(source: Source, header: Header) -> np.ndarray:
    """Counts (leads, samples) of all channels; those of one file are interleaved."""
    groups: dict[str, list[int]] = {}
    for i, channel in enumerate(header.channels):
        groups.setdefault(channel.file, []).append(i)
    parts: dict[int, np.ndarray] = {}
    for file, members in groups.items():
        channel = header.channels[members[0]]
        if len({header.channels[i].format for i in members}) > 1:
            raise EcgReadError(f"expected one format in {file}, got several; correct the header")
        data = source.sibling(file).data[channel.offset :]
        stored = int(len(data) / BYTES[channel.format] + 1e-9)
        samples = header.samples or stored // len(members)
        check_size(source.budget, len(members), samples, stored)
        values = decode(data, channel.format, samples * len(members)).reshape(samples, len(members))
        parts.update(zip(members, values.T))
    if len({len(part) for part in parts.values()}) > 1:
        raise EcgReadError("expected signal files of one length, got several; state their length in the header")
    return np.stack([parts[i] for i in range(len(header.channels))])


def decode(data: bytes, format: str, count: int) -> np.ndarray:
    """The first ``count`` values of a signal file, of an integer type that holds them."""
    raw = np.frombuffer(data, np.uint8, min(len(data), int(np.ceil(count * BYTES[format])) + 3))
    if format in ("16", "61", "160"):
        kind = {"16": "<i2", "61": ">i2", "160": "<u2"}[format]
        words = raw[: 2 * count].view(kind)
        return words.astype(np.int64) - (1 << 15) if format == "160" else words
    if format == "80":
        return raw[:count].astype(np.int64) - 128
    if format == "32":
        return raw[: 4 * count].view("<i4").astype(np.int64)
    if format == "24":
        low = raw[: 3 * count].reshape(-1, 3).astype(np.int64)
        return _signed(low[:, 0] | low[:, 1] << 8 | low[:, 2] << 16, 24)
    if format == "212":
        triples = np.pad(raw, (0, -len(raw) % 3)).reshape(-1, 3).astype(np.int64)
        # signal(5), format 212: two 12-bit samples in three bytes
        pair = np.stack([triples[:, 0] | (triples[:, 1] & 15) << 8, triples[:, 2] | (triples[:, 1] >> 4) << 8], axis=1)
        return _signed(pair.ravel()[:count], 12)
    pairs = np.pad(raw, (0, -len(raw) % 4)).view("<u4").astype(np.int64)
    if format == "311":
        # signal(5), format 311: three 10-bit samples in four bytes
        triple = np.stack([pairs, pairs >> 10, pairs >> 20], axis=1) & 1023
    else:
        low, high = pairs & 0xFFFF, pairs >> 16
        triple = np.stack([low >> 1 & 1023, high >> 1 & 1023, (low >> 11) | (high >> 11) << 5], axis=1)
    return _signed(triple.ravel()[:count], 10)


def _signed(values: np.ndarray, bits: int) -> np.ndarray:
    """Two's complement of ``bits``."""
    return np.where(values >= 1 << (bits - 1), values - (1 << bits), values)


def _facts(comments: tuple[str, ...]) -> dict[str, Any]:
    """Age, sex and SNOMED codes; nothing else of the free text is kept."""
    found: dict[str, str] = {}
    for comment in comments:
        match = re.match(r"<?(age|sex|dx)>?\s*:\s*(.+)", comment, re.IGNORECASE)
        if match:
            found.setdefault(match[1].lower(), match[2].strip())
    codes = re.findall(r"\b\d{6,18}\b", found.get("dx", ""))
    return patient(found.get("age"), found.get("sex")) | ({"dx": tuple(codes)} if codes else {})


def _whole(text: str, what: str) -> int:
    if not re.fullmatch(r"\d{1,18}", text):
        raise EcgReadError(f"expected a whole {what} in the WFDB header, got {text[:40]!r}; correct the header")
    return int(text)


def _real(text: str, what: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise EcgReadError(
            f"expected a number as {what} in the WFDB header, got {text[:40]!r}; correct the header"
        ) from None
