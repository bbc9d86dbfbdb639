"""LoRA folders in LLaVA's layout: adapters and ``non_lora_trainables.bin`` as changes to published weights."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gem_lightning.errors import CheckpointError
from gem_lightning.models.compat.names import GEM_LAYOUT, translate
from gem_lightning.models.compat.tensor_files import LazyTensor, Tensors, open_file
from gem_lightning.models.lora import PEFT_PREFIX


@dataclass(frozen=True)
class Changes:
    """Weights that training changed, under the published names.

    Attributes:
        whole: Tensors that replace the base's.
        low_rank: (A, B, scale) of a weight, to be added as ``scale * B @ A``.
    """

    whole: Tensors
    low_rank: dict[str, tuple[Any, Any, float]]

    def over(self, tensors: Tensors) -> Tensors:
        """Return the base's tensors with the changes; unread tensors stay unread.

        Raises:
            CheckpointError: An adapter's weight is not in the base, or its shape differs.
        """
        lost = sorted(name for name in self.low_rank if name not in tensors)
        if lost:
            raise CheckpointError(f"expected the base to hold {lost[:4]} ({len(lost)} in all), got none; another base?")
        changed: dict[str, Any] = {name: LowRankSum(tensors[name], *halves) for name, halves in self.low_rank.items()}
        return tensors | changed | self.whole


@dataclass(frozen=True)
class LowRankSum:
    """A base weight plus ``scale * B @ A``, computed when it is read."""

    base: LazyTensor | Tensor
    first: Any
    second: Any
    scale: float

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the base's."""
        return tuple(self.base.shape)

    @property
    def dtype(self) -> torch.dtype:
        """Return the base's."""
        return self.base.dtype

    def get_shape(self) -> list[int]:
        """Return it as transformers' loader expects it."""
        return list(self.shape)

    def get_dtype(self) -> str:
        """Return it as transformers' loader expects it."""
        return "F32" if self.dtype == torch.float32 else "BF16"

    def __getitem__(self, index: Any) -> Tensor:
        delta = self.second[...].float() @ self.first[...].float()
        return (self.base[...].float() + self.scale * delta).to(self.dtype)[index]


def read_changes(folder: Path, settings: Mapping[str, Any]) -> Changes:
    """Read the adapters and whole tensors of a LLaVA LoRA folder.

    Raises:
        CheckpointError: The folder lacks one of its files, or a weight has only one half of its adapter.
    """
    files = [folder / name for name in ("adapter_model.safetensors", "adapter_model.bin") if (folder / name).is_file()]
    if not files:
        raise CheckpointError(f"expected adapter_model.safetensors or .bin in {folder}, got none; download it")
    halves: dict[str, dict[str, Any]] = {}
    for name, value in open_file(files[0]).items():
        stem, _, rest = name.removeprefix(PEFT_PREFIX).partition(".lora_")
        if not rest:
            raise CheckpointError(f"expected only LoRA weights in {files[0]}, got {name}")
        halves.setdefault(f"{stem}.weight", {})[rest[0]] = value
    odd = sorted(name for name, pair in halves.items() if set(pair) != {"A", "B"})
    if odd:
        raise CheckpointError(f"expected both halves (lora_A, lora_B) of each adapter, got one for {odd[:4]}")
    whole: Tensors = {}
    others = folder / "non_lora_trainables.bin"
    for name, value in (open_file(others) if others.is_file() else {}).items():
        name = name.removeprefix(PEFT_PREFIX)
        whole[name if name.startswith(("model.", "lm_head.")) else f"model.{name}"] = value
    translate(whole, GEM_LAYOUT)
    return Changes(
        whole, {name: (pair["A"], pair["B"], _scale(name, pair["A"], settings)) for name, pair in halves.items()}
    )


def _scale(name: str, first: Any, settings: Mapping[str, Any]) -> float:
    """The factor of an adapter, whose rank is that of its tensors; peft's patterns name modules by their endings."""
    module, alpha = name.removesuffix(".weight"), settings["lora_alpha"]
    for pattern, own in (settings.get("alpha_pattern") or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            alpha = own
            break
    return float(alpha) / int(first.shape[0]) ** (0.5 if settings.get("use_rslora") else 1)


def has_published_names(folder: Path) -> bool:
    """Whether the adapters are named after LLaVA's modules, not after ours."""
    names = [name for file in folder.glob("adapter_model.*") for name in open_file(file)]
    return bool(names) and all(name.removeprefix(PEFT_PREFIX).startswith("model.layers.") for name in names)
