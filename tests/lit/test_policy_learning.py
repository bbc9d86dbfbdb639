"""What policy training learns: a true rate with the claim score; with precision alone, to state nothing."""

import statistics

import pytest

from gem_lightning.models import Gem
from gem_lightning.rl.rewards import Precision, Reward
from helpers_rl import HELD_OUT, grpo, judged, questions, save_forms, save_start

POOL = 121  # seed of the patients of policy training
STEPS, LR = 14, 6e-4


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """A model whose rates are about half right."""
    folder = tmp_path_factory.mktemp("start")
    save_start(folder, records=300, steps=200)
    return folder


def sampled(net):
    return judged(net, questions(64, HELD_OUT), temperature=1.0, draws=8)


@pytest.mark.slow
def test_the_rate_improves_by_three_standard_errors(start):
    before = sampled(Gem.from_pretrained(start).model)
    after = [sampled(grpo(start, questions(96, POOL), STEPS, seed=seed, lr=LR).net) for seed in range(3)]
    for name in ("precision", "right"):
        gains = [run[name] - before[name] for run in after]
        assert statistics.mean(gains) >= 3 * statistics.stdev(gains) / len(gains) ** 0.5 > 0, (name, before, after)
    assert min(run["states_rate"] for run in after) > before["states_rate"] - 0.02  # nothing is left out


@pytest.mark.slow
def test_precision_alone_is_hacked_and_the_claim_score_is_not(start, tmp_path):
    """From a model that states the rate, what is always true, or both."""
    save_forms(start, tmp_path)
    before = sampled(Gem.from_pretrained(tmp_path).model)
    settings = {"lr": LR, "longest": 20}
    score = sampled(grpo(tmp_path, questions(96, POOL), STEPS, **settings).net)
    alone = sampled(grpo(tmp_path, questions(96, POOL), STEPS, reward=Reward(p=Precision()), **settings).net)
    assert alone["precision"] > before["precision"] and alone["states_rate"] < before["states_rate"] - 0.1
    assert score["states_rate"] > before["states_rate"] and score["right"] > before["right"]
