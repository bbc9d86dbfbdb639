"""Processes that start in milliseconds: forked from a server that has imported the training stack once."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["helpers_training"])
_HERE = str(Path(__file__).parent)


def start(function: Callable[..., None], *args: Any, ranks: int = 1) -> list[Any]:
    """``ranks`` processes that run ``function(*args)``, as a cluster's launcher would start them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [
        _SERVER.Process(target=_run, args=(function, args, rank, ranks, port), daemon=False) for rank in range(ranks)
    ]
    os.environ["PYTHONPATH"] = os.pathsep.join([_HERE, os.environ.get("PYTHONPATH", "")])  # where the server looks
    for process in processes:
        process.start()
    return processes


def finish(processes: list[Any]) -> list[int]:
    """Wait for all; gives their exit codes."""
    for process in processes:
        process.join(600)
    return [process.exitcode for process in processes]


def killed_at_random(begin: Callable[[], list[Any]], progress: Callable[[], int], total: int, kills: int) -> None:
    """Begin, kill -9 at a random point of the work, and so on ``kills`` times; then run to the end.

    Args:
        begin: Starts the processes.
        progress: Units of work finished so far, over all starts.
        total: Units of the whole; the kills fall at random into as many equal parts of the first nine tenths of it.
    """
    rng = random.Random(0)
    for kill in range(kills):
        target = 0.9 * total * (kill + rng.random()) / kills
        processes = begin()
        while all(process.is_alive() for process in processes) and progress() < target:
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.02))
        assert all(process.is_alive() for process in processes), f"ended before kill {kill + 1} of {kills}"
        for process in processes:
            os.kill(process.pid, signal.SIGKILL)
        finish(processes)
    assert finish(begin()) == [0] * len(processes)


def _run(function: Callable[..., None], args: tuple, rank: int, ranks: int, port: int) -> None:
    if ranks > 1:
        os.environ |= {"LOCAL_RANK": str(rank), "NODE_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        os.environ |= {"WORLD_SIZE": str(ranks), "RANK": str(rank)}
    function(*args)
