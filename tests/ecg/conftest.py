"""One small simulated recording written in every format that has no freely licensed sample."""

import base64
import io
import struct

import numpy as np
import pytest

from gem_lightning.ecg import LEADS, simulate, write_wfdb
from helpers_ecg_formats import cardiosoft, eli, mfer, schiller


@pytest.fixture(scope="session")
def truth():
    """The recording behind all written files: 4 s at 500 Hz in whole microvolts, so that every format is exact."""
    record = simulate("sinus", seed=7, seconds=4, snr_db=30).record
    return record.with_signal(np.round(record.signal * 1000).astype(np.int16) / np.float32(1000))


def _counts(record) -> np.ndarray:
    return np.rint(record.signal * 1000).astype("<i2")


def muse(record) -> bytes:
    """Eight leads at 1 µV a bit, an averaged beat first, a DOCTYPE, ISO-8859-1."""

    def wave(kind: str, counts: np.ndarray) -> str:
        leads = "".join(
            f"<LeadData><LeadID>{LEADS[i]}</LeadID><LeadAmplitudeUnitsPerBit>1.0</LeadAmplitudeUnitsPerBit>"
            f"<LeadAmplitudeUnits>MICROVOLTS</LeadAmplitudeUnits><LeadSampleCountTotal>{counts.shape[1]}"
            f"</LeadSampleCountTotal><WaveFormData>{base64.encodebytes(counts[i].tobytes()).decode()}</WaveFormData>"
            "</LeadData>"
            for i in (0, 1, 6, 7, 8, 9, 10, 11)
        )
        return (
            f"<Waveform><WaveformType>{kind}</WaveformType><SampleBase>500</SampleBase>"
            f"<SampleExponent>0</SampleExponent>{leads}</Waveform>"
        )

    counts = _counts(record)
    return (
        '<?xml version="1.0" encoding="ISO-8859-1"?><!DOCTYPE RestingECG SYSTEM "restecg.dtd"><RestingECG>'
        "<PatientDemographics><PatientID>123456</PatientID><PatientAge>61</PatientAge><AgeUnits>YEARS</AgeUnits>"
        "<Gender>FEMALE</Gender><PatientLastName>Müller</PatientLastName></PatientDemographics>"
        "<TestDemographics><SiteName>Hospital</SiteName><AcquisitionDate>01-02-2020</AcquisitionDate></TestDemographics>"
        "<RestingECGMeasurements><VentricularRate>71</VentricularRate><PRInterval>160</PRInterval>"
        "<QRSDuration>90</QRSDuration><RAxis>12</RAxis></RestingECGMeasurements>"
        f"{wave('Median', counts[:, :300])}{wave('Rhythm', counts)}</RestingECG>"
    ).encode("latin-1")


def edf(record) -> bytes:
    """Twelve leads and an annotation signal, one second a data record."""
    counts, fs = _counts(record), round(record.fs)
    blocks = counts.shape[1] // fs
    labels = [f"ECG {lead}" for lead in record.leads] + ["EDF Annotations"]
    widths = [fs] * 12 + [15]
    signals = len(labels)

    def column(values, width: int) -> bytes:
        return b"".join(str(value).ljust(width)[:width].encode() for value in values)

    header = b"0".ljust(8) + b"ID123 F 02-MAY-1951 Jane_Doe".ljust(80) + b"Startdate 02-MAR-2002".ljust(80)
    header += b"02.03.0210.11.12" + str(256 * (signals + 1)).ljust(8).encode() + b"EDF+C".ljust(44)
    header += str(blocks).ljust(8).encode() + b"1".ljust(8) + str(signals).ljust(4).encode()
    header += column(labels, 16) + column([""] * signals, 80) + column(["uV"] * signals, 8)
    header += column([-32768] * signals, 8) + column([32767] * signals, 8)
    header += column([-32768] * signals, 8) + column([32767] * signals, 8)
    header += column([""] * signals, 80) + column(widths, 8) + column([""] * signals, 32)
    body = b""
    for block in range(blocks):
        body += counts[:, block * fs : (block + 1) * fs].tobytes() + b"\0" * 30
    return header + body


def ishne(record, total: bool = False) -> bytes:
    """Twelve leads at 1000 nV; ``total`` writes the size as the sum over leads."""
    counts = _counts(record)
    samples = counts.shape[1]
    header = bytearray(512)
    struct.pack_into("<iiii", header, 0, 0, samples * (12 if total else 1), 522, 522)
    header[18:22] = b"Jane"
    struct.pack_into("<h", header, 118, 2)
    struct.pack_into("<3h3h", header, 122, 2, 5, 1951, 3, 6, 2001)
    struct.pack_into("<h12h12h12h", header, 146, 12, *range(5, 17), *([1] * 12), *([1000] * 12))
    struct.pack_into("<h", header, 262, round(record.fs))
    return b"ISHNE1.0" + b"\0\0" + bytes(header) + counts.T.tobytes()


def cpsc(record) -> bytes:
    from scipy.io import savemat

    out = io.BytesIO()
    data = record.signal.astype(np.float64)
    savemat(out, {"ECG": {"sex": "Male", "age": 52, "data": data}}, do_compression=True)
    return out.getvalue()


def code15(record) -> bytes:
    """Two exams, the second with zeros around it."""
    import h5py

    out = io.BytesIO()
    tracings = np.zeros((2, 4096, 12), dtype=np.float32)
    tracings[:, 48 : 48 + record.samples] = record.signal.T
    with h5py.File(out, "w") as file:
        file["tracings"], file["exam_id"] = tracings, np.array([5, 0])
    return out.getvalue()


def csv(record) -> bytes:
    rows = np.column_stack([np.arange(record.samples) / record.fs, record.signal.T])
    out = io.StringIO()
    np.savetxt(out, rows, delimiter=",", fmt="%.6g", header=",".join(["time", *record.leads]), comments="")
    return out.getvalue().encode()


def npy(record) -> bytes:
    out = io.BytesIO()
    np.save(out, record.signal)
    return out.getvalue()


def npz(record) -> bytes:
    out = io.BytesIO()
    np.savez_compressed(out, signal=record.signal, fs=record.fs, units="mV", leads=np.array(record.leads))
    return out.getvalue()


@pytest.fixture(scope="session")
def written(truth) -> dict[str, tuple[bytes, dict]]:
    """Per format: the bytes, and the arguments that a caller has to add."""
    numbers = {"fs": 500, "units": "mV"}
    return {
        "muse": (muse(truth), {}),
        "edf": (edf(truth), {}),
        "ishne": (ishne(truth), {}),
        "cpsc": (cpsc(truth), {}),
        "code15": (code15(truth), {"index": 1, "fs": 500}),
        "csv": (csv(truth), {"format": "csv", **numbers}),
        "npy": (npy(truth), numbers),
        "npz": (npz(truth), {}),
        **{write.__name__: (write(_counts(truth)), {}) for write in (cardiosoft, schiller, eli, mfer)},
    }


@pytest.fixture
def wfdb_record(truth, tmp_path):
    """Path of the header of the recording as WFDB."""
    return write_wfdb(truth, tmp_path / "rec")
