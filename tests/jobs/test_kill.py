"""Kill a spawned run at random moments; what is on disk at the end must be whole."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gem_lightning.jobs import JobFolder, merge

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


def start(tmp_path: Path, count: int) -> subprocess.Popen:
    script = tmp_path / "job_script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), str(tmp_path / "job"), str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def check(tmp_path: Path, count: int) -> None:
    good = [i for i in range(count) if i % 50 != 7]
    assert merge([tmp_path / "job"], tmp_path / "data.parquet") == len(good)
    import pyarrow.parquet as pq

    rows = pq.read_table(tmp_path / "data.parquet").to_pylist()
    assert rows == [{"id": f"r{i}", "square": i * i} for i in good]
    broken = [json.loads(line)["id"] for line in (tmp_path / "broken.jsonl").read_text().splitlines()]
    assert broken == [f"r{i}" for i in range(7, count, 50)]


def test_spawned_workers(tmp_path):
    process = start(tmp_path, 64)
    assert "64/64 (100.0 %)" in process.communicate(timeout=600)[0]
    check(tmp_path, 64)


@pytest.mark.slow
def test_killed_at_twenty_random_moments(tmp_path):
    count, kills = 6000, 0
    rng = random.Random(0)
    process = start(tmp_path, count)
    while kills < 20:
        try:
            process.wait(timeout=rng.uniform(0.1, 1.6))
            break
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
            process = start(tmp_path, count)
    process.communicate(timeout=900)
    assert process.returncode == 0
    assert kills == 20, "the job ended before it was killed often enough; make it longer"
    check(tmp_path, count)
    time.sleep(0.5)
    assert not list((tmp_path / "job" / "shards").glob(".*.tmp"))
    assert JobFolder(tmp_path / "job").missing() == []
