"""docs/finetune_your_data.md as a user runs it, at the smallest size: records and reports to a judged model."""

import csv
import json
import os
import subprocess
import sys

import pytest
import torch

from gem_lightning.ecg import simulate, write_wfdb
from gem_lightning.features import measure
from gem_lightning.grounding import compose
from gem_lightning.models import build_gem, build_processor, tiny_tokenizer
from helpers_sizes import TINY


def run(folder, module, *arguments):
    command = [sys.executable, "-m", f"gem_lightning.{module}", *arguments]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_records_and_reports_to_a_judged_model(tmp_path):
    (tmp_path / "ecgs").mkdir()
    with (tmp_path / "reports.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["path", "report", "patient"])
        for number in range(12):
            ecg = simulate(("sinus", "lbbb", "av_block_1")[number % 3], seed=number, snr_db=30)
            write_wfdb(ecg.record, tmp_path / "ecgs" / f"{number:03d}")
            table.writerow([f"ecgs/{number:03d}.hea", compose(measure(ecg.record), seed=number, style="brief"), number])
    torch.manual_seed(0)
    build_gem(**TINY).save_pretrained(tmp_path / "base")
    build_processor(tiny_tokenizer(), TINY).save_pretrained(tmp_path / "base")

    mine = ("source=files", "source.root=reports.csv", "source.columns={ecg: path, report: report, patient: patient}")
    run(tmp_path, "generate", *mine, "teacher=compose", "out=mine", "workers=1", "splits={val: 0.25, test: 0.0}")
    training = (
        "experiment=gem_lora",
        "model.net.checkpoint=base",
        "data.train=mine/train.jsonl",
        "data.val=mine/val.jsonl",
        "data.batch_size=2",
        "data.num_workers=0",
        "trainer.max_epochs=1",
        "render.size=[56,72]",
    )
    plan = run(tmp_path, "train", *training, "dry_run=true")
    assert "parameters" in plan and "hours" in plan and not (tmp_path / "outputs" / "gem_lora" / "model").exists()
    run(tmp_path, "train", *training)
    assert (tmp_path / "outputs" / "gem_lora" / "model" / "adapter_config.json").is_file()
    asked = ("model=outputs/gem_lora/model", "benchmark=claims", "benchmark.source.root=ecgs", "benchmark.draws=20")
    run(tmp_path, "evaluate", *asked, "out=judged", "max_new_tokens=8")
    assert json.loads((tmp_path / "judged" / "results.json").read_text())
