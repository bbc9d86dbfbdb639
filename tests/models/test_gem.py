"""One object: a record in, a checked interpretation out."""

import numpy as np
import pytest

from gem_lightning.ecg import simulate
from gem_lightning.errors import DataError
from gem_lightning.features import measure
from gem_lightning.models import Gem
from gem_lightning.render import EcgRenderer


@pytest.fixture
def gem(parts, tokenizer):
    import torch

    from gem_lightning.models import build_gem, build_processor

    torch.manual_seed(0)
    parts["ecg"]["samples"] = 5000
    return Gem(build_gem(**parts), build_processor(tokenizer, parts), EcgRenderer(size=(120, 155)))


def test_interpretation(gem, tmp_path):
    record = simulate(seed=1).record
    found = gem.interpret(record, max_new_tokens=8)
    assert found.features.heart_rate_bpm == pytest.approx(simulate(seed=1).parameters.get("rate", 80), abs=15)
    assert found.image.dtype == np.uint8
    assert found.image.ndim == 3
    assert found.claims.verdicts == [] or found.claims.precision is not None
    gem.save_pretrained(tmp_path)
    again = Gem.from_pretrained(tmp_path, renderer=gem.renderer)
    assert again.interpret(record, max_new_tokens=8).text == found.text


def test_many_at_a_time_equal_one_by_one(gem):
    records = [simulate(seed=seed).record for seed in (1, 2, 3)]
    together = [found.text for found in gem.interpret_many(records, max_new_tokens=8)]
    assert together == [gem.interpret(record, max_new_tokens=8).text for record in records]


def test_a_model_with_nothing_to_look_with_says_so(gem):
    gem.model.config.fresh_parts = ["multi_modal_projector"]
    with pytest.raises(DataError, match="randomly initialised"):
        gem.interpret(simulate(seed=1).record)


def test_an_instruments_reading_comes_with_the_question_and_stays_out_of_the_result(gem):
    records = [simulate(seed=seed).record for seed in (1, 2)]
    readings = [measure(record) for record in records]
    prepared = gem.prepare(records[0], None, {})
    told = gem.example(prepared, None, readings[1])["question"]
    assert f"PR {readings[1].pr_ms:.0f} ms" in told and told.endswith(gem.example(prepared, None)["question"])
    assert "PR" in gem.example(prepared, None, True)["question"]
    found = gem.interpret_many(records, "Is it regular?", max_new_tokens=8, instrument=readings)
    alone = gem.interpret(records[1], "Is it regular?", max_new_tokens=8, instrument=readings[1])
    assert found[1].text == alone.text and alone.question == "Is it regular?"
    with pytest.raises(DataError, match="expected 2 readings"):
        gem.interpret_many(records, max_new_tokens=8, instrument=readings[:1])
