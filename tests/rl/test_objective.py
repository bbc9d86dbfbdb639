"""Advantages, clipping, divergence and preferences against their definitions."""

import math

import pytest
import torch

from gem_lightning.errors import GemError
from gem_lightning.rl.objective import GrpoOptions, dpo_loss, group_advantages, k3_divergence, policy_loss

YES = torch.ones(2, 3, dtype=torch.bool)


def test_advantages_compare_within_a_group():
    rewards = torch.tensor([[0.0, 1.0, 2.0, 3.0], [5.0, 5.0, 5.0, 5.0]])
    found = group_advantages(rewards)
    assert torch.allclose(found[0], (rewards[0] - 1.5) / rewards[0].std(correction=0))
    assert torch.equal(found[1], torch.zeros(4))
    assert torch.equal(group_advantages(rewards, "none")[0], rewards[0] - 1.5)
    # another group's level is no matter
    assert torch.allclose(group_advantages(rewards + torch.tensor([[9.0], [0.0]]))[0], found[0], atol=1e-5)


def test_zero_advantage_gives_zero_policy_gradient():
    logps = torch.randn(2, 3, requires_grad=True)
    loss, clipped = policy_loss(logps, torch.randn(2, 3), torch.zeros(2), YES, GrpoOptions())
    loss.backward()
    assert loss.item() == 0 and int(clipped) == 0
    assert torch.equal(logps.grad, torch.zeros(2, 3))


def test_on_policy_the_gradient_is_the_advantage_of_each_written_token():
    logps = torch.randn(2, 3, requires_grad=True)
    mask = torch.tensor([[True, True, False], [True, False, False]])
    policy_loss(logps, logps.detach(), torch.tensor([2.0, -1.0]), mask, GrpoOptions())[0].backward()
    assert torch.allclose(logps.grad, torch.tensor([[-2.0, -2.0, 0.0], [1.0, 0.0, 0.0]]))


@pytest.mark.parametrize(
    ("ratio", "advantage", "expected"),
    [(1.5, 1.0, 0.0), (1.27, 1.0, -1.27), (0.5, 1.0, -0.5), (0.5, -1.0, 0.0), (0.81, -1.0, 0.81), (1.5, -1.0, 1.5)],
)
def test_a_token_that_moved_far_enough_gains_no_more(ratio, advantage, expected):
    """The gradient of the log-probability is -ratio * advantage inside the range, 0 where the surrogate is clipped."""
    logps = torch.tensor([[math.log(ratio)]], requires_grad=True)
    loss, clipped = policy_loss(logps, torch.zeros(1, 1), torch.tensor([advantage]), YES[:1, :1], GrpoOptions())
    loss.backward()
    assert float(logps.grad) == pytest.approx(expected, abs=1e-6)
    assert int(clipped) == (expected == 0)


def test_k3_is_an_unbiased_divergence():
    torch.manual_seed(0)
    policy, reference = (torch.randn(6).log_softmax(0) for _ in range(2))
    drawn = torch.multinomial(policy.exp(), 400_000, replacement=True)
    found = k3_divergence(policy[drawn][None], reference[drawn][None], torch.ones(1, len(drawn), dtype=torch.bool))
    truth = (policy.exp() * (policy - reference)).sum()
    assert float(found) / len(drawn) == pytest.approx(float(truth), rel=0.02)
    assert float(k3_divergence(policy[None], policy[None], torch.ones(1, 6, dtype=torch.bool))) == 0
    off = torch.zeros(1, 6, dtype=torch.bool)
    assert float(k3_divergence(policy[None], reference[None], off)) == 0


def test_dpo_raises_the_preferred_text():
    chosen, rejected = (torch.tensor([0.3], requires_grad=True) for _ in range(2))
    loss, margin = dpo_loss(chosen, rejected, 0.1)
    loss.sum().backward()
    assert float(loss) == pytest.approx(math.log(2)) and float(margin) == 0
    assert float(chosen.grad) == pytest.approx(-0.05) and float(rejected.grad) == pytest.approx(0.05)


@pytest.mark.parametrize(
    "wrong",
    [{"group": 1}, {"updates": 0}, {"micro_prompts": 0}, {"clip_low": 0}, {"beta": -1}, {"scale": "max"},
     {"max_grad_norm": 0}],
)  # fmt: skip
def test_settings_that_no_run_can_have(wrong):
    with pytest.raises(GemError, match="expected"):
        GrpoOptions(**wrong)
