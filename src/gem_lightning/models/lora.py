"""Low-rank adapters: added for training and saved without their base; the projectors always train with them."""

from __future__ import annotations

import dataclasses
import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gem_lightning.errors import GemError
from gem_lightning.jobs.files import open_weights

# Whole layers that train with the adapters: without them an adapter would lose what it learned about ECGs
ALWAYS_SAVED = ("ecg_projector", "multi_modal_projector")
LLM_LAYERS = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
PEFT_PREFIX = "base_model.model."
PathLike = str | os.PathLike


def add_lora(model: Any, r: int = 16, lora_alpha: int | None = None, **fields: Any) -> Any:
    """Wrap a network for LoRA training.

    Args:
        model: A ``GemForConditionalGeneration``, quantised or not.
        r: Rank.
        lora_alpha: Scale times ``r``; None means twice the rank.
        **fields: Further fields of peft's ``LoraConfig``; ``target_modules`` is by default every linear layer of the
            language model, ``modules_to_save`` always holds the projectors.

    Returns:
        A ``PeftModel`` whose adapters and projectors are float32, and whose ``save_pretrained`` writes these only.

    Raises:
        GemError: See :func:`check_lora`.
    """
    from peft import LoraConfig, get_peft_model

    check_lora({"r": r} | fields)
    own = [name for name in ALWAYS_SAVED if getattr(model.model, name, None) is not None]
    whole = sorted({*fields.pop("modules_to_save", ()), *own})
    settings = {"target_modules": LLM_LAYERS, "task_type": "CAUSAL_LM"} | fields
    config = LoraConfig(r=r, lora_alpha=lora_alpha or 2 * r, modules_to_save=whole, **settings)
    wrapped = get_peft_model(model, config)
    for parameter in wrapped.parameters():
        if parameter.requires_grad:
            # small, and what learns: in bfloat16 an update of 1e-4 of a weight is lost to rounding
            parameter.data = parameter.data.float()
    return wrapped


def check_lora(fields: Mapping[str, Any]) -> None:
    """Refuse what no adapter can have.

    Args:
        fields: As for :func:`add_lora`.

    Raises:
        GemError: A field that peft does not know, with the nearest ones; a rank below 1; a dropout that is no share.
    """
    from peft import LoraConfig

    known = [field.name for field in dataclasses.fields(LoraConfig)]
    for name in fields:
        if name not in known:
            # lower than difflib's 0.6: parameter names are long and share prefixes
            near = ", ".join(difflib.get_close_matches(name, known, n=3, cutoff=0.3)) or "r, lora_alpha, lora_dropout"
            raise GemError(f"expected fields of peft's LoraConfig in lora, got {name!r}; did you mean {near}?")
    rank, dropout = fields.get("r", 16), fields.get("lora_dropout", 0.0)
    if isinstance(rank, bool) or not isinstance(rank, int) or rank < 1:
        raise GemError(f"expected a rank (lora.r) of at least 1, got {rank!r}")
    if not isinstance(dropout, (int, float)) or not 0 <= dropout < 1:
        raise GemError(f"expected lora.lora_dropout from 0 to below 1, got {dropout!r}")


def plain_name(name: str) -> str | None:
    """Strip peft's wrapping from a parameter's name; None for the copies that peft keeps of replaced parameters.

    The halves of an adapter are ``<layer>.lora_A.weight`` and ``<layer>.lora_B.weight``.
    """
    if ".original_module." in name:
        return None
    name = name.removeprefix(PEFT_PREFIX).replace(".modules_to_save.default", "").replace(".base_layer", "")
    return re.sub(r"(\.lora_\w+)\.default", r"\1", name)


def base_name(name: str) -> str:
    """Return the base's own name for a tensor of it under peft's wrapping."""
    return re.sub(r"\.(base_layer|original_module)\b", "", name.removeprefix(PEFT_PREFIX))


def held_apart(network: Any) -> set[str] | None:
    """Return the names of trained parameters if all others are unchanged in the base's folder; else None.

    Args:
        network: Any network; only adapters over a model that came from a folder are separable.
    """
    adapters = getattr(network, "peft_config", None)
    if not adapters or not adapters["default"].base_model_name_or_path:
        return None
    return {name for name, parameter in network.named_parameters() if parameter.requires_grad}


def save_trained(network: Any, folder: PathLike) -> None:
    """Write a network so that ``Gem.from_pretrained`` reads the folder.

    Adapters are written alone where their base has its own folder and nothing else was trained; otherwise
    they are merged first, which changes ``network``.

    Args:
        network: A ``GemForConditionalGeneration`` or a peft wrapper of one.
        folder: To write.
    """
    learned = held_apart(network)
    if hasattr(network, "peft_config") and not (
        learned and all(".lora_" in name or ".modules_to_save." in name for name in learned)
    ):
        network = network.merge_and_unload()
    network.save_pretrained(folder)
    open_weights(Path(folder))
