"""Metrics and log rows of rewarded completions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from gem_lightning.rl.rewards import Rewarded
from gem_lightning.rl.rollout import Completions


def step_metrics(rewards: Tensor, rewarded: Sequence[Rewarded], done: Completions) -> dict[str, float]:
    """Average what a rollout was rewarded for.

    Args:
        rewards: (prompts, G).
        rewarded: The same completions, in order.
        done: Their texts.

    Returns:
        ``reward``, each term as ``reward/NAME``, ``groups_with_spread`` (a group whose rewards are equal moves
        nothing), ``tokens`` a completion, the share that ``ended``, and :func:`ratios`.
    """
    names = rewarded[0].terms
    return {
        "reward": float(rewards.mean()),
        **{f"reward/{name}": sum(one.terms[name] for one in rewarded) / len(rewarded) for name in names},
        "groups_with_spread": float((rewards.std(1, correction=0) > 0).float().mean()),
        "tokens": float(done.mask.sum(1).float().mean()),
        "ended": float(done.ended.float().mean()),
        **ratios(totals(rewarded)),
    }


def totals(rewarded: Sequence[Rewarded]) -> dict[str, int]:
    """Add up the counts of completions."""
    return {name: sum(getattr(r, name) for r in rewarded) for name in ("right", "wrong", "stated", "abnormal")}


def ratios(counts: Mapping[str, int]) -> dict[str, float]:
    """Return ``precision`` of decided claims and ``coverage`` of abnormal findings; those without a case are 0."""
    decided = counts["right"] + counts["wrong"]
    precision = counts["right"] / max(1, decided)
    return {"precision": precision, "coverage": counts["stated"] / max(1, counts["abnormal"])}


def rows_of(
    step: int, ids: Sequence[Any], done: Completions, rewarded: Sequence[Rewarded], advantages: Tensor
) -> list[dict[str, Any]]:
    """Return one row of a log for each completion."""
    group = len(done.texts) // len(ids)
    tokens, ended, gains = done.mask.sum(1).tolist(), done.ended.tolist(), advantages.tolist()
    return [
        {
            "step": step,
            "id": ids[k // group],
            "completion": k % group,
            "text": done.texts[k],
            "reward": one.total,
            "terms": dict(one.terms),
            "right": one.right,
            "wrong": one.wrong,
            "advantage": gains[k],
            "tokens": tokens[k],
            "ended": ended[k],
        }
        for k, one in enumerate(rewarded)
    ]
