"""Rate limits and budgets of a chat client."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any

from gem_lightning.errors import GemError
from gem_lightning.llm.cache import Ledger

IMAGE_TOKENS = 1600  # an upper bound on one page-sized image, until the endpoint reports the count


@dataclass(frozen=True)
class Limits:
    """Concurrency, rate limits and retries.

    Args:
        concurrency: Maximum number of requests in flight.
        timeout: Time limit of one attempt, s.
        retries: Attempts after the first, for 429, 5xx, timeouts, refused or cut connections and incomplete bodies.
        backoff: First wait, s; doubles with each attempt up to 60 s, with jitter.
        requests_per_minute: Rate limit, or None.
        tokens_per_minute: Rate limit, or None.
    """

    concurrency: int = 32
    timeout: float = 120.0
    retries: int = 6  # doubling waits from 0.5 s add up to half a minute, as usual limits per minute ask for
    backoff: float = 0.5
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None


@dataclass(frozen=True)
class Budget:
    """Prices, and limits that the cache's totals never exceed.

    Args:
        price_in: USD per million prompt tokens.
        price_out: USD per million completion tokens.
        budget_usd: Stop before the total cost exceeds this.
        budget_tokens: Stop before the total number of tokens exceeds this.

    Raises:
        GemError: A money budget without prices.
    """

    price_in: float = 0.0
    price_out: float = 0.0
    budget_usd: float | None = None
    budget_tokens: int | None = None

    def __post_init__(self) -> None:
        if self.budget_usd is not None and self.price_in <= 0 and self.price_out <= 0:
            raise GemError(
                "expected prices with budget_usd, got none; give price_in and price_out (USD per 1e6 tokens)"
            )

    def cost(self, prompt_tokens: int, completion_tokens: int) -> float:
        """Return the cost of a request, USD."""
        # prices are stated for a million tokens
        return (prompt_tokens * self.price_in + completion_tokens * self.price_out) / 1e6


class BudgetError(GemError):
    """The next request could exceed the budget."""


class RateLimit:
    """Token bucket that refills evenly.

    A request larger than the bucket is let through and leaves a debt that later requests wait for; :meth:`settle`
    corrects the estimate once the endpoint has reported the real count.

    Args:
        per_minute: Units per minute, or None for no limit.
    """

    def __init__(self, per_minute: float | None) -> None:
        self.rate = None if per_minute is None else per_minute / 60.0
        self._level = self._full = max(1.0, self.rate or 0.0)
        self._at = time.monotonic()

    async def acquire(self, units: float) -> None:
        """Wait until ``units`` are available."""
        if self.rate is None:
            return
        now = time.monotonic()
        self._level = min(self._full, self._level + (now - self._at) * self.rate) - units
        self._at = now
        if self._level < 0:
            await asyncio.sleep(-self._level / self.rate)

    def settle(self, units: float) -> None:
        """Subtract the difference between the real and the estimated use."""
        if self.rate is not None:
            self._level -= units


class BudgetGate:
    """Admits a request while its maximum cost still fits the budget.

    Requests in flight are reserved at their upper bound, so that the budget is never exceeded; a request waits
    while others in flight may still turn out cheaper.

    Args:
        ledger: Costs so far.
        budget: Limits.
    """

    def __init__(self, ledger: Ledger, budget: Budget) -> None:
        self.ledger, self.usd, self.tokens = ledger, budget.budget_usd, budget.budget_tokens
        self.enter_loop()

    def enter_loop(self) -> None:
        """Reset waiters and reservations: they belong to one event loop."""
        self._reserved = [0.0, 0.0]
        self._changed = asyncio.Condition()

    def _fits(self, tokens: float, usd: float) -> bool:
        affordable = self.usd is None or self.ledger.cost + self._reserved[1] + usd <= self.usd
        return affordable and (self.tokens is None or self.ledger.tokens + self._reserved[0] + tokens <= self.tokens)

    async def enter(self, tokens: float, usd: float) -> None:
        """Reserve an upper bound, or wait until it fits.

        Raises:
            BudgetError: Nothing is in flight and the request still does not fit.
        """
        async with self._changed:
            while not self._fits(tokens, usd):
                if self._reserved[0] <= 0:
                    raise BudgetError(
                        f"the budget ({self._describe()}) leaves no room for a request of up to {tokens:.0f} tokens "
                        f"({usd:.4f} USD) after {self.ledger.tokens} tokens ({self.ledger.cost:.4f} USD)"
                    )
                await self._changed.wait()
            self._reserved = [self._reserved[0] + tokens, self._reserved[1] + usd]

    async def leave(self, tokens: float, usd: float) -> None:
        """Release a reservation."""
        async with self._changed:
            self._reserved = [self._reserved[0] - tokens, self._reserved[1] - usd]
            self._changed.notify_all()

    def _describe(self) -> str:
        limits = [f"{self.usd} USD"] if self.usd is not None else []
        return " and ".join(limits + ([f"{self.tokens} tokens"] if self.tokens is not None else []))


def estimate_tokens(messages: list[dict[str, Any]]) -> int:
    """Return an upper estimate of a prompt's tokens: half a token per character, :data:`IMAGE_TOKENS` per image."""
    total = 0
    for message in messages:
        content = message["content"]
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        for part in parts:
            total += len(part["text"]) // 2 + 8 if part["type"] == "text" else IMAGE_TOKENS
    return total
