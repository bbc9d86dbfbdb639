"""GE CardioSoft and CASE XML: comma-separated counts of each lead, with one resolution in µV."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gem_lightning.ecg.readers import xml
from gem_lightning.ecg.readers.base import Options, RawEcg, Source, acquired, check_rate, measurements, number, patient
from gem_lightning.errors import EcgReadError

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_MEASURED = {
    "VentricularRate": "heart_rate_bpm",
    "RRInterval": "rr_ms",
    "PDuration": "p_ms",
    "PRInterval": "pr_ms",
    "PQInterval": "pr_ms",
    "QRSDuration": "qrs_ms",
    "QTInterval": "qt_ms",
    "QTCInterval": "qtc_ms",
    "PAxis": "p_axis_deg",
    "RAxis": "qrs_axis_deg",
    "TAxis": "t_axis_deg",
}


def read(source: Source, options: Options) -> RawEcg:
    """The 10 s strip; files of an exercise test hold it as full disclosure instead."""
    root = xml.parse(source)
    strip = next(
        (root.find(f".//{tag}") for tag in ("StripData", "FullDisclosureData") if root.find(f".//{tag}") is not None),
        None,
    )
    leads = [] if strip is None else [wave for wave in strip.iter("WaveformData") if wave.get("lead")]
    if strip is None or not leads:
        raise EcgReadError(
            f"expected StripData with WaveformData of each lead, got none in {source.name}; export the resting ECG"
        )
    step = number(xml.text(strip, "Resolution"))
    if not step:
        raise EcgReadError(f"expected a Resolution in uV, got none in {source.name}; the amplitudes are not calibrated")
    signal = xml.equal_rows([xml.integers(wave.text, source) for wave in leads], source) * step
    fs = check_rate(number(xml.text(strip, "SampleRate")) or 0.0)
    identity = xml.identity(root, ".//PID", ".//FamilyName", ".//GivenName", ".//BirthDateTime")
    return RawEcg(signal, fs, tuple(str(w.get("lead")) for w in leads), ("uV",) * len(leads), _facts(root), identity)


def _facts(root: Element) -> dict[str, Any]:
    """Age, sex, device, statements and the device's measurements."""
    meta = patient(xml.text(root, ".//PatientInfo/Age"), xml.text(root, ".//PatientInfo/Gender"))
    clock = [xml.text(root, f".//ObservationDateTime/{part}").zfill(2) for part in ("Hour", "Minute", "Second")]
    meta |= acquired(":".join(clock))
    device = xml.text(root, ".//DeviceInfo/Desc")
    meta |= {"device": device} if device else {}
    statements = xml.texts(root, "DiagnosisText")
    meta |= {"statements": statements} if statements else {}
    where = root.find(".//RestingECGMeasurements")
    values = {} if where is None else {name: v for tag, name in _MEASURED.items() if (v := xml.text(where, tag))}
    return meta | measurements(values)
