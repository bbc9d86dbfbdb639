"""Rollouts by a stand-in with vLLM's documented interface: the policy's present weights and its own embeddings."""

import copy
import sys
import types

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from gem_lightning.errors import CheckpointError, GemError
from gem_lightning.models.inference.vllm import export_vllm
from gem_lightning.models.lora import add_lora
from gem_lightning.rl.rollout import LocalRollout, encoder_of
from gem_lightning.rl.vllm_rollout import VllmRollout


class StandIn:
    """Greedy texts of transformers' plain model; weights come by ``apply_model``."""

    class SamplingParams(types.SimpleNamespace):
        pass

    class LLM:
        def __init__(self, model, enable_prompt_embeds):
            self.model = AutoModelForCausalLM.from_pretrained(model).eval()
            self.model.load_weights = lambda rows: self.model.load_state_dict(dict(rows), strict=True)
            self.tokenizer = AutoTokenizer.from_pretrained(model)

        def apply_model(self, function):
            return [function(self.model)]

        def generate(self, requests, parameters):
            answers = []
            for request, own in zip(requests, parameters, strict=True):
                assert own.temperature == 0.0 and isinstance(own.seed, int)
                with torch.inference_mode():
                    ids = self.model.generate(
                        inputs_embeds=request["prompt_embeds"][None].clone(),
                        max_new_tokens=own.max_tokens, do_sample=False, pad_token_id=2,
                    )[0].tolist()  # fmt: skip
                ended = ids[-1] == self.tokenizer.eos_token_id
                one = types.SimpleNamespace(token_ids=ids, finish_reason="stop" if ended else "length")
                answers.append(types.SimpleNamespace(outputs=[one] * own.n))
            return answers


@pytest.fixture
def rollout(tiny_gem, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", StandIn)
    return VllmRollout(export_vllm(tiny_gem, tmp_path / "export"), max_new_tokens=6, temperature=0.0)


@pytest.mark.parametrize("lora", [False, True])
def test_it_writes_with_the_weights_of_the_moment(tiny_gem, rollout, items, lora):
    model, processor = copy.deepcopy(tiny_gem.model), tiny_gem.processor
    model = add_lora(model, r=4).eval() if lora else model
    encode, seeds = encoder_of(model, processor), [1] * (2 * len(items))
    before = rollout(model, processor, encode, items, seeds)
    torch.manual_seed(3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and "tower" not in name and "norm" not in name:
                parameter.add_(0.5 * torch.randn_like(parameter))
    found = rollout(model, processor, encode, items, seeds)
    truth = LocalRollout(6, temperature=0.0)(model, processor, encode, items, seeds)
    assert found.texts == truth.texts != before.texts
    assert torch.equal(found.mask, truth.mask) and torch.equal(found.ended, truth.ended)
    assert torch.equal(found.ids[found.mask], truth.ids[truth.mask])
    assert found.logps is None


def test_what_it_cannot_do(tiny_gem, rollout, items, tmp_path, monkeypatch):
    encode = encoder_of(tiny_gem.model, tiny_gem.processor)
    with pytest.raises(GemError, match="strategy=ddp"):
        rollout(tiny_gem.model, tiny_gem.processor, encode, items, [1, 2, 3], synchronous=True)
    with pytest.raises(CheckpointError, match="gem-lightning export vllm"):
        VllmRollout(tmp_path)
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(GemError, match="pip install vllm"):
        rollout(tiny_gem.model, tiny_gem.processor, encode, items, [1, 2, 3])
