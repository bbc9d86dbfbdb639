"""Text towers and caption decoders for ECG-CoCa, from open_clip's parts; a folder, a hub id or sizes are enough."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch
from open_clip.hf_configs import arch_dict
from open_clip.hf_model import HFTextEncoder
from open_clip.transformer import MultimodalTransformer
from torch import nn

from gem_lightning.errors import DataError

# MedCPT's query encoder is BERT-base; with these sizes its weights load from an ECG-CoCa checkpoint without a hub.
MEDCPT = "ncbi/MedCPT-Query-Encoder"
BERT_BASE: dict[str, Any] = {"model_type": "bert", "vocab_size": 30522, "max_position_embeddings": 512}


def bert_text_encoder(
    source: str | os.PathLike | Mapping[str, Any],
    *,
    output_dim: int,
    pretrained: bool = True,
    pooler: str = "mean_pooler",
    projection: str | None = "linear",
) -> HFTextEncoder:
    """A BERT-like text tower that returns its embedding and its tokens.

    Args:
        source: A folder or hub id of a BERT or RoBERTa, or its configuration as a mapping (then from scratch).
        output_dim: Width D of the embedding shared with the ECG tower.
        pretrained: Load the weights found at ``source``; False takes only its configuration.
        pooler: ``mean_pooler`` (the original's), ``cls_pooler`` or ``max_pooler``.
        projection: ``linear``, ``mlp`` or None (only where the widths are equal).

    Returns:
        ``encoder(ids (B, L)) -> (embedding (B, D), tokens (B, L, W))``; padding ids are masked.

    Raises:
        DataError: A family that open_clip has no table for.
    """
    from transformers import AutoConfig

    if isinstance(source, Mapping):
        sizes = dict(source)
        config = AutoConfig.for_model(sizes.pop("model_type", "bert"), **sizes)
    else:
        config = AutoConfig.from_pretrained(source)
    if config.model_type not in arch_dict:
        raise DataError(
            f"expected a text model of one of {', '.join(arch_dict)}, got {config.model_type!r}; "
            "choose another folder or hub id"
        )
    common: dict[str, Any] = {"pooler_type": pooler, "proj_type": projection, "output_tokens": True}
    if isinstance(source, Mapping) or not pretrained:
        encoder = HFTextEncoder("", output_dim, config=config, **common)
    else:
        encoder = HFTextEncoder(str(source), output_dim, **common)
    if pooler != "cls_pooler" and getattr(encoder.transformer, "pooler", None) is not None:
        # from_config always adds BERT's pooler; unused parameters would stall DDP
        encoder.transformer.pooler = None
    return encoder


def caption_decoder(
    *, vocab_size: int, width: int = 768, layers: int = 12, heads: int = 8, context_length: int = 76
) -> MultimodalTransformer:
    """The causal decoder that cross-attends to ECG tokens, with every parameter initialised.

    open_clip's own initialisation names an attribute that does not exist, so that its ``text_projection`` stays
    uninitialised memory; the scales here are the ones it intends.

    Args:
        vocab_size: Number of token ids to predict.
        width: Width of text and ECG tokens.
        layers: Pairs of self-attention and cross-attention blocks.
        heads: Attention heads.
        context_length: Longest input in tokens: one less than the text ids of a sample.

    Returns:
        ``decoder(ecg_tokens (B, N, W), text_tokens (B, L, W)) -> logits (B, L, vocab_size)``.
    """
    decoder = MultimodalTransformer(
        width=width, layers=layers, heads=heads, context_length=context_length, output_dim=vocab_size
    )
    attention = width**-0.5
    with torch.no_grad():
        for block in [*decoder.resblocks, *decoder.cross_attn]:
            nn.init.normal_(block.attn.in_proj_weight, std=attention)
            nn.init.normal_(block.attn.out_proj.weight, std=attention * (2 * layers) ** -0.5)
            nn.init.normal_(block.mlp.c_fc.weight, std=(2 * width) ** -0.5)
            nn.init.normal_(block.mlp.c_proj.weight, std=attention * (2 * layers) ** -0.5)
        nn.init.normal_(decoder.text_projection, std=attention)
    return decoder
