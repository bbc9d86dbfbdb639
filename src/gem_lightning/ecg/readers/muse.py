"""GE MUSE XML: eight stored leads, of which four more follow; the averaged beat is skipped."""

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
)
from gem_lightning.errors import EcgReadError

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_MEASURED = {
    "VentricularRate": "heart_rate_bpm",
    "PRInterval": "pr_ms",
    "QRSDuration": "qrs_ms",
    "QTInterval": "qt_ms",
    "QTCorrected": "qtc_ms",
    "PAxis": "p_axis_deg",
    "RAxis": "qrs_axis_deg",
    "TAxis": "t_axis_deg",
}

_IDENTITY = ("PatientID", "PatientLastName", "PatientFirstName", "DateofBirth")
_TIMES = ("TestDemographics/AcquisitionDate", "TestDemographics/AcquisitionTime", "TestDemographics/SiteName")


def read(source: Source, options: Options) -> RawEcg:
    """The rhythm waveform of a MUSE export."""
    root = xml.parse(source)
    waves = [w for w in root.iter("Waveform") if xml.text(w, "WaveformType").lower() == "rhythm"]
    if not waves:
        raise EcgReadError(f"expected a Waveform of type Rhythm, got none in {source.name}; export the rhythm")
    wave = waves[0]
    base, exponent = number(xml.text(wave, "SampleBase")), number(xml.text(wave, "SampleExponent") or 0)
    # 10^±6 spans nV to V; beyond it the field holds something else
    if base is None or exponent is None or abs(exponent) > 6:
        raise EcgReadError(f"expected SampleBase and SampleExponent, got none in {source.name}; export it again")
    leads = list(wave.iter("LeadData"))
    signal = xml.equal_rows([_samples(lead, source) for lead in leads], source)
    names = tuple(xml.text(lead, "LeadID") for lead in leads)
    units = tuple(xml.text(lead, "LeadAmplitudeUnits") or "uV" for lead in leads)
    meta = _facts(root, wave) | acquired(xml.text(root, _TIMES[1]))
    identity = xml.identity(root, *(f"PatientDemographics/{tag}" for tag in _IDENTITY), *_TIMES)
    return RawEcg(signal, check_rate(base * 10**exponent), names, units, meta, identity)


def _samples(lead: Element, source: Source) -> np.ndarray:
    """(samples,) of one lead in its unit: 16-bit counts times the step, above the first sample's baseline."""
    step = number(xml.text(lead, "LeadAmplitudeUnitsPerBit"))
    if not step:
        raise EcgReadError("expected LeadAmplitudeUnitsPerBit, got none; the amplitudes are not calibrated")
    data = xml.base64_bytes(xml.text(lead, "WaveFormData"), source.name)
    stated, size = number(xml.text(lead, "LeadSampleCountTotal")), number(xml.text(lead, "LeadSampleSize")) or 2
    if size != 2:
        raise EcgReadError(
            f"expected 2 bytes a sample, got LeadSampleSize {size:g} in {source.name}; export the ECG with 16 bits"
        )
    counts = np.frombuffer(data[: len(data) // 2 * 2], "<i2")
    check_size(source.budget, 1, stated or max(len(counts), 1), len(counts))
    return (counts + (number(xml.text(lead, "FirstSampleBaseline")) or 0.0)) * step


def _facts(root: Element, wave: Element) -> dict[str, Any]:
    """Age, sex, device and the machine's measurements."""
    age, unit = xml.text(root, "PatientDemographics/PatientAge"), xml.text(root, "PatientDemographics/AgeUnits")
    meta = patient(f"{age}{unit[:1]}" if age else None, xml.text(root, "PatientDemographics/Gender"))
    device = xml.text(root, "TestDemographics/AcquisitionDevice")
    meta |= {"device": device} if device else {}
    statements = _statements(root)
    meta |= {"statements": statements} if statements else {}
    filters = {tag: xml.text(wave, tag) for tag in ("HighPassFilter", "LowPassFilter", "ACFilter")}
    meta |= {"filters": known} if (known := {tag: value for tag, value in filters.items() if value}) else {}
    where = next(root.iter("RestingECGMeasurements"), None)
    if where is None:
        return meta
    return meta | measurements({name: xml.text(where, tag) for tag, name in _MEASURED.items()})


def _statements(root: Element) -> tuple[str, ...]:
    """The diagnosis as read last; a statement continues over lines until one carries the flag ENDSLINE."""
    where = root.find("Diagnosis")
    where = root.find("OriginalDiagnosis") if where is None else where
    lines: list[str] = []
    open_line = False
    for statement in where.iter("DiagnosisStatement") if where is not None else ():
        text = xml.text(statement, "StmtText")
        if open_line and lines:
            lines[-1] = f"{lines[-1]} {text}"
        elif text:
            lines.append(text)
        open_line = not any((flag.text or "").strip() == "ENDSLINE" for flag in statement.iter("StmtFlag"))
    return tuple(line.strip() for line in lines if line.strip())
