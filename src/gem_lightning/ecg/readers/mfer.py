"""MFER (ISO 11073-92001): tagged fields, then blocks of samples, channel after channel, sequence after sequence."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gem_lightning.ecg.leads import lead_from_code
from gem_lightning.ecg.readers.base import Options, RawEcg, Source, check_rate, check_size, patient
from gem_lightning.errors import EcgReadError

# tags of ISO 11073-92001
_BYTE_ORDER, _BLOCK, _CHANNELS, _SEQUENCES, _LEAD = 0x01, 0x04, 0x05, 0x06, 0x09
_DATA_TYPE, _INTERVAL, _RESOLUTION, _OFFSET, _NULL = 0x0A, 0x0B, 0x0C, 0x0D, 0x12
_WAVEFORM, _ATTRIBUTES, _PREAMBLE, _END = 0x1E, 0x3F, 0x40, 0x80
_NAME, _ID, _AGE, _SEX, _MESSAGE = 0x81, 0x82, 0x83, 0x84, 0x16
_TYPES = {0: "i2", 1: "u2", 2: "i4", 3: "u1", 5: "i1", 6: "u4", 7: "f4", 8: "f8"}
_VOLT = 0  # unit code of the resolution


@dataclass
class _Channel:
    """What a channel's attributes state; the defaults are those of the standard: lead undefined, 1 µV."""

    lead: int = 0
    step_mv: float = 1e-3
    offset: float = 0.0
    null: float | None = None
    block: int | None = None


@dataclass
class _State:
    """Values that fields set for what follows."""

    order: str = ">"
    kind: str = "i2"
    fs: float = 1000.0
    block: int = 1
    sequences: int | None = None
    common: _Channel = field(default_factory=_Channel)
    channels: list[_Channel] = field(default_factory=lambda: [_Channel()])


def read(source: Source, options: Options) -> RawEcg:
    """The first waveform block of an MFER file."""
    state, data = _State(), source.data
    meta: dict[str, Any] = {}
    identity: dict[str, str] = {}
    for tag, number, content in _fields(data, source):
        if tag == _WAVEFORM:
            return _waveform(content, state, meta, identity, source)
        if tag == _ATTRIBUTES and number is not None:
            if number >= len(state.channels):
                raise EcgReadError(f"expected channel numbers below {len(state.channels)}, got {number}; file damaged")
            for inner, _, value in _fields(content, source):
                _set_channel(state.channels[number], inner, value, state)
        else:
            _set(state, tag, content, source)
            _note_person(tag, content, meta, identity)
    raise EcgReadError(f"expected a block of waveform data, got none in {source.name}; the file is empty or truncated")


def _fields(data: bytes, source: Source) -> Iterator[tuple[int, int | None, bytes]]:
    """(tag, channel number for attributes, content) of each field."""
    at = 0
    while at < len(data):
        tag, at = data[at], at + 1
        if tag == _END or tag == 0:
            at += 1  # both carry an empty length
            if tag == _END:
                return
            continue
        number = None
        if tag == _ATTRIBUTES:
            number, at = data[at] & 0x7F if at < len(data) else 0, at + 1
        size, at = _length(data, at)
        if at + size > len(data):
            raise EcgReadError(
                f"expected {size} bytes of tag {tag:#04x}, got {len(data) - at}; {source.name} is truncated"
            )
        yield tag, number, data[at : at + size]
        at += size


def _length(data: bytes, at: int) -> tuple[int, int]:
    """Length of a field and where its content starts; above 127 the low bits count the bytes of the length."""
    first = data[at] if at < len(data) else 0
    if first < 0x80:  # lengths as in ASN.1 BER: short form, or the count of the bytes that hold it
        return first, at + 1
    return int.from_bytes(data[at + 1 : at + 1 + (first & 0x7F)], "big"), at + 1 + (first & 0x7F)


def _integer(content: bytes, state: _State, signed: bool = False) -> int:
    return int.from_bytes(content, "little" if state.order == "<" else "big", signed=signed)


def _scaled(content: bytes, state: _State) -> tuple[int, float]:
    """Unit code, and mantissa times ten to the exponent."""
    if len(content) < 3:
        raise EcgReadError(f"expected unit, exponent and mantissa, got {len(content)} bytes; the file is damaged")
    exponent = int.from_bytes(content[1:2], "big", signed=True)
    return content[0], _integer(content[2:], state, True) * 10.0**exponent


def _set(state: _State, tag: int, content: bytes, source: Source) -> None:
    """Apply a field outside the channel attributes."""
    if tag == _BYTE_ORDER and content:
        state.order = "<" if content[0] else ">"
    elif tag == _BLOCK:
        state.block = _integer(content, state)
    elif tag == _CHANNELS:
        count = _integer(content, state)
        source.budget.check("channels", count)
        state.channels = [_Channel(**vars(state.common)) for _ in range(count)]
    elif tag == _SEQUENCES:
        state.sequences = _integer(content, state)
    elif tag == _DATA_TYPE and content:
        if content[0] not in _TYPES:
            raise EcgReadError(
                f"expected plain samples, got the MFER data type {content[0]}; export without compression"
            )
        state.kind = _TYPES[content[0]]
    elif tag == _INTERVAL:
        unit, value = _scaled(content, state)
        state.fs = value if unit == 0 else 1.0 / value if value else 0.0
    elif tag in (_RESOLUTION, _OFFSET, _NULL, _LEAD):
        for channel in (state.common, *state.channels):
            _set_channel(channel, tag, content, state)


def _set_channel(channel: _Channel, tag: int, content: bytes, state: _State) -> None:
    """Apply a field to one channel."""
    if tag == _LEAD:
        channel.lead = _integer(content[:2], state)
    elif tag == _RESOLUTION:
        unit, value = _scaled(content, state)
        if unit != _VOLT:
            raise EcgReadError(f"expected a resolution in V, got unit code {unit}; the channel is no ECG")
        channel.step_mv = value * 1e3
    elif tag in (_OFFSET, _NULL):
        value = float(_values(content, state)[0])
        if tag == _OFFSET:
            channel.offset = value
        else:
            channel.null = value
    elif tag == _BLOCK:
        channel.block = _integer(content, state)


def _values(content: bytes, state: _State) -> np.ndarray:
    kind = np.dtype(state.order + state.kind)
    return np.frombuffer(content[: len(content) // kind.itemsize * kind.itemsize], kind)


def _waveform(content: bytes, state: _State, meta: dict[str, Any], identity: dict[str, str], source: Source) -> RawEcg:
    """Samples (leads, samples): each sequence holds a block of every channel in turn."""
    sizes = [channel.block or state.block for channel in state.channels]
    if len(set(sizes)) > 1 or not sizes or sizes[0] < 1:
        raise EcgReadError(
            "expected one block length for all channels, got several or none; export the ECG leads alone"
        )
    values, frame = _values(content, state), sum(sizes)
    sequences = len(values) // frame if state.sequences is None else state.sequences
    check_size(source.budget, len(sizes), sequences * sizes[0], len(values))
    frames = values[: sequences * frame].reshape(sequences, len(sizes), sizes[0])
    counts = frames.transpose(1, 0, 2).reshape(len(sizes), -1).astype(np.float64)  # (leads, samples)
    signal = np.empty(counts.shape)
    for row, raw, channel in zip(signal, counts, state.channels):
        row[:] = (raw - channel.offset) * channel.step_mv
        if channel.null is not None:
            row[raw == channel.null] = np.nan
    names = tuple(lead_from_code(f"2:{c.lead}") or f"lead {c.lead or i + 1}" for i, c in enumerate(state.channels))
    return RawEcg(signal, check_rate(state.fs), names, ("mV",) * len(names), meta, identity)


def _note_person(tag: int, content: bytes, meta: dict[str, Any], identity: dict[str, str]) -> None:
    """Age (years, then days), sex, and what identifies the patient."""
    text = content.split(b"\0")[0].decode("utf-8", errors="replace").strip()
    if tag == _AGE and content:
        meta |= patient(content[0], None)
    elif tag == _SEX and content:
        meta |= patient(None, {1: "M", 2: "F"}.get(content[0]))
    elif tag in (_NAME, _ID) and text:
        identity["name" if tag == _NAME else "id"] = text
