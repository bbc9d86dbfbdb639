"""A network as it will train, without its weights: for plans and estimates."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch

from gem_lightning.models.build import make_config, named_towers, switches_of
from gem_lightning.models.compat.load import load_config
from gem_lightning.models.compute import Kernels, as_dtype, recompute
from gem_lightning.models.configuration_gem import GemConfig
from gem_lightning.models.lora import add_lora
from gem_lightning.models.modeling_gem import GemForConditionalGeneration


def config_for(arguments: Mapping[str, Any]) -> GemConfig:
    """The config of the network that :func:`build_gem` makes of these arguments."""
    checkpoint = arguments.get("checkpoint")
    if checkpoint is None:
        return make_config(arguments.get("llm"), arguments.get("ecg"), arguments.get("vision"), switches_of(arguments))
    return load_config(checkpoint, *named_towers(arguments))


def network_shell(arguments: Mapping[str, Any], config: GemConfig, layers: int | None = None) -> Any:
    """The network on the meta device, adapters included.

    Args:
        arguments: Of :func:`build_gem`.
        config: From :func:`config_for`.
        layers: Of the language model; None keeps its number.
    """
    config = copy.deepcopy(config)
    if layers is not None:
        text = config.text_config
        text.num_hidden_layers = layers
        if getattr(text, "layer_types", None):
            text.layer_types = text.layer_types[:layers]
    dtype = as_dtype(arguments.get("dtype") or "float32")
    attention = (arguments.get("kernels") or Kernels()).attention
    with torch.device("meta"):
        network: Any = GemForConditionalGeneration._from_config(config, dtype=dtype, attn_implementation=attention)
        recompute(network, arguments.get("gradient_checkpointing") or False)
        if arguments.get("lora") is not None:
            network = add_lora(network, **arguments["lora"])
    return network.train()
