"""ECG-CoCa: an ECG tower, a text tower and a caption decoder, trained to agree (arXiv:2205.01917, on ECG)."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from gem_lightning.errors import CheckpointError, DataError
from gem_lightning.models.compat.coca import ecg_arguments, find_files, load_exactly, read_config, read_state_dict
from gem_lightning.models.encoder.text_tower import BERT_BASE, MEDCPT, bert_text_encoder, caption_decoder
from gem_lightning.models.encoder.transformer import EcgTransformer

Compat = Literal["default", "original"]
# open_clip's default vocabulary, which the published decoder has although its text tower has 30,522 ids
ORIGINAL_VOCABULARY = 49408


class EcgCoCa(nn.Module):
    """Contrastive captioner over any ECG encoder and any text encoder.

    Args:
        ecg: Module with ``encode(ecg (B, 12, T)) -> (embedding (B, D), tokens (B, N, W))``.
        text: Module with ``text(ids (B, L)) -> (embedding (B, D), tokens (B, L, W))``.
        decoder: Module with ``decoder(ecg_tokens, text_tokens) -> logits (B, L, V)``; None leaves captions out (CLIP).
        compat: ``original`` feeds the decoder the text tower's output, which has seen the words it shall predict;
            ``default`` feeds it the tower's input embeddings, so that only the causal decoder joins words.
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
        init_logit_scale: float = math.log(1 / 0.07),
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
        """A model from a checkpoint in the published layout; nothing is fetched, all weights come from the file.

        Args:
            checkpoint: ``cpt_wfep_epoch_20.pt``, a mapping of its keys, or a folder that ``save_coca`` wrote.
            config: JSON path or dict in the published form; None means the folder's, else the published one.
            text_tower: Folder with the text tower's ``config.json``; None means the one that ``config`` names beside
                itself, or BERT-base for the published MedCPT.
            compat: None means what ``config`` says, else ``original``, which the published decoder was trained under.

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
    """Where the text tower's sizes are: a folder beside the configuration, or BERT-base for MedCPT."""
    name = text_cfg.get("hf_model_name")
    if name is None or name == MEDCPT:
        return BERT_BASE
    base = Path(".") if config is None or isinstance(config, Mapping) else Path(config).parent
    for folder in (base / name, Path(name)):
        if (folder / "config.json").is_file():
            return folder
    raise CheckpointError(
        f"expected the text tower {name!r} as a folder with config.json beside the configuration, got none in {base}; "
        "pass text_tower=FOLDER"
    )
