"""Truth that does not come from our delineation, and draft and final text scored against it."""

from itertools import pairwise

import pytest

from gem_lightning.composition.compose import compose
from gem_lightning.ecg import DIAGNOSES, simulate
from gem_lightning.errors import DataError
from gem_lightning.evaluation.base import Prediction
from gem_lightning.evaluation.predictors import RevisedPredictor, as_predictor
from gem_lightning.evaluation.simulator import SimulatorBenchmark
from gem_lightning.evaluation.truth import expert_marks, score_text, truth_of_marks, truth_of_simulation
from gem_lightning.evaluation.verified import side_by_side
from gem_lightning.features import findings, measure
from gem_lightning.revision import VerifyOptions

LIES = "Atrial fibrillation at 31 bpm. PR 320 ms. Left bundle branch block. No P waves. QRS 200 ms."


def test_the_simulators_truth_accepts_true_texts_and_no_others():
    right = wrong = stated = abnormal = 0
    for seed, name in enumerate(DIAGNOSES):
        ecg = simulate(name, seed=seed)
        truth = truth_of_simulation(ecg)
        assert truth.features.qrs_ms == pytest.approx(ecg.parameters["qrs_ms"], abs=2.1)
        features = measure(ecg.record)
        good = score_text(compose(features, findings(features), seed=seed), truth)
        right, wrong = right + good.right, wrong + good.wrong
        stated, abnormal = stated + good.stated, abnormal + good.abnormal
        bad = score_text(LIES, truth)
        assert bad.wrong >= 3
        assert bad.right <= 2
    assert right / (right + wrong) > 0.985
    assert stated / abnormal > 0.95


def test_codes_in_the_truth_decide_before_measurements():
    ecg = simulate("lbbb", seed=1)
    truth = truth_of_simulation(ecg)
    for text, right, wrong in (
        ("Left bundle branch block.", 1, 0),
        ("No left bundle branch block.", 0, 1),
        ("Right bundle branch block.", 0, 1),
        ("No atrial fibrillation.", 1, 0),
        ("Left atrial enlargement of unknown cause.", 0, 0),
    ):
        score = score_text(text, truth)
        assert (score.right, score.wrong) == (right, wrong) or "atrial enlargement" in text, text


@pytest.mark.parametrize("name", ["1", "3"])
def test_experts_marks(shared_data, name):
    import numpy as np

    wfdb = pytest.importorskip("wfdb")
    from gem_lightning.ecg import LEADS, EcgRecord

    path = shared_data / "ludb_odd" / "data" / name
    signal = wfdb.rdrecord(str(path), physical=False).d_signal.T / 1000
    record = EcgRecord(signal.astype(np.float32), 500.0, LEADS)
    marks = expert_marks(record, path)
    assert marks.beats >= 5
    order = [marks.global_marks[m] for m in ("P_on", "QRS_on", "R", "QRS_off", "T_off")]
    for before, after in pairwise(order):
        known = np.isfinite(before) & np.isfinite(after)
        assert known.any()
        assert (before[known] < after[known]).all()
    truth = truth_of_marks(record, path, ["sinus_bradycardia"], ["sinus_bradycardia", "lbbb"])
    ours = measure(record)
    assert truth.features.heart_rate_bpm == pytest.approx(ours.heart_rate_bpm, abs=2)
    assert truth.features.qrs_ms == pytest.approx(ours.qrs_ms, abs=25)
    score = score_text("Sinus bradycardia. Left bundle branch block.", truth)
    assert (score.right, score.wrong, score.stated, score.abnormal) == (1, 1, 1, 1)


def test_draft_and_final_stand_next_to_each_other(tmp_path):
    """Any predictor, revised after it has written: here a function that always lies."""
    benchmark = SimulatorBenchmark(n=12, pairs=0, draws=50, cases=0, diagnoses=["sinus", "lbbb", "av_block_1"])
    liar = as_predictor(lambda record, question=None: LIES, "liar")
    predictor = RevisedPredictor(liar, VerifyOptions("revise"))
    result = benchmark(predictor, tmp_path)
    found = result.metrics["verified"]
    assert predictor.name == "liar verify=revise"
    assert found["draft"]["precision"]["value"] < 0.4
    assert found["final"]["precision"]["value"] > 0.95
    assert found["kept_share"] < 0.5
    assert found["final"]["empty"] == 0
    assert result.report.tables[0].title.startswith("Draft and final")
    assert "not the verifier" in result.report.tables[0].note
    again = benchmark(predictor, tmp_path)  # from the file of answers
    assert again.metrics["verified"] == found
    plain = benchmark(liar, tmp_path / "plain")
    assert "verified" not in plain.metrics


def test_an_endpoint_cannot_be_guided():
    for options in (VerifyOptions("guide"), VerifyOptions("rerank"), VerifyOptions("revise", tries=2)):
        with pytest.raises(DataError, match="need the network"):
            RevisedPredictor(as_predictor(lambda record, question=None: "", "api"), options)


def test_side_by_side_counts_empty_and_garbled_texts():
    truths = {str(k): truth_of_simulation(simulate("lbbb", seed=k)) for k in range(2)}
    answers = {
        "0": Prediction("", draft="PR 16. Normal axis.09 ms.", kept=0.0, tokens=10),
        "1": Prediction("Left bundle branch block.", draft="Left bundle branch block.", kept=1.0, tokens=20),
    }
    found = side_by_side(answers, truths, draws=20)
    assert (found["final"]["empty"], found["draft"]["empty"]) == (1, 0)
    assert found["draft"]["garbled"] > 0.5
    assert found["final"]["garbled"] == 0
    assert (found["kept_share"], found["tokens"]) == (0.5, 15)
    assert found["final"]["precision"]["value"] == 1


def test_claims_of_revised_texts_are_scored_against_experts(shared_data, tmp_path):
    """The verifier's precision of a final text is 1 by construction: the page shows that of the draft."""
    import shutil

    pytest.importorskip("wfdb")
    from gem_lightning.evaluation.claims import ClaimsBenchmark

    (tmp_path / "in").mkdir()
    for name in ("1", "3"):
        for path in (shared_data / "ludb_odd" / "data").glob(f"{name}.*"):
            shutil.copy(path, tmp_path / "in")
    liar = RevisedPredictor(as_predictor(lambda record, question=None: LIES, "liar"), VerifyOptions("revise"))
    marked = ClaimsBenchmark(str(tmp_path / "in"), draws=20, cases=0, marks="wfdb")(liar, tmp_path / "a")
    plain = ClaimsBenchmark(str(tmp_path / "in"), draws=20, cases=0)(liar, tmp_path / "b")
    for result in (marked, plain):
        assert result.metrics["precision"]["value"] < 0.5
        assert "own sentences" in result.report.notes[0]
    assert "verified" not in plain.metrics
    found = marked.metrics["verified"]
    assert found["final"]["precision"]["value"] > 0.8 > found["draft"]["precision"]["value"]
    with pytest.raises(DataError, match="marks"):
        ClaimsBenchmark(str(tmp_path / "in"), marks="atr")


def test_a_model_behind_an_endpoint_is_revised_too():
    import hydra

    from gem_lightning.evaluate import load_predictors
    from gem_lightning.evaluation.predictors import RevisedPredictor

    place = ["weights=some", "endpoint.base_url=http://127.0.0.1:1/v1", "out=unused"]
    with hydra.initialize_config_module("gem_lightning.conf", version_base="1.3"):
        (plain,) = load_predictors(hydra.compose("evaluate", place))
        (held,) = load_predictors(hydra.compose("evaluate", [*place, "verify=revise"]))
    assert not isinstance(plain, RevisedPredictor)
    assert isinstance(held, RevisedPredictor)
    assert held.options.verify == "revise"
