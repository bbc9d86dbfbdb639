"""Each record gets its own answer: batches, beams, sampling, bad records, limits of the context."""

import numpy as np
import pytest
import torch

from gem_lightning.ecg import EcgReadError, simulate
from gem_lightning.errors import DataError
from gem_lightning.models.inference.generation import SeededSampling, record_seed


@pytest.fixture(scope="module")
def records():
    return [simulate(code, seed=i).record for i, code in enumerate(("sinus", "lbbb", "atrial_fibrillation"))]


def texts(found):
    return [one.text for one in found]


def test_several_texts_per_record_are_refused(tiny_gem, records):
    for more in ({"num_beams": 2}, {"do_sample": True}):
        with pytest.raises(DataError, match="one text per record"):
            tiny_gem.interpret_many(records[:2], max_new_tokens=4, num_return_sequences=2, **more)
    beams = tiny_gem.interpret_many(records[:2], max_new_tokens=4, num_beams=2)
    assert texts(beams) == [tiny_gem.interpret(r, max_new_tokens=4, num_beams=2).text for r in records[:2]]


@pytest.mark.parametrize("size", [0, -1])
def test_a_batch_holds_at_least_one(tiny_gem, records, size):
    with pytest.raises(DataError, match="batch size of at least 1"):
        tiny_gem.interpret_many(records[:2], batch_size=size, max_new_tokens=2)


def test_sampled_texts_depend_on_seed_and_record_alone(tiny_gem, records):
    options = {"max_new_tokens": 8, "do_sample": True, "temperature": 1.5}
    together = texts(tiny_gem.interpret_many(records, batch_size=3, seed=5, **options))
    assert together == texts(tiny_gem.interpret_many(records, batch_size=1, seed=5, **options))
    assert together[1:] == texts(tiny_gem.interpret_many(records[1:], batch_size=2, seed=5, **options))
    assert together != texts(tiny_gem.interpret_many(records, batch_size=3, seed=6, **options))
    torch.manual_seed(5)
    assert together == texts(tiny_gem.interpret_many(records, **options))


def test_seeded_sampling_has_the_distribution_of_the_scores():
    scores = torch.log(torch.tensor([[0.1, 0.2, 0.7]]).repeat(4000, 1))
    chosen = SeededSampling([record_seed(0, str(i)) for i in range(4000)])(torch.zeros(4000, 1), scores).argmax(1)
    shares = torch.bincount(chosen, minlength=3) / 4000
    assert torch.allclose(shares, torch.tensor([0.1, 0.2, 0.7]), atol=0.025)  # 3.5 standard errors
    masked = torch.tensor([[0.0, -torch.inf, 0.0]])
    assert {int(SeededSampling([i])(masked, masked).argmax()) for i in range(50)} == {0, 2}


def test_one_bad_record_is_an_exception_in_its_place(tiny_gem, records):
    found = tiny_gem.interpret_many([records[0], "nowhere.hea", records[1]], max_new_tokens=4)
    assert isinstance(found[1], EcgReadError)
    assert texts([found[0], found[2]]) == texts(tiny_gem.interpret_many(records[:2], max_new_tokens=4))
    with pytest.raises(EcgReadError, match="does not exist"):
        tiny_gem.interpret("nowhere.hea")


def test_a_question_for_each_record(tiny_gem, records):
    found = tiny_gem.interpret_many(records[:2], question=["Rate?", "Axis?"], max_new_tokens=4)
    assert [one.question for one in found] == ["Rate?", "Axis?"]
    assert found[1].text == tiny_gem.interpret(records[1], question="Axis?", max_new_tokens=4).text
    with pytest.raises(DataError, match="expected 2 questions"):
        tiny_gem.interpret_many(records[:2], question=["Rate?"])
    with pytest.raises(DataError, match="expected 2 images"):
        tiny_gem.interpret_many(records[:2], images=[np.zeros((8, 8, 3), np.uint8)])


@pytest.mark.parametrize("marker", ["<ecg>", "<image>"])
def test_a_marker_in_a_question_is_text(tiny_gem, records, marker):
    assert tiny_gem.interpret(records[0], question=f"what does {marker} mean", max_new_tokens=2).claims is not None


def test_a_prompt_beyond_the_context_is_refused_with_both_numbers(tiny_gem, records):
    limit = tiny_gem.model.config.get_text_config().max_position_embeddings
    with pytest.raises(DataError, match=rf"fewer than {limit} tokens, got \d+"):
        tiny_gem.interpret(records[0], question="rate " * 2 * limit)


def test_other_return_types_and_stop_strings(tiny_gem, records):
    plain = tiny_gem.interpret(records[0], max_new_tokens=6)
    full = tiny_gem.interpret(records[0], max_new_tokens=6, return_dict_in_generate=True, output_scores=True)
    assert full.text == plain.text
    stopped = tiny_gem.interpret(records[0], max_new_tokens=6, stop_strings=[plain.text[:1] or "a"])
    assert len(stopped.text) <= len(plain.text)
