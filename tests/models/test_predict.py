"""The entry point over a folder: every record exactly once, whatever its name, whatever fails."""

import json
import multiprocessing
import shutil

import hydra
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra

from gem_lightning import predict as module
from gem_lightning.ecg import simulate, write_wfdb
from gem_lightning.ecg.writers import write_ecg
from gem_lightning.errors import GemError
from gem_lightning.features import measure
from gem_lightning.jobs import JobError
from gem_lightning.models import Gem, build_gem, build_processor
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
    own = [f"weights={weights}", f"record={folder}", f"out={out}", "max_new_tokens=4", "batch_size=2"]
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
    real = module.interpret_items

    def interrupted(gem, cfg, items):
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append([item["id"] for item in items])
        return real(gem, cfg, items)

    monkeypatch.setattr(module, "interpret_items", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(weights, folder, out)
    finished = seen[:]
    monkeypatch.setattr(module, "interpret_items", real)
    with pytest.raises(SystemExit):
        run(weights, folder, out)
    assert sum(map(len, finished)) == 4
    assert len(rows(out)) == 4
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


def test_a_batch_that_fails_is_repeated_in_halves(weights, folder, tmp_path, monkeypatch):
    whole, halved = tmp_path / "whole", tmp_path / "halved"
    with pytest.raises(SystemExit):
        run(weights, folder, whole, "batch_size=4")
    real = Gem.interpret_many

    def small_only(self, records, *args, **kwargs):
        if len(records) > 1:
            raise torch.OutOfMemoryError("expected less")
        return real(self, records, *args, **kwargs)

    monkeypatch.setattr(Gem, "interpret_many", small_only)
    with pytest.raises(SystemExit):
        run(weights, folder, halved, "batch_size=4")
    assert rows(whole) == rows(halved)


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
