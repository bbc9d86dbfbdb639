"""The queue in front of the model: requests that wait with the same settings are answered in one batch."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any

import torch
from transformers import StoppingCriteria
from transformers.generation.streamers import BaseStreamer

from gem_lightning.errors import GemError

logger = logging.getLogger(__name__)

#: Longest time that the model waits until half of the open requests can be answered together. Ours: a batch of 16 costs
#: a fifth of 16 answers one by one, the other half is measured meanwhile, and a lone request never waits.
LINGER_S = 0.5


class Job:
    """One request to the model; iterating gives its text piece by piece, :meth:`result` the whole answer.

    Args:
        work: What to answer, for :class:`BatchQueue`'s ``answer``.
        key: Jobs of one key may share a batch; None runs alone.
        streamed: Whether the pieces are wanted.

    Attributes:
        cancelled: Its client has gone.
    """

    def __init__(self, work: Any, key: Hashable = None, streamed: bool = True) -> None:
        self.work, self.key, self.streamed, self.cancelled = work, key, streamed, False
        self._future: Future[Any] = Future()
        self._pieces: SimpleQueue[str | None] = SimpleQueue()

    def write(self, text: str) -> None:
        """Hand out the next piece of the text."""
        self._pieces.put(text)

    def end(self, result: Any) -> None:
        """Set the result, or the exception, and end the text."""
        if isinstance(result, BaseException):
            self._future.set_exception(result)
        else:
            self._future.set_result(result)
        self._pieces.put(None)

    def result(self) -> Any:
        """Return the answer, or raise its exception."""
        return self._future.result()

    def __iter__(self) -> Iterator[str]:
        return iter(self._pieces.get, None)


class BatchQueue:
    """One thread that answers waiting jobs, those of one key together, the oldest first.

    Args:
        answer: Takes jobs of one key; returns a result or an exception for each.
        batch_size: Most jobs at a time.

    Attributes:
        sizes: Called with the size of every batch, for metrics.
    """

    def __init__(self, answer: Callable[[Sequence[Job]], Sequence[Any]], batch_size: int) -> None:
        self.answer, self.batch_size = answer, batch_size
        self.sizes: Callable[[int], None] = lambda size: None
        self._waiting: deque[Job] = deque()
        self._open, self._closed, self._batch_s = 0, False, 1.0
        self._change = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Jobs that no batch has taken yet."""
        return len(self._waiting)

    @property
    def retry_after_s(self) -> int:
        """Seconds after which a refused request has a chance: the time of the last batch."""
        return max(1, math.ceil(self._batch_s))

    @contextmanager
    def request(self) -> Iterator[None]:
        """Announce a request that submits a job; it is open until its answer is complete."""
        with self._change:
            self._open += 1
        try:
            yield
        finally:
            with self._change:
                self._open -= 1
                self._change.notify()

    def submit(self, work: Any, key: Hashable = None, streamed: bool = True) -> Job:
        """Put work into the queue; arguments as for :class:`Job`."""
        job = Job(work, key, streamed)
        with self._change:
            self._waiting.append(job)
            self._change.notify()
        return job

    def close(self) -> None:
        """End the thread after the batch that it runs; what still waits fails."""
        with self._change:
            self._closed = True
            self._change.notify()
        self._thread.join()
        for job in self._waiting:
            job.end(GemError("the server is shutting down; send the request again"))

    def _run(self) -> None:
        while (jobs := self._next()) is not None:
            begun = time.monotonic()
            self.sizes(len(jobs))
            for job, result in zip(jobs, self._answered(jobs), strict=True):
                job.end(result)
            self._batch_s = time.monotonic() - begun

    def _next(self) -> list[Job] | None:
        """Wait for the next batch; None once closed."""
        with self._change:
            self._change.wait_for(lambda: self._waiting or self._closed)
            if self._closed:
                return None
            self._change.wait_for(self._is_full, LINGER_S)
            key = self._waiting[0].key
            size = self.batch_size if key is not None else 1
            same = [job for job in self._waiting if job.key == key][:size]
            self._waiting = deque(job for job in self._waiting if job not in same)
            return same

    def _is_full(self) -> bool:
        first = self._waiting[0].key
        count = sum(job.key == first for job in self._waiting)
        return first is None or count >= min(self._open / 2, self.batch_size) or self._closed

    def _answered(self, jobs: Sequence[Job]) -> Sequence[Any]:
        """Results in order; a batch that fails is repeated in halves, down to the job whose fault it is."""
        try:
            return self.answer(jobs)
        except Exception as error:
            if len(jobs) == 1:
                return [error]
            logger.warning("a batch of %d failed (%s); it is repeated in halves", len(jobs), type(error).__name__)
            half = len(jobs) // 2
            return [*self._answered(jobs[:half]), *self._answered(jobs[half:])]


class RowStreamer(BaseStreamer):
    """Hands each row of a batch its text while ``generate`` writes it; without special tokens and leading space.

    Args:
        tokenizer: Of the model.
        jobs: One per row.
    """

    def __init__(self, tokenizer: Any, jobs: Sequence[Job]) -> None:
        self.tokenizer, self.jobs = tokenizer, jobs
        self._ids: list[list[int]] | None = None
        self._given = [""] * len(jobs)

    def put(self, value: torch.Tensor) -> None:
        """Take the prompts (rows, tokens) first, then the next token of each row (rows,)."""
        if self._ids is None:
            self._ids = [[] for _ in self.jobs]
            return
        for row, token in enumerate(value.tolist()):
            if not self.jobs[row].streamed:
                continue
            self._ids[row].append(token)
            text = self.tokenizer.decode(self._ids[row], skip_special_tokens=True).lstrip()
            # a character whose bytes are not all there yet decodes to the replacement character
            if len(text) > len(self._given[row]) and not text.endswith("\ufffd"):
                self.jobs[row].write(text[len(self._given[row]) :])
                self._given[row] = text

    def end(self) -> None:
        """Do nothing: a job ends with its result."""


class StopCancelled(StoppingCriteria):
    """Ends the rows of a batch whose clients have gone.

    Args:
        jobs: One per row.
    """

    def __init__(self, jobs: Sequence[Job]) -> None:
        self.jobs = jobs

    def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
        """Return (rows,) whether each ends here."""
        return torch.tensor([job.cancelled for job in self.jobs], device=input_ids.device)
