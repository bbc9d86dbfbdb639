"""Run a network's training step on tensors without data, and count what it keeps and computes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class TracedStep:
    """One forward and backward pass.

    Attributes:
        kept: Bytes that the forward pass saves for the backward pass.
        largest: Bytes of the largest tensor among them.
        flops: Operations of both passes, as PyTorch counts them: matrix products, convolutions, attention.
    """

    kept: int
    largest: int
    flops: float


def trace_step(network: nn.Module, loss: Callable[[], Tensor], autocast: torch.dtype | None = None) -> TracedStep:
    """Run one step; under ``FakeTensorMode`` it costs neither memory nor time.

    Args:
        network: Whose weights are not counted among what is kept.
        loss: Computes the loss of a batch.
        autocast: Dtype of computation where it differs from the weights'.
    """
    kept = _Kept(network, autocast)
    with FlopCounterMode(display=False) as counter:
        _forward(kept, autocast, loss).backward()
    return TracedStep(kept.bytes, kept.largest, float(counter.get_total_flops()))


def kept_bytes(network: nn.Module, forward: Callable[[], Any], autocast: torch.dtype | None = None) -> int:
    """Return the bytes that a forward pass saves for its backward pass; see :func:`trace_step`."""
    kept = _Kept(network, autocast)
    _forward(kept, autocast, forward)
    return kept.bytes


def without_data(network: nn.Module, dtype: torch.dtype | None = None) -> None:
    """Put tensors that claim to lie on the CPU, and hold nothing, in place of the network's; under ``FakeTensorMode``.

    Args:
        network: Changed in place.
        dtype: Of the parameters; None keeps theirs.
    """
    for module in network.modules():
        for name, value in module._parameters.items():
            if value is not None:
                empty = torch.empty(value.shape, dtype=dtype or value.dtype)
                module._parameters[name] = nn.Parameter(empty, requires_grad=value.requires_grad)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype)


def _forward(kept: _Kept, autocast: torch.dtype | None, forward: Callable[[], Any]) -> Any:
    casting = torch.autocast("cpu", dtype=autocast, enabled=autocast is not None)
    with torch.autograd.graph.saved_tensors_hooks(kept, lambda tensor: tensor), casting:
        return forward()


class _Kept:
    """Bytes that operations save for the backward pass, each storage once, weights and their casts not counted."""

    def __init__(self, network: nn.Module, cast: torch.dtype | None) -> None:
        self._seen = {parameter.untyped_storage()._cdata for parameter in network.parameters()}
        self._shapes = {p.shape for p in network.parameters() if p.ndim > 1 and p.dtype != cast}
        self._alive: list[Any] = []
        self._cast = cast
        self.bytes = self.largest = 0

    def __call__(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self._seen:
            self._seen.add(storage._cdata)
            self._alive.append(storage)  # so that no other takes its address
            weight = tensor.dtype == self._cast and bool({tensor.shape, tensor.shape[::-1]} & self._shapes)
            size = 0 if weight else storage.nbytes()
            self.bytes, self.largest = self.bytes + size, max(self.largest, size)
        return tensor
