"""ECG encoders of other packages: any ``nn.Module`` from signals to tokens, saved by its name and arguments.

A network's config.json holds the class as ``package.module.Class`` and the arguments that it was made with, so that
``from_pretrained`` rebuilds it; its package has to be installed, or on the path.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import nn

from gem_lightning.errors import CheckpointError, DataError
from gem_lightning.models.configuration_gem import EcgConfig
from gem_lightning.models.encoder.transformer import EcgTransformer

Factory = Callable[..., nn.Module]
_OWN_SIZES = {"leads": 12, "samples": 5000, "sampling_rate": 500.0}  # what an encoder without such attributes reads


def outside_config(factory: Factory) -> EcgConfig:
    """Return the config of an encoder; it is built once and given zeros, to learn the form of its tokens.

    Args:
        factory: The class of the encoder, or a ``functools.partial`` of it with plain arguments (in a config:
            ``_target_`` with ``_partial_: true``). Its attributes ``leads``, ``samples`` and ``sampling_rate`` (Hz) say
            which signals it reads; without them 12, 5,000 and 500.

    Raises:
        DataError: It is no class, its arguments cannot be written as JSON, or it does not map
            (N, leads, samples) to (N, tokens, width).
    """
    own, arguments = (factory.func, dict(factory.keywords)) if isinstance(factory, partial) else (factory, {})
    if not (isinstance(own, type) and issubclass(own, nn.Module)) or (isinstance(factory, partial) and factory.args):
        raise DataError(
            f"expected the class of an ECG encoder, got {factory!r}; in a config: _target_: package.Class with "
            "_partial_: true, in Python: functools.partial(Class, name=value)"
        )
    try:
        arguments = json.loads(json.dumps(arguments))
    except TypeError as error:
        raise DataError(f"expected plain arguments of {own.__name__}, which config.json can hold: {error}") from error
    if "<locals>" in own.__qualname__ or own.__module__ == "__main__":
        raise DataError(f"expected {own.__qualname__} in a module that can be imported, got one of {own.__module__}")
    encoder = {"target": f"{own.__module__}.{own.__qualname__}", "arguments": arguments}
    with torch.device("cpu"):
        built = _build(encoder)
    sizes: dict[str, Any] = {name: getattr(built, name, default) for name, default in _OWN_SIZES.items()}
    with torch.no_grad():
        tokens = built.eval()(torch.zeros(1, int(sizes["leads"]), int(sizes["samples"])))
    if not isinstance(tokens, torch.Tensor) or tokens.ndim != 3 or len(tokens) != 1:
        form = tuple(tokens.shape) if isinstance(tokens, torch.Tensor) else type(tokens).__name__
        raise DataError(f"expected tokens of shape (1, tokens, width) from {encoder['target']}, got {form}")
    return EcgConfig(
        encoder=encoder, token_count=int(tokens.shape[1]), width=int(tokens.shape[2]), layers=0, head_width=1, **sizes
    )


def build_ecg_tower(config: EcgConfig) -> nn.Module:
    """Build the ECG tower of a config, with the values that its own constructor gives it.

    Raises:
        CheckpointError: It is of a package that is not here, or cannot be rebuilt.
    """
    if config.encoder is None:
        return EcgTransformer(**config.tower_arguments())
    return _build(config.encoder)


def is_tower_of(config: EcgConfig, tower: nn.Module) -> bool:
    """Return whether ``from_pretrained`` rebuilds a tower of this class from the config."""
    own = type(tower)
    name = f"{own.__module__}.{own.__qualname__}"
    return isinstance(tower, EcgTransformer) if config.encoder is None else name == config.encoder["target"]


def _build(encoder: Mapping[str, Any]) -> nn.Module:
    name, arguments = encoder["target"], encoder["arguments"]
    module, _, own = str(name).rpartition(".")
    try:
        kind = getattr(importlib.import_module(module), own)
    except (ImportError, AttributeError, ValueError) as error:
        raise CheckpointError(
            f"expected the ECG encoder {name}, got: {error}; install its package or add its folder to PYTHONPATH"
        ) from error
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)):  # a config must not call anything else
        raise CheckpointError(f"expected {name} to be a torch.nn.Module, got {kind!r}")
    try:
        tower = kind(**arguments)
    except TypeError as error:
        raise CheckpointError(f"expected arguments that {name} takes, got {arguments}: {error}") from error
    lost = [key for key, part in tower.named_modules() if part._non_persistent_buffers_set]
    if lost:
        raise CheckpointError(
            f"expected buffers of {name} that are saved, got others in {lost[:3]}; make them persistent"
        )
    for part in tower.modules():  # its own initial values stay
        part._is_hf_initialized = True  # type: ignore[assignment]
    for value in (*tower.parameters(), *tower.buffers()):
        value._is_hf_initialized = True  # type: ignore[attr-defined]
    return tower
