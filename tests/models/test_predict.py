"""The entry point over a folder: every record exactly once, whatever its name, whatever fails."""

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys

import hydra
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra

from gem_lightning import predict as module
from gem_lightning.ecg import simulate, write_wfdb
from gem_lightning.ecg.writers import write_ecg
from gem_lightning.errors import GemError
from gem_lightning.features import measure
from gem_lightning.jobs import JobError, NoRoomError
from gem_lightning.models import Gem, build_gem, build_processor
from gem_lightning.models.inference import cohort, generation
from gem_lightning.render import EcgRenderer
from helpers_kill import killed_at_random

NAMES = ("1.2.840.1.dcm", "1.2.840.2.dcm", "a/b.dcm", "a-b.dcm")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Four records whose names met in two files, and one that is broken."""
    root = tmp_path_factory.mktemp("clinic")
    (root / "a").mkdir()
    for seed, name in enumerate(NAMES):
        write_ecg(simulate("sinus", seed=seed).record, root / name)
    (root / "broken.dcm").write_bytes(b"not an ECG")
    return root


@pytest.fixture
def weights(parts, tokenizer, tmp_path):
    torch.manual_seed(0)
    parts["ecg"]["samples"] = 5000
    gem = Gem(build_gem(**parts), build_processor(tokenizer, parts), EcgRenderer(size=(120, 155)))
    gem.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def run(weights, folder, out, *overrides):
    GlobalHydra.instance().clear()
    own = [f"weights={weights}", f"out={out}", "max_new_tokens=4", "batch_size=2", "workers=0"]
    own += [] if folder is None else [f"record={folder}"]
    with hydra.initialize_config_module("gem_lightning.conf", version_base="1.3"):
        module.predict(hydra.compose("predict", overrides=[*own, *overrides]))


def rows(out):
    return [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]


def test_every_record_has_its_own_row_and_page(weights, folder, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(SystemExit) as end:
        run(weights, folder, out, "html=true")
    assert end.value.code == module.SOME_FAILED == 4
    found = {row["id"]: row for row in rows(out)}
    assert set(found) == {"1.2.840.1", "1.2.840.2", "a/b", "a-b"}
    assert sorted(p.name for p in (out / "pages").iterdir()) == [
        "1.2.840.1.html", "1.2.840.2.html", "a%2Fb.html", "a-b.html"]  # fmt: skip
    for seed, name in enumerate(NAMES):
        row = found[name.removesuffix(".dcm")]
        assert row["record"] == str(folder / name)
        own = measure(simulate("sinus", seed=seed).record)
        assert row["features"]["heart_rate_bpm"] == pytest.approx(own.heart_rate_bpm, abs=0.5)
    (failed,) = (json.loads(line) for line in (out / "broken.jsonl").read_text().splitlines())
    assert failed["id"] == "broken"
    assert failed["reason"]


def test_a_rerun_resumes_and_repeats_nothing(weights, folder, tmp_path, monkeypatch):
    out, seen = tmp_path / "out", []
    real = cohort.CohortRunner.__call__

    async def interrupted(self, items):
        seen.append([item["id"] for item in items])
        if len(seen) == 5:
            raise NoRoomError("expected room, got none")
        return await real(self, items)

    monkeypatch.setattr(cohort.CohortRunner, "__call__", interrupted)
    with pytest.raises(NoRoomError):
        run(weights, folder, out, "batch_size=1")
    kept = [line for shard in (out / "job" / "shards").glob("*.jsonl") for line in shard.read_text().splitlines()]
    monkeypatch.setattr(cohort.CohortRunner, "__call__", real)
    with pytest.raises(SystemExit):
        run(weights, folder, out, "batch_size=1")
    assert 0 < len(kept) < 4
    assert len(rows(out)) == 4
    assert all(json.loads(line) in rows(out) for line in kept)
    with pytest.raises(JobError, match="max_new_tokens"):
        run(weights, folder, out, "max_new_tokens=5")


def test_failed_records_can_be_tried_again(weights, folder, tmp_path):
    clinic, out = tmp_path / "clinic", tmp_path / "out"
    shutil.copytree(folder, clinic)
    with pytest.raises(SystemExit):
        run(weights, clinic, out)
    shutil.copy(folder / "1.2.840.1.dcm", clinic / "broken.dcm")
    with pytest.raises(SystemExit):
        run(weights, clinic, out)  # the failure is kept until it is asked for
    run(weights, clinic, out, "retry_failed=true")
    texts = {row["id"]: row["text"] for row in rows(out)}
    assert len(texts) == 5
    assert texts["broken"] == texts["1.2.840.1"]
    assert (out / "broken.jsonl").read_text() == ""


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError])
def test_a_batch_that_fails_is_repeated_in_halves(weights, folder, tmp_path, monkeypatch, error):
    whole, halved = tmp_path / "whole", tmp_path / "halved"
    with pytest.raises(SystemExit):
        run(weights, folder, whole, "batch_size=4")
    real = generation.generate_encoded

    def small_only(model, processor, items, max_new_tokens, batch_size, seeds):
        if min(batch_size, len(items)) > 1:
            raise error("expected less")
        return real(model, processor, items, max_new_tokens, batch_size, seeds)

    monkeypatch.setattr(generation, "generate_encoded", small_only)
    with pytest.raises(SystemExit):
        run(weights, folder, halved, "batch_size=4")
    assert [comparable(row) for row in rows(whole)] == [comparable(row) for row in rows(halved)]


def comparable(row):
    return {name: value for name, value in row.items() if name != "timings"}


def test_a_record_that_the_model_cannot_take_is_alone_in_its_failure(weights, folder, tmp_path, monkeypatch):
    real = generation.generate_encoded

    def picky(model, processor, items, max_new_tokens, batch_size, seeds):
        if cohort.record_seed(0, "a-b") in seeds:
            raise torch.OutOfMemoryError("never enough")
        return real(model, processor, items, max_new_tokens, batch_size, seeds)

    monkeypatch.setattr(generation, "generate_encoded", picky)
    with pytest.raises(SystemExit):
        run(weights, folder, tmp_path / "out", "batch_size=4")
    assert {row["id"] for row in rows(tmp_path / "out")} == {"1.2.840.1", "1.2.840.2", "a/b"}
    failed = [json.loads(line) for line in (tmp_path / "out" / "broken.jsonl").read_text().splitlines()]
    assert {row["id"]: row["error"] for row in failed} == {"a-b": "OutOfMemoryError", "broken": "EcgReadError"}


def test_rows_equal_interpretations_one_by_one(weights, folder, tmp_path):
    with pytest.raises(SystemExit):
        run(weights, folder, tmp_path / "out", "batch_size=3", "workers=2")
    gem = Gem.from_pretrained(weights, renderer=EcgRenderer())
    for row in rows(tmp_path / "out"):
        alone = json.loads(gem.interpret(row["record"], max_new_tokens=4).to_json())
        assert {name: row[name] for name in alone} == alone
        assert row["error"] is None
        assert set(row["timings"]) == {"read_ms", "measure_ms", "encode_ms", "verify_ms"}
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["records"], summary["interpreted"], summary["failed"]) == (5, 4, 1)
    assert summary["reasons"] == {"EcgReadError": 1}
    assert 0 <= summary["runs"][0]["data_wait_share"] <= 1


def test_sources_and_their_questions(weights, tmp_path):
    run(weights, None, tmp_path / "sim", "source=simulated", "source.n=3")
    assert [row["id"] for row in rows(tmp_path / "sim")] == ["simulated-0", "simulated-1", "simulated-2"]
    samples = [
        {"id": "a", "ecg": "simulate:sinus::1", "conversations": turns("<image>\nWhat is the rate?")},
        {"id": "a", "ecg": "simulate:sinus::1", "conversations": turns("<image>\nIs there a block?")},
        {"id": "c", "image": "x.png", "conversations": turns("<image>\nWhat is this?")},
    ]
    (tmp_path / "questions.json").write_text(json.dumps(samples))
    asked = ("source=samples", f"source.samples={tmp_path}/questions.json")
    with pytest.raises(SystemExit):
        run(weights, None, tmp_path / "asked", *asked)
    found = {row["id"]: row["question"] for row in rows(tmp_path / "asked")}
    assert found == {"a": "What is the rate?", "a~1": "Is there a block?"}
    (failed,) = (json.loads(line) for line in (tmp_path / "asked" / "broken.jsonl").read_text().splitlines())
    assert "got none for c" in failed["reason"]
    with pytest.raises(SystemExit):
        run(weights, None, tmp_path / "own", *asked, "question=Axis?")
    assert {row["question"] for row in rows(tmp_path / "own")} == {"Axis?"}


def turns(question):
    return [{"from": "human", "value": question}, {"from": "gpt", "value": ""}]


def test_a_dry_run_writes_nothing_and_projects(weights, folder, tmp_path, capsys):
    run(weights, folder, tmp_path / "out", "dry_run=true")
    assert not (tmp_path / "out").exists()
    printed = capsys.readouterr().out
    assert "5 records; 4 tried, 1 failed; nothing was written" in printed
    assert "800,000 records:" in printed


def test_a_fhir_bundle_per_record(weights, folder, tmp_path):
    with pytest.raises(SystemExit):
        run(weights, folder, tmp_path / "out", "fhir=true")
    bundles = {p.name: json.loads(p.read_text()) for p in (tmp_path / "out" / "fhir").iterdir()}
    assert set(bundles) == {"1.2.840.1.json", "1.2.840.2.json", "a%2Fb.json", "a-b.json"}
    assert all(bundle["entry"][0]["resource"]["resourceType"] == "DiagnosticReport" for bundle in bundles.values())


def test_sigterm_ends_the_run_after_the_blocks_in_flight(weights, folder, tmp_path, monkeypatch):
    real = cohort.CohortRunner.__call__

    async def terminated(self, items):
        os.kill(os.getpid(), signal.SIGTERM)
        return await real(self, items)

    with monkeypatch.context() as patch, pytest.raises(SystemExit) as end:
        patch.setattr(cohort.CohortRunner, "__call__", terminated)
        run(weights, folder, tmp_path / "out", "batch_size=1")
    assert end.value.code == module.STOPPED == 75
    assert 0 < len(list((tmp_path / "out" / "job" / "shards").glob("*.jsonl"))) < 5
    with pytest.raises(SystemExit) as end:
        run(weights, folder, tmp_path / "out", "batch_size=1")
    assert end.value.code == module.SOME_FAILED
    assert len(rows(tmp_path / "out")) == 4


def test_parts_run_by_hand_and_the_last_merges(weights, folder, tmp_path):
    run(weights, folder, tmp_path / "out", "batch_size=1", "parts=2", "part=1")
    assert not (tmp_path / "out" / "predictions.jsonl").exists()
    with pytest.raises(SystemExit):
        run(weights, folder, tmp_path / "out", "batch_size=1", "parts=2", "part=0")
    assert len(rows(tmp_path / "out")) == 4


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["local", "submitit", "ray"])
def test_engines_share_the_job(weights, folder, tmp_path, engine):
    if engine == "ray":
        pytest.importorskip("ray", reason="ray is not installed")
    more = {"submitit": ["engine.cluster=local", "engine.timeout_min=5"]}.get(engine, [])
    command = [sys.executable, "-m", "gem_lightning.predict", f"model={weights}", f"record={folder}", "workers=0"]
    command += [f"out={tmp_path}/out", "max_new_tokens=4", "batch_size=1", f"engine={engine}", "engine.parts=2", *more]
    done = subprocess.run(command, timeout=300, check=False, capture_output=True, text=True)
    assert done.returncode == module.SOME_FAILED, done.stderr
    assert len(rows(tmp_path / "out")) == 4
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert len(summary["runs"]) == 2
    assert sum(one["records"] for one in summary["runs"]) == 5


def test_sampled_text_depends_on_the_record_alone(weights, folder, tmp_path):
    settings = ("seed=3", "max_new_tokens=8")
    texts = []
    for size in (1, 3, 5):
        with pytest.raises(SystemExit):
            run(weights, folder, tmp_path / str(size), *settings, f"batch_size={size}")
        texts.append({row["id"]: row["text"] for row in rows(tmp_path / str(size))})
    assert texts[0] == texts[1] == texts[2]


def test_nothing_to_interpret(weights, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(GemError, match="expected ECG files"):
        run(weights, tmp_path / "empty", tmp_path / "out")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "x.dcm").write_bytes(b"nothing")
    with pytest.raises(GemError, match="none of 1"):
        run(weights, tmp_path / "bad", tmp_path / "out")


def test_one_file_gives_a_report(weights, tmp_path):
    write_wfdb(simulate("sinus", seed=1).record, tmp_path / "r1")
    run(weights, tmp_path / "r1", tmp_path / "out")
    assert json.loads((tmp_path / "out" / "report.json").read_text())["record"] == "r1"
    assert "<html" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.slow
def test_twenty_kills_lose_and_repeat_no_record(weights, tmp_path):
    clinic, out = tmp_path / "clinic", tmp_path / "out"
    clinic.mkdir()
    for seed in range(80):
        write_wfdb(simulate("sinus", seed=seed % 5).record, clinic / f"r{seed:02d}")
    fork = multiprocessing.get_context("fork")

    def begin():
        process = fork.Process(target=run, args=(weights, clinic, out, "html=true"))
        process.start()
        return [process]

    def finished():
        return sum(len(p.read_text().splitlines()) for p in (out / "job" / "shards").glob("*.jsonl"))

    killed_at_random(begin, finished, total=80)
    found = rows(out)
    assert [row["id"] for row in found] == [f"r{i:02d}" for i in range(80)]
    assert len({row["text"] for row in found}) <= 5  # equal signals, equal answers
    assert sorted(p.stem for p in (out / "pages").iterdir()) == [row["id"] for row in found]
