"""DICOM waveforms: the original rhythm, not the averaged beat (PS3.3, sections A.34.3 and C.10.9)."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from gem_lightning.ecg.leads import lead_from_code, lead_name
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
from gem_lightning.errors import EcgReadError

_KINDS = {(8, "SB"): "i1", (8, "UB"): "u1", (16, "SS"): "<i2", (16, "US"): "<u2", (32, "SL"): "<i4", (32, "UL"): "<u4"}
_FILTERS = ("FilterLowFrequency", "FilterHighFrequency", "NotchFilterFrequency")  # Hz
_DEFLATED = b"1.2.840.10008.1.2.1.99"  # unpacks to any size
# SCP-ECG and MDC concept codes (DICOM PS3.16, CID 3228 and 3229).
_CONCEPTS = {
    "5.10.2.1-3": "rr_ms",
    "5.13.5-7": "pr_ms",
    "5.13.5-9": "qrs_ms",
    "5.13.5-11": "qt_ms",
    "5.10.2.5-5": "qtc_ms",
    "5.10.2.5-1": "heart_rate_bpm",
    "5.10.3-11": "p_axis_deg",
    "5.10.3-13": "qrs_axis_deg",
    "5.10.3-15": "t_axis_deg",
    "2:16160": "rr_ms",
    "2:15872": "pr_ms",
    "2:16156": "qrs_ms",
    "2:16159": "qt_ms",
    "2:15876": "qtc_ms",
    "2:16016": "heart_rate_bpm",
    "2:16128": "p_axis_deg",
    "2:16132": "qrs_axis_deg",
    "2:16136": "t_axis_deg",
}


def read(source: Source, options: Options) -> RawEcg:
    """The longest original waveform of a DICOM file."""
    import pydicom

    if _DEFLATED in source.head(2048):
        raise EcgReadError("expected plain samples, got the deflated transfer syntax; convert it with dcmconv +te")
    data = source.data
    # files cut out of a network stream lack the preamble of 128 bytes
    dataset = pydicom.dcmread(io.BytesIO(data), force=data[128:132] != b"DICM")
    group = _rhythm(dataset)
    leads, units, signal = _channels(group, source)
    fs = check_rate(float(group.SamplingFrequency))
    signal, notes = _align(signal, group, fs, leads)
    taken = dataset.get("StudyDate") or dataset.get("AcquisitionDateTime")
    age = dataset.get("PatientAge") or years_between(dataset.get("PatientBirthDate"), taken)
    meta = patient(age, dataset.get("PatientSex"))
    meta |= acquired(dataset.get("AcquisitionDateTime") or dataset.get("AcquisitionTime"))
    device = " ".join(str(dataset.get(k) or "") for k in ("Manufacturer", "ManufacturerModelName")).strip()
    meta |= {"device": device} if device else {}
    meta |= measurements(_measured(dataset))
    statements = _statements(dataset)
    meta |= {"statements": statements} if statements else {}
    filters = {
        key: value for key in _FILTERS if (value := number(group.ChannelDefinitionSequence[0].get(key))) is not None
    }
    meta |= {"filters": filters} if filters else {}
    identity = {e.keyword: str(e.value) for e in dataset if e.tag.group in (0x8, 0x10, 0x40) and e.VR != "SQ"}
    return RawEcg(signal, fs, leads, units, meta, identity, notes)


def _align(signal: np.ndarray, group: Any, fs: float, leads: tuple[str, ...]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Shift channels that were sampled later by their skew; samples before their first one are unknown."""
    skews = [
        round((number(channel.get("ChannelTimeSkew")) or 0.0) * fs + (number(channel.get("ChannelSampleSkew")) or 0.0))
        for channel in group.ChannelDefinitionSequence
    ]
    for row, skew in zip(signal, skews):
        if not 0 <= abs(skew) < len(row):
            raise EcgReadError(f"expected a channel skew within the recording, got {skew} samples; the file is damaged")
        if skew > 0:
            row[skew:] = row[:-skew].copy()
            row[:skew] = np.nan
        elif skew < 0:
            row[:skew] = row[-skew:].copy()
            row[skew:] = np.nan
    moved = [f"{lead} by {skew / fs * 1000:g} ms" for lead, skew in zip(leads, skews) if skew]
    return signal, (f"aligned, sampled at other times: {', '.join(moved)}",) if moved else ()


def _rhythm(dataset: Any) -> Any:
    groups = list(dataset.get("WaveformSequence") or [])
    if not groups:
        raise EcgReadError("expected a DICOM waveform, got none; is this an image? Export the ECG as waveform")
    original = [g for g in groups if str(g.get("WaveformOriginality", "ORIGINAL")).upper() == "ORIGINAL"]
    named = [g for g in original if "RHYTHM" in str(g.get("MultiplexGroupLabel", "")).upper()]
    return max(named or original or groups, key=lambda g: int(g.NumberOfWaveformSamples))


def _channels(group: Any, source: Source) -> tuple[tuple[str, ...], tuple[str, ...], np.ndarray]:
    """Lead names, units and signal (leads, samples) of one multiplex group."""
    count, samples = int(group.NumberOfWaveformChannels), int(group.NumberOfWaveformSamples)
    kind = _KINDS.get((int(group.WaveformBitsAllocated), str(group.WaveformSampleInterpretation)))
    if kind is None:
        raise EcgReadError(
            f"expected 8, 16 or 32 bit integers, got {group.WaveformBitsAllocated} bits "
            f"{group.WaveformSampleInterpretation}; export the ECG as linear integers"
        )
    data = group.WaveformData
    width = np.dtype(kind).itemsize
    check_size(source.budget, count, samples, len(data) // width)
    if len(group.ChannelDefinitionSequence) != count:
        raise EcgReadError(f"expected {count} channel definitions, got {len(group.ChannelDefinitionSequence)}")
    counts = np.frombuffer(data, kind, count * samples).reshape(samples, count).T
    padding = _padding(group, kind)
    signal = np.empty(counts.shape)
    for row, raw, channel in zip(signal, counts, group.ChannelDefinitionSequence):
        sensitivity, factor = channel.get("ChannelSensitivity"), channel.get("ChannelSensitivityCorrectionFactor", 1)
        if not sensitivity or not np.isfinite(float(sensitivity)):
            raise EcgReadError("expected a channel sensitivity, got none; the amplitudes are not calibrated")
        row[:] = raw * float(sensitivity) * float(factor or 1) + float(channel.get("ChannelBaseline") or 0)
        if padding is not None:
            row[raw == padding] = np.nan
    definitions = group.ChannelDefinitionSequence
    return tuple(map(_name, definitions)), tuple(map(_unit, definitions)), signal


def _padding(group: Any, kind: str) -> int | None:
    """The count that stands for "no sample"; 0 is ignored, since it is also the baseline."""
    value = group.get("WaveformPaddingValue")
    if isinstance(value, bytes):
        value = int(np.frombuffer(value[: np.dtype(kind).itemsize].ljust(np.dtype(kind).itemsize, b"\0"), kind)[0])
    return int(value) if value else None


def _name(channel: Any) -> str:
    for source in channel.get("ChannelSourceSequence") or []:
        named = lead_from_code(str(source.get("CodeValue", ""))) or lead_name(str(source.get("CodeMeaning", "")))
        if named:
            return named
        return str(source.get("CodeMeaning") or source.get("CodeValue", ""))
    return str(channel.get("ChannelLabel", ""))


def _unit(channel: Any) -> str:
    for unit in channel.get("ChannelSensitivityUnitsSequence") or []:
        return str(unit.get("CodeValue", ""))
    raise EcgReadError("expected a unit of the channel sensitivity, got none; the amplitudes are not calibrated")


def _measured(dataset: Any) -> dict[str, Any]:
    """The device's own global measurements; 0 means not measured."""
    found: dict[str, Any] = {}
    for item in dataset.get("WaveformAnnotationSequence") or []:
        for concept in item.get("ConceptNameCodeSequence") or []:
            name = _CONCEPTS.get(str(concept.get("CodeValue", "")))
            value = item.get("NumericValue")
            if name and value not in (None, "") and float(value) != 0:
                found.setdefault(name, float(value))
    return found


def _statements(dataset: Any) -> tuple[str, ...]:
    """The device's interpretation: free text of the waveform annotations (PS3.3, C.10.10)."""
    texts = [str(item.get("UnformattedTextValue") or "") for item in dataset.get("WaveformAnnotationSequence") or []]
    return tuple(dict.fromkeys(text.strip() for text in texts if text.strip()))
