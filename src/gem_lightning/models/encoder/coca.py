"""ECG-CoCa: an ECG tower, a text tower and a caption decoder, trained to agree (arXiv:2205.01917, on ECG)."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from open_clip.hf_configs import arch_dict
from open_clip.hf_model import HFTextEncoder
from open_clip.transformer import MultimodalTransformer
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from gem_lightning.errors import CheckpointError, DataError
from gem_lightning.models.compat import ecg_arguments, find_files, load_exactly, read_config, read_state_dict
from gem_lightning.models.encoder.transformer import EcgTransformer

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
    """Build a BERT-like text tower that returns its embedding and its tokens.

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
    """Build the causal decoder that cross-attends to ECG tokens, with every parameter initialised.

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


Compat = Literal["default", "original"]
# open_clip's default vocabulary, which the published decoder has although its text tower has 30,522 ids
ORIGINAL_VOCABULARY = 49408


class EcgCoCa(nn.Module):
    """Contrastive captioner over any ECG encoder and any text encoder.

    Args:
        ecg: Module with ``encode(ecg (B, 12, T)) -> (embedding (B, D), tokens (B, N, W))``.
        text: Module with ``text(ids (B, L)) -> (embedding (B, D), tokens (B, L, W))``.
        decoder: Module with ``decoder(ecg_tokens, text_tokens) -> logits (B, L, V)``; None leaves captions out (CLIP).
        compat: ``original`` feeds the decoder the text tower's output, which has seen the tokens that it is to predict;
            ``default`` feeds it the tower's input embeddings, so that only the causal decoder joins tokens.
        init_logit_scale: Logarithm of the first inverse temperature.
        init_logit_bias: First bias of the sigmoid loss (SigLIP); None where the softmax loss is used.
        pad_id: Token id of padding.

    Raises:
        DataError: ``compat`` is neither of the two.
    """

    ecg: Any
    text: Any
    text_decoder: Any

    def __init__(
        self,
        *,
        ecg: nn.Module,
        text: nn.Module,
        decoder: nn.Module | None = None,
        compat: Compat = "default",
        init_logit_scale: float = math.log(1 / 0.07),  # temperature 0.07, as CLIP (Radford 2021, 2.5)
        init_logit_bias: float | None = None,
        pad_id: int = 0,
    ) -> None:
        super().__init__()
        if compat not in ("default", "original"):
            raise DataError(f"expected compat 'default' or 'original', got {compat!r}; use one of them")
        self.ecg, self.text, self.text_decoder = ecg, text, decoder
        self.compat, self.pad_id = compat, pad_id
        self.logit_scale = nn.Parameter(torch.tensor(init_logit_scale))
        self.logit_bias = None if init_logit_bias is None else nn.Parameter(torch.tensor(init_logit_bias))

    @classmethod
    def from_original(
        cls,
        checkpoint: str | os.PathLike | Mapping[str, Any],
        config: str | os.PathLike | Mapping[str, Any] | None = None,
        text_tower: str | os.PathLike | None = None,
        compat: Compat | None = None,
    ) -> EcgCoCa:
        """Return a model from a checkpoint in the published layout; nothing is fetched, all weights come from the file.

        Args:
            checkpoint: ``cpt_wfep_epoch_20.pt``, a mapping of its keys, or a folder that ``save_coca`` wrote.
            config: JSON path or dict in the published form; None means the folder's, else the published one.
            text_tower: Folder with the text tower's ``config.json``; None means the one that ``config`` names next to
                itself, or BERT-base for the published MedCPT.
            compat: None means the one of ``config``, else ``original``, which the published decoder was trained under.

        Raises:
            CheckpointError: The file is unsafe, does not fit, or the text tower's sizes cannot be found.
        """
        if not isinstance(checkpoint, Mapping) and Path(checkpoint).is_dir():
            checkpoint, found = find_files(Path(checkpoint))
            config = found if config is None else config
        sizes = read_config(config)
        text_cfg, decoder_cfg = sizes.get("text_cfg", {}), sizes.get("multimodal_cfg")
        text = bert_text_encoder(
            text_tower or _text_source(text_cfg, config),
            output_dim=sizes["embed_dim"],
            pretrained=False,
            pooler=text_cfg.get("hf_pooler_type", "mean_pooler"),
            projection=text_cfg.get("hf_proj_type", "linear"),
        )
        vocabulary = text_cfg.get("vocab_size", ORIGINAL_VOCABULARY)
        model = cls(
            ecg=EcgTransformer(**ecg_arguments(sizes)),
            text=text,
            decoder=caption_decoder(vocab_size=vocabulary, **decoder_cfg) if decoder_cfg else None,
            compat=compat or sizes.get("compat", "original"),
            init_logit_bias=0.0 if sizes.get("logit_bias") else None,
            pad_id=text.config.pad_token_id or 0,
        )
        load_exactly(model, read_state_dict(checkpoint), "EcgCoCa")
        return model.eval()

    def encode_ecg(self, ecg: Tensor, normalize: bool = True) -> Tensor:
        """ECGs (B, 12, T) in mV as embeddings (B, D), of unit length unless ``normalize`` is False."""
        pooled = self.ecg.encode(ecg)[0]
        return F.normalize(pooled, dim=-1) if normalize else pooled

    def encode_text(self, text_ids: Tensor, normalize: bool = True) -> Tensor:
        """Token ids (B, L) as embeddings (B, D), of unit length unless ``normalize`` is False."""
        pooled = self.text(text_ids)[0]
        return F.normalize(pooled, dim=-1) if normalize else pooled

    def forward(self, ecg: Tensor, text_ids: Tensor) -> dict[str, Tensor]:
        """Both embeddings and, where there is a decoder, next-token logits.

        Args:
            ecg: (B, 12, T), mV.
            text_ids: (B, L) token ids padded with ``pad_id``.

        Returns:
            ``ecg_features`` and ``text_features`` (B, D) of unit length; ``logit_scale`` (), the inverse temperature;
            ``logits`` (B, L - 1, V) and ``labels`` (B, L - 1), the ids to predict; ``logit_bias`` () for SigLIP.

        Raises:
            DataError: More tokens than the decoder's context.
        """
        pooled, ecg_tokens = self.ecg.encode(ecg)
        text_pooled, text_tokens = self.text(text_ids)
        out = {
            "ecg_features": F.normalize(pooled, dim=-1),
            "text_features": F.normalize(text_pooled, dim=-1),
            "logit_scale": self.logit_scale.exp(),
        }
        if self.logit_bias is not None:
            out["logit_bias"] = self.logit_bias
        if self.text_decoder is not None:
            context = getattr(self.text_decoder, "context_length", text_ids.shape[1])
            if text_ids.shape[1] - 1 > context:
                raise DataError(
                    f"expected at most {context + 1} text ids a sample, got {text_ids.shape[1]}; "
                    "cut the text (max_length of the tokenizer) or enlarge the decoder's context_length"
                )
            if self.compat == "default":
                text_tokens = self.text.transformer.embeddings(input_ids=text_ids)
            out["logits"] = self.text_decoder(ecg_tokens, text_tokens[:, :-1])
            out["labels"] = text_ids[:, 1:]
        return out

    @torch.no_grad()
    def clamp_temperature(self, largest: float = 100.0) -> None:
        """Keep the inverse temperature within 1 and ``largest``, as CLIP does after every step."""
        self.logit_scale.clamp_(0.0, math.log(largest))


def build_coca(
    *,
    ecg: Callable[[], nn.Module],
    text: Callable[[], nn.Module],
    decoder: Callable[[], nn.Module] | None = None,
    compat: Compat = "default",
    init_logit_scale: float = math.log(1 / 0.07),
    init_logit_bias: float | None = None,
    pad_id: int = 0,
) -> EcgCoCa:
    """``EcgCoCa`` from factories of its parts, so that a configuration can name them without building them."""
    return EcgCoCa(
        ecg=ecg(),
        text=text(),
        decoder=decoder() if decoder else None,
        compat=compat,
        init_logit_scale=init_logit_scale,
        init_logit_bias=init_logit_bias,
        pad_id=pad_id,
    )


def _text_source(text_cfg: Mapping[str, Any], config: Any) -> str | Path | dict[str, Any]:
    """Return the source of the text tower's sizes: a folder next to the configuration, or BERT-base for MedCPT."""
    name = text_cfg.get("hf_model_name")
    if name is None or name == MEDCPT:
        return BERT_BASE
    base = Path(".") if config is None or isinstance(config, Mapping) else Path(config).parent
    for folder in (base / name, Path(name)):
        if (folder / "config.json").is_file():
            return folder
    raise CheckpointError(
        f"expected the text tower {name!r} as a folder with config.json next to the configuration, got none in {base}; "
        "pass text_tower=FOLDER"
    )
