import json

import pytest

from gem_lightning.errors import DataError
from gem_lightning.evaluation import grounding, report
from gem_lightning.evaluation.llm_judge import grounding_legacy


@pytest.fixture(scope="module")
def expected(golden):
    return json.loads((golden / "metrics" / "expected.json").read_text())


@pytest.fixture(scope="module")
def answers(golden):
    return json.loads((golden / "metrics" / "grounding" / "judge_outputs.json").read_text())


def test_legacy_equals_the_original(answers, expected):
    wanted = expected["grounding"]
    for name, text in answers.items():
        read = grounding_legacy.read(text)
        assert {key: value["Scores"] for key, value in read.items()} == wanted["parsed_scores"][name]
        assert {key: value["Explanations"] for key, value in read.items()} == wanted["parsed_explanations"][name]
    result = grounding.score(answers, rules="legacy")
    assert result["per_id"] == wanted["per_id"]
    assert result["means"] == pytest.approx(wanted["mean"], abs=1e-9)


def test_legacy_equals_the_original_on_odd_answers(golden):
    items = json.loads((golden / "metrics" / "grounding" / "single_items.json").read_text())
    for name, item in items.items():
        if "raises" in item:
            with pytest.raises(TypeError):
                grounding.score({"x": item["raw"]}, rules="legacy")
        else:
            assert grounding_legacy.read(item["raw"]) == item["parsed"], name
            assert grounding.score({"x": item["raw"]}, rules="legacy")["per_id"]["x"] == item["result"], name


def test_nothing_in_an_answer_is_run(tmp_path):
    marker = tmp_path / "ran"
    code = f"1+__import__('pathlib').Path('{marker}').touch()+1"
    answer = '{"DiagnosisAccuracy": [{"Score": CODE, "Explanation": "e"}]}'.replace("CODE", code)
    for rules in ("legacy", "strict"):
        grounding.score({"x": answer}, rules=rules, draws=0)
    assert not marker.exists()


def full(**changes):
    one = [{"Score": 1, "Explanation": "e"}]
    value = {criterion.name: one for criterion in grounding.V1} | changes
    return {key: item for key, item in value.items() if item is not None}


GOOD = json.dumps(full(DiagnosisAccuracy=[{"Score": 2, "Explanation": 'see [1], said "LBBB" at https://x.y'}]))

# (answer, reason that DiagnosisAccuracy is missing or None, repair that is counted or None)
ODD = {
    "plain": (GOOD, None, None),
    "fenced": (f"```json\n{GOOD}\n```", None, "fence"),
    "prose": (f"Here you are: {GOOD} Hope it helps {{smile}}", None, "prose"),
    "curly": (GOOD.replace('"DiagnosisAccuracy"', "“DiagnosisAccuracy”"), None, "quotes"),
    "trailing_comma": (GOOD[:-1] + ",}", None, "repaired"),
    "text": (GOOD.replace('"Score": 2', '"Score": "2"'), None, "number as text"),
    "plus": (GOOD.replace('"Score": 2', '"Score": "+2"'), None, "number as text"),
    "bare_plus": (GOOD.replace('"Score": 2', '"Score": +2'), None, "repaired"),
    "sum": (GOOD.replace('"Score": 2', '"Score": 1+1'), None, "arithmetic"),
    "of": (GOOD.replace('"Score": 2', '"Score": "2/2"'), None, "score of the scale"),
    "comment": (GOOD.replace('"Score": 2,', '"Score": 2, // right\n'), None, "repaired"),
    "no_comma": (GOOD.replace("}], ", "}] ", 1), None, "repaired"),
    "other_key": (GOOD.replace('"DiagnosisAccuracy"', '"diagnosis_accuracy"'), None, None),
    "old_key": (GOOD.replace("ECGFeatureGrounding", "GroundedECGUnderstanding"), None, "other spelling"),
    "object": (json.dumps(full(DiagnosisAccuracy={"Score": 2})), None, "not a list"),
    "null": (json.dumps(full(DiagnosisAccuracy=[{"Score": None}])), "null", None),
    "out_of_range": (json.dumps(full(DiagnosisAccuracy=[{"Score": 2}, {"Score": 7}])), "out of range", None),
    "negative": (json.dumps(full(DiagnosisAccuracy=[{"Score": -1}])), "out of range", None),
    "words": (json.dumps(full(DiagnosisAccuracy=[{"Score": "good"}])), "not a number", None),
    "nan": (json.dumps(full(DiagnosisAccuracy=[{"Score": float("nan")}])), "not a number", None),
    "no_score": (json.dumps(full(DiagnosisAccuracy=[{"Explanation": "x"}])), "no score", None),
    "empty": (json.dumps(full(DiagnosisAccuracy=[])), "empty", None),
    "absent": (json.dumps(full(DiagnosisAccuracy=None)), "absent", None),
    "cut": (GOOD[:60], "cut off", "cut off"),
    "only_prose": ("I cannot judge this.", "unreadable", None),
    "nothing": ("", "unreadable", None),
    "none": (None, "unreadable", None),
}


@pytest.mark.parametrize("name", ODD)
def test_strict_reads_or_reports_every_answer(name):
    answer, reason, repair = ODD[name]
    result = grounding.score({"x": answer}, draws=0)
    figure = result["per_id"]["x"].get("DiagnosisAccuracy")
    if reason is None:
        assert figure == 1.0, result
        assert "DiagnosisAccuracy" not in result["missing"]
        assert len(result["per_id"]["x"]) == 8
    else:
        assert figure is None
        assert result["missing"]["DiagnosisAccuracy"] == {reason: 1}
        assert result["bounds"]["DiagnosisAccuracy"] == [0, 100]
    if repair:
        assert result["repairs"][repair] >= 1
    assert result["n"] == 1
    assert (result["unreadable"] == ["x"]) == (reason == "unreadable")


def test_strict_accounts_for_every_record():
    answers = {name: answer for name, (answer, _, _) in ODD.items()}
    result = grounding.score(answers, draws=200)
    missing = sum(result["missing"]["DiagnosisAccuracy"].values())
    kept = sum("DiagnosisAccuracy" in metrics for metrics in result["per_id"].values())
    assert missing + kept == result["n"] == len(ODD)
    low, high = result["bounds"]["DiagnosisAccuracy"]
    assert low < result["means"]["DiagnosisAccuracy"] <= high


def test_strict_metrics_are_those_of_the_scales():
    answer = full(
        DiagnosisAccuracy=[{"Score": 2}, {"Score": 1}],
        LeadAssessmentCoverage=[{"Score": 1}] * 15,
        LeadAssessmentAccuracy=[{"Score": 2}] * 6,
        ECGFeatureGrounding=[{"Score": 80}],
    )
    means = grounding.score({"x": answer}, draws=0)["means"]
    assert means["DiagnosisAccuracy"] == 75
    assert means["LeadAssessmentCoverage"] == pytest.approx(100)
    assert means["LeadAssessmentAccuracy"] == pytest.approx(50)
    assert means["ECGFeatureGrounding"] == 80


def test_the_second_version_has_its_own_lead_criterion():
    answer = full(LeadAssessmentCoverage=None, LeadAssessmentAccuracy=None, LeadEvidenceValidity=[{"Score": 1}] * 4)
    result = grounding.score({"x": answer, "y": json.dumps(answer)}, draws=0)
    assert result["version"] == "v2"
    assert result["means"]["LeadEvidenceValidity"] == 4
    assert not result["missing"]


@pytest.mark.parametrize("folder", ["well_and_fenced", "with_unfenced_garbage"])
def test_report_legacy_equals_the_original(golden, expected, folder):
    texts = {path.stem: path.read_text() for path in (golden / "metrics" / "report" / folder).iterdir()}
    result = report.score(texts, rules="legacy")
    wanted = expected[f"report_{folder}"]
    assert result["aspects"] == pytest.approx(wanted["per_aspect"], abs=1e-9)
    assert result["count"] == wanted["count"]
    assert result["average"] == pytest.approx(wanted["average"], abs=1e-9)


def test_report_strict_does_not_reuse_scores(golden):
    folder = golden / "metrics" / "report" / "with_unfenced_garbage"
    texts = {path.stem: path.read_text() for path in folder.iterdir()} | {"9": "sorry"}
    result = report.score(texts, draws=0)
    assert result["unreadable"] == ["9"]
    assert result["aspects"]["Diagnosis"] == pytest.approx(10 * (0 + 0 + 5 + 5 + 5 + 0 + 10 + 5) / 8)


def test_arena_has_its_own_aspects():
    answer = {"Accuracy": {"Score": 8}, "Completeness": {"Score": 6}, "Instruction Adherence": {"Score": 10}}
    assert report.score({"1": json.dumps(answer)}, task="arena", draws=0)["average"] == pytest.approx(80)


def test_wrong_arguments_are_refused():
    with pytest.raises(DataError, match="strict"):
        grounding.score({}, rules="lax")
    with pytest.raises(DataError, match="answers by id"):
        grounding.score({})
    with pytest.raises(DataError, match="arena"):
        report.score({}, task="x")
