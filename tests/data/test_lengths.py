"""Samples that are too long: found before anything is read, cut, left out or refused, and always counted."""

import logging

import numpy as np
import pytest

from gem_lightning.data import GemCollator, InstructionDataset, Mixture, write_shards
from gem_lightning.data.lengths import longer_than, settle_long_samples
from gem_lightning.errors import DataError
from gem_lightning.lit import InstructionDataModule
from gem_lightning.lit.data.instruction import SampleOptions
from gem_lightning.samples.io import write_samples
from gem_lightning.samples.sample import InstructionSample


def sample(i, words):
    turns = [{"from": "human", "value": "<image>\nRead this."}, {"from": "gpt", "value": "Sinus rhythm. " * words}]
    return InstructionSample(f"s{i}", turns, ecg=f"simulate:sinus?snr_db=25::{i % 3}")


SAMPLES = [sample(i, 30 if i % 5 == 2 else 1 + i % 3) for i in range(20)]
LONG = [2, 7, 12, 17]


@pytest.fixture
def dataset(tiny_gem):
    def make(source=SAMPLES, **options):
        return InstructionDataset(Mixture(source), tiny_gem.processor, **options)

    return make


def test_exactly_the_long_ones_are_found_and_the_short_ones_not_tokenised(dataset, monkeypatch):
    samples = dataset([sample(i, 2) for i in range(300)] + SAMPLES)
    lengths = [len(samples[i]["input_ids"]) for i in (*range(300, 320),)]
    counted = []
    placeholders = InstructionDataset.placeholders
    monkeypatch.setattr(
        InstructionDataset, "placeholders", lambda self, i, **more: counted.append(i) or placeholders(self, i, **more)
    )
    wanted = {300 + i: lengths[i] for i in LONG}
    assert longer_than(samples, min(wanted.values()) - 1) == wanted
    assert len(counted) < 100
    assert longer_than(samples, max(lengths)) == {}


def test_a_long_sample_loses_its_end(dataset):
    samples = dataset(max_length=90)
    assert settle_long_samples(samples) == "4 longer than 90 tokens: cut off there"
    counts = GemCollator(samples.processor)([samples[i] for i in range(20)])["counts"]
    assert (counts["cut"], counts["skipped"]) == (4, 0)
    assert len(samples[2]["input_ids"]) == 90


def test_long_samples_are_left_out(dataset, caplog):
    samples = dataset(max_length=90, long_samples="skip")
    assert settle_long_samples(samples) == "4 longer than 90 tokens: left out"
    assert [s.id for s in samples.samples] == [f"s{i}" for i in range(20) if i not in LONG]
    assert len(samples.samples.lengths) == len(samples) == 16
    assert "16 x 1 (4 too long left out)" in samples.samples.report()
    assert sorted(samples.samples.order(0)(1)) == list(range(16))
    with pytest.raises(DataError, match="raise max_length"):
        settle_long_samples(dataset(max_length=50, long_samples="skip"))


def test_one_that_only_a_question_makes_long_gives_way_as_it_is_read(dataset, caplog):
    samples = dataset([sample(0, 1), sample(1, 9)], max_length=120, long_samples="skip", question="Well? " * 12)
    assert settle_long_samples(samples) == "none longer than 120 tokens"
    item = samples[1]
    assert (item["id"], item["skipped"]) == ("s0", 1)
    assert GemCollator(samples.processor)([item])["counts"]["skipped"] == 1
    assert "sample 's1': 135 tokens, which is more than 120; the next" in caplog.text


def test_a_long_sample_stops_the_run_with_its_name(dataset):
    samples = dataset(max_length=90, long_samples="stop")
    words = r"'s2': expected at most 90 tokens \(data.max_length\), got \d{3}; raise .*=cut .*\(4 samples are so long\)"
    with pytest.raises(DataError, match=words):
        settle_long_samples(samples)
    with pytest.raises(DataError, match="'s7'"):
        samples[7]
    with pytest.raises(DataError, match="expected long_samples=cut or skip or stop, got 'trim'"):
        dataset(long_samples="trim")


def test_shards_keep_their_chunks_when_samples_are_left_out(dataset, tmp_path):
    write_samples(SAMPLES, tmp_path / "data.jsonl")
    write_shards(tmp_path / "data.jsonl", tmp_path / "shards", workers=0, block=4)
    samples = dataset(tmp_path / "shards", max_length=90, long_samples="skip")
    settle_long_samples(samples)
    order = samples.samples.order(0)
    assert np.array_equal(order.chunks[0], [3, 6, 10, 13, 16])
    assert sorted(samples.samples[i].id for i in order(0)) == sorted(f"s{i}" for i in range(20) if i not in LONG)


def test_a_run_says_at_its_start_what_becomes_of_them(tiny_gem, caplog):
    caplog.set_level(logging.INFO)
    options = {"batch_size": 4, "num_workers": 0, "max_length": 90}
    module = InstructionDataModule(
        tiny_gem.processor, SAMPLES, SAMPLES[:3], samples=SampleOptions(long_samples="skip"), **options
    )
    assert len(module.train_dataloader()) == 4 and len(module.val_dataloader()) == 1
    assert "list 16 x 1 (4 too long left out)" in caplog.text
    assert "1 longer than 90 tokens: left out" in caplog.text
    with pytest.raises(DataError, match="'s2'"):
        InstructionDataModule(
            tiny_gem.processor, SAMPLES, samples=SampleOptions(long_samples="stop"), **options
        ).train_dataloader()
