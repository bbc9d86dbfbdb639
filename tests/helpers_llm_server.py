"""An OpenAI-compatible endpoint on loopback that can misbehave: for tests of the teacher and the judge.

    with LoopbackLLM(reply=lambda request, n: "text", latency=0.0) as server:
        client = ChatClient("m", server.base_url)

``reply(request, n)`` gets the request's JSON and its number (from 0); it returns a text or a :class:`Reply`.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Reply:
    """What the server does with one request.

    ``cut`` closes the connection after that share of the body (0 = before the headers); ``hang`` never answers.
    """

    text: str = ""
    status: int = 200
    body: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
    latency: float | None = None
    cut: float | None = None
    hang: bool = False
    usage: tuple[int, int] | None = (100, 20)
    finish_reason: str = "stop"


class LoopbackLLM:
    """The server, in a thread of its own; ``requests`` holds what came, ``paid`` counts whole answers by content."""

    def __init__(self, reply: Callable[[dict[str, Any], int], Any] = lambda request, n: "ok", latency: float = 0.0):
        self.reply, self.latency = reply, latency
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paid: Counter[str] = Counter()  # answers charged for, by Idempotency-Key
        self.in_flight = self.most_in_flight = 0
        self.port = 0
        self._ready = threading.Event()

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> LoopbackLLM:
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), daemon=True)
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: Any) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    async def _main(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=256)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._exchange(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)}
        request = json.loads(await reader.readexactly(int(headers["content-length"])))
        number = len(self.requests)
        self.requests.append(request)
        self.headers.append(headers)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            reply = self.reply(request, number)
            reply = reply if isinstance(reply, Reply) else Reply(str(reply))
            if reply.hang:
                await self._stop.wait()
            await asyncio.sleep(self.latency if reply.latency is None else reply.latency)
        finally:
            self.in_flight -= 1
        body = completion(reply, request) if reply.body is None and reply.status == 200 else reply.body
        if body is None:
            body = json.dumps({"error": {"message": reply.text}}).encode()
        if reply.status == 200 and reply.cut is None:
            self.paid[headers.get("idempotency-key", "")] += 1
        extra = "".join(f"{k}: {v}\r\n" for k, v in reply.headers.items())
        answer = (
            f"HTTP/1.1 {reply.status} X\r\ncontent-type: application/json\r\n{extra}content-length: {len(body)}\r\n\r\n"
        ).encode()
        if reply.cut is not None:
            writer.write((answer + body)[: int(len(answer + body) * reply.cut)])
            await writer.drain()
            return False
        writer.write(answer + body)
        await writer.drain()
        return True


def completion(reply: Reply, request: dict[str, Any]) -> bytes:
    """A chat completion's body."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": reply.text},
        "finish_reason": reply.finish_reason,
    }
    body: dict[str, Any] = {"id": "x", "object": "chat.completion", "model": request["model"], "choices": [choice]}
    if reply.usage is not None:
        prompt, words = reply.usage
        body["usage"] = {"prompt_tokens": prompt, "completion_tokens": words, "total_tokens": prompt + words}
    return json.dumps(body).encode()
