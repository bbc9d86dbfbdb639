"""Client for OpenAI-compatible chat endpoints: used by the teacher, the judges and API models under test.

Concurrent, rate limited, retrying; every answer is paid once and kept in an append-only cache
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
from dataclasses import dataclass, field, fields, replace
from typing import Any, NoReturn, TypeVar

from gem_lightning.errors import GemError, MissingExtraError
from gem_lightning.llm.budget import Budget, BudgetError, BudgetGate, Limits, RateLimit, estimate_tokens
from gem_lightning.llm.cache import Answer, AnswerStore, ChatRequest, Ledger, Usage, content_key
from gem_lightning.llm.request import RequestShape, Sampling, with_images

logger = logging.getLogger(__name__)
Group = TypeVar("Group", Sampling, Limits, Budget)

__all__ = ["Answer", "AnswerStore", "Budget", "ChatClient", "ChatError", "ChatRequest", "Ledger", "Limits", "Sampling"]

RETRY_STATUS = {408, 409, 425, 429}  # and every 5xx: failures that may pass
LOG_EVERY_S = 10.0  # between two log lines about failed attempts: many requests fail together
LONGEST_BACKOFF_S = 60.0
LONGEST_RETRY_AFTER_S = 300.0  # upper bound on the wait that an endpoint requests


class ChatError(GemError):
    """The endpoint gave no answer.

    Attributes:
        fatal: No other request can succeed either (key, quota, address).
        silent: The endpoint did not respond, as opposed to a refusal.
    """

    def __init__(self, message: str, fatal: bool = False, silent: bool = False) -> None:
        super().__init__(message)
        self.fatal, self.silent = fatal, silent


class _TransientError(Exception):
    """A failure that may pass; ``after`` is the wait that the endpoint requests, s."""

    def __init__(self, reason: str, after: float | None = None) -> None:
        super().__init__(reason)
        self.after = after


class _AdaptedError(Exception):
    """The body was adapted: send again, this is no failed attempt."""


@dataclass
class _Session:
    """State that belongs to one event loop."""

    client: Any
    loop: asyncio.AbstractEventLoop
    pending: dict[str, asyncio.Task[Answer]] = field(default_factory=dict)
    pause_until: float = 0.0


class ChatClient:
    """Sends requests to an OpenAI-compatible endpoint through the official client (`openai`).

    Args:
        model: Model name at the endpoint.
        base_url: Address up to and including ``/v1``.
        api_key_env: Environment variable that holds the key, or None; read with each session, never stored or logged.
        cache: File of the answer cache; None keeps answers in memory. The ledger and the budget cover this file.
        sampling, limits, budget: See the three classes.
        **options: Fields of these three by name, such as ``temperature=0.7`` or ``price_in=2.5``.

    Raises:
        GemError: An unknown option, or a money budget without prices.
    """

    def __init__(
        self,
        model: str,
        base_url: str = "https://api.openai.com/v1",
        api_key_env: str | None = "OPENAI_API_KEY",
        *,
        cache: str | os.PathLike[str] | None = None,
        sampling: Sampling | None = None,
        limits: Limits | None = None,
        budget: Budget | None = None,
        **options: Any,
    ) -> None:
        known = [f.name for group in (Sampling, Limits, Budget) for f in fields(group)]
        unknown = sorted(set(options) - set(known))
        if unknown:
            raise GemError(f"expected options of the client among {', '.join(known)}, got {', '.join(unknown)}")
        self.sampling = _updated(sampling or Sampling(), options)
        self.limits = _updated(limits or Limits(), options)
        self.budget = _updated(budget or Budget(), options)
        self.model, self.base_url, self.api_key_env = model, base_url.rstrip("/"), api_key_env
        self.store = AnswerStore(None if cache is None else pathlib.Path(cache))
        self._extra = dict(self.sampling.extra or {})
        self._rates = (RateLimit(self.limits.requests_per_minute), RateLimit(self.limits.tokens_per_minute))
        self._gate = BudgetGate(self.ledger, self.budget)
        self._shape = RequestShape(model, self.sampling)
        self._session: _Session | None = None
        self._logged_at = 0.0
        self._reached, self._answered, self._failed_in_a_row = False, False, 0

    @property
    def ledger(self) -> Ledger:
        """Return the costs and counts so far."""
        return self.store.ledger

    @property
    def concurrency(self) -> int:
        """Return the maximum number of requests in flight."""
        return self.limits.concurrency

    # -- public requests --------------------------------------------------------------------------------------------

    async def complete(
        self,
        messages: list[dict[str, Any]],
        schema: dict[str, Any] | None = None,
        images: Iterable[Any] = (),
        **options: Any,
    ) -> Answer:
        """Return one answer; arguments and options as in :class:`ChatRequest`.

        Raises:
            ChatError: No answer after every retry, or the endpoint refuses the request.
        """
        answer = await self._answer(ChatRequest(messages, schema, tuple(images), **options))
        if not answer.ok:
            raise ChatError(answer.error or "no answer")
        return answer

    async def complete_many(
        self, requests: Iterable[ChatRequest], on_answer: Callable[[Answer], None] | None = None
    ) -> list[Answer]:
        """Return answers in the order of the requests; ``on_answer`` receives each as it arrives.

        A request that fails gives an answer with ``error`` set. When the budget is reached the rest are not sent: they
        are absent from the list and ``ledger.stopped`` holds the reason.

        Raises:
            ChatError: The key, the quota or the address is wrong, or the endpoint stopped answering: resume later.
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
        """Run :meth:`complete_many` for callers without an event loop (a notebook's own loop is left alone)."""
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
        """Close connections and the cache file; both reopen on demand."""
        if self._session is not None:
            await self._session.client.close()
            self._session = None
        self.store.close()

    # -- one request ------------------------------------------------------------------------------------------------

    async def _answer(self, request: ChatRequest) -> Answer:
        session = self._open_session()
        messages = with_images(request.messages, request.images)
        length = request.max_tokens or self.sampling.max_tokens
        more = {"tools": list(request.tools)} if request.tools else {}  # requests without tools keep their keys
        key = content_key({
            "url": self.base_url, "model": self.model, "messages": messages, "schema": request.schema,
            "temperature": self.sampling.temperature, "length": length, "sample": request.sample, "extra": self._extra,
            **more,
        })  # fmt: skip
        stored = self.store.get(key)
        if stored is not None:
            self.ledger.reused += 1
            return replace(stored, tag=request.tag)
        task = session.pending.get(key)
        if task is None:
            task = asyncio.ensure_future(self._pay(key, messages, request, length))
            session.pending[key] = task
            task.add_done_callback(lambda _: session.pending.pop(key, None))
        return replace(await task, tag=request.tag)

    async def _pay(self, key: str, messages: list[dict[str, Any]], request: ChatRequest, length: int) -> Answer:
        prompt = estimate_tokens(messages)
        expected = (prompt + length, self.budget.cost(prompt, length))
        await self._gate.enter(*expected)
        try:
            await self._rates[0].acquire(1)
            await self._rates[1].acquire(prompt)
            self.store.sent(key)
            try:
                answer = self._parse(await self._send(key, messages, request, length), key, prompt)
            except ChatError as error:
                return self._failed(error, key)
            self._failed_in_a_row, self._answered = 0, True
            self._rates[1].settle(answer.usage.total - prompt)
            self.store.put(answer)
            return answer
        finally:
            await self._gate.leave(*expected)

    def _failed(self, error: ChatError, key: str) -> Answer:
        """Return the failure of one request as an answer; raise it when no other can be expected to succeed."""
        self.ledger.failed += 1
        self._failed_in_a_row += 1
        if error.fatal:
            raise error
        # A resumed run may hold refused requests alone: refusals are fatal only where nothing was ever answered.
        answered = self._answered or self.ledger.answers > 0
        if self._failed_in_a_row >= 2 * self.concurrency and (error.silent or not answered):
            count = self._failed_in_a_row
            raise ChatError(f"{error}; {count} requests in a row failed; fix the cause and rerun", fatal=True) from None
        return Answer("", key=key, error=str(error))

    def _parse(self, body: dict[str, Any], key: str, prompt: int) -> Answer:
        choice = body["choices"][0]
        text = choice["message"].get("content") or ""
        calls = list(choice["message"].get("tool_calls") or ())
        reported = body.get("usage") or {}
        usage = (
            Usage(int(reported["prompt_tokens"]), int(reported.get("completion_tokens") or 0))
            if reported.get("prompt_tokens") is not None
            else Usage(prompt, len(text) // 4 + 1, estimated=True)  # about four characters a token in English
        )
        cost = self.budget.cost(usage.prompt_tokens, usage.completion_tokens)
        return Answer(text, usage, cost, key, finish_reason=choice.get("finish_reason") or "stop", tool_calls=calls)

    async def _send(self, key: str, messages: list[dict], request: ChatRequest, length: int) -> dict[str, Any]:
        """Send until there is an answer: the one place that waits and retries."""
        session, attempt, clock = self._open_session(), 0, asyncio.get_running_loop().time
        while True:
            while (wait := session.pause_until - clock()) > 0:  # the endpoint has asked all requests to wait
                await asyncio.sleep(wait)
            try:
                body = self._shape.body(messages, request.schema, length)
                return await self._post(key, body | ({"tools": list(request.tools)} if request.tools else {}))
            except _AdaptedError:
                continue
            except _TransientError as failure:
                if attempt == self.limits.retries:
                    raise self._unanswered(attempt + 1, failure) from None
                wait = min(LONGEST_BACKOFF_S, self.limits.backoff * 2**attempt) * random.uniform(0.5, 1.0)
                if failure.after is not None:
                    wait = max(wait, failure.after)
                    session.pause_until = max(session.pause_until, clock() + failure.after)
                attempt += 1
                self.ledger.retries += 1
                if clock() - self._logged_at > LOG_EVERY_S:
                    self._logged_at = clock()
                    message = "attempt %d at %s failed (%s); retry in %.1f s; %d retries so far"
                    logger.info(message, attempt, self.model, failure, wait, self.ledger.retries)
                await asyncio.sleep(wait)

    def _unanswered(self, attempts: int, failure: Exception) -> ChatError:
        """Return the error of a request without an answer; fatal where the endpoint was never reached."""
        message = f"no answer from {self.model} at {self.base_url} after {attempts} attempts; last: {failure}"
        if not self._reached:
            return ChatError(f"{message}; check the address, and that the server runs", fatal=True)
        return ChatError(message, silent=True)

    async def _post(self, key: str, body: dict[str, Any]) -> dict[str, Any]:
        import openai

        rest = {name: value for name, value in body.items() if name not in ("model", "messages")}
        try:
            reply = await self._open_session().client.chat.completions.with_raw_response.create(
                model=body["model"],
                messages=body["messages"],
                extra_body=rest,
                extra_headers={"Idempotency-Key": key},
            )
        except openai.APIStatusError as error:
            self._reached = True
            self._raise_for_status(error.response, body)
        except openai.APIConnectionError as error:  # refused, cut or timed out
            connecting = type(error.__cause__).__name__ == "ConnectTimeout"  # of httpx or httpx2
            self._reached |= isinstance(error, openai.APITimeoutError) and not connecting
            raise _TransientError(f"{str(error).rstrip('.')}: {error.__cause__ or type(error).__name__}") from None
        self._reached = True
        try:
            answer = json.loads(reply.http_response.content)
            answer["choices"][0]["message"].get("content")
        except (ValueError, KeyError, IndexError, TypeError, AttributeError):
            raise _TransientError("the body is not a complete chat completion") from None
        return answer

    def _raise_for_status(self, reply: Any, body: dict[str, Any]) -> NoReturn:
        """Raise the error that a status other than 200 stands for."""
        secret = os.environ.get(self.api_key_env or "", "")
        message = (reply.text.replace(secret, "***") if secret else reply.text)[:500]  # a cut key would not be found
        status = reply.status_code
        # the endpoint refuses a field: the request is adapted once
        if status in (400, 422) and self._shape.adapt(message, body):
            raise _AdaptedError
        # wrong key, model or an empty account: no retry can help
        if status in (401, 403, 404) or "insufficient_quota" in message:
            raise ChatError(
                f"expected an answer from {self.base_url}, got HTTP {status}: {message}; check the address, "
                f"the model {self.model!r}, the quota and the key in ${self.api_key_env} "
                f"({'set' if secret else 'not set'})",
                fatal=True,
            )
        if status in RETRY_STATUS or status >= 500:
            raise _TransientError(f"HTTP {status}", _retry_after(reply.headers.get("retry-after")))
        raise ChatError(f"{self.model} refuses the request, HTTP {status}: {message}")

    def _open_session(self) -> _Session:
        """Return the state of this event loop: connections and locks cannot be shared between loops."""
        loop = asyncio.get_running_loop()
        if self._session is not None and self._session.loop is loop:
            return self._session
        try:
            import openai
        except ImportError:
            raise MissingExtraError("openai", "teacher") from None
        for name in ("httpx", "httpx2"):  # by the client's version; it logs every request at INFO
            logging.getLogger(name).setLevel(logging.WARNING)
        local = any(host in self.base_url for host in ("//127.", "//localhost", "//[::1]"))
        encrypted = self.base_url.startswith("https:")  # reading the certificates takes longer than many answers
        timeout = self.limits.timeout
        client = openai.AsyncOpenAI(
            api_key=os.environ.get(self.api_key_env or "") or "none",  # a local server often needs no key
            base_url=self.base_url,
            timeout=timeout,
            max_retries=0,  # _send retries: it also covers incomplete bodies and pauses all workers together
            http_client=openai.DefaultAsyncHttpxClient(trust_env=not local, verify=encrypted, timeout=timeout),
        )
        self._session = _Session(client, loop)
        self._gate.enter_loop()
        return self._session


def _updated(group: Group, options: dict[str, Any]) -> Group:
    return replace(group, **{f.name: options[f.name] for f in fields(group) if f.name in options})  # type: ignore[type-var]


def _retry_after(header: str | None) -> float | None:
    try:
        return min(float(header), LONGEST_RETRY_AFTER_S) if header else None
    except ValueError:
        return None
