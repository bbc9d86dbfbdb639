import json
import math

import numpy as np
import pytest

from gem_lightning.errors import DataError
from gem_lightning.evaluation import ecgbench
from gem_lightning.evaluation.ecgbench import legacy, parsing
from gem_lightning.evaluation.ecgbench.tasks import TASKS


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def cases(golden_folder):
    for folder in sorted(golden_folder.iterdir()):
        for file in sorted(folder.glob("*.jsonl")):
            yield folder, file


def test_legacy_equals_the_original(golden):
    expected = json.loads((golden / "metrics" / "expected.json").read_text())
    seen = 0
    for folder, file in cases(golden / "metrics" / "ecgbench"):
        gold = json.loads((folder / "gold.json").read_text())
        result = ecgbench.score(folder.name, rows(file), gold, rules="legacy")
        wanted = expected[folder.name][file.stem]
        if wanted["per_file"]:
            metrics = wanted["per_file"][0][1]
        else:
            metrics = next(iter(wanted["score_dict"].values()))
        ours = [result["f1"], result["auc"], result["hamming"]] if "f1" in result else result["accuracy"]
        assert np.allclose(ours, np.array(metrics, dtype=float), rtol=0, atol=1e-9, equal_nan=True), folder.name
        seen += 1
    assert seen == 12


def test_legacy_letters_equal_the_original(golden):
    expected = json.loads((golden / "metrics" / "expected.json").read_text())
    assert [legacy.letter(case["text"]) for case in expected["extract_letter"]] == [
        case["value"] for case in expected["extract_letter"]
    ]


LABEL_TEXTS = [
    ("ABNORMAL ecg with MI", {"MI"}),
    ("NORM.", {"NORM"}),
    ("Not NORM. Diagnosis is MI", {"MI"}),
    ("no MI, but CD", {"CD"}),
    ("mi, cd", {"MI", "CD"}),
    ("Considering NORM at first.\nAnswer: HYP", {"HYP"}),
    ("pacemaker", None),
    ("", None),
    ("none of these", set()),
]


@pytest.mark.parametrize(("text", "stated"), LABEL_TEXTS, ids=[text or "empty" for text, _ in LABEL_TEXTS])
def test_strict_labels_are_words_and_not_denied(text, stated):
    assert parsing.labels(text, TASKS["ptb-test"].labels) == stated


@pytest.mark.parametrize(
    ("text", "stated"),
    [
        ("II-AVB", None),
        ("IRBBB", None),
        ("STEMI in V1", None),
        ("PACED rhythm", None),
        ("AFL", None),
        ("I-AVB and PAC", {"I-AVB", "PAC"}),
        ("STE, PVC.", {"STE", "PVC"}),
    ],
)
def test_strict_labels_are_not_substrings(text, stated):
    assert parsing.labels(text, TASKS["cpsc-test"].labels) == stated


def test_the_label_st_is_not_the_st_segment():
    space = TASKS["code15-test"].labels
    assert parsing.labels("ABNORMAL: ST changes, AF", space) == {"AF"}
    assert parsing.labels("ST, AF", space) == {"ST", "AF"}


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("A", "A"), ("b", "B"), ("B.", "B"), ("(D)", "D"), ("B)", "B"), ("**C**", "C"), ("A. foo", "A"), (" A ", "A"),
        ("Answer: A", "A"), ("Answer: b.", "B"), ("Answer: (C) RBBB", "C"), ("The correct option is D. because", "D"),
        ("The answer is (C)", "C"), ("Final answer: C", "C"), ("This ECG. Answer: A", "A"),
        ("Answer: x Answer: B", "B"),
        ("Answer: Bundle", None), ("Answer: none", None), ("ECG.", None), ("The correct option is not A", None),
        ("I think B. or A.", None), ("Answer: H and A", None), ("Both E. and F.", None), ("I", None), ("", None),
        ("no idea", None), ("Answer: a wide QRS", None), ("A. foo\nB. bar", None),
    ],
)  # fmt: skip
def test_strict_choice_is_the_stated_option(text, letter):
    assert parsing.choice(text, "ABCDEFGH") == letter


def test_strict_choice_reads_a_repeated_option():
    options = parsing.lettered_options("Which?\nA. sinus rhythm\nB. atrial fibrillation\nC. no atrial fibrillation")
    assert options == {"A": "sinus rhythm", "B": "atrial fibrillation", "C": "no atrial fibrillation"}
    assert parsing.choice("It shows sinus rhythm.", "ABC", options) == "A"
    assert parsing.choice("no atrial fibrillation", "ABC", options) == "C"
    assert parsing.choice("sinus rhythm or atrial fibrillation", "ABC", options) is None


def test_ecgqa_is_set_exact():
    options = parsing.listed_options(
        "Which? Options: yes, no, not sure.\nOnly answer based on the given Options without any explanation."
    )
    assert options == ["yes", "no", "not sure"]
    assert parsing.joined_options("yesnot sure", options) == {"yes", "not sure"}
    assert parsing.joined_options("Yes, no", options) == {"yes", "no"}
    assert parsing.options_in("not sure", options) == {"not sure"}
    assert parsing.options_in("on", options) == set()
    assert parsing.options_in("no, yes.", options) == {"no", "yes"}
    assert parsing.options_in("0.12 s", ["0.12 s", "0.1"]) == {"0.12 s"}


def gold_of(task, n, rng):
    space = TASKS[task].labels or tuple(TASKS[task].letters)
    picked = [space[i] for i in rng.integers(0, len(space), n)]
    return [
        {"id": f"r{i}", "patient_id": i // 2, "conversations": [{"value": "?"}, {"value": value}]}
        for i, value in enumerate(picked)
    ]


@pytest.mark.parametrize("task", ["csn-test-no-cot", "mmmu-ecg", "ptb-test", "cpsc-test", "code15-test"])
def test_a_perfect_answerer_scores_all(task):
    gold = gold_of(task, 400, np.random.default_rng(0))
    said = [{"id": g["id"], "text": g["conversations"][1]["value"]} for g in gold]
    result = ecgbench.score(task, said, gold, draws=50)
    assert result.get("accuracy", result.get("exact")) == 1
    assert result.get("f1", 1) == result.get("balanced_accuracy", 1) == 1
    assert result.get("hamming", 0) == 0
    assert result["by_patient"]


@pytest.mark.parametrize("task", ["csn-test-no-cot", "mmmu-ecg"])
def test_a_random_chooser_is_at_chance(task):
    rng = np.random.default_rng(1)
    gold = gold_of(task, 2000, rng)
    letters = TASKS[task].letters
    said = [{"id": g["id"], "text": letters[rng.integers(len(letters))]} for g in gold]
    result = ecgbench.score(task, said, gold)
    interval = result["intervals"]["accuracy"]
    assert interval["low"] <= result["chance"] <= interval["high"]
    assert result["unparsed"] == 0


def test_a_random_labeller_is_at_chance():
    rng = np.random.default_rng(5)
    gold = gold_of("ptb-test", 2000, rng)
    space = TASKS["ptb-test"].labels
    said = []
    for g in gold:
        stated = [label for label in space if rng.random() < 0.5]
        likelihoods = {label: rng.random() for label in space}
        said.append({"id": g["id"], "text": ", ".join(stated) or "none", "likelihoods": likelihoods})
    result = ecgbench.score("ptb-test", said, gold)
    for name in ("balanced_accuracy", "hamming", "auc"):
        interval = result["intervals"][name]
        assert interval["low"] <= 0.5 <= interval["high"], name


def test_unread_and_missing_answers_are_wrong_and_counted():
    gold = gold_of("ptb-test", 100, np.random.default_rng(3))
    said = [{"id": g["id"], "text": g["conversations"][1]["value"]} for g in gold]
    for row in said[:10]:
        row["text"] = "I cannot tell"
    result = ecgbench.score("ptb-test", said[:-5], gold, draws=0)
    assert (result["unparsed"], result["missing"], result["unparsed_rate"]) == (10, 5, 0.15)
    assert result["exact"] == pytest.approx(0.85)
    assert result["hamming"] == pytest.approx(0.15)
    assert "auc" not in result  # hard labels have a balanced accuracy, not an area


def test_auc_from_likelihoods_is_sklearns():
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(4)
    gold = gold_of("ptb-test", 300, rng)
    space = TASKS["ptb-test"].labels
    said, table = [], np.round(rng.random((300, 5)), 1)
    for g, values in zip(gold, table):
        said.append({"id": g["id"], "text": "MI", "likelihoods": dict(zip(space, values.tolist()))})
    true = np.array([[label == g["conversations"][1]["value"] for label in space] for g in gold])
    result = ecgbench.score("ptb-test", said, gold, draws=20)
    assert result["auc"] == pytest.approx(roc_auc_score(true, table, average="macro"), abs=1e-9)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda said: [*said, said[0]], "r0"),
        (lambda said: [*said, {"id": "other", "text": "MI"}], "other"),
        (lambda said: [{"text": "MI"}], "id"),
        (lambda said: [{"id": "r0"}], "text"),
    ],
    ids=["duplicate", "unknown", "no_id", "no_text"],
)
def test_files_that_do_not_fit_are_refused(change, words):
    gold = gold_of("ptb-test", 5, np.random.default_rng(0))
    said = [{"id": g["id"], "text": "MI"} for g in gold]
    with pytest.raises(DataError, match=words):
        ecgbench.score("ptb-test", change(said), gold)


def test_names_and_rules_that_do_not_exist_are_refused():
    with pytest.raises(DataError, match="cpsc-test"):
        ecgbench.score("nothing", [], [])
    with pytest.raises(DataError, match="strict"):
        ecgbench.score("ptb-test", [], [], rules="lax")
    with pytest.raises(DataError, match=r"report\.score"):
        ecgbench.score("arena", [], [{"id": "1", "answer": ""}])


def test_strict_on_golden_files_differs_only_where_it_should(golden):
    folder = golden / "metrics" / "ecgbench" / "cpsc-test"
    gold = json.loads((folder / "gold.json").read_text())
    clean = ecgbench.score("cpsc-test", rows(folder / "step-100.jsonl"), gold, draws=0)
    old = ecgbench.score("cpsc-test", rows(folder / "step-100.jsonl"), gold, rules="legacy")
    assert clean["f1"] == pytest.approx(old["f1"])
    assert clean["balanced_accuracy"] == pytest.approx(old["auc"])  # what the original calls AUC
    assert not math.isnan(clean["hamming"])
