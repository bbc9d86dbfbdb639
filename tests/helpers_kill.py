"""Kill a command again and again at random points of its work: counted in work done, never in seconds."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Sequence


def killed_at_random(
    command: Sequence[str],
    progress: Callable[[], int],
    total: int,
    kills: int = 20,
    seed: int = 0,
) -> None:
    """Start ``command`` and kill -9 it, ``kills`` times, then let it run to its end.

    Args:
        progress: units of work finished so far, over all starts.
        total: units of the whole; the kills fall at random into as many equal parts of the first four fifths of it.
    """
    rng = random.Random(seed)
    for kill in range(kills):
        target = 0.8 * total * (kill + rng.random()) / kills
        process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
        while process.poll() is None and progress() < target:
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.02))
        assert process.poll() is None, f"ended (exit {process.returncode}) before kill {kill + 1} of {kills}"
        os.kill(process.pid, signal.SIGKILL)  # the parent alone: its workers must notice by themselves
        process.wait()
        _wait_until_gone(process.pid)
    subprocess.run(command, check=True, timeout=900)


def _wait_until_gone(group: int) -> None:
    """Until no process of the group is left."""
    for _ in range(300):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    os.killpg(group, signal.SIGKILL)
    raise AssertionError("workers outlived their parent by 30 s")
