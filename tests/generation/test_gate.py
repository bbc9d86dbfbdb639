"""The gate on one simulated record whose rate, intervals and rhythm are known."""

import dataclasses

import numpy as np
import pytest

from gem_lightning.ecg import simulate
from gem_lightning.features import findings, measure
from gem_lightning.generation.gate import Gate, report_codes


@pytest.fixture(scope="module")
def case():
    made = simulate("sinus", seed=3, snr_db=30)
    features = measure(made.record)
    return features, tuple(findings(features))


def truth(features):
    return (
        f"Sinus rhythm at {features.heart_rate_bpm:.0f} bpm. PR {features.pr_ms:.0f} ms, QRS {features.qrs_ms:.0f} ms, "
        f"QT {features.qt_ms:.0f} ms."
    )


def categories(judged):
    return {problem.category for problem in judged.problems}


def test_the_truth_passes(case):
    features, found = case
    judged = Gate().check(truth(features), features, found)
    assert judged.accepted
    assert judged.claims["supported"] >= 4
    assert judged.claims["contradicted"] == 0


@pytest.mark.parametrize(
    ("words", "category"),
    [
        ("The PR interval measures {pr_wrong} ms.", "contradicted number"),
        ("There is atrial fibrillation.", "contradicted finding"),
        ("The confirmed diagnosis is sinus rhythm.", "names its sources"),
        ("According to the report the tracing is normal.", "names its sources"),
        ("As the machine measurements show, the axis is normal.", "names its sources"),
        ("A curious value of 734 is seen.", "number that cannot be checked"),
        ("word " * 400, "too long"),
    ],
)
def test_what_is_wrong_is_named(case, words, category):
    features, found = case
    text = f"{truth(features)} {words.format(pr_wrong=round(features.pr_ms + 90))}"
    assert category in categories(Gate().check(text, features, found))


def test_names_that_hold_numbers_are_no_measurements(case):
    features, found = case
    text = f"{truth(features)} In this 12-lead ECG over 10 s at 25 mm/s and 10 mm/mV, V1-V3 and beat 2 look alike."
    assert Gate().check(text, features, found).accepted


def test_numbers_of_a_finding_s_own_criterion_may_be_quoted(case):
    features, found = case
    quoted = dataclasses.replace(found[0], threshold="QRS area of at least 734 units")
    text = f"{truth(features)} The usual limit in this setting is a score of 734."
    assert not Gate().check(text, features, found).accepted
    assert Gate().check(text, features, (quoted, *found[1:])).accepted


def test_few_facts_are_too_few(case):
    features, found = case
    assert "too few claims" in categories(Gate().check("An ECG.", features, found))


def test_the_report_rules(case):
    features, found = case
    report = "First degree AV block. Left bundle branch block."
    assert report_codes(report) >= {"av_block_1", "lbbb"}
    stated = f"{truth(features)} First-degree AV block and left bundle branch block."
    assert not Gate().check(stated, features, found).accepted
    assert Gate().check(stated, features, found, report).accepted
    silent = Gate().check(truth(features), features, found, report)
    assert "leaves out the diagnosis" in categories(silent)
    denied = Gate().check(f"{stated} No left bundle branch block.", features, found, report)
    assert "denies the report" in categories(denied)
    assert Gate(report_rules=False).check(truth(features), features, found, report).accepted


def test_beats_called_premature_must_be():
    features = measure(simulate("sinus", seed=4, snr_db=30).record)
    classes = np.array(["normal", "premature_ventricular", "normal", "premature_ventricular", *["normal"] * 30])
    beats = dataclasses.replace(features.beats, beat_class=classes[: len(features.beats)])
    features = dataclasses.replace(features, beats=beats)
    early, late = (2, 4), 3
    gate = Gate(min_claims=0)
    assert gate.check(f"Beats {early[0]} and {early[1]} are premature.", features).accepted
    assert not gate.check(f"Beats {early[0]} and {late} are premature.", features).accepted
    assert not gate.check(f"Beats {early[0]} and 99 are premature.", features).accepted
