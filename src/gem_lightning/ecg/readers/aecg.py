"""HL7 annotated ECG (aECG, FDA): the rhythm series, not the representative beat."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gem_lightning.ecg.leads import lead_name
from gem_lightning.ecg.readers import xml
from gem_lightning.ecg.readers.base import (
    Options,
    RawEcg,
    Source,
    acquired,
    check_rate,
    measurements,
    number,
    patient,
    to_mv,
    years_between,
)
from gem_lightning.errors import EcgReadError

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_CODES = {
    "MDC_ECG_HEART_RATE": "heart_rate_bpm",
    "MDC_ECG_TIME_PD_RR": "rr_ms",
    "MDC_ECG_TIME_PD_P": "p_ms",
    "MDC_ECG_TIME_PD_PR": "pr_ms",
    "MDC_ECG_TIME_PD_QRS": "qrs_ms",
    "MDC_ECG_TIME_PD_QT": "qt_ms",
    "MDC_ECG_TIME_PD_QTC": "qtc_ms",
    "MDC_ECG_ANGLE_P_FRONT": "p_axis_deg",
    "MDC_ECG_ANGLE_QRS_FRONT": "qrs_axis_deg",
    "MDC_ECG_ANGLE_T_FRONT": "t_axis_deg",
}


def read(source: Source, options: Options) -> RawEcg:
    """The longest rhythm sequence set of an aECG."""
    root = xml.parse(source)
    series = [s for s in root.iter("series") if _code(s) == "RHYTHM"] or list(root.iter("series"))
    sets = [found for one in series for found in one.iter("sequenceSet")]
    if not sets:
        raise EcgReadError(f"expected a series with a sequenceSet, got none in {source.name}; export the rhythm")
    fs, leads, units, rows = max((_sequences(one, source) for one in sets), key=lambda found: sum(map(len, found[3])))
    identity = {"id": next((e.get("extension") for e in root.iter("id") if e.get("extension")), None)}
    identity["name"] = " ".join(xml.texts(root, "name")) or None
    identity["birth_time"] = next((e.get("value") for e in root.iter("birthTime")), None)
    known = {key: value for key, value in identity.items() if value}
    return RawEcg(xml.equal_rows(rows, source), check_rate(fs), tuple(leads), tuple(units), _facts(root), known)


def _code(element: Element) -> str:
    code = element.find("code")
    return (code.get("code") or "").upper() if code is not None else ""


def _sequences(one: Element, source: Source) -> tuple[float, list[str], list[str], list[np.ndarray]]:
    """Rate (Hz), lead names, units and samples of one sequence set."""
    fs, leads, units, rows = 0.0, [], [], []
    sequences = list(one.iter("sequence"))
    source.budget.check("channels", len(sequences))
    for sequence in sequences:
        code, value = _code(sequence), sequence.find("value")
        if value is None:
            continue
        if code.startswith("TIME_"):
            step = value.find("increment")
            unit = step.get("unit", "s") if step is not None else ""
            seconds = _number(step, "increment") * {"s": 1.0, "ms": 1e-3, "us": 1e-6}.get(unit, np.nan)
            fs = 1 / seconds if seconds else 0.0
        elif value.find("digits") is not None:
            leads.append(lead_name(code) or code)
            scale, origin = value.find("scale"), value.find("origin")
            units.append(scale.get("unit", "") if scale is not None else "")
            zero = 0.0 if origin is None else _number(origin, "origin")
            if origin is not None and zero and origin.get("unit") not in (None, units[-1]):
                zero *= to_mv(str(origin.get("unit"))) / to_mv(units[-1])
            rows.append(xml.integers(xml.text(value, "digits"), source) * _number(scale, "scale") + zero)
    return fs, leads, units, rows


def _number(element: Element | None, what: str) -> float:
    value = number(element.get("value")) if element is not None else None
    if value is None:
        raise EcgReadError(f"expected a number as {what} of a sequence, got none; export the file again")
    return value


def _facts(root: Element) -> dict[str, Any]:
    """Age, sex, device and the first value of each measurement."""
    person = next(root.iter("subjectDemographicPerson"), None)
    when = next((e.get("value") for t in root.iter("effectiveTime") for e in t if e.get("value")), None)
    sex = age = None
    if person is not None:
        gender, birth = person.find("administrativeGenderCode"), person.find("birthTime")
        sex = gender.get("code") if gender is not None else None
        age = years_between(birth.get("value") if birth is not None else None, when)
    meta = patient(age, sex) | acquired(when)
    model = next((e.text for e in root.iter("manufacturerModelName") if e.text), None)
    meta |= {"device": model.strip()} if model else {}
    statements = [
        " ".join("".join(value.itertext()).split()) or value.get("displayName", "")
        for annotation in root.iter("annotation")
        if "INTERPRETATION" in _code(annotation) and (value := annotation.find("value")) is not None
    ]
    meta |= {"statements": tuple(filter(None, statements))} if any(statements) else {}
    found: dict[str, Any] = {}
    for annotation in root.iter("annotation"):
        name, value = _CODES.get(_code(annotation)), annotation.find("value")
        if name and value is not None and value.get("value"):
            found.setdefault(name, value.get("value"))
    return meta | measurements(found)
