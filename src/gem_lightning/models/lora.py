"""Low-rank adapters: added for training, saved alone, loaded and merged, with the projectors always among them."""

from __future__ import annotations

import dataclasses
import difflib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gem_lightning.errors import CheckpointError, GemError
from gem_lightning.models.compat.names import GEM_LAYOUT, translate
from gem_lightning.models.compat.tensor_files import LazyTensor, Tensors, open_file

# Whole layers that train beside the adapters: without them an adapter would lose what it learnt about ECGs
ALWAYS_SAVED = ("ecg_projector", "multi_modal_projector")
LLM_LAYERS = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
_PREFIX = "base_model.model."
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
            near = ", ".join(difflib.get_close_matches(name, known, n=3, cutoff=0.3)) or "r, lora_alpha, lora_dropout"
            raise GemError(f"expected fields of peft's LoraConfig in lora, got {name!r}; did you mean {near}?")
    rank, dropout = fields.get("r", 16), fields.get("lora_dropout", 0.0)
    if isinstance(rank, bool) or not isinstance(rank, int) or rank < 1:
        raise GemError(f"expected a rank (lora.r) of at least 1, got {rank!r}")
    if not isinstance(dropout, (int, float)) or not 0 <= dropout < 1:
        raise GemError(f"expected lora.lora_dropout from 0 to below 1, got {dropout!r}")


def plain_name(name: str) -> str | None:
    """A parameter's name without peft's wrapping; None for the copies that peft keeps of what it replaced.

    The halves of an adapter are ``<layer>.lora_A.weight`` and ``<layer>.lora_B.weight``.
    """
    if ".original_module." in name:
        return None
    name = name.removeprefix(_PREFIX).replace(".modules_to_save.default", "").replace(".base_layer", "")
    return re.sub(r"(\.lora_\w+)\.default", r"\1", name)


def base_name(name: str) -> str:
    """The base's own name for a tensor of it under peft's wrapping."""
    return re.sub(r"\.(base_layer|original_module)\b", "", name.removeprefix(_PREFIX))


def held_apart(network: Any) -> set[str] | None:
    """Names of the parameters that learn, where everything else lies unchanged in the base's own folder; else None.

    Args:
        network: Any network; only adapters over a model that came from a folder are held apart.
    """
    adapters = getattr(network, "peft_config", None)
    if not adapters or not adapters["default"].base_model_name_or_path:
        return None
    return {name for name, parameter in network.named_parameters() if parameter.requires_grad}


def save_trained(network: Any, folder: PathLike) -> None:
    """Write a network so that ``Gem.from_pretrained`` reads the folder.

    Adapters are written alone where their base lies in a folder of its own and nothing else has learned; otherwise
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


def load_lora(folder: Path, base: PathLike | None = None, **options: Any) -> tuple[Any, Any]:
    """A LoRA folder merged into its base: peft's own, or LLaVA's with ``non_lora_trainables.bin``.

    Args:
        folder: With adapter_config.json and the adapter's weights.
        base: Its base model; None takes the one that adapter_config.json names.
        **options: For :func:`gem_lightning.models.compat.load.load_gem`.

    Returns:
        (model, processor).

    Raises:
        CheckpointError: The base cannot be found, or an adapter does not fit it.
    """
    from gem_lightning.models.compat import original
    from gem_lightning.models.compat.load import load_gem, recognise

    settings = read_settings(folder)
    place = find_base(folder, base)
    if recognise(place) == "original" and _is_llava(folder):
        return original.load_original(place, changes=read_changes(folder, settings), **options)
    model, processor = load_gem(place, **options)
    from peft import PeftModel

    wrapped = PeftModel.from_pretrained(model, folder)
    merged = wrapped.merge_and_unload()
    merged.config.fresh_parts = [part for part in merged.config.fresh_parts or () if part not in ALWAYS_SAVED] or None
    return merged.eval(), processor


def read_settings(folder: Path) -> dict[str, Any]:
    """adapter_config.json of a folder."""
    return json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))


def find_base(folder: Path, base: PathLike | None = None) -> Path:
    """The folder of the model that a LoRA folder belongs to.

    Args:
        folder: With adapter_config.json.
        base: Folder or hub id; None takes the one that adapter_config.json names.

    Raises:
        CheckpointError: None is named, or it cannot be found.
    """
    from gem_lightning.models.compat import towers
    from gem_lightning.models.compat.load import find_folder

    named = base or read_settings(folder).get("base_model_name_or_path")
    if not named:
        raise CheckpointError(f"expected base=the model that the adapter in {folder} belongs to, got none")
    return towers.resolve(named, folder) or find_folder(str(named))


def _is_llava(folder: Path) -> bool:
    return (folder / "non_lora_trainables.bin").is_file()


@dataclasses.dataclass(frozen=True)
class Changes:
    """What training changed, under the published names.

    Attributes:
        whole: Tensors that replace the base's.
        low_rank: (A, B) of a weight, to be added as ``scale * B @ A``.
        scale: Of every adapter.
    """

    whole: Tensors
    low_rank: dict[str, tuple[Any, Any]]
    scale: float

    def over(self, tensors: Tensors) -> Tensors:
        """The base's tensors with the changes, still unread where they were.

        Raises:
            CheckpointError: An adapter's weight is not in the base, or its shape differs.
        """
        lost = sorted(name for name in self.low_rank if name not in tensors)
        if lost:
            raise CheckpointError(f"expected the base to hold {lost[:4]} ({len(lost)} in all), got none; another base?")
        changed: dict[str, Any] = {
            name: LowRankSum(tensors[name], *halves, self.scale) for name, halves in self.low_rank.items()
        }
        return tensors | changed | self.whole


@dataclasses.dataclass(frozen=True)
class LowRankSum:
    """A base weight plus ``scale * B @ A``, computed when it is read."""

    base: LazyTensor | Tensor
    first: Any
    second: Any
    scale: float

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the base."""
        return tuple(self.base.shape)

    @property
    def dtype(self) -> torch.dtype:
        """Of the base."""
        return self.base.dtype

    def get_shape(self) -> list[int]:
        """As transformers' loader asks for it."""
        return list(self.shape)

    def get_dtype(self) -> str:
        """As transformers' loader asks for it."""
        return "F32" if self.dtype == torch.float32 else "BF16"

    def __getitem__(self, index: Any) -> Tensor:
        delta = self.second[...].float() @ self.first[...].float()
        return (self.base[...].float() + self.scale * delta).to(self.dtype)[index]


def read_changes(folder: Path, settings: Mapping[str, Any]) -> Changes:
    """The adapters and whole tensors of a LLaVA LoRA folder.

    Raises:
        CheckpointError: The folder lacks one of its files, or a weight has only one half of its adapter.
    """
    files = [folder / name for name in ("adapter_model.safetensors", "adapter_model.bin") if (folder / name).is_file()]
    if not files:
        raise CheckpointError(f"expected adapter_model.safetensors or .bin in {folder}, got none; download it")
    halves: dict[str, dict[str, Any]] = {}
    for name, value in open_file(files[0]).items():
        stem, _, rest = name.removeprefix(_PREFIX).partition(".lora_")
        if not rest:
            raise CheckpointError(f"expected only LoRA weights in {files[0]}, got {name}")
        halves.setdefault(f"{stem}.weight", {})[rest[0]] = value
    odd = sorted(name for name, pair in halves.items() if set(pair) != {"A", "B"})
    if odd:
        raise CheckpointError(f"expected both halves (lora_A, lora_B) of each adapter, got one for {odd[:4]}")
    whole: Tensors = {}
    for name, value in open_file(folder / "non_lora_trainables.bin").items():
        name = name.removeprefix(_PREFIX)
        whole[name if name.startswith(("model.", "lm_head.")) else f"model.{name}"] = value
    translate(whole, GEM_LAYOUT)
    scale = settings["lora_alpha"] / (settings["r"] ** (0.5 if settings.get("use_rslora") else 1))
    return Changes(whole, {name: (pair["A"], pair["B"]) for name, pair in halves.items()}, scale)
