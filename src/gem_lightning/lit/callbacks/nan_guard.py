"""Handling of steps that are not finite: stop the run or skip the step, and name the samples."""

from __future__ import annotations

import logging
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from gem_lightning.errors import DataError, GemError

logger = logging.getLogger(__name__)

POLICIES = ("stop", "skip")
_MOST_IN_A_ROW = 10  # isolated overflows recover; ten in a row mean a diverged run (our choice)


class NanGuard:
    """Decides by the norm of all gradients, which is one number for all processes: they skip together or not at all.

    Args:
        policy: ``stop`` raises at the first step that is not finite; ``skip`` omits its update, and stops after
            ten of them in a row.

    Raises:
        GemError: The policy is unknown.
    """

    def __init__(self, policy: str = "stop") -> None:
        if policy not in POLICIES:
            raise GemError(f"expected nonfinite to be one of {POLICIES}, got {policy!r}")
        self.policy = policy
        self.skipped = 0
        self._in_a_row = 0
        self._batches: list[tuple[list[Any], bool]] = []  # ids of each batch of the step; whether its loss was finite

    def watch(self, loss: Tensor, ids: Any) -> None:
        """Record the samples of a loss.

        On a single process at policy ``stop``, one that is not finite is refused before its backward pass. Several
        processes wait for the norm: one that stopped alone would leave the others in a collective.

        Raises:
            DataError: The loss is not finite.
        """
        finite = bool(torch.isfinite(loss))
        self._batches.append((list(ids or ()), finite))
        if self.policy == "stop" and not finite and _processes() == 1:
            raise _error(f"a loss of {loss.item()}", self._batches[-1][0])

    def let_pass(self, norm: Tensor | float, scaled: bool = False) -> bool:
        """Return whether the optimiser may take a step with gradients of this norm.

        Args:
            norm: Of all gradients, of all processes.
            scaled: By a loss scaler, which produces infinite gradients on purpose and skips such steps itself.

        Raises:
            DataError: It is not finite, and the policy is to stop, or ten steps in a row were skipped. Every process
                names the samples of all.
        """
        seen, self._batches = self._batches, []
        if scaled or torch.isfinite(torch.as_tensor(norm)):
            self._in_a_row = 0
            return True
        self._in_a_row += 1
        self.skipped += 1
        ids = _suspects(seen)
        if self.policy == "stop" or self._in_a_row >= _MOST_IN_A_ROW:
            raise _error(f"a gradient norm of {float(norm)}, {self._in_a_row} step(s) in a row", ids)
        logger.warning("step skipped: gradient norm %s on the samples %s", float(norm), ids)
        return False


def _suspects(seen: list[tuple[list[Any], bool]]) -> list[Any]:
    """List the samples whose loss was not finite on any process; all samples where every loss was finite."""
    if _processes() > 1:
        parts: list[Any] = [None] * _processes()
        dist.all_gather_object(parts, seen)
        seen = [batch for part in parts for batch in part]
    bad = [ids for ids, finite in seen if not finite]
    return [one for ids in bad or [ids for ids, _ in seen] for one in ids]


def _processes() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def _error(what: str, ids: list[Any]) -> DataError:
    return DataError(
        f"expected a finite loss and gradient, got {what} on the samples {ids}; validate them "
        "with `generate stage=validate`, lower optim.lr, or skip such steps with model.nonfinite=skip"
    )
