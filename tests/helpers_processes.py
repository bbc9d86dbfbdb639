"""Processes that start in milliseconds: forked from a server that has imported the training stack once."""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from contextlib import suppress
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


def run_module(module: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run ``python -m module`` with arguments in ``cwd``; returns its exit code and what it printed."""
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        process = begin_module(module, *arguments, cwd=cwd, out=out, err=err)
        process.join()
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # idle workers of joblib, for which an ordinary exit waits minutes
        return subprocess.CompletedProcess([module, *arguments], process.exitcode, out.read_text(), err.read_text())


def begin_module(
    module: str, *arguments: str, cwd: Path, out: str | Path = os.devnull, err: str | Path = os.devnull
) -> Any:
    """Start ``python -m module`` in a process group of its own, its output in files."""
    return start(_as_main, module, arguments, cwd, out, err, dict(os.environ))[0]


def _as_main(
    module: str, arguments: tuple[str, ...], cwd: Path, out: str | Path, err: str | Path, environment: dict[str, str]
) -> None:
    os.environ.clear()  # the server's is of the moment at which it started
    os.environ |= environment
    for stream, file in ((1, out), (2, err)):
        os.dup2(os.open(file, os.O_CREAT | os.O_APPEND | os.O_WRONLY), stream)
    os.setsid()
    os.chdir(cwd)
    sys.argv = [module, *arguments]
    code: Any = 0
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as stop:
        code = stop.code
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    os._exit(code or 0)
