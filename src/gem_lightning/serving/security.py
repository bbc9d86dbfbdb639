"""Who may ask, and what browsers may do with the answers."""

from __future__ import annotations

import hmac
import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gem_lightning.errors import GemError
from gem_lightning.serving.limits import problem

TOKENS = "GEM_LIGHTNING_TOKENS"
_HEADERS = {
    # pages hold their styles and images inline; scripts come from files of this server alone
    "content-security-policy": "default-src 'self'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; "
    "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",  # no-referrer would make browsers send forms with the origin "null"
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",  # answers are about patients
}


def read_tokens(file: str | os.PathLike[str] | None = None) -> tuple[str, ...]:
    """Bearer tokens: of the environment variable GEM_LIGHTNING_TOKENS, separated by commas, and of a file's lines.

    Raises:
        GemError: The file cannot be read, or a token is shorter than 16 characters.
    """
    found = os.environ.get(TOKENS, "").split(",")
    if file is not None:
        try:
            found += Path(file).read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise GemError(f"expected a file of tokens, one a line, got {error}; check tokens_file") from None
    tokens = tuple(token.strip() for token in found if token.strip())
    if any(len(token) < 16 for token in tokens):  # shorter ones can be guessed over a network
        raise GemError(
            "expected tokens of at least 16 characters, got a shorter one; make one with: openssl rand -hex 24"
        )
    return tokens


class SecurityHeaders:
    """Add the headers that keep answers out of frames, caches and foreign scripts."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and add to its answer."""

        async def secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self.app(scope, receive, secured)


class OriginCheck:
    """Refuse requests with a body that a page of another site sends (403): browsers send forms anywhere."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] == "http" and scope["method"] == "POST":
            headers = Headers(scope=scope)
            origin = headers.get("origin")
            if origin is not None and urlsplit(origin).netloc != headers.get("host"):
                detail = "expected a request of this server's own page or of a program, got one of another site's page"
                return await problem(403, detail)(scope, receive, send)
        return await self.app(scope, receive, send)


class BearerCheck:
    """Ask for ``Authorization: Bearer TOKEN`` below ``prefixes``; the comparison takes the same time for any token."""

    def __init__(self, app: ASGIApp, tokens: Sequence[str], prefixes: tuple[str, ...] = ("/v1/", "/page/")) -> None:
        self.app, self.prefixes = app, prefixes
        self.tokens = [token.encode() for token in tokens]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] == "http" and scope["path"].startswith(self.prefixes) and not self._is_known(scope):
            detail = "expected one of this server's tokens as Authorization: Bearer TOKEN, got none of them"
            return await problem(401, detail, {"www-authenticate": "Bearer"})(scope, receive, send)
        return await self.app(scope, receive, send)

    def _is_known(self, scope: Scope) -> bool:
        kind, _, given = Headers(scope=scope).get("authorization", "").partition(" ")
        known = [hmac.compare_digest(given.strip().encode(), token) for token in self.tokens]
        return kind.lower() == "bearer" and any(known)
