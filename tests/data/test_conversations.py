"""Conversations follow from the truth of a record, whatever kind they are."""

import numpy as np
import pytest

from gem_lightning.claims.extract import extract
from gem_lightning.composition.chains.view import View
from gem_lightning.data import (
    ConversationCohort,
    ConversationPlan,
    SimulatedRecords,
    UnreadableRecords,
    encoder_targets,
)
from gem_lightning.data.cohort import noisy
from gem_lightning.data.conversations import CONVERSATION_KINDS, QUESTIONS, known_rows
from gem_lightning.data.truths import MarkedRecords, RecombinedRecords, view_of_marks
from gem_lightning.ecg import simulate
from gem_lightning.errors import DataError
from gem_lightning.features import measure
from gem_lightning.samples.io import InstructionSample
from helpers_marked import donors


class Donors:
    """A source that can be hashed, as the cohorts keep what was read of it."""

    def __iter__(self):
        return iter(donors())


@pytest.fixture(scope="module")
def view():
    return View.simulated(simulate("av_block_1", 4))


@pytest.mark.parametrize("kind", CONVERSATION_KINDS)
def test_every_kind_answers_and_the_numbers_are_the_truth(view, kind):
    plan = ConversationPlan({kind: 1.0}, per_record=6)
    rows = plan.rows(view, "a", 3)
    assert len(rows) == 6 and {row["kind"] for row in rows} == {kind}
    assert rows == plan.rows(view, "a", 3)
    assert kind == "brief" or rows != plan.rows(view, "a", 4)  # the brief style has one phrasing
    true = {"heart_rate": view.features.heart_rate_bpm, "pr": view.features.pr_ms, "qrs": view.features.qrs_ms}
    quoted = 0
    for row in rows:
        first, *_ = row["conversations"]
        assert first["from"] == "human" and first["value"].startswith("<image>\n")
        assert sum("<image>" in turn["value"] for turn in row["conversations"]) == 1
        for turn in row["conversations"][1::2]:
            for claim in extract(turn["value"]):
                if claim.kind in true and claim.value is not None:
                    quoted += 1
                    assert claim.value == pytest.approx(true[claim.kind], abs=1)
    assert quoted or kind == "reasoning_chain"


def test_questions_of_an_unreadable_record_are_answered_by_the_one_text_for_it():
    records = UnreadableRecords()
    for index in range(8):
        known = records(index, 5)
        assert measure(known.record).reason is not None
        for row in ConversationPlan({QUESTIONS: 1.0, "report": 1.0}).rows(known.view, "x", index):
            assert row["conversations"][1]["value"].startswith("This recording does not allow a measurement.")


def test_a_cohort_is_made_once_and_its_samples_carry_targets_of_the_encoder(tmp_path):
    cohort = ConversationCohort(tmp_path, SimulatedRecords(("sinus", "atrial_fibrillation")), 4, seed=2, workers=1)
    cohort.prepare()
    made = cohort.path.stat().st_mtime_ns
    cohort.prepare()
    assert cohort.path.stat().st_mtime_ns == made
    samples = cohort.samples()
    assert len(samples) == 4 * cohort.plan.per_record
    for sample in samples[::4]:
        signal = sample.read_record().signal
        targets = encoder_targets(sample, signal)
        assert targets["waves"].shape == (3, 500) and targets["values"].shape == (33,)
        beats = len(sample.metadata["beat_class"])
        assert targets["values"][0] == pytest.approx(measure(sample.read_record()).heart_rate_bpm, rel=0.05)
        assert targets["waves"][1].sum() * 20 == pytest.approx(beats * 90, rel=0.5)  # QRS, ms
        assert targets["values"][7] == sample.metadata["af"]
    other = ConversationCohort(tmp_path, SimulatedRecords(("sinus",)), 4, seed=2)
    assert other.path != cohort.path
    assert encoder_targets(InstructionSample("a", [{"from": "human", "value": "?"}]), np.zeros((12, 5000))) is None


def test_recombined_and_marked_records_are_measured_at_their_marks():
    source = Donors()
    for records in (RecombinedRecords(source), MarkedRecords(source, gain=(1.0, 1.0))):
        for index in range(3):
            known = records(index, 1)
            again, row = known_rows(index, records, 1, ConversationPlan(per_record=1))
            assert np.array_equal(again.signal, known.record.signal) and row[0]["marks"]["R"]
            marks = known.view.marks.global_marks
            width = np.nanmedian(marks["QRS_off"] - marks["QRS_on"]) * 2
            assert known.view.features.qrs_ms == pytest.approx(width, abs=6)  # premature beats do not count there
    one = donors()[0]
    changed = noisy(one.record, (15.0, 15.0), (0.1, 0.1), np.random.default_rng(0)).signal
    assert np.abs(changed[2] - (changed[1] - changed[0])).max() < 1e-4  # III = II - I
    assert 0.01 < np.std(changed - one.record.signal) < 0.5
    assert view_of_marks(one.record, one.marks, one.beat_class, False).features.heart_rate_bpm > 20


def test_plans_that_cannot_be_are_refused():
    with pytest.raises(DataError, match="expected kinds of"):
        ConversationPlan({"essay": 1.0})
    with pytest.raises(DataError, match="at least one conversation"):
        ConversationPlan(per_record=0)


def test_some_questions_hold_an_instruments_reading_and_answers_follow_the_signal(view):
    rows = ConversationPlan({"brief": 1.0}, per_record=200, instrument=0.6, wrong=0.15).rows(view, "a", 1)
    told = [row for row in rows if row["kind"] == "brief_with_instrument"]
    doubted = [row for row in told if "does not agree with the signal" in row["conversations"][1]["value"]]
    assert 0.5 < len(told) / len(rows) < 0.7 and 0.08 < len(doubted) / len(rows) < 0.22
    assert all("The instrument reads: " in row["conversations"][0]["value"] for row in told)
    assert not any("instrument" in str(row["conversations"]) for row in rows if row["kind"] == "brief")
    for row in doubted:
        pr = [claim.value for claim in extract(row["conversations"][1]["value"]) if claim.kind == "pr"]
        assert pr and abs(pr[0] - view.features.pr_ms) < 15
    with pytest.raises(DataError, match="wrong <= instrument"):
        ConversationPlan(wrong=0.2)
