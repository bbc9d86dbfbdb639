"""Strict scores of small answer files, every number by hand."""

from __future__ import annotations

import numpy as np
import pytest

from gem_lightning.errors import DataError
from gem_lightning.evaluation import ecgbench
from gem_lightning.evaluation.ecgbench import strict
from gem_lightning.evaluation.ecgbench.tasks import TASKS


def gold(*answers, question="?", **fields):
    return [
        {"id": f"r{i}", "conversations": [{"value": question}, {"value": answer}]} | fields
        for i, answer in enumerate(answers)
    ]


def stated(*texts):
    return [{"id": f"r{i}", "text": text} for i, text in enumerate(texts) if text is not None]


def test_labels_by_hand():
    # NORM: tp 1, fn 1. MI: tp 1, fp 1, fn 0. CD: tp 0, fp 0, fn 1. STTC and HYP have no case.
    result = ecgbench.score("ptb-test", stated("NORM", "MI", "MI", "MI"), gold("NORM", "MI", "NORM", "MI, CD"), draws=0)
    cells = {label: row["counts"] for label, row in result["per_label"].items()}
    assert cells == {
        "NORM": [1, 0, 1, 2], "MI": [2, 1, 0, 1], "STTC": [0, 0, 0, 4], "CD": [0, 0, 1, 3], "HYP": [0, 0, 0, 4],
    }  # fmt: skip
    assert result["f1"] == pytest.approx((2 / 3 + 4 / 5 + 0) / 3)
    assert result["balanced_accuracy"] == pytest.approx((3 / 4 + 3 / 4 + 1 / 2) / 3)
    assert result["hamming"] == pytest.approx(3 / 20)
    assert result["exact"] == pytest.approx(2 / 4)
    assert result["labels_without_cases"] == ["STTC", "HYP"]
    norm, empty = result["per_label"]["NORM"], result["per_label"]["HYP"]
    assert (norm["cases"], norm["stated"]) == (2, 1)
    assert (norm["f1"], norm["sensitivity"], norm["specificity"], norm["precision"]) == (
        pytest.approx(2 / 3),
        0.5,
        1.0,
        1.0,
    )
    assert (empty["f1"], empty["sensitivity"], empty["specificity"], empty["precision"]) == (None, None, 1.0, None)
    assert result["per_label"]["MI"]["stated"] == 3
    assert result["per_label"]["MI"]["f1"] == pytest.approx(4 / 5)
    assert result["per_label"]["MI"]["specificity"] == 0.5
    assert result["per_label"]["MI"]["precision"] == pytest.approx(2 / 3)
    assert (result["n"], result["unparsed"], result["missing"], result["unparsed_rate"]) == (4, 0, 0, 0.0)
    assert result["by_patient"] is False


def test_an_unread_label_answer_is_the_complement_of_its_gold():
    answers = gold("NORM", "MI", "NORM", "MI")
    result = ecgbench.score("ptb-test", stated("pacemaker", "MI", "NORM", None), answers, draws=0)
    assert (result["unparsed"], result["missing"], result["unparsed_rate"]) == (1, 1, 0.5)
    assert (result["hamming"], result["exact"]) == (0.5, 0.5)
    assert result["per_label"]["HYP"]["counts"] == [0, 2, 0, 2]
    true, said, read = strict.label_matrices(
        TASKS["ptb-test"], [None, {"text": "MI"}], answers[:2], TASKS["ptb-test"].labels
    )
    assert read.tolist() == [False, True]
    assert said.tolist() == [(~true[0]).tolist(), [False, True, False, False, False]]


def test_the_general_label_of_code15_adds_nothing_to_a_specific_one():
    space = strict.label_space(TASKS["code15-test"])
    assert space[-2:] == ("NORM", "ABNORMAL")
    assert "ABNORMAL" not in strict.label_space(TASKS["ptb-test"])
    result = ecgbench.score("code15-test", stated("ABNORMAL, AF", "ABNORMAL"), gold("AF", "ABNORMAL"), draws=0)
    assert result["exact"] == 1.0
    assert result["per_label"]["ABNORMAL"]["counts"] == [1, 0, 0, 1]


def test_one_hit_per_record():
    answers = gold("NORM", "MI", "MI")
    rows = strict.per_record(TASKS["ptb-test"], stated("NORM", "NORM", "MI, CD"), answers)
    assert rows == {"r0": 1.0, "r1": 0.0, "r2": 0.0}
    letters = strict.per_record(TASKS["mmmu-ecg"], stated("A", "B"), gold("A", "C"))
    assert letters == {"r0": 1.0, "r1": 0.0}


def test_choices_by_hand():
    result = ecgbench.score("mmmu-ecg", stated("A", "B", "no idea", None), gold("A", "C", "B", "D"), draws=0)
    assert (result["accuracy"], result["chance"]) == (0.25, 0.25)
    assert (result["unparsed"], result["missing"], result["unparsed_rate"]) == (1, 1, 0.5)
    table = result["confusion"]
    assert table["rows"] == ["A", "B", "C", "D"]
    assert table["columns"] == ["A", "B", "C", "D", "unparsed"]
    assert table["counts"] == [[1, 0, 0, 0, 0], [0, 0, 0, 0, 1], [0, 1, 0, 0, 0], [0, 0, 0, 0, 1]]
    with pytest.raises(DataError, match="no letter"):
        ecgbench.score("mmmu-ecg", stated("A"), gold("unknown"), draws=0)


def test_sets_by_hand():
    question = "Which? Options: yes, no, not sure.\nOnly answer based on the given Options without any explanation."
    answers = gold("yes", "no", "not sure", "yesno", question=question)
    result = ecgbench.score("ecgqa-test", stated("yes", "yes", "perhaps", "no, yes"), answers, draws=0)
    assert (result["accuracy"], result["unparsed"], result["missing"]) == (0.5, 1, 0)
    task = TASKS["ecgqa-test"]
    assert strict.hit(task, {"text": "yes, no"}, answers[3]) == (True, True, "no; yes", "no; yes")
    assert strict.hit(task, {"text": "perhaps"}, answers[0]) == (False, False, None, "yes")
    assert strict.hit(task, None, answers[0]) == (False, False, None, "yes")
    bare = {"id": "r0", "answer": "yes"}
    assert strict.hit(task, {"text": "yes", "question": question}, bare)[0]  # options from the prediction's question


def test_patients_group_the_bootstrap():
    answers = gold("A", "B", patient_id=1)
    assert ecgbench.score("mmmu-ecg", stated("A", "B"), answers, draws=5)["by_patient"] is True
    del answers[0]["patient_id"]  # known of some records only
    assert ecgbench.score("mmmu-ecg", stated("A", "B"), answers, draws=5)["by_patient"] is True


def test_area_needs_likelihoods_of_every_label_with_a_case():
    answers = gold("NORM", "MI", "NORM", "MI")

    def rows(*tables):
        return [{"id": f"r{i}", "text": "MI", "likelihoods": table} for i, table in enumerate(tables)]

    full = rows({"NORM": 0.9, "MI": 0.1}, {"NORM": 0.2, "MI": 0.8}, {"NORM": 0.7, "MI": 0.3}, {"NORM": 0.8, "MI": 0.9})
    result = ecgbench.score("ptb-test", full, answers, draws=0)
    assert result["auc"] == pytest.approx((3 / 4 + 1.0) / 2)  # of NORM three of four pairs are in order
    assert "auc" in result["intervals"]
    assert "auc" not in ecgbench.score("ptb-test", rows(*[{"NORM": 0.9}] * 4), answers, draws=0)
    assert "auc" not in ecgbench.score("ptb-test", full[:3], answers, draws=0)


def test_nothing_to_score_is_refused():
    with pytest.raises(DataError, match="gold"):
        ecgbench.score("ptb-test", [], [])
    with pytest.raises(DataError, match="needs a judge"):
        ecgbench.score("arena", [], gold("x"))


def test_the_bootstrap_draws_a_thousand_times_from_seed_0_by_default():
    answers, given = gold(*(["NORM", "MI", "CD"] * 10)), stated(*(["NORM", "MI"] * 15))
    default = ecgbench.score("ptb-test", given, answers)["intervals"]
    assert default == ecgbench.score("ptb-test", given, answers, draws=1000, seed=0)["intervals"]
    assert default != ecgbench.score("ptb-test", given, answers, draws=2000, seed=0)["intervals"]
    assert default != ecgbench.score("ptb-test", given, answers, draws=1000, seed=1)["intervals"]


def test_unparsed_counts_answers_and_missing_counts_rows():
    for task, question in (("mmmu-ecg", "?"), ("ecgqa-test", "Options: A, B, C.")):
        answers = gold("A", "B", "C", "C", question=question)
        result = ecgbench.score(task, stated("A", None, "??", None), answers, draws=0)
        assert (result["unparsed"], result["missing"]) == (1, 2), task
        assert result["unparsed_rate"] == pytest.approx(3 / 4)
    result = ecgbench.score("ptb-test", stated("NORM", None, "??"), gold("NORM", "MI", "MI"), draws=0)
    assert (result["unparsed"], result["missing"]) == (1, 1)


def test_gold_without_a_known_label_has_none():
    true, _, _ = strict.label_matrices(TASKS["ptb-test"], [None], gold("something else"), TASKS["ptb-test"].labels)
    assert true.tolist() == [[False] * 5]


def test_a_label_that_nothing_states_and_nothing_has_takes_no_part_in_macro_f1():
    true = [[True, False, False], [False, False, True]]
    found = strict.label_metrics(np.array(true), np.array([[True, False, False]] * 2))
    assert found["f1"] == pytest.approx((2 / 3 + 0) / 2)
    assert found["balanced_accuracy"] == pytest.approx((0.5 + 0.5) / 2)
    assert found["hamming"] == pytest.approx(2 / 6)
    assert found["exact"] == 0.5
