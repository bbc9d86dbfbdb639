"""Formats without a free sample, written here from their public descriptions and read back exactly."""

import gzip
import io
import json
import struct
import zipfile

import numpy as np
import pytest

from gem_lightning.ecg import LEADS, EcgReadError, read_ecg
from gem_lightning.ecg.readers import budget
from helpers_ecg_formats import SCP_CODES, atc, cardiosoft, contec, eli, mfer, schiller


@pytest.fixture(scope="module")
def counts(truth):
    """(12, samples) whole microvolts."""
    return np.rint(truth.signal * 1000).astype("<i2")


def scp(sections: dict[int, bytes]) -> bytes:
    """An SCP file of these section contents, with the pointers of section 0."""
    packed = {n: struct.pack("<HHIBB6x", 0, n, 16 + len(c), 20, 20) + c for n, c in sorted(sections.items())}
    at, pointers = 6 + 136, struct.pack("<HII", 0, 136, 7)
    for number in range(1, 12):
        size = len(packed.get(number, b""))
        pointers += struct.pack("<HII", number, size, at + 1 if size else 0)
        at += size
    body = struct.pack("<HHIBB6s", 0, 0, 136, 20, 20, b"SCPECG") + pointers + b"".join(packed.values())
    return struct.pack("<HI", 0, 6 + len(body)) + body


def scp_leads(samples: int, flags: int) -> bytes:
    return bytes([12, flags]) + b"".join(struct.pack("<IIB", 1, samples, code) for code in SCP_CODES)


def scp_rows(rows, step_us: int, bimodal: int = 0) -> bytes:
    head = struct.pack("<HHBB", 1000, step_us, 0, bimodal) + b"".join(struct.pack("<H", 2 * len(row)) for row in rows)
    return head + b"".join(np.asarray(row, "<i2").tobytes() for row in rows)


@pytest.mark.parametrize(
    ("name", "write"),
    [("cardiosoft", cardiosoft), ("schiller", schiller), ("eli", eli), ("mfer", mfer)],
)
def test_twelve_leads_exactly(name, write, counts, truth):
    data = write(counts)
    record = read_ecg(data)
    assert record.meta["format"] == name
    assert record.meta["age"] == 54
    assert record.meta["sex"] == "M"
    assert np.abs(record.signal - truth.signal).max() < 1e-6
    assert "12345" not in str(record.meta)
    assert "Doe" not in str(record.meta)
    assert "12345" in str(read_ecg(data, deidentify=False).meta["identity"])


def test_statements_and_measurements_of_the_device(counts):
    ge, mortara = read_ecg(cardiosoft(counts)).meta, read_ecg(eli(counts)).meta
    assert ge["statements"] == ("Normal sinus rhythm",)
    assert ge["device_measurements"] == {"heart_rate_bpm": 71.0, "qrs_ms": 92.0}
    assert "NORMAL ECG" in mortara["statements"][0]
    assert mortara["device"] == "ELI 350"


def test_mfer_in_both_byte_orders(counts):
    assert np.array_equal(read_ecg(mfer(counts)).signal, read_ecg(mfer(counts, "<")).signal)


def test_recorders_with_fewer_leads(counts, truth):
    record = read_ecg(atc(counts), leads="any")
    assert record.leads[:2] == ("I", "II")
    assert np.abs(record.signal[:2] - truth.signal[:2]).max() < 1e-6
    eight = read_ecg(contec(counts), contract="clean")
    assert eight.quality.resampled_from == 800
    assert eight.quality.derived == ("I", "aVR", "aVL", "aVF")
    assert eight.meta["device"] == "Contec ECG90A"
    assert "Doe" not in str(eight.meta)


def test_scp_with_the_reference_beat_subtracted(counts, truth):
    samples, length, fiducial = counts.shape[1], 200, 90
    centres = [400, 900, 1500]
    beat = counts[:, centres[0] - fiducial : centres[0] - fiducial + length]
    residual = counts.astype(np.int64)
    for centre in centres:
        residual[:, centre - fiducial : centre - fiducial + length] -= beat
    complexes = b"".join(struct.pack("<HIII", 0, c - fiducial + 1, c, c - fiducial + length) for c in centres)
    zones = b"".join(struct.pack("<II", c - 30, c + 30) for c in centres)
    four = struct.pack("<HHH", length * 2, fiducial, len(centres)) + complexes + zones
    data = scp({3: scp_leads(samples, 1), 4: four, 5: scp_rows(beat, 2000), 6: scp_rows(residual, 2000)})
    assert np.abs(read_ecg(data).signal - truth.signal).max() < 1e-6


def test_scp_bimodal_is_exact_in_protected_zones_and_means_of_four_elsewhere(counts, truth):
    samples, centres = counts.shape[1], [401, 901, 1501]
    zones = [(c - 40, c + 39) for c in centres]  # multiples of four, numbered from 1
    shielded = np.zeros(samples, bool)
    for first, last in zones:
        shielded[first - 1 : last] = True
    stored = []
    for row in counts:
        out, at = [], 0
        while at < samples:
            if shielded[at]:
                out.append(row[at])
                at += 1
            else:
                out.append(round(float(row[at : at + 4].mean())))
                at += 4
        stored.append(out)
    complexes = b"".join(struct.pack("<HIII", 1, a, (a + b) // 2, b) for a, b in zones)
    four = struct.pack("<HHH", 400, 90, 3) + complexes + b"".join(struct.pack("<II", a, b) for a, b in zones)
    beat = counts[:, 300:500]
    data = scp({3: scp_leads(samples, 0), 4: four, 5: scp_rows(beat, 2000), 6: scp_rows(stored, 8000, 1)})
    signal = read_ecg(data).signal
    assert signal.shape == truth.signal.shape
    assert np.abs(signal - truth.signal)[:, shielded].max() < 1e-6
    means = signal[:, :360].reshape(12, -1, 4).mean(2)
    error = np.abs(means[:, 1:-1] - truth.signal[:, :360].reshape(12, -1, 4).mean(2)[:, 1:-1])
    assert np.median(error) < 0.003
    assert error.max() < 0.08  # straight lines cut the foot of the QRS complex


def test_xlsx_and_gzip(counts, truth):
    import openpyxl

    book = openpyxl.Workbook(write_only=True)
    sheet = book.create_sheet()
    sheet.append([f"{lead} (uV)" for lead in LEADS])
    for row in counts.T.tolist():
        sheet.append(row)
    out = io.BytesIO()
    book.save(out)
    assert np.abs(read_ecg(out.getvalue(), fs=500).signal - truth.signal).max() < 1e-6
    assert np.abs(read_ecg(gzip.compress(cardiosoft(counts))).signal - truth.signal).max() < 1e-6


def test_flac_through_the_wfdb_library(truth, tmp_path):
    import wfdb

    pytest.importorskip("soundfile")
    wfdb.wrsamp(
        "flac", fs=500, units=["mV"] * 12, sig_name=list(LEADS), p_signal=truth.signal.T.astype(np.float64),
        fmt=["516"] * 12, adc_gain=[1000.0] * 12, baseline=[0] * 12, write_dir=str(tmp_path),
    )  # fmt: skip
    assert np.abs(read_ecg(tmp_path / "flac.hea").signal - truth.signal).max() < 5e-4


def test_fhir_unknown_samples_and_intervals():
    def component(lead, data):
        sampled = {"origin": {"value": 0.1, "unit": "mV"}, "interval": 4, "intervalUnit": "ms", "factor": 0.001}
        return {
            "code": {"coding": [{"code": f"MDC_ECG_LEAD_{lead.upper()}"}]},
            "valueSampledData": {**sampled, "data": data},
        }

    ramp = " ".join(map(str, range(250)))
    body = {
        "resourceType": "Observation",
        "component": [component("I", ramp), component("II", ramp.replace("7 ", "U ", 1))],
    }
    record = read_ecg(json.dumps({"resourceType": "Bundle", "entry": [{"resource": body}]}).encode(), leads="any")
    assert record.leads[:2] == ("I", "II")
    assert record.quality.resampled_from == 250
    assert record.quality.repaired["II"] >= 1
    assert record.lead("I")[100] == pytest.approx(0.15, abs=2e-3)


BOMBS = {
    "gzip": lambda: gzip.compress(bytes(200_000_000)),
    "zip": lambda: _zipped("signal.npy", bytes(200_000_000)),
    "xlsx": lambda: _zipped("xl/worksheets/sheet1.xml", bytes(200_000_000)),
    "xml": lambda: b"<RestingECG>" + b"<a/>" * 900_000 + b"</RestingECG>",
    "json": lambda: b'{"resourceType": "Observation", "x": ' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    "csv": lambda: b"1," * 2_000_000 + b"1\n",
}


def _zipped(name: str, content: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return out.getvalue()


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_before_they_unpack(name, monkeypatch):
    import tracemalloc

    data = BOMBS[name]()
    tracemalloc.start()
    try:
        with pytest.raises(EcgReadError):
            read_ecg(data, fs=500, units="mV")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 150_000_000, peak


def test_a_deadline_bounds_what_no_count_does(monkeypatch, written):
    monkeypatch.setattr(budget, "SECONDS", -1.0)
    with pytest.raises(EcgReadError, match="within -1 s"):
        read_ecg(written["edf"][0])
