"""Limits that hold before a request costs anything: size of its body, requests at a time, requests a minute."""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send


@dataclass(frozen=True)
class Limits:
    """What one server takes.

    Attributes:
        max_upload_mb: Largest body, MB.
        max_requests: Requests with a body that are answered or wait at the same time; more get 429.
        requests_per_minute: Of one client address, on average; 0 for no limit.
    """

    max_upload_mb: int = 50
    max_requests: int = 64
    requests_per_minute: int = 0


class BodyLimit:
    """Refuse bodies over ``max_bytes`` with 413, by their header or else as soon as they have grown too long.

    A client that sends nothing for ``idle_s`` gets 408: it would keep one of the places that ``RequestLimit`` has.
    """

    # 30 s: a mobile network that loses a connection is back by then; ours
    def __init__(self, app: ASGIApp, max_bytes: int, idle_s: float = 30) -> None:
        self.app, self.max_bytes, self.idle_s = app, max_bytes, idle_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; reading too much of it raises."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        detail = f"expected at most {self.max_bytes / 1e6:g} MB, got more; send one record"
        declared = Headers(scope=scope).get("content-length", "")
        if declared.isdecimal() and int(declared) > self.max_bytes:
            return await problem(413, detail)(scope, receive, send)
        got, more = 0, True

        async def counted() -> Message:
            nonlocal got, more
            try:  # behind the body comes the end of the connection, however late
                message = await asyncio.wait_for(receive(), self.idle_s if more else None)
            except TimeoutError:
                late = f"expected the next part of the body within {self.idle_s:g} s, got none; send it again"
                raise HTTPException(408, late) from None
            more = message.get("more_body", False)
            got += len(message.get("body", b""))
            if got > self.max_bytes:
                raise HTTPException(413, detail)
            return message

        return await self.app(scope, counted, send)


class RequestLimit:
    """Refuse requests with a body with 429 while ``most`` others are answered or wait."""

    def __init__(self, app: ASGIApp, most: int, retry_after_s: Callable[[], int]) -> None:
        self.app, self.most, self.retry_after_s, self.open = app, most, retry_after_s, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] != "http" or scope["method"] != "POST":
            return await self.app(scope, receive, send)
        if self.open >= self.most:
            detail = f"expected at most {self.most} requests at a time, got one more; try again later"
            return await _too_many(detail, self.retry_after_s())(scope, receive, send)
        self.open += 1
        try:
            return await self.app(scope, receive, send)
        finally:
            self.open -= 1


class RateLimit:
    """Refuse more than so many requests a minute of one client address with 429; a minute's worth may come at once."""

    def __init__(self, app: ASGIApp, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.app, self.per_minute, self.clock = app, per_minute, clock
        self._left: dict[str, tuple[float, float]] = {}  # address -> (requests left, when)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] != "http" or scope["method"] != "POST" or (wait := self._wait_s(scope)) == 0:
            return await self.app(scope, receive, send)
        detail = f"expected at most {self.per_minute} requests a minute, got more; try again in {wait} s"
        return await _too_many(detail, wait)(scope, receive, send)

    def _wait_s(self, scope: Scope) -> int:
        """Seconds until this client may ask; 0 counts the request."""
        address, now = (scope.get("client") or ("",))[0], self.clock()
        if len(self._left) > 10_000:  # addresses; those whose minute is over are forgotten, so memory is bounded
            self._left = {a: (left, t) for a, (left, t) in self._left.items() if now - t < 60}
        left, then = self._left.get(address, (float(self.per_minute), now))
        left = min(self.per_minute, left + (now - then) * self.per_minute / 60)
        self._left[address] = (max(left - 1, 0) if left >= 1 else left, now)
        return 0 if left >= 1 else math.ceil((1 - left) * 60 / self.per_minute)


#: Arguments of the library as its errors name them -> fields of the forms.
_FIELDS = (
    (r"\blead_names=", "the field leads=I,II,..."),
    (
        r"; the readable formats are listed in docs/ecg\.md: .*",
        "; send DICOM, WFDB, SCP, XML, EDF, CSV or an image",
    ),
    (r", or name its true format with format=$", ""),
    (r"; try gem-lightning digitize with .*", ""),
)


def in_fields(message: str) -> str:
    """An error of the library with fields of a form in place of Python's arguments and the command line's options."""
    for argument, fields in _FIELDS:
        message = re.sub(argument, fields, message)
    return message


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """An error as every route sends it."""
    return JSONResponse({"detail": detail, "error": {"message": detail}}, status, headers)


def _too_many(detail: str, wait_s: int) -> JSONResponse:
    return problem(429, detail, {"retry-after": str(wait_s)})
