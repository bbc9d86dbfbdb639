"""Who writes: the composer (offline), an OpenAI-compatible endpoint, a local chat model, or earlier answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gem_lightning.errors import DataError
from gem_lightning.grounding.client import ChatClient, ChatError


@dataclass(frozen=True)
class Written:
    """What a teacher wrote.

    Args:
        text: The words; empty with an error.
        error: Why there are none, or None.
    """

    text: str
    error: str | None = None


class Teacher:
    """Answers chat messages; ``offline`` teachers are never asked, the composer writes in the worker itself."""

    name = "teacher"
    offline = False
    sees_images = False
    at_once = 1  # questions that it works on at the same time

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
    """Any OpenAI-compatible endpoint, through :class:`gem_lightning.grounding.client.ChatClient`.

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
        if not answer.text.strip():
            return Written("", f"empty answer ({answer.finish_reason})")
        return Written(answer.text)

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
        for row in _rows(Path(answers)):
            text = next((row[name] for name in ("text", "answer", "response") if row.get(name)), None)
            if text is None and row.get("conversations"):
                text = next((t["value"] for t in row["conversations"] if t["from"] == "gpt"), None)
            if text is not None:
                self._texts.setdefault(str(row["id"]), []).append(text)
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
        from gem_lightning.grounding.sources import table_rows

        return table_rows(path)
    if path.suffix == ".json":
        return json.loads(path.read_text(encoding="utf-8"))
    return (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip())


class LocalTeacher(Teacher):
    """A chat model of transformers on this machine; questions that wait together are answered as one batch.

    Args:
        model: Folder or hub name.
        batch_size: Questions a batch.
        max_new_tokens: Longest answer, tokens.
        device: ``auto``, ``cpu``, ``cuda`` …
        dtype: Of the weights, such as ``bfloat16``.
        patience: How long a batch waits to fill, s.
    """

    def __init__(
        self,
        model: str,
        batch_size: int = 8,
        max_new_tokens: int = 512,
        device: str = "auto",
        dtype: str = "auto",
        patience: float = 0.05,
    ) -> None:
        self.name, self.at_once = model, 2 * batch_size
        self.batch_size, self.max_new_tokens, self.patience = batch_size, max_new_tokens, patience
        self.device, self.dtype = device, dtype
        self._loaded: Any = None
        self._waiting: list[tuple[list[dict[str, Any]], asyncio.Future[str]]] = []
        self._worker: asyncio.Task[None] | None = None

    async def write(
        self, messages: list[dict[str, Any]], schema: dict[str, Any] | None, images: Sequence[Any], tag: str
    ) -> Written:
        """One answer, from the next batch."""
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiting.append((messages, answer))
        if self._worker is None or self._worker.done():
            self._worker = asyncio.ensure_future(self._work())
        return Written(await answer)

    async def _work(self) -> None:
        while self._waiting:
            if len(self._waiting) < self.batch_size:
                await asyncio.sleep(self.patience)
            batch, self._waiting = self._waiting[: self.batch_size], self._waiting[self.batch_size :]
            try:
                texts = await asyncio.to_thread(self.answer, [messages for messages, _ in batch])
            except Exception as error:
                for _, future in batch:
                    future.set_exception(error)
                continue
            for (_, future), text in zip(batch, texts):
                future.set_result(text)

    def answer(self, chats: Sequence[list[dict[str, Any]]]) -> list[str]:
        """Greedy answers to a batch of chats."""
        import torch

        tokenizer, model = self._load()
        prompts = [tokenizer.apply_chat_template(c, tokenize=False, add_generation_prompt=True) for c in chats]
        inputs = tokenizer(prompts, return_tensors="pt", padding=True, add_special_tokens=False).to(model.device)
        with torch.inference_mode():
            ids = model.generate(
                **inputs, max_new_tokens=self.max_new_tokens, do_sample=False, pad_token_id=tokenizer.pad_token_id
            )
        return tokenizer.batch_decode(ids[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)

    def _load(self) -> Any:
        if self._loaded is None:
            import torch
            from transformers import AutoModelForCausalLM, AutoTokenizer

            device = self.device
            if device == "auto":
                device = "cuda" if torch.cuda.is_available() else "cpu"
            tokenizer = AutoTokenizer.from_pretrained(self.name, padding_side="left")
            if tokenizer.chat_template is None:
                raise DataError(f"expected a chat model with a chat template, got {self.name}; take an instruct model")
            tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
            model: Any = AutoModelForCausalLM.from_pretrained(self.name, dtype=self.dtype)
            model = model.to(device).eval()
            self._loaded = (tokenizer, model)
        return self._loaded
