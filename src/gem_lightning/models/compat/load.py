"""Load any folder that holds a model of this family, recognised by its files."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer
from transformers.utils import logging as transformers_logging

from gem_lightning.errors import CheckpointError
from gem_lightning.models.compat import original, towers
from gem_lightning.models.compat.assemble import load_tensors
from gem_lightning.models.compat.llava_lora import has_published_names, read_changes
from gem_lightning.models.compat.names import LLAVA_HF_LAYOUT, OURS_LAYOUT, PARTS, parts_of, translate
from gem_lightning.models.compat.tensor_files import open_file, open_folder, weight_files
from gem_lightning.models.configuration_gem import EcgConfig, GemConfig
from gem_lightning.models.lora import ALWAYS_SAVED
from gem_lightning.models.modeling_gem import GemForConditionalGeneration
from gem_lightning.models.processing_gem import GemProcessor
from gem_lightning.models.sharding import Sharding

PathLike = str | os.PathLike
SHIPPED = Path(__file__).parents[1] / "shipped"  # models that come with the package, a folder each
KINDS = ("ours", "original", "llava-hf", "adapters", "lora")


def load_gem(
    path: PathLike,
    ecg_tower: PathLike | None = None,
    vision_tower: PathLike | None = None,
    quantization_config: Any = None,
    dtype: torch.dtype | None = None,
    device: Any = None,
    ecg_config: PathLike | Mapping[str, Any] | None = None,
    base: PathLike | None = None,
    attention: str | None = None,
    shard: Sharding | None = None,
    **settings: Any,
) -> tuple[Any, GemProcessor]:
    """Load network and processor of a folder or hub id: ours, GEM, PULSE, LLaVA, llava-hf, or adapters on a base.

    Args:
        path: Folder, hub id, or the name of a model that comes with the package: ``gem_small``.
        ecg_tower: ECG-CoCa's checkpoint, for models without ECG weights.
        vision_tower: Folder or hub id of the image tower, where the model does not hold it.
        quantization_config: ``nf4``, ``int8``, or a ``BitsAndBytesConfig``.
        dtype: Of the weights in memory; None means the checkpoint's.
        device: Where the weights go; None means the CPU.
        ecg_config: Sizes of an ECG tower that is not of the published size.
        base: Folder that adapters belong to, where they do not name it.
        attention: ``sdpa``, ``eager`` or ``flash_attention_2``.
        shard: Shards the network over processes, see :class:`gem_lightning.models.sharding.Sharding`.
        **settings: For :class:`GemProcessor`, such as ``chat``.

    Raises:
        CheckpointError: Nothing here is a model of this family, or files are missing, damaged or do not fit.
    """
    folder = find_folder(path)
    if dtype is None and folder.parent == SHIPPED:
        dtype = torch.float32  # stored in half of it; small enough to be computed as precisely as it was trained
    kind = recognise(folder)
    common: dict[str, Any] = {"quantization_config": quantization_config, "device": device, "attention": attention}
    common["shard"] = shard
    if kind == "ours":
        with without_progress_bars(folder.parent == SHIPPED):
            return _load_ours(folder, dtype, settings, **common)
    parts: dict[str, Any] = {"ecg_tower": ecg_tower, "vision_tower": vision_tower, "ecg_config": ecg_config}
    if kind == "llava-hf":
        return _load_llava_hf(folder, dtype, settings, ecg_tower, ecg_config, **common)
    if kind == "lora":
        if shard is not None:
            raise CheckpointError(f"expected a whole model to shard, got adapters in {folder}; merge them first")
        return load_lora(folder, base, dtype=dtype, **parts, **common, **settings)
    return original.load_original(folder, dtype=dtype, base=base, **parts, **common, **settings)


@contextmanager
def without_progress_bars(hidden: bool = True) -> Iterator[None]:
    """Load without the progress bars of transformers: of a model that takes less than a second they only disturb."""
    if not hidden or not transformers_logging.is_progress_bar_enabled():
        yield
        return
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.enable_progress_bar()


def find_folder(path: PathLike) -> Path:
    """Find a local folder, a model that comes with the package, or the local copy of a hub repository.

    Raises:
        CheckpointError: None exists.
    """
    if Path(path).is_dir():
        return Path(path)
    if str(path) in shipped_models():
        return SHIPPED / str(path)
    hub = str(path).count("/") == 1 and not str(path).startswith((".", "/", "~")) and not Path(path).exists()
    place = towers.from_hub(path) if hub else None
    if place is None:
        known = ", ".join(["a folder", *shipped_models(), *["a hub id"] * hub])
        raise CheckpointError(
            f"expected {known}, got {path}, which cannot be found; check the path, or download the model first"
        )
    return place


def shipped_models() -> list[str]:
    """Names of the models that come with the package."""
    return sorted(place.name for place in SHIPPED.glob("*") if (place / "config.json").is_file())


def recognise(folder: Path) -> str:
    """Recognise the layout of a folder, one of :data:`KINDS`.

    Raises:
        CheckpointError: None of them.
    """
    if (folder / "adapter_config.json").is_file():
        return "lora"
    if not (folder / "config.json").is_file():
        if any((folder / name).is_file() for name in original.ADAPTERS):
            return "adapters"
        raise CheckpointError(f"expected config.json in {folder}, got {sorted(p.name for p in folder.iterdir())[:8]}")
    raw = read_config(folder)
    if raw.get("model_type") == GemConfig.model_type:
        return "ours"
    if "vision_config" in raw and "text_config" in raw:
        return "llava-hf"
    if any(key.startswith("mm_") for key in raw):
        return "original" if weight_files(folder) else "adapters"
    raise CheckpointError(
        f"expected a model of gem-lightning, GEM, PULSE or LLaVA in {folder}, got model_type "
        f"{raw.get('model_type')!r}; build a network on a plain language model with build_gem(llm=...)"
    )


def read_config(folder: Path) -> dict[str, Any]:
    """Read config.json of a folder.

    Raises:
        CheckpointError: It cannot be read, or a newer major version of transformers wrote it.
    """
    try:
        raw = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"expected a config.json that can be read in {folder}: {error}") from error
    wrote, have = str(raw.get("transformers_version") or "0"), version("transformers")
    if wrote.split(".")[0].isdigit() and int(wrote.split(".")[0]) > int(have.split(".")[0]):
        raise CheckpointError(
            f"expected a config of transformers {have} or older, got one of {wrote}; pip install -U transformers"
        )
    return raw


def load_config(path: PathLike, ecg_tower: PathLike | None = None, vision_tower: PathLike | None = None) -> GemConfig:
    """Return the config of :func:`load_gem`'s network; of weights at most an ECG tower's is read.

    Args:
        path: Folder or hub id.
        ecg_tower: See :func:`load_gem`.
        vision_tower: See :func:`load_gem`.

    Raises:
        CheckpointError: As :func:`load_gem`.
    """
    folder = find_folder(path)
    kind = recognise(folder)
    if kind == "ours":
        return GemConfig.from_pretrained(folder)
    if kind == "llava-hf":
        return _survey_llava_hf(folder, ecg_tower, None)[0]
    if kind == "lora":
        return load_config(find_base(folder), ecg_tower, vision_tower)
    return original.survey(folder, ecg_tower, vision_tower).config


def has_vision(path: PathLike) -> bool:
    """Return whether a model that :func:`load_gem` reads needs no other image tower.

    Args:
        path: Folder or hub id.
    """
    folder = find_folder(path)
    kind = recognise(folder)
    if kind == "lora":
        return has_vision(find_base(folder))
    return kind in ("ours", "llava-hf") or original.has_vision(folder)


def load_processor(
    path: PathLike, vision_tower: PathLike | None = None, ecg_tower: PathLike | None = None, **settings: Any
) -> GemProcessor:
    """Return the processor of a folder that :func:`load_gem` reads; of weights at most an ECG tower's is read.

    Args:
        path: Folder or hub id.
        vision_tower: Of a published folder that does not hold its image tower.
        ecg_tower: Of a llava-hf folder, where it is not of the published size.
        **settings: For :class:`GemProcessor`; they override the folder's.

    Raises:
        CheckpointError: Nothing here is a model of this family.
    """
    folder = find_folder(path)
    kind = recognise(folder)
    if kind == "ours" and not (folder / "processor_config.json").is_file():
        raise CheckpointError(f"expected processor_config.json in {folder}, got none; save the processor there too")
    if kind == "ours":
        return GemProcessor.from_pretrained(folder, **settings)
    if kind == "llava-hf":
        return _llava_hf_processor(folder, _survey_llava_hf(folder, ecg_tower, None)[0], settings)
    if kind == "lora":
        return load_processor(find_base(folder), vision_tower, ecg_tower, **settings)
    return original.survey(folder, vision_tower=vision_tower).processor(**settings)


def load_lora(folder: Path, base: PathLike | None = None, **options: Any) -> tuple[Any, Any]:
    """Load a LoRA folder merged into its base: peft's own, or LLaVA's with ``non_lora_trainables.bin``.

    Args:
        folder: With adapter_config.json and the adapter's weights.
        base: Its base model; None takes the one that adapter_config.json names.
        **options: For :func:`load_gem`.

    Returns:
        (model, processor).

    Raises:
        CheckpointError: The base cannot be found, or an adapter does not fit it.
    """
    settings = read_settings(folder)
    place = find_base(folder, base)
    if recognise(place) == "original" and has_published_names(folder):
        return original.load_original(place, changes=read_changes(folder, settings), **options)
    model, processor = load_gem(place, **options)
    from peft import PeftModel, get_peft_model_state_dict

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of keys that are missing: checked below
        wrapped = PeftModel.from_pretrained(model, folder)
    stored = {name for file in folder.glob("adapter_model.*") for name in open_file(file)}
    lost = sorted(stored - get_peft_model_state_dict(wrapped).keys())
    if lost:
        raise CheckpointError(f"expected an adapter that fits {place}, got {lost[:4]} of {len(lost)}; another base?")
    merged = wrapped.merge_and_unload()
    merged.config.fresh_parts = [part for part in merged.config.fresh_parts or () if part not in ALWAYS_SAVED] or None
    return merged.eval(), processor


def read_settings(folder: Path) -> dict[str, Any]:
    """Read adapter_config.json of a folder."""
    return json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))


def find_base(folder: Path, base: PathLike | None = None) -> Path:
    """Find the folder of the model that a LoRA folder belongs to.

    Args:
        folder: With adapter_config.json.
        base: Folder or hub id; None takes the one that adapter_config.json names.

    Raises:
        CheckpointError: None is named, or it cannot be found.
    """
    named = base or read_settings(folder).get("base_model_name_or_path")
    if not named:
        raise CheckpointError(f"expected base=the model that the adapter in {folder} belongs to, got none")
    return towers.resolve(named, folder) or find_folder(str(named))


def _load_ours(
    folder: Path, dtype: torch.dtype | None, settings: Mapping[str, Any], **common: Any
) -> tuple[Any, GemProcessor]:
    raw = read_config(folder)
    config = GemConfig.from_pretrained(folder)
    processor = GemProcessor.from_pretrained(folder, **settings)
    rows = config.text_config.vocab_size
    if len(processor.tokenizer) > rows:
        raise CheckpointError(
            f"expected a tokenizer for {rows} embedding rows, got one of {len(processor.tokenizer)} tokens in {folder}"
        )
    if "quantization_config" in raw:
        place = common["device"] or ("cuda" if torch.cuda.is_available() else "cpu")
        return GemForConditionalGeneration.from_pretrained(folder, device_map={"": place}).eval(), processor
    model = load_tensors(config, translate(open_folder(folder), OURS_LAYOUT), dtype, **common)
    if (folder / "generation_config.json").is_file():
        model.generation_config = type(model.generation_config).from_pretrained(folder)
    return model, processor


def _load_llava_hf(
    folder: Path,
    dtype: torch.dtype | None,
    settings: Mapping[str, Any],
    ecg_tower: PathLike | None,
    ecg_config: PathLike | Mapping[str, Any] | None,
    **common: Any,
) -> tuple[Any, GemProcessor]:
    config, named = _survey_llava_hf(folder, ecg_tower, ecg_config)
    processor = _llava_hf_processor(folder, config, settings)
    model = load_tensors(config, named, dtype, **common)
    for part in config.fresh_parts or ():
        original.logger.warning("%s: no weights for the %s: randomly initialised, to be trained", folder.name, part)
    return model, processor


def _survey_llava_hf(
    folder: Path, ecg_tower: PathLike | None, ecg_config: PathLike | Mapping[str, Any] | None
) -> tuple[GemConfig, dict[str, Any]]:
    """Config, and tensors under our names, unread."""
    raw = read_config(folder)
    named = translate(open_folder(folder), LLAVA_HF_LAYOUT)
    ecg = EcgConfig()
    if ecg_tower is not None:
        own = towers.read_ecg_tower(ecg_tower)
        ecg = towers.ecg_config_from(own, ecg_config)
        named |= {PARTS["ecg_tower"] + name: value for name, value in own.items()}
    elif ecg_config is not None:
        ecg = towers.ecg_config_from({}, ecg_config)
    newline = PARTS["image_newline"] in named
    config = GemConfig(
        ecg_config=ecg,
        vision_config=raw["vision_config"],
        text_config=raw["text_config"],
        vision_feature_layer=raw.get("vision_feature_layer", -2),
        vision_feature_select="full" if raw.get("vision_feature_select_strategy") == "full" else "patch",
        image_merge="spatial_unpad" if newline else "flat",
        # llava-hf names (height, width), the published code compares with (width, height)
        image_grid_pinpoints=[pair[::-1] for pair in raw.get("image_grid_pinpoints") or []] or None,
        image_max_tiles=original.max_tiles_of(raw.get("vision_aspect_ratio")),
        image_newline=newline,
        fresh_parts=sorted({"ecg_tower", "ecg_projector"} - parts_of(named)),
    )
    if "vocab_size" not in raw["text_config"]:
        config.text_config.vocab_size = int(named[PARTS["lm_head"] + "weight"].shape[0])
    return config, named


def _llava_hf_processor(folder: Path, config: GemConfig, settings: Mapping[str, Any]) -> GemProcessor:
    tokenizer = AutoTokenizer.from_pretrained(folder, config=config.text_config)
    mode = {"image_mode": "anyres" if config.image_newline else "ori"}
    return GemProcessor.from_config(tokenizer, config, **mode | {"contract": "gem"} | dict(settings))
