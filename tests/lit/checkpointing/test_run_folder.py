"""A run's folder: what an earlier run left stays, and the table of a run outlives kills."""

import csv

import pytest
import torch

from gem_lightning.lit import KeepLast, RunCsvLogger, set_aside
from gem_lightning.lit.checkpointing.io import in_order, newest_whole
from helpers_training import Losses, SaveAt, StopAfter, fit, parts, tiny_cohort


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def steps_kept(folder):
    return [int(path.stem[5:]) for path in in_order(folder)]


@pytest.fixture
def earlier(tmp_path):
    """What a run of eight steps left: checkpoints, the best one's name, a table."""
    home = tmp_path / "run"
    table = RunCsvLogger(home / "logs", name=None, version="csv")
    keep = KeepLast(home / "kept", every_n_steps=2)
    options = {"logger": table, "log_every_n_steps": 1, "max_epochs": 2, "limit_val_batches": 1}
    fit(*parts(tiny_cohort(tmp_path), "data.batch_size=2"), keep, **options)
    return home


def test_a_new_run_takes_nothing_from_an_earlier_one(earlier, tmp_path):
    kept, logs = earlier / "kept", earlier / "logs"
    before = names(kept)
    moved = set_aside(kept, [logs], None)
    assert [path.name for path in moved] == ["kept.earlier-1", "logs.earlier-1"]
    assert (
        names(earlier / "kept.earlier-1") == before and (earlier / "logs.earlier-1" / "csv" / "metrics.csv").is_file()
    )
    # without that the new run's checkpoints, of lower steps, would be the oldest, and go first
    fit(*parts(tiny_cohort(tmp_path), "data.batch_size=2"), KeepLast(kept, every_n_steps=1), max_steps=3, max_epochs=-1)
    assert steps_kept(kept) == [2, 3]
    assert newest_whole(kept).name == "step-0000003.ckpt"
    set_aside(kept, [logs], None)
    assert steps_kept(earlier / "kept.earlier-2") == [2, 3]


def test_a_run_that_goes_on_keeps_its_folder_but_for_a_future_it_gave_up(earlier):
    kept, logs = earlier / "kept", earlier / "logs"
    last, before_it = in_order(kept)[-1], in_order(kept)[-2]
    assert set_aside(kept, [logs], last) == []
    moved = set_aside(kept, [logs], before_it)
    assert last.name in [path.name for path in moved]
    assert in_order(kept)[-1] == before_it and in_order(earlier / "kept.earlier-1") == [
        earlier / "kept.earlier-1" / last.name
    ]
    assert (logs / "csv" / "metrics.csv").is_file()


@pytest.mark.parametrize("own", [True, False])
def test_a_link_is_what_it_points_to(earlier, tmp_path, own):
    kept, [before_it, last] = earlier / "kept", in_order(earlier / "kept")[-2:]
    link = (kept if own else tmp_path) / "best.ckpt"
    link.symlink_to(before_it)
    set_aside(kept, [], link)
    assert in_order(kept)[-1] == before_it and in_order(earlier / "kept.earlier-1")[-1].name == last.name
    assert link.resolve().is_file()


def test_a_copy_stays_and_every_step_makes_way(earlier):
    kept = earlier / "kept"
    steps, copy = [path.name for path in in_order(kept)], kept / "taken.ckpt"  # a name after "step"
    copy.write_bytes(in_order(kept)[0].read_bytes())
    set_aside(kept, [earlier / "logs"], copy)
    assert copy.is_file() and in_order(kept) == []
    assert [path.name for path in in_order(earlier / "kept.earlier-1")] == steps


def test_a_checkpoint_of_another_run_begins_a_new_one(earlier, tmp_path):
    other = tmp_path / "other" / "kept" / "step-0000002.ckpt"
    other.parent.mkdir(parents=True)
    other.touch()
    assert [path.name for path in set_aside(earlier / "kept", [], other)] == ["kept.earlier-1"]


def test_a_folder_without_steps_is_taken_as_it_is(tmp_path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "logs").mkdir()
    assert set_aside(tmp_path / "kept", [tmp_path / "logs"], None) == []


def test_the_table_goes_on_where_the_run_does(tmp_path):
    """A run of eight steps, and one that was stopped after five and went on from its checkpoint of step four."""
    cohort = tiny_cohort(tmp_path)

    def run(name, *callbacks, **options):
        table = RunCsvLogger(tmp_path / name, name=None, version="csv")
        settings = {"logger": table, "log_every_n_steps": 1, "max_epochs": 2} | options
        fit(*parts(cohort, "data.batch_size=2"), Losses(), *callbacks, **settings)

    def rows(name):
        with (tmp_path / name / "csv" / "metrics.csv").open(newline="") as file:
            return [(int(row["step"]), row["train/loss"]) for row in csv.DictReader(file)]

    run("whole")
    four = SaveAt(4, tmp_path / "four.ckpt")
    run("again", four, StopAfter(5))
    assert [step for step, _ in rows("again")] == [0, 1, 2, 3, 4]
    with (tmp_path / "again" / "csv" / "metrics.csv").open("a") as file:
        file.write("1.25,")  # a row that a kill cut off
    run("again", ckpt_path=tmp_path / "four.ckpt")
    assert [step for step, _ in rows("again")] == list(range(8))
    assert rows("again") == rows("whole")


def test_rows_with_new_columns_keep_those_before(tmp_path):
    table = RunCsvLogger(tmp_path, name=None, version="csv")
    table.log_metrics({"a": torch.tensor(1.0)}, 0)
    table.log_metrics({"b": 2.0}, 1)
    again = RunCsvLogger(tmp_path, name=None, version="csv")
    again.log_metrics({"c": 3.0}, 1)
    with (tmp_path / "csv" / "metrics.csv").open(newline="") as file:
        assert list(csv.DictReader(file)) == [
            {"a": "1.0", "b": "", "c": "", "step": "0"},
            {"a": "", "b": "", "c": "3.0", "step": "1"},
        ]


def test_a_stop_while_columns_are_added_loses_no_row(tmp_path, monkeypatch):
    table = RunCsvLogger(tmp_path, name=None, version="csv")
    for step in range(3):
        table.log_metrics({"a": 1.0}, step)
    file = tmp_path / "csv" / "metrics.csv"
    before = file.read_text()
    with monkeypatch.context() as patch:
        patch.setattr(csv.DictWriter, "writerows", stop)
        with pytest.raises(KeyboardInterrupt):
            table.log_metrics({"b": 2.0}, 3)
    assert file.read_text() == before and names(file.parent) == ["metrics.csv"]


def stop(*_):
    raise KeyboardInterrupt
