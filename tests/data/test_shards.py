"""Shards written from real and simulated records and read back, by index and as a stream."""

import json

import numpy as np
import pytest

from gem_lightning.data.shards import ShardReader, pack, unpack, write_shards
from gem_lightning.data.stream import stream_loader, stream_shards
from gem_lightning.ecg.record import EcgRecord
from gem_lightning.errors import DataError
from gem_lightning.grounding.instruction import InstructionSample
from gem_lightning.grounding.sample import write_samples


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
    back, got = unpack(pack(original, record), measurements=True)
    assert back == original
    assert (got.fs, got.leads, got.meta) == (250, ("V1", "II"), {"age": 61})
    step = np.nanmax(np.abs(signal), axis=1, keepdims=True) / 32767
    assert np.all(np.abs(got.signal - np.nan_to_num(signal)) <= 0.51 * step)
    assert unpack(pack(original, record))[0].machine_measurements is None
    with pytest.raises(DataError, match="written by"):
        unpack(b"\0" * 64)


def test_reading_by_index(shards):
    reader = ShardReader(shards)
    assert len(reader) == 19
    ids = [s.id for s, _ in reader]
    assert ids == [f"s{i}" for i in range(7)] + ["text only"] + [f"s{i}" for i in range(9, 20)]
    picked, record = reader[-1]
    want = picked.record.read()
    assert np.abs(record.signal - want.signal).max() < 1e-3
    assert reader[7][1] is None
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


def test_the_stream_is_shuffled_and_complete(shards):
    first = [s.id for s, _ in stream_shards(shards, seed=1)]
    again = [s.id for s, _ in stream_shards(shards, seed=1)]
    other = [s.id for s, _ in stream_shards(shards, seed=2)]
    assert first == again
    assert first != other
    assert sorted(first) == sorted(other) == sorted(s.id for s, _ in ShardReader(shards))


def test_the_loader_resumes_after_the_last_sample(shards):
    def loader():
        return stream_loader(stream_shards(shards, lambda s, r: s.id, seed=3), batch_size=3)

    whole = list(loader())
    started = loader()
    iterator = iter(started)
    got = [next(iterator) for _ in range(3)]
    state = started.state_dict()
    resumed = loader()
    resumed.load_state_dict(state)
    assert got + list(resumed) == whole
