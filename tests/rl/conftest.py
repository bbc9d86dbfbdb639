"""A network of random weights, and prompts about simulated ECGs."""

import dataclasses

import pytest
import torch

from gem_lightning.data.mixture import Mixture
from gem_lightning.rl.prompts import PromptDataset, SimulatedPrompts
from gem_lightning.rl.rollout import encoder_of


@pytest.fixture(scope="session")
def prompts():
    return SimulatedPrompts(
        3, seed=4, question="Rate?", answers=["Rate {heart_rate_bpm:.0f} bpm."], ranges={"heart_rate": (50, 110)}
    )


@pytest.fixture(scope="session")
def dataset(tiny_gem, prompts):
    return PromptDataset(Mixture(prompts), tiny_gem.processor)


@pytest.fixture(scope="session")
def items(dataset):
    """Three prompts, one of them shorter."""
    made = [dataset[row] for row in range(3)]
    shorter = {name: made[1][name][2:] for name in ("input_ids", "labels")}
    return [made[0], {**made[1], **shorter}, made[2]]


@pytest.fixture
def policy(tiny_gem):
    """(network with enough spread to write different texts, processor, encoder)."""
    torch.manual_seed(1)
    model = tiny_gem.model.eval()
    return model, tiny_gem.processor, encoder_of(model, tiny_gem.processor)


def slim(done, row):
    """One completion as plain values."""
    fields = {f.name: getattr(done, f.name)[row] for f in dataclasses.fields(done)}
    return fields["ids"][fields["mask"]].tolist(), fields["texts"] if "texts" in fields else done.texts[row]
