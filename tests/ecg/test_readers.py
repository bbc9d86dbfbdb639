"""Each format gives the same microvolts, keeps nothing personal, and says what it cannot read."""

import json
import pickle

import numpy as np
import pytest

from gem_lightning.ecg import FORMATS, LEADS, EcgReadError, read_ecg, simulate, write_wfdb
from gem_lightning.ecg.leads import limb_leads
from gem_lightning.ecg.readers import budget
from gem_lightning.ecg.readers.base import acquired

WRITTEN = ("muse", "edf", "ishne", "cpsc", "code15", "csv", "npy", "npz")
PERSONAL = (
    "123456",
    "ID123",
    "Jane",
    "Doe",
    "Müller",
    "Hospital",
    "1951",
    "2020",
    "2002",
    "Galliera",
    "642341",
    "Anonymous",
)


@pytest.mark.parametrize("name", WRITTEN)
def test_written_formats_give_the_signal_back(name, written, truth):
    data, options = written[name]
    record = read_ecg(data, **options)
    assert record.leads == LEADS
    assert record.fs == 500
    assert record.meta["format"] == name
    expected = limb_leads(truth.signal[[0, 1, 6, 7, 8, 9, 10, 11]]) if name == "muse" else truth.signal
    samples = record.samples  # CODE-15 tracings are cut to where they are not all zero
    assert truth.samples - samples <= 2
    assert np.abs(record.signal - expected[:, :samples]).max() < 1e-6


@pytest.mark.parametrize("name", WRITTEN)
def test_gem_contract_pads_and_keeps_rows(name, written, truth):
    data, options = written[name]
    record = read_ecg(data, contract="gem", **options)
    assert record.signal.shape == (12, 5000)
    assert record.leads == LEADS
    assert np.abs(record.signal[1, :1900] - truth.signal[1, :1900]).max() < 1e-6
    assert not record.signal[:, truth.samples :].any()


def test_meta_names_nobody(written):
    for name in WRITTEN:
        data, options = written[name]
        meta = read_ecg(data, **options).meta
        kept = json.dumps(meta, default=str)
        assert not any(secret in kept for secret in PERSONAL), (name, kept)
    meta = read_ecg(written["muse"][0]).meta
    assert meta["age"] == 61
    assert meta["sex"] == "F"
    assert meta["device_measurements"] == {"heart_rate_bpm": 71, "pr_ms": 160, "qrs_ms": 90, "qrs_axis_deg": 12}


def test_identity_only_on_request(wfdb_record):
    assert "identity" not in read_ecg(wfdb_record).meta
    assert read_ecg(wfdb_record, deidentify=False).meta["source"] == "rec.hea"


def test_the_demos_real_ecg():
    from pydicom.examples import get_path

    record = read_ecg(get_path("waveform"))
    assert record.signal.shape == (12, 5000)
    assert record.quality.resampled_from == 1000
    assert record.meta["age"] == 42
    assert record.meta["sex"] == "F"
    measured = record.meta["device_measurements"]
    assert {k: measured[k] for k in ("rr_ms", "pr_ms", "qrs_ms", "qt_ms")} == {
        "rr_ms": 982,
        "pr_ms": 161,
        "qrs_ms": 75,
        "qt_ms": 368,
    }
    assert np.abs(limb_leads(record.signal[[0, 1, 6, 7, 8, 9, 10, 11]]) - record.signal).max() < 0.002
    kept = json.dumps(record.meta)
    assert not any(secret in kept for secret in PERSONAL), kept
    assert 0.5 < np.ptp(record.lead("II")) < 3


def test_dicom_unit_sensitivity_and_padding(tmp_path):
    import pydicom
    from pydicom.examples import get_path

    reference = read_ecg(get_path("waveform"), leads="any")
    dataset = pydicom.dcmread(get_path("waveform"))
    rhythm = dataset.WaveformSequence[0]
    for channel in rhythm.ChannelDefinitionSequence:  # 1.25 uV as 0.625 · 2 nV · 1000
        channel.ChannelSensitivity, channel.ChannelSensitivityCorrectionFactor = "0.625", "2000"
        channel.ChannelSensitivityUnitsSequence[0].CodeValue = "nV"
        channel.ChannelBaseline = "5000"  # in the unit of the sensitivity: 5 uV
    dataset.WaveformSequence.append(dataset.WaveformSequence.pop(0))  # the averaged beat first
    dataset.save_as(tmp_path / "x.dcm")
    record = read_ecg(tmp_path / "x.dcm")
    assert np.abs(record.signal - reference.signal - 0.005).max() < 1e-4
    rhythm.add_new("WaveformPaddingValue", "OW", b"\0\0")
    dataset.save_as(tmp_path / "y.dcm")
    assert np.isfinite(read_ecg(tmp_path / "y.dcm").signal).all()


def test_one_tracing_in_three_formats(shared_data):
    formats = shared_data / "formats"
    dicom = read_ecg(formats / "dicom" / "ecgtoolkit_Example.dcm")
    for path in (formats / "aecg" / "ecgtoolkit_Example.xml", formats / "scp" / "ecgtoolkit_Example.scp"):
        record = read_ecg(path)
        assert np.array_equal(record.signal, dicom.signal), path
        assert record.meta["sex"] == "M"
        assert record.meta["device_measurements"]["pr_ms"] == 148
        assert record.meta["device_measurements"]["qrs_axis_deg"] == -61
        assert "Clark" not in str(record.meta)


@pytest.mark.parametrize(("file", "rr"), [("129DYPRG.XML", 1464), ("3191723_ZZDEMOPTONLY_1-04_orig.xml", 714)])
def test_sierra(shared_data, file, rr):
    record = read_ecg(shared_data / "formats" / "sierra" / file)
    assert record.signal.shape == (12, 5000)  # without the calibration pulse of the last second
    assert record.meta["device_measurements"]["rr_ms"] == rr
    one, two, three = record.signal[:3]
    assert np.abs(three - (two - one)).max() < 0.011
    assert "DEMO" not in str(record.meta)


def test_ishne_of_both_conventions(shared_data):
    folder = shared_data / "formats" / "ishne_synthetic"
    one, two = (read_ecg(folder / f"synth_{name}.ecg") for name in ("perlead", "total"))
    assert np.array_equal(one.signal, two.signal)
    assert one.signal.shape == (12, 5000)


def test_code15_wants_an_index(shared_data):
    path = shared_data / "formats" / "code15_synthetic" / "synth_exams_part.hdf5"
    record = read_ecg(path, index=1)
    assert record.quality.resampled_from == 400
    assert record.samples == 3500  # 2,800 samples at 400 Hz
    with pytest.raises(EcgReadError, match="index= from 0 to 2"):
        read_ecg(path)
    with pytest.raises(EcgReadError, match="only zeros"):
        read_ecg(path, index=2)


def test_cinc_and_cpsc(shared_data):
    for path in sorted((shared_data / "cinc2021").glob("*.mat")):
        record = read_ecg(path)
        assert record.signal.shape == (12, 5000)
        assert record.meta["dx"]
        assert np.array_equal(record.signal, read_ecg(path.with_suffix(".hea")).signal)
    assert read_ecg(shared_data / "cpsc2018" / "A1980.mat").meta == {"format": "cpsc", "age": 52, "sex": "M"}


@pytest.mark.parametrize("name", WRITTEN)
def test_truncated_files(name, written):
    data, options = written[name]
    for share in (0.02,) if name == "csv" else (0.02, 0.3, 0.9):  # a cut table may still be a table
        with pytest.raises(EcgReadError):
            read_ecg(data[: int(len(data) * share)], **({"format": name} | options))


def test_bad_arguments(wfdb_record, tmp_path):
    with pytest.raises(EcgReadError, match="contract 'clean' or 'gem'"):
        read_ecg(wfdb_record, contract="raw")
    with pytest.raises(EcgReadError, match="leads '12' or 'any'"):
        read_ecg(wfdb_record, leads="8")
    with pytest.raises(EcgReadError, match=f"expected a format of {FORMATS[0]}"):
        read_ecg(wfdb_record, format="pdf")
    with pytest.raises(EcgReadError, match="got the folder"):
        read_ecg(tmp_path)
    with pytest.raises(EcgReadError, match="does not exist"):
        read_ecg(tmp_path / "nothing.hea")
    with pytest.raises(EcgReadError, match="path or bytes, got int"):
        read_ecg(3)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty file"),
        (b"%PDF-1.7 not an ecg", "expected a PDF with a page"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "root element 'svg'"),
        (b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x "y">]><RestingECG>&x;</RestingECG>', "entities"),
        (b"\x89PNG\r\n\x1a\n", "expected an image"),
    ],
)
def test_unknown_content(content, words):
    with pytest.raises(EcgReadError, match=words):
        read_ecg(content)


def test_arrays_need_rate_and_unit(written):
    data, _ = written["npy"]
    with pytest.raises(EcgReadError, match=r"fs=500, units='mV'"):
        read_ecg(data)
    with pytest.raises(EcgReadError, match="voltage unit"):
        read_ecg(data, fs=500, units="mmHg")
    with pytest.raises(EcgReadError, match="sampling rate from"):
        read_ecg(data, fs=0, units="mV")


def test_pickles_and_impossible_sizes_are_refused():
    import io

    out = io.BytesIO()
    np.save(out, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(EcgReadError, match="pickled objects are refused"):
        read_ecg(out.getvalue(), fs=500, units="mV")
    with pytest.raises(EcgReadError):
        read_ecg(pickle.dumps([1.0] * 12), fs=500, units="mV")
    header = np.lib.format.header_data_from_array_1_0(np.zeros((12, 1))) | {"shape": (12, 10**12)}
    huge = io.BytesIO()
    np.lib.format.write_array_header_1_0(huge, header)
    with pytest.raises(EcgReadError, match="got 12,000,000,000,000"):
        read_ecg(huge.getvalue() + b"\0" * 100, fs=500, units="mV")


def test_zip_bombs_are_refused(monkeypatch, written):
    for name in ("npz", "cpsc"):  # both packed: they unpack to more than they take
        data = written[name][0]
        monkeypatch.setitem(budget.LIMITS, "bytes", len(data) + 1000)
        with pytest.raises(EcgReadError, match=r"expected at most .* bytes"):
            read_ecg(data)


def matlab_73(path, fill):
    """A MATLAB 7.3 file: HDF5 behind a user block that names MATLAB."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w", userblock_size=512) as file:
        fill(file, h5py)
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file".ljust(116, b" "))
    return path


def test_matlab_73_is_read_and_followed_nowhere(truth, tmp_path):
    def array(file, h5py):
        file["val"] = truth.signal.T * 1000  # HDF5 has MATLAB's axes turned round

    path = matlab_73(tmp_path / "a.mat", array)
    with pytest.warns(UserWarning, match="standard order"):
        found = read_ecg(path, fs=truth.fs, units="uV")
    assert found.meta["format"] == "mat73"
    assert np.allclose(found.signal, truth.signal, atol=2e-3)
    with pytest.raises(EcgReadError, match="does not hold them: pass fs=500"):
        read_ecg(path)
    raw = tmp_path / "secret.bin"
    raw.write_bytes(np.zeros((12, 1000)).tobytes())
    for name, fill, refusal in (
        ("none", lambda file, h5py: file.create_group("ECG"), "an array 'val' or 'ECG'"),
        ("link", lambda file, h5py: file.update({"val": h5py.ExternalLink(str(path), "val")}), "got a link"),
        ("soft", lambda file, h5py: file.update({"val": h5py.SoftLink("/other")}), "got a link"),
        (
            "storage",
            lambda file, h5py: file.create_dataset("val", (12, 1000), "f8", external=[(str(raw), 0, 96_000)]),
            "a data set of another file",
        ),
        ("empty", lambda file, h5py: file.create_dataset("val", (12, 1000), "f8"), "stored samples"),
    ):
        with pytest.raises(EcgReadError, match=refusal):
            read_ecg(matlab_73(tmp_path / f"{name}.mat", fill), fs=500, units="mV")


def test_eight_leads_are_completed_and_two_are_not(truth):
    import io

    def array(rows):
        out = io.BytesIO()
        np.save(out, truth.signal[rows])
        return out.getvalue()

    eight = [0, 2, 6, 7, 8, 9, 10, 11]  # I and III instead of I and II
    names = [LEADS[i] for i in eight]
    record = read_ecg(array(eight), fs=500, units="mV", lead_names=names)
    assert record.quality.derived == ("II", "aVR", "aVL", "aVF")
    assert np.abs(record.signal - truth.signal).max() < 2e-3  # the truth is rounded to whole microvolts lead by lead
    with pytest.raises(EcgReadError, match="missing I, III, aVR"):
        read_ecg(array([0, 6]), fs=500, units="mV", lead_names=["II", "V1"])
    some = read_ecg(array([6, 1]), fs=500, units="mV", lead_names=["V1", "II"], leads="any")
    assert some.leads == ("II", "V1")
    with pytest.raises(EcgReadError, match="expected leads named I, II"):
        read_ecg(array([0, 6]), fs=500, units="mV", lead_names=["EEG Fp1", "EMG"])


def test_unknown_is_not_zero(truth):
    import io

    out = io.BytesIO()
    np.save(out, np.full((12, 2000), np.nan))
    with pytest.raises(EcgReadError, match="only NaN"):
        read_ecg(out.getvalue(), fs=500, units="mV")


def test_edf_written_by_the_reference_library(truth, tmp_path):
    pyedflib = pytest.importorskip("pyedflib")
    path = str(tmp_path / "x.edf")
    headers = [
        {
            "label": f"ECG {lead}",
            "dimension": "mV",
            "sample_frequency": 500,
            "physical_min": -5.0,
            "physical_max": 5.0,
            "digital_min": -32768,
            "digital_max": 32767,
        }
        for lead in LEADS
    ]
    pyedflib.highlevel.write_edf(
        path, truth.signal.astype(np.float64), headers, {"patientname": "Jane Doe", "sex": "Female"}
    )
    record = read_ecg(path)
    assert np.abs(record.signal - truth.signal).max() < 10 / 65535
    assert record.meta["sex"] == "F"
    assert "Jane" not in str(record.meta)


def test_deflated_dicom_is_refused():
    from pydicom.examples import get_path

    data = bytearray(get_path("waveform").read_bytes())
    at = data.index(b"1.2.840.10008.1.2.1")
    data[at : at + 22] = b"1.2.840.10008.1.2.1.99"
    with pytest.raises(EcgReadError, match="deflated"):
        read_ecg(bytes(data))


def test_xml_bombs_and_long_lines_do_not_hang():
    laughs = '<!DOCTYPE a [<!ENTITY a "ha">' + "".join(
        f'<!ENTITY {chr(98 + i)} "{f"&{chr(97 + i)};" * 10}">' for i in range(9)
    )
    with pytest.raises(EcgReadError, match="entities"):
        read_ecg(f"<?xml version='1.0'?>{laughs}]><restingecgdata>&j;</restingecgdata>".encode(), format="sierra")
    with pytest.raises(EcgReadError):
        read_ecg(b"a" * 5_000_000)


def test_leads_any_and_gem_of_a_fifteen_lead_file(shared_data):
    path = shared_data / "ptb_s0010" / "s0010_re.hea"
    assert read_ecg(path).leads == LEADS
    assert read_ecg(path, leads="any").leads == (*LEADS, "vx", "vy", "vz")
    assert read_ecg(path, contract="gem").signal.shape == (12, 5000)


@pytest.mark.parametrize(
    "name",
    [
        "scp/ecgtoolkit_Example.scp",
        "sierra/129DYPRG.XML",
        "aecg/ecgtoolkit_Example.xml",
        "dicom/ecgtoolkit_Example.dcm",
    ],
)
def test_no_identifier_of_a_real_file_leaks(shared_data, name):
    path = shared_data / "formats" / name
    identity = read_ecg(path, deidentify=False).meta["identity"]
    assert identity
    shown = str(read_ecg(path).meta)
    for key, value in identity.items():
        if len(str(value)) > 3 and not key.endswith(("UID", "Modality", "Manufacturer", "ModelName")):
            assert str(value) not in shown, key


@pytest.mark.parametrize(
    ("stamp", "seconds"),
    [
        ("20060201105919.000", 39559),
        ("2006-02-01T10:59:19+01:00", 39559),
        ("2006-02-01 10:59", 39540),
        ("105919.5", 39559),
        ("10.59.19", 39559),
        ("10:59:19", 39559),
        ("20060201", None),
        ("25:00:00", None),
        ("", None),
        (None, None),
    ],
)
def test_the_time_of_day_of_a_stamp(stamp, seconds):
    assert acquired(stamp).get("acquisition_offset_s") == seconds


def test_one_recording_in_three_formats_began_at_one_time(shared_data):
    found = {
        path.suffix: read_ecg(path).meta["acquisition_offset_s"]
        for path in (shared_data / "formats").glob("*/ecgtoolkit_Example.*")
    }
    assert set(found) == {".scp", ".xml", ".dcm"}
    assert len(set(found.values())) == 1


def test_the_time_of_day_of_a_wfdb_record(tmp_path):
    write_wfdb(simulate("sinus", seed=1).record, tmp_path / "r")
    header = (tmp_path / "r.hea").read_text().splitlines()
    header[0] += " 09:08:07 01/02/2003"
    (tmp_path / "r.hea").write_text("\n".join(header) + "\n")
    record = read_ecg(tmp_path / "r.hea")
    assert record.meta["acquisition_offset_s"] == 9 * 3600 + 8 * 60 + 7
    assert "2003" not in str(record.meta)
