"""Mortara (Welch Allyn, Baxter) ELI XML: base64 samples in the attributes of each CHANNEL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gem_lightning.ecg.readers import xml
from gem_lightning.ecg.readers.base import (
    Options,
    RawEcg,
    Source,
    check_rate,
    check_size,
    measurements,
    number,
    patient,
)
from gem_lightning.errors import EcgReadError

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_MEASURED = {
    "VENT_RATE": "heart_rate_bpm",
    "AVERAGE_RR": "rr_ms",
    "PR_DURATION": "pr_ms",
    "QRS_DURATION": "qrs_ms",
    "QT_DURATION": "qt_ms",
    "QTC": "qtc_ms",
    "P_AXIS": "p_axis_deg",
    "QRS_AXIS": "qrs_axis_deg",
    "T_AXIS": "t_axis_deg",
}
_IDENTITY = ("ID", "SECOND_ID", "LAST_NAME", "FIRST_NAME", "NAME", "DOB")


def read(source: Source, options: Options) -> RawEcg:
    """The CHANNEL elements; TYPICAL_CYCLE_CHANNEL holds an averaged beat."""
    root = xml.parse(source)
    channels = [one for one in root.iter("CHANNEL") if one.get("DATA")]
    if not channels:
        raise EcgReadError(f"expected CHANNEL elements with DATA, got none in {source.name}; export the rhythm")
    signal = xml.equal_rows([_samples(one, source) for one in channels], source)
    rates = {number(one.get("SAMPLE_FREQ")) for one in channels}
    if len(rates) != 1:
        raise EcgReadError(f"expected one SAMPLE_FREQ for all channels, got several in {source.name}; export it again")
    names = tuple(str(one.get("NAME")) for one in channels)
    person = next(root.iter("SUBJECT"), None)
    facts = {} if person is None else dict(person.attrib)
    identity = {key.lower(): facts[key] for key in _IDENTITY if facts.get(key)}
    return RawEcg(signal, check_rate(rates.pop() or 0.0), names, ("mV",) * len(names), _facts(root, facts), identity)


def _samples(channel: Element, source: Source) -> np.ndarray:
    """(samples,) of one channel, mV."""
    per_mv, offset = number(channel.get("UNITS_PER_MV")), number(channel.get("OFFSET")) or 0.0
    encoding, bits = (channel.get("ENCODING") or "BASE64").upper(), number(channel.get("BITS")) or 16
    if not per_mv or encoding != "BASE64" or bits != 16 or (channel.get("FORMAT") or "SIGNED").upper() != "SIGNED":
        raise EcgReadError(
            f"expected signed 16-bit BASE64 samples with UNITS_PER_MV, got {encoding}, {bits:g} bits and {per_mv} in "
            f"{source.name}; export the ECG again"
        )
    data = xml.base64_bytes(channel.get("DATA"), source.name)
    check_size(source.budget, 1, max(len(data) // 2, 1))
    return (np.frombuffer(data[: len(data) // 2 * 2], "<i2") - offset) / per_mv


def _facts(root: Element, person: dict[str, str]) -> dict[str, Any]:
    """Age, sex, device, statements and measurements."""
    meta = patient(person.get("AGE"), person.get("GENDER"))
    device = next((e.get("MODEL") or e.get("TYPE") for e in root.iter("SOURCE")), None)
    meta |= {"device": device} if device else {}
    statements = xml.texts(root, "STATEMENT")
    meta |= {"statements": statements} if statements else {}
    found = {name: e.get(tag) for e in root.iter("AUTOMATIC_MEASUREMENTS") for tag, name in _MEASURED.items()}
    return meta | measurements(
        found | {name: e.get(tag) for e in root.iter("GLOBAL") for tag, name in _MEASURED.items()}
    )
