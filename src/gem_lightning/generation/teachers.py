"""Teachers: the offline composer, an OpenAI-compatible endpoint, a local chat model, or earlier answers."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gem_lightning.errors import DataError
from gem_lightning.llm.cache import Answer, ChatRequest
from gem_lightning.llm.client import ChatClient, ChatError
from gem_lightning.llm.local import LocalClient
from gem_lightning.sources.tables import table_rows

__all__ = ["Compose", "LocalTeacher", "OpenAITeacher", "ReplayTeacher", "ReportTeacher", "Teacher", "TeacherAnswer"]


@dataclass(frozen=True)
class TeacherAnswer:
    """Answer of a teacher LLM.

    Args:
        text: Text; empty with an error.
        error: Reason why there is no text, or None.
        cut: The answer reached the maximum length and breaks off.
        ended: Finish reason reported by the model.
    """

    text: str
    error: str | None = None
    cut: bool = False
    ended: str = "stop"


class Teacher:
    """Answers chat messages; an ``offline`` teacher is never prompted, the composer runs in the worker."""

    name = "teacher"
    offline = False
    verbatim = False  # free texts are the records' reports
    sees_images = False
    at_once = 1  # prompts in flight

    def open(self) -> None:
        """Prepare, once and before anything is read; raises where the teacher is unavailable."""

    async def write(
        self, messages: list[dict[str, Any]], schema: dict[str, Any] | None, images: Sequence[Any], tag: str
    ) -> TeacherAnswer:
        """Answer ``messages``; ``tag`` names sample and attempt."""
        raise NotImplementedError

    def facts(self) -> dict[str, Any]:
        """Return facts for the run card: name and cost."""
        return {"teacher": self.name}

    async def close(self) -> None:
        """Release connections."""


class Compose(Teacher):
    """The offline composer: every number comes from the measurements, the diagnosis from a report if there is one."""

    name = "compose"
    offline = True


class ReportTeacher(Teacher):
    """The records' own reports as they are, cleaned: their claims are verified, and contradictions listed."""

    name = "report"
    offline = True
    verbatim = True


class OpenAITeacher(Teacher):
    """Any OpenAI-compatible endpoint, through :class:`gem_lightning.llm.client.ChatClient`.

    Args:
        model: The endpoint's name of the model.
        images: Send the rendered tracing with the prompt.
        client: Arguments of the client: ``base_url``, ``api_key_env``, ``cache``, ``concurrency``, ``temperature``,
            ``requests_per_minute``, ``tokens_per_minute``, ``price_in``, ``price_out``, ``budget_usd`` and more.
    """

    def __init__(self, model: str, images: bool = False, **client: Any) -> None:
        self.name, self.sees_images = model, images
        self.client = ChatClient(model, **client)
        self.at_once = self.client.concurrency

    def open(self) -> None:
        """Check for the key.

        Raises:
            DataError: OpenAI's own endpoint requires one, and there is none.
        """
        client = self.client
        if client.api_key_env and "api.openai.com" in client.base_url and not os.environ.get(client.api_key_env):
            raise DataError(
                f"expected a key for {client.base_url} in the environment variable {client.api_key_env}, got none; "
                "set it, name another with teacher.api_key_env, or another endpoint with teacher.base_url"
            )

    async def write(
        self, messages: list[dict[str, Any]], schema: dict[str, Any] | None, images: Sequence[Any], tag: str
    ) -> TeacherAnswer:
        """Return one answer; a refused request becomes an error in it, a fatal failure is raised."""
        try:
            answer = await self.client.complete(messages, schema, images if self.sees_images else (), tag=tag)
        except ChatError as error:
            if error.fatal:
                raise
            return TeacherAnswer("", str(error))
        return _teacher_answer(answer)

    def facts(self) -> dict[str, Any]:
        """Return model, address and ledger."""
        return {"teacher": self.name, "base_url": self.client.base_url, "ledger": self.client.ledger.to_dict()}

    async def close(self) -> None:
        """Close connections and the cache."""
        await self.client.aclose()


class ReplayTeacher(Teacher):
    """Replays earlier answers, from this library's runs or elsewhere.

    Args:
        answers: JSON, JSON Lines or Parquet with ``id`` (sample id such as ``ptbxl-1-interpretation``, or the id of the
            record) and ``text``, ``answer``, ``response`` or ``conversations``. Several rows of one id are
            its attempts in order.
    """

    name = "replay"
    at_once = 64

    def __init__(self, answers: str) -> None:
        self.path = answers
        self._texts: dict[str, list[str]] = {}
        if not Path(answers).is_file():
            raise DataError(f"expected a file of answers, got nothing at {answers}")
        try:
            for row in table_rows(Path(answers)):
                text = next((row[name] for name in ("text", "answer", "response") if row.get(name)), None)
                if text is None and row.get("conversations"):
                    text = next((t["value"] for t in row["conversations"] if t["from"] == "gpt"), None)
                if text is not None:
                    self._texts.setdefault(str(row["id"]), []).append(str(text))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            if isinstance(error, DataError):
                raise
            reason = f"{type(error).__name__}: {error}"
            raise DataError(f"expected JSON objects with id and text in {answers}, got {reason}") from error
        if not self._texts:
            raise DataError(f"expected rows with id and text in {answers}, got none")

    async def write(
        self, messages: list[dict[str, Any]], schema: dict[str, Any] | None, images: Sequence[Any], tag: str
    ) -> TeacherAnswer:
        """Return the answer of this sample and attempt."""
        sample, _, attempt = tag.rpartition("#")
        texts = self._texts.get(sample) or self._texts.get(sample.rpartition("-")[0])
        if not texts or int(attempt) >= len(texts):
            return TeacherAnswer("", f"no answer for {sample}, attempt {int(attempt) + 1}")
        return TeacherAnswer(texts[int(attempt)])

    def facts(self) -> dict[str, Any]:
        """Return the origin of the answers."""
        return {"teacher": self.name, "answers": self.path, "texts": sum(len(t) for t in self._texts.values())}


class LocalTeacher(Teacher):
    """A local chat model of transformers; prompts that wait together are answered as one batch.

    Args:
        model: Folder or hub name.
        cache: File of the answer cache; None keeps answers in memory.
        batch_size: Prompts per batch.
        max_new_tokens: Maximum answer length, tokens.
        device, dtype: See :class:`gem_lightning.llm.local.LocalClient`.
        patience: Time that a batch waits to fill, s.
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
    ) -> TeacherAnswer:
        """Return one answer, from the next batch."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((ChatRequest(messages, tag=tag), future))
        if self._worker is None or self._worker.done():
            self._worker = asyncio.ensure_future(self._work())
        return _teacher_answer(await future)

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
                    if not future.done():  # the run was stopped in the meantime
                        future.set_exception(error)
                continue
            for future, answer in zip(futures, answers):
                if not future.done():
                    future.set_result(answer)

    def facts(self) -> dict[str, Any]:
        """Return model, device and ledger."""
        return {"teacher": self.name, **self.client.facts(), "ledger": self.client.ledger.to_dict()}

    async def close(self) -> None:
        """Close the cache."""
        self.client.store.close()


def _teacher_answer(answer: Answer) -> TeacherAnswer:
    return TeacherAnswer(answer.text, answer.error, cut=answer.finish_reason == "length", ended=answer.finish_reason)
