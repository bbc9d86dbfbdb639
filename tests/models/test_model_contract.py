"""What transformers' ``ModelTesterMixin`` checks of a model, as far as it applies to one with placeholders."""

import copy

import pytest
import torch

from gem_lightning.models import GemForConditionalGeneration
from gem_lightning.models.configuration_gem import IGNORE_INDEX


@pytest.fixture
def batch(tiny, signal, picture):
    """Two samples of unequal length, one with a signal and an image."""
    _, processor = tiny

    def turns(question, answer):
        return [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]

    shown = processor.encode(turns("<image>\nRate?", "70"), [signal], [picture])
    return [shown, processor.encode(turns("Which rate is usual at rest?", "60 to 100 bpm"))], processor


def logits(net, inputs, **more):
    with torch.inference_mode():
        return net(**{name: value for name, value in inputs.items() if name != "labels"}, **more)


def test_the_side_of_the_padding_changes_no_logit(tiny, batch):
    net, (items, processor) = tiny[0].eval(), batch
    right, left = (processor.pad(items, side) for side in ("right", "left"))
    found = [logits(net, inputs).logits[inputs["attention_mask"].bool()] for inputs in (right, left)]
    assert torch.allclose(*found, atol=1e-5)


def test_hidden_states_and_attentions_have_the_lengths_of_the_ids(tiny, batch):
    net, (items, processor) = tiny[0].eval(), batch
    inputs = processor.pad(items)
    net.set_attn_implementation("eager")
    out = logits(net, inputs, output_hidden_states=True, output_attentions=True)
    config, (rows, length) = net.config.text_config, inputs["input_ids"].shape
    assert [tuple(h.shape) for h in out.hidden_states] == [(rows, length, config.hidden_size)] * (
        config.num_hidden_layers + 1
    )
    assert [tuple(a.shape) for a in out.attentions] == [
        (rows, config.num_attention_heads, length, length)
    ] * config.num_hidden_layers
    listed = logits(net, inputs, return_dict=False)
    assert torch.equal(listed[0], out.logits)


def test_attention_kernels_agree(tiny, batch):
    net, (items, processor) = tiny[0].eval(), batch
    inputs = processor.pad(items)
    mask = inputs["attention_mask"].bool()
    found = []
    for kernel in ("sdpa", "eager"):
        net.set_attn_implementation(kernel)
        found.append(logits(net, inputs).logits[mask])
    assert torch.allclose(*found, atol=1e-5)


def test_a_longer_vocabulary_leaves_placeholders_and_logits_as_they_are(tiny, batch):
    net, (items, processor) = tiny[0].eval(), batch
    inputs = processor.pad(items)
    before, size = logits(net, inputs).logits, net.config.text_config.vocab_size
    net.resize_token_embeddings(size + 8)
    after = logits(net, inputs).logits
    assert after.shape[-1] == net.config.text_config.vocab_size == size + 8
    assert net.get_input_embeddings().weight.shape[0] == net.get_output_embeddings().weight.shape[0] == size + 8
    assert torch.allclose(after[..., :size], before, atol=1e-6)


def test_embeddings_can_be_exchanged(tiny):
    net, _ = tiny
    for get, set_ in (
        (net.get_input_embeddings, net.set_input_embeddings),
        (net.get_output_embeddings, net.set_output_embeddings),
    ):
        other = copy.deepcopy(get())
        set_(other)
        assert get() is other


def test_a_tied_head_is_tied_again_after_loading(parts, tokenizer, tmp_path):
    from gem_lightning.models import build_gem

    net = build_gem(**parts | {"llm": parts["llm"] | {"tie_word_embeddings": True}})
    assert net.lm_head.weight is net.get_input_embeddings().weight
    net.save_pretrained(tmp_path)
    again = GemForConditionalGeneration.from_pretrained(tmp_path)
    assert again.lm_head.weight is again.get_input_embeddings().weight
    assert torch.equal(again.lm_head.weight, net.lm_head.weight)


def test_what_is_saved_comes_back_tensor_by_tensor_in_any_dtype(tiny, tmp_path):
    net, _ = tiny
    net.save_pretrained(tmp_path, max_shard_size="200KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    for dtype in (torch.float32, torch.bfloat16):
        again = GemForConditionalGeneration.from_pretrained(tmp_path, dtype=dtype).state_dict()
        assert again.keys() == net.state_dict().keys()
        for name, tensor in net.state_dict().items():
            assert torch.equal(again[name], tensor.to(dtype)), name


def test_every_part_gets_a_gradient_and_ignored_labels_none(tiny, batch):
    net, (items, processor) = tiny[0].train(), batch
    inputs = processor.pad(items)
    net.requires_grad_(True)
    net(**inputs).loss.backward()
    parts = {"ecg_tower", "vision_tower", "ecg_projector", "language_model", "lm_head"}
    reached = {part for part in parts for n, p in net.named_parameters() if part in n and p.grad is not None}
    assert reached == parts
    net.zero_grad()
    ignored = dict(inputs) | {"labels": torch.full_like(inputs["labels"], IGNORE_INDEX)}
    assert float(net(**ignored).loss.detach()) == 0.0


def test_two_copies_of_one_seed_are_equal(parts):
    from gem_lightning.models import build_gem

    nets = []
    for _ in range(2):
        torch.manual_seed(5)
        nets.append(build_gem(**parts))
    for (name, one), two in zip(nets[0].named_parameters(), nets[1].parameters(), strict=True):
        assert torch.equal(one, two), name
        assert torch.isfinite(one).all(), name
