"""Data sets opened in every form, looked through, mixed, and asked in other words."""

import io
import json
import os
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from gem_lightning.data import InstructionDataset, Mixture, ShardReader, open_samples, write_shards
from gem_lightning.data.datasets import QuestionTemplates
from gem_lightning.errors import DataError
from gem_lightning.generation.validate import DataValidator
from gem_lightning.render import EcgRenderer
from gem_lightning.samples.io import read_samples, write_samples
from gem_lightning.samples.sample import InstructionSample


def sample(i, answer="Sinus rhythm.", **more):
    turns = [{"from": "human", "value": "<image>\nRead this."}, {"from": "gpt", "value": answer}]
    return InstructionSample(f"s{i}", turns, ecg=f"simulate:sinus?snr_db=25::{i}", **more)


def png(shade):
    buffer = io.BytesIO()
    Image.fromarray(np.full((40, 60, 3), shade, np.uint8)).save(buffer, format="PNG")
    return buffer.getvalue()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".parquet"])
def test_every_kind_of_file_by_index(tmp_path, cache, suffix):
    made = [sample(i, metadata={"kind": "value"}, machine_measurements={"I": [i]}) for i in range(600)]
    write_samples(made, tmp_path / f"data{suffix}")
    opened = open_samples(tmp_path / f"data{suffix}")
    assert len(opened) == 600
    assert [opened[i] for i in (0, 255, 256, -1)] == [made[i] for i in (0, 255, 256, -1)]
    assert opened[3:5] == made[3:5]
    with pytest.raises(IndexError):
        opened[600]


def test_parquet_with_stored_pictures_trains_checks_and_becomes_shards(tmp_path, cache, tiny_gem):
    made = [sample(i, image="a.png", image_bytes=png(40 * i)) for i in range(3)]
    write_samples(made, tmp_path / "data.parquet")
    dataset = InstructionDataset(Mixture(tmp_path / "data.parquet"), tiny_gem.processor)
    assert dataset.example(2)["image"][0, 0, 0] == 80
    assert dataset[(0, 1)]["pixel_values"][0].shape[0] == 1
    found = DataValidator(str(tmp_path / "data.parquet"), texts=False).validate(workers=0)
    assert {f["kind"] for f in found.faults} == {"image_mismatch"}  # grey paper shows no trace
    write_shards(tmp_path / "data.parquet", tmp_path / "shards", workers=0)
    assert ShardReader(tmp_path / "shards")[2].image_bytes == made[2].image_bytes
    os.utime(tmp_path / "data.parquet", (1, 1))
    open_samples(tmp_path / "data.parquet")
    assert len(list(cache.rglob("*.arrow"))) == 2  # a file that changed is unpacked anew


def test_what_holds_no_samples_is_refused_with_what_could_be_meant(tmp_path):
    write_samples([sample(0)], tmp_path / "run" / "train.jsonl")
    write_shards({"val": tmp_path / "run" / "train.jsonl"}, tmp_path / "shards", workers=0)
    for source, words in (
        (11, "a file or shards of samples, or samples, got 11"),
        (tmp_path / "run", r"the folder .*run; name one of .*run/train\.jsonl"),
        (tmp_path / "shards", r"the folder .*shards; name one of .*shards/val"),
        (tmp_path, "make them with stage=shards"),
    ):
        with pytest.raises(DataError, match=words):
            open_samples(source)


def test_the_hub_s_image_column(tmp_path, cache):
    import pyarrow as pa
    import pyarrow.parquet as pq

    row = {"id": 1, "image": {"bytes": png(9), "path": "x.png"}, "conversations": json.dumps(sample(0).conversations)}
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "hub.parquet")
    (streamed,) = read_samples(tmp_path / "hub.parquet")
    assert streamed == open_samples(tmp_path / "hub.parquet")[0]
    assert streamed.image_bytes == png(9)


def test_missing_files_stop_or_are_left_out(tmp_path):
    (tmp_path / "there.png").write_bytes(png(1))
    made = [
        sample(0, image="there.png"),
        sample(1, image="none.png"),
        replace(sample(2), ecg="nowhere/r2"),
        sample(3),
    ]
    write_samples(made, tmp_path / "data.jsonl")
    folders = {"": str(tmp_path)}
    with pytest.raises(DataError, match=r"2 samples have no file: s1: .*none.png; s2: .*nowhere/r2.*unreadable=skip"):
        Mixture(tmp_path / "data.jsonl", paths=folders)
    mixture = Mixture(tmp_path / "data.jsonl", paths=folders, unreadable="skip")
    assert [s.id for s in mixture] == ["s0", "s3"]
    assert "data 2 x 1 (2 without their files left out)" in mixture.report()
    drawn = Mixture(tmp_path / "data.jsonl", paths=folders, unreadable="skip", draw="always")
    assert [s.id for s in drawn] == ["s0", "s1", "s3"]
    with pytest.raises(DataError, match="stop or skip"):
        Mixture([sample(1)], unreadable="ignore")


def test_several_by_weight(tmp_path):
    one, two = [sample(i) for i in range(4)], [sample(i, "A much longer answer. " * 9) for i in range(4, 10)]
    mixture = Mixture({"short": one, "long": two}, weights={"long": 2})
    assert [s.id for s in mixture] == [f"s{i}" for i in range(10)]
    assert mixture.lengths[3] < mixture.lengths[4]
    assert sorted(mixture.order(0)(0)) == sorted([*range(4), *range(4, 10), *range(4, 10)])
    assert "short 4 x 1, long 6 x 2" in mixture.report()
    with pytest.raises(DataError, match="expected weights of short, long, got lang"):
        Mixture({"short": one, "long": two}, weights={"lang": 2})


def test_shards_keep_their_contract(tmp_path):
    write_samples([sample(i) for i in range(3)], tmp_path / "data.jsonl")
    write_shards(tmp_path / "data.jsonl", tmp_path / "shards", contract="gem", workers=0)
    assert len(Mixture(tmp_path / "shards", contract="gem")) == 3
    with pytest.raises(DataError, match="contract=gem, got contract=clean"):
        Mixture(tmp_path / "shards")


def test_a_sample_that_breaks_later_stops_or_gives_way(tmp_path, tiny_gem, caplog):
    samples = Mixture([sample(0), replace(sample(1), ecg="simulate:no such rhythm::1"), sample(2)])
    renderer = EcgRenderer(size=(336, 435))
    with pytest.raises(DataError, match="'s1'"):
        InstructionDataset(samples, tiny_gem.processor, renderer)[1]
    dataset = InstructionDataset(samples, tiny_gem.processor, renderer, unreadable="skip")
    assert dataset[1]["id"] == "s2"
    assert "s1" in caplog.text
    broken = Mixture([replace(sample(1), ecg="simulate:no such rhythm::1")])
    with pytest.raises(DataError, match="16 samples in a row"):
        InstructionDataset(broken, tiny_gem.processor, unreadable="skip")[0]


def test_questions_in_other_words(tiny_gem):
    kinds = QuestionTemplates({"interpretation": ["Interpret.", "A {age}-year-old. {question}"]})
    asked = sample(0, metadata={"kind": "interpretation", "age": 61})
    words = {kinds(asked, np.random.default_rng(i))[0]["value"] for i in range(20)}
    assert words == {"<image>\nInterpret.", "<image>\nA 61-year-old. Read this."}
    assert kinds(sample(0, metadata={"kind": "value"}), np.random.default_rng(0)) == sample(0).conversations
    with pytest.raises(DataError, match=r"'sex'; this sample has: question, kind, age"):
        QuestionTemplates("{sex}")(asked, np.random.default_rng(0))
    dataset = InstructionDataset(Mixture([sample(0)]), tiny_gem.processor, question=["One?", "Two, and longer?"])
    lengths = [len(dataset[(epoch, 0)]["input_ids"]) for epoch in range(8)]
    assert len(set(lengths)) == 2
    assert lengths == [len(dataset[(epoch, 0)]["input_ids"]) for epoch in range(8)]
