"""Philips Sierra XML (1.03, 1.04): samples in XLI, that is LZW of second differences, lead by lead."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gem_lightning.ecg.readers import xml
from gem_lightning.ecg.readers.base import (
    Options,
    RawEcg,
    Source,
    acquired,
    check_rate,
    check_size,
    measurements,
    number,
    patient,
    years_between,
)
from gem_lightning.ecg.record import LEADS
from gem_lightning.errors import EcgReadError

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

RHYTHM_S, CALIBRATED_S = 10.0, 11.0
"""A recording of 11 s is one of 10 s and a second with a calibration pulse of 1 mV, which is not the patient's."""

_IDENTITY = ("patientid", "lastname", "firstname", "middlename", "dateofbirth", "MRN")
_MOST_MISSING = 0.5  # of the stated samples that may be absent; with fewer the file is cut (ours)
# fixed width of the LZW codes in XLI
_CODE_BITS = 10
_LAST_CODE = (1 << _CODE_BITS) - 2
_MEASURED = {
    "rrint": "rr_ms",
    "pdur": "p_ms",
    "print": "pr_ms",
    "qrsdur": "qrs_ms",
    "qtint": "qt_ms",
    "qtcb": "qtc_ms",
    "heartrate": "heart_rate_bpm",
    "meanprint": "pr_ms",
    "meanqrsdur": "qrs_ms",
    "meanqtint": "qt_ms",
    "meanqtc": "qtc_ms",
    "meanventrate": "heart_rate_bpm",
    "pfrontaxis": "p_axis_deg",
    "qrsfrontaxis": "qrs_axis_deg",
    "tfrontaxis": "t_axis_deg",
}


def read(source: Source, options: Options) -> RawEcg:
    """The twelve (or more) leads of a Philips file."""
    root = xml.parse(source)
    waves = next(root.iter("parsedwaveforms"), None)
    if waves is None:
        raise EcgReadError(f"expected parsedwaveforms, got none in {source.name}; export the ECG with its waveforms")
    signs = next(root.iter("signalcharacteristics"), None)

    def stated(attribute: str, *tags: str) -> str:
        found = (xml.text(signs, tag) for tag in tags) if signs is not None else ()
        return waves.get(attribute) or next((text for text in found if text), "")

    fs = check_rate(number(stated("samplespersecond", "samplingrate")) or 0.0)
    microvolts = number(stated("resolution", "resolution", "signalresolution"))
    if not microvolts:
        raise EcgReadError(f"expected a resolution in microvolts, got none in {source.name}; amplitudes mean nothing")
    packed = "xli" in (waves.get("compression") or waves.get("compressmethod") or "").lower()
    labels = (waves.get("leadlabels") or " ".join(LEADS)).split()
    samples = round((number(waves.get("durationperchannel")) or 0) * fs / 1000)
    check_size(source.budget, len(labels), max(samples, 1))
    counts = _leads(xml.base64_bytes(waves.text, source.name), samples, len(labels), packed, source)
    if packed:
        counts = _undo_limb_prediction(counts, labels)
    notes = []
    if counts.shape[1] < samples:
        notes.append(f"{samples / fs:g} s stated, {counts.shape[1] / fs:g} s stored")
    if counts.shape[1] == round(CALIBRATED_S * fs):
        counts = counts[:, : round(RHYTHM_S * fs)]
        notes.append("left out, a calibration pulse: the second after 10 s")
    names = tuple(labels[: len(counts)])
    identity = {tag: " ".join(xml.texts(root, tag)) for tag in _IDENTITY}
    known = {tag: value for tag, value in identity.items() if value}
    return RawEcg(counts * microvolts, fs, names, ("uV",) * len(counts), _facts(root), known, tuple(notes))


def _leads(data: bytes, samples: int, count: int, packed: bool, source: Source) -> np.ndarray:
    """Counts (leads, samples) as stored; plain samples may be fewer than stated."""
    if not packed:
        plain = np.frombuffer(data[: len(data) // 2 * 2], "<i2").astype(np.int64)
        stored = len(plain) // count
        if samples and stored < samples * _MOST_MISSING:
            check_size(source.budget, count, samples, len(plain))
        length = min(samples or stored, stored)
        check_size(source.budget, count, length, len(plain))
        return plain[: count * length].reshape(count, -1)
    rows: list[np.ndarray] = []
    at = 0
    while at + 8 <= len(data) and len(rows) < count:
        size, start = (
            int.from_bytes(data[at : at + 4], "little"),
            int.from_bytes(data[at + 6 : at + 8], "little", signed=True),
        )
        if size > len(data) - at - 8:
            raise EcgReadError("expected a whole XLI chunk, got fewer bytes; the file is truncated: copy it again")
        rows.append(_second_differences(unpack_lzw(data[at + 8 : at + 8 + size], 2 * max(samples, 1) + 64), start))
        at += 8 + size
    length = min((len(row) for row in rows), default=0)
    if len(rows) < count or length < max(samples, 1):
        raise EcgReadError(
            f"expected {count} leads of {samples} samples, got {len(rows)} of {length}; the file is truncated"
        )
    return np.stack([row[:samples] for row in rows])


def unpack_lzw(data: bytes, limit: int) -> bytes:
    """LZW with codes of 10 bits, most significant bit first; stops after ``limit`` bytes."""
    table = [bytes([i]) for i in range(256)]
    out, previous = bytearray(), b""
    bits = np.unpackbits(np.frombuffer(data, np.uint8))
    codes = bits[: len(bits) // _CODE_BITS * _CODE_BITS].reshape(-1, _CODE_BITS) @ (1 << np.arange(_CODE_BITS)[::-1])
    for code in codes.tolist():
        if code > _LAST_CODE or len(out) >= limit:
            break
        if code < len(table):
            entry = table[code]
        elif previous and code == len(table):
            entry = previous + previous[:1]
        else:
            raise EcgReadError("expected sound LZW codes, got an unknown one; the file is damaged: copy it again")
        out += entry
        if previous and len(table) <= _LAST_CODE:
            table.append(previous + entry[:1])
        previous = entry
    return bytes(out)


def _second_differences(packed: bytes, start: int) -> np.ndarray:
    """Samples from high bytes, then low bytes, of 64 minus the second differences of the sample before."""
    half = len(packed) // 2
    raw = np.frombuffer(packed[: 2 * half], np.uint8).astype(np.int64)
    values = (raw[:half] << 8 | raw[half:]).astype(np.int16).astype(np.int64)
    if half < 3:
        return values
    bends = np.concatenate([[-start], 64 - values[2:-1]])
    slopes = np.cumsum(np.concatenate([[values[1] - values[0]], bends]))
    samples = values[0] + np.concatenate([[0], np.cumsum(slopes)])
    return samples.astype(np.int16).astype(np.int64)  # the device computes in 16 bits


def _undo_limb_prediction(counts: np.ndarray, labels: list[str]) -> np.ndarray:
    """III, aVR, aVL, aVF are stored as the difference from what I and II predict."""
    if labels[:6] != list(LEADS[:6]):
        return counts
    out = counts.copy()
    one, two = out[0], out[1]
    out[2] = two - one - out[2]
    out[3] = -out[3] - (one + two) // 2
    out[4] = (one - out[2]) // 2 - out[4]
    out[5] = (two + out[2]) // 2 - out[5]  # inverse of the coder's prediction: aVF from II and III
    return out


def _facts(root: Element) -> dict[str, Any]:
    """Age, sex, device and the global measurements."""
    person = next(root.iter("generalpatientdata"), None)
    taken, clock = next(((e.get("date"), e.get("time")) for e in root.iter("dataacquisition")), (None, None))
    meta: dict[str, Any] = {}
    if person is not None:
        age = xml.text(person, "age/years") or years_between(xml.text(person, "age/dateofbirth"), taken)
        meta = patient(age, xml.text(person, "sex"))
    meta |= acquired(clock)
    model = next((e.text for e in root.iter("machine") if e.text), None)
    meta |= {"device": model.strip()} if model else {}
    statements = tuple(
        " ".join(part for part in (xml.text(s, "leftstatement"), xml.text(s, "rightstatement")) if part)
        for s in root.iter("statement")
    )
    meta |= {"statements": known} if (known := tuple(filter(None, statements))) else {}
    found: dict[str, Any] = {"rr_ms": next((e.text for e in root.iter("meanrrint")), None)}
    for group in ("crossleadmeasurements", "globalmeasurements"):
        for where in root.iter(group):
            found |= {name: text for tag, name in _MEASURED.items() if number(text := xml.text(where, tag)) is not None}
    return meta | measurements(found)
