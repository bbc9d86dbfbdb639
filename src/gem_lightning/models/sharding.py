"""Sharding of a network over processes (FSDP2): each tensor is read or initialised and sharded at once."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from gem_lightning.models.encoder.transformer import EcgTransformer

# Containers on a parameter's path that are no unit of their own: their children are drawn one by one
_CONTAINERS = ("", "model", "model.language_model", "model.language_model.layers")


@dataclass(frozen=True)
class Sharding:
    """How a network is sharded.

    Attributes:
        mesh: One-dimensional device mesh of the processes.
        param_dtype: Of gathered weights and of the computation; None keeps the weights' own.
        reduce_dtype: Of the sums of gradients over processes; None takes ``param_dtype``.
    """

    mesh: Any
    param_dtype: torch.dtype | None = None
    reduce_dtype: torch.dtype | None = torch.float32

    def __call__(self, model: nn.Module) -> None:
        """Cut each of :func:`sharded_units` and the rest; buffers stay whole and in float32.

        Args:
            model: A ``GemForConditionalGeneration``, on the meta device or with weights; changed in place.
        """
        from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

        policy = MixedPrecisionPolicy(param_dtype=self.param_dtype, reduce_dtype=self.reduce_dtype)
        for unit in sharded_units(model):
            fully_shard(unit, mesh=self.mesh, mp_policy=policy)
        fully_shard(model, mesh=self.mesh, mp_policy=policy)

    def cut(self, tensor: Tensor, parameter: Any) -> Tensor:
        """Return this process's shard of a whole tensor, without communication."""
        from torch.distributed.tensor import distribute_tensor

        return distribute_tensor(tensor, parameter.device_mesh, parameter.placements, src_data_rank=None)


def sharded_units(model: nn.Module) -> list[nn.Module]:
    """List the modules that are gathered and freed as one: layers of the language model and image tower, the ECG tower.

    Sharding renames a module's class, by which transformers knows what an image tower can record: so its layers.
    """
    body: Any = model.model
    layers: list[nn.Module] = [m for m in body.modules() if isinstance(m, GradientCheckpointingLayer)]
    return layers if body.ecg_tower is None else [*layers, body.ecg_tower]


def load_shared(model: Any, tensors: Mapping[str, Any], dtype: torch.dtype, shard: Sharding) -> None:
    """Shard a network of meta tensors and fill it, one whole tensor (or initialised layer) in memory at a time.

    Args:
        model: A ``GemForConditionalGeneration`` on the meta device.
        tensors: Tensors, or lazy ones, under our names; what they lack is drawn, alike on every process.
        dtype: Of the weights.
        shard: How.
    """
    names = [name for name, _ in model.named_parameters()]
    missing = [name for name in names if name not in tensors]
    blueprints = _blueprints(model, missing)
    compute_buffers(model)
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    shard(model)
    parameters = dict(model.named_parameters())
    read = ((name, tensors[name][...]) for name in names if name in tensors)
    filled: dict[str, Tensor] = {}
    for name, tensor in chain(read, _draw(model, blueprints, set(missing))):
        filled[name] = nn.Parameter(shard.cut(tensor.to(dtype), parameters[name]))
    model.load_state_dict(filled, strict=False, assign=True)
    model.tie_weights()


def compute_buffers(model: nn.Module) -> None:
    """Fill buffers that hold no data yet, or were rounded: positions, and the frequencies of rotary embeddings.

    Frequencies rounded to bfloat16 turn positions by up to several radians within 4,096 tokens. Modules whose
    parameters hold data are left alone.
    """
    owner: Any = model
    for module in model.modules():  # outer modules come first
        if isinstance(module, PreTrainedModel):
            owner = module
        if module._buffers and all(parameter.is_meta for parameter in module.parameters()):
            for name, buffer in module.named_buffers(recurse=False):
                dtype = torch.float32 if buffer.is_floating_point() else buffer.dtype
                device = "cpu" if buffer.is_meta else buffer.device
                module._buffers[name] = torch.empty_like(buffer, device=device, dtype=dtype)
            owner._init_weights(module)


def _blueprints(model: nn.Module, missing: list[str]) -> dict[str, nn.Module]:
    """Meta copies of the modules that hold missing parameters, taken before they are sharded."""
    paths = sorted({_unit_of(model, name) for name in missing})
    return {path: copy.deepcopy(model.get_submodule(path)) for path in paths if path not in _CONTAINERS}


def _unit_of(model: nn.Module, name: str) -> str:
    """Path of the outermost module over a parameter that is drawn as a whole."""
    path = ""
    for part in name.split(".")[:-1]:
        path = f"{path}.{part}" if path else part
        if path not in _CONTAINERS and not isinstance(model.get_submodule(path), nn.ModuleList):
            break
    return path


def _draw(model: Any, blueprints: Mapping[str, nn.Module], missing: set[str]) -> Iterator[tuple[str, Tensor]]:
    """Missing parameters, module by module, from the run's seed: the same values on every process."""
    with torch.random.fork_rng():
        torch.manual_seed(torch.initial_seed())
        if "model.image_newline" in missing:
            hidden = model.config.text_config.hidden_size
            yield "model.image_newline", torch.randn(hidden) * hidden**-0.5
        for path, blueprint in blueprints.items():
            unit: Any = blueprint.to_empty(device="cpu")
            if isinstance(unit, EcgTransformer):
                unit.init_parameters()
            else:
                owner = unit if isinstance(unit, PreTrainedModel) else model.model.language_model
                unit.apply(owner._init_weights)
            for name, parameter in unit.named_parameters():
                if f"{path}.{name}" in missing:
                    yield f"{path}.{name}", parameter.detach()
