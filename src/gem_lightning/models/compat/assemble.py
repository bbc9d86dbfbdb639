"""Load tensors into a network through transformers' own loader: one copy in memory, quantised while loading."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch

from gem_lightning.errors import CheckpointError, MissingExtraError
from gem_lightning.models.compat.names import PARTS, check_fit
from gem_lightning.models.configuration_gem import GemConfig
from gem_lightning.models.modeling_gem import GemForConditionalGeneration
from gem_lightning.models.sharding import Sharding, load_shared

PRESETS: dict[str, dict[str, Any]] = {
    "nf4": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True},
    "int8": {"load_in_8bit": True},
}
# Small, and what training changes first: they stay in the compute dtype
NOT_QUANTISED = [
    "lm_head",
    "model.ecg_tower",
    "model.vision_tower",
    "model.ecg_projector",
    "model.multi_modal_projector",
]


def load_tensors(
    config: GemConfig,
    tensors: Mapping[str, Any],
    dtype: torch.dtype | None = None,
    quantization_config: Any = None,
    device: Any = None,
    attention: str | None = None,
    shard: Sharding | None = None,
) -> GemForConditionalGeneration:
    """Build a network with these weights.

    Args:
        config: Sizes; parts in ``config.fresh_parts`` may lack weights and are randomly initialised.
        tensors: Tensors, or lazy ones, under our names.
        dtype: Of the weights in memory; None means the most frequent of the tensors.
        quantization_config: See :func:`quantisation`.
        device: Where the weights go; None means the CPU.
        attention: Attention implementation; None leaves the choice to transformers (SDPA).
        shard: Shards the network over processes: none of them ever holds all of it.

    Raises:
        CheckpointError: Names or shapes do not fit; nothing is read then. Or a quantised network is to be sharded.
    """
    if attention is not None:
        config._attn_implementation = attention
    with torch.device("meta"):
        shell = GemForConditionalGeneration(config)
    check_fit(tensors, shell.state_dict(), _optional(config, shell.state_dict()))
    if dtype is None:
        found = [value.dtype for value in tensors.values()]
        dtype = max(set(found), key=found.count)
    config.dtype = dtype
    if shard is not None:
        if quantization_config is not None:
            raise CheckpointError(
                "expected unquantised weights to shard, got quantization: use strategy=single or strategy=ddp"
            )
        load_shared(shell, tensors, dtype, shard)
        return shell.eval()
    options: dict[str, Any] = {} if attention is None else {"attn_implementation": attention}
    quantised = quantisation(quantization_config, dtype)
    if quantised is not None:
        quantised.llm_int8_skip_modules += odd_layers(shell)
        options["quantization_config"] = quantised
    if device is not None or quantised is not None:
        options["device_map"] = {"": device or ("cuda" if torch.cuda.is_available() else "cpu")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        model = GemForConditionalGeneration.from_pretrained(
            None, config=config, state_dict=dict(tensors), dtype=dtype, **options
        )
    return model.eval()


def _optional(config: GemConfig, wanted: Mapping[str, Any]) -> list[str]:
    """Return names that a checkpoint may lack: randomly initialised parts, tied and unused weights."""
    prefixes = [PARTS[part] for part in config.fresh_parts or ()] + ["model.vision_tower.head."]
    names = [name for name in wanted if name.startswith(tuple(prefixes)) or name == "model.image_newline"]
    return [*names, "lm_head.weight"] if config.tie_word_embeddings else names


def quantisation(choice: Any, dtype: torch.dtype | None = None) -> Any:
    """Build a ``BitsAndBytesConfig`` from ``nf4``, ``int8``, its fields, or itself; None stays None.

    Towers, projectors and the head are not quantised.

    Raises:
        CheckpointError: The name is unknown.
        MissingExtraError: bitsandbytes is not installed.
    """
    if choice is None:
        return None
    from importlib.util import find_spec

    from transformers import BitsAndBytesConfig

    if find_spec("bitsandbytes") is None:
        raise MissingExtraError("bitsandbytes", "dev")
    if isinstance(choice, str):
        if choice not in PRESETS:
            raise CheckpointError(f"expected a quantisation of {sorted(PRESETS)}, got {choice!r}")
        choice = dict(PRESETS[choice])
    if isinstance(choice, Mapping):
        choice = BitsAndBytesConfig(**{"bnb_4bit_compute_dtype": dtype or torch.bfloat16} | dict(choice))
    if choice.llm_int8_skip_modules is None:
        choice.llm_int8_skip_modules = list(NOT_QUANTISED)
    return choice


def odd_layers(model: torch.nn.Module) -> list[str]:
    """List linear layers whose sizes bitsandbytes' kernels for the CPU refuse (published models have none)."""
    return [
        name
        for name, layer in model.named_modules()
        if isinstance(layer, torch.nn.Linear) and (layer.out_features % 32 or layer.in_features % 64)
    ]
