"""The small networks between the towers and the language model."""

from __future__ import annotations

import re

from torch import nn

from gem_lightning.errors import DataError


def build_projector(kind: str, width_in: int, width_out: int) -> nn.Module:
    """A projector by its published name.

    Args:
        kind: ``linear``, or ``mlpNx_gelu`` for N linear layers with exact GELU between them.
        width_in: Width of the tokens that come in.
        width_out: Width of the tokens that go out.

    Returns:
        (..., width_in) -> (..., width_out). An ``mlpNx_gelu`` is an ``nn.Sequential`` whose parameters are named
        ``0.weight``, ``2.weight`` and so on, as in the published files.

    Raises:
        DataError: The name is unknown.
    """
    if kind == "linear":
        return nn.Linear(width_in, width_out)
    depth = re.fullmatch(r"mlp(\d+)x_gelu", kind)
    if not depth or int(depth[1]) < 1:
        raise DataError(f"expected a projector such as linear or mlp2x_gelu, got {kind!r}")
    layers: list[nn.Module] = [nn.Linear(width_in, width_out)]
    for _ in range(int(depth[1]) - 1):
        layers += [nn.GELU(), nn.Linear(width_out, width_out)]
    return nn.Sequential(*layers)
