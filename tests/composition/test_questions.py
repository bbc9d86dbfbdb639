"""Answers state what the record shows, and are read back as they were meant."""

from __future__ import annotations

from collections import Counter

import pytest

from gem_lightning.ecg import simulate
from gem_lightning.errors import GemError
from gem_lightning.features import findings, measure
from gem_lightning.grounding import ask, compare, conversation, extract, verify


@pytest.fixture(scope="module", params=["sinus", "av_block_1", "lbbb", "st_elevation", "atrial_fibrillation"])
def case(request):
    features = measure(simulate(request.param, seed=3).record)
    return features, findings(features)


def test_every_answer_states_its_claims_and_they_hold(case):
    features, found = case
    asked = [qa for seed in range(6) for qa in ask(features, found, seed)]
    assert {qa.kind for qa in asked} >= {"value", "normal", "choice"}
    for qa in asked:
        answer = qa.answer.partition(": ")[2] if qa.kind == "choice" else qa.answer
        assert Counter(c.meaning for c in extract(answer)) == Counter(c.meaning for c in qa.claims), qa
        assert all(v.verdict == "supported" for v in verify(answer, features, findings=found).verdicts), qa


def test_choice_has_one_right_option(case):
    features, found = case
    codes = {f.code for f in found}
    for qa in ask(features, found, 1, kinds=["choice"]):
        letter = qa.answer[0]
        assert extract(qa.options["ABCD".index(letter)] + ".")[0].finding in codes
        others = [extract(o + ".")[0].finding for i, o in enumerate(qa.options) if i != "ABCD".index(letter)]
        assert not codes & set(others)


def test_same_seed_same_questions(case):
    features, found = case
    assert ask(features, found, 5) == ask(features, found, 5)
    assert ask(features, found, 5) != ask(features, found, 6)


def test_unknown_kind_is_named():
    with pytest.raises(GemError, match="poem"):
        ask(measure(simulate("sinus").record), kinds=["poem"])


def test_comparison_names_what_changed_and_claims_only_the_present():
    slow, fast = (measure(simulate("sinus", seed=1, heart_rate=rate).record) for rate in (62, 96))
    told = compare(slow, fast)
    rate = next(qa for qa in told if qa.claims and qa.claims[0].kind == "heart_rate")
    assert "increased" in rate.answer
    assert [c.meaning for c in extract(rate.answer)] == [c.meaning for c in rate.claims]
    same = compare(slow, slow)
    assert all("unchanged" in qa.answer or qa.answer == "None." for qa in same)


def test_conversation_alternates_and_is_grounded(case):
    features, found = case
    talk = conversation(features, found, seed=2, turns=4)
    assert [turn["from"] for turn in talk] == ["human", "gpt"] * 4
    for turn in talk[1::2]:
        assert all(v.verdict != "contradicted" for v in verify(turn["value"], features, findings=found).verdicts)
