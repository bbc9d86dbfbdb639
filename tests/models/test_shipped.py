"""The model that comes with the package: found by name, offline, and it reads a real ECG."""

import contextlib
import io

import numpy as np
import pydicom.examples
import pytest
import torch
from transformers.utils import logging

from gem_lightning import Gem, read_ecg
from gem_lightning.ecg import LEADS, EcgRecord, simulate
from gem_lightning.errors import CheckpointError
from gem_lightning.evaluation.base import Query
from gem_lightning.evaluation.predictors import as_predictor
from gem_lightning.evaluation.text import read_text
from gem_lightning.features import measure
from gem_lightning.models.compat.load import SHIPPED, find_folder, shipped_models


@pytest.fixture(scope="module")
def loading():
    """The model, and what loading it wrote to standard error."""
    assert logging.is_progress_bar_enabled()
    with contextlib.redirect_stderr(io.StringIO()) as written:
        return Gem.from_pretrained("gem_small"), written


@pytest.fixture(scope="module")
def gem(loading):
    return loading[0]


def test_it_loads_without_progress_bars(loading):
    assert loading[1].getvalue() == ""
    assert logging.is_progress_bar_enabled()  # of other models they stay


def test_it_is_small_and_computed_in_float32(gem):
    assert "gem_small" in shipped_models()
    sizes = [file.stat().st_size for file in SHIPPED.joinpath("gem_small").iterdir()]
    assert sum(sizes) <= 25e6 and max(sizes) <= 16e6
    assert gem.model.dtype == torch.float32 and gem.inputs == ("ecg",)
    with pytest.raises(CheckpointError, match="gem_small"):
        find_folder("gem_large")


def test_it_reads_a_real_ecg(gem):
    record = read_ecg(str(pydicom.examples.get_path("waveform")))
    text = gem.interpret(record, max_new_tokens=160).text
    assert abs(read_text(text).values["rate"] - measure(record).heart_rate_bpm) <= 5


def test_a_batch_has_the_texts_that_the_loop_of_generate_gives(gem, monkeypatch):
    records = [simulate(code, seed=i).record for i, code in enumerate(("sinus", "lbbb", "atrial_fibrillation"))]
    questions = ["", "What is the rate?", "Is this ECG normal?"]
    texts = [found.text for found in gem.interpret_many(records, questions, max_new_tokens=120)]
    monkeypatch.setattr("gem_lightning.models.inference.generation._BY_ROW", frozenset())
    assert texts == [found.text for found in gem.interpret_many(records, questions, max_new_tokens=120)]
    assert len({len(text) for text in texts}) == 3


def test_it_does_not_interpret_a_flat_line(gem):
    record = EcgRecord(np.zeros((12, 5000), np.float32), 500.0, LEADS, {})
    found = gem.interpret(record, max_new_tokens=60)
    assert found.text == "" and "flat" in found.refused


def test_it_is_not_relied_on_where_much_of_the_recording_is_missing(gem):
    record = simulate("st_elevation", seed=4, snr_db=25).record
    signal = record.signal.copy()
    signal[6:11] = np.nan
    lost = record.with_signal(signal)
    found = gem.interpret(lost)
    assert found.partial == "42% of the 12 leads missing"
    assert found.is_composed
    assert "mi_inferior" in {v.claim.finding for v in found.claims.verdicts}
    assert not found.claims.count("contradicted")
    assert found.to_terminal(color=False).startswith("This ECG is known in part")
    assert found.to_dict()["partial"] == found.partial
    assert "composed from the measurements" in found.to_html()
    assert next(iter(gem.stream(lost))).text == found.text
    assert gem.chat(lost).ask().text == found.text
    for question in ("Is there ST elevation?", "Is this ECG normal?"):
        assert not gem.interpret(lost, question).claims.count("contradicted")
        assert not gem.chat(lost).ask(question).claims.count("contradicted")
    assert "composed" not in found.with_text("Sinus rhythm.").to_html()  # a text of someone's own is not ours
    own = gem.interpret(lost, on_missing="model", max_new_tokens=60)
    assert not own.edits
    assert own.text == as_predictor(gem).predict(Query("q", None, lost)).text[: len(own.text)]
    assert gem.interpret(record, max_new_tokens=20).partial is None


def test_a_later_question_is_asked_alone_for_it_learned_no_questions_behind_a_text(gem):
    record = simulate("atrial_fibrillation", seed=4).record
    chat = gem.chat(record)
    chat.ask(None, verify="revise")
    question = "Is there left ventricular hypertrophy?"
    later = chat.ask(question, verify="revise")
    assert later.text == gem.interpret(record, question, verify="revise").text
    assert "lvh" in {verdict.claim.finding for verdict in later.claims.verdicts}
    assert len(chat.turns) == 2
