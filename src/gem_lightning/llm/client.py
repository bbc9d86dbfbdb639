"""One client for every OpenAI-compatible chat endpoint: the teacher, the judge and API models under test use it.

Concurrent, rate limited, retrying; every answer is paid once and kept in an append-only store
(:class:`~gem_lightning.llm.cache.AnswerStore`), also across ``kill -9``.

    client = ChatClient("gpt-4o-2024-08-06", cache="out/answers.jsonl", price_in=2.5, price_out=10, budget_usd=20)
    answers = client.ask([ChatRequest([{"role": "user", "content": "Is this ECG normal?"}], images=(png,))])
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import pathlib
import random
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, NoReturn

from gem_lightning.errors import GemError, MissingExtraError
from gem_lightning.llm.budget import BudgetError, Gate, RateLimit, estimate_tokens
from gem_lightning.llm.cache import Answer, AnswerStore, ChatRequest, Ledger, Usage, content_key
from gem_lightning.llm.messages import with_images
from gem_lightning.llm.request import RequestShape

logger = logging.getLogger(__name__)

__all__ = ["Answer", "AnswerStore", "ChatClient", "ChatError", "ChatRequest", "Ledger", "Usage"]

RETRY_STATUS = {408, 409, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529}
_TELL_EVERY = 10.0  # s between two lines about failed attempts


class ChatError(GemError):
    """The endpoint gave no answer.

    Attributes:
        fatal: No other request can succeed either (key, quota, address).
        silent: It said nothing, as opposed to a refusal.
    """

    def __init__(self, message: str, fatal: bool = False, silent: bool = False) -> None:
        super().__init__(message)
        self.fatal, self.silent = fatal, silent


class _PassingError(Exception):
    """A failure that may pass; ``after`` is the endpoint's own wish, s."""

    def __init__(self, why: str, after: float | None = None) -> None:
        super().__init__(why)
        self.after = after


class ChatClient:
    """Asks an OpenAI-compatible endpoint through the official client (`openai`).

    Args:
        model: The endpoint's name of the model.
        base_url: Address up to and including ``/v1``.
        api_key_env: Environment variable that holds the key, or None; read when asking, never stored or logged.
        cache: File of the answer store; None keeps answers in memory. The ledger and the budget are over this file.
        concurrency: Requests in flight at once.
        temperature: 0 for judging.
        max_tokens: Longest answer, tokens.
        timeout: For one attempt, s.
        retries: Attempts after the first, for 429, 5xx, timeouts, refused or cut connections and cut bodies.
        backoff: First wait, s; doubles with each attempt up to 60 s, with jitter.
        requests_per_minute: Limit, or None.
        tokens_per_minute: Limit, or None.
        price_in: USD per million prompt tokens.
        price_out: USD per million completion tokens.
        budget_usd: Stop before the store's cost would exceed this.
        budget_tokens: Stop before the store's tokens would exceed this.
        structured: How a schema is sent: ``json_schema``, ``json_object``, ``none``, or ``auto`` (the first of these
            that the endpoint accepts).
        extra: Further fields of the request body.

    Raises:
        GemError: A money budget without prices.
    """

    def __init__(
        self,
        model: str,
        base_url: str = "https://api.openai.com/v1",
        api_key_env: str | None = "OPENAI_API_KEY",
        *,
        cache: str | os.PathLike[str] | None = None,
        concurrency: int = 32,
        temperature: float = 0.0,
        max_tokens: int = 2048,
        timeout: float = 120.0,
        retries: int = 6,
        backoff: float = 0.5,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        price_in: float = 0.0,
        price_out: float = 0.0,
        budget_usd: float | None = None,
        budget_tokens: int | None = None,
        structured: str = "auto",
        extra: dict[str, Any] | None = None,
    ) -> None:
        if budget_usd is not None and price_in <= 0 and price_out <= 0:
            raise GemError(
                "expected prices with budget_usd, got none; give price_in and price_out (USD per 1e6 tokens)"
            )
        self.model, self.base_url, self.api_key_env = model, base_url.rstrip("/"), api_key_env
        self.concurrency, self.temperature, self.max_tokens = concurrency, temperature, max_tokens
        self.timeout, self.retries, self.backoff = timeout, retries, backoff
        self.price_in, self.price_out = price_in / 1e6, price_out / 1e6
        self.extra = dict(extra or {})
        self.store = AnswerStore(None if cache is None else pathlib.Path(cache))
        self._rates = (RateLimit(requests_per_minute), RateLimit(tokens_per_minute))
        self._gate = Gate(self.ledger, budget_usd, budget_tokens)
        self._shape = RequestShape(model, temperature, structured, self.extra)
        self._client: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._asking: dict[str, asyncio.Task[Answer]] = {}
        self._pause_until = self._told_at = 0.0
        self._reached, self._answered, self._failed_in_a_row = False, False, 0

    @property
    def ledger(self) -> Ledger:
        """What was paid so far."""
        return self.store.ledger

    # -- asking ---------------------------------------------------------------------------------------------------

    async def complete(
        self,
        messages: list[dict[str, Any]],
        schema: dict[str, Any] | None = None,
        images: Iterable[Any] = (),
        *,
        sample: int = 0,
        max_tokens: int | None = None,
        tag: str = "",
    ) -> Answer:
        """One answer; arguments as in :class:`ChatRequest`.

        Raises:
            ChatError: No answer after every retry, or the endpoint refuses the request.
        """
        answer = await self._answer(ChatRequest(messages, schema, tuple(images), tag, sample, max_tokens))
        if not answer.ok:
            raise ChatError(answer.error or "no answer")
        return answer

    async def complete_many(
        self, requests: Iterable[ChatRequest], on_answer: Callable[[Answer], None] | None = None
    ) -> list[Answer]:
        """Answers in the order of the requests; ``on_answer`` sees each as it arrives.

        A request that fails gives an answer with ``error`` set. When the budget is reached the rest are not sent: they
        are absent from the list and ``ledger.stopped`` says why.

        Raises:
            ChatError: The key, the quota or the address is wrong, or nothing is answered any more: go on later.
        """
        queue = enumerate(requests)
        done: dict[int, Answer] = {}

        async def work() -> None:
            for number, request in queue:
                try:
                    done[number] = answer = await self._answer(request)
                except BudgetError as stop:
                    self.ledger.stopped = str(stop)
                    return
                if on_answer:
                    on_answer(answer)
                if self.ledger.stopped:
                    return

        self.ledger.stopped = None
        workers = [asyncio.ensure_future(work()) for _ in range(self.concurrency)]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
        return [done[number] for number in sorted(done)]

    def ask(self, requests: Iterable[ChatRequest], on_answer: Callable[[Answer], None] | None = None) -> list[Answer]:
        """:meth:`complete_many` for callers without an event loop (a notebook's own loop is left alone)."""
        from concurrent.futures import ThreadPoolExecutor

        async def session() -> list[Answer]:
            try:
                return await self.complete_many(requests, on_answer)
            finally:
                await self.aclose()

        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return asyncio.run(session())
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(asyncio.run, session()).result()

    async def aclose(self) -> None:
        """Close connections and the store's file; both open again when needed."""
        if self._client is not None:
            await self._client.close()
            self._client = None
        self.store.close()

    # -- one request ----------------------------------------------------------------------------------------------

    async def _answer(self, request: ChatRequest) -> Answer:
        self._enter_loop()
        messages = with_images(request.messages, request.images)
        length = request.max_tokens or self.max_tokens
        key = content_key({
            "url": self.base_url, "model": self.model, "messages": messages, "schema": request.schema,
            "temperature": self.temperature, "length": length, "sample": request.sample, "extra": self.extra,
        })  # fmt: skip
        stored = self.store.get(key)
        if stored is not None:
            self.ledger.reused += 1
            return replace(stored, tag=request.tag)
        task = self._asking.get(key)
        if task is None:
            task = asyncio.ensure_future(self._pay(key, messages, request.schema, length))
            self._asking[key] = task
            task.add_done_callback(lambda _: self._asking.pop(key, None))
        return replace(await task, tag=request.tag)

    async def _pay(self, key: str, messages: list[dict[str, Any]], schema: dict | None, length: int) -> Answer:
        prompt = estimate_tokens(messages)
        expected = (prompt + length, prompt * self.price_in + length * self.price_out)
        await self._gate.enter(*expected)
        try:
            await self._rates[0].take(1)
            await self._rates[1].take(prompt)
            self.store.sent(key)
            try:
                answer = self._read(await self._send(key, messages, schema, length), key, prompt)
            except ChatError as error:
                self.ledger.failed += 1
                self._failed_in_a_row += 1
                if error.fatal:
                    raise
                answered = self._answered or self.ledger.answers > 0  # a resumed run may ask refused questions alone
                if self._failed_in_a_row >= 2 * self.concurrency and (error.silent or not answered):
                    again = (
                        f"{self._failed_in_a_row} questions in a row were not answered; mend it and run the same again"
                    )
                    raise ChatError(f"{error}; {again}", fatal=True) from None
                return Answer("", key=key, error=str(error))
            self._failed_in_a_row, self._answered = 0, True
            self._rates[1].settle(answer.usage.total - prompt)
            self.store.put(answer)
            return answer
        finally:
            await self._gate.leave(*expected)

    def _read(self, body: dict[str, Any], key: str, prompt: int) -> Answer:
        choice = body["choices"][0]
        text = choice["message"].get("content") or ""
        told = body.get("usage") or {}
        usage = (
            Usage(int(told["prompt_tokens"]), int(told.get("completion_tokens") or 0))
            if told.get("prompt_tokens") is not None
            else Usage(prompt, len(text) // 4 + 1, estimated=True)
        )
        cost = usage.prompt_tokens * self.price_in + usage.completion_tokens * self.price_out
        return Answer(text, usage, cost, key, finish_reason=choice.get("finish_reason") or "stop")

    async def _send(self, key: str, messages: list[dict], schema: dict | None, length: int) -> dict[str, Any]:
        attempt = 0
        while True:
            await self._pause()
            try:
                return await self._post(key, self._shape.body(messages, schema, length))
            except _AdaptedError:
                continue
            except _PassingError as failure:
                if attempt == self.retries:
                    raise self._silent(attempt + 1, failure) from None
                wait = min(60.0, self.backoff * 2**attempt) * random.uniform(0.5, 1.0)
                if failure.after is not None:
                    wait = max(wait, failure.after)
                    self._pause_until = max(self._pause_until, asyncio.get_running_loop().time() + failure.after)
                attempt += 1
                self.ledger.retries += 1
                if (now := asyncio.get_running_loop().time()) - self._told_at > _TELL_EVERY:
                    self._told_at = now
                    words = "attempt %d at %s failed (%s); again in %.1f s; %d retries so far"
                    logger.info(words, attempt, self.model, failure, wait, self.ledger.retries)
                await asyncio.sleep(wait)

    def _silent(self, attempts: int, failure: Exception) -> ChatError:
        """No answer to one question; fatal where the endpoint was never there."""
        words = f"no answer from {self.model} at {self.base_url} after {attempts} attempts; last: {failure}"
        if not self._reached:
            return ChatError(f"{words}; check the address, and that the server runs", fatal=True)
        return ChatError(words, silent=True)

    async def _post(self, key: str, body: dict[str, Any]) -> dict[str, Any]:
        import openai

        rest = {name: value for name, value in body.items() if name not in ("model", "messages")}
        try:
            reply = await self._client.chat.completions.with_raw_response.create(
                model=body["model"],
                messages=body["messages"],
                extra_body=rest,
                extra_headers={"Idempotency-Key": key},
            )
        except openai.APIStatusError as error:
            self._reached = True
            self._refused(error.response, body)
        except openai.APIConnectionError as error:  # refused, cut or timed out
            connecting = type(error.__cause__).__name__ == "ConnectTimeout"  # of httpx or httpx2
            self._reached |= isinstance(error, openai.APITimeoutError) and not connecting
            raise _PassingError(f"{str(error).rstrip('.')}: {error.__cause__ or type(error).__name__}") from None
        self._reached = True
        try:
            answer = json.loads(reply.http_response.content)
            answer["choices"][0]["message"].get("content")
        except (ValueError, KeyError, IndexError, TypeError, AttributeError):
            raise _PassingError("the body is not a whole chat completion") from None
        return answer

    def _refused(self, reply: Any, body: dict[str, Any]) -> NoReturn:
        """Raise what a status other than 200 means."""
        secret = os.environ.get(self.api_key_env or "", "")
        told = (reply.text.replace(secret, "***") if secret else reply.text)[:500]  # a cut key would not be found
        if reply.status_code in (400, 422) and self._shape.adapts(told, body):
            raise _AdaptedError
        if reply.status_code in (401, 403, 404) or "insufficient_quota" in told:
            raise ChatError(
                f"expected an answer from {self.base_url}, got HTTP {reply.status_code}: {told}; check the address, "
                f"the model {self.model!r}, the quota and the key in ${self.api_key_env} "
                f"({'set' if secret else 'not set'})",
                fatal=True,
            )
        if reply.status_code in RETRY_STATUS or reply.status_code >= 500:
            raise _PassingError(f"HTTP {reply.status_code}", _seconds(reply.headers.get("retry-after")))
        raise ChatError(f"{self.model} refuses the request, HTTP {reply.status_code}: {told}")

    # -- event loop -----------------------------------------------------------------------------------------------

    def _enter_loop(self) -> None:
        """Connections and locks belong to one event loop: make them anew in another."""
        loop = asyncio.get_running_loop()
        if loop is self._loop and self._client is not None:
            return
        try:
            import openai
        except ImportError:
            raise MissingExtraError("openai", "teacher") from None
        for name in ("httpx", "httpx2"):  # by the client's version; it tells of every request at INFO
            logging.getLogger(name).setLevel(logging.WARNING)
        local = any(host in self.base_url for host in ("//127.", "//localhost", "//[::1]"))
        encrypted = self.base_url.startswith("https:")  # reading the certificates takes longer than many answers
        self._client = openai.AsyncOpenAI(
            api_key=os.environ.get(self.api_key_env or "") or "none",  # a server of one's own often wants no key
            base_url=self.base_url,
            timeout=self.timeout,
            max_retries=0,
            http_client=openai.DefaultAsyncHttpxClient(trust_env=not local, verify=encrypted, timeout=self.timeout),
        )
        self._loop, self._asking, self._pause_until = loop, {}, 0.0
        self._gate.enter_loop()

    async def _pause(self) -> None:
        """Wait while the endpoint has asked everybody to wait."""
        while (wait := self._pause_until - asyncio.get_running_loop().time()) > 0:
            await asyncio.sleep(wait)


class _AdaptedError(Exception):
    """The body was reshaped: send again, it is no failed attempt."""


def _seconds(header: str | None) -> float | None:
    try:
        return min(float(header), 300.0) if header else None
    except ValueError:
        return None
