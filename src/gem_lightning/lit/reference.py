"""The policy before training: what divergence and preferences are measured against."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


class Reference:
    """The network as it was when training began; it holds no memory where adapters can be switched off.

    It is no module, so that checkpoints and optimisers do not see it. A resumed run builds it from where the first run
    began, as the network's factory reads it.

    Args:
        net: The network before its first step.
        build: Builds another one of the same kind; called where parameters train that no adapter holds.
    """

    def __init__(self, net: Any, build: Callable[[], nn.Module]) -> None:
        self.copy: nn.Module | None = None
        if not only_adapters_train(net):
            self.copy = build()
            self.copy.load_state_dict(net.state_dict())
            self.copy.requires_grad_(False).eval()

    def to(self, device: torch.device) -> None:
        """Move the copy, if there is one."""
        if self.copy is not None:
            self.copy.to(device)

    @contextmanager
    def network(self, net: Any) -> Iterator[Any]:
        """Yield the reference without gradients; adapters of ``net`` are off meanwhile."""
        if self.copy is not None:
            with torch.no_grad():
                yield self.copy
            return
        learning = [(p, p.requires_grad) for p in net.parameters()]
        with torch.no_grad(), net.disable_adapter():
            yield net
        for parameter, wanted in learning:  # peft switches gradients of all adapters on with the adapters
            parameter.requires_grad_(wanted)


def only_adapters_train(net: Any) -> bool:
    """Return whether switching adapters off leaves a network without anything that training changes."""
    names = [name for name, parameter in net.named_parameters() if parameter.requires_grad]
    return hasattr(net, "peft_config") and all(".lora_" in name or ".modules_to_save." in name for name in names)
