"""Shards written from simulated records and read back: by index, from a distant place, by litdata itself."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from gem_lightning.data.shards import ShardReader, pack, unpack, write_shards
from gem_lightning.ecg.record import LEADS, EcgRecord
from gem_lightning.errors import DataError
from gem_lightning.samples.io import write_samples
from gem_lightning.samples.sample import InstructionSample


def sample(i, **more):
    turns = [{"from": "human", "value": "<image>\nRead this."}, {"from": "gpt", "value": f"Answer {i}."}]
    return InstructionSample(f"s{i}", turns, ecg=f"simulate:sinus?snr_db=25::{i}", **more)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    samples = [sample(i, machine_measurements={"I": [i]}) for i in range(20)]
    samples[7] = InstructionSample("broken", [], ecg=str(folder / "nothing.hea"))
    samples[8] = InstructionSample("text only", samples[8].conversations)
    write_samples(samples, folder / "data.jsonl")
    progress = write_shards(folder / "data.jsonl", folder / "out", workers=0, block=6)
    assert (progress.done, progress.broken) == (20, 1)
    return folder / "out"


def test_packing_keeps_the_sample_and_the_signal_to_half_a_count():
    signal = np.random.default_rng(0).normal(0, [[0.1], [3.0]], (2, 400)).astype(np.float32)
    signal[0, 3] = np.nan
    record = EcgRecord(signal, 250, ("V1", "II"), {"age": 61})
    original = sample(1, machine_measurements={"a": 1}, report="r", metadata={"split": "val"})
    blob = pack(replace(original, ecg_record=record, image_bytes=b"png"))
    back = unpack(blob, measurements=True)
    got = back.ecg_record
    assert back == original
    assert back.image_bytes == b"png"
    assert (got.fs, got.leads, got.meta) == (250, ("V1", "II"), {"age": 61})
    step = np.nanmax(np.abs(signal), axis=1, keepdims=True) / 32767
    assert np.all(np.abs(got.signal - np.nan_to_num(signal)) <= 0.51 * step)
    assert unpack(blob).machine_measurements is None
    assert unpack(pack(original)).ecg_record is None
    with pytest.raises(DataError, match="written by"):
        unpack(b"\0" * 64)


def test_reading_by_index(shards):
    reader = ShardReader(shards)
    assert len(reader) == 19
    ids = [s.id for s in reader]
    assert ids == [f"s{i}" for i in range(7)] + ["text only"] + [f"s{i}" for i in range(9, 20)]
    picked = reader[-1]
    assert np.abs(picked.ecg_record.signal - picked.record.read().signal).max() < 1e-3
    assert picked.read_record() is picked.ecg_record
    assert reader[7].read_record() is None
    assert list(reader.chunks) == [6, 11, 17, 19]
    assert list(reader.lengths) == [s.rough_tokens for s in reader]
    assert (reader.contract, reader.broken) == ("clean", 1)
    assert json.loads((shards / "broken.jsonl").read_text())["id"] == 7
    with pytest.raises(IndexError):
        reader[19]
    with pytest.raises(DataError, match="stage=shards"):
        ShardReader(shards.parent)


def test_a_second_run_adds_nothing_and_other_data_are_refused(shards):
    before = {p.name: p.stat().st_mtime_ns for p in shards.glob("*.bin")}
    assert write_shards(shards.parent / "data.jsonl", shards, workers=0).done == 0
    assert {p.name: p.stat().st_mtime_ns for p in shards.glob("*.bin")} == before
    write_samples([sample(0)], shards.parent / "other.jsonl")
    with pytest.raises(DataError.__mro__[1], match="begun with"):
        write_shards(shards.parent / "other.jsonl", shards, workers=0)


def test_a_chunk_that_is_written_anew_takes_the_place_of_the_old_one(tmp_path):
    (tmp_path / "r.csv").write_text("\n".join([",".join(LEADS), *[",".join(["0.1"] * 12)] * 500]))
    one = replace(sample(0), ecg=str(tmp_path / "r.csv"), ecg_format="csv?fs=500&units=mV")
    write_samples([one], tmp_path / "data.jsonl")
    write_shards(tmp_path / "data.jsonl", tmp_path / "out", workers=0)
    (tmp_path / "r.csv").write_text("\n".join([",".join(LEADS), *[",".join(["0.7"] * 12)] * 500]))
    (tmp_path / "out" / "job" / "shards" / "000000.bin").unlink()
    write_shards(tmp_path / "data.jsonl", tmp_path / "out", workers=0)
    assert ShardReader(tmp_path / "out")[0].ecg_record.signal.max() == pytest.approx(0.7, abs=1e-3)


def test_litdata_reads_them_too(shards):
    from litdata import StreamingDataset

    streamed = StreamingDataset(str(shards), transform=unpack)
    assert [s.id for s in streamed] == [s.id for s in ShardReader(shards)]


def test_distant_shards_are_fetched_chunk_by_chunk(shards, tmp_path):
    shutil.copytree(shards, tmp_path / "far", ignore=shutil.ignore_patterns("job"))
    reader = ShardReader(f"local:{tmp_path}/far", {"gone": "/x"}, cache=tmp_path / "cache")
    assert reader[12].id == ShardReader(shards)[12].id
    fetched = {p.name for p in (tmp_path / "cache").rglob("*.bin")}
    assert fetched == {"chunk-0-2.bin"}
    shutil.rmtree(tmp_path / "far")
    again = ShardReader(f"local:{tmp_path}/far", cache=tmp_path / "cache")
    assert again[12].id == reader[12].id
    with pytest.raises(DataError, match="chunk-0-0"):
        again[0]
