"""Small look-alikes of each layout, written by the tests from the public descriptions of the files."""

import csv
import shutil
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from gem_lightning.ecg import simulate
from gem_lightning.errors import DataError, EcgReadError
from gem_lightning.generation.gate import Gate
from gem_lightning.generation.pipeline import Pipeline
from gem_lightning.samples.io import write_samples
from gem_lightning.samples.sample import InstructionSample, RecordRef
from gem_lightning.sources.base import RecordFiles, SampleFiles, Simulated, SourceRecord, missing_files
from gem_lightning.sources.public import Chapman, Cinc, Code15, Cpsc2018, MimicIvEcg, PtbXl, snomed_term
from gem_lightning.sources.tables import normalise_sex


def write_csv(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def wfdb(path: Path, comments: tuple[str, ...] = ()) -> None:
    """A minimal WFDB record: header and 16-bit samples."""
    leads = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"{path.name} 12 500 500"]
    lines += [f"{path.name}.dat 16 1000(0)/mV 16 0 0 0 0 {lead}" for lead in leads]
    path.with_name(path.name + ".hea").write_text("\n".join([*lines, *comments]) + "\n")
    np.zeros((500, 12), "<i2").tofile(path.with_name(path.name + ".dat"))


@pytest.fixture
def ptbxl(tmp_path):
    root = tmp_path / "ptb-xl-1.0.3"
    row = {
        "ecg_id": 1, "patient_id": "15709.0", "age": 56.0, "sex": 1, "recording_date": "1984-11-09 09:17:34",
        "report": "sinusrhythmus periphere niederspannung", "scp_codes": "{'NORM': 100.0, 'LVOLT': 0.0, 'SR': 0.0}",
        "strat_fold": 3, "filename_lr": "records100/00000/00001_lr", "filename_hr": "records500/00000/00001_hr",
    }  # fmt: skip
    second = row | {
        "ecg_id": 2, "age": 300.0, "sex": 0, "recording_date": "1984-01-02 10:00:00", "report": "", "strat_fold": 10,
        "filename_hr": "records500/00000/00002_hr",
    }  # fmt: skip
    write_csv(root / "ptbxl_database.csv", [row, second])
    words = {"NORM": "normal ECG", "LVOLT": "low QRS voltages", "SR": "sinus rhythm"}
    write_csv(root / "scp_statements.csv", [{"": k, "description": v} for k, v in words.items()])
    wfdb(root / "records500/00000/00001_hr")
    wfdb(root / "records500/00000/00002_hr")
    return root


def test_ptbxl(ptbxl):
    source = PtbXl(str(ptbxl))
    older, newer = source.records()
    assert newer.id == "ptbxl-1"
    assert newer.ecg == "ptbxl/records500/00000/00001_hr"
    assert (newer.age, newer.sex, newer.split, newer.patient) == (56, "female", "train", "ptbxl-15709")
    assert newer.codes == ("NORM", "LVOLT", "SR")
    assert newer.earlier == older.ecg
    assert (older.age, older.sex, older.split, older.earlier) == (90, "male", "test", None)
    assert older.report == "normal ECG; low QRS voltages; sinus rhythm"
    assert list(missing_files(source, source.records())) == []
    (ptbxl / "records500/00000/00001_hr.dat").unlink()
    (ptbxl / "records500/00000/00001_hr.hea").unlink()
    (missing,) = missing_files(source, source.records())
    assert "ptbxl-1" in str(missing)


def test_the_layout_check_says_what_is_missing_and_where_to_get_it(ptbxl, tmp_path):
    (ptbxl / "scp_statements.csv").unlink()
    with pytest.raises(DataError) as error:
        list(PtbXl(str(ptbxl), rate=100).records())
    assert "scp_statements.csv" in str(error.value)
    assert "records100" in str(error.value)
    assert "https://physionet.org/content/ptb-xl/" in str(error.value)
    with pytest.raises(DataError, match="the folder of MIMIC-IV-ECG"):
        list(MimicIvEcg(str(tmp_path / "nowhere")).records())


def test_mimic(tmp_path):
    rows = [
        {"subject_id": 10000032, "study_id": study, "file_name": study, "ecg_time": when,
         "path": f"files/p1000/p10000032/s{study}/{study}"}
        for study, when in ((40689238, "2180-07-23 08:44:00"), (44458630, "2180-05-07 11:00:00"))
    ]  # fmt: skip
    write_csv(tmp_path / "record_list.csv", rows)
    lines = {f"report_{i}": "" for i in range(18)} | {"report_0": "Sinus rhythm", "report_1": "Borderline ECG"}
    write_csv(tmp_path / "machine_measurements.csv", [{"subject_id": 10000032, "study_id": 40689238, **lines}])
    write_csv(
        tmp_path / "hosp/patients.csv",
        [{"subject_id": 10000032, "gender": "F", "anchor_age": 52, "anchor_year": 2180}],
    )
    for row in rows:
        wfdb(tmp_path / row["path"])
    source = MimicIvEcg(str(tmp_path), patients=str(tmp_path / "hosp/patients.csv"))
    first, second = source.records()
    assert (first.id, second.id) == ("mimic-44458630", "mimic-40689238")
    assert second.report == "Sinus rhythm; Borderline ECG"
    assert first.report is None
    assert (second.sex, second.age, second.earlier) == ("female", 52, first.ecg)
    assert list(missing_files(source, source.records())) == []


def test_cinc_headers_and_origins(tmp_path):
    comments = ("# Age: 74", "# Sex: Male", "# Dx: 59118001,426783006,1234567", "# Rx: Unknown")
    wfdb(tmp_path / "training/cpsc_2018/g1/A0001", comments)
    wfdb(tmp_path / "training/georgia/g1/E00001", ("#Age: NaN", "#Sex: Female", "#Dx: 426177001"))
    everything = list(Cinc(str(tmp_path)).records())
    assert [r.id for r in everything] == ["A0001", "E00001"]
    assert everything[0].report == "right bundle branch block; sinus rhythm; SNOMED CT 1234567"
    assert (everything[0].age, everything[0].sex) == (74, "male")
    (georgia,) = Cinc(str(tmp_path), prefix="georgia", origin=("E",)).records()
    assert (georgia.age, georgia.sex, georgia.ecg) == (None, "female", "georgia/training/georgia/g1/E00001")
    with pytest.raises(DataError, match=r"begin with JS"):
        list(Cinc(str(tmp_path), origin=("JS",)).records())
    assert snomed_term("164889003") == "atrial fibrillation"


def test_real_cinc_headers(shared_data):
    records = list(Cinc(str(shared_data / "cinc2021")).records())
    assert len(records) == 25
    assert all(r.report and "SNOMED" not in r.report for r in records)


def test_cpsc(shared_data, tmp_path):
    for path in (shared_data / "cpsc2018").glob("*.mat"):
        shutil.copy(path, tmp_path)
    rows = [{"Recording": "A1980", "First_label": 5, "Second_label": 2, "Third_label": ""}]
    write_csv(tmp_path / "REFERENCE.csv", rows)
    records = list(Cpsc2018(str(tmp_path)).records())
    assert len(records) == 5
    assert records[0].report == "right bundle branch block; atrial fibrillation"
    assert records[1].report is None


def test_chapman_as_first_published(tmp_path):
    first = {"FileName": "MUSE_20180113_171327_27000", "Rhythm": "AFIB", "Beat": "RBBB TWC", "PatientAge": 85,
             "Gender": "MALE", "VentricularRate": 117}  # fmt: skip
    second = first | {"FileName": "MUSE_2", "Rhythm": "SA", "Beat": "NONE", "PatientAge": 59, "Gender": "FEMALE"}
    pd.DataFrame([first, second]).to_excel(tmp_path / "Diagnostics.xlsx", index=False)
    names = {"AFIB": "Atrial Fibrillation", "SI": "Sinus Irregularity "}
    rhythms = pd.DataFrame({"Acronym Name": names.keys(), "Full Name": names.values()})
    rhythms.to_excel(tmp_path / "RhythmNames.xlsx", index=False)
    conditions = pd.DataFrame([{" Acronym Name": " RBBB", "Full Name": "right bundle branch block"}])
    conditions.to_excel(tmp_path / "ConditionNames.xlsx", index=False)
    with pytest.raises(DataError, match=r"ECGData.zip, unpacked.*figshare"):
        list(Chapman(str(tmp_path)).records())
    leads = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
    raw = np.random.default_rng(0).integers(-900, 900, (5000, 12))
    (tmp_path / "ECGData").mkdir()
    table = "\n".join([",".join(leads), *(",".join(map(str, row)) for row in raw)])
    (tmp_path / "ECGData" / f"{first['FileName']}.csv").write_text(table)
    source = Chapman(str(tmp_path))
    one, two = source.records()
    assert (one.report, one.codes) == (
        "atrial fibrillation; right bundle branch block; twc", ("AFIB", "RBBB", "TWC"),
    )  # fmt: skip
    assert (one.age, one.sex, two.sex, two.report) == (85, "male", "female", "sinus irregularity")
    record = RecordRef.parse(one.ecg, one.format).mapped(source.paths).read()
    assert record.fs == 500
    assert np.allclose(record.signal, raw.T / 1000, atol=1e-6)
    (missing,) = missing_files(source, source.records())
    assert "MUSE_2" in str(missing)
    (tmp_path / "RhythmNames.xlsx").write_bytes(b"no workbook")
    with pytest.raises(DataError, match="Excel workbook"):
        list(source.records())


def test_code15(tmp_path, caplog):
    row = {"exam_id": 1169160, "age": 38, "is_male": "True", "1dAVb": "True", "RBBB": "False", "LBBB": "False",
           "SB": "False", "ST": "False", "AF": "True", "patient_id": 523632, "normal_ecg": "False",
           "trace_file": "exams_part13.hdf5"}  # fmt: skip
    write_csv(tmp_path / "exams.csv", [row, row | {"exam_id": 2, "trace_file": "exams_part14.hdf5"}])
    tracings = np.zeros((3, 4096, 12), np.float32)  # exams, samples, leads; the last row of a part is padding
    truth = simulate("sinus", seed=3, fs=400, snr_db=30).record.signal[:, :3600]
    tracings[1, 248:3848] = truth.T
    with h5py.File(tmp_path / "exams_part13.hdf5", "w") as file:
        file["tracings"], file["exam_id"] = tracings, np.array([5, 1169160, 0])
    source = Code15(str(tmp_path))
    (record,) = source.records()
    assert record.ecg == "code15/exams_part13.hdf5::1169160"
    assert (record.sex, record.report) == ("male", "first-degree AV block; atrial fibrillation")
    assert "1 recordings are skipped" in caplog.text
    assert "exams_part14.hdf5; download them from https://zenodo.org" in caplog.text
    (sample,) = Pipeline(paths=source.paths, gate=Gate(report_rules=False))(record.to_item())
    assert sample["status"] == "accepted"
    read = RecordRef.parse(record.ecg).mapped(source.paths).read()
    assert read.samples == 4500  # 3,600 samples of 400 Hz at 500 Hz
    with pytest.raises(EcgReadError, match=r"expected an exam_id of exams_part13.hdf5, got 77, not one of 3"):
        RecordRef.parse("code15/exams_part13.hdf5::77").mapped(source.paths).read()
    (tmp_path / "exams_part13.hdf5").write_bytes(b"no HDF5")
    with pytest.raises(EcgReadError, match="HDF5 part of CODE-15"):
        RecordRef.parse(record.ecg).mapped(source.paths).read()


def test_folders_lists_and_tables(tmp_path):
    wfdb(tmp_path / "a/one")
    (tmp_path / "b.npz").touch()
    (tmp_path / "notes.md").touch()
    assert [r.id for r in RecordFiles(str(tmp_path)).records()] == ["a/one", "b.npz"]
    (tmp_path / "list.txt").write_text("# mine\na/one.hea\n\nb.npz\n/elsewhere/c.npz\n")
    listed = [r.ecg for r in RecordFiles(str(tmp_path / "list.txt")).records()]
    assert listed == [f"{tmp_path.name}/a/one", f"{tmp_path.name}/b.npz", "/elsewhere/c.npz"]
    rows = [{"file": "a/one", "pid": 7, "sex": "F", "years": 61, "note": "Sinus rhythm."}]
    write_csv(tmp_path / "table.csv", rows)
    columns = {"ecg": "file", "patient": "pid", "age": "years", "report": "note"}
    source = RecordFiles(str(tmp_path / "table.csv"), columns=columns)
    (record,) = source.records()
    assert record == SourceRecord(
        "a/one", f"{tmp_path.name}/a/one", patient="7", age=61, sex="female", report="Sinus rhythm."
    )
    assert source.paths == {tmp_path.name: str(tmp_path)}
    assert SourceRecord.from_item(record.to_item()) == record


def test_tables_that_do_not_fit_are_refused_with_their_columns(tmp_path):
    rows = [{"file": "a/one", "pid": 7, "when": "2021", "note": "Sinus rhythm."}]
    rows.append(rows[0] | {"file": "a/two", "when": "2019"})
    write_csv(tmp_path / "table.csv", rows)

    def read(**columns):
        return list(RecordFiles(str(tmp_path / "table.csv"), columns=columns).records())

    with pytest.raises(DataError, match="a column named ecg or path, got file, pid, when, note"):
        read()
    with pytest.raises(DataError, match=r"nope \(for patient\), got file"):
        read(ecg="file", patient="nope")
    with pytest.raises(DataError, match=r"expected source\.columns of id, ecg.*got pateint"):
        read(ecg="file", pateint="pid")
    older, newer = read(ecg="file", patient="pid", recorded="when")
    assert (older.id, newer.earlier) == ("a/two", older.ecg)  # by time, not by row
    (tmp_path / "table.csv").write_bytes("path;näme\n".encode("latin-1"))
    with pytest.raises(DataError, match="a CSV file in UTF-8"):
        read(ecg="file")
    (tmp_path / "table.parquet").write_bytes(b"no table")
    with pytest.raises(DataError, match="a Parquet file"):
        list(RecordFiles(str(tmp_path / "table.parquet")).records())
    np.savetxt(tmp_path / "signal.csv", np.zeros((9, 12)), delimiter=",", header=",".join("abcdefghijkl"), comments="")
    assert [r.id for r in RecordFiles(str(tmp_path / "signal.csv")).records()] == ["signal.csv"]


def test_odd_values_of_a_table(tmp_path):
    lines = ("path;age;sex;report;split", "a;-5;weiblich; ;dev", "b;61,5;M;NaN;training", "c;300;f;AF;")
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    a, b, c = RecordFiles(str(tmp_path / "t.csv")).records()
    assert (a.age, a.sex, a.report, a.split) == (None, "female", None, "val")
    assert (b.age, b.sex, b.report, b.split) == (None, "male", None, "train")
    assert (c.age, c.sex, c.report, c.split) == (None, "female", "AF", None)
    (tmp_path / "t.csv").write_text("path,split\na,../../etc\n")
    with pytest.raises(DataError, match=r"a split among train, val, test.*got '\.\./\.\./etc'"):
        list(RecordFiles(str(tmp_path / "t.csv")).records())


@pytest.mark.parametrize(
    ("written", "sex"),
    [
        ("F", "female"), (" w ", "female"), ("Woman", "female"), ("weiblich", "female"), ("male", "male"),
        ("männlich", "male"), ("", None), (None, None), (float("nan"), None), (0, None),
    ],
)  # fmt: skip
def test_sex_in_the_ways_data_sets_write_it(written, sex):
    assert normalise_sex(written) == sex


def test_what_the_data_set_says_of_a_person_comes_before_the_recording():
    meta = {"age": 50, "sex": "F"}
    assert replace(SourceRecord("a", None), age=0.0, sex="male").completed(meta) == SourceRecord(
        "a", None, age=0.0, sex="male"
    )
    assert SourceRecord("a", None).completed(meta) == SourceRecord("a", None, age=50, sex="female")
    assert SourceRecord("a", None).completed({}) == SourceRecord("a", None)


def test_files_that_do_not_hold_their_rate_are_told_it(tmp_path):
    truth = simulate("sinus", seed=4, snr_db=30).record
    for name in ("a", "b"):
        np.save(tmp_path / f"{name}.npy", truth.signal[::-1] * 1000)  # uV, from V6 to I
    leads = list(truth.leads[::-1])
    source = RecordFiles(str(tmp_path), fs=500, units="uV", leads=leads)
    record = next(source.records())
    (row,) = Pipeline(paths=source.paths)(record.to_item())
    assert row["status"] == "accepted"
    sample = InstructionSample.from_dict(row["sample"]).mapped(source.paths)
    assert sample.ecg_format == f"?fs=500&units=uV&leads={','.join(leads)}"
    read = sample.read_record()  # the sample carries on what the file does not hold
    assert np.allclose(read.signal, truth.signal, atol=1e-4)
    for wrong, words in (("npy?rate=500", "fs, units and leads"), ("npy?fs=fast", "sampling rate in Hz")):
        with pytest.raises(EcgReadError, match=words):
            RecordRef(str(tmp_path / "a.npy"), wrong).read()


def test_places_without_records(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "samples.jsonl").touch()
    for place, words in (
        ("empty", "expected recordings"),
        ("gone", "got nothing"),
        ("samples.jsonl", "source=samples"),
    ):
        with pytest.raises(DataError, match=words):
            list(RecordFiles(str(tmp_path / place)).records())
    wfdb(tmp_path / "a/one")
    (record,) = RecordFiles(str(tmp_path / "a/one")).records()
    assert (record.id, record.ecg) == ("one", "a/one")


def test_a_public_table_without_a_column_or_with_a_broken_row(ptbxl):
    table = ptbxl / "ptbxl_database.csv"
    whole = table.read_text()
    table.write_text(whole.replace("strat_fold", "fold"))
    with pytest.raises(DataError, match=r"PTB-XL: expected a column 'strat_fold'.*physionet"):
        list(PtbXl(str(ptbxl)).records())
    table.write_text(whole.replace("15709.0", "none"))
    with pytest.raises(DataError, match=r"a row of its tables cannot be read .*'none'"):
        list(PtbXl(str(ptbxl)).records())


def test_samples_keep_patient_and_split_and_find_their_folders(tmp_path):
    turns = [{"from": "human", "value": "<image>\nRead."}, {"from": "gpt", "value": "AF."}]
    ecgs = ("mimic-iv/files/p1000/p10000032/s1/1", "mimic-iv/files/p1000/p10000032/s2/2", "ptbxl/records500/1_hr")
    rows = [InstructionSample(f"s{i}", turns, ecg=ecg) for i, ecg in enumerate(ecgs)]
    rows.append(InstructionSample("own", turns, ecg="a/b", metadata={"patient": "p7", "split": "test"}))
    rows.append(InstructionSample("picture only", turns, image="a.png"))
    write_samples(rows, tmp_path / "data.jsonl")
    (tmp_path / "paths.json").write_text('{"mimic-iv": "/noted", "a": "/noted"}')
    source = SampleFiles(samples=str(tmp_path / "data.jsonl"), folders={"a": str(tmp_path)})
    assert source.paths == {"mimic-iv": "/noted", "a": str(tmp_path)}
    source = SampleFiles(samples=str(tmp_path / "data.jsonl"), folders={"a": str(tmp_path), "mimic-iv": str(tmp_path)})
    records = list(source.records())
    assert [r.patient for r in records] == ["mimic-10000032", "mimic-10000032", ecgs[2], "p7", None]
    assert records[3].split == "test"
    assert all(r.earlier is None for r in records)  # their order says nothing of time
    assert SourceRecord.from_item(records[4].to_item()) == records[4]


def test_published_samples_keep_everything_and_doubled_ids_are_told_apart(tmp_path):
    rows = [
        {"id": "x", "ecg": "mimic-iv/1", "image": "i.png", "conversations": [], "report": "AF"},
        {"id": "x", "ecg": "mimic-iv/1", "image": "i.png", "conversations": []},
    ]
    write_samples([InstructionSample.from_dict(r) for r in rows], tmp_path / "ECG_Grounding_30k.json")
    source = SampleFiles(samples=str(tmp_path / "ECG_Grounding_30k.json"), folders={"mimic-iv": str(tmp_path)})
    records = list(source.records())
    assert [r.id for r in records] == ["x", "x~1"]
    assert records[0].sample == rows[0]
    assert next(source.open()).ecg == f"{tmp_path}/1"


def test_pictures_that_the_file_carries_are_not_missing(tmp_path):
    turns = [{"from": "human", "value": "<image>\nRead."}, {"from": "gpt", "value": "AF."}]
    rows = [InstructionSample("in", turns, image="a.png", image_bytes=b"png")]
    rows.append(InstructionSample("beside", turns, image="b.png"))
    rows.append(InstructionSample("there", turns, image="c.png"))
    write_samples(rows, tmp_path / "data.parquet")
    (tmp_path / "c.png").touch()
    source = SampleFiles(str(tmp_path), samples=str(tmp_path / "data.parquet"))
    assert [str(m) for m in missing_files(source, source.records())] == [
        f"image of beside (looked for {tmp_path}/b.png)"
    ]


def test_simulated_records_read_back_from_their_reference():
    source = Simulated(n=3, seed=5, diagnoses=["sinus", "rbbb"], snr_db=25)
    records = list(source.records())
    assert [r.codes for r in records] == [("sinus",), ("rbbb",), ("sinus",)]
    ref = RecordRef.parse(records[1].ecg)
    assert ref.read().signal.shape == (12, 5000)
    assert np.array_equal(ref.read().signal, RecordRef.parse(str(ref)).read().signal)
