"""docs/finetune_your_data.md as a user runs it, at the smallest size: records and reports to a judged model."""

import csv
import json
import shutil

import pytest
import torch

from gem_lightning.composition.reported import report_statements
from gem_lightning.ecg import simulate, write_wfdb
from gem_lightning.features import measure
from gem_lightning.grounding import compose
from gem_lightning.models import build_gem, build_processor, tiny_tokenizer
from helpers_processes import run_module
from helpers_sizes import TINY


def run(folder, module, *arguments):
    done = run_module(f"gem_lightning.{module}", *arguments, cwd=folder)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture
def simulated(tmp_path):
    """Twelve simulated ECGs with reports that a device would print."""
    (tmp_path / "ecgs").mkdir()
    rows = []
    for number in range(12):
        ecg = simulate(("sinus", "lbbb", "av_block_1")[number % 3], seed=number, snr_db=30)
        write_wfdb(ecg.record, tmp_path / "ecgs" / f"{number:03d}")
        rows.append((f"ecgs/{number:03d}.hea", compose(measure(ecg.record), seed=number, style="brief"), number))
    write_table(tmp_path, rows)
    return tmp_path


@pytest.fixture
def ludb(tmp_path, shared_data):
    """The first sixteen odd records of LUDB with their cardiologists' diagnoses."""
    shutil.copytree(shared_data / "ludb_odd" / "data", tmp_path / "ecgs")
    columns = ("Rhythms", "Electric axis of the heart", "Conduction abnormalities", "Hypertrophies", "Ischemia")
    rows = []
    with (shared_data / "ludb_odd" / "ludb.csv").open(encoding="utf-8-sig", newline="") as file:
        for row in csv.DictReader(file):
            if row["ID"].strip() and int(row["ID"]) <= 31:
                parts = [part.strip() for column in columns for part in row[column].split("\n")]
                rows.append((f"ecgs/{row['ID']}.hea", ". ".join(filter(None, parts)), row["ID"]))
    write_table(tmp_path, rows)
    return tmp_path


def write_table(folder, rows):
    with (folder / "reports.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "report", "patient"), *rows])
    torch.manual_seed(0)
    build_gem(**TINY).save_pretrained(folder / "base")
    build_processor(tiny_tokenizer(), TINY).save_pretrained(folder / "base")


MINE = ("source=files", "source.root=reports.csv", "source.columns={ecg: path, report: report, patient: patient}")


def samples_of(folder):
    return [json.loads(line) for split in ("train", "val") for line in (folder / f"{split}.jsonl").open()]


@pytest.mark.slow
def test_reports_of_cardiologists_are_the_target(ludb):
    """Their diagnoses are stated, the signals' objections listed: no report is lost, by either teacher."""
    for teacher in ("compose", "report"):
        run(ludb, "generate", *MINE, f"teacher={teacher}", f"out={teacher}", "workers=1", "splits.test=0")
        found = samples_of(ludb / teacher)
        assert len(found) == 16 and (ludb / teacher / "rejected.jsonl").read_text() == ""
        for sample in found:
            last = report_statements(sample["report"])[-1]
            assert sample["conversations"][1]["value"].endswith(f"{last}.")
        assert sum("contradictions" in sample for sample in found) > 4
        assert {sample["split"] for sample in found} == {"train", "val"}
    follow(ludb, "report")


@pytest.mark.slow
def test_records_and_reports_to_a_judged_model(simulated):
    run(simulated, "generate", *MINE, "teacher=compose", "out=mine", "workers=1", "splits={val: 0.25, test: 0.0}")
    follow(simulated, "mine")


def follow(folder, data):
    """Run the tutorial's second to fourth step."""
    training = (
        "experiment=gem_lora",
        "model.net.checkpoint=base",
        f"data.train={data}/train.jsonl",
        f"data.val={data}/val.jsonl",
        "data.batch_size=2",
        "data.num_workers=0",
        "trainer.max_epochs=1",
        "render.size=[56,72]",
    )
    plan = run(folder, "train", *training, "dry_run=true")
    assert "parameters" in plan and "hours" in plan and not (folder / "outputs" / "gem_lora" / "model").exists()
    run(folder, "train", *training)
    assert (folder / "outputs" / "gem_lora" / "model" / "adapter_config.json").is_file()
    asked = ("model=outputs/gem_lora/model", "benchmark=claims", "benchmark.source.root=ecgs", "benchmark.draws=20")
    run(folder, "evaluate", *asked, "out=judged", "max_new_tokens=8", "benchmark.limit=6")
    assert json.loads((folder / "judged" / "results.json").read_text())
    assert (folder / "judged" / "report.html").stat().st_size > 1000
