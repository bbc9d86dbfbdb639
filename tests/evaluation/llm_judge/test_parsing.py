import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gem_lightning.evaluation import grounding
from gem_lightning.evaluation.llm_judge.grounding_legacy import LegacyScoreError
from gem_lightning.evaluation.llm_judge.parsing import arithmetic, read, read_json

GOOD = json.dumps({c.name: [{"Score": 1, "Explanation": 'a [b], "c"'}] for c in grounding.V1}, indent=1)


@pytest.mark.parametrize(
    ("text", "value"),
    [("1+1", 2), ("2*3-1", 5), ("-4", -4), ("7/2", 3.5), ("7//2", 3), ("2**3", 8), ("(1+2)*3", 9), ("1e2", 100.0)],
)
def test_arithmetic(text, value):
    assert arithmetic(text) == value


@pytest.mark.parametrize(
    "text", ["", "a", "1+", "1/0", "9**9**9", "2**999", "__import__('os')", "True", "[1]", "1 if 1 else 2", "(" * 300]
)
def test_what_is_not_arithmetic_raises_and_runs_nothing(text):
    with pytest.raises(ValueError, match=r"not arithmetic|too large"):
        arithmetic(text)


def test_strict_json_is_read_as_it_is():
    assert read_json(GOOD).value == json.loads(GOOD)
    assert read_json(GOOD).repairs == []
    assert read_json('{"a": 1} and {"b": 2}').value == {"a": 1}


def test_depth_is_no_way_to_break_the_reader():
    for text in ("{" * 5000, '{"a":' * 5000, '{"a":[' * 5000 + "}" * 10, "[" * 100_000):
        assert read_json(text).value is None or isinstance(read_json(text).value, dict)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_damage_is_read_or_reported_never_raised(data):
    text = GOOD
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(text)))
        cut = data.draw(st.integers(0, 30))
        text = text[:at] + data.draw(st.text('{}[]",:+-1 \n/\\“”`ax', max_size=5)) + text[at + cut :]
    result = grounding.score({"x": text}, draws=0)
    gaps = sum(sum(reasons.values()) for reasons in result["missing"].values())
    assert gaps + len(result["per_id"]["x"]) == 8
    with contextlib.suppress(LegacyScoreError):  # where the original stops
        grounding.score({"x": text}, rules="legacy")


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=300))
def test_any_text_is_no_exception(text):
    assert grounding.score({"x": text}, draws=0)["n"] == 1
    assert grounding.score({"x": "{" + text}, draws=0)["n"] == 1


def test_an_answer_that_breaks_off_never_gives_a_wrong_score():
    """Two entries of 2 and 1 each: half a list would be another sum."""
    whole = {c.name: [{"Score": min(2, c.high), "Explanation": 'a "b" (c)'}, {"Score": 1}] for c in grounding.V1}
    text, wanted = json.dumps(whole), read(whole, grounding.V1).values
    for at in range(len(text)):
        found = read(text[:at], grounding.V1)
        assert found.values.items() <= wanted.items(), at
        assert "cut off" in found.missing.values() or not found.values


def test_unescaped_quotes_single_quotes_and_missing_brackets_are_repaired_or_reported():
    whole = {c.name: [{"Score": 1, "Explanation": 'fits "x" well, "y"'}] for c in grounding.V1}
    wanted = read(whole, grounding.V1).values
    text = json.dumps(whole)
    assert read(text.replace('\\"', '"'), grounding.V1).values == wanted
    assert read(json.dumps(whole).replace('\\"', "").replace('"', "'"), grounding.V1).values == wanted
    for at in (i for i, sign in enumerate(text) if sign in "]}"):
        found = read(text[:at] + text[at + 1 :], grounding.V1)
        assert found.values.items() <= wanted.items()
        assert len(found.values) + len(found.missing) == 8
