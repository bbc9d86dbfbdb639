"""The time-series encoder: a vision transformer's blocks over 100 ms patches of a 12-lead ECG."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gem_lightning.errors import CheckpointError, DataError
from gem_lightning.models.compat import ecg_arguments, load_exactly, read_config, read_state_dict


class EcgTransformer(nn.Module):
    """Pre-norm transformer over non-overlapping patches of the signal, with a class token.

    The defaults are the published ECG-CoCa tower (GEM, arXiv:2503.06073): 5,000 samples at 500 Hz, patches of 50
    samples, 101 tokens of width 768, 12 blocks. Blocks are open_clip's; parameter names are the checkpoint's.

    Args:
        leads: Rows of the input, standard order :data:`gem_lightning.ecg.record.LEADS`.
        samples: Samples per lead; a multiple of ``patch_size``.
        patch_size: Samples per token.
        width: Width W of a token.
        layers: Number of blocks.
        head_width: Width of an attention head; divides ``width``.
        mlp_ratio: Hidden width of a block's MLP over ``width``.
        output_dim: Width D of the pooled embedding.
        patch_dropout: Share of patches left out at random while training (arXiv:2212.00794), 0 to below 1.

    Raises:
        DataError: Sizes that do not divide.
    """

    def __init__(
        self,
        *,
        leads: int = 12,
        samples: int = 5000,
        patch_size: int = 50,
        width: int = 768,
        layers: int = 12,
        head_width: int = 64,
        mlp_ratio: float = 4.0,
        output_dim: int = 512,
        patch_dropout: float = 0.0,
    ) -> None:
        # Here, not above: open_clip imports transformers, which costs seconds.
        from open_clip.transformer import LayerNorm, Transformer

        super().__init__()
        if samples % patch_size or width % head_width:
            raise DataError(
                f"expected samples a multiple of patch_size and width of head_width, got {samples} and {patch_size}, "
                f"{width} and {head_width}; change one of each pair"
            )
        self.leads, self.samples, self.patch_size = leads, samples, patch_size
        self.width, self.output_dim, self.patch_dropout = width, output_dim, patch_dropout
        self.patches = samples // patch_size
        self.conv1 = nn.Conv1d(leads, width, kernel_size=patch_size, stride=patch_size, bias=False)
        self.class_embedding = nn.Parameter(torch.empty(width))
        self.positional_embedding = nn.Parameter(torch.empty(self.patches + 1, width))
        self.ln_pre = LayerNorm(width)
        self.transformer = Transformer(width, layers, heads=width // head_width, mlp_ratio=mlp_ratio)
        self.ln_post = LayerNorm(width)
        self.proj = nn.Parameter(torch.empty(width, output_dim))
        self.init_parameters()

    @torch.no_grad()
    def init_parameters(self) -> None:
        """Initialise every parameter as CLIP does; an outer ``_init_weights`` may call this on the whole tower.

        Only functions of ``torch.nn.init`` are used, so that transformers can guard parameters that were loaded.
        """
        scale = self.width**-0.5
        depth = (2 * len(self.transformer.resblocks)) ** -0.5
        nn.init.normal_(self.class_embedding, std=scale)
        nn.init.normal_(self.positional_embedding, std=scale)
        nn.init.normal_(self.proj, std=scale)
        nn.init.normal_(self.conv1.weight, std=(self.leads * self.patch_size) ** -0.5)
        for norm in (module for module in self.modules() if isinstance(module, nn.LayerNorm)):
            nn.init.ones_(norm.weight)
            nn.init.zeros_(norm.bias)
        for block in self.transformer.resblocks:
            nn.init.normal_(block.attn.in_proj_weight, std=scale)
            nn.init.normal_(block.attn.out_proj.weight, std=scale * depth)
            nn.init.normal_(block.mlp.c_fc.weight, std=(2 * self.width) ** -0.5)
            nn.init.normal_(block.mlp.c_proj.weight, std=scale * depth)
            for bias in (block.attn.in_proj_bias, block.attn.out_proj.bias, block.mlp.c_fc.bias, block.mlp.c_proj.bias):
                nn.init.zeros_(bias)

    @classmethod
    def from_original(
        cls,
        checkpoint: str | os.PathLike | Mapping[str, Any],
        config: str | os.PathLike | Mapping[str, Any] | None = None,
        dtype: torch.dtype | None = None,
    ) -> EcgTransformer:
        """Return the ECG tower of an ECG-CoCa checkpoint; no text tower is built or read.

        Args:
            checkpoint: ``cpt_wfep_epoch_20.pt``, a file or mapping in its layout, or the tower's own keys alone.
            config: JSON path or dict in the published form; None means the published configuration.
            dtype: Of the tower's parameters; None keeps the checkpoint's.

        Raises:
            CheckpointError: The file is unsafe or its ECG keys do not fit the configuration.
        """
        tensors = read_state_dict(checkpoint)
        ecg = {key.removeprefix("ecg."): value for key, value in tensors.items() if key.startswith("ecg.")} or tensors
        if "conv1.weight" not in ecg:
            raise CheckpointError(
                f"expected keys such as ecg.conv1.weight, got {sorted(tensors)[:4]}; is this ECG-CoCa?"
            )
        with torch.device("meta"):
            tower = cls(**ecg_arguments(read_config(config)))
        tower = tower.to_empty(device="cpu").to(dtype or ecg["conv1.weight"].dtype)
        load_exactly(tower, ecg, "EcgTransformer")
        return tower.eval()

    def embed(self, ecg: Tensor, keep: Tensor | None = None) -> Tensor:
        """Return the first block's input: class token and patches with their positions, before ln_pre.

        Args:
            ecg: (B, leads, samples), mV.
            keep: (B, K) indices of the patches to keep, in order; None keeps all.

        Returns:
            (B, 1 + K, W).

        Raises:
            DataError: Another shape.
        """
        if ecg.ndim != 3 or ecg.shape[1:] != (self.leads, self.samples):
            raise DataError(
                f"expected ECGs of shape (batch, {self.leads}, {self.samples}), got {tuple(ecg.shape)}; "
                "use gem_lightning.ecg.preprocess to bring leads, rate and length to the encoder's"
            )
        weight = self.conv1.weight
        # (B, leads, samples) -> (B, W, patches) -> (B, patches, W)
        patches = self.conv1(ecg.to(weight.dtype)).transpose(1, 2) + self.positional_embedding[1:]
        if keep is not None:
            patches = patches.gather(1, keep[..., None].expand(-1, -1, self.width))
        first = (self.class_embedding + self.positional_embedding[0]).expand(ecg.shape[0], 1, -1)
        return torch.cat([first.to(patches.dtype), patches], dim=1)

    def forward(self, ecg: Tensor, keep: Tensor | None = None) -> Tensor:
        """Return tokens of the last block, class token first, before ln_post: what a language model reads.

        Args:
            ecg: (B, leads, samples), mV; cast to the parameters' dtype.
            keep: (B, K) patches to look at; None means all (while training, all but ``patch_dropout``).

        Returns:
            (B, 1 + K, W); (B, 101, 768) in the published size.
        """
        if keep is None and self.training and self.patch_dropout:
            keep = self.random_patches(ecg.shape[0], 1 - self.patch_dropout, ecg.device)
        return self.transformer(self.ln_pre(self.embed(ecg, keep)))

    def random_patches(self, batch: int, share: float, device: torch.device | str) -> Tensor:
        """(batch, K) indices of a random ``share`` of the patches in ascending order, at least one."""
        count = max(1, int(self.patches * share))
        return torch.rand(batch, self.patches, device=device).topk(count, dim=1).indices.sort(dim=1).values

    def encode(self, ecg: Tensor) -> tuple[Tensor, Tensor]:
        """Pooled embedding (B, D) and patch tokens after ln_post (B, K, W), from one pass."""
        tokens = self.ln_post(self(ecg))
        return tokens[:, 0] @ self.proj, tokens[:, 1:]

    def pool(self, ecg: Tensor) -> Tensor:
        """Return the class token after ln_post, projected: (B, leads, samples) -> (B, D), not normalised."""
        return self.ln_post(self(ecg)[:, 0]) @ self.proj

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute each block in the backward pass instead of keeping its activations."""
        self.transformer.grad_checkpointing = enable
