"""An unusable recording gets no interpretation, whichever way it is asked for."""

import asyncio

import numpy as np
import pytest

from gem_lightning.ecg import EcgRecord, simulate, write_ecg
from gem_lightning.jobs import Workers
from gem_lightning.models.inference.cohort import CohortRunner, Preparer, cohort_item
from gem_lightning.reporting.interpretation import Interpretation
from gem_lightning.sources.record import SourceRecord

FLAT = EcgRecord(np.zeros((12, 5000), np.float32), 500)


@pytest.fixture
def silent(tiny_gem, monkeypatch):
    """A network that must not be asked."""

    def generate(*args, **settings):
        raise AssertionError("the model was asked about an unusable recording")

    monkeypatch.setattr(tiny_gem.model, "generate", generate)
    return tiny_gem


def is_refused(found):
    assert "cannot be read reliably" in found.refused
    assert found.to_dict()["refused"] == found.refused
    return (found.text, found.findings, found.claims.verdicts) == ("", [], [])


@pytest.mark.parametrize("settings", [{}, {"verify": "revise"}, {"verify": "rerank"}, {"complete": True}])
def test_interpret(silent, settings):
    assert is_refused(silent.interpret(FLAT, **settings))


@pytest.mark.parametrize("settings", [{}, {"verify": "revise"}])
def test_conversations(silent, settings):
    chat = silent.chat(FLAT)
    assert is_refused(chat.ask("Is it normal?", **settings))
    assert list(chat.stream("And the rate?", **settings)) == []
    assert is_refused(chat.turns[1])


def test_one_of_several_is_refused_and_the_other_answered(tiny_gem):
    good, bad = tiny_gem.interpret_many([simulate("sinus", seed=1).record, FLAT], max_new_tokens=4)
    assert good.refused is None
    assert good.text
    assert is_refused(bad)


def test_a_text_of_someone_else_is_discarded():
    assert is_refused(Interpretation.of("Sinus rhythm at 66 bpm.", FLAT))


def test_cohorts(silent, tmp_path):
    path = write_ecg(FLAT, tmp_path / "flat.dcm")
    preparer = Preparer(silent.processor, silent.renderer, silent.inputs)

    def write(*args, **settings):
        raise AssertionError("the model was asked about an unusable recording")

    runner = CohortRunner(write, preparer, Workers(0), 4, 2, 0)
    try:
        rows, broken = asyncio.run(runner([cohort_item(SourceRecord("flat", str(path)), {})]))
    finally:
        runner.close()
    assert not broken
    assert "cannot be read reliably" in rows[0]["refused"]
    assert rows[0]["text"] == ""
