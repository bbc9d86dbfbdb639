"""Networks and processors from plain keyword arguments, as the Hydra configs name them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig

from gem_lightning.errors import DataError
from gem_lightning.models.configuration_gem import EcgConfig, GemConfig
from gem_lightning.models.modeling_gem import GemForConditionalGeneration
from gem_lightning.models.processing_gem import GemProcessor

Source = str | os.PathLike | Mapping[str, Any] | None


def build_gem(
    llm: Source = None,
    ecg: Source = None,
    vision: Source = None,
    checkpoint: str | os.PathLike | None = None,
    lora: Mapping[str, Any] | None = None,
    quantization: Mapping[str, Any] | str | None = None,
    dtype: str | torch.dtype = "float32",
    attention: str = "sdpa",
    gradient_checkpointing: bool = False,
    **switches: Any,
) -> Any:
    """A network to train: from a checkpoint, from pretrained parts, or from nothing.

    Args:
        llm: Folder or hub id of a causal language model, or the fields of its config (``model_type`` and sizes) for
            one from scratch.
        ecg: Checkpoint of an ECG tower (``cpt_wfep_epoch_20.pt`` or a folder of ours), or the fields of
            :class:`EcgConfig` for one from scratch; a mapping may name a ``checkpoint`` beside its fields; ``none``
            leaves the tower out.
        vision: Folder or hub id of a CLIP or SigLIP vision tower, or the fields of its config, or ``none``.
        checkpoint: A whole model (ours, published GEM, PULSE, LLaVA) in place of the parts.
        lora: Fields of peft's ``LoraConfig``; None trains the weights themselves.
        quantization: ``nf4``, ``int8`` or the fields of ``BitsAndBytesConfig``; needs ``checkpoint``.
        dtype: Of the weights, such as ``bfloat16``.
        attention: ``sdpa``, ``eager``, ``flash_attention_2`` or ``flex_attention``.
        gradient_checkpointing: Recompute activations of the language model in the backward pass.
        **switches: Further fields of :class:`GemConfig`.

    Returns:
        A ``GemForConditionalGeneration`` in training mode, or the peft wrapper of one.
    """
    dtype = getattr(torch, dtype) if isinstance(dtype, str) else dtype
    if checkpoint is not None:
        from gem_lightning.models.loading import load_gem

        model = load_gem(checkpoint, dtype=dtype, quantization_config=quantization, attention=attention)[0]
    elif quantization is not None:
        raise DataError("expected a checkpoint to quantise, got parts; save the model first and name its folder")
    else:
        model = _assemble(llm, ecg, vision, dtype, attention, switches)
    if gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if lora is not None:
        from gem_lightning.models.lora import add_lora

        model = add_lora(model, **lora)
    return model.train()


def build_processor(tokenizer: str | os.PathLike | Any, net: Any = None, **settings: Any) -> GemProcessor:
    """The processor of a network that :func:`build_gem` makes.

    Args:
        tokenizer: Folder, hub id, or the tokenizer itself; the folder of a whole model gives its own processor.
        net: The arguments of :func:`build_gem` (a mapping, or a partial of it), from which the sizes are read.
        **settings: Further arguments of :class:`GemProcessor`.
    """
    if isinstance(tokenizer, (str, os.PathLike)):
        if (Path(tokenizer) / "processor_config.json").is_file():
            return GemProcessor.from_pretrained(tokenizer, **settings)
        tokenizer = AutoTokenizer.from_pretrained(tokenizer)
    arguments = dict(getattr(net, "keywords", net) or {})
    if arguments.get("checkpoint"):
        from gem_lightning.models.loading import load_processor

        return load_processor(arguments["checkpoint"], tokenizer=tokenizer, **settings)
    config = make_config(arguments.get("llm"), arguments.get("ecg"), arguments.get("vision"), _switches(arguments))
    return GemProcessor.from_config(tokenizer, config, **settings)


def make_config(llm: Source, ecg: Source, vision: Source, switches: Mapping[str, Any]) -> GemConfig:
    """The config of a network from the descriptions of its parts, without any weights."""
    return GemConfig(
        text_config=_part_config(llm, "llama"),
        ecg_config=_ecg_config(ecg),
        vision_config=_part_config(vision, "clip_vision_model"),
        **switches,
    )


def _switches(arguments: Mapping[str, Any]) -> dict[str, Any]:
    own = ("llm", "ecg", "vision", "checkpoint", "lora", "quantization", "dtype", "attention", "gradient_checkpointing")
    return {name: value for name, value in arguments.items() if name not in own and not name.startswith("_")}


def _part_config(source: Source, model_type: str) -> PreTrainedConfig | str | dict[str, Any] | None:
    if source is None:
        return "published"
    if source == "none":
        return None
    if isinstance(source, Mapping):
        return {"model_type": model_type} | dict(source)
    config = AutoConfig.from_pretrained(source)
    return getattr(config, "vision_config", config) if "vision" in model_type else config


def _ecg_config(source: Source) -> EcgConfig | dict[str, Any] | str | None:
    if source is None:
        return "published"
    if source == "none":
        return None
    if isinstance(source, Mapping):
        return {name: value for name, value in source.items() if name != "checkpoint"}
    from gem_lightning.models.towers import ecg_config_of

    return ecg_config_of(source)


def _assemble(
    llm: Source, ecg: Source, vision: Source, dtype: torch.dtype, attention: str, switches: Mapping[str, Any]
) -> GemForConditionalGeneration:
    config = make_config(llm, ecg, vision, switches)
    config.dtype = dtype
    fresh = []
    model = GemForConditionalGeneration._from_config(config, dtype=dtype, attn_implementation=attention)
    from gem_lightning.models.towers import fill_ecg_tower, fill_language_model, fill_vision_tower

    checkpoint = ecg.get("checkpoint") if isinstance(ecg, Mapping) else ecg
    for name, source, fill in (
        ("ecg_tower", checkpoint, fill_ecg_tower),
        ("vision_tower", vision, fill_vision_tower),
        ("language_model", llm, fill_language_model),
    ):
        if source is not None and not isinstance(source, Mapping) and source != "none":
            fill(model, source)
        elif source != "none":
            fresh.append(name)
    model.config.fresh_parts = [*fresh, "ecg_projector", "multi_modal_projector"]
    return model
