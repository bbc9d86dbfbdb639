"""Floating-point operations of one training step, counted from the layers that the network has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from gem_lightning.models.configuration_gem import GemConfig


@dataclass(frozen=True)
class StepFlops:
    """Operations of one step by part; what is recomputed in the backward pass does not count.

    Attributes:
        language: Matrix products of the language model's layers, adapters included.
        attention: Of the language model, each token with those before it and itself.
        head: Logits where labels are.
        projectors: Both.
        towers: ECG and image tower.
    """

    language: float
    attention: float
    head: float
    projectors: float
    towers: float

    @property
    def total(self) -> float:
        """All parts."""
        return self.language + self.attention + self.head + self.projectors + self.towers


class FlopCounter:
    """Counts the steps of one network; the layers are looked at once.

    A frozen layer costs its forward pass, and the gradient of its input where something before it trains; a layer that
    trains also costs the gradient of its weights.

    Args:
        network: A ``GemForConditionalGeneration`` or a peft wrapper of it.
    """

    def __init__(self, network: nn.Module) -> None:
        get_base: Any = getattr(network, "get_base_model", lambda: network)
        gem: Any = get_base()
        config: GemConfig = gem.config
        body, text = gem.model, config.text_config
        ecg_trains, image_trains = _trains(body.ecg_tower), _trains(body.vision_tower)
        projects = _trains(body.multi_modal_projector) or _trains(body.ecg_projector)
        before = ecg_trains or image_trains or projects or _trains(body.language_model)
        self._language = _per_token(body.language_model, before)
        self._head = _per_token(gem.lm_head, before)
        shared_before = ecg_trains or image_trains or _trains(body.ecg_projector)
        self._shared = _per_token(body.multi_modal_projector, shared_before or projects, first=shared_before)
        self._ecg_projector = _per_token(body.ecg_projector, ecg_trains or projects, first=ecg_trains)
        head_width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        self._attention = text.num_hidden_layers * text.num_attention_heads * head_width * 4 * (3 if before else 1)
        self._ecg_tokens, self._tile_tokens = config.ecg_tokens, config.tile_tokens
        self._ecg = self._tower(body.ecg_tower, config.ecg_tokens, config.ecg_config, ecg_trains)
        side = config.patches_per_side if config.vision_config else 0
        self._tile = self._tower(body.vision_tower, side**2 + 1, config.vision_config, image_trains)

    def count(self, counts: Mapping[str, float]) -> StepFlops:
        """Operations of a step on a batch with these ``counts`` (see :class:`gem_lightning.data.GemCollator`)."""
        ecgs, tiles = counts["ecgs"], counts["tiles"]
        shared = ecgs * self._ecg_tokens + tiles * self._tile_tokens
        return StepFlops(
            language=self._language * counts["tokens"],
            attention=self._attention * (counts["squares"] + counts["tokens"]) / 2,
            head=self._head * counts["labels"],
            projectors=self._shared * shared + self._ecg_projector * ecgs * self._ecg_tokens,
            towers=self._ecg * ecgs + self._tile * tiles,
        )

    @staticmethod
    def _tower(tower: nn.Module | None, tokens: int, config: Any, trains: bool) -> float:
        """Count one ECG or tile; the patches' convolution reads data, which need no gradient."""
        if tower is None:
            return 0.0
        patches = sum(
            2 * layer.weight.numel() * (2 if trains else 1) * (tokens - 1)
            for layer in tower.modules()
            if isinstance(layer, nn.Conv1d | nn.Conv2d)
        )
        attention = 4 * tokens**2 * config.hidden_size * config.num_hidden_layers * (3 if trains else 1)
        return patches + attention + _per_token(tower, trains) * tokens


def _trains(module: nn.Module | None) -> bool:
    return module is not None and any(parameter.requires_grad for parameter in module.parameters())


def _per_token(module: nn.Module | None, before: bool, first: bool = True) -> float:
    """Matrix products of one token through the linear layers.

    Args:
        module: None costs nothing.
        before: Something in or before the module trains, so gradients flow back through it.
        first: They also flow out of its first layer.
    """
    if module is None:
        return 0.0
    total, inner = 0.0, first
    for name, layer in module.named_modules():
        if name.endswith(".original_module") or ".original_module." in f"{name}.":  # peft's copy of what it replaced
            continue
        if isinstance(layer, nn.MultiheadAttention):
            weights = layer.in_proj_weight.numel()
        elif isinstance(layer, nn.Linear):
            weights = layer.in_features * layer.out_features  # a quantised weight has another shape
        else:
            continue
        trains = next(layer.parameters(recurse=False)).requires_grad
        total += 2 * weights * (1 + trains + (before and inner))
        inner = inner or trains
    return total
