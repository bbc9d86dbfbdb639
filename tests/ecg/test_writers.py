"""What is written reads back: within half a digital unit, with age and sex, by us and by independent readers."""

import numpy as np
import pytest

from gem_lightning.ecg import LEADS, EcgReadError, EcgRecord, read_ecg, simulate
from gem_lightning.ecg.writers import SUFFIXES, write_ecg

HALF_UNIT_UV = {"wfdb": 0.5, "dicom": 0.5, "edf": 0.5, "csv": 0.05, "parquet": 0.0}


@pytest.fixture(scope="module")
def record():
    made = simulate("lbbb", seed=3, snr_db=25).record
    return made.with_signal(made.signal, meta={"age": 61, "sex": "F", "format": "simulated"})


@pytest.mark.parametrize("format", SUFFIXES)
def test_round_trip(format, record, tmp_path):
    path = write_ecg(record, tmp_path / f"x{SUFFIXES[format]}")
    back = read_ecg(path)
    assert back.leads == LEADS
    assert back.fs == record.fs
    assert np.abs(back.signal.astype(float) - record.signal).max() * 1000 <= HALF_UNIT_UV[format] + 1e-3
    if format in ("wfdb", "dicom", "parquet"):
        assert (back.meta["age"], back.meta["sex"]) == (61, "F")


@pytest.mark.parametrize("format", ["wfdb", "dicom", "csv", "parquet"])
def test_unknown_samples_stay_unknown(format, record, tmp_path):
    signal = record.signal.copy()
    signal[2, 1000:1100] = np.nan
    back = read_ecg(write_ecg(record.with_signal(signal), tmp_path / f"x{SUFFIXES[format]}"))
    assert np.array_equal(np.isnan(back.signal), np.isnan(signal))


def test_edf_refuses_what_it_cannot_hold(record, tmp_path):
    signal = record.signal.copy()
    signal[0, 5] = np.nan
    with pytest.raises(EcgReadError, match="EDF cannot mark"):
        write_ecg(record.with_signal(signal), tmp_path / "x.edf")
    with pytest.raises(EcgReadError, match="whole seconds"):
        write_ecg(EcgRecord(record.signal[:, :777], 500), tmp_path / "x.edf")
    with pytest.raises(EcgReadError, match="expected a format of wfdb"):
        write_ecg(record, tmp_path / "x.docx")
    assert list(tmp_path.iterdir()) == []


def test_pydicom_decodes_the_waveform_itself(record, tmp_path):
    import pydicom

    data = pydicom.dcmread(write_ecg(record, tmp_path / "x.dcm"))
    array = data.waveform_array(0).T  # channels scaled by sensitivity, in the channel's unit (uV)
    assert data.SOPClassUID.name == "12-lead ECG Waveform Storage"
    assert np.abs(array / 1000 - record.signal).max() < 6e-4
    assert str(data.PatientName) == ""


def test_long_and_partial_records_become_general_ecgs(record, tmp_path):
    import pydicom

    two = EcgRecord(record.signal[:2], 500, ("I", "II"))
    path = write_ecg(two, tmp_path / "x.dcm")
    assert pydicom.dcmread(path).SOPClassUID.name == "General ECG Waveform Storage"
    assert read_ecg(path, leads="any").leads[:2] == ("I", "II")


def test_pandas_reads_the_tables(record, tmp_path):
    import pandas as pd

    csv = pd.read_csv(write_ecg(record, tmp_path / "x.csv"))
    parquet = pd.read_parquet(write_ecg(record, tmp_path / "x.parquet"))
    assert list(csv.columns) == ["time [s]", *(f"{lead} [mV]" for lead in LEADS)]
    assert list(parquet.columns) == list(LEADS)
    assert np.abs(csv["V2 [mV]"] - parquet["V2"]).max() < 6e-5
