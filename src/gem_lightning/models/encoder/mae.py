"""Masked autoencoding of ECGs: pre-train the tower without texts (arXiv:2111.06377, on 100 ms patches)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from open_clip.transformer import LayerNorm, Transformer
from torch import Tensor, nn

from gem_lightning.errors import DataError
from gem_lightning.models.encoder.transformer import EcgTransformer


class EcgMaskedAutoencoder(nn.Module):
    """An ``EcgTransformer`` that sees some patches and a light decoder that rebuilds the others.

    Args:
        ecg: Factory of the tower; its weights are what is kept.
        width: Width of the decoder.
        layers: Blocks of the decoder.
        heads: Attention heads of the decoder.
        mask_ratio: Share of patches that the tower does not see.

    Raises:
        DataError: A share outside 0 to 1.
    """

    def __init__(
        self,
        ecg: Callable[[], EcgTransformer],
        width: int = 256,
        layers: int = 2,
        heads: int = 4,
        mask_ratio: float = 0.75,  # He 2022, figure 5
    ) -> None:
        super().__init__()
        if not 0 < mask_ratio < 1:
            raise DataError(f"expected a mask_ratio between 0 and 1, got {mask_ratio}; for example 0.75")
        self.ecg, self.mask_ratio = ecg(), mask_ratio
        self.inward = nn.Linear(self.ecg.width, width)
        # the usual standard deviation of token embeddings
        self.mask_token = nn.Parameter(torch.randn(width) * 0.02)
        self.positions = nn.Parameter(torch.randn(self.ecg.patches + 1, width) * width**-0.5)
        self.blocks = Transformer(width, layers, heads)
        self.norm = LayerNorm(width)
        self.outward = nn.Linear(width, self.ecg.leads * self.ecg.patch_size)

    def patchify(self, ecg: Tensor) -> Tensor:
        """(B, leads, patches * size) -> (B, patches, leads * size), the targets."""
        parts = ecg.unflatten(-1, (self.ecg.patches, self.ecg.patch_size))  # (B, leads, patches, size)
        return parts.transpose(1, 2).flatten(2)

    def forward(self, ecg: Tensor, keep: Tensor | None = None) -> dict[str, Tensor]:
        """Return mean squared error over the hidden patches, each normalised to mean 0 and variance 1.

        Args:
            ecg: (B, leads, samples), mV.
            keep: (B, K) patches to show; None draws them.

        Returns:
            ``loss`` (), ``reconstruction`` (B, patches, leads * size) and ``hidden`` (B, patches), True where masked.
        """
        keep = self.ecg.random_patches(len(ecg), 1 - self.mask_ratio, ecg.device) if keep is None else keep
        seen = self.inward(self.ecg.ln_post(self.ecg(ecg, keep)))  # (B, 1 + K, width)
        full = self.mask_token.to(seen.dtype).expand(len(ecg), self.ecg.patches, -1)
        full = full.scatter(1, keep[..., None].expand(-1, -1, full.shape[-1]), seen[:, 1:])
        decoded = self.norm(self.blocks(torch.cat([seen[:, :1], full], dim=1) + self.positions.to(seen.dtype)))
        rebuilt = self.outward(decoded[:, 1:]).float()
        target = self.patchify(ecg.float())
        # each patch normalised by its own statistics (He et al. 2022)
        target = (target - target.mean(-1, keepdim=True)) / (target.var(-1, keepdim=True) + 1e-6).sqrt()
        hidden = torch.ones(keep.shape[0], self.ecg.patches, dtype=torch.bool, device=ecg.device)
        hidden = hidden.scatter(1, keep, False)
        error = (rebuilt - target).square().mean(-1)  # (B, patches)
        return {"loss": (error * hidden).sum() / hidden.sum(), "reconstruction": rebuilt, "hidden": hidden}
