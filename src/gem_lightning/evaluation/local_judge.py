"""A transformers chat model on this machine in the place of an endpoint: same requests, same store, nothing to pay."""

from __future__ import annotations

import itertools
import os
import pathlib
from collections.abc import Callable, Iterable
from dataclasses import replace

from gem_lightning.grounding.answers import Answer, AnswerStore, ChatRequest, Ledger, Usage, content_key
from gem_lightning.grounding.teacher import LocalTeacher


class LocalClient:
    """Answers greedily, in batches.

    Args:
        model: Folder or hub name of a chat model.
        cache: File of the answer store; None keeps answers in memory.
        batch_size: Questions a batch.
        max_tokens: Longest answer, tokens.
        device: ``auto``, ``cpu``, ``cuda`` …
        dtype: Of the weights, such as ``bfloat16``.
    """

    def __init__(
        self,
        model: str,
        cache: str | os.PathLike[str] | None = None,
        batch_size: int = 8,
        max_tokens: int = 2048,
        device: str = "auto",
        dtype: str = "auto",
    ) -> None:
        self.model, self.max_tokens = pathlib.Path(model).name, max_tokens
        self.batch_size = batch_size
        self.store = AnswerStore(None if cache is None else pathlib.Path(cache))
        self._teacher = LocalTeacher(model, batch_size, max_tokens, device, dtype)

    @property
    def ledger(self) -> Ledger:
        """Counts only: a local answer costs nothing."""
        return self.store.ledger

    def ask(self, requests: Iterable[ChatRequest], on_answer: Callable[[Answer], None] | None = None) -> list[Answer]:
        """Answers in the order of the requests."""
        answers: list[Answer] = []
        for batch in _batches(requests, self.batch_size):
            for answer in self._answer(batch):
                answers.append(answer)
                if on_answer:
                    on_answer(answer)
        self.store.close()
        return answers

    def _answer(self, batch: list[ChatRequest]) -> list[Answer]:
        keys = [
            content_key({"model": self.model, "messages": r.messages, "length": self.max_tokens, "sample": r.sample})
            for r in batch
        ]
        new = {key: request for key, request in zip(keys, batch) if self.store.get(key) is None}
        self.ledger.reused += len(batch) - len(new)
        if new:
            texts = self._teacher.answer([request.messages for request in new.values()])
            for key, text in zip(new, texts):
                self.store.put(Answer(text, Usage(0, len(text) // 4 + 1, estimated=True), key=key))
        return [replace(self.store.answers[key], tag=request.tag) for key, request in zip(keys, batch)]


def _batches(requests: Iterable[ChatRequest], size: int) -> Iterable[list[ChatRequest]]:
    iterator = iter(requests)
    while batch := list(itertools.islice(iterator, size)):
        yield batch
