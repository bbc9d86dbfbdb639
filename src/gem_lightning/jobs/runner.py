"""Run the blocks of a job: over processes, or concurrently while waiting on the network."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import signal
import threading
import uuid
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait as wait_for_sentinel
from pathlib import Path
from typing import Any

from gem_lightning.jobs.files import NoRoomError
from gem_lightning.jobs.folder import Item, JobError, JobFolder, Row
from gem_lightning.jobs.progress import Progress

logger = logging.getLogger(__name__)


def work_through(items: Iterable[Item], function: Callable[[Item], Any], limit_s: float | None = None) -> Any:
    """Call ``function``, which returns a row, a list of rows or None, on each item.

    Returns:
        (rows, broken): a failed item becomes ``{"id", "error", "reason"}`` and does not stop the rest.

    Raises:
        NoRoomError: A full disk, which no item caused.
    """
    rows: list[Row] = []
    broken: list[Row] = []
    for item in items:
        try:
            with time_limit(limit_s):
                found = function(item)
        except NoRoomError:
            raise
        except Exception as error:
            broken.append(failure(item, error))
            continue
        rows += found if isinstance(found, list) else [found] if found is not None else []
    return rows, broken


def failure(item: Item, error: BaseException | str) -> Row:
    """Return the row of a broken item, with the reason."""
    kind = "Died" if isinstance(error, str) else type(error).__name__
    reason = str(error).strip().splitlines() or [kind]
    # 500 characters name the cause; tracebacks of thousands of records would fill the disk
    return {"id": item["id"], "error": kind, "reason": " ".join(reason)[:500]}


class time_limit:  # noqa: N801 - reads as a statement
    """Raise TimeoutError in the main thread after a time limit, s; no effect elsewhere or without a limit."""

    def __init__(self, seconds: float | None) -> None:
        self.seconds = seconds if threading.current_thread() is threading.main_thread() else None

    def __enter__(self) -> None:
        if self.seconds:
            self.previous = signal.signal(signal.SIGALRM, self._ring)
            signal.setitimer(signal.ITIMER_REAL, self.seconds)

    def __exit__(self, *_: object) -> None:
        if self.seconds:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, self.previous)

    def _ring(self, *_: object) -> None:
        raise TimeoutError(f"took longer than {self.seconds:g} s")


_work: dict[str, Any] = {}


def _start_worker(folder: JobFolder, function: Callable[[Item], Any], limit_s: float | None) -> None:
    """Initialise a worker process with the job."""
    follow_parent()
    _work.update(folder=folder, function=function, limit_s=limit_s)


def one_thread_each() -> None:
    """Limit BLAS and OpenMP to one thread per worker process: the processes already use all cores."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")


def follow_parent() -> None:
    """Initialise a worker process: ignore Ctrl-C, which the parent handles, and exit with the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_die_with, args=(parent.sentinel,), daemon=True).start()


def _die_with(sentinel: int) -> None:
    wait_for_sentinel([sentinel])
    os._exit(1)


def _run_block(block: int, dead: frozenset[int] = frozenset(), diary: Path | None = None) -> tuple[int, int, int]:
    """Run one block in a worker; return (items, rows, broken). ``diary`` holds the current item, in case it crashes."""
    folder: JobFolder = _work["folder"]
    items = folder.items(block)
    rows: list[Row] = []
    broken: list[Row] = []
    for place, item in enumerate(items):
        if place in dead:
            broken.append(failure(item, "the process died on this item (crash or out of memory)"))
            continue
        if diary is not None:
            diary.write_text(str(place))
        some, failed = work_through([item], _work["function"], _work["limit_s"])
        rows += some
        broken += failed
    folder.commit(block, rows, broken)
    return len(items), len(rows), len(broken)


def run(
    folder: JobFolder,
    function: Callable[[Item], Any],
    workers: int | None = None,
    part: int = 0,
    parts: int = 1,
    limit_s: float | None = None,
    show: Callable[[Progress], None] | None = None,
    start_method: str = "spawn",
) -> Progress:
    """Run the unfinished blocks of this part over processes.

    Args:
        folder: The job.
        function: Picklable; item → row, rows or None; an exception marks the item as broken.
        workers: Number of processes; None takes all cores, 0 works in this one.
        part, parts: Blocks of this machine: every ``parts``-th, from ``part`` on.
        limit_s: Time limit per item, s.
        show: Called after each block.
        start_method: ``spawn`` (safe with threads), ``forkserver`` or ``fork``.
    """
    check_workers(workers)
    with folder.claimed(part, parts):
        progress, blocks = _begin(folder, part, parts)
        if workers == 0:
            _work.update(folder=folder, function=function, limit_s=limit_s)
            for block in blocks:
                _count(progress, _run_block(block), show)
            return progress
        one_thread_each()
        start, count = (folder, function, limit_s), workers or os.cpu_count() or 1
        crashed = _run_pool(blocks, start, count, start_method, lambda n: _count(progress, n, show))
        for block in crashed:
            _count(progress, _run_alone(block, start, start_method), show)
    return progress


def check_workers(count: int | None) -> None:
    """Check the number of processes before any starts.

    Raises:
        JobError: It is not an int of 0 or more.
    """
    if count is not None and (not isinstance(count, int) or count < 0):
        raise JobError(
            f"expected workers as a number of processes (0 works in this one, null on all cores), got {count!r}"
        )


def _begin(folder: JobFolder, part: int, parts: int) -> tuple[Progress, list[int]]:
    if not 0 <= part < parts:
        raise JobError(f"expected part in 0..{parts - 1}, got {part}")
    blocks = folder.missing(part, parts)
    total = sum(folder.spans[b][2] for b in range(part, len(folder.spans), parts))
    return Progress(total, total - sum(folder.spans[b][2] for b in blocks)), blocks


def _count(progress: Progress, found: tuple[int, int, int], show: Callable[[Progress], None] | None) -> None:
    progress.done += found[0]
    progress.rows += found[1]
    progress.broken += found[2]
    if show is not None:
        show(progress)


def _run_pool(
    blocks: list[int], start: tuple[Any, ...], workers: int, method: str, count: Callable[[Any], None]
) -> list[int]:
    """Run blocks over a pool; return those that were in flight when a worker died, after finishing the others."""
    context = multiprocessing.get_context(method)
    queue, crashed = list(reversed(blocks)), []
    while queue:
        pool = ProcessPoolExecutor(min(workers, len(queue)), context, _start_worker, start)
        flying: dict[Future[Any], int] = {}
        try:
            while queue or flying:
                while queue and len(flying) < 2 * workers:
                    future = pool.submit(_run_block, queue[-1])  # it may raise: the block stays in the queue
                    flying[future] = queue.pop()
                for done in wait(flying, return_when=FIRST_COMPLETED).done:
                    count(done.result())
                    del flying[done]
        except BrokenProcessPool:
            for future, block in flying.items():
                if future.done() and future.exception() is None:
                    count(future.result())
                else:
                    crashed.append(block)
            logger.warning("a worker died; its blocks are repeated one by one at the end")
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
    return sorted(crashed)


def _run_alone(block: int, start: tuple[Any, ...], method: str) -> tuple[int, int, int]:
    """Run a block in a process of its own, repeated without each item that kills it."""
    folder: JobFolder = start[0]
    diary = folder.shards / f".{block:06d}.{uuid.uuid4().hex[:8]}.tmp"
    dead: frozenset[int] = frozenset()
    try:
        while True:
            with ProcessPoolExecutor(1, multiprocessing.get_context(method), _start_worker, start) as pool:
                try:
                    return pool.submit(_run_block, block, dead, diary).result()
                except BrokenProcessPool:
                    if not diary.exists():
                        raise
                    dead |= {int(diary.read_text())}
    finally:
        diary.unlink(missing_ok=True)


async def run_async(
    folder: JobFolder,
    function: Callable[[list[Item]], Awaitable[tuple[list[Row], list[Row]]]],
    flying: int = 2,
    part: int = 0,
    parts: int = 1,
    show: Callable[[Progress], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Progress:
    """Run work that waits on the network or on other processes, ``flying`` blocks at a time in this process.

    Args:
        function: Items of a block → (rows, broken). An exception stops the run and leaves its block undone.
        stop: True when no further block is to be begun.
    """
    progress, blocks = _begin(folder, part, parts)
    queue = iter(blocks)

    async def walk() -> None:
        for block in queue:  # shared by all walkers: each block is taken once
            if stop():
                return
            items = folder.items(block)
            rows, broken = await function(items)
            folder.commit(block, rows, broken)
            _count(progress, (len(items), len(rows), len(broken)), show)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(flying, len(blocks))):
                group.create_task(walk())
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None  # the other tasks stopped for the same reason
    return progress
