"""Memory of a training step before any weight exists: counted from the layers, run once on tensors without data."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from gem_lightning.models.build import change_config, make_config, named_towers, switches_of
from gem_lightning.models.compat import load_config
from gem_lightning.models.compute import Kernels, as_dtype, recompute, recomputes
from gem_lightning.models.configuration_gem import GemConfig
from gem_lightning.models.lora import add_lora
from gem_lightning.models.modeling_gem import GemForConditionalGeneration
from gem_lightning.models.planning.trace import TracedStep, kept_bytes, without_data

GIB = 2**30
_NF4 = 0.5 + 1 / 64 + 4 / (64 * 256)  # bytes a weight: the code, doubly quantised block scales
_BLOCK = 256  # of 8-bit moments: one float32 scale each
_SAMPLED = 28  # bytes of a logit that is sampled from: float32, and scaled, softmax and its sums in float64
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
        group: Answers of each row, which are read after its cache or, recomputing, with a copy of it; 0 without.
        answer: Tokens of an answer.
        reference: Another copy of the weights reads them too.
        written: Rows whose answers are sampled at a time, all of their group; 0 without.
    """

    rows: int = 0
    length: int = 0
    ecgs: int = 0
    tiles: int = 0
    labels: int = 0
    autocast: torch.dtype | None = None
    strategy: str = "single"
    devices: int = 1
    accumulate: int = 1
    moments: int = 8
    quantised: int | None = None
    cuda: bool = True
    group: int = 0
    answer: int = 0
    reference: bool = False
    written: int = 0

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
        without_data(one)
        without_data(two)
        sizes_1, sizes_2 = (_Sizes.of(network, setup) for network in (one, two))
        whole = _weight_bytes(one)
        if setup.sharded and setup.autocast is not None:  # computes in gathered weights, nothing is cast
            without_data(one, setup.autocast)
            without_data(two, setup.autocast)
            setup = replace(setup, autocast=None)
        kept_1, kept_2 = (_kept_by_language_model(network, setup) for network in (one, two))
        towers = _kept_by_towers(one, setup)
        again = _recomputed(one, setup, kept_1)
    periods = (layers - first) / period
    sizes = sizes_1 + (sizes_2 - sizes_1) * periods
    activations = kept_1 + (kept_2 - kept_1) * periods + towers
    tokens = setup.rows * (setup.length + setup.group * setup.answer)
    passing = max(_logits(one, setup), again + 2 * tokens * _widest(one) * _compute_bytes(one, setup))
    cache = cache_bytes(unwrapped(one).config, layers, _compute_bytes(one, setup)) * (setup.length + setup.answer)
    if setup.reference:
        passing += setup.rows * setup.group * cache
    writing = setup.written * setup.group * (cache + _SAMPLED * unwrapped(one).config.text_config.vocab_size)
    if setup.sharded:
        layer = sizes_2.weights - sizes_1.weights
        gathered = 2 * layer / period + sizes.outside  # the layer that runs, the next one, and what is no layer
        sizes = replace(sizes, copies=gathered * _weight_bytes(one) / whole)
    return _at_worst(sizes, setup, activations, passing, writing)


def estimate_step_memory(network: nn.Module, setup: Setup, step: TracedStep) -> Memory:
    """Memory of one process that trains any other network, whose weights every process holds.

    Args:
        network: Frozen as it will train.
        setup: Precision, processes and optimiser are read; the batch is in ``step``.
        step: Of one batch.
    """
    # gradients of the largest tensor and of the one before it are on their way together
    return _at_worst(_Sizes.of(network, setup), setup, step.kept, 2 * step.largest)


def cache_bytes(config: GemConfig, layers: int, item: int) -> int:
    """Return the bytes of keys and values of one token in ``layers`` layers, ``item`` bytes a number."""
    text = config.text_config
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return 2 * layers * heads * width * item


def _at_worst(sizes: _Sizes, setup: Setup, activations: float, passing: float, writing: float = 0.0) -> Memory:
    """Return the worst of the moments of a step: backward pass, optimiser's update, answers that are written."""
    share = setup.devices if setup.sharded else 1
    gradients = sizes.gradients / share
    step = gradients if setup.cuda else 0.0  # AdamW works on all weights at once on a GPU
    held = gradients if setup.accumulate > 1 else 0.0
    buckets = sizes.gradients if setup.strategy == "ddp" and setup.devices > 1 else 0.0
    moments = [
        # the backward pass frees activations as gradients come; then the optimiser needs its scratch
        (held, sizes.copies, activations, passing),
        (gradients, 0.0, 0.0, step),
        (gradients, 0.0, 0.0, writing),  # those of the last step are freed when the next one begins
    ]
    held, copies, activations, passing = max(moments, key=sum)
    return Memory(
        weights=sizes.weights * (1 + setup.reference) / share,
        optimizer=sizes.optimizer / share,
        gradients=buckets + held,
        copies=copies,
        activations=activations,
        passing=passing,
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


def unwrapped(network: Any) -> Any:
    """Return the network itself, without peft's wrapper."""
    return getattr(network, "get_base_model", lambda: network)()


def _quantised_names(network: nn.Module) -> set[str]:
    """Return linear weights of the language model's layers, adapters apart."""
    return {
        f"{name}.weight"
        for name, layer in network.named_modules()
        if isinstance(layer, nn.Linear) and ".language_model." in name and ".lora_" not in name
    }


def _compute_dtype(network: nn.Module, setup: Setup) -> torch.dtype:
    return setup.autocast or next(unwrapped(network).model.language_model.parameters()).dtype


def _compute_bytes(network: nn.Module, setup: Setup) -> int:
    return _compute_dtype(network, setup).itemsize


def _weight_bytes(network: nn.Module) -> int:
    return next(unwrapped(network).model.language_model.parameters()).element_size()


def _widest(network: nn.Module) -> int:
    return unwrapped(network).config.text_config.intermediate_size


def _logits(network: nn.Module, setup: Setup) -> float:
    """Estimate one chunk: logits, their gradient, and both in float32 where they are computed in less."""
    config = unwrapped(network).config
    vocabulary = config.text_config.vocab_size
    narrow = _compute_bytes(network, setup)
    if setup.group:  # of all answers at once: logits, scaled, their logarithms, and those kept of the policy
        kept = 16 if setup.reference else 12
        return setup.rows * setup.group * setup.answer * vocabulary * (kept + (narrow if narrow < 4 else 0))
    rows = min(max(1, config.loss_chunk_mib * 2**20 // (4 * vocabulary)), setup.labels)
    return rows * vocabulary * (8 + (2 * narrow if narrow < 4 else 0))


def _kept_by_language_model(network: nn.Module, setup: Setup) -> int:
    gem = unwrapped(network)
    dtype = _compute_dtype(network, setup)
    width, shared = gem.config.text_config.hidden_size, setup.group > 0 and not recomputes(gem)

    def read(rows: int, length: int, cache: Any = None) -> Any:
        embeds = torch.empty(rows, length, width, dtype=dtype, requires_grad=True)
        mask = torch.zeros(rows, 1, length, length + (setup.length if cache else 0), dtype=torch.bool)
        inputs = {"inputs_embeds": embeds, "attention_mask": mask, "past_key_values": cache, "use_cache": shared}
        return gem.model.language_model(**inputs).past_key_values

    def forward() -> None:
        if not shared:
            read(setup.rows * max(1, setup.group), setup.length + setup.answer)
            return
        cache = read(setup.rows, setup.length)
        cache.batch_repeat_interleave(setup.group)
        read(setup.rows * setup.group, setup.answer, cache)

    return kept_bytes(network, forward, setup.autocast)


def _kept_by_towers(network: nn.Module, setup: Setup) -> int:
    gem = unwrapped(network)
    config = gem.config

    def look() -> None:
        if setup.ecgs and config.ecg_config:
            gem.model.get_ecg_features(torch.empty(setup.ecgs, config.ecg_config.leads, config.ecg_config.samples))
        if setup.tiles and config.vision_config:
            side = config.vision_config.image_size
            gem.model.get_image_features(torch.empty(setup.tiles, 3, side, side))

    return kept_bytes(network, look, setup.autocast)


def _recomputed(network: nn.Module, setup: Setup, kept: int) -> int:
    """Estimate what one recomputing layer holds during its turn."""
    gem = unwrapped(network)
    if not recomputes(gem):
        return 0
    gem.gradient_checkpointing_disable()
    return _kept_by_language_model(network, setup) - kept


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
