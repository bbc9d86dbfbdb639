"""What answers to prompts add to a step: in policy and preference training, and where they are sampled."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from gem_lightning.models.planning.flops import FlopCounter
from gem_lightning.models.planning.memory import Setup


@dataclass(frozen=True)
class Answers:
    """Answers that a step trains on.

    Attributes:
        group: Of each prompt.
        length: Tokens of one.
        micro: Prompts of one forward and backward pass; None takes the batch.
        updates: Optimiser steps on a batch.
        reference: The starting weights read them too.
    """

    group: int
    length: int
    micro: int | None = None
    updates: int = 1
    reference: bool = True

    def setup(self, setup: Setup, copied: bool) -> Setup:
        """Return the settings of memory of one pass.

        Args:
            setup: Of a batch of prompts.
            copied: The reference is a copy of the weights, not the network without its adapters.
        """
        prompts = setup.rows // self.updates
        rows = min(self.micro or prompts, prompts)
        return replace(
            setup,
            rows=rows,
            ecgs=math.ceil(setup.ecgs * rows / setup.rows),
            tiles=math.ceil(setup.tiles * rows / setup.rows),
            accumulate=max(setup.accumulate, math.ceil(prompts / rows)),
            group=self.group,
            answer=self.length,
            reference=self.reference and copied,
        )


@dataclass(frozen=True)
class Sampling:
    """Answers that a process samples.

    Attributes:
        prompts: Their number.
        group: Answers of each.
        length: Tokens of one: the longest, because none exists yet.
        at_once: Prompts whose answers are sampled together.
        once: Before training; else for each batch.
    """

    prompts: int
    group: int
    length: int
    at_once: int
    once: bool = False

    def flops(self, forward: FlopCounter, prompt: Mapping[str, float]) -> float:
        """Return the operations, by a counter of the network without gradients and the mean counts of a prompt."""
        counts = {name: value * self.prompts for name, value in prompt.items()}
        return forward.count(with_answers(counts, self.prompts, self.group, self.length)).total

    def reading(self, weights: float, prompt: float, cached: float) -> float:
        """Return the bytes that are read, the weights once per token of a batch and the cache of each answer.

        Args:
            weights: Bytes of the network.
            prompt: Mean tokens of a prompt.
            cached: Bytes of keys and values of a token.
        """
        batches = math.ceil(self.prompts / self.at_once)
        return self.length * (batches * weights + self.prompts * self.group * (prompt + self.length / 2) * cached)


def with_answers(
    counts: Mapping[str, float], rows: float, group: int, length: float, shared: bool = True
) -> dict[str, float]:
    """Return the counts of prompts with answers behind them.

    Args:
        counts: Of the prompts, as :func:`gem_lightning.data.collate.count_items` names them.
        rows: Number of prompts.
        group: Answers of each.
        length: Tokens of one.
        shared: A prompt is read once for its answers; else with each.
    """
    times, after = (1 if shared else group), 2 * counts["tokens"] * length + rows * length**2  # (p + n)² - p²
    tokens = rows * group * length
    squares = times * counts["squares"] + group * after
    return {**counts, "tokens": times * counts["tokens"] + tokens, "squares": squares, "labels": tokens}
