"""Limits on what a chat client may do: a rate by the minute and a budget that stops before it is exceeded."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from gem_lightning.errors import GemError
from gem_lightning.llm.cache import Ledger

IMAGE_TOKENS = 1600  # a generous bound on one page-sized picture, for estimates before the endpoint tells


class BudgetError(GemError):
    """The next request could exceed the budget."""


class RateLimit:
    """A token bucket that refills evenly; a large request may run it into debt, which later ones wait out.

    Args:
        per_minute: Units a minute, or None for no limit.
    """

    def __init__(self, per_minute: float | None) -> None:
        self.rate = None if per_minute is None else per_minute / 60.0
        self._level = self._full = max(1.0, self.rate or 0.0)
        self._at = time.monotonic()

    def _refill(self) -> None:
        now = time.monotonic()
        self._level = min(self._full, self._level + (now - self._at) * (self.rate or 0.0))
        self._at = now

    async def take(self, units: float) -> None:
        """Wait for the turn, then take ``units``."""
        if self.rate is None:
            return
        self._refill()
        self._level -= units
        if self._level < 0:
            await asyncio.sleep(-self._level / self.rate)

    def settle(self, units: float) -> None:
        """Take what an answer used beyond its estimate (or give back)."""
        if self.rate is not None:
            self._level -= units


class Gate:
    """Lets a request through while the worst it can cost still fits the budget.

    Costs of requests in flight are reserved at their upper bound, so the budget is never exceeded; a request waits
    while others in flight may still turn out cheaper.

    Args:
        ledger: What was paid.
        usd: Money budget, or None.
        tokens: Token budget, or None.
    """

    def __init__(self, ledger: Ledger, usd: float | None, tokens: int | None) -> None:
        self.ledger, self.usd, self.tokens = ledger, usd, tokens
        self._reserved = [0.0, 0.0]
        self._changed = asyncio.Condition()

    def enter_loop(self) -> None:
        """Forget another event loop's waiters and reservations."""
        self._reserved = [0.0, 0.0]
        self._changed = asyncio.Condition()

    def _fits(self, tokens: float, usd: float) -> bool:
        money = self.usd is None or self.ledger.cost + self._reserved[1] + usd <= self.usd
        words = self.tokens is None or self.ledger.tokens + self._reserved[0] + tokens <= self.tokens
        return money and words

    async def enter(self, tokens: float, usd: float) -> None:
        """Reserve, or wait for room.

        Raises:
            BudgetError: Nothing is in flight and the request still does not fit.
        """
        async with self._changed:
            while not self._fits(tokens, usd):
                if self._reserved[0] <= 0:
                    raise BudgetError(
                        f"the budget ({self._words()}) leaves no room for a request of up to {tokens:.0f} tokens "
                        f"({usd:.4f} USD) after {self.ledger.tokens} tokens ({self.ledger.cost:.4f} USD)"
                    )
                await self._changed.wait()
            self._reserved = [self._reserved[0] + tokens, self._reserved[1] + usd]

    async def leave(self, tokens: float, usd: float) -> None:
        """Give the reservation back."""
        async with self._changed:
            self._reserved = [self._reserved[0] - tokens, self._reserved[1] - usd]
            self._changed.notify_all()

    def _words(self) -> str:
        limits = [f"{self.usd} USD"] if self.usd is not None else []
        return " and ".join(limits + ([f"{self.tokens} tokens"] if self.tokens is not None else []))


def estimate_tokens(messages: list[dict[str, Any]]) -> int:
    """An upper estimate of a prompt's tokens: half a token a character, :data:`IMAGE_TOKENS` a picture."""
    total = 0
    for message in messages:
        content = message["content"]
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        for part in parts:
            total += len(part["text"]) // 2 + 8 if part["type"] == "text" else IMAGE_TOKENS
    return total
