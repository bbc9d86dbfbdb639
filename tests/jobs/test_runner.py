"""The runner with real processes, real crashes and real files."""

import asyncio
import json
import os
import signal
import time
from functools import partial
from importlib.util import find_spec

import pyarrow.parquet as pq
import pytest

from gem_lightning.jobs import (
    DiedError,
    JobError,
    JobFolder,
    LocalEngine,
    NoRoomError,
    Progress,
    RayEngine,
    SubmititEngine,
    Workers,
    duration,
    merge,
    room_for,
    run,
    run_async,
    write_atomically,
)


def items(n):
    return [{"id": f"r{i}", "value": i} for i in range(n)]


def square(item):
    if item["value"] % 10 == 3:
        raise ValueError(f"expected no three, got {item['value']}")
    return {"id": item["id"], "square": item["value"] ** 2, "pid": os.getpid()}


def deadly(item):
    if item["value"] == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    return {"id": item["id"]}


def slow(item):
    if item["value"] == 1:
        time.sleep(5)
    return {"id": item["id"]}


def rows_of(path):
    return pq.read_table(path).to_pylist()


@pytest.mark.parametrize("workers", [0, 2])
def test_every_item_gives_a_row_or_a_reason(tmp_path, workers):
    folder = JobFolder(tmp_path, items(45), {"a": 1}, block=4)
    lines = []
    progress = run(folder, square, workers, show=lambda p: lines.append(str(p)), start_method="fork")
    assert (progress.done, progress.rows, progress.broken) == (45, 40, 5)
    assert lines[-1].startswith("45/45 (100.0 %)")
    assert merge([tmp_path], tmp_path / "data.parquet") == 40
    rows = rows_of(tmp_path / "data.parquet")
    assert [r["id"] for r in rows] == [f"r{i}" for i in range(45) if i % 10 != 3]
    broken = [json.loads(line) for line in (tmp_path / "broken.jsonl").read_text().splitlines()]
    assert broken[0] == {"id": "r3", "error": "ValueError", "reason": "expected no three, got 3"}
    assert len({r["pid"] for r in rows}) >= (2 if workers else 1)


def test_a_second_run_repeats_nothing_and_does_what_is_missing(tmp_path):
    folder = JobFolder(tmp_path, items(20), block=5, suffix=".jsonl")
    run(folder, square, 0, part=0, parts=2)
    calls = []

    def counted(item):
        calls.append(item["id"])
        return square(item)

    progress = run(JobFolder(tmp_path), counted, 0)
    assert (progress.skipped, progress.done) == (10, 10)
    assert len(calls) == len(set(calls)) == 10
    assert merge([tmp_path], tmp_path / "all.jsonl") == 18
    assert run(JobFolder(tmp_path), counted, 0).done == 0


def test_items_that_kill_the_process_are_broken_and_the_rest_is_done(tmp_path):
    folder = JobFolder(tmp_path, items(24), block=4)
    progress = run(folder, deadly, 2, start_method="fork")
    assert (progress.done, progress.broken) == (24, 1)
    (broken,) = folder.broken()
    assert broken["id"] == "r7"
    assert "died" in broken["reason"]
    assert merge([tmp_path], tmp_path / "data.parquet") == 23


def test_an_item_that_takes_too_long_is_broken(tmp_path):
    folder = JobFolder(tmp_path, items(3), block=3)
    run(folder, slow, 0, limit_s=0.2)
    (broken,) = folder.broken()
    assert (broken["id"], broken["error"]) == ("r1", "TimeoutError")


def test_several_machines_folders_merge_into_one(tmp_path):
    for part in range(2):
        folder = JobFolder(tmp_path / f"m{part}", items(30), block=4)
        run(folder, square, 0, part=part, parts=2)
    with pytest.raises(JobError, match="4 are missing"):
        merge([tmp_path / "m0"], tmp_path / "data.parquet")
    assert merge([tmp_path / "m0", tmp_path / "m1"], tmp_path / "data.parquet") == 27


def test_other_settings_doubled_ids_and_empty_folders_are_refused(tmp_path):
    JobFolder(tmp_path / "a", items(2), {"teacher": "compose"})
    with pytest.raises(JobError, match="begun with teacher='compose', got 'openai'"):
        JobFolder(tmp_path / "a", items(2), {"teacher": "openai"})
    with pytest.raises(JobError, match="'r1' twice"):
        JobFolder(tmp_path / "b", [*items(2), {"id": "r1"}])
    with pytest.raises(JobError, match=r"items\.jsonl"):
        JobFolder(tmp_path / "c")


def test_columns_that_are_empty_in_one_shard_take_the_type_of_another(tmp_path):
    folder = JobFolder(tmp_path, items(4), block=2)
    run(folder, lambda i: {"id": i["id"], "x": None if i["value"] < 2 else 0.5}, 0)
    merge([tmp_path], tmp_path / "data.parquet")
    assert [r["x"] for r in rows_of(tmp_path / "data.parquet")] == [None, None, 0.5, 0.5]


def test_async_blocks_overlap_and_a_stop_leaves_the_block_undone(tmp_path):
    folder = JobFolder(tmp_path, items(12), block=3, suffix=".jsonl")
    flying = peak = 0

    async def work(block):
        nonlocal flying, peak
        flying += 1
        peak = max(peak, flying)
        await asyncio.sleep(0.01)
        flying -= 1
        if block[0]["value"] == 9:
            raise RuntimeError("budget spent")
        return [{"id": i["id"]} for i in block], []

    with pytest.raises(RuntimeError, match="budget spent"):
        asyncio.run(run_async(folder, work, flying=2))
    assert peak == 2
    assert 3 in folder.missing()
    with pytest.raises(RuntimeError, match="budget spent"):
        asyncio.run(run_async(folder, work, flying=2))
    assert folder.missing() == [3]
    with pytest.raises(JobError, match="1 are missing"):
        merge([tmp_path], tmp_path / "all.jsonl")
    assert merge([tmp_path], tmp_path / "all.jsonl", partial=True) == 9


def test_calls_in_workers_survive_a_crash_beside_them_and_keep_their_limit():
    async def call_all():
        workers = Workers(2, limit_s=1.0)
        try:
            made = await asyncio.gather(*(workers(deadly, item) for item in items(12)), return_exceptions=True)
            with pytest.raises(TimeoutError, match="longer than 1 s"):
                await workers(slow, {"id": "r1", "value": 1})
            from_threads = [asyncio.to_thread(workers.call, deadly, item) for item in items(12)[6:9]]
            threaded = await asyncio.gather(*from_threads, return_exceptions=True)
            return made, threaded, await workers(square, {"id": "after", "value": 2})
        finally:
            workers.close()

    made, threaded, after = asyncio.run(call_all())
    assert isinstance(threaded[1], DiedError) and [threaded[0]["id"], threaded[2]["id"]] == ["r6", "r8"]
    assert isinstance(made[7], DiedError)
    assert [row["id"] for i, row in enumerate(made) if i != 7] == [f"r{i}" for i in range(12) if i != 7]
    assert after["square"] == 4


def test_two_processes_do_not_share_a_share(tmp_path):
    folder = JobFolder(tmp_path, items(4), suffix=".jsonl", block=2)
    with folder.claimed(), pytest.raises(JobError, match="another process at work"):
        run(JobFolder(tmp_path), square, 0)
    with folder.claimed(0, 2):
        run(JobFolder(tmp_path), square, 0, part=1, parts=2)
    assert run(folder, square, 0).done == 2


def fills_the_disk(item):
    if item["value"] == 5:
        with room_for("page.png"), open("/dev/full", "wb", buffering=0) as full:
            full.write(b"x")
    return {"id": item["id"]}


def test_a_full_disk_stops_the_run_and_breaks_no_item(tmp_path):
    folder = JobFolder(tmp_path, items(12), suffix=".jsonl", block=2)
    with pytest.raises(NoRoomError, match=r"expected room for page\.png, got: No space left"):
        run(folder, fills_the_disk, 2, start_method="fork")
    assert list(folder.broken()) == []
    assert 2 in folder.missing()
    run(folder, lambda item: {"id": item["id"]}, 0)  # room again
    assert merge([tmp_path], tmp_path / "all.jsonl") == 12
    with pytest.raises(NoRoomError):
        write_atomically(tmp_path / "a", lambda path: os.write(os.open("/dev/full", os.O_WRONLY), b"x"))
    assert not (tmp_path / "a").exists()


def test_broken_items_are_tried_again_when_asked(tmp_path):
    folder = JobFolder(tmp_path, items(12), suffix=".jsonl", block=4)
    assert run(folder, square, 0).broken == 1
    assert (run(folder, square, 0).done, folder.undo_broken(1, 2)) == (0, 0)
    with folder.claimed(), pytest.raises(JobError, match="another process at work"):
        folder.undo_broken()
    assert folder.missing() == []
    assert folder.undo_broken() == 1
    progress = run(folder, lambda item: {"id": item["id"]}, 0)
    assert (progress.done, progress.broken, list(folder.broken())) == (4, 0, [])
    assert merge([tmp_path], tmp_path / "all.jsonl") == 12


def test_numbers_that_make_no_sense_are_explained(tmp_path):
    with pytest.raises(JobError, match="a block of 1 item or more, got 0"):
        JobFolder(tmp_path / "a", items(2), block=0)
    folder = JobFolder(tmp_path / "b", items(2), suffix=".jsonl")
    with pytest.raises(JobError, match=r"workers as a number of processes .*, got -1"):
        run(folder, square, -1)
    with pytest.raises(JobError, match="got 'many'"):
        Workers("many")
    with pytest.raises(JobError, match="cluster slurm or local, got 'lsf'"):
        SubmititEngine(2, "lsf")
    for engine in (LocalEngine, SubmititEngine, RayEngine):
        with pytest.raises(JobError, match="at least 1, got 0"):
            engine(parts=0)


def test_progress_in_words():
    progress = Progress(100, skipped=20, done=30)
    progress.started = time.monotonic() - 10
    assert progress.seconds_left == pytest.approx(50 / 3, rel=0.01)
    assert str(progress).startswith("50/100 (50.0 %) · 3.0/s")
    assert [duration(s) for s in (42, 185, 18720)] == ["42 s", "3 min 05 s", "5 h 12 min"]


def part_of(place, part, parts):
    return run(JobFolder(place), square, 0, part=part, parts=parts).done


def dividing(part, parts):
    return 1 // part


def dying_once(place, part, parts):
    """The work of a part whose process is killed at its first block."""
    mark = place / f"killed-{part}"
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return part_of(place / "job", part, parts)


ENGINES = [
    LocalEngine(parts=2),
    SubmititEngine(2, "local", timeout_min=2),
    pytest.param(
        RayEngine(2),
        marks=[pytest.mark.slow, pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed")],
    ),
]


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: type(engine).__name__)
def test_an_engine_does_all_parts(tmp_path, engine):
    folder = JobFolder(tmp_path / "job", items(12), block=2)
    assert engine.run(partial(part_of, tmp_path / "job"), tmp_path / "logs") == [6, 6]
    assert folder.missing() == []
    with pytest.raises(JobError, match="1 of 2 parts failed"):
        engine.run(dividing, tmp_path / "logs")


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: type(engine).__name__)
def test_a_killed_worker_loses_nothing(tmp_path, engine):
    folder = JobFolder(tmp_path / "job", items(12), block=2)
    work = partial(dying_once, tmp_path)
    if not isinstance(engine, RayEngine):  # Ray itself starts the task again
        with pytest.raises(JobError, match="2 of 2 parts failed; run the same again"):
            engine.run(work, tmp_path / "logs")
    engine.run(work, tmp_path / "logs")
    assert folder.missing() == []
    merge([tmp_path / "job"], tmp_path / "all.parquet")
    done = {row["id"] for row in rows_of(tmp_path / "all.parquet")} | {row["id"] for row in folder.broken()}
    assert done == {item["id"] for item in items(12)}
