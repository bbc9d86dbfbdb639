"""Completions depend on their seed alone, follow the policy's distribution, and end where they end."""

import pytest
import torch

from gem_lightning.errors import GemError
from gem_lightning.models.inference.generation import generate_encoded
from gem_lightning.rl.rollout import LocalRollout, rollout_seeds, sample


def test_a_completion_depends_on_its_seed_alone(policy, items):
    model, processor, encode = policy
    write = LocalRollout(max_new_tokens=8)
    seeds = rollout_seeds(0, 5, ["a", "b", "c"], 4)
    together = write(model, processor, encode, items, seeds)
    apart = LocalRollout(max_new_tokens=8, prompts=1)(model, processor, encode, items, seeds)
    assert together.texts == apart.texts and torch.equal(together.mask, apart.mask)
    assert torch.allclose(together.logps, apart.logps, atol=1e-5)
    one = write(model, processor, encode, items[1:2], seeds[4:8])
    assert one.texts == together.texts[4:8]
    assert len(set(together.texts)) > 6  # texts differ within a group


def test_global_random_state_takes_no_part(policy, items):
    model, processor, encode = policy
    seeds = rollout_seeds(0, 5, ["a", "b", "c"], 2)
    first = LocalRollout(6)(model, processor, encode, items, seeds).texts
    torch.manual_seed(123)
    state = torch.get_rng_state()
    assert LocalRollout(6)(model, processor, encode, items, seeds).texts == first
    assert torch.equal(torch.get_rng_state(), state)


def test_seeds_differ_by_run_step_prompt_and_place():
    found = [seed for run in (0, 1) for step in (0, 1) for seed in rollout_seeds(run, step, ["a", "b"], 3)]
    assert len(set(found)) == len(found) == 24


def test_greedy_is_what_generate_writes(policy, items):
    model, processor, encode = policy
    found = LocalRollout(10, temperature=0.0)(model, processor, encode, items, [0] * len(items))
    assert found.texts == generate_encoded(model, processor, items, max_new_tokens=10)


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_tokens_follow_the_distribution(temperature):
    torch.manual_seed(0)
    logits = torch.randn(7)
    count = 200_000
    draws = torch.rand(count, dtype=torch.float64)
    tokens, logps = sample(logits.expand(count, -1), draws, temperature)
    expected = (logits / temperature).softmax(0)
    shares = torch.bincount(tokens, minlength=7) / count
    # four standard errors of a share
    assert torch.all((shares - expected).abs() < 4 * (expected * (1 - expected) / count).sqrt())
    assert torch.allclose(logps, expected.log()[tokens], atol=1e-5)


def test_the_ends_of_the_unit_interval_are_tokens():
    logits = torch.tensor([[-torch.inf, 0.0, 1.0, -torch.inf]])
    tokens = [int(sample(logits, torch.tensor([draw], dtype=torch.float64), 1.0)[0]) for draw in (0.0, 1 - 1e-16)]
    assert tokens == [1, 2]


def test_a_text_ends_at_its_end(policy, items):
    """After the end nothing counts; a text without one is not ended."""
    model, processor, encode = policy
    done = LocalRollout(40)(model, processor, encode, items, rollout_seeds(0, 0, "abc", 8))
    end = processor.tokenizer.eos_token_id
    for row in range(len(done.ids)):
        written = done.ids[row][done.mask[row]].tolist()
        assert bool(done.ended[row]) == (written[-1] == end)
        assert end not in written[:-1]
        assert len(written) == (40 if not done.ended[row] else len(written))
    some = done.rows(2, 5)
    assert some.ids.shape[1] == int(done.mask[2:5].sum(1).max()) and some.texts == done.texts[2:5]


def test_settings_that_cannot_be():
    for wrong in ({"max_new_tokens": 0}, {"prompts": 0}, {"temperature": -1}):
        with pytest.raises(GemError, match="expected max_new_tokens"):
            LocalRollout(**wrong)
