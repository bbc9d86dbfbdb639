"""GE MUSE XML: eight stored leads, of which four more follow; the averaged beat is skipped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gem_lightning.ecg.readers import xml
from gem_lightning.ecg.readers.base import RawEcg, Source, check_rate, check_size, measurements, number, patient
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


def read(source: Source) -> RawEcg:
    """The rhythm waveform of a MUSE export."""
    root = xml.parse(source.data, source.name)
    waves = [w for w in root.iter("Waveform") if xml.text(w, "WaveformType").lower() == "rhythm"]
    if not waves:
        raise EcgReadError(f"expected a Waveform of type Rhythm, got none in {source.name}; export the rhythm")
    wave = waves[0]
    base, exponent = number(xml.text(wave, "SampleBase")), number(xml.text(wave, "SampleExponent") or 0)
    if base is None or exponent is None or abs(exponent) > 6:
        raise EcgReadError(f"expected SampleBase and SampleExponent, got none in {source.name}; export it again")
    rows, names, units = [], [], []
    for lead in wave.iter("LeadData"):
        step = number(xml.text(lead, "LeadAmplitudeUnitsPerBit"))
        if not step:
            raise EcgReadError("expected LeadAmplitudeUnitsPerBit, got none; the amplitudes are not calibrated")
        data = xml.base64_bytes(xml.text(lead, "WaveFormData"), source.name)
        stated = number(xml.text(lead, "LeadSampleCountTotal"))
        rows.append(np.frombuffer(data[: len(data) // 2 * 2], "<i2") * step)
        check_size(1, stated or max(len(rows[-1]), 1), len(rows[-1]))
        names.append(xml.text(lead, "LeadID"))
        units.append(xml.text(lead, "LeadAmplitudeUnits") or "uV")
    length = min((len(row) for row in rows), default=0)
    check_size(len(rows), length)
    if any(len(row) != length for row in rows):
        raise EcgReadError("expected leads of one length, got several; the file is truncated: export it again")
    return RawEcg(np.stack(rows), check_rate(base * 10**exponent), tuple(names), tuple(units), _facts(root))


def _facts(root: Element) -> dict[str, Any]:
    """Age, sex, device and the machine's measurements."""
    age, unit = xml.text(root, "PatientDemographics/PatientAge"), xml.text(root, "PatientDemographics/AgeUnits")
    meta = patient(f"{age}{unit[:1]}" if age else None, xml.text(root, "PatientDemographics/Gender"))
    device = xml.text(root, "TestDemographics/AcquisitionDevice")
    meta |= {"device": device} if device else {}
    where = next(root.iter("RestingECGMeasurements"), None)
    if where is None:
        return meta
    return meta | measurements({name: xml.text(where, tag) for tag, name in _MEASURED.items()})
