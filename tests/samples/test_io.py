import json
import pickle

import pytest

from gem_lightning.errors import DataError
from gem_lightning.samples.io import (
    InstructionSample,
    RecordRef,
    SampleFile,
    files_of_run,
    map_path,
    read_samples,
    write_samples,
)

ORIGINAL = {
    "id": "mimic-40689238",
    "image": "gen_images/mimic_gen/40689238-0.png",
    "ecg": "mimic-iv/files/p1000/p10000032/s40689238/40689238",
    "conversations": [
        {"from": "human", "value": '<image>\nInterpret this "ECG" [carefully] {please}.'},
        {"from": "gpt", "value": "Sinus rhythm, QRS 92 ms — aVR′ \\ normal."},
    ],
    "machine_measurements": {"Lead I": {"QRS_duration": "92, 104"}},
    "report": "Sinus rhythm.",
}


def variants(n):
    for i in range(n):
        yield {**ORIGINAL, "id": i if i % 2 else f"s{i}", "extra": {"fold": i}}


def test_json_objects_round_trip_exactly():
    assert InstructionSample.from_dict(ORIGINAL).to_dict() == ORIGINAL
    odd = {"question_id": 7, "conversations": [], "report": None, "category": "x"}
    sample = InstructionSample.from_dict(odd)
    assert sample.id == 7
    assert sample.metadata == {"question_id": 7, "report": None, "category": "x"}
    assert sample.to_dict() == {"id": 7, **odd}


@pytest.mark.parametrize(
    "wrong",
    [
        {"conversations": "oops"},
        {"conversations": [{"from": "human"}]},
        {"conversations": [{"from": "gpt", "value": None}]},
        {"conversations": {"from": "gpt", "value": "x"}},
        {"ecg": 40689238},
    ],
)
def test_what_is_no_sample_is_refused_with_its_id(wrong):
    with pytest.raises(DataError, match=r"sample 'mimic-40689238': expected (conversations as a list|ecg as the path)"):
        InstructionSample.from_dict(ORIGINAL | wrong)


def test_question_answer_and_record():
    sample = InstructionSample.from_dict(
        {**ORIGINAL, "ecg": "code15/exams_part0.hdf5::1169160", "ecg_format": "code15"}
    )
    assert sample.question.startswith("Interpret")
    assert sample.answer.startswith("Sinus rhythm")
    assert sample.record == RecordRef("code15/exams_part0.hdf5", "code15", "1169160")
    assert str(sample.record) == sample.ecg


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".parquet"])
def test_files_give_back_what_was_written(tmp_path, suffix):
    samples = [InstructionSample.from_dict(row) for row in variants(7)]
    path = tmp_path / f"data{suffix}"
    assert write_samples(samples, path) == 7
    back = list(read_samples(path))
    expected = [s.to_dict() for s in samples]
    if suffix == ".parquet":  # one column has one type: ids become text
        expected = [{**row, "id": str(row["id"])} for row in expected]
    assert [s.to_dict() for s in back] == expected
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("indent", [None, 4])
def test_random_access_costs_16_bytes_a_sample_and_survives_pickling(tmp_path, indent):
    rows = list(variants(50))
    path = tmp_path / "list.json"
    path.write_text(json.dumps(rows, indent=indent))
    samples = pickle.loads(pickle.dumps(SampleFile(path)))
    assert len(samples) == 50
    assert samples.spans.nbytes == 50 * 16
    assert [s.to_dict() for s in samples] == rows
    assert samples[-1].id == 49


def test_a_cut_off_list_and_a_bad_line_are_named(tmp_path):
    path = tmp_path / "cut.json"
    path.write_text(json.dumps(list(variants(3)))[:-20])
    with pytest.raises(DataError, match="truncated"):
        list(read_samples(path))
    lines = tmp_path / "bad.jsonl"
    lines.write_text(json.dumps(ORIGINAL) + "\n{not json}\n")
    with pytest.raises(DataError, match="byte"):
        list(read_samples(lines))
    with pytest.raises(DataError, match="conversations"):
        InstructionSample.from_dict({"id": 1, "conversations": [{"role": "user"}]})


def test_a_split_in_two_formats_is_not_chosen_by_us(tmp_path):
    for name in ("train.jsonl", "train.parquet", "val.jsonl"):
        (tmp_path / name).touch()
    with pytest.raises(DataError, match=r"one file of train samples in .*, got train\.jsonl and train\.parquet"):
        files_of_run(tmp_path)
    (tmp_path / "train.jsonl").unlink()
    found = files_of_run(tmp_path)
    assert found == {"train": str(tmp_path / "train.parquet"), "val": str(tmp_path / "val.jsonl")}


def test_writing_is_all_or_nothing(tmp_path):
    path = tmp_path / "data.json"
    write_samples([InstructionSample.from_dict(ORIGINAL)], path)
    before = path.read_bytes()

    def broken():
        yield InstructionSample.from_dict(ORIGINAL)
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        write_samples(broken(), path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["data.json"]


def test_paths_map_the_original_tree_onto_any_other():
    paths = {"mimic-iv": "/data/mimic", "mimic-iv/files/p1": "/fast", "": "/rest"}
    assert map_path("mimic-iv/files/p2/1", paths) == "/data/mimic/files/p2/1"
    assert map_path("mimic-iv/files/p1/1", paths) == "/fast/1"
    assert map_path("ptbxl/1", paths) == "/rest/ptbxl/1"
    assert map_path("/absolute/1", paths) == "/absolute/1"
    assert map_path("ptbxl/1", None) == "ptbxl/1"


def test_images_inside_parquet_arrive_as_bytes(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    row = {"id": "a", "image": {"bytes": b"png", "path": "a.png"}, "conversations": ORIGINAL["conversations"]}
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "bench.parquet")
    (sample,) = read_samples(tmp_path / "bench.parquet")
    assert (sample.image, sample.image_bytes) == ("a.png", b"png")
    assert sample.conversations == ORIGINAL["conversations"]
