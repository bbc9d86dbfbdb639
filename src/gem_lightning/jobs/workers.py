"""Worker processes for calls from an event loop or from threads; a call that kills its process fails alone."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from gem_lightning.jobs.runner import check_workers, follow_parent, one_thread_each, time_limit


class DiedError(Exception):
    """A call that ended its process (a crash, or out of memory)."""


class Workers:
    """Worker processes that are restarted when one of them dies.

    A dying process breaks the whole pool. Every call in flight is therefore repeated, one by one, each in a process of
    its own: a call that kills this process too has failed.

    Args:
        count: Number of processes; None takes all cores, 0 uses threads of this process.
        limit_s: Time limit per call, s; threads have none.
        threads: Number of threads; each keeps memory of its own. None takes asyncio's default.
    """

    def __init__(self, count: int | None = None, limit_s: float | None = None, threads: int | None = None) -> None:
        check_workers(count)
        self.count = (os.cpu_count() or 1) if count is None else count
        self.limit_s = limit_s
        self._pool = self._start(self.count) if self.count else None
        self._threads = None if threads is None else ThreadPoolExecutor(threads)
        self._one_by_one = threading.Lock()

    async def __call__(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Return ``function(*arguments)``; both are picklable.

        Raises:
            DiedError: Its process died.
            TimeoutError: It took longer than the limit.
            Exception: Any error of the function.
        """
        loop, pool = asyncio.get_running_loop(), self._pool
        if pool is None:
            return await loop.run_in_executor(self._threads, function, *arguments)
        try:
            return await loop.run_in_executor(pool, _limited, self.limit_s, function, *arguments)
        except BrokenProcessPool:
            self._replace(pool)
        return await loop.run_in_executor(None, self._alone, function, *arguments)

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """As calling the workers, for threads: blocks until the result is there; without processes it runs here."""
        pool = self._pool
        if pool is None:
            return function(*arguments)
        try:
            return pool.submit(_limited, self.limit_s, function, *arguments).result()
        except BrokenProcessPool:
            self._replace(pool)
        return self._alone(function, *arguments)

    def _replace(self, broken: ProcessPoolExecutor) -> None:
        """Start a new pool, unless another call that broke with it has done so."""
        with self._one_by_one:
            if self._pool is broken:
                broken.shutdown(wait=False, cancel_futures=True)
                self._pool = self._start(self.count)

    def _alone(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Repeat a call in a process of its own, while no other runs."""
        with self._one_by_one:
            alone = self._start(1)
            try:
                return alone.submit(_limited, self.limit_s, function, *arguments).result()
            except BrokenProcessPool:
                raise DiedError("the process died on this item (crash or out of memory)") from None
            finally:
                alone.shutdown(wait=False, cancel_futures=True)

    def close(self) -> None:
        """Shut down the worker pool."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)

    @staticmethod
    def _start(count: int) -> ProcessPoolExecutor:
        one_thread_each()
        return ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), follow_parent)


def _limited(limit_s: float | None, function: Callable[..., Any], *arguments: Any) -> Any:
    with time_limit(limit_s):
        return function(*arguments)
