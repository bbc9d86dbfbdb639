"""Memory of a training step before any weight exists: counted from the layers, run once on tensors without data."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from gem_lightning.models.build import change_config, make_config, named_towers, switches_of
from gem_lightning.models.compat import load_config
from gem_lightning.models.compute import Kernels, as_dtype, recompute, recomputes
from gem_lightning.models.configuration_gem import GemConfig
from gem_lightning.models.lora import add_lora
from gem_lightning.models.modeling_gem import GemForConditionalGeneration

GIB = 2**30
_NF4 = 0.5 + 1 / 64 + 4 / (64 * 256)  # bytes a weight: the code, doubly quantised block scales
_BLOCK = 256  # of 8-bit moments: one float32 scale each
_CUDA = 0.6 * GIB  # context and kernels of one process


@dataclass(frozen=True)
class Setup:
    """Settings other than the network that determine memory.

    Attributes:
        rows: Of a batch of one process.
        length: Tokens of a row.
        ecgs: Signals of a batch.
        tiles: Image tiles of a batch.
        labels: Tokens of a batch that are learnt.
        autocast: Dtype of computation where it differs from the weights' (``precision=bf16-mixed``).
        strategy: ``single``, ``ddp``, or the name of one that shards weights, gradients and optimiser state.
        devices: Processes that share the run.
        accumulate: Batches a step.
        moments: Bytes that the optimiser keeps for a number of a trained weight: 8, or 2 for 8-bit AdamW.
        quantised: Bits of the language model's frozen weights (4 or 8), or None.
        cuda: On a GPU.
    """

    rows: int
    length: int
    ecgs: int
    tiles: int
    labels: int
    autocast: torch.dtype | None = None
    strategy: str = "single"
    devices: int = 1
    accumulate: int = 1
    moments: int = 8
    quantised: int | None = None
    cuda: bool = True

    @property
    def sharded(self) -> bool:
        """Whether each process holds a part of the weights."""
        return self.strategy not in ("single", "ddp")


@dataclass(frozen=True)
class Memory:
    """Bytes that one process takes at the worst moment of a step, by what they are.

    Attributes:
        weights: Of its share.
        optimizer: Moments of what trains.
        gradients: Where they are there at the worst moment, with the buckets in which DDP sends them.
        copies: Weights in the dtype of computation, gathered layers.
        activations: Kept for the backward pass.
        passing: Logits of one chunk, gradients on their way, the optimiser's own scratch.
        runtime: CUDA itself.
    """

    weights: float
    optimizer: float
    gradients: float
    copies: float
    activations: float
    passing: float
    runtime: float

    @property
    def total(self) -> float:
        """All parts."""
        return sum(asdict(self).values())


def estimate_memory(build: Callable[[int], nn.Module], layers: int, setup: Setup, period: int = 1) -> Memory:
    """Memory of one process.

    Args:
        build: ``build(n)`` returns the network with ``n`` layers in its language model, frozen as it will train; it is
            called on tensors without data.
        layers: Of the language model.
        setup: Batch, precision, strategy.
        period: Layers after which layers are alike again: n where every n-th recomputes its activations.
    """
    first = layers % period or min(period, layers)  # so that whole periods are left
    with torch.device("meta"):
        one, two = build(first), build(first + period)
    with FakeTensorMode():
        _without_data(one)
        _without_data(two)
        sizes_1, sizes_2 = (_Sizes.of(network, setup) for network in (one, two))
        whole = _weight_bytes(one)
        if setup.sharded and setup.autocast is not None:  # computes in gathered weights, nothing is cast
            _without_data(one, setup.autocast)
            _without_data(two, setup.autocast)
            setup = replace(setup, autocast=None)
        kept_1, kept_2 = (_kept_by_language_model(network, setup) for network in (one, two))
        towers = _kept_by_towers(one, setup)
        again = _recomputed(one, setup, kept_1)
    periods = (layers - first) / period
    sizes = sizes_1 + (sizes_2 - sizes_1) * periods
    activations = kept_1 + (kept_2 - kept_1) * periods + towers
    share = setup.devices if setup.sharded else 1
    gradients = sizes.gradients / share
    passing = max(
        _logits(one, setup), again + 2 * setup.rows * setup.length * _widest(one) * _compute_bytes(one, setup)
    )
    step = sizes.gradients / share if setup.cuda else 0.0  # AdamW works on all weights at once on a GPU
    held = gradients if setup.accumulate > 1 else 0.0
    buckets = sizes.gradients if setup.strategy == "ddp" and setup.devices > 1 else 0.0
    copies = sizes.copies
    if setup.sharded:
        layer = sizes_2.weights - sizes_1.weights
        gathered = 2 * layer / period + sizes.outside  # the layer that runs, the next one, and what is no layer
        copies = gathered * _weight_bytes(one) / whole
    # the backward pass frees activations as gradients come; then the optimiser needs its scratch
    backward, update = activations + copies + passing + held, gradients + step
    worst = backward >= update
    return Memory(
        weights=sizes.weights / share,
        optimizer=sizes.optimizer / share,
        gradients=buckets + (held if worst else gradients),
        copies=copies if worst else 0.0,
        activations=activations if worst else 0.0,
        passing=passing if worst else step,
        runtime=_CUDA if setup.cuda else 0.0,
    )


@dataclass(frozen=True)
class _Sizes:
    """Bytes of a whole network; ``outside``: of what is no layer of the language model."""

    weights: float
    optimizer: float
    gradients: float
    copies: float
    outside: float

    @staticmethod
    def of(network: nn.Module, setup: Setup) -> _Sizes:
        quantised = _quantised_names(network) if setup.quantised else set()
        weights = optimizer = gradients = copies = outside = 0.0
        for name, parameter in network.named_parameters():
            size: float = parameter.numel() * parameter.element_size()
            if name in quantised:
                size = parameter.numel() * (_NF4 if setup.quantised == 4 else 1)
            weights += size
            if ".layers." not in name:
                outside += size
            if parameter.requires_grad:
                gradients += parameter.numel() * parameter.element_size()
                scales = 8 / _BLOCK if setup.moments == 2 else 0.0
                optimizer += parameter.numel() * (setup.moments + scales)
                if setup.autocast is not None and parameter.ndim > 1 and parameter.dtype != setup.autocast:
                    copies += parameter.numel() * setup.autocast.itemsize
        return _Sizes(weights, optimizer, gradients, copies, outside)

    def __add__(self, other: _Sizes) -> _Sizes:
        return _Sizes(*(a + b for a, b in zip(self.parts, other.parts)))

    def __sub__(self, other: _Sizes) -> _Sizes:
        return self + other * -1

    def __mul__(self, factor: float) -> _Sizes:
        return _Sizes(*(a * factor for a in self.parts))

    @property
    def parts(self) -> tuple[float, ...]:
        return tuple(asdict(self).values())


def _gem(network: Any) -> Any:
    return getattr(network, "get_base_model", lambda: network)()


def _quantised_names(network: nn.Module) -> set[str]:
    """Return linear weights of the language model's layers, adapters apart."""
    return {
        f"{name}.weight"
        for name, layer in network.named_modules()
        if isinstance(layer, nn.Linear) and ".language_model." in name and ".lora_" not in name
    }


def _compute_dtype(network: nn.Module, setup: Setup) -> torch.dtype:
    return setup.autocast or next(_gem(network).model.language_model.parameters()).dtype


def _compute_bytes(network: nn.Module, setup: Setup) -> int:
    return _compute_dtype(network, setup).itemsize


def _weight_bytes(network: nn.Module) -> int:
    return next(_gem(network).model.language_model.parameters()).element_size()


def _widest(network: nn.Module) -> int:
    return _gem(network).config.text_config.intermediate_size


def _logits(network: nn.Module, setup: Setup) -> float:
    """Estimate one chunk: logits, their gradient, and both in float32 where they are computed in less."""
    config = _gem(network).config
    vocabulary = config.text_config.vocab_size
    rows = min(max(1, config.loss_chunk_mib * 2**20 // (4 * vocabulary)), setup.labels)
    narrow = _compute_bytes(network, setup)
    return rows * vocabulary * (8 + (2 * narrow if narrow < 4 else 0))


class _Kept:
    """Bytes that operations save for the backward pass, each storage once, weights and their casts not counted."""

    def __init__(self, network: nn.Module, cast: torch.dtype | None) -> None:
        self._seen = {parameter.untyped_storage()._cdata for parameter in network.parameters()}
        self._shapes = {p.shape for p in network.parameters() if p.ndim > 1 and p.dtype != cast}
        self._alive: list[Any] = []
        self._cast = cast
        self.bytes = 0

    def __call__(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self._seen:
            self._seen.add(storage._cdata)
            self._alive.append(storage)  # so that no other takes its address
            cast = tensor.dtype == self._cast and tensor.ndim == 2
            weight = cast and (tensor.shape in self._shapes or tensor.t().shape in self._shapes)
            self.bytes += 0 if weight else storage.nbytes()
        return tensor


def _kept_by_language_model(network: nn.Module, setup: Setup) -> int:
    gem = _gem(network)
    dtype = _compute_dtype(network, setup)
    embeds = torch.empty(setup.rows, setup.length, gem.config.text_config.hidden_size, dtype=dtype, requires_grad=True)
    mask = torch.zeros(setup.rows, 1, setup.length, setup.length, dtype=torch.bool)
    return _kept(
        network, setup, lambda: gem.model.language_model(inputs_embeds=embeds, attention_mask=mask, use_cache=False)
    )


def _kept_by_towers(network: nn.Module, setup: Setup) -> int:
    gem = _gem(network)
    config = gem.config

    def look() -> None:
        if setup.ecgs and config.ecg_config:
            gem.model.get_ecg_features(torch.empty(setup.ecgs, config.ecg_config.leads, config.ecg_config.samples))
        if setup.tiles and config.vision_config:
            side = config.vision_config.image_size
            gem.model.get_image_features(torch.empty(setup.tiles, 3, side, side))

    return _kept(network, setup, look)


def _kept(network: nn.Module, setup: Setup, forward: Callable[[], Any]) -> int:
    kept = _Kept(network, setup.autocast)
    casting = torch.autocast("cpu", dtype=setup.autocast, enabled=setup.autocast is not None)
    with torch.autograd.graph.saved_tensors_hooks(kept, lambda tensor: tensor), casting:
        forward()
    return kept.bytes


def _recomputed(network: nn.Module, setup: Setup, kept: int) -> int:
    """Estimate what one recomputing layer holds during its turn."""
    gem = _gem(network)
    if not recomputes(gem):
        return 0
    gem.gradient_checkpointing_disable()
    return _kept_by_language_model(network, setup) - kept


def _without_data(network: nn.Module, dtype: torch.dtype | None = None) -> None:
    """Put tensors that claim to lie on the CPU, and hold nothing, in place of those on the meta device.

    Args:
        network: Changed in place.
        dtype: Of the parameters; None keeps theirs.
    """
    for module in network.modules():
        for name, value in module._parameters.items():
            if value is not None:
                empty = torch.empty(value.shape, dtype=dtype or value.dtype)
                module._parameters[name] = nn.Parameter(empty, requires_grad=value.requires_grad)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype)


def config_for(arguments: Mapping[str, Any]) -> GemConfig:
    """Return the config of the network that :func:`build_gem` makes of these arguments."""
    checkpoint = arguments.get("checkpoint")
    if checkpoint is None:
        return make_config(arguments.get("llm"), arguments.get("ecg"), arguments.get("vision"), switches_of(arguments))
    config = load_config(checkpoint, *named_towers(arguments))
    change_config(config, switches_of(arguments))
    return config


def network_shell(arguments: Mapping[str, Any], config: GemConfig, layers: int | None = None) -> Any:
    """Return the network on the meta device, adapters included.

    Args:
        arguments: Of :func:`build_gem`.
        config: From :func:`config_for`.
        layers: Of the language model; None keeps its number.
    """
    config = copy.deepcopy(config)
    if layers is not None:
        text = config.text_config
        text.num_hidden_layers = layers
        if getattr(text, "layer_types", None):
            text.layer_types = text.layer_types[:layers]
    dtype = as_dtype(arguments.get("dtype") or "float32")
    attention = (arguments.get("kernels") or Kernels()).attention
    with torch.device("meta"):
        network: Any = GemForConditionalGeneration._from_config(config, dtype=dtype, attn_implementation=attention)
        recompute(network, arguments.get("gradient_checkpointing") or False)
        if arguments.get("lora") is not None:
            network = add_lora(network, **arguments["lora"])
    return network.train()
