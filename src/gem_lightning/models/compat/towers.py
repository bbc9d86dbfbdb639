"""Where a model's towers come from: files that arguments or config.json name, or the checkpoint itself."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import AutoConfig, PreTrainedConfig

from gem_lightning.errors import CheckpointError
from gem_lightning.models.compat.coca import PUBLISHED_CONFIG, ecg_arguments, read_config, read_state_dict
from gem_lightning.models.compat.names import VISION_LAYOUT, to_ours
from gem_lightning.models.compat.tensor_files import Tensors, open_folder
from gem_lightning.models.configuration_gem import PUBLISHED_VISION, EcgConfig

PathLike = str | os.PathLike
PUBLISHED_HEAD_WIDTH = 64
# widths of OpenAI's CLIP ViT-B and ViT-L, whose heads are 64 wide → width of their projection
_CLIP_PROJECTIONS = {768: 512, 1024: 768}
HUB_PATTERNS = ["*.json", "*.safetensors", "*.bin", "*.model", "*.txt", "*.jinja"]


def resolve(name: PathLike | None, folder: Path | None = None) -> Path | None:
    """Return an existing path: ``name`` itself, or relative to ``folder`` or its parent; None if there is none."""
    if not name:
        return None
    places = [Path(name)] if folder is None else [folder / name, folder.parent / name, Path(name)]
    return next((place for place in places if place.exists()), None)


def from_hub(name: PathLike, cached_only: bool = False) -> Path | None:
    """Return the local copy of a hub repository, downloaded unless ``cached_only``; None where it is unavailable."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(str(name), local_files_only=cached_only, allow_patterns=HUB_PATTERNS))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError):
        return None


def ecg_config_from(tensors: Mapping[str, Any], given: PathLike | Mapping[str, Any] | None) -> EcgConfig:
    """Return sizes of an ECG tower: the given configuration in the published form, else read from the tensors' shapes.

    Args:
        tensors: The tower's tensors under its own names (``conv1.weight`` and so on).
        given: JSON path or dict in the published form, or None.

    Raises:
        CheckpointError: The width of a head is not known: the tower is not of the published size.
    """
    if given is not None:
        return EcgConfig(**ecg_arguments(read_config(given)))
    width, leads, patch = (int(n) for n in tensors["conv1.weight"].shape)
    if width != PUBLISHED_CONFIG["ecg_cfg"]["width"]:
        raise CheckpointError(
            f"expected the published ECG tower (width {PUBLISHED_CONFIG['ecg_cfg']['width']}) or its configuration, "
            f"got a tower of width {width}, whose heads cannot be counted; pass ecg_config=the JSON with ecg_cfg"
        )
    blocks = {name.split(".")[2] for name in tensors if name.startswith("transformer.resblocks.")}
    return EcgConfig(
        leads=leads,
        patch_size=patch,
        samples=patch * (int(tensors["positional_embedding"].shape[0]) - 1),
        width=width,
        layers=len(blocks),
        head_width=PUBLISHED_HEAD_WIDTH,
        mlp_ratio=tensors["transformer.resblocks.0.mlp.c_fc.weight"].shape[0] / width,
        output_dim=int(tensors["proj"].shape[1]),
    )


def read_ecg_tower(source: PathLike) -> dict[str, Any]:
    """Return tensors of an ECG tower under its own names, from ECG-CoCa's checkpoint or a folder of ours.

    Raises:
        CheckpointError: There is none at ``source``.
    """
    path = Path(source)
    tensors: Mapping[str, Any] = open_folder(path) if path.is_dir() else read_state_dict(path)
    for prefix in ("model.ecg_tower.ecg_tower.", "model.ecg_tower.", "ecg.", ""):
        if f"{prefix}conv1.weight" in tensors:
            return {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}
    raise CheckpointError(f"expected an ECG tower (conv1.weight) in {source}, got {sorted(tensors)[:4]}")


def ecg_config_of(source: PathLike) -> EcgConfig:
    """Return sizes of the ECG tower in a checkpoint or a folder of ours."""
    path = Path(source)
    if (path / "config.json").is_file():
        fields = json.loads((path / "config.json").read_text(encoding="utf-8")).get("ecg_config")
        if fields:
            return EcgConfig(**{name: value for name, value in fields.items() if name != "model_type"})
    return ecg_config_from(read_ecg_tower(source), None)


def vision_config_from(place: Path | None, tensors: Mapping[str, Any], name: PathLike | None) -> PreTrainedConfig:
    """Return sizes of an image tower: from its folder, else the published one where the shapes are its own.

    Args:
        place: The tower's folder, or None.
        tensors: The tower's tensors in the checkpoint, under the names of ``CLIPVisionModel``; may be empty.
        name: What config.json calls the tower, for the error.

    Raises:
        CheckpointError: Neither is sufficient.
    """
    if place is not None:
        config = AutoConfig.from_pretrained(place)
        return getattr(config, "vision_config", config)
    table = tensors.get("embeddings.position_embedding.weight")
    patch = tensors.get("embeddings.patch_embedding.weight")
    if table is not None and patch is not None and int(table.shape[1]) in _CLIP_PROJECTIONS:
        side = math.isqrt(int(table.shape[0]) - 1)  # patches along one side; one position is the class token's
        width, size = int(table.shape[1]), int(patch.shape[-1])
        blocks = {key.split(".")[2] for key in tensors if key.startswith("encoder.layers.")}
        return AutoConfig.for_model(
            **PUBLISHED_VISION
            | {"hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": len(blocks)}
            | {"num_attention_heads": width // 64, "image_size": side * size, "patch_size": size}
            | {"projection_dim": _CLIP_PROJECTIONS[width]}
        )
    raise CheckpointError(
        f"expected the configuration of the image tower {name!r}, got its weights alone, of a size that is not one of "
        "OpenAI's CLIP; download it and pass vision_tower=a folder with its config.json"
    )


def read_vision_tower(place: Path) -> Tensors:
    """Return tensors of an image tower's folder under our names; a text tower in it is ignored."""
    found = open_folder(place)
    has_text = any(name.startswith("text_model.") for name in found)
    kept = {name: value for name, value in found.items() if not has_text or name.startswith("vision_model.")}
    return {str(to_ours(name, VISION_LAYOUT)): value for name, value in kept.items() if "position_ids" not in name}
