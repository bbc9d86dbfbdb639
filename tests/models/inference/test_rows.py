"""Decoding of batches: the texts of ``generate``, though ended rows leave; the cache grows as transformers' own."""

import copy

import pytest
import torch
from transformers import DynamicCache, StoppingCriteria, StoppingCriteriaList
from transformers.generation.streamers import BaseStreamer

from gem_lightning.ecg import simulate
from gem_lightning.models.inference import cache, generation
from gem_lightning.models.inference.generation import encode_example, generate_encoded


class EndsAfter(StoppingCriteria):
    """Ends each row after a number of tokens of its own."""

    def __init__(self, lengths):
        self.lengths, self.steps = torch.tensor(lengths), 0

    def __call__(self, input_ids, scores, **kwargs):
        self.steps += 1
        return self.steps >= self.lengths


class Kept(BaseStreamer):
    """Keeps the tokens of every step."""

    def __init__(self):
        self.steps = []

    def put(self, value):
        self.steps.append(value.tolist())

    def end(self):
        self.steps.append("end")


@pytest.fixture(scope="module")
def items(tiny_gem):
    kinds = ("sinus", "lbbb", "atrial_fibrillation", "av_block_1")
    prepared = [tiny_gem.prepare(simulate(code, seed=i).record, None, {}) for i, code in enumerate(kinds)]
    asked = [tiny_gem.example(one, "Rate, please? " * (1 + i % 2)) for i, one in enumerate(prepared)]
    return [encode_example(tiny_gem.processor, example) for example in asked]


def decoded(gem, items, monkeypatch, own_loop, lengths=(3, 6, 9, 6), **settings):
    """Texts, tokens of every step, and rows of the language model's every pass."""
    rows, streamer = [], Kept()
    tower = gem.model.model.language_model
    count = lambda module, _, given: rows.append(len(given["inputs_embeds"]))  # noqa: E731
    hook = tower.register_forward_pre_hook(count, with_kwargs=True)
    more = {"streamer": streamer, "stopping_criteria": StoppingCriteriaList([EndsAfter(list(lengths))]), **settings}
    with monkeypatch.context() as patched:
        if not own_loop:
            patched.setattr(generation, "_BY_ROW", frozenset())
            patched.setattr(generation, "growing_cache", lambda model: DynamicCache(config=model.config.text_config))
        texts = generate_encoded(gem.model, gem.processor, items, 9, len(items), **more)
    hook.remove()
    return texts, streamer.steps, rows


@pytest.mark.parametrize("sampled", [{}, {"do_sample": True, "temperature": 1.5, "top_k": 20}])
def test_ended_rows_leave_and_every_text_stays(tiny_gem, items, monkeypatch, sampled):
    torch.manual_seed(3)
    expected = decoded(tiny_gem, items, monkeypatch, False, **sampled)
    torch.manual_seed(3)
    found = decoded(tiny_gem, items, monkeypatch, True, **sampled)
    assert found[:2] == expected[:2]
    assert len({len(text) for text in found[0]}) > 1
    assert expected[2][-6:] == [4] * 6 and found[2][-6:] == [3] * 3 + [1] * 3


def test_seeded_rows_draw_what_they_draw_alone(tiny_gem, items, monkeypatch):
    settings = {"seeds": [5, 6, 7, 8], "do_sample": True, "temperature": 1.5}
    found, expected = (decoded(tiny_gem, items, monkeypatch, own, **settings)[0] for own in (True, False))
    assert found == expected


def test_settings_that_need_the_whole_batch_keep_the_loop_of_generate(tiny_gem, items, monkeypatch):
    rows = decoded(tiny_gem, items, monkeypatch, True, stop_strings=["never written"])[2]
    assert rows[-6:] == [4] * 6


def test_the_cache_grows_repeats_selects_and_shrinks_as_that_of_transformers(tiny_gem, monkeypatch):
    monkeypatch.setattr(cache, "ROOM", 3)
    ours, theirs = cache.growing_cache(tiny_gem.model), DynamicCache(config=tiny_gem.model.config.text_config)
    generator = torch.Generator().manual_seed(0)

    def grow(tokens):
        rows = theirs.layers[0].keys.shape[0] if theirs.get_seq_length() else 1
        new = torch.randn(2, rows, 2, tokens, 4, generator=generator)
        found, expected = ours.update(*new, 0), theirs.update(*new, 0)
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
        assert ours.get_seq_length() == theirs.get_seq_length()

    for step in range(8):
        grow(2 if step == 0 else 1)
    for held in (ours, theirs):
        held.batch_repeat_interleave(4)
    grow(1)
    earlier = copy.deepcopy(ours)
    before = earlier.layers[0].keys.clone()
    for held in (ours, theirs):
        held.batch_select_indices(torch.tensor([0, 2]))
    grow(1)
    for held in (ours, theirs):
        held.crop(-3)
    grow(2)
    assert torch.equal(earlier.layers[0].keys, before)  # a copy shares no room
