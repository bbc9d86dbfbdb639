"""Requests, answers and their cost, and the append-only answer cache on disk."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import pathlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from gem_lightning.jobs import room_for

logger = logging.getLogger(__name__)


class AppendLog:
    """Append-only JSON-lines file that survives ``kill -9``: one ``write`` call per row.

    A killed process leaves at most one torn last line: reading skips it, the next row starts on a new line, and
    nothing that is written is ever rewritten.

    Args:
        path: File; its folder is created with the first row.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = pathlib.Path(path)
        self._file: int | None = None
        self._torn = False

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield the complete rows so far."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            for line in file:
                if not line.strip():
                    continue
                try:
                    row = json.loads(line)
                except ValueError:
                    logger.warning("%s: skipped an incomplete line of a killed process", self.path)
                    continue
                yield row

    def append(self, row: dict[str, Any]) -> None:
        """Append one row.

        Raises:
            NoRoomError: The disk is full.
        """
        with room_for(self.path):
            if self._file is None:
                self._open()
            assert self._file is not None
            line = json.dumps(row, ensure_ascii=False).encode() + b"\n"
            if self._torn:
                line = b"\n" + line
            self._torn = True  # until the row is complete
            while line:
                line = line[os.write(self._file, line) :]
            self._torn = False

    def _open(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # 0644: others of the group may reuse paid answers
        self._file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        size = os.fstat(self._file).st_size
        self._torn = size > 0 and os.pread(self._file, 1, size - 1) != b"\n"

    def close(self) -> None:
        """Flush to the disk and close; a later row opens the file again."""
        if self._file is not None:
            os.fsync(self._file)
            os.close(self._file)
            self._file = None

    def __enter__(self) -> AppendLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True)
class Usage:
    """Token counts of one answer; ``estimated`` when the endpoint did not report them."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    estimated: bool = False

    @property
    def total(self) -> int:
        """Return prompt and completion tokens together."""
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True)
class ChatRequest:
    """One request to a chat model.

    Args:
        messages: Chat messages, each ``{"role", "content"}``.
        schema: JSON schema of the answer, or None for free text.
        images: Images for the last user message: PNG/JPEG bytes, a path, or uint8 (H, W, 3).
        tag: The caller's name for the request; returned with the answer, not part of the cache key.
        sample: Sample number: 0, 1, 2 … are different requests with the same messages.
        max_tokens: Maximum answer length, tokens; None takes the client's.
        tools: Functions that the model may call, as the endpoint takes them.
    """

    messages: list[dict[str, Any]]
    schema: dict[str, Any] | None = None
    images: tuple[Any, ...] = ()
    tag: str = ""
    sample: int = 0
    max_tokens: int | None = None
    tools: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True)
class Answer:
    """One answer of a chat model.

    Attributes:
        text: Answer text; empty when ``error`` is set or the model refused.
        usage: Token counts.
        cost: Cost at the client's prices, USD.
        key: Cache key of the request (SHA-256).
        tag: The request's tag.
        cached: Taken from the cache: nothing was sent or paid.
        finish_reason: As reported by the endpoint: ``stop``, ``length``, ``content_filter``, …
        error: Reason why there is no answer, or None.
        tool_calls: Calls that the model makes before it answers, as the endpoint sends them.
    """

    text: str
    usage: Usage = Usage()
    cost: float = 0.0
    key: str = ""
    tag: str = ""
    cached: bool = False
    finish_reason: str = "stop"
    error: str | None = None
    tool_calls: list[dict[str, Any]] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Return whether the endpoint answered."""
        return self.error is None


@dataclass
class Ledger:
    """Costs and counts, over every run that shares one cache file.

    Attributes:
        answers, prompt_tokens, completion_tokens, cost: Totals of all paid answers in the cache (cost in USD).
        this_run: Cost of the answers paid by this process, USD.
        reused: Answers taken from the cache instead of being paid.
        retries: Attempts beyond the first.
        failed: Requests that ended without an answer.
        unanswered: Requests that an earlier process sent and whose answer never reached the disk. An endpoint that
            ignores the ``Idempotency-Key`` header may have charged for them.
        stopped: Reason why the run ended early (the budget), or None.
    """

    answers: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0
    this_run: float = 0.0
    reused: int = 0
    retries: int = 0
    failed: int = 0
    unanswered: int = 0
    stopped: str | None = None

    @property
    def tokens(self) -> int:
        """Return the number of tokens paid."""
        return self.prompt_tokens + self.completion_tokens

    def add(self, answer: Answer) -> None:
        """Add one paid answer."""
        self.answers += 1
        self.prompt_tokens += answer.usage.prompt_tokens
        self.completion_tokens += answer.usage.completion_tokens
        self.cost += answer.cost

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for a report."""
        return asdict(self)


@dataclass
class AnswerStore:
    """Cache of answers by request key, on disk as an append-only JSON-lines file.

    Args:
        path: File; its folder is created. None keeps the answers in memory.
    """

    path: pathlib.Path | None = None
    answers: dict[str, Answer] = field(default_factory=dict)
    ledger: Ledger = field(default_factory=Ledger)
    _log: AppendLog | None = None

    def __post_init__(self) -> None:
        if self.path is None:
            return
        self._log = AppendLog(self.path)
        sent: set[str] = set()
        for row in self._log.rows():
            if "sent" in row:
                sent.add(row["sent"])
                continue
            answer = Answer(**{**row, "usage": Usage(**row["usage"]), "cached": True})
            self.ledger.add(answer)
            self.answers.setdefault(answer.key, answer)
        self.ledger.unanswered = len(sent - self.answers.keys())

    def get(self, key: str) -> Answer | None:
        """Return the cached answer, or None."""
        return self.answers.get(key)

    def sent(self, key: str) -> None:
        """Record that a request is about to be sent."""
        self._write({"sent": key})

    def put(self, answer: Answer) -> None:
        """Store one paid answer, on disk before in memory."""
        row = asdict(replace(answer, tag="")) | {"usage": asdict(answer.usage)}
        del row["cached"], row["tag"], row["error"]
        if not answer.tool_calls:
            del row["tool_calls"]
        self._write(row)
        self.answers[answer.key] = replace(answer, cached=True)
        self.ledger.add(answer)
        self.ledger.this_run += answer.cost

    def _write(self, row: dict[str, Any]) -> None:
        if self._log is not None:
            self._log.append(row)

    def close(self) -> None:
        """Flush to the disk and close the file."""
        if self._log is not None:
            self._log.close()


def content_key(payload: dict[str, Any]) -> str:
    """Return the SHA-256 of a request's canonical JSON."""
    return hashlib.sha256(json.dumps(payload, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
