"""Log-probabilities with a shared cache equal those of whole rows, and so do their gradients."""

import pytest
import torch

from gem_lightning.rl.logps import completion_logps
from gem_lightning.rl.rollout import LocalRollout, rollout_seeds

GROUP = 3


@pytest.fixture
def written(policy, items):
    model, processor, encode = policy
    return LocalRollout(max_new_tokens=7)(model, processor, encode, items, rollout_seeds(0, 0, "abc", GROUP))


def plain(model, processor, encode, items, written, temperature):
    """Each row read alone by the network's ordinary forward pass, without padding, cache or positions."""
    rows = []
    for at in range(len(written.ids)):
        batch = encode([items[at // GROUP]])
        ids = written.ids[at][written.mask[at]]
        batch["input_ids"] = torch.cat([batch["input_ids"], ids[None]], 1)
        batch["attention_mask"] = torch.ones_like(batch["input_ids"])
        logits = model(**batch).logits[0, -len(ids) - 1 : -1].float() / temperature
        rows.append(logits.log_softmax(-1).gather(1, ids[:, None])[:, 0])
    return rows


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("shared", [True, False])
def test_cached_is_plain(policy, items, written, shared, temperature):
    model, _, encode = policy
    with torch.no_grad():
        found = completion_logps(model, encode, items, written.ids, written.mask, temperature, shared)
        for row, truth in enumerate(plain(*policy, items, written, temperature)):
            assert torch.allclose(found[row][written.mask[row]], truth, atol=1e-5, rtol=0)


def test_the_rollout_reports_the_same(policy, items, written):
    with torch.no_grad():
        for row, truth in enumerate(plain(*policy, items, written, 1.0)):
            assert torch.allclose(written.logps[row][written.mask[row]], truth, atol=1e-5, rtol=0)


def test_gradients_go_through_the_shared_cache(policy, items, written):
    model, _, encode = policy
    gradients = []
    for shared in (True, False):
        model.zero_grad()
        logps = completion_logps(model, encode, items, written.ids, written.mask, shared=shared)
        logps[written.mask].sum().backward()
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    model.zero_grad()
    assert gradients[0].keys() == gradients[1].keys() and "model.ecg_projector.weight" in gradients[0]
    for name, value in gradients[0].items():
        assert torch.allclose(value, gradients[1][name], atol=1e-4, rtol=1e-4), name
