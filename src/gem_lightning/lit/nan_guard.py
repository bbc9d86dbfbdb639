"""What happens when a step is not finite: the run stops, or the step is left out; the samples are named."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor

from gem_lightning.errors import DataError, GemError

logger = logging.getLogger(__name__)

POLICIES = ("stop", "skip")
_MOST_IN_A_ROW = 10


class NanGuard:
    """Decides by the norm of all gradients, which is one number for all processes: they skip together or not at all.

    Args:
        policy: ``stop`` raises at the first step that is not finite; ``skip`` leaves its update out, and stops after
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
        self._ids: list[Any] = []

    def watch(self, loss: Tensor, ids: Any) -> None:
        """Remember whose loss this is; at policy ``stop``, refuse one that is not finite before its backward pass.

        Raises:
            DataError: The loss is not finite.
        """
        self._ids += list(ids or ())
        if self.policy == "stop" and not torch.isfinite(loss):
            raise _error(f"a loss of {loss.item()}", self._ids)

    def let_pass(self, norm: Tensor | float, scaled: bool = False) -> bool:
        """Whether the optimiser may take a step with gradients of this norm.

        Args:
            norm: Of all gradients.
            scaled: By a loss scaler, which meets infinite gradients on purpose and leaves such steps out itself.

        Raises:
            DataError: It is not finite, and the policy is to stop, or ten steps in a row were skipped.
        """
        ids, self._ids = self._ids, []
        if scaled or torch.isfinite(torch.as_tensor(norm)):
            self._in_a_row = 0
            return True
        self._in_a_row += 1
        self.skipped += 1
        if self.policy == "stop" or self._in_a_row >= _MOST_IN_A_ROW:
            raise _error(f"a gradient norm of {float(norm)}, {self._in_a_row} step(s) in a row", ids)
        logger.warning("step skipped: gradient norm %s on the samples %s", float(norm), ids)
        return False


def _error(what: str, ids: list[Any]) -> DataError:
    return DataError(
        f"expected a finite loss and gradient, got {what} on the samples {ids}; look at them with "
        "`generate stage=doctor`, lower optim.lr, or leave such steps out with model.nonfinite=skip"
    )
