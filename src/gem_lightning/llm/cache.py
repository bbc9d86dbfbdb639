"""What an endpoint answered and what it cost: value types and the append-only store on disk."""

from __future__ import annotations

import hashlib
import json
import pathlib
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from gem_lightning.llm.jsonlines import AppendLog


@dataclass(frozen=True)
class Usage:
    """Tokens of one answer; ``estimated`` when the endpoint did not report them."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    estimated: bool = False

    @property
    def total(self) -> int:
        """Prompt and completion tokens together."""
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True)
class ChatRequest:
    """One question to an endpoint.

    Args:
        messages: Chat messages, ``{"role", "content"}`` each.
        schema: JSON schema the answer should follow, or None for free text.
        images: Pictures for the last user message: PNG/JPEG bytes, a path, or uint8 (H, W, 3).
        tag: The caller's own name for the request; comes back in the answer, is not part of its identity.
        sample: Number of the draw: 0, 1, 2 … are different requests with the same words.
        max_tokens: Longest answer, tokens; None takes the client's.
    """

    messages: list[dict[str, Any]]
    schema: dict[str, Any] | None = None
    images: tuple[Any, ...] = ()
    tag: str = ""
    sample: int = 0
    max_tokens: int | None = None


@dataclass(frozen=True)
class Answer:
    """One answer.

    Attributes:
        text: The words; empty when ``error`` is set or the model refused.
        usage: Tokens spent.
        cost: Money spent, USD, at the client's prices.
        key: Content address of the request (SHA-256).
        tag: The request's tag.
        cached: Came from the store: nothing was sent or paid.
        finish_reason: As the endpoint says: ``stop``, ``length``, ``content_filter``, …
        error: Why there is no answer, or None.
    """

    text: str
    usage: Usage = Usage()
    cost: float = 0.0
    key: str = ""
    tag: str = ""
    cached: bool = False
    finish_reason: str = "stop"
    error: str | None = None

    @property
    def ok(self) -> bool:
        """True when the endpoint answered."""
        return self.error is None


@dataclass
class Ledger:
    """What was paid, over every run that shares one store.

    Attributes:
        answers, prompt_tokens, completion_tokens, cost: Of all paid answers in the store (USD).
        this_run: Cost of the answers paid by this process, USD.
        reused: Answers taken from the store instead of being paid.
        retries: Attempts beyond the first.
        failed: Requests that ended without an answer.
        unanswered: Requests that an earlier process sent and whose answer never reached the disk. An endpoint that
            ignores the ``Idempotency-Key`` header may have charged for them.
        stopped: Why the run ended early (the budget), or None.
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
        """All tokens paid."""
        return self.prompt_tokens + self.completion_tokens

    def add(self, answer: Answer) -> None:
        """Book one paid answer."""
        self.answers += 1
        self.prompt_tokens += answer.usage.prompt_tokens
        self.completion_tokens += answer.usage.completion_tokens
        self.cost += answer.cost

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a report."""
        return asdict(self)


@dataclass
class AnswerStore:
    """Answers by content address, on disk as an append-only JSON-lines file; in memory when ``path`` is None.

    Args:
        path: The file; its folder is made. None keeps the answers in memory.
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
        """The stored answer, or None."""
        return self.answers.get(key)

    def sent(self, key: str) -> None:
        """Note that a request is about to be sent."""
        self._write({"sent": key})

    def put(self, answer: Answer) -> None:
        """Keep one paid answer, on disk before in memory."""
        row = asdict(replace(answer, tag="")) | {"usage": asdict(answer.usage)}
        del row["cached"], row["tag"], row["error"]
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
    """SHA-256 of a request's canonical JSON."""
    return hashlib.sha256(json.dumps(payload, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
