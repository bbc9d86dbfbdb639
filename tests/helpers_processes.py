"""Processes that start in milliseconds: forked from a server that has imported the training stack once."""

from __future__ import annotations

import multiprocessing
import os
import socket
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


def _run(function: Callable[..., None], args: tuple, rank: int, ranks: int, port: int) -> None:
    if ranks > 1:
        os.environ |= {"LOCAL_RANK": str(rank), "NODE_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        os.environ |= {"WORLD_SIZE": str(ranks), "RANK": str(rank)}
    function(*args)
