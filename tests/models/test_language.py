"""Families of language models: those that work agree with transformers, the others are refused by one error."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from gem_lightning.errors import DataError
from gem_lightning.models import build_gem, build_processor, load_gem
from gem_lightning.models.language import TESTED

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
LLAMA_LIKE = SMALL | {"num_key_value_heads": 2, "intermediate_size": 64, "head_dim": 8, "sliding_window": 64}
LLAMA_LIKE |= {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "query_pre_attn_scalar": 8}
TALK = [{"from": "human", "value": "<ecg>\nWhat is it?"}, {"from": "gpt", "value": "A sinus rhythm."}]


@pytest.mark.parametrize("family", TESTED)
def test_a_family_works(family, parts, tokenizer, signal, tmp_path):
    fields = {"model_type": family, "vocab_size": len(tokenizer), **LLAMA_LIKE}
    own = AutoModelForCausalLM.from_config(AutoConfig.for_model(**fields)).eval()
    own.save_pretrained(tmp_path / "llm")
    net = {"llm": tmp_path / "llm", "ecg": parts["ecg"], "vision": "none"}
    model, processor = build_gem(**net), build_processor(tokenizer, net)
    item = processor.pad([processor.encode(TALK, ecgs=[signal])])
    model(**item).loss.backward()
    assert model.model.ecg_projector.weight.grad.abs().max() > 0
    model.eval()
    with torch.no_grad():
        words = torch.tensor([tokenizer("A sinus rhythm with a long PR interval.").input_ids])
        assert torch.equal(model(input_ids=words).logits, own(words).logits)
        asked = processor(text="<ecg>\nWhat is it?", ecgs=[signal])
        texts = [model.generate(**asked, max_new_tokens=4, do_sample=False, use_cache=use) for use in (True, False)]
        assert torch.equal(*texts)
        for part in (model, processor):
            part.save_pretrained(tmp_path / "ours")
        again = load_gem(tmp_path / "ours")[0]
        assert torch.equal(again(**asked).logits, model(**asked).logits)


OTHERS = {
    "gpt2": ({"n_embd": 32, "n_layer": 2, "n_head": 4}, "embeds by another name"),
    "opt": (SMALL | {"ffn_dim": 64, "word_embed_proj_dim": 32}, "embeds by another name"),
    "falcon": (SMALL, "embeds by another name"),
    "mamba": ({"hidden_size": 32, "num_hidden_layers": 2, "state_size": 8}, "keeps a state"),
    "gemma2": (LLAMA_LIKE, "changes its logits by final_logit_softcapping"),
    "cohere": (LLAMA_LIKE, "changes its logits by logit_scale"),
    "t5": ({"d_model": 32, "num_layers": 2, "num_heads": 4}, "is no causal language model"),
}


@pytest.mark.parametrize("family", OTHERS)
def test_a_family_that_does_not_fit_is_refused(family, parts, tokenizer, tmp_path):
    sizes, why = OTHERS[family]
    fields = {"model_type": family, "vocab_size": len(tokenizer), **sizes}
    AutoConfig.for_model(**fields).save_pretrained(tmp_path)  # refused before its weights are looked for
    for source in (fields, tmp_path):
        with pytest.raises(DataError, match=f"such as llama, .*, got {family}, which {why}"):
            build_gem(llm=source, ecg=parts["ecg"], vision="none")
