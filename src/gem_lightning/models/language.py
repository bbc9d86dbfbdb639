"""Language models that the network can hold, and why others are refused."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import nn
from transformers import AutoModel, PreTrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_MAPPING

from gem_lightning.errors import DataError

# Each is built, trained, reloaded and compared with transformers' own logits by the tests; others may work as well
TESTED = (
    "llama",
    "mistral",
    "qwen2",
    "qwen3",
    "gemma",
    "gemma3_text",
    "phi3",
    "olmo2",
    "smollm3",
    "starcoder2",
    "glm4",
)
# Fields by which a family's head changes its logits, and the value that changes nothing
_HEADS = {"logit_scale": 1.0, "logits_scaling": 1.0, "final_logit_softcapping": None, "lm_head_multiplier": 1.0}


def build_language_model(config: PreTrainedConfig) -> Any:
    """Build the body of a language model.

    Raises:
        DataError: Its family does not fit: no causal language model, one that keeps a state in place of keys and
            values, one whose embedding table lies elsewhere or whose head is more than a matrix.
    """
    problem = _problem(config)
    if problem is None:
        model = AutoModel.from_config(config)
        problem = None if isinstance(getattr(model, "embed_tokens", None), nn.Module) else "embeds by another name"
    if problem is not None:
        raise DataError(
            f"expected a language model of a family such as {', '.join(TESTED)}, got {config.model_type}, which "
            f"{problem}; name a model of one of these families as llm"
        )
    return model


def check_language_model(config: PreTrainedConfig) -> None:
    """Refuse what :func:`build_language_model` would, without memory for any weight."""
    with torch.device("meta"):
        build_language_model(config)


def _problem(config: PreTrainedConfig) -> str | None:
    kind: Any = MODEL_MAPPING.get(type(config), None)
    if kind is None or config.is_encoder_decoder or type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        return "is no causal language model"
    if getattr(kind, "_is_stateful", False) or "past_key_values" not in inspect.signature(kind.forward).parameters:
        return "keeps a state in place of keys and values"
    changed = [name for name, plain in _HEADS.items() if getattr(config, name, plain) not in (plain, None)]
    return f"changes its logits by {', '.join(changed)}" if changed else None
