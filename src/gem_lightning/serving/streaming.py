"""Server-sent events of a request that a thread works on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from typing import Any

from fastapi.responses import StreamingResponse

from gem_lightning.errors import GemError
from gem_lightning.serving.limits import in_fields
from gem_lightning.serving.service import CancelledError, Emit

Event = tuple[str, dict[str, Any]]


def event_stream(events: AsyncIterator[Event]) -> StreamingResponse:
    """The response that sends events by name as they come."""
    return stream_response(
        f"event: {kind}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n" async for kind, data in events
    )


def stream_response(lines: AsyncIterator[str]) -> StreamingResponse:
    """The response that sends lines of server-sent events; proxies must not collect them."""
    return StreamingResponse(lines, media_type="text/event-stream", headers={"x-accel-buffering": "no"})


async def follow(threads: Executor, work: Callable[[Emit], Event]) -> AsyncIterator[Event]:
    """Run ``work`` in a thread and yield what it emits, then the event that it returns, or ``error``.

    A reader that goes away makes the next ``emit`` raise, which ends the work.
    """
    loop, queue, gone = asyncio.get_running_loop(), asyncio.Queue[Event | None](), False

    def emit(kind: str, data: dict[str, Any]) -> None:
        if gone:
            raise CancelledError("the client has gone")
        loop.call_soon_threadsafe(queue.put_nowait, (kind, data))

    def run() -> None:
        try:
            emit(*work(emit))
        except CancelledError:
            return
        except GemError as error:
            emit("error", {"status": 422, "detail": in_fields(str(error))})
        except Exception:
            emit("error", {"status": 500, "detail": "internal error; the server's log has it"})
            raise
        finally:
            loop.call_soon_threadsafe(queue.put_nowait, None)

    task = loop.run_in_executor(threads, run)
    try:
        while (event := await queue.get()) is not None:
            yield event
        await task
    finally:
        gone = True
