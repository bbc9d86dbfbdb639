"""Metrics and logs of requests; nothing in them comes from a file, a text or a file's name."""

from __future__ import annotations

import json
import logging
import time
import traceback
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gem_lightning.serving.batching import BatchQueue
from gem_lightning.serving.limits import problem

logger = logging.getLogger(__name__)


class Metrics:
    """What ``/metrics`` shows.

    Args:
        queue: The model's queue.
    """

    def __init__(self, queue: BatchQueue) -> None:
        self.registry = CollectorRegistry()
        more: Any = {"registry": self.registry, "namespace": "gem_lightning"}
        labels = ("method", "route", "status")
        self.requests = Counter("requests", "Requests answered.", labels, **more)
        buckets = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100)
        self.seconds = Histogram("request_seconds", "Time to the whole answer.", ("route",), buckets=buckets, **more)
        self.open = Gauge("requests_open", "Requests that are answered or wait.", **more)
        Gauge("queue_waiting", "Requests that wait for the model.", **more).set_function(lambda: queue.waiting)
        sizes = (1, 2, 4, 8, 16, 32, 64)
        batches = Histogram("batch_size", "Requests that the model answered together.", buckets=sizes, **more)
        queue.sizes = batches.observe


class AccessLog:
    """Count and log every request as one line of JSON; an unexpected error is answered with 500 and logged by place."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and note what became of it."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        begun, status, failed = time.perf_counter(), 0, {}

        async def noted(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        self.metrics.open.inc()
        try:
            await self.app(scope, receive, noted)
        except Exception as error:  # a bug; its message may hold what a patient's file holds
            failed = {"error": type(error).__name__, "place": _place(error)}
            if not status:
                await problem(500, "internal error; the server's log has it")(scope, receive, noted)
        finally:
            self.metrics.open.dec()
            seconds = time.perf_counter() - begun
            route = getattr(scope.get("route"), "path", "other")
            self.metrics.requests.labels(scope["method"], route, status).inc()
            self.metrics.seconds.labels(route).observe(seconds)
            facts = {"method": scope["method"], "route": route, "status": status, "ms": round(1e3 * seconds)}
            logger.log(logging.ERROR if failed else logging.INFO, json.dumps({"time": _now(), **facts, **failed}))


def _place(error: BaseException) -> list[str]:
    """Files and lines of the calls that led to an error, without any value."""
    return [f"{Path(frame.filename).name}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)][-8:]


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
