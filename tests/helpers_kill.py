"""Kill processes again and again at random points of their work: counted in work done, never in seconds."""

from __future__ import annotations

import multiprocessing.process
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Sequence

Process = subprocess.Popen | multiprocessing.process.BaseProcess


def command_of(*command: str) -> Callable[[], list[Process]]:
    """What starts a command, in a process group of its own."""
    return lambda: [subprocess.Popen(command, start_new_session=True)]


def killed_at_random(
    begin: Callable[[], Sequence[Process]],
    progress: Callable[[], int],
    total: int,
    kills: int = 20,
    share: float = 0.8,
) -> None:
    """Begin and kill -9 at a random point of the work, ``kills`` times; then run to the end, which must be a good one.

    Args:
        begin: Starts the processes.
        progress: Units of work finished so far, over all starts.
        total: Units of the whole.
        kills: They fall at random into as many equal parts of the first ``share`` of the work.
        share: Of the work that is done between kills.
    """
    rng = random.Random(0)
    for kill in range(kills):
        target = share * total * (kill + rng.random()) / kills
        processes = begin()
        while all(map(_alive, processes)) and progress() < target:
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.02))
        assert all(map(_alive, processes)), f"ended before kill {kill + 1} of {kills}"
        for process in processes:
            os.kill(process.pid, signal.SIGKILL)  # the parent alone: its workers must notice by themselves
        exit_codes(processes)
        for process in processes:
            _wait_until_gone(process.pid)
    codes = exit_codes(begin())
    assert codes == [0] * len(codes)


def exit_codes(processes: Sequence[Process]) -> list[int | None]:
    """Wait for all."""
    for process in processes:
        process.wait(900) if isinstance(process, subprocess.Popen) else process.join(900)
    return [p.returncode if isinstance(p, subprocess.Popen) else p.exitcode for p in processes]


def _alive(process: Process) -> bool:
    return process.poll() is None if isinstance(process, subprocess.Popen) else process.is_alive()


def _wait_until_gone(group: int) -> None:
    """Until no process of the group is left; at once where the process led none."""
    for _ in range(300):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    os.killpg(group, signal.SIGKILL)
    raise AssertionError("workers outlived their parent by 30 s")
