"""Plans of encoders, policies and preferences: closed forms, and what a step of a small network takes."""

import math
from functools import partial

import pytest
import torch
from torch import nn

from gem_lightning.errors import GemError
from gem_lightning.lit import DpoModule, GrpoModule
from gem_lightning.lit.coca_module import CocaLitModule
from gem_lightning.lit.plan import Load, Run, make_plan
from gem_lightning.lit.plan_stages import of_answers, plan_encoder, unwritten
from gem_lightning.models import build_gem
from gem_lightning.models.planning.answers import Answers, Sampling, with_answers
from gem_lightning.models.planning.flops import FlopCounter
from gem_lightning.rl.best_of import BestOf
from gem_lightning.rl.objective import GrpoOptions
from gem_lightning.rl.prompts import SimulatedPrompts
from gem_lightning.rl.rollout import LocalRollout
from gem_lightning.train import print_plan
from helpers_rl import SIZES, Spread

ROWS, WIDTH, HIDDEN, OUT = 32, 24, 40, 8


class Batches:
    """A DataModule of ``count`` equal batches."""

    def __init__(self, count):
        self.sources, self.batches = {}, [{"x": torch.randn(ROWS, WIDTH), "index": [0]}] * count

    def prepare_data(self):
        pass

    def setup(self, stage):
        pass

    def train_dataloader(self):
        return self.batches


def two_layers():
    return nn.Sequential(nn.Linear(WIDTH, HIDDEN, bias=False), nn.Linear(HIDDEN, OUT, bias=False))


def test_an_encoder_costs_what_its_layers_do():
    module = CocaLitModule(two_layers, lambda net, batch: {"loss": net(batch["x"]).square().mean()})
    plan = plan_encoder(Run(net={}, epochs=3, devices=2, accumulate=2, cuda=False), module, Batches(9))
    first, second = WIDTH * HIDDEN, HIDDEN * OUT
    # weights, their gradients, and of the second layer its input's; the data need none
    step = ROWS * (2 * first * 2 + 2 * second * 3)
    assert plan.parameters == plan.trainable == first + second
    assert plan.steps == math.ceil(9 // 2 / 2) * 3
    assert plan.flops == step * plan.steps * 2 * 2
    (memory,) = plan.memory.values()
    assert memory.weights == 4 * (first + second) and memory.optimizer == 8 * (first + second)
    # the input, what lies between the layers, and the output that is squared
    assert memory.activations == 4 * ROWS * (WIDTH + HIDDEN + OUT)
    assert plan.checkpoint == 12 * (first + second)


PROMPT, GROUP, ANSWER = 50, 4, 20


def prompts_of(rows, length=PROMPT):
    counts = {"tokens": rows * length, "squares": rows * length**2, "labels": 0, "ecgs": rows, "tiles": 0}
    return Load(samples=40 * rows, batches=40, rows=rows, length=length, mean=counts, largest=counts)


@pytest.mark.parametrize("shared", [True, False])
def test_answers_count_each_token_with_those_before_it(shared):
    found = with_answers(prompts_of(3).mean, 3, GROUP, ANSWER, shared)
    read = range(PROMPT + 1, PROMPT + ANSWER + 1)  # tokens that each token of an answer sees, itself included
    pairs = 3 * ((1 if shared else GROUP) * PROMPT * (PROMPT + 1) / 2 + GROUP * sum(read))
    assert (found["squares"] + found["tokens"]) / 2 == pairs
    assert found["labels"] == 3 * GROUP * ANSWER and found["ecgs"] == 3


@pytest.mark.parametrize(("beta", "copies"), [(0.04, 2), (0.0, 1)])
def test_a_policy_reads_its_answers_with_both_networks(beta, copies):
    options = GrpoOptions(group=GROUP, updates=2, micro_prompts=2, beta=beta)
    module = GrpoModule(partial(build_gem, **SIZES), Spread.reward(), LocalRollout(ANSWER, prompts=4), options)
    load, answers, sampling = of_answers(module, prompts_of(8))
    run = Run(net=SIZES, epochs=-1, max_steps=10, cuda=False)
    plan = make_plan(run, load, answers, sampling)
    network = build_gem(**SIZES)
    counts = with_answers(load.mean, 8, GROUP, ANSWER)
    policy = FlopCounter(network).count(counts).total
    forward = FlopCounter(network.requires_grad_(False)).count(counts).total
    assert plan.steps == 10
    assert plan.flops == pytest.approx(5 * (policy + (forward if beta else 0)))  # two steps on each of five batches
    assert plan.written == pytest.approx(5 * forward)
    weights = sum(p.numel() * 4 for p in network.parameters())
    cached = 2 * 2 * 64 * 4  # keys and values of two layers
    each = ANSWER * (2 * weights + 8 * GROUP * (PROMPT + ANSWER / 2) * cached)  # prompts in two parts
    assert plan.reading == pytest.approx(5 * each)
    assert plan.sampling_hours(2.0) == pytest.approx(plan.reading / 2e12 / 3600)
    (memory,) = plan.memory.values()
    assert memory.weights == copies * weights


def test_adapters_need_no_copy_of_the_weights():
    load, answers = prompts_of(4), Answers(2, ANSWER)
    kept = {"freeze": ["model.*_projector.*", "model.ecg_tower.*"]}
    (adapted,) = make_plan(Run(net=SIZES | {"lora": {"r": 2}}, **kept), load, answers).memory.values()
    (copied,) = make_plan(Run(net=SIZES, **kept), load, answers).memory.values()
    assert adapted.weights < 0.6 * copied.weights


def test_answers_that_a_model_would_write_are_planned_without_it(tmp_path):
    source = SimulatedPrompts(6, seed=1)
    writer = BestOf(tmp_path, source, tmp_path, Spread.reward(), n=GROUP, rollout=LocalRollout(ANSWER, prompts=4))
    data = Batches(1)
    data.sources["train"] = writer
    assert unwritten(data) is writer and data.sources["train"] is source and unwritten(data) is None
    prompts = prompts_of(4)
    load, answers, sampling = of_answers(None, prompts, writer)
    assert answers is None and load.length == PROMPT + ANSWER and load.mean["labels"] == 4 * ANSWER
    assert load.mean["squares"] == 4 * (PROMPT + ANSWER) ** 2
    assert sampling == Sampling(prompts.samples, GROUP, ANSWER, 4, once=True)
    assert of_answers(DpoModule(lambda: None), prompts, writer)[1] == Answers(2, ANSWER)


def test_a_module_without_losses_says_how_to_time_it():
    with pytest.raises(GemError, match=r"not counted; leave it out and time a short run: trainer\.max_steps=20"):
        print_plan({}, Batches(1), nn.Linear(2, 2), None)
