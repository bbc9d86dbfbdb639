"""Trunks of the dense encoder: from a signal to tokens, and to features of every 20 ms where they keep them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gem_lightning.errors import DataError


class ConvTrunk(nn.Module):
    """Convolutions down to 20 ms, tokens of 80 ms, and a transformer over them.

    The signal is averaged to half its rate, so 500 Hz is seen at 250; amplitudes are compressed by asinh, which is
    nearly linear below 0.5 mV, where P waves and ST lie, and keeps large gains in range.

    Args:
        leads: Rows of the signal.
        samples: Samples of a lead; a multiple of 40.
        width: Of a token.
        layers: Transformer layers.
        heads: Of attention; divide ``width``.
        channels: Of the two convolutions.
    """

    factor = 4  # bins of 20 ms a token

    def __init__(
        self, leads: int, samples: int, width: int, layers: int, heads: int, channels: tuple[int, int] | list[int]
    ) -> None:
        super().__init__()
        if samples % 40:
            raise DataError(f"expected samples a multiple of 40 (80 ms at 500 Hz), got {samples}")
        near, wide = channels
        self.tokens, self.skip = samples // 40, wide
        self.near = nn.Sequential(nn.Conv1d(leads, near, 7, padding=3, bias=False), nn.BatchNorm1d(near), nn.GELU())
        self.down = nn.Sequential(
            nn.Conv1d(near, wide, 11, stride=5, padding=3, bias=False), nn.BatchNorm1d(wide), nn.GELU()
        )
        self.blocks = nn.Sequential(ResidualBlock(wide, 5), ResidualBlock(wide, 5))
        self.embed = nn.Conv1d(wide, width, self.factor, stride=self.factor)
        self.position = nn.Parameter(torch.randn(1, self.tokens, width) * 0.02)
        self.transformer = encoder_layers(width, layers, heads)

    def forward(self, ecg: Tensor) -> tuple[Tensor, Tensor | None]:
        """(N, leads, samples) mV → tokens (N, tokens, width) and features (N, channels, bins of 20 ms)."""
        dtype = self.position.dtype
        x = ecg.to(dtype).unflatten(2, (-1, 2)).mean(3)  # (N, leads, samples / 2)
        x = torch.asinh(2 * (x - x.mean(2, keepdim=True)))
        fine = self.blocks(self.down(self.near(x)))  # (N, channels, samples / 10)
        tokens = self.embed(fine).transpose(1, 2) + self.position
        return self.transformer(tokens), fine


class PatchTrunk(nn.Module):
    """The published encoder's form, :class:`~gem_lightning.models.encoder.transformer.EcgTransformer`, class token off.

    Args:
        leads: Rows of the signal.
        samples: Samples of a lead.
        width: Of a token.
        layers: Transformer layers.
        heads: Of attention.
        patch_size: Samples of a token; a multiple of 10.
    """

    def __init__(self, leads: int, samples: int, width: int, layers: int, heads: int, patch_size: int) -> None:
        from gem_lightning.models.encoder.transformer import EcgTransformer

        super().__init__()
        if patch_size % 10:
            raise DataError(f"expected patch_size a multiple of 10 samples (20 ms at 500 Hz), got {patch_size}")
        self.factor, self.tokens, self.skip = patch_size // 10, samples // patch_size, 0
        self.tower = EcgTransformer(
            leads=leads, samples=samples, patch_size=patch_size, width=width, layers=layers, head_width=width // heads
        )

    def forward(self, ecg: Tensor) -> tuple[Tensor, Tensor | None]:
        """(N, leads, samples) mV → tokens (N, tokens, width) and no finer features."""
        return self.tower.encode(ecg)[1], None


class ResidualBlock(nn.Module):
    """Two convolutions around a shortcut.

    Args:
        channels: In and out.
        size: Of the kernels, odd.
    """

    def __init__(self, channels: int, size: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv1d(channels, channels, size, padding=size // 2, bias=False),
            nn.BatchNorm1d(channels),
            nn.GELU(),
            nn.Conv1d(channels, channels, size, padding=size // 2, bias=False),
            nn.BatchNorm1d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, T) → the same shape."""
        return nn.functional.gelu(x + self.body(x))


def encoder_layers(width: int, layers: int, heads: int) -> nn.TransformerEncoder:
    """Build pre-norm transformer layers without dropout: the data never repeats."""
    layer = nn.TransformerEncoderLayer(width, heads, 3 * width, 0.0, "gelu", batch_first=True, norm_first=True)
    return nn.TransformerEncoder(layer, layers, norm=nn.LayerNorm(width), enable_nested_tensor=False)
