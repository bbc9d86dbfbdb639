"""Mistakes on the command line: one message that names the mend, exit code 2, nothing written."""

import errno
from importlib.util import find_spec

import pytest

from gem_lightning.config.main import explain, main_with_errors, own_keys
from helpers_processes import run_module


@pytest.mark.parametrize(
    ("module", "arguments", "words"),
    [
        ("train", [], ["expected an experiment", "experiment=align|", "|quickstart"]),
        ("train", ["trainer.max_steps=1"], ["expected an experiment"]),
        ("train", ["experiment=quickstrat"], ["quickstrat", "Did you mean: experiment=quickstart?"]),
        ("train", ["experiment=quickstart", "strategy=fsdp3"], ["Did you mean: strategy=fsdp, strategy=fsdp2?"]),
        ("train", ["experiment=quickstart", "model/net/llm=vicuna"], ["Did you mean: model/net/llm=vicuna7b?"]),
        ("train", ["experiment=ecg_mae_pretrain", "model.lr=1"], ["model.lr", "Did you mean", "optim.lr"]),
        ("train", ["experiment=gem_tiny", "data.pack_to=512"], ["Did you mean", "data.batches.pack_to"]),
        ("train", ["experiment=gem_tiny", "trainer.strategy=dpp"], ["one of ddp", "got 'dpp'"]),
        ("train", ["experiment=gem_tiny", "logger=null"], ["leave a group out with ~logger"]),
        ("train", ["experiment=quickstart", "trainer.max_step=3"], ["max_step", "Did you mean", "trainer.max_steps"]),
        ("train", ["experiment=quickstart", "optim.lrr=1"], ["optim.lr"]),
        ("train", ["experiment=gem_tiny", "ckpt_path=nowhere.ckpt"], ["nowhere.ckpt", "checkpoint"]),
        ("train", ["experiment=gem_tiny", "ckpt_path=."], ["it is a folder without checksums.json"]),
        ("train", ["experiment=gem_tiny", "optim.lr=abc"], ["expected optim.lr to be a number above 0, got 'abc'"]),
        ("train", ["experiment=gem_tiny", "model.net.llm.num_attention_heads=abc"], ["'num_attention_heads'", "'abc'"]),
        ("train", ["experiment=gem_tiny", "model.net.lora={rr: 4}"], ["fields of peft's LoraConfig", "'rr'"]),
        ("train", ["experiment=gem_tiny", "strategy=fsdp2", "trainer.precision=16-mixed"], ["16-mixed", "bf16-mixed"]),
        ("train", ["experiment=gem_tiny", "data.train=nowhere.jsonl"], ["nothing at nowhere.jsonl"]),
        ("train", ["experiment=gem_tiny", "hydra.run.dir=/proc/nowhere"], ["/proc/nowhere", "check the path"]),
        pytest.param(
            "train",
            ["experiment=gem_tiny", "logger=wandb"],
            ["logger.wandb", "pip install"],
            marks=pytest.mark.skipif(find_spec("wandb") is not None, reason="it is installed"),
        ),
        ("train", ["experiment=gem_tiny", "datas=simulated"], ["datas", "Did you mean: data"]),
        ("train", ["experiment=gem_tiny", "+data.batchsize=4"], ["'batchsize'", "Did you mean: data.batch_size"]),
        ("predict", ["record=nowhere.hea", "model=nothing"], ["nowhere.hea"]),
        ("cli", ["measure", "nowhere.dcm"], ["nowhere.dcm"]),
        ("cli", ["measure"], ["required: FILE", "--help"]),
    ],
)
def test_one_clear_message(tmp_path, module, arguments, words):
    done = run_module(f"gem_lightning.{module}", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr
    left = [p for p in tmp_path.rglob("*") if p.is_file() and ".yaml" not in p.name and "cohorts" not in p.parts]
    assert left == []


def test_a_second_call_in_one_process_explains_as_the_first(monkeypatch, capsys):
    from hydra.core.global_hydra import GlobalHydra

    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    monkeypatch.setattr("sys.argv", ["train", "experiment=quickstrat"])
    for _ in range(2):
        GlobalHydra.instance().clear()
        with pytest.raises(SystemExit) as stop:
            main_with_errors("train", lambda cfg: None)
        assert stop.value.code == 2
        assert "Did you mean: experiment=quickstart?" in capsys.readouterr().err


@pytest.mark.parametrize("module", ["train", "predict", "evaluate", "generate", "serve", "cli"])
def test_help(tmp_path, module):
    done = run_module(f"gem_lightning.{module}", "--help", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) > 5
    assert list(tmp_path.iterdir()) == []


def test_keys_that_are_names_of_groups(tmp_path):
    (tmp_path / "list.csv").touch()
    aliases = {"data": "files", "source": ("files", "source.root")}
    typed = [f"source={tmp_path}/list.csv", "source=ptbxl", "data={a:b}", "+data=x=y", "seed=1", "-m"]
    assert own_keys(typed, aliases) == [
        "source=files", f"source.root={tmp_path}/list.csv", "source=ptbxl", "files={a:b}", "+files=x=y", "seed=1", "-m",
    ]  # fmt: skip


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_told_alike_at_every_entry_point(number):
    said = explain(OSError(number, "as the disk says", "out.csv"), "generate")
    assert said == "expected free space on out.csv, got as the disk says; make room, then rerun the command"
