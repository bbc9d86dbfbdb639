"""Folders in the layout of GEM, PULSE and LLaVA: read into our network, and written again."""

from __future__ import annotations

import ast
import json
import logging
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, PreTrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from gem_lightning.errors import CheckpointError
from gem_lightning.models.compat import towers
from gem_lightning.models.compat.assemble import load_tensors
from gem_lightning.models.compat.llava_lora import Changes
from gem_lightning.models.compat.names import GEM_LAYOUT, PARTS, parts_of, translate
from gem_lightning.models.compat.tensor_files import Tensors, open_file, open_folder, weight_files
from gem_lightning.models.configuration_gem import EcgConfig, GemConfig
from gem_lightning.models.processing_gem import GemProcessor
from gem_lightning.models.sharding import Sharding

logger = logging.getLogger(__name__)
PathLike = str | os.PathLike
_DDP = "module."  # what DistributedDataParallel puts before every name
ADAPTERS = ("mm_projector.bin", "ecg_projector.bin")
FAMILIES = {"llama": "llama", "llava": "llama", "mistral": "mistral", "qwen": "qwen2", "qwen2": "qwen2"}
CHATS = {"llama": "llava_v1", "mistral": "llava_llama_2", "qwen2": "qwen_2"}
# LLaVA's names of the tokens around an image
DATA_ENDS = ("<im_start>", "<im_end>")
MODES = {"ori": "ori", "square": "ori", "pad": "pad"}


def load_original(
    folder: PathLike,
    ecg_tower: PathLike | None = None,
    vision_tower: PathLike | None = None,
    ecg_config: PathLike | Mapping[str, Any] | None = None,
    dtype: torch.dtype | None = torch.float32,
    base: PathLike | None = None,
    quantization_config: Any = None,
    device: Any = None,
    attention: str | None = None,
    shard: Sharding | None = None,
    changes: Changes | None = None,
    **settings: Any,
) -> tuple[Any, GemProcessor]:
    """Load a GEM, PULSE or LLaVA folder as our network and its processor.

    ECG weights come from the checkpoint where it has them; image weights only if its config has
    ``unfreeze_mm_vision_tower``, else from the tower's own folder if there is one. Weights in neither are randomly
    initialised, with a warning.

    Args:
        folder: With config.json and weights, or with ``mm_projector.bin`` or ``ecg_projector.bin`` on a ``base``.
        ecg_tower: ECG-CoCa's checkpoint, for folders without ECG weights.
        vision_tower: Folder or hub id of the image tower, in place of what config.json names.
        ecg_config: JSON path or dict of the ECG tower's sizes in the published form; the published sizes are built in.
        dtype: Of the weights in memory; None means the checkpoint's.
        base: Folder that adapters belong to.
        quantization_config: A ``BitsAndBytesConfig``.
        device: Where the weights go.
        attention: ``sdpa``, ``eager``, ``flash_attention_2``; None means the best installed.
        shard: Shares the network out over processes.
        changes: LoRA adapters to merge into the weights, see :class:`~gem_lightning.models.compat.llava_lora.Changes`.
        **settings: For :class:`GemProcessor`, such as ``chat``.

    Returns:
        (model in eval mode, processor).

    Raises:
        CheckpointError: Files are missing or damaged, or weights do not fit; before memory is filled.
    """
    found = survey(folder, ecg_tower, vision_tower, ecg_config, base, changes)
    processor = found.processor(**settings)
    model = load_tensors(found.config, found.tensors, dtype, quantization_config, device, attention, shard)
    for part in found.config.fresh_parts or ():
        logger.warning("%s: no weights for the %s: randomly initialised, to be trained", Path(folder).name, part)
    return model, processor


@dataclass(frozen=True)
class Survey:
    """What a published folder holds, before anything is read into memory.

    Attributes:
        root: The folder with config.json and tokenizer.
        raw: Its config.json.
        config: The same as ours.
        tensors: Weights under our names, unread.
    """

    root: Path
    raw: dict[str, Any]
    config: GemConfig
    tensors: Tensors

    def processor(self, **settings: Any) -> GemProcessor:
        """Return the processor that fits; ``settings`` override config.json."""
        tokenizer = read_tokenizer(self.root, self.config, extra_tokens(self.raw))
        fields = {
            "chat": CHATS.get(self.config.text_config.model_type, "template"),
            "contract": "gem",
            "image_mode": image_mode_of(self.raw),
            "data_ends": DATA_ENDS if self.raw.get("mm_use_im_start_end") else None,
        }
        return GemProcessor.from_config(tokenizer, self.config, **fields | settings)


def survey(
    folder: PathLike,
    ecg_tower: PathLike | None = None,
    vision_tower: PathLike | None = None,
    ecg_config: PathLike | Mapping[str, Any] | None = None,
    base: PathLike | None = None,
    changes: Changes | None = None,
) -> Survey:
    """Read the headers of a published folder; see :func:`load_original` for the arguments and what it raises."""
    root, tensors = _read(Path(folder), base)
    if changes is not None:
        tensors = changes.over(tensors)
    raw = _raw_config(root)
    dtypes = {name: str(value.dtype).removeprefix("torch.") for name, value in tensors.items()}
    named = translate(tensors, GEM_LAYOUT)
    present = parts_of(named)
    vision = _vision(named, raw, root, vision_tower)
    ecg = _ecg(named, raw, root, ecg_tower, ecg_config)
    config = _config(raw, named, ecg, vision)
    config.original = {"config": raw, "dtypes": _compact(dtypes), "absent": sorted(PARTS.keys() - present)}
    return Survey(root, raw, config, named)


def has_vision(folder: Path) -> bool:
    """Return whether a published folder holds its image tower, or names one that is on this machine."""
    root, tensors = _read(folder, None)
    if any(name.startswith(PARTS["vision_tower"]) for name in translate(tensors, GEM_LAYOUT)):
        return True
    name = _raw_config(root).get("mm_vision_tower")
    if not name:
        return False
    return towers.resolve(name, root) is not None or towers.from_hub(name, cached_only=True) is not None


def _read(folder: Path, base: PathLike | None) -> tuple[Path, Tensors]:
    """Return the folder with config.json, and all tensors under their published names, adapters over the base's."""
    adapters = [folder / name for name in ADAPTERS if (folder / name).is_file()]
    root = folder
    if not weight_files(folder):
        named = base
        if named is None and adapters and (folder / "config.json").is_file():
            named = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("_name_or_path")
        place = towers.resolve(named, folder) or (towers.from_hub(named) if named else None)
        if not adapters or place is None:
            raise CheckpointError(
                f"expected weights in {folder} (model.safetensors, pytorch_model.bin or shards), or "
                f"{' or '.join(ADAPTERS)} and base=the folder they belong to; got base {named!r}; download it"
            )
        root = place
    tensors = open_folder(root)
    if all(name.startswith(_DDP) for name in tensors):
        tensors = {name.removeprefix(_DDP): value for name, value in tensors.items()}
    for path in adapters:
        tensors |= {_adapter_name(name): value for name, value in open_file(path).items()}
    return root, tensors


def _adapter_name(name: str) -> str:
    name = name.removeprefix("base_model.model.")
    return name if name.startswith(("model.", "lm_head.")) else f"model.{name}"


def _raw_config(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"expected config.json in {folder}, got none that can be read: {error}") from error


def _vision(named: Tensors, raw: Mapping[str, Any], root: Path, given: PathLike | None) -> PreTrainedConfig:
    """Bring the image weights that count into ``named`` and return the tower's sizes."""
    name = raw.get("mm_vision_tower")
    place = towers.resolve(given) if given else towers.resolve(name, root)
    if place is None and (given or name):
        place = towers.from_hub(str(given or name), cached_only=not given)
    if given and place is None:
        raise CheckpointError(f"expected a folder or hub id for vision_tower, got {given}, which cannot be found")
    prefix = PARTS["vision_tower"]
    own = {key.removeprefix(prefix): value for key, value in named.items() if key.startswith(prefix)}
    if not own and place is None:
        raise CheckpointError(
            f"expected the weights of the image tower {name!r}, got none in the checkpoint and none on this machine; "
            f"download it (huggingface-cli download {name}) and pass vision_tower=its folder"
        )
    config = towers.vision_config_from(place, own, given or name)
    from_place = towers.read_vision_tower(place) if place is not None and weight_files(place) else {}
    if own and raw.get("unfreeze_mm_vision_tower"):
        named |= {key: value for key, value in from_place.items() if key not in named}
    else:
        named |= from_place
    return config


def _ecg(
    named: Tensors,
    raw: Mapping[str, Any],
    root: Path,
    given: PathLike | None,
    sizes: PathLike | Mapping[str, Any] | None,
) -> EcgConfig:
    """Bring the ECG weights that count into ``named`` and return the tower's sizes."""
    prefix = PARTS["ecg_tower"]
    if given is not None and not Path(given).exists():
        raise CheckpointError(f"expected a checkpoint for ecg_tower, got {given}, which does not exist")
    if sizes is None and raw.get("open_clip_config"):
        sizes = towers.resolve(f"{raw['open_clip_config']}.json", root)
    own = {key.removeprefix(prefix): value for key, value in named.items() if key.startswith(prefix)}
    if not own:
        place = Path(given) if given else towers.resolve(raw.get("mm_ecg_tower"), root)
        if place is None:
            if raw.get("mm_ecg_tower"):
                raise CheckpointError(
                    f"expected the ECG tower {raw['mm_ecg_tower']!r}, got no ECG weights in the checkpoint and no such "
                    "file; download ECG-CoCa (cpt_wfep_epoch_20.pt) and pass ecg_tower=its path"
                )
            return towers.ecg_config_from({}, sizes) if sizes is not None else EcgConfig()
        own = towers.read_ecg_tower(place)
        named |= {prefix + key: value for key, value in own.items()}
    return towers.ecg_config_from(own, sizes)


def _config(raw: Mapping[str, Any], named: Tensors, ecg: EcgConfig, vision: PreTrainedConfig) -> GemConfig:
    text = text_config_from(raw)
    merge = raw.get("mm_patch_merge_type") or "flat"
    untrained = sorted({"ecg_tower", "ecg_projector", "multi_modal_projector"} - parts_of(named))
    newline = PARTS["image_newline"] in named or merge == "spatial_unpad"
    return GemConfig(
        ecg_config=ecg,
        vision_config=vision,
        text_config=text,
        projector_type=raw.get("mm_projector_type") or "linear",
        ecg_projector_type=raw.get("ecg_projector_type") or "linear",
        projector_width=raw.get("mm_hidden_size", vision.hidden_size),
        vision_feature_layer=raw.get("mm_vision_select_layer", -2),
        vision_feature_select="full" if raw.get("mm_vision_select_feature") == "cls_patch" else "patch",
        image_merge=merge,
        image_grid_pinpoints=_pinpoints(raw.get("image_grid_pinpoints"), vision.image_size),
        image_max_tiles=max_tiles_of(raw.get("image_aspect_ratio")),
        image_newline=newline,
        fresh_parts=untrained or None,
    )


def _pinpoints(stored: Any, tile: int) -> list[list[int]] | None:
    """The sizes of anyres, also from the texts ``[[336, 672]]`` (pixels) and ``(1x1),...,(6x6)`` (tiles of a range)."""
    if not isinstance(stored, str):
        return stored
    grids = [(int(a), int(b)) for a, b in re.findall(r"\((\d+)x(\d+)\)", stored)]
    if grids:  # everything from the first to the last, as LLaVA-NeXT reads it
        first, second = (range(low, high + 1) for low, high in zip(grids[0], grids[-1]))
        return [[a * tile, b * tile] for a in first for b in second]
    try:
        return [[int(height), int(width)] for height, width in ast.literal_eval(stored)]
    except (ValueError, SyntaxError, TypeError) as error:
        raise CheckpointError(
            f"expected image_grid_pinpoints as pairs of pixels or a range of grids, got {stored!r}; write out the "
            "sizes, such as [[336, 672], [672, 336]], or (1x1),...,(6x6)"
        ) from error


def text_config_from(raw: Mapping[str, Any]) -> PreTrainedConfig:
    """Return the language model's own config inside a LLaVA config.json.

    Raises:
        CheckpointError: The family is not known.
    """
    kind = str(raw.get("model_type", "")).removeprefix("llava_").removeprefix("gem_")
    if kind not in FAMILIES:
        raise CheckpointError(f"expected a model_type of llava with {sorted(FAMILIES)}, got {raw.get('model_type')!r}")
    cls = CONFIG_MAPPING[FAMILIES[kind]]
    known = {field.name for field in fields(cls)} | {"rope_theta", "rope_scaling"}
    kept = {key: value for key, value in raw.items() if key in known and key not in ("architectures", "dtype")}
    return cls(**kept)


def image_mode_of(raw: Mapping[str, Any]) -> str:
    """Return our name of the image mode in a published config.json.

    Raises:
        CheckpointError: The model takes images in a way that is not supported.
    """
    name = raw.get("image_aspect_ratio") or "square"
    if name == "anyres" or max_tiles_of(name):
        return "anyres"
    if name not in MODES:
        raise CheckpointError(
            f"expected image_aspect_ratio to be anyres, anyres_max_N or one of {sorted(MODES)}, got {name!r}"
        )
    return MODES[name]


def max_tiles_of(aspect_ratio: str | None) -> int | None:
    """Return N of ``anyres_max_N``, None for other ways to fit images."""
    found = re.fullmatch(r"anyres_max_([1-9]\d*)", aspect_ratio or "")
    return int(found[1]) if found else None


def extra_tokens(raw: Mapping[str, Any]) -> list[str]:
    """List the tokens that LLaVA adds to a tokenizer when it loads it, in the order of their embedding rows."""
    return ["<im_patch>"] * bool(raw.get("mm_use_im_patch_token")) + [*DATA_ENDS] * bool(raw.get("mm_use_im_start_end"))


def read_tokenizer(folder: Path, config: GemConfig, extra: Sequence[str] = ()) -> Any:
    """Return the tokenizer of a folder, with ``extra`` tokens added where it lacks them.

    Raises:
        CheckpointError: There is none, or its size and the embedding table's differ.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, config=config.text_config)
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"expected a tokenizer in {folder}, got none that can be read: {error}") from error
    tokenizer.add_tokens(list(extra), special_tokens=True)
    rows = config.text_config.vocab_size
    # Tables are padded to a multiple that suits the hardware: a few rows without a token are no fault
    if not 0 <= rows - len(tokenizer) <= max(64, rows // 20):
        raise CheckpointError(
            f"expected a tokenizer for {rows} embedding rows, got one of {len(tokenizer)} tokens in {folder}; "
            "take the tokenizer files of the same model"
        )
    return tokenizer


def _compact(dtypes: Mapping[str, str]) -> dict[str, Any]:
    """Dtypes by name as the most frequent one and the names that differ from it."""
    values = list(dtypes.values())
    common = max(set(values), key=values.count)
    return {"*": common} | {name: dtype for name, dtype in dtypes.items() if dtype != common}
