"""Write records as DICOM 12-lead or general ECG waveforms (PS3.3, A.34.3 and A.34.4)."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from gem_lightning.ecg.leads import CODES
from gem_lightning.ecg.record import LEADS, EcgRecord
from gem_lightning.errors import EcgReadError
from gem_lightning.jobs import write_atomically

_TWELVE_LEAD, _GENERAL = "1.2.840.10008.5.1.4.1.1.9.1.1", "1.2.840.10008.5.1.4.1.1.9.1.2"
_MAX_TWELVE_LEAD_SAMPLES = 16_384  # PS3.3, A.34.3.4.4; longer ones are general ECGs
# 1 µV resolves what electrocardiographs measure; 32,000 leaves room for the padding value
_STEP_UV, _LARGEST, _PADDING = 1.0, 32_000, -32_768
_AGE_YEARS = "{:03d}Y"


def write_dicom(record: EcgRecord, path: Path) -> Path:
    """16 bits, 1 µV a count (coarser where a lead exceeds 32 mV); NaN is the padding value.

    Raises:
        EcgReadError: Amplitudes beyond what 16 bits hold at 1 mV a count.
    """
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    whole = record.leads == LEADS and record.samples <= _MAX_TWELVE_LEAD_SAMPLES
    data = Dataset()
    data.SOPClassUID, data.SOPInstanceUID = (_TWELVE_LEAD if whole else _GENERAL), generate_uid()
    data.StudyInstanceUID, data.SeriesInstanceUID, data.Modality = generate_uid(), generate_uid(), "ECG"
    data.PatientName = data.PatientID = data.PatientBirthDate = data.StudyDate = data.StudyTime = ""
    data.PatientSex = record.meta.get("sex") or ""
    if record.meta.get("age") is not None:
        data.PatientAge = _AGE_YEARS.format(int(record.meta["age"]))
    data.Manufacturer = "gem-lightning"
    data.WaveformSequence = [_group(record)]
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    buffer = io.BytesIO()
    data.save_as(buffer, enforce_file_format=True)
    write_atomically(path, buffer.getvalue())
    return path


def _group(record: EcgRecord) -> Any:
    """The multiplex group with its channels."""
    from pydicom.dataset import Dataset

    microvolts = record.signal.astype(np.float64) * 1000
    steps = np.maximum(np.nanmax(np.abs(microvolts), axis=1, initial=0.0) / _LARGEST, _STEP_UV)
    if steps.max() > 1000:
        raise EcgReadError(
            f"expected at most 32 V, got {np.nanmax(np.abs(record.signal)) / 1000:.0f} V; check the unit"
        )
    scaled = np.rint(microvolts / steps[:, None])
    counts = np.where(np.isfinite(scaled), scaled, _PADDING).astype("<i2")
    group = Dataset()
    group.WaveformOriginality, group.MultiplexGroupLabel = "ORIGINAL", "RHYTHM"
    group.NumberOfWaveformChannels, group.NumberOfWaveformSamples = counts.shape
    group.SamplingFrequency = f"{record.fs:.10g}"
    group.WaveformBitsAllocated, group.WaveformSampleInterpretation = 16, "SS"
    group.WaveformPaddingValue = int(_PADDING).to_bytes(2, "little", signed=True)
    group.WaveformData = np.ascontiguousarray(counts.T).tobytes()
    group.ChannelDefinitionSequence = [_channel(lead, step) for lead, step in zip(record.leads, steps)]
    return group


def _channel(lead: str, step_uv: float) -> Any:
    from pydicom.dataset import Dataset

    channel = Dataset()
    channel.ChannelSourceSequence = [_code(f"2:{CODES[lead]}" if lead in CODES else lead[:16], "MDC", f"Lead {lead}")]
    channel.ChannelSensitivity = f"{step_uv:.10g}"
    channel.ChannelSensitivityUnitsSequence = [_code("uV", "UCUM", "microvolt")]
    channel.ChannelSensitivityCorrectionFactor, channel.ChannelBaseline = "1", "0"
    channel.ChannelTimeSkew, channel.WaveformBitsStored = "0", 16
    return channel


def _code(value: str, scheme: str, meaning: str) -> Any:
    from pydicom.dataset import Dataset

    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item
