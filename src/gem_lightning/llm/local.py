"""Client for a local transformers chat model, with the requests and the answer cache of the endpoint client."""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gem_lightning.errors import DataError
from gem_lightning.llm.cache import Answer, AnswerStore, ChatRequest, Ledger, Usage, content_key

logger = logging.getLogger(__name__)

Chat = list[dict[str, Any]]
_END_OF_REASONING = "</think>"


class LocalClient:
    """Decodes greedily, in batches padded on the left; every answer is cached as it is generated.

    Args:
        model: Folder or hub name of a chat model.
        cache: File of the answer cache; None keeps answers in memory.
        batch_size: Requests per batch; halved where a batch does not fit into device memory.
        max_tokens: Maximum answer length, tokens.
        device: ``auto`` (all GPUs, else the CPU), ``cpu``, ``cuda:1`` …
        dtype: Dtype of the weights, such as ``bfloat16``; ``auto`` keeps the stored one, except float16 on a CPU, where
            float32 is a hundred times faster.
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
        self.path, self.model = model, Path(model).name if Path(model).is_dir() else model
        self.batch_size, self.max_tokens, self.device, self.dtype = batch_size, max_tokens, device, dtype
        self.store = AnswerStore(None if cache is None else Path(cache))
        self._network: Any = None
        self._tokenizer: Any = None
        self._stops: list[int] = []

    @property
    def ledger(self) -> Ledger:
        """Return the counts; a local answer costs nothing."""
        return self.store.ledger

    def ask(self, requests: Iterable[ChatRequest], on_answer: Callable[[Answer], None] | None = None) -> list[Answer]:
        """Return answers in the order of the requests; ``on_answer`` receives each batch as it is generated."""
        answers: list[Answer] = []
        iterator = iter(requests)
        while batch := list(itertools.islice(iterator, self.batch_size)):
            for answer in self.answer(batch):
                answers.append(answer)
                if on_answer:
                    on_answer(answer)
        self.store.close()
        return answers

    def answer(self, batch: Sequence[ChatRequest]) -> list[Answer]:
        """Answer one batch; cached answers are reused.

        Raises:
            DataError: The model cannot be loaded, or one request alone does not fit into memory.
        """
        keys = [
            content_key({"model": self.model, "messages": r.messages, "length": self.max_tokens, "sample": r.sample})
            for r in batch
        ]
        new = {key: request for key, request in zip(keys, batch) if self.store.get(key) is None}
        self.ledger.reused += len(batch) - len(new)
        failed: dict[str, Answer] = {}
        made = self.write([request.messages for request in new.values()]) if new else []
        for key, answer in zip(new, made):
            if answer.error is None:
                self.store.put(replace(answer, key=key))
            else:
                self.ledger.failed += 1
                failed[key] = answer
        return [replace(self.store.get(key) or failed[key], tag=r.tag) for key, r in zip(keys, batch)]

    def open(self) -> None:
        """Load the model once.

        Raises:
            DataError: It does not exist, or it is no chat model.
        """
        if self._network is not None:
            return
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

        if self.path.startswith(("/", ".")) and not Path(self.path).is_dir():
            raise DataError(f"expected a folder with a chat model of transformers at {self.path}, got none")
        try:
            tokenizer = AutoTokenizer.from_pretrained(self.path, padding_side="left")
            network: Any = AutoModelForCausalLM.from_pretrained(self.path, dtype=self.dtype, device_map=self.device)
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise DataError(
                f"expected a chat model of transformers in {self.path} for device {self.device}, got: {reason}; "
                "name a folder that save_pretrained wrote or a model of the hub"
            ) from error
        if tokenizer.chat_template is None:
            raise DataError(f"expected a chat model with a chat template, got {self.model}; use an instruct model")
        if self.dtype == "auto" and network.dtype == torch.float16 and network.device.type == "cpu":
            network = network.float()
        tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
        self._tokenizer, self._stops = tokenizer, _stops(tokenizer, network.generation_config.eos_token_id)
        # The model's own settings are for sampling; a repetition penalty would change repeated numbers.
        network.generation_config = GenerationConfig(
            do_sample=False, max_new_tokens=self.max_tokens, eos_token_id=self._stops, pad_token_id=self._pad
        )
        self._network = network.eval()
        logger.info("%s on %s in %s", self.model, network.device, network.dtype)

    def facts(self) -> dict[str, Any]:
        """Return device and dtype for a run card; empty before the model is loaded."""
        if self._network is None:
            return {}
        return {"device": str(self._network.device), "dtype": str(self._network.dtype).removeprefix("torch.")}

    @property
    def _pad(self) -> int:
        return int(self._tokenizer.pad_token_id)

    def write(self, chats: Sequence[Chat]) -> list[Answer]:
        """Generate answers to chats, without the cache."""
        import torch

        self.open()
        prompts = [_prompt(self._tokenizer, chat) for chat in chats]
        inputs = self._tokenizer(prompts, return_tensors="pt", padding=True, add_special_tokens=False)
        lengths = inputs["attention_mask"].sum(1).tolist()
        room = getattr(self._network.config, "max_position_embeddings", None)
        if room is not None and inputs["input_ids"].shape[1] + self.max_tokens > room:
            if len(chats) > 1:  # only the longest chats fail: answer each alone
                return [answer for chat in chats for answer in self.write([chat])]
            reason = f"expected at most {room - self.max_tokens} tokens of prompt, got {lengths[0]}"
            return [Answer("", error=f"{reason}; shorten the prompt or take a model with a longer context")]
        try:
            with torch.inference_mode():
                ids = self._network.generate(**inputs.to(self._network.device))
        except torch.OutOfMemoryError as error:
            torch.cuda.empty_cache()
            if len(chats) == 1:
                raise DataError(
                    f"expected memory for {self.model} and one prompt of {lengths[0]} tokens, got too little; use "
                    "a smaller model, dtype or max_new_tokens"
                ) from error
            half = len(chats) // 2
            self.batch_size = min(self.batch_size, half)
            logger.warning("a batch of %d does not fit into memory; continuing with %d", len(chats), half)
            return [*self.write(chats[:half]), *self.write(chats[half:])]
        new = ids[:, inputs["input_ids"].shape[1] :].tolist()
        return [self._answer(row, length) for row, length in zip(new, lengths)]

    def _answer(self, row: list[int], prompt_tokens: int) -> Answer:
        """Decode up to the first end of turn, without the reasoning of a thinking model."""
        end = next((place for place, token in enumerate(row) if token in self._stops), None)
        text = self._tokenizer.decode(row[:end], skip_special_tokens=True).rpartition(_END_OF_REASONING)[2].strip()
        usage = Usage(prompt_tokens, len(row) if end is None else end + 1)
        return Answer(text, usage, finish_reason="length" if end is None else "stop")


def _prompt(tokenizer: Any, chat: Chat) -> str:
    """Apply the chat template; where it has no system turn, its text is put before the user's."""
    from jinja2 import TemplateError

    options = {"tokenize": False, "add_generation_prompt": True}
    try:
        return str(tokenizer.apply_chat_template(chat, **options))
    except TemplateError:
        if chat[0]["role"] != "system":
            raise
        first = {"role": "user", "content": f"{chat[0]['content']}\n\n{chat[1]['content']}"}
        return str(tokenizer.apply_chat_template([first, *chat[2:]], **options))


def _stops(tokenizer: Any, configured: int | list[int] | None) -> list[int]:
    """Return the ids that end an answer: of the model, of the tokenizer, and the one that the template appends."""
    found = {*(configured if isinstance(configured, list) else [configured]), tokenizer.eos_token_id}
    chat = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]
    after = str(tokenizer.apply_chat_template(chat, tokenize=False)).rpartition("!")[2]
    ids = tokenizer(after, add_special_tokens=False)["input_ids"]
    found |= {token for token in ids[:1] if token in tokenizer.added_tokens_decoder}
    return sorted(token for token in found if token is not None)
