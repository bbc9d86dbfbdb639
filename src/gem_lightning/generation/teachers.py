"""Who writes: the composer (offline), an OpenAI-compatible endpoint, a local chat model, or earlier answers."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gem_lightning.errors import DataError
from gem_lightning.llm.cache import Answer, ChatRequest
from gem_lightning.llm.client import ChatClient, ChatError
from gem_lightning.llm.local import LocalClient


@dataclass(frozen=True)
class Written:
    """What a teacher wrote.

    Args:
        text: The words; empty with an error.
        error: Why there are none, or None.
        cut: The answer was longer than it may be and breaks off.
        ended: Why it ended, as the model says.
    """

    text: str
    error: str | None = None
    cut: bool = False
    ended: str = "stop"


class Teacher:
    """Answers chat messages; ``offline`` teachers are never asked, the composer writes in the worker itself."""

    name = "teacher"
    offline = False
    sees_images = False
    at_once = 1  # questions that it works on at the same time

    def open(self) -> None:
        """Make ready, once and before anything is read; raises where the teacher cannot be had."""

    async def write(
        self, messages: list[dict[str, Any]], schema: dict[str, Any] | None, images: Sequence[Any], tag: str
    ) -> Written:
        """Answer ``messages``; ``tag`` names sample and attempt."""
        raise NotImplementedError

    def facts(self) -> dict[str, Any]:
        """For the run card: name and what was paid."""
        return {"teacher": self.name}

    async def close(self) -> None:
        """Give back connections."""


class Compose(Teacher):
    """The offline composer: every number comes from the measurements."""

    name = "compose"
    offline = True


class OpenAITeacher(Teacher):
    """Any OpenAI-compatible endpoint, through :class:`gem_lightning.llm.client.ChatClient`.

    Args:
        model: The endpoint's name of the model.
        images: Send the drawn tracing with the question.
        client: Arguments of the client: ``base_url``, ``api_key_env``, ``cache``, ``concurrency``, ``temperature``,
            ``requests_per_minute``, ``tokens_per_minute``, ``price_in``, ``price_out``, ``budget_usd`` and more.
    """

    def __init__(self, model: str, images: bool = False, **client: Any) -> None:
        self.name, self.sees_images = model, images
        self.client = ChatClient(model, **client)
        self.at_once = self.client.concurrency

    def open(self) -> None:
        """Look for the key.

        Raises:
            DataError: OpenAI's own endpoint wants one, and there is none.
        """
        client = self.client
        if client.api_key_env and "api.openai.com" in client.base_url and not os.environ.get(client.api_key_env):
            raise DataError(
                f"expected a key for {client.base_url} in the environment variable {client.api_key_env}, got none; "
                "set it, name another with teacher.api_key_env, or another endpoint with teacher.base_url"
            )

    async def write(
        self, messages: list[dict[str, Any]], schema: dict[str, Any] | None, images: Sequence[Any], tag: str
    ) -> Written:
        """One answer; what the endpoint refuses becomes an error, what nothing can mend raises."""
        try:
            answer = await self.client.complete(messages, schema, images if self.sees_images else (), tag=tag)
        except ChatError as error:
            if error.fatal:
                raise
            return Written("", str(error))
        return _written(answer)

    def facts(self) -> dict[str, Any]:
        """Model, address and the ledger."""
        return {"teacher": self.name, "base_url": self.client.base_url, "ledger": self.client.ledger.to_dict()}

    async def close(self) -> None:
        """Close connections and the store."""
        await self.client.aclose()


class ReplayTeacher(Teacher):
    """Earlier answers, from this library's runs or anywhere else.

    Args:
        answers: JSON, JSON Lines or Parquet with ``id`` (sample id such as ``ptbxl-1-interpretation``; the id of the
            record also does) and ``text``, ``answer``, ``response`` or ``conversations``. Several rows of one id are
            its attempts in order.
    """

    name = "replay"
    at_once = 64

    def __init__(self, answers: str) -> None:
        self.path = answers
        self._texts: dict[str, list[str]] = {}
        try:
            for row in _rows(Path(answers)):
                text = next((row[name] for name in ("text", "answer", "response") if row.get(name)), None)
                if text is None and row.get("conversations"):
                    text = next((t["value"] for t in row["conversations"] if t["from"] == "gpt"), None)
                if text is not None:
                    self._texts.setdefault(str(row["id"]), []).append(str(text))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            if isinstance(error, DataError):
                raise
            what = f"{type(error).__name__}: {error}"
            raise DataError(f"expected JSON objects with id and text in {answers}, got {what}") from error
        if not self._texts:
            raise DataError(f"expected rows with id and text in {answers}, got none")

    async def write(
        self, messages: list[dict[str, Any]], schema: dict[str, Any] | None, images: Sequence[Any], tag: str
    ) -> Written:
        """The answer of this sample and attempt."""
        sample, _, attempt = tag.rpartition("#")
        texts = self._texts.get(sample) or self._texts.get(sample.rpartition("-")[0])
        if not texts or int(attempt) >= len(texts):
            return Written("", f"no answer for {sample}, attempt {int(attempt) + 1}")
        return Written(texts[int(attempt)])

    def facts(self) -> dict[str, Any]:
        """Where the answers came from."""
        return {"teacher": self.name, "answers": self.path, "texts": sum(len(t) for t in self._texts.values())}


def _rows(path: Path) -> Iterable[dict[str, Any]]:
    if not path.is_file():
        raise DataError(f"expected a file of answers, got nothing at {path}")
    if path.suffix == ".parquet":
        from gem_lightning.sources.tables import table_rows

        return table_rows(path)
    if path.suffix == ".json":
        return json.loads(path.read_text(encoding="utf-8"))
    return (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip())


class LocalTeacher(Teacher):
    """A chat model of transformers on this machine; questions that wait together are answered as one batch.

    Args:
        model: Folder or hub name.
        cache: File in which every answer is kept as it is made; None keeps them in memory.
        batch_size: Questions a batch.
        max_new_tokens: Longest answer, tokens.
        device, dtype: See :class:`gem_lightning.llm.local.LocalClient`.
        patience: How long a batch waits to fill, s.
    """

    def __init__(
        self,
        model: str,
        cache: str | None = None,
        batch_size: int = 8,
        max_new_tokens: int = 512,
        device: str = "auto",
        dtype: str = "auto",
        patience: float = 0.05,
    ) -> None:
        self.client = LocalClient(model, cache, batch_size, max_new_tokens, device, dtype)
        self.name, self.at_once, self.patience = self.client.model, 2 * batch_size, patience
        self._waiting: list[tuple[ChatRequest, asyncio.Future[Answer]]] = []
        self._worker: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Load the model: before worker processes start and before the first record is read."""
        self.client.open()

    async def write(
        self, messages: list[dict[str, Any]], schema: dict[str, Any] | None, images: Sequence[Any], tag: str
    ) -> Written:
        """One answer, from the next batch."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((ChatRequest(messages, tag=tag), future))
        if self._worker is None or self._worker.done():
            self._worker = asyncio.ensure_future(self._work())
        return _written(await future)

    async def _work(self) -> None:
        while self._waiting:
            if len(self._waiting) < self.client.batch_size:
                await asyncio.sleep(self.patience)
            size = self.client.batch_size
            batch, self._waiting = self._waiting[:size], self._waiting[size:]
            requests, futures = zip(*batch)
            try:
                answers = await asyncio.to_thread(self.client.answer, requests)
            except Exception as error:
                for future in futures:
                    if not future.done():  # the run was stopped meanwhile
                        future.set_exception(error)
                continue
            for future, answer in zip(futures, answers):
                if not future.done():
                    future.set_result(answer)

    def facts(self) -> dict[str, Any]:
        """Model, where it ran, and the ledger."""
        return {"teacher": self.name, **self.client.facts(), "ledger": self.client.ledger.to_dict()}

    async def close(self) -> None:
        """Close the store."""
        self.client.store.close()


def _written(answer: Answer) -> Written:
    return Written(answer.text, answer.error, cut=answer.finish_reason == "length", ended=answer.finish_reason)
