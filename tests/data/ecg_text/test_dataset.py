"""Pairs of ECG and text from tables, public layouts and the simulator; labels; tokens."""

import json

import numpy as np
import pandas as pd
import pytest

from gem_lightning.data.ecg_text.collate import (
    EcgTextCollator,
    encode_texts,
    load_tokenizer,
    some_sentences,
    tokenizer_for,
    train_tokenizer,
)
from gem_lightning.data.ecg_text.dataset import EcgText, EcgTextDataset, EcgTextTable, open_pairs, split_of
from gem_lightning.data.ecg_text.labels import LabelSet, label_set
from gem_lightning.errors import DataError

ROWS = [
    {"ecg": "simulate:sinus::1", "text": "Sinus rhythm at 70 bpm.", "patient": "a", "codes": ["normal_ecg"]},
    {"ecg": "simulate:rbbb::2", "text": "Right bundle branch block.", "patient": "b", "codes": ["rbbb", "wide_qrs"]},
    {"ecg": "simulate:rbbb::3", "text": " ", "patient": "b", "codes": []},
]


def write(rows, path):
    if path.suffix == ".jsonl":
        path.write_text("\n".join(json.dumps(row) for row in rows))
    elif path.suffix == ".parquet":
        pd.DataFrame(rows).to_parquet(path)
    else:
        pd.DataFrame([row | {"codes": ";".join(row["codes"])} for row in rows]).to_csv(path, index=False)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_tables_give_equal_pairs_and_leave_out_empty_texts(tmp_path, suffix):
    write(ROWS, tmp_path / f"pairs{suffix}")
    table = open_pairs(tmp_path / f"pairs{suffix}")
    assert [pair.text for pair in table] == ["Sinus rhythm at 70 bpm.", "Right bundle branch block."]
    assert table[1].codes == ("rbbb", "wide_qrs")
    assert table[1].patient == "b"
    assert table[0].split == split_of("a")


def test_paths_are_relative_to_the_table_and_columns_can_be_named(tmp_path):
    pd.DataFrame({"where": ["sub/1.hea"], "befund": ["Normal."]}).to_csv(tmp_path / "t.csv", index=False)
    table = open_pairs(tmp_path / "t.csv", columns={"ecg": "where", "text": "befund"})
    assert table[0].ecg == str(tmp_path / "sub/1.hea")
    with pytest.raises(DataError, match="column for ecg and text, got where, befund"):
        open_pairs(tmp_path / "t.csv")


def test_ptbxl_layout_is_recognised_with_its_folds(tmp_path):
    statements = pd.DataFrame(
        [
            ("NORM", "normal ECG", 1, None, None, "NORM", "NORM"),
            ("IMI", "inferior myocardial infarction", 1, None, None, "MI", "IMI"),
            ("SR", "sinus rhythm", None, None, 1, None, None),
            ("PVC", "ventricular premature complex", None, 1, None, None, None),
        ],
        columns=["", "description", "diagnostic", "form", "rhythm", "diagnostic_class", "diagnostic_subclass"],
    )
    statements.to_csv(tmp_path / "scp_statements.csv", index=False)
    rows = [
        {
            "ecg_id": i, "patient_id": 10 + i, "recording_date": f"2000-01-0{i}", "age": 50, "sex": 1,
            "report": f"befund {i}", "scp_codes": codes, "strat_fold": fold, "filename_hr": f"records500/{i}_hr",
            "filename_lr": f"records100/{i}_lr",
        }
        for i, codes, fold in [(1, "{'NORM': 100.0, 'SR': 0.0}", 1), (2, "{'IMI': 50.0}", 9), (3, "{'PVC': 100}", 10)]
    ]  # fmt: skip
    pd.DataFrame(rows).to_csv(tmp_path / "ptbxl_database.csv", index=False)
    (tmp_path / "records500").mkdir()
    table = open_pairs(tmp_path)
    assert table.column("split") == ["train", "val", "test"]
    assert table[0].ecg == str(tmp_path / "records500/1_hr")
    codes = table.column("codes")
    found = label_set("ptbxl_super", tmp_path)
    assert found.labels == ("MI", "NORM")
    assert found.matrix(codes).tolist() == [[0, 1], [1, 0], [0, 0]]
    assert found.prompts["MI"] == ("myocardial infarction",)
    assert label_set("ptbxl_rhythm", tmp_path).matrix(codes).tolist() == [[1], [0], [0]]
    assert label_set("ptbxl_form", tmp_path).labels == ("PVC",)
    assert label_set("ptbxl_sub", tmp_path).prompts["IMI"] == ("inferior myocardial infarction",)


def test_mimic_layout_is_recognised_with_the_device_statements(tmp_path):
    pd.DataFrame(
        {"subject_id": [7], "study_id": [40], "file_name": [40], "ecg_time": ["2180-01-01"], "path": ["files/p7/40"]}
    ).to_csv(tmp_path / "record_list.csv", index=False)
    pd.DataFrame(
        {"subject_id": [7], "study_id": [40], "report_0": ["Sinus rhythm"], "report_1": ["Normal ECG"]}
    ).to_csv(tmp_path / "machine_measurements.csv", index=False)
    (tmp_path / "files").mkdir()
    (pair,) = open_pairs(tmp_path)
    assert pair.text == "Sinus rhythm; Normal ECG"
    assert pair.patient == "mimic-7"
    assert pair.ecg == str(tmp_path / "files/p7/40")


def test_real_cinc_headers_give_csn_labels(shared_data):
    from gem_lightning.sources.public import Cinc

    table = open_pairs(Cinc(root=str(shared_data / "cinc2021"), origin=("JS",)))
    assert len(table) == 10
    found = label_set("csn", codes=table.column("codes"), minimum=1)
    assert found.matrix(table.column("codes")).sum(axis=1).min() >= 1
    item = EcgTextDataset(table, label_set=found)[0]
    assert item["ecg"].shape == (12, 5000)
    assert 0.2 < np.abs(item["ecg"]).max() < 10  # mV


def test_simulated_cohort_is_a_source(tmp_path):
    from gem_lightning.data.cohort import SimulatedCohort

    table = open_pairs(SimulatedCohort(tmp_path, n=4, seed=5, diagnoses=("sinus", "rbbb"), workers=1))
    assert len(table) == 4
    assert "rbbb" in table[1].codes
    assert EcgTextDataset(table)[2]["ecg"].shape == (12, 5000)


def test_unknown_layout_and_empty_split(tmp_path):
    with pytest.raises(DataError, match="folder of PTB-XL or MIMIC"):
        open_pairs(tmp_path)
    table = EcgTextTable([EcgText("1", "simulate:sinus::1", "x", "p", (), "train")])
    assert len(table[:0]) == 0
    with pytest.raises(DataError, match="split 'test'"):
        table.split("test")


def test_splits_are_stable_disjoint_by_patient_and_of_the_asked_size():
    found = [split_of(str(i)) for i in range(4000)]
    assert found[:3] == [split_of(str(i)) for i in range(3)]
    assert found.count("test") / 4000 == pytest.approx(0.1, abs=0.02)
    assert found.count("val") / 4000 == pytest.approx(0.05, abs=0.015)


def test_dataset_resamples_to_the_encoder_and_names_broken_records():
    table = EcgTextTable([EcgText("x", "simulate:sinus::1", "x", "p", (), "train")])
    signal = EcgTextDataset(table, samples=2500, fs=250)[0]["ecg"]
    full = EcgTextDataset(table)[0]["ecg"]
    assert signal.shape == (12, 2500)
    assert np.corrcoef(signal[1], full[1, ::2])[0, 1] > 0.98
    broken = EcgTextTable([EcgText("case 9", "/nowhere/1.hea", "x", "p", (), "train")])
    with pytest.raises(DataError, match="pair 'case 9'"):
        EcgTextDataset(broken)[0]


def test_label_set_needs_prompts_and_known_tasks(tmp_path):
    with pytest.raises(DataError, match="got none for \\['b'\\]"):
        LabelSet("t", ("a", "b"), {"a": ("A",)})
    with pytest.raises(DataError, match="got 'ptb'"):
        label_set("ptb")
    with pytest.raises(DataError, match=r"scp_statements\.csv"):
        label_set("ptbxl_super", tmp_path)
    assert len(label_set("cpsc2018").labels) == 9
    assert label_set("code15").labels[-1] == "normal ECG"
    occurring = label_set("simulated", codes=[["av_block_1"]] * 3 + [["rbbb"]], minimum=2)
    assert occurring.labels == ("av_block_1",)
    assert occurring.prompts["av_block_1"] == ("first-degree AV block",)


def test_tokenizer_splits_numbers_pads_with_zero_and_survives_saving(tmp_path):
    texts = ["Sinus rhythm at 70 bpm. QRS 84 ms.", "Atrial fibrillation at 112 bpm."]
    tokenizer = train_tokenizer(texts, 200)
    assert tokenizer.tokenize("at 1120") == ["at", "1", "1", "2", "0"]
    batch = encode_texts(tokenizer, texts)
    assert batch["input_ids"][1, -1] == tokenizer.pad_token_id == 0
    assert batch["attention_mask"].sum(1).tolist() == (batch["input_ids"] != 0).sum(1).tolist()
    first = tokenizer_for(None, texts, 200, tmp_path / "t")
    again = tokenizer_for(None, ["other"], 200, tmp_path / "t")  # a resumed run keeps its words
    assert first.get_vocab() == again.get_vocab() == tokenizer.get_vocab()
    assert encode_texts(tokenizer, ["a b c d e f"], 4)["input_ids"].shape == (1, 4)
    with pytest.raises(DataError, match="expected a tokenizer"):
        load_tokenizer(tmp_path)


def test_some_sentences_keep_order_and_at_least_one():
    text = "One 1.5 mV. Two. Three; four."
    kept = [some_sentences(text, 0.5, np.random.default_rng(i)) for i in range(200)]
    assert "One 1.5 mV. Three; four." in kept
    assert min(map(len, kept)) == len("Two.")
    assert not [t for t in kept if "Two. One" in t]
    assert {some_sentences(text, 0.0, np.random.default_rng(i)) for i in range(50)} >= {"Two.", "Three;"}


def test_collator_is_a_function_of_epoch_and_index():
    items = [
        {"ecg": np.zeros((12, 10), np.float32), "text": "A b. C d. E f.", "index": i, "epoch": 3, "targets": np.ones(2)}
        for i in range(4)
    ]
    tokenizer = train_tokenizer(["A b. C d. E f."], 100)
    collate = EcgTextCollator(tokenizer, keep_sentences=0.5, seed=1)
    one, two = collate(items), collate(items[2:])
    length = two["input_ids"].shape[1]
    assert one["input_ids"][2:, :length].tolist() == two["input_ids"].tolist()
    assert one["ecg_values"].shape == (4, 12, 10)
    assert one["targets"].shape == (4, 2)
    assert one["index"].tolist() == [0, 1, 2, 3]
