"""Plans of what is no supervised training of a GEM: encoders, policies, preferences, rejection sampling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from gem_lightning.lit.dpo_module import DpoModule
from gem_lightning.lit.grpo_module import GrpoModule
from gem_lightning.lit.plan import Load, Plan, Run, make_plan, measure_load, setup_of, steps_of
from gem_lightning.models.planning.answers import Answers, Sampling, with_answers
from gem_lightning.models.planning.memory import estimate_step_memory
from gem_lightning.models.planning.trace import trace_step, without_data
from gem_lightning.rl.best_of import BestOf


def plan_encoder(run: Run, module: Any, data: Any, others: Sequence[tuple[str, int]] = ()) -> Plan:
    """Plan any module with ``losses(batch)``: one of its steps is run on tensors without data.

    The operations are those of the network alone; data that are simulated or drawn for each batch take longer than a
    small network.

    Args:
        run: Its settings; ``net`` is not read.
        module: Whose network is built here.
        data: Its DataModule, prepared; one batch is read.
        others: Further (strategy, devices) to show memory for.
    """
    module.configure_model()
    network = module.net.train()
    data.setup("fit")
    loader = data.train_dataloader()
    batch = next(iter(loader))
    with FakeTensorMode() as mode:
        without_data(network)
        given = {name: mode.from_tensor(v) if isinstance(v, Tensor) else v for name, v in batch.items()}
        setup = setup_of(run)
        step = trace_step(network, lambda: torch.stack([*module.losses(given).values()]).sum(), setup.autocast)
        memory = {
            (strategy, devices): estimate_step_memory(network, replace(setup, strategy=strategy, devices=devices), step)
            for strategy, devices in [(run.strategy, run.devices), *others]
        }
    parameters = list(network.parameters())
    trainable = sum(p.numel() for p in parameters if p.requires_grad)
    steps = steps_of(run, len(loader) // run.devices)
    flops = step.flops * steps * run.accumulate * run.devices
    disk = sum(p.numel() * p.element_size() for p in parameters) + trainable * setup.moments
    return Plan(sum(p.numel() for p in parameters), trainable, memory, steps, flops, disk)


def unwritten(data: Any) -> BestOf | None:
    """Replace training samples that a model would write first by their prompts; returns what would write them."""
    source = data.sources.get("train")
    if not isinstance(source, BestOf):
        return None
    data.sources["train"] = source.prompts
    return source


def plan_gem(
    run: Run, module: Any, data: Any, writer: BestOf | None = None, others: Sequence[tuple[str, int]] = ()
) -> Plan:
    """Plan a GEM's training of any kind; answers that do not exist yet count at their longest.

    Args:
        run: Its settings.
        module: A ``GemLitModule``, ``GrpoModule`` or ``DpoModule``.
        data: Its DataModule, prepared.
        writer: From :func:`unwritten`.
        others: Further (strategy, devices) to show memory for.
    """
    policy = isinstance(module, GrpoModule | DpoModule)
    load = measure_load(data, run.devices, prompts=policy or writer is not None)
    return make_plan(run, *of_answers(module, load, writer), others=others)


def of_answers(module: Any, load: Load, writer: BestOf | None = None) -> tuple[Load, Answers | None, Sampling | None]:
    """Return the load, and the answers that training reads and samples.

    Args:
        module: A ``GemLitModule``, ``GrpoModule`` or ``DpoModule``.
        load: Of its data; of prompts in policy and preference training and where a ``writer`` is given.
        writer: Samples the answers to train on before training.
    """
    if isinstance(module, GrpoModule):
        options, rollout = module.options, module.rollout
        length = getattr(rollout, "max_new_tokens", 256)
        at_once = min(getattr(rollout, "prompts", load.rows), load.rows)
        answers = Answers(options.group, length, options.micro_prompts, options.updates, options.beta > 0)
        return load, answers, Sampling(load.rows, options.group, length, at_once)
    length, sampling = max(1, round(load.largest["labels"] / load.rows)), None
    if writer is not None:
        length = writer.rollout.max_new_tokens
        sampling = Sampling(load.samples, writer.n, length, writer.rollout.prompts, once=True)
    if isinstance(module, DpoModule):
        return load, Answers(2, length), sampling
    if writer is not None:
        mean, largest = (with_answers(counts, load.rows, 1, length) for counts in (load.mean, load.largest))
        load = replace(load, length=load.length + length, mean=mean, largest=largest)
    return load, None, sampling
