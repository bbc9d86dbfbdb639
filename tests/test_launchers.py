"""The entry point under torchrun and under submitit's local executor, as docs/training.md says: two processes each."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gem_lightning.errors import GemError
from gem_lightning.models import Gem
from gem_lightning.train import join_tasks
from helpers_launch import steps

COMMON = (
    "experiment=gem_tiny",
    "trainer.accelerator=cpu",
    "trainer.devices=2",
    "trainer.max_epochs=3",
    "trainer.enable_model_summary=false",
    "data.train.n=8",
    "+data.train.workers=1",
    "data.val=null",
    "data.batch_size=2",
    "callbacks.samples=null",
    "~logger",
    "callbacks.learning_rate=null",
    "+callbacks.diary._target_=helpers_launch.Diary",
    "+callbacks.diary.file=${paths.output}/diary",
    "ckpt_path=auto",
)


def run(folder, *command):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parent)}
    return subprocess.run([sys.executable, *command], cwd=folder, capture_output=True, text=True, env=environment)


@pytest.mark.slow
def test_torchrun_shares_a_run_out_and_says_things_once(tmp_path):
    done = run(tmp_path, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "gem_lightning.train", *COMMON,
               "name=shared", "strategy=fsdp2")  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("train: SimulatedCohort 8") == 1
    rows = [steps(tmp_path / "outputs" / "shared" / "diary", rank) for rank in range(2)]
    assert [step for step, _ in rows[0]] == [1, 2, 3, 4, 5, 6] and rows[0] == rows[1]
    assert Gem.from_pretrained(tmp_path / "outputs" / "shared" / "model", device="cpu").model.config.fresh_parts is None


@pytest.mark.slow
def test_submitit_queues_a_run_again_that_was_told_to_stop(tmp_path):
    """The signal reaches the second task alone; all save, and not one step is lost or done twice."""
    launched = ("hydra/launcher=submitit_local", "hydra.launcher.tasks_per_node=2", "hydra.launcher.timeout_min=30")
    done = run(tmp_path, "-m", "gem_lightning.train", "-m", *COMMON, "name=again", "strategy=ddp", *launched,
               "hydra.sweep.dir=outputs/again", "hydra.sweep.subdir=.", "+callbacks.diary.preempt_at=3")  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    rows = [steps(tmp_path / "outputs" / "again" / "diary", rank) for rank in range(2)]
    assert [step for step, _ in rows[0]] == [1, 2, 3, 4, 5, 6] and rows[0] == rows[1]
    logs = "".join(path.read_text() for path in (tmp_path / "outputs" / "again" / ".submitit").rglob("*_log.out"))
    assert "Requeued job" in logs
    assert (tmp_path / "outputs" / "again" / "model" / "model.safetensors").is_file()


def test_tasks_and_devices_have_to_agree(monkeypatch):
    monkeypatch.setattr(os, "environ", os.environ.copy())
    os.environ |= {"SUBMITIT_EXECUTOR": "local", "SUBMITIT_LOCAL_NTASKS": "2"}
    os.environ |= {"SUBMITIT_LOCAL_LOCALID": "1", "SUBMITIT_LOCAL_JOB_ID": "54321"}
    with pytest.raises(GemError, match="tasks_per_node=2, devices=8"):
        join_tasks(8)
    join_tasks(2)
    wanted = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "NODE_RANK": "0", "MASTER_PORT": "34321"}
    assert {name: os.environ[name] for name in wanted} == wanted
