"""The entry point: composed configs, stages, exit codes, arrays, kills."""

import json
import os
import re

import hydra
import numpy as np
import pyarrow.parquet as pq
import pytest
import wfdb
from hydra.core.global_hydra import GlobalHydra
from PIL import Image

from gem_lightning.data import Mixture, ShardReader
from gem_lightning.ecg import simulate, write_wfdb
from gem_lightning.errors import GemError
from gem_lightning.generate import generate
from gem_lightning.samples.io import read_samples, write_samples
from gem_lightning.samples.sample import InstructionSample
from helpers_kill import killed_at_random
from helpers_llm_server import LoopbackLLM
from helpers_processes import begin_module, run_module

NO_SPLITS = "splits={val:0,test:0}"


def run(*overrides):
    GlobalHydra.instance().clear()
    with hydra.initialize_config_module("gem_lightning.conf", version_base="1.3"):
        generate(hydra.compose("generate", overrides=[*overrides, "workers=0"]))


def test_samples_then_validate_then_shards_without_naming_a_folder_twice(tmp_path, capsys):
    (tmp_path / "clinic").mkdir()
    for i in range(6):
        write_wfdb(simulate(("sinus", "rbbb")[i % 2], seed=i, snr_db=28).record, tmp_path / "clinic" / f"r{i}")
    run("source=files", f"source.root={tmp_path}/clinic", f"out={tmp_path}/a", "render=default")
    assert "| samples | 6 |" in capsys.readouterr().out
    data = {p.stem: str(p) for p in (tmp_path / "a").glob("*.jsonl") if p.stem in ("train", "val", "test")}
    listed = "{" + ",".join(f"{k}:{v}" for k, v in data.items()) + "}"
    run("stage=validate", f"files={listed}", f"out={tmp_path}/validation")
    assert "6 samples, 0 faults" in capsys.readouterr().out
    assert "data:image/svg+xml" in (tmp_path / "validation" / "validation.html").read_text()
    run("stage=shards", f"files={data['train']}", f"out={tmp_path}/shards")
    file, shards = Mixture(data["train"]), Mixture(tmp_path / "shards")
    assert [s.id for s in file] == [s.id for s in shards]
    assert file[0].ecg == shards[0].ecg == str(tmp_path / "clinic" / "r0")
    assert file[0].image == shards[0].image


def test_a_loader_like_the_original_s_reads_our_json(tmp_path):
    """It joins a folder and ``ecg`` for wfdb, a folder and ``image`` for a picture, and wants human, gpt in turns."""
    (tmp_path / "clinic").mkdir()
    truth = simulate("sinus", seed=3, snr_db=28).record
    write_wfdb(truth, tmp_path / "clinic" / "r0")
    common = ("source=files", f"source.root={tmp_path}/clinic", "kinds={dialogue:1}", "samples_per_record=2")
    run(*common, f"out={tmp_path}/out", "format=json", "render=default", "splits={val:0,test:0}")
    rows = json.loads((tmp_path / "out" / "train.json").read_text())
    assert {row["kind"] for row in rows} == {"interpretation", "dialogue"}
    for row in rows:
        signal, facts = wfdb.rdsamp(os.path.join(tmp_path, row["ecg"]))
        assert np.allclose(signal.T, truth.signal, atol=0.01)
        assert facts["fs"] == 500
        with Image.open(os.path.join(tmp_path / "out", row["image"])) as picture:
            assert picture.convert("RGB").size[0] > 300
        turns = row["conversations"]
        assert [turn["from"] for turn in turns] == ["human", "gpt"] * (len(turns) // 2)
        assert [turn["value"].count("<image>") for turn in turns] == [1] + [0] * (len(turns) - 1)
    again = tmp_path / "again.json"
    write_samples(read_samples(tmp_path / "out" / "train.json"), again)
    assert json.loads(again.read_text()) == rows


def test_the_validation_s_exit_code(tmp_path, capsys):
    turns = [{"from": "human", "value": "<image>\nRead."}, {"from": "gpt", "value": "The PR interval is 400 ms."}]
    row = {"id": 1, "ecg": "simulate:sinus::1", "conversations": turns}
    (tmp_path / "bad.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(SystemExit) as end:
        run("stage=validate", f"files={tmp_path}/bad.jsonl", f"out={tmp_path}")
    assert end.value.code == 1
    assert json.loads((tmp_path / "validation.jsonl").read_text())["kind"] == "contradicted"
    run("stage=validate", f"files={tmp_path}/bad.jsonl", f"out={tmp_path}", "validate.fail_on=never")
    run("stage=doctor", f"files={tmp_path}/bad.jsonl", f"out={tmp_path}", "doctor.fail_on=never")  # the former names


def test_settings_may_not_change_on_the_way(tmp_path):
    common = ("source.n=2", "source.diagnoses=[sinus]", f"out={tmp_path}", NO_SPLITS)
    run(*common)
    run(*common)
    with pytest.raises(GemError, match="begun with seed=0, got 1"):
        run(*common, "seed=1")
    with pytest.raises(GemError, match="begun with stage='samples', got 'features'"):
        run(*common, "stage=features")
    (tmp_path / "job" / "shards" / "000000.jsonl").write_bytes(b'{"cut')
    with pytest.raises(GemError, match="delete the damaged file and rerun"):
        run(*common)
    (tmp_path / "job" / "shards" / "000000.jsonl").unlink()
    run(*common)
    items = tmp_path / "job" / "items.jsonl"
    items.write_bytes(items.read_bytes()[:60])
    (tmp_path / "job" / "shards" / "000000.jsonl").unlink()
    with pytest.raises(GemError, match=r"whole items in .*, got a damaged one"):
        run(*common)
    prompt = tmp_path / "mine.jinja"
    own = (*common[:2], NO_SPLITS, f"out={tmp_path}/own", f"prompt_file={prompt}")
    prompt.write_text("Read it.")
    run(*own)
    prompt.write_text("Read it well.")
    with pytest.raises(GemError, match=r"begun with prompt_sha256='\w{16}', got '\w{16}'"):
        run(*own)


def test_mistakes_are_explained(tmp_path):
    with pytest.raises(GemError, match="expected stage samples, features"):
        run("stage=dream")
    with pytest.raises(GemError, match=r"physionet\.org/content/ptb-xl"):
        run("source=ptbxl", f"source.root={tmp_path}/none", f"out={tmp_path}")
    with pytest.raises(GemError, match="data=FILE"):
        run("stage=shards", f"out={tmp_path}")
    with pytest.raises(GemError, match=r"ending in \.json.*got 'train\.xml'"):
        run("source.n=1", "format=xml", f"out={tmp_path}/xml")
    assert not (tmp_path / "xml").exists()  # said before the work


def test_check_says_which_records_have_no_file(tmp_path, capsys):
    (tmp_path / "list.txt").write_text("a.hea\nb.hea\n")
    (tmp_path / "a.hea").touch()
    with pytest.raises(SystemExit) as end:
        run("stage=check", "source=files", f"source.root={tmp_path}/list.txt", f"out={tmp_path}")
    assert end.value.code == 1
    assert "missing: record b" in capsys.readouterr().out
    turns = [{"from": "human", "value": "<image>\nRead."}, {"from": "gpt", "value": "Sinus rhythm."}]
    row = {"id": "x", "ecg": "mimic-iv/a", "image": "gen/x.png", "conversations": turns}
    (tmp_path / "30k.json").write_text(json.dumps([row]))
    samples = ("source=samples", f"source.samples={tmp_path}/30k.json", f"out={tmp_path}")
    with pytest.raises(SystemExit):
        run("stage=check", *samples, f"paths={{mimic-iv:{tmp_path}}}")
    told = capsys.readouterr().out
    assert "missing: image of x (looked for gen/x.png)" in told
    assert "missing: record" not in told
    with pytest.raises(SystemExit) as end:
        run("stage=shards", f"files={tmp_path}/30k.json", f"out={tmp_path}/shards")
    assert end.value.code == 1
    assert "0 samples in shards, 1 broken" in capsys.readouterr().out
    del row["ecg"], row["image"]
    (tmp_path / "30k.json").write_text(json.dumps([row]))
    with pytest.raises(SystemExit):
        run("stage=check", *samples)
    assert "1 records name no ECG" in capsys.readouterr().out


def test_losses_are_told_and_a_run_without_a_sample_fails(tmp_path, capsys):
    write_wfdb(simulate("sinus", seed=1, snr_db=28).record, tmp_path / "b")
    (tmp_path / "list.txt").write_text("a.hea\nb.hea\n")
    one = ("source=files", f"source.root={tmp_path}/list.txt", f"out={tmp_path}/one", NO_SPLITS)
    run(*one)
    assert "1 broken" in capsys.readouterr().err
    write_wfdb(simulate("sinus", seed=2, snr_db=28).record, tmp_path / "a")
    run(*one)  # what is finished stays as it is
    assert "1 broken" in capsys.readouterr().err
    run(*one, "retry_broken=true")
    assert "| samples | 2 |" in capsys.readouterr().out
    (tmp_path / "a.hea").unlink()
    (tmp_path / "list.txt").write_text("a.hea\n")
    with pytest.raises(GemError, match="got none of 1 records: 0 texts rejected, 1 records broken"):
        run("source=files", f"source.root={tmp_path}/list.txt", f"out={tmp_path}/out")
    told = capsys.readouterr().err
    assert "1 broken (see" in told
    assert "which does not exist" in told
    with pytest.raises(GemError, match=r"got none of 1 records: 1 texts rejected \(1 × too few claims\)"):
        run("source.n=1", "gate.min_claims=99", f"out={tmp_path}/strict")
    card = json.loads((tmp_path / "strict" / "run_card.json").read_text())
    assert card["claims"] == {"supported": 0, "contradicted": 0, "unverifiable": 0}
    assert len((tmp_path / "strict" / "rejected.jsonl").read_text().splitlines()) == 1


def test_each_split_gets_a_patient_or_the_run_fails(tmp_path, capsys):
    run("source.n=6", "source.diagnoses=[sinus]", f"out={tmp_path}/six")
    samples = {split: list(read_samples(tmp_path / "six" / f"{split}.jsonl")) for split in ("train", "val", "test")}
    assert [len(found) for found in samples.values()] == [4, 1, 1]
    assert len({s.metadata["patient"] for found in samples.values() for s in found}) == 6
    assert all(s.metadata["split"] == split for split, found in samples.items() for s in found)
    with pytest.raises(GemError, match="at least 3 patients, one each for train, val, test, got 2 of 2; add records"):
        run("source.n=2", "source.diagnoses=[sinus]", f"out={tmp_path}/two")


def test_paths_of_published_samples(tmp_path, capsys):
    write_wfdb(simulate("sinus", seed=1, snr_db=28).record, tmp_path / "r1")
    turns = [{"from": "human", "value": "<image>\nRead."}, {"from": "gpt", "value": "Sinus rhythm."}]
    (tmp_path / "30k.json").write_text(json.dumps([{"id": "a", "ecg": "mimic-iv/r1", "conversations": turns}]))
    samples = ("source=samples", f"source.samples={tmp_path}/30k.json", f"paths={{mimic-iv:{tmp_path}}}")
    run(*samples, NO_SPLITS, f"out={tmp_path}/out")
    assert "| samples | 1 |" in capsys.readouterr().out
    with pytest.raises(GemError, match=r"expected source\.root for records, got paths="):
        run("source=files", f"source.root={tmp_path}", samples[-1], f"out={tmp_path}/out2")


def test_parts_of_several_machines_merge(tmp_path, capsys):
    common = ("stage=features", "source.n=7", "source.diagnoses=[sinus]", f"out={tmp_path}", "block=2", "parts=2")
    run(*common, "part=0")
    with pytest.raises(GemError, match="missing"):
        run("stage=merge", *common[1:])
    run(*common, "part=1")
    run(*common, "stage=merge")
    assert pq.read_table(tmp_path / "features.parquet").num_rows == 7
    assert "core-hours for 800,000 records" in capsys.readouterr().out


def run_apart(folder, *overrides):
    """Run the command in a process of its own, to a good end."""
    done = run_module("gem_lightning.generate", *overrides, cwd=folder)
    assert done.returncode == 0, done.stderr


def begin(folder, *overrides):
    """What starts the command."""
    return lambda: [begin_module("gem_lightning.generate", *overrides, cwd=folder)]


def test_shards_in_parts_and_of_a_whole_run(tmp_path, capsys):
    run("source.n=12", "source.diagnoses=[sinus]", f"out={tmp_path}/a", "splits={val:0.4,test:0}")
    files = [p.stem for p in (tmp_path / "a").glob("*.jsonl") if p.stem in ("train", "val")]
    common = ("stage=shards", f"files={tmp_path}/a", f"out={tmp_path}/shards")
    run(*common, "parts=2", "part=1")
    assert "after all of them" in capsys.readouterr().out
    with pytest.raises(GemError, match=r"chunks in .*, 1 are missing; run their parts first"):
        run("stage=merge", f"out={tmp_path}/shards")
    run(*common, "parts=2", "part=0")
    run("stage=merge", f"out={tmp_path}/shards")
    assert "samples in shards; read with gem_lightning.data.ShardReader(" in capsys.readouterr().out
    assert sum(len(ShardReader(tmp_path / "shards" / name)) for name in files) == 12
    with pytest.raises(GemError, match="the out= of an earlier run"):
        run("stage=merge", f"out={tmp_path}/none")
    with pytest.raises(GemError, match=r"the folder of a run with its train\.jsonl"):
        run("stage=validate", f"files={tmp_path}/shards", f"out={tmp_path}/d")
    files = {"train": [str(tmp_path / "nothing")], "val": ["simulate:sinus::1"]}
    for name, ecgs in files.items():
        turns = [{"from": "human", "value": "<image>\nRead."}, {"from": "gpt", "value": "AF."}]
        write_samples([InstructionSample(ecg, turns, ecg=ecg) for ecg in ecgs], tmp_path / "b" / f"{name}.jsonl")
    with pytest.raises(SystemExit):
        run("stage=shards", f"files={tmp_path}/b", f"out={tmp_path}/c")
    told = capsys.readouterr().out
    assert "0 samples in shards, 1 broken" in told  # of train; val is told of all the same
    assert "1 samples in shards; read" in told
    (tmp_path / "empty.json").write_text("[]")
    with pytest.raises(GemError, match=r"expected samples in .*empty\.json, got none"):
        run("stage=validate", f"files={tmp_path}/empty.json", f"out={tmp_path}/d")


@pytest.mark.slow
def test_an_array_of_local_jobs(tmp_path):
    overrides = ("stage=features", "source.n=12", f"out={tmp_path}", "block=3", "parts=2", "cluster=local", "workers=0")
    run_apart(tmp_path, *overrides)
    assert pq.read_table(tmp_path / "features.parquet").num_rows == 12
    array = ("parts=2", "cluster=local", "workers=0")
    run_apart(tmp_path, "source.n=12", "block=3", f"out={tmp_path}/a", *array)
    data = f"data={tmp_path}/a/train.jsonl"
    run_apart(tmp_path, "stage=shards", data, f"out={tmp_path}/b", *array)
    assert [s.id for s in ShardReader(tmp_path / "b")] == [s.id for s in read_samples(tmp_path / "a" / "train.jsonl")]


@pytest.mark.slow
def test_features_killed_at_random_moments(tmp_path):
    overrides = ("stage=features", "source.n=240", f"out={tmp_path}", "block=2", "workers=2")
    killed_at_random(
        begin(tmp_path, *overrides), lambda: len(list(tmp_path.glob("**/shards/*.parquet"))), total=120, kills=5
    )
    rows = pq.read_table(tmp_path / "features.parquet", columns=["id"])["id"].to_pylist()
    assert rows == [f"simulated-{i}" for i in range(240)]


@pytest.mark.slow
def test_a_taught_run_killed_at_twenty_random_moments_pays_each_answer_once(tmp_path):
    def reply(request, number):
        numbers = dict(re.findall(r"(heart_rate_bpm|qrs_ms|qt_ms): (\d+)", request["messages"][1]["content"]))
        heart, qrs, qt = (numbers.get(name) for name in ("heart_rate_bpm", "qrs_ms", "qt_ms"))
        return f"The heart rate is {heart} bpm, the QRS duration {qrs} ms and the QT interval {qt} ms."

    concurrency, kills = 4, 20
    with LoopbackLLM(reply, latency=0.25) as server:
        overrides = (
            "source.n=250", "source.diagnoses=[sinus,rbbb,lvh]", "source.snr_db=28", f"out={tmp_path}", "block=5",
            "workers=1", "teacher=openai", f"teacher.base_url={server.base_url}", f"teacher.concurrency={concurrency}",
        )  # fmt: skip
        killed_at_random(begin(tmp_path, *overrides), lambda: len(server.paid), total=250, kills=kills)
    card = json.loads((tmp_path / "run_card.json").read_text())
    assert card["samples"] + card["rejected"] == card["records"] == 250
    ids = [s.id for split in card["samples_by_split"] for s in read_samples(tmp_path / f"{split}.jsonl")]
    assert len(ids) == len(set(ids)) == card["samples"]
    # Answers that were on the way when the process died are asked for again, under the same Idempotency-Key.
    again = sum(count - 1 for count in server.paid.values())
    assert again <= kills * concurrency
    assert card["ledger"]["answers"] == len(server.paid)
