"""Kill a spawned run at random moments; what is on disk at the end must be whole."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from gem_lightning.jobs import JobFolder, merge
from helpers_kill import command_of, killed_at_random

SCRIPT = """
import sys, time
from gem_lightning.jobs import JobFolder, run

def work(item):
    time.sleep(0.004)
    if item["value"] % 50 == 7:
        raise ValueError("bad record")
    return {"id": item["id"], "square": item["value"] ** 2}

if __name__ == "__main__":
    folder = JobFolder(sys.argv[1], ({"id": f"r{i}", "value": i} for i in range(int(sys.argv[2]))), {"a": 1}, block=16)
    print(run(folder, work, workers=2), flush=True)
"""


def command(tmp_path: Path, count: int) -> list[str]:
    script = tmp_path / "job_script.py"
    script.write_text(SCRIPT)
    return [sys.executable, str(script), str(tmp_path / "job"), str(count)]


def check(tmp_path: Path, count: int) -> None:
    good = [i for i in range(count) if i % 50 != 7]
    assert merge([tmp_path / "job"], tmp_path / "data.parquet") == len(good)
    import pyarrow.parquet as pq

    rows = pq.read_table(tmp_path / "data.parquet").to_pylist()
    assert rows == [{"id": f"r{i}", "square": i * i} for i in good]
    broken = [json.loads(line)["id"] for line in (tmp_path / "broken.jsonl").read_text().splitlines()]
    assert broken == [f"r{i}" for i in range(7, count, 50)]


def test_spawned_workers(tmp_path):
    done = subprocess.run(command(tmp_path, 64), stdout=subprocess.PIPE, text=True, timeout=600)
    assert "64/64 (100.0 %)" in done.stdout
    check(tmp_path, 64)


@pytest.mark.slow
def test_killed_at_twenty_random_moments(tmp_path):
    count = 6000
    shards = tmp_path / "job" / "shards"
    killed_at_random(
        command_of(*command(tmp_path, count)), lambda: len(list(shards.glob("*.parquet"))), total=count // 16
    )
    check(tmp_path, count)
    assert not list(shards.glob(".*.tmp"))
    assert JobFolder(tmp_path / "job").missing() == []
