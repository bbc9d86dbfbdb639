"""The digitiser's network: a small U-Net that draws where the traces of a flat page are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from gem_lightning.digitizer.network import MAPS


class _Conv(nn.Sequential):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
        )

    def folded(self) -> dict[str, Tensor]:
        """The convolution that does what this one and its normalisation do in evaluation."""
        conv: Any = self[0]
        norm: Any = self[1]
        scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        return {"weight": conv.weight * scale[:, None, None, None], "bias": norm.bias - norm.running_mean * scale}


class TraceNet(nn.Module):
    """U-Net from an image of flat paper to maps of trace, pulse and print.

    Args:
        widths: Channels at each scale, from the page's resolution down by halves.
    """

    def __init__(self, widths: Sequence[int] = (12, 24, 40, 64, 64)) -> None:
        super().__init__()
        inputs = [3, *widths[:-1]]
        self.down = nn.ModuleList(
            nn.ModuleList([_Conv(a, b), _Conv(b, b)]) for a, b in zip(inputs, widths, strict=True)
        )
        pairs = zip(widths[:0:-1], widths[-2::-1], strict=True)
        self.up = nn.ModuleList(_Conv(low + skip, skip) for low, skip in pairs)
        self.out = nn.Conv2d(widths[0], MAPS, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, MAPS, H, W) for images (N, 3, H, W) as ``network_input`` makes them."""
        kept: list[Tensor] = []
        for i, pair in enumerate(self.down):
            x = x if i == 0 else functional.max_pool2d(x, 2)
            for conv in pair.children():
                x = conv(x)
            kept.append(x)
        for conv, skip in zip(self.up, kept[-2::-1], strict=True):
            x = conv(torch.cat([functional.interpolate(x, scale_factor=2, mode="nearest"), skip], 1))
        return self.out(x)

    @torch.no_grad()
    def folded(self) -> dict[str, Tensor]:
        """Return the weights for :func:`gem_lightning.digitizer.network.forward`."""
        out: Any = self.out
        found: dict[str, Tensor] = {"out.weight": out.weight, "out.bias": out.bias}
        named = {f"down.{i}.{j}": conv for i, pair in enumerate(self.down) for j, conv in enumerate(pair.children())}
        for name, conv in [*named.items(), *((f"up.{i}", conv) for i, conv in enumerate(self.up))]:
            assert isinstance(conv, _Conv)
            found |= {f"{name}.{key}": value for key, value in conv.folded().items()}
        return {name: value.detach().clone().contiguous() for name, value in found.items()}
