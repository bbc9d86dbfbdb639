"""Rewards: against the truth where it is known, and terms that say what they mean."""

import pickle

import pytest

from gem_lightning.claims.verify import verify
from gem_lightning.errors import DataError, GemError
from gem_lightning.evaluation.truth import score_text, truth_of_simulation
from gem_lightning.features import measure
from gem_lightning.rl.facts import facts_of
from gem_lightning.rl.rewards import ClaimScore, Format, Length, Precision, Repetition, Reward, Written
from gem_lightning.samples.sample import InstructionSample, simulated_ecg

ECG = "simulate:sinus_bradycardia?snr_db=25::7"


@pytest.fixture(scope="module")
def facts():
    return facts_of(InstructionSample("a", [{"from": "human", "value": "<ecg>"}], ECG))


@pytest.fixture(scope="module")
def rate(facts):
    return round(facts.features.heart_rate_bpm)


def reward(facts, *texts, **terms):
    found = Reward(**(terms or {"claims": ClaimScore()}))(texts, [9] * len(texts), [True] * len(texts), [facts])
    return [one.total for one in found]


def test_facts_of_a_simulation_are_the_truth(facts):
    ecg = simulated_ecg(InstructionSample("a", [], ECG).record)
    truth = truth_of_simulation(ecg)
    assert facts.features.heart_rate_bpm == truth.features.heart_rate_bpm
    text = "Sinus bradycardia. Left bundle branch block. Rate 140 bpm. PR 160 ms."
    report, score = facts.report(text), score_text(text, truth)
    assert (report.count("supported"), report.count("contradicted")) == (score.right, score.wrong)
    assert len(report.mentioned) == score.stated and len(report.abnormal) == score.abnormal
    assert pickle.loads(pickle.dumps(facts)).report(text).score == report.score


def test_facts_of_a_recording_are_its_measurements():
    record = simulated_ecg(InstructionSample("a", [], ECG).record).record
    found = facts_of(InstructionSample("b", [], None, ecg_record=record))
    assert found.truth is None
    text = "Sinus bradycardia. Left bundle branch block."
    assert found.report(text).score == pytest.approx(verify(text, measure(record)).score)
    with pytest.raises(DataError, match="expected a signal"):
        facts_of(InstructionSample("c", []))


def test_the_score_orders_texts_and_precision_does_not(facts, rate):
    full, silent, wrong = f"Sinus bradycardia. Rate {rate} bpm.", "No hyperkalaemia.", f"Rate {rate + 30} bpm."
    scores = reward(facts, full, silent, wrong)
    assert scores[0] > scores[1] == 0 == scores[2]
    assert reward(facts, full, silent, wrong, precision=Precision()) == [1.0, 1.0, 0.0]


def test_the_nearer_number_is_worth_more(facts, rate):
    near, far = reward(facts, f"Rate {rate} bpm.", f"Rate {rate + 2} bpm.")
    assert near > far > 0


def test_each_group_has_its_own_facts(facts):
    other = facts_of(InstructionSample("b", [], "simulate:lbbb::3"))
    found = Reward(claims=ClaimScore())(["Sinus bradycardia."] * 4, [5] * 4, [True] * 4, [facts, other])
    assert found[0] == found[1] and found[2] == found[3]
    assert found[0].total > 0 == found[2].total
    assert (found[0].stated, found[0].wrong, found[2].wrong) == (1, 0, 1)


def written(text, tokens=10, ended=True):
    return Written(text, tokens, ended, None)


def test_length_grows_towards_the_limit():
    term = Length(longest=100, margin=20)
    found = [term(written("", tokens)) for tokens in (50, 80, 90, 100, 120)]
    assert found == [0, 0, -0.5, -1, -1]
    assert term(written("", 3, ended=False)) == -1
    with pytest.raises(GemError, match="margin"):
        Length(10, 0)


def test_repetition_and_format():
    assert Repetition()(written("Sinus rhythm at sixty bpm.")) == 0
    assert Repetition()(written("one two three four " * 4)) < -0.5
    assert Format()(written("Rate 62 bpm.")) == 0
    assert Format()(written("  ")) == -1
    assert Format()(written("PR 16. Rate 62 bpm.")) == -0.5
    assert Format(r"Rate \d+ bpm\.")(written("Rate 62 bpm.")) == 0
    assert Format(r"Rate \d+ bpm\.")(written("It is 62.")) == -1


def test_terms_add_up_by_their_weights(facts, rate):
    text = f"Sinus bradycardia. Rate {rate} bpm."
    (both,) = Reward(claims=ClaimScore(2.0), format=Format("x", 0.5), none=None)([text], [5], [True], [facts])
    assert both.terms.keys() == {"claims", "format"}
    assert both.total == pytest.approx(2 * both.terms["claims"] - 0.5)
    with pytest.raises(GemError, match="at least one reward term"):
        Reward(claims=None)
