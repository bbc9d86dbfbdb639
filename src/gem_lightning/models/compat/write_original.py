"""Write a network in the layout of GEM."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from gem_lightning.errors import CheckpointError
from gem_lightning.jobs.files import open_weights
from gem_lightning.models.compat.names import COMPUTED, GEM_LAYOUT, PARTS, to_theirs
from gem_lightning.models.compat.original import DATA_ENDS, FAMILIES, image_mode_of
from gem_lightning.models.configuration_gem import GemConfig
from gem_lightning.models.processing_gem import GemProcessor

PathLike = str | os.PathLike


def save_original(model: Any, processor: GemProcessor, folder: PathLike) -> None:
    """Write a network in the layout of GEM: config.json, weights under the published names, tokenizer.

    A network that came from such a folder gets its config.json, names and dtypes back. Of any other, the image and ECG
    towers' configurations are written next to it, where :func:`load_original` finds them.

    Args:
        model: A ``GemForConditionalGeneration``.
        processor: Its processor.
        folder: Where to; made if it does not exist.

    Raises:
        CheckpointError: A weight has no name in the published layout, or two have the same.
    """
    from huggingface_hub import save_torch_state_dict

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    config: GemConfig = model.config
    if config.ecg_config is not None and config.ecg_config.encoder is not None:
        raise CheckpointError(
            f"expected GEM's own ECG tower, got {config.ecg_config.encoder['target']}, which has no place in "
            "the published layout; use save_pretrained"
        )
    original = config.original or {}
    raw = dict(original["config"]) if "config" in original else _new_raw_config(config, processor, folder)
    raw |= _changed(raw, config, processor)
    absent = _elsewhere(original, raw)
    new = tuple(PARTS[part] for part in original.get("absent", ()))  # their dtype is the model's own
    dtypes = original.get("dtypes", {})
    state: dict[str, torch.Tensor] = {}
    for name, value in model.state_dict().items():
        if name.endswith(COMPUTED) or any(name.startswith(PARTS[part]) for part in absent):
            continue
        theirs = to_theirs(name, GEM_LAYOUT)
        if theirs is None:
            raise CheckpointError(f"expected weights of GEM, got {name}; merge adapters and dequantise first")
        if theirs in state:
            raise CheckpointError(f"expected a published name for each weight, got {theirs} twice")
        as_before = dtypes and not name.startswith(new)
        saved = getattr(torch, dtypes.get(theirs, dtypes["*"])) if as_before else value.dtype
        state[theirs] = value.detach().to("cpu", saved).contiguous()
    if config.tie_word_embeddings and "lm_head" not in absent:
        state["lm_head.weight"] = state["lm_head.weight"].clone()
    save_torch_state_dict(state, folder, max_shard_size="5GB")
    if config.ecg_config is not None and not raw.get("open_clip_config"):
        raw |= _write_ecg_sizes(config, folder)
    (folder / "config.json").write_text(json.dumps(raw, indent=2) + "\n", encoding="utf-8")
    processor.tokenizer.save_pretrained(folder)
    vocabulary = getattr(processor.tokenizer, "vocab_file", None)
    if vocabulary and Path(vocabulary).is_file() and not (folder / Path(vocabulary).name).exists():
        shutil.copy(vocabulary, folder)
    if model.generation_config is not None:
        model.generation_config.save_pretrained(folder)
    open_weights(folder)


def _elsewhere(original: Mapping[str, Any], raw: Mapping[str, Any]) -> list[str]:
    """Parts that are not written: the folder that they came from has them, and whoever reads ours reads it again."""
    absent = original.get("absent", []) if "config" in original else []
    kept_there = set() if raw.get("unfreeze_mm_vision_tower") else {"vision_tower"}
    return [part for part in absent if part in kept_there | {"lm_head"}]


def _changed(raw: Mapping[str, Any], config: GemConfig, processor: GemProcessor) -> dict[str, Any]:
    """Return the entries of config.json that no longer hold since the folder was read."""
    fit = raw.get("image_aspect_ratio") or "square"
    now = {
        "image_aspect_ratio": (fit if fit.startswith("anyres") else image_mode_of(raw), _aspect_ratio(processor)),
        "mm_use_im_start_end": (bool(raw.get("mm_use_im_start_end")), _has_ends(processor)),
        "mm_patch_merge_type": (raw.get("mm_patch_merge_type") or "flat", config.image_merge),
        "mm_vision_select_layer": (raw.get("mm_vision_select_layer", -2), config.vision_feature_layer),
    }
    return {name: new for name, (old, new) in now.items() if new != old}


def _aspect_ratio(processor: GemProcessor) -> str:
    own = processor.image
    return f"anyres_max_{own.image_max_tiles}" if own.image_mode == "anyres" and own.image_max_tiles else own.image_mode


def _has_ends(processor: GemProcessor) -> bool:
    ends = processor.data_ends
    if ends and tuple(ends) != DATA_ENDS:
        raise CheckpointError(f"expected LLaVA's tokens {DATA_ENDS} around images, got {ends}; use save_pretrained")
    return bool(ends)


def _new_raw_config(config: GemConfig, processor: GemProcessor, folder: Path) -> dict[str, Any]:
    """Return a config.json of the published form for a network that has none, and the towers' sizes next to it."""
    text = config.text_config.to_dict()
    ours = {value: key for key, value in FAMILIES.items()}
    raw = {key: value for key, value in text.items() if key not in ("model_type", "dtype", "rope_parameters")}
    rope = getattr(config.text_config, "rope_parameters", None) or {}
    raw |= {
        "model_type": f"llava_{ours.get(text['model_type'], text['model_type'])}",
        "rope_theta": rope.get("rope_theta"),
    }
    raw |= {
        "architectures": ["LlavaLlamaForCausalLM"],
        "mm_projector_type": config.projector_type,
        "mm_hidden_size": config.projector_width,
        "mm_patch_merge_type": config.image_merge,
        "image_aspect_ratio": _aspect_ratio(processor),
        "image_grid_pinpoints": config.image_grid_pinpoints,
        "mm_use_im_start_end": _has_ends(processor),
        "use_mm_proj": True,
    }
    if config.vision_config is not None:
        config.vision_config.save_pretrained(folder / "vision_tower")
        raw |= {
            "mm_vision_tower": "vision_tower",
            "unfreeze_mm_vision_tower": True,
            "mm_vision_select_layer": config.vision_feature_layer,
            "mm_vision_select_feature": "patch" if config.vision_feature_select == "patch" else "cls_patch",
        }
    return raw


def _write_ecg_sizes(config: GemConfig, folder: Path) -> dict[str, Any]:
    """Write the ECG tower's sizes next to config.json; return config.json's entries."""
    ecg = config.ecg_config
    sizes = {"seq_length": ecg.samples, "lead_num": ecg.leads, "patch_size": ecg.patch_size, "width": ecg.width}
    sizes |= {"layers": ecg.layers, "head_width": ecg.head_width, "mlp_ratio": ecg.mlp_ratio}
    content = {"embed_dim": ecg.output_dim, "ecg_cfg": sizes}
    (folder / "ecg_tower.json").write_text(json.dumps(content, indent=2), encoding="utf-8")
    named = {"mm_ecg_tower": "ecg_tower", "open_clip_config": "ecg_tower"}
    return named | {"ecg_projector_type": config.ecg_projector_type}
