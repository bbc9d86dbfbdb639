"""A run that is killed, stopped, or whose disk fails goes on as if nothing had been: bit for bit on the CPU."""

import errno
import json
import os
import resource
import signal
import time

import lightning
import pytest
import torch

from gem_lightning.data import write_shards
from gem_lightning.errors import CheckpointError, GemError
from gem_lightning.lit import AtomicCheckpointIO, KeepLast, ShardedStrategy, strategies
from gem_lightning.lit.checkpointing.io import damage, in_order, newest_whole, seal
from gem_lightning.samples.io import write_samples
from gem_lightning.train import find_checkpoint
from helpers_kill import exit_codes, killed_at_random
from helpers_processes import start
from helpers_training import fit, parts, tiny_cohort

STEPS = 60


class Journal(lightning.Callback):
    """Writes each step's samples, loss (every bit) and rate to a file, as it happens."""

    def __init__(self, file):
        self.file = file

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        row = [trainer.global_step, batch["ids"], float(outputs["loss"]).hex(), float(rate).hex()]
        if trainer.is_global_zero:
            with self.file.open("a") as file:
                file.write(json.dumps(row) + "\n")


def rows(folder):
    """Complete lines of a run's journal."""
    file = folder / "journal.jsonl"
    return [json.loads(line) for line in file.read_text().split("\n")[:-1]] if file.exists() else []


def run(home, name, kind="one", *callbacks, data_from=None, **settings):
    """A run with dropout that goes on where its folder says; the order of callbacks is theirs."""
    folder = home / name
    folder.mkdir(exist_ok=True)
    module, data = parts(tiny_cohort(home), "data.batch_size=2", "+model.net.llm.attention_dropout=0.2")
    if data_from is not None:
        data.sources["train"] = str(data_from)
    strategy = {"plugins": [AtomicCheckpointIO()], "devices": 1 if kind == "one" else 2}
    if kind == "fsdp2":
        strategy = {"devices": 2, "strategy": ShardedStrategy(process_group_backend="gloo")}
    keep = KeepLast(folder / "kept", every_n_steps=3)
    limit = {"max_epochs": -1} if "max_steps" in settings else {"max_epochs": STEPS // 4}  # four steps an epoch
    settings = {"limit_val_batches": 1} | limit | strategy | settings
    last = newest_whole(folder / "kept")
    fit(module, data, Journal(folder / "journal.jsonl"), *callbacks, keep, ckpt_path=last, **settings)


def same_as_unkilled(home, name, whole="whole"):
    """Every row of a killed run, those done twice included, is the row of the run that was not killed."""
    truth, found = ({json.dumps(row) for row in rows(home / run_name)} for run_name in (whole, name))
    assert found == truth


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Holds the run that nothing happened to."""
    home = tmp_path_factory.mktemp("runs")
    cohort = tiny_cohort(home)
    write_samples(cohort.samples(), home / "samples.jsonl")
    write_shards(home / "samples.jsonl", home / "shards", workers=0, block=3)
    assert exit_codes(start(run, home, "whole")) == [0]
    assert len(rows(home / "whole")) == STEPS
    return home


@pytest.mark.slow
def test_killed_at_twenty_random_steps(home):
    killed_at_random(
        lambda: start(run, home, "killed"), lambda: len({r[0] for r in rows(home / "killed")}), STEPS, share=0.9
    )
    same_as_unkilled(home, "killed")
    kept = [path.name for path in (home / "killed" / "kept").iterdir() if path.name.startswith((".", "step"))]
    assert len(kept) <= 3  # the last two and the best; nothing half written


class Interrupt(lightning.Callback):
    """Ctrl-C while the validation after the second epoch runs."""

    def on_validation_batch_end(self, trainer, *_):
        if trainer.global_step == 8:
            raise KeyboardInterrupt


@pytest.mark.slow
def test_ctrl_c_during_validation_keeps_the_epoch(home):
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        run(home, "interrupted", "one", Interrupt())
    assert newest_whole(home / "interrupted" / "kept").name == "step-0000008.ckpt"
    run(home, "interrupted", "one")
    same_as_unkilled(home, "interrupted")


@pytest.mark.slow
def test_killed_while_streaming_shards(home):
    begin = lambda name: start(_streamed, home, name)  # noqa: E731
    assert exit_codes(begin("streamed_whole")) == [0]
    killed_at_random(lambda: begin("streamed"), lambda: len({r[0] for r in rows(home / "streamed")}), 16, 3, 0.9)
    same_as_unkilled(home, "streamed", "streamed_whole")


def _streamed(home, name):
    run(home, name, data_from=home / "shards", max_steps=16, accumulate_grad_batches=2)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ddp", "fsdp2"])
def test_killed_on_two_processes(home, kind):
    begin = lambda name: start(_on_two, home, f"{name}_{kind}", kind, ranks=2)  # noqa: E731
    assert exit_codes(begin("whole")) == [0, 0]
    progress = lambda: len({r[0] for r in rows(home / f"killed_{kind}")})  # noqa: E731
    killed_at_random(lambda: begin("killed"), progress, 12, 2, 0.9)
    same_as_unkilled(home, f"killed_{kind}", f"whole_{kind}")


def _on_two(home, name, kind):
    run(home, name, kind, max_steps=12)


@pytest.mark.slow
def test_a_stop_at_one_process_saves_on_all_and_asks_for_a_restart(home):
    processes = start(_on_two, home, "stopped_ddp", "ddp", ranks=2)
    while len(rows(home / "stopped_ddp")) < 4:
        assert all(process.is_alive() for process in processes)
        time.sleep(0.001)
    os.kill(processes[1].pid, signal.SIGTERM)
    assert exit_codes(processes) == [75, 75]
    done = rows(home / "stopped_ddp")[-1][0]
    assert newest_whole(home / "stopped_ddp" / "kept").name == f"step-{done:07d}.ckpt"
    assert exit_codes(start(_on_two, home, "stopped_ddp", "ddp", ranks=2)) == [0, 0]
    assert [row[0] for row in rows(home / "stopped_ddp")] == list(range(1, 13))  # no step was lost or done twice


class SmallDisk(lightning.Callback):
    """From a step on, files cannot grow beyond 64 kB."""

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if trainer.global_step == 4:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, resource.RLIM_INFINITY))


def _full_disk(home, name, sharded):
    strategy = {"plugins": None, "strategy": ShardedStrategy(process_group_backend="gloo")} if sharded else {}
    words = r"got .(No space left on device|File too large). .*earlier checkpoints are whole"
    with pytest.raises(CheckpointError, match=words):
        run(home, name, "one", SmallDisk(), max_steps=12, **strategy)


@pytest.mark.slow
@pytest.mark.parametrize("sharded", [False, True])
def test_a_full_disk_leaves_what_was_there(home, sharded):
    name = f"full_{sharded}"
    assert exit_codes(start(_full_disk, home, name, sharded)) == [0]
    kept = home / name / "kept"
    assert [path.name for path in in_order(kept)] == ["step-0000003.ckpt", "step-0000004.ckpt"]
    assert [damage(path) for path in in_order(kept)] == [None, None]
    assert not list(kept.glob(".step*"))


def _no_room_at_one(home, name):
    """The second process finds no room as it flushes the shards of its third checkpoint."""
    done = []

    def refuse(folder, names):
        done.append(folder)
        if os.environ["RANK"] == "1" and len(done) > 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return seal(folder, names)

    strategies.seal = refuse
    with pytest.raises(CheckpointError, match="earlier checkpoints are whole"):
        run(home, name, "fsdp2", max_steps=12)


@pytest.mark.slow
def test_no_room_at_one_process_ends_all(home):
    assert exit_codes(start(_no_room_at_one, home, "no_room_at_one", ranks=2)) == [0, 0]
    kept = home / "no_room_at_one" / "kept"
    assert [path.name for path in in_order(kept)] == ["step-0000002.ckpt", "step-0000003.ckpt"]
    assert [damage(path) for path in in_order(kept)] == [None, None]
    assert not list(kept.glob(".step*"))


class FullQuota(lightning.Callback):
    """From a step on, torch finds the user's share of the disk used up."""

    def __init__(self, monkeypatch):
        self.monkeypatch, self.tried = monkeypatch, []

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if trainer.global_step == 4:
            self.monkeypatch.setattr(torch, "save", self.refuse)

    def refuse(self, checkpoint, path):
        self.tried.append(path)
        path.write_bytes(b"half")
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT), str(path))


def test_a_used_up_quota_is_tried_once_and_leaves_what_was_there(tmp_path, monkeypatch):
    quota = FullQuota(monkeypatch)
    with pytest.raises(CheckpointError, match=r"got 'Disk quota exceeded' .*earlier checkpoints are whole"):
        run(tmp_path, "quota", "one", quota, max_steps=12)
    assert len(quota.tried) == 1
    kept = tmp_path / "quota" / "kept"
    assert [damage(path) for path in in_order(kept)] == [None, None] and not list(kept.glob(".step*"))


def test_a_damaged_last_one_falls_back_to_the_one_before(tmp_path, caplog):
    run(tmp_path, "short", max_steps=7)
    kept = tmp_path / "short" / "kept"
    six, seven = in_order(kept)[-2:]
    state = torch.load(seven, weights_only=True)
    assert (six.name, state["global_step"]) == ("step-0000006.ckpt", 7)
    whole = seven.read_bytes()
    for spoiled in (whole[: len(whole) // 2], whole[: len(whole) // 2] + b"\0\1\2\3" + whole[len(whole) // 2 + 4 :]):
        seven.write_bytes(spoiled)
        caplog.clear()
        assert newest_whole(kept) == six
        assert "step-0000007.ckpt is damaged" in caplog.text
        with pytest.raises(GemError, match="ckpt_path=last"):
            find_checkpoint(str(seven), str(kept))
    for path in in_order(kept):
        path.write_bytes(b"")
    with pytest.raises(CheckpointError, match="damaged ones"):
        find_checkpoint("last", str(kept))


def test_where_to_go_on(tmp_path):
    assert find_checkpoint(None, str(tmp_path)) is None
    assert find_checkpoint("auto", str(tmp_path)) is None
    with pytest.raises(GemError, match="start from scratch"):
        find_checkpoint("last", str(tmp_path))


def test_the_state_of_another_network_is_refused(tmp_path):
    run(tmp_path, "short", max_steps=1)
    kept = newest_whole(tmp_path / "short" / "kept")
    other = parts(tiny_cohort(tmp_path), "model.net.llm.intermediate_size=64")
    with pytest.raises(CheckpointError, match=r"expected \(64, 128\), got \(384, 128\)"):
        fit(*other, ckpt_path=kept, max_steps=2, max_epochs=-1)
    model = tmp_path / "weights.ckpt"
    torch.save({"lm_head.weight": torch.zeros(1)}, model)
    with pytest.raises(CheckpointError, match="expected a training checkpoint"):
        fit(*other, plugins=[AtomicCheckpointIO()], ckpt_path=model, max_steps=2, max_epochs=-1)
