"""Estimate memory, time and disk before training, and refuse runs that cannot work."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from gem_lightning.errors import GemError
from gem_lightning.lit.optim import freeze_unreached, parameter_groups, set_trainable
from gem_lightning.lit.reference import only_adapters_train
from gem_lightning.lit.strategies import SHARDED
from gem_lightning.models.compat import quantisation
from gem_lightning.models.compute import Kernels, check_compute, recomputes
from gem_lightning.models.configuration_gem import IGNORE_INDEX
from gem_lightning.models.lora import check_lora
from gem_lightning.models.loss import check_loss
from gem_lightning.models.planning.answers import Answers, Sampling, with_answers
from gem_lightning.models.planning.flops import FlopCounter
from gem_lightning.models.planning.memory import (
    GIB,
    Memory,
    Setup,
    cache_bytes,
    config_for,
    estimate_memory,
    network_shell,
    unwrapped,
)

_SAMPLED = 64  # samples whose tokens are counted: enough for a mean within some per cent, and quick
_LOWER = (
    "lower data.batch_size (and raise trainer.accumulate_grad_batches) or data.max_length, recompute activations "
    "(model.net.gradient_checkpointing=true), train adapters (experiment=gem7b_lora, gem7b_qlora) or shard weights "
    "(strategy=fsdp2)"
)


@dataclass(frozen=True)
class Load:
    """Per-step workload of the data.

    Attributes:
        samples: Per epoch.
        batches: Per epoch and process.
        rows, length: Of the largest batch.
        mean: Counts of an average batch, as :func:`gem_lightning.data.collate.count_items` names them.
        largest: Counts of the largest one.
    """

    samples: int
    batches: int
    rows: int
    length: int
    mean: Mapping[str, float]
    largest: Mapping[str, float]


@dataclass(frozen=True)
class Run:
    """The settings of a run that a plan needs.

    Attributes:
        net: Arguments of ``build_gem``.
        freeze, unfreeze: Patterns of parameter names.
        lr_by_pattern: Patterns to rates of their own.
        optimizer: Dotted name of its class.
        strategy: As :func:`gem_lightning.lit.strategies.strategy_kind` names it.
        devices: Processes on all nodes.
        precision: As Lightning names it.
        accumulate: Batches a step.
        epochs, max_steps: Whichever ends first; -1 does not end.
        cuda: On GPUs.
    """

    net: Mapping[str, Any]
    freeze: Sequence[str] = ()
    unfreeze: Sequence[str] = ()
    lr_by_pattern: Mapping[str, float] | None = None
    optimizer: str = "torch.optim.AdamW"
    strategy: str = "single"
    devices: int = 1
    precision: str = "32-true"
    accumulate: int = 1
    epochs: int = 1
    max_steps: int = -1
    cuda: bool = True


@dataclass(frozen=True)
class Plan:
    """Estimates of :func:`make_plan`.

    Attributes:
        parameters, trainable: Numbers of weights.
        memory: Of one process, by (strategy, devices); the run's own comes first.
        steps: Of the optimiser.
        flops: Of all steps and devices.
        checkpoint: Bytes of one checkpoint.
        written: Operations of sampled answers, by all devices; not in ``flops``.
        reading: Bytes that a device reads to sample them, token by token.
    """

    parameters: int
    trainable: int
    memory: dict[tuple[str, int], Memory]
    steps: int
    flops: float
    checkpoint: float
    written: float = 0.0
    reading: float = 0.0

    def hours(self, mfu: float, peak_tflops: float, devices: int) -> float:
        """Return the hours of the whole run at a share ``mfu`` of the devices' peak."""
        return self.flops / (mfu * peak_tflops * 1e12 * devices) / 3600

    def sampling_hours(self, bandwidth: float) -> float:
        """Return the least hours of sampling at a memory ``bandwidth`` in TB/s: each token reads all weights."""
        return self.reading / (bandwidth * 1e12) / 3600

    def __str__(self) -> str:
        share = self.trainable / self.parameters
        rows = [
            f"parameters            {self.parameters / 1e6:,.1f} M, {self.trainable / 1e6:,.1f} M train ({share:.1%})",
            "memory a process, GiB " + "".join(f"{name:>13}" for name in (*Memory.__dataclass_fields__, "total")),
        ]
        for (strategy, devices), memory in self.memory.items():
            parts = [getattr(memory, name) for name in Memory.__dataclass_fields__]
            values = "".join(f"{part / GIB:13.2f}" for part in (*parts, memory.total))
            rows.append(f"  {strategy + ' x ' + str(devices):20}{values}")
        rows.append(f"steps                 {self.steps:,}")
        rows.append(f"operations            {self.flops:.3g} FLOP")
        if self.written:
            rows.append(f"  of sampled answers  {self.written:.3g} FLOP more")
        rows.append(f"disk a checkpoint     {self.checkpoint / GIB:.2f} GiB")
        return "\n".join(rows)


def refuse_what_cannot_work(run: Run) -> None:
    """Refuse combinations that would fail after the weights are loaded.

    Raises:
        GemError: The combination, and one that works.
    """
    quantised, lora = run.net.get("quantization") is not None, run.net.get("lora") is not None
    if quantised and run.strategy in SHARDED:
        raise GemError(f"expected unquantised weights for strategy={run.strategy}, got quantised; use strategy=ddp")
    if lora and run.strategy in SHARDED:
        raise GemError(f"expected no adapters for strategy={run.strategy}, got lora; use strategy=ddp or single")
    if quantised and not lora:
        raise GemError("expected adapters on a quantised model, whose own weights cannot train; set model.net.lora")
    if quantised and not run.net.get("checkpoint"):
        raise GemError("expected model.net.checkpoint for a quantised model, got none; name a model's folder")
    check_compute(run.net)
    quantisation(run.net.get("quantization"))
    if lora:
        check_lora(run.net["lora"])
    check_loss((run.net.get("kernels") or Kernels()).loss, "cuda" if run.cuda else "cpu")
    if run.strategy == "fsdp" and not run.cuda:
        raise GemError("expected GPUs for strategy=fsdp, got none; use fsdp2, which also runs on CPUs")


def make_plan(
    run: Run,
    load: Load,
    answers: Answers | None = None,
    sampling: Sampling | None = None,
    others: Sequence[tuple[str, int]] = (),
) -> Plan:
    """Count parameters and estimate resources; weights are not read.

    Args:
        run: Its settings.
        load: Its data.
        answers: To the prompts that ``load`` counts, in policy and preference training.
        sampling: Of answers, in a step or before training.
        others: Further (strategy, devices) to show memory for.

    Raises:
        GemError: The combination cannot work.
    """
    refuse_what_cannot_work(run)
    config = config_for(run.net)
    layers = config.text_config.num_hidden_layers

    def shell(layers: int | None = None) -> Any:
        network = network_shell(run.net, config, layers)
        set_trainable(network, run.freeze, run.unfreeze)
        freeze_unreached(network)
        return network

    whole = shell()
    parameter_groups(whole, 1.0, 0.0, run.lr_by_pattern)  # a pattern that reaches nothing ends the run here
    parameters = {name: p for name, p in whole.named_parameters() if ".original_module." not in name}
    trainable = sum(p.numel() for p in parameters.values() if p.requires_grad)
    ecgs, tiles, labels = (round(load.largest[name]) for name in ("ecgs", "tiles", "labels"))
    setup = replace(setup_of(run), rows=load.rows, length=load.length, ecgs=ecgs, tiles=tiles, labels=labels)
    if answers is not None:
        setup = answers.setup(setup, copied=not only_adapters_train(whole))
    if sampling is not None and not sampling.once:
        setup = replace(setup, written=sampling.at_once)
    again = run.net.get("gradient_checkpointing")
    period = again if isinstance(again, int) and again > 1 else 1
    memory = {
        (strategy, devices): estimate_memory(shell, layers, replace(setup, strategy=strategy, devices=devices), period)
        for strategy, devices in [(run.strategy, run.devices), *others]
    }
    updates = 1 if answers is None else answers.updates
    steps = steps_of(run, load.batches * updates)
    batches = run.accumulate * steps / updates
    apart = run.net.get("lora") is not None and run.net.get("checkpoint") is not None
    kept = [p for p in parameters.values() if p.requires_grad or not apart]
    disk = sum(p.numel() * p.element_size() for p in kept) + trainable * setup.moments
    flops, written, reading = _costs(whole, run, load, batches, answers, sampling)
    total = sum(p.numel() for p in parameters.values())
    return Plan(total, trainable, memory, steps, flops, disk, written, reading)


def _costs(
    network: Any, run: Run, load: Load, batches: float, answers: Answers | None, sampling: Sampling | None
) -> tuple[float, float, float]:
    """Return ``flops``, ``written`` and ``reading`` of all ``batches``; the network's parameters are frozen after."""
    counter = FlopCounter(network)
    network.requires_grad_(False)
    forward, counts = FlopCounter(network), dict(load.mean)
    if answers is not None:
        shared = not recomputes(unwrapped(network))
        counts = with_answers(counts, load.rows, answers.group, answers.length, shared)
    batch = counter.count(counts).total
    if answers is not None and answers.reference:
        batch += forward.count(counts).total
    flops, written, reading = batch * batches * run.devices, 0.0, 0.0
    if sampling is not None:
        times, prompt = 1 if sampling.once else batches, {name: n / load.rows for name, n in load.mean.items()}
        config, item = unwrapped(network).config, next(network.parameters()).element_size()
        quantised = setup_of(run).quantised
        weights = sum(p.numel() * (quantised / 8 if quantised else p.element_size()) for p in network.parameters())
        cached = cache_bytes(config, config.text_config.num_hidden_layers, item)
        written = sampling.flops(forward, prompt) * times * (1 if sampling.once else run.devices)
        reading = sampling.reading(weights, prompt["tokens"], cached) * times
    return flops, written, reading


def steps_of(run: Run, batches: int) -> int:
    """Return the optimiser steps of a run whose epoch has ``batches`` batches on a process."""
    steps = math.ceil(batches / run.accumulate) * (run.epochs if run.epochs > 0 else 10**9)
    return min(steps, run.max_steps) if run.max_steps >= 0 else steps


def refuse_what_does_not_fit(plan: Plan, capacity: float) -> None:
    """Refuse a plan that needs more memory than a device has.

    Args:
        plan: Of the run.
        capacity: Bytes of one device.

    Raises:
        GemError: The estimate, by part, where it is more than there is.
    """
    if next(iter(plan.memory.values())).total > capacity:
        raise GemError(
            f"expected a step that fits into {capacity / GIB:.1f} GiB, got {_estimate(plan)}; {_LOWER}; "
            "check_memory=false starts nevertheless"
        )


def out_of_memory(error: BaseException, capacity: float, plan: Plan | None) -> GemError | None:
    """Explain an out-of-memory error; None for any other error.

    Args:
        error: From the training loop.
        capacity: Bytes of one device.
        plan: Of the run; None where there is no estimate.
    """
    on_cpu = isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
    if not (on_cpu or isinstance(error, torch.OutOfMemoryError | MemoryError)):
        return None
    reason = "the CPU's memory is used up" if on_cpu else str(error).strip().split(". ")[0] or type(error).__name__
    estimate = "" if plan is None else f", after {_estimate(plan)}"
    return GemError(f"expected a step that fits into {capacity / GIB:.1f} GiB, got {reason!r}{estimate}; {_LOWER}")


def _estimate(plan: Plan) -> str:
    """Format the estimate of the run's own memory, by part."""
    memory = next(iter(plan.memory.values()))
    parts = {name: getattr(memory, name) for name in Memory.__dataclass_fields__}
    shown = ", ".join(f"{name} {size / GIB:.1f}" for name, size in parts.items() if size > 0.05 * GIB)
    return f"an estimate of {memory.total / GIB:.2f} GiB" + (f" ({shown})" if shown else "")


def device_memory(cuda: bool) -> float:
    """Return the bytes of this process's GPU, or of the machine."""
    if cuda:
        return float(torch.cuda.get_device_properties(0).total_memory)
    return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def setup_of(run: Run) -> Setup:
    """Return what of a run's settings, apart from its batch, determines memory."""
    mixed = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(str(run.precision))
    quantised = run.net.get("quantization")
    return Setup(
        autocast=mixed,
        accumulate=run.accumulate,
        moments=2 if "8bit" in run.optimizer else 8,
        quantised=None if quantised is None else 8 if quantised == "int8" else 4,
        cuda=run.cuda,
    )


def measure_load(data: Any, devices: int, prompts: bool = False) -> Load:
    """Count the tokens of some training samples, the longest among them; signals are not read.

    Args:
        data: An ``InstructionDataModule``, prepared.
        devices: Processes of the run.
        prompts: Count samples without their last answer, whose tokens are ``labels``; it may be missing.

    Raises:
        GemError: None of these samples has an answer to learn from.
    """
    dataset = data.dataset("train")
    processor, rough = dataset.processor, dataset.samples.lengths
    spread = np.linspace(0, len(dataset) - 1, min(_SAMPLED, len(dataset))).astype(int)
    longest = np.argsort(rough)[-min(data.batch_size, _SAMPLED) :]
    counted = {int(i): _counts(dataset, processor, int(i), prompts) for i in {*spread, *longest}}
    if not prompts and not any(counts["labels"] for counts in counted.values()):
        first = dataset.samples[next(iter(counted))].id
        raise GemError(
            f"expected samples with answers to learn from, got none among {len(counted)} samples (the "
            f"first is {first!r}): give them turns from gpt, or raise data.max_length if these were cut off"
        )
    mean = {name: float(np.mean([counted[int(i)][name] for i in spread])) for name in counted[int(spread[0])]}
    largest = max((counted[int(i)] for i in longest), key=lambda counts: counts["tokens"])
    samples = len(dataset.samples.order(data.seed))
    if data.batches.pack_to is None:
        rows, length, each = data.batch_size, largest["tokens"], float(data.batch_size)
        most = {name: value * rows for name, value in largest.items()}
        batches = samples // (rows * devices)
    else:
        rows, length = data.batch_size, data.batches.pack_to
        # packs are filled to 98 % (docs/performance.md)
        each = rows * length * 0.98 / mean["tokens"]
        most = {name: value * each for name, value in mean.items()}
        batches = int(samples / (each * devices))
    return Load(samples, batches, rows, length, {name: value * each for name, value in mean.items()}, most)


def _counts(dataset: Any, processor: Any, index: int, prompt: bool) -> dict[str, int]:
    found = dataset.placeholders(index)
    ids, labels = found["input_ids"], found["labels"]
    if prompt:
        learnt = [at for at, label in enumerate(labels) if label != IGNORE_INDEX]
        first = max((at for at in learnt if at - 1 not in learnt), default=len(ids))  # of the last answer
        ids, labels = ids[:first], labels[first - 1 :]
    return {
        "tokens": len(ids),
        "squares": len(ids) ** 2,
        "labels": sum(label != IGNORE_INDEX for label in labels[1:]),
        "ecgs": ids.count(processor.ecg_token_id) // processor.ecg_tokens,
        "tiles": -(-ids.count(processor.image_token_id) // processor.image.tile_tokens),
    }
