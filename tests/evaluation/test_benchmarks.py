import json
import shutil

import numpy as np
import pytest

from gem_lightning.ecg import simulate, write_wfdb
from gem_lightning.errors import DataError, GemError
from gem_lightning.evaluation.base import Prediction, Query, answer_all, read_predictions
from gem_lightning.evaluation.claims import ClaimsBenchmark
from gem_lightning.evaluation.comparison import compare
from gem_lightning.evaluation.ecgbench.benchmark import EcgBench
from gem_lightning.evaluation.llm_judge.benchmark import GroundingBenchmark
from gem_lightning.evaluation.perturbations import PERTURBATIONS, perturb
from gem_lightning.evaluation.predictors import ApiPredictor, FilePredictor, as_predictor
from gem_lightning.evaluation.robustness import RobustnessBenchmark
from gem_lightning.evaluation.simulator import SimulatorBenchmark
from gem_lightning.llm.client import ChatClient
from gem_lightning.sources.base import Simulated
from helpers_llm_server import LoopbackLLM


def true_text(ecg):
    """What somebody would write who knows the truth."""
    facts, names = ecg.parameters, ", ".join(code.replace("_", " ") for code in ecg.diagnoses)
    pr = f" PR {facts['pr_ms']:.0f} ms," if facts["pr_ms"] else ""
    intervals = f"QRS {facts['qrs_ms']:.0f} ms, QT {facts['qt_ms']:.0f} ms"
    return f"Heart rate {facts['heart_rate']:.0f} bpm,{pr} {intervals}. {names}."


class Knows:
    """Answers a simulator benchmark with the truth."""

    name = "oracle"

    def __init__(self, benchmark):
        self.benchmark, self.asked = benchmark, []

    def predict(self, query):
        self.asked.append(query.id)
        return Prediction(true_text(self.benchmark.ecg(query.id)))


DIAGNOSES = ["sinus", "atrial_fibrillation", "av_block_1", "lbbb", "sinus_tachycardia"]


def test_an_oracle_scores_all_on_the_simulator(tmp_path):
    benchmark = SimulatorBenchmark(n=20, diagnoses=DIAGNOSES, draws=50, cases=2)
    result = benchmark(Knows(benchmark), tmp_path)
    for row in result.metrics["numbers"].values():
        assert row["mae"]["value"] < 0.51  # rounding
        assert row["quoted"]["value"] == 1
        assert row["invented"] == 0
        assert row["mae"]["value"] < row["median_answer_mae"]
    assert result.metrics["findings"]["f1"]["value"] > 0.95
    assert result.metrics["change"]["identical_text"]["value"] == 0
    assert result.metrics["change"]["rate_followed"]["value"] == 1
    result.save(tmp_path)
    saved = json.loads((tmp_path / "results.json").read_text())
    assert saved["table"]["header"][0] == "Quoted"
    assert len(saved["table"]["rows"]) == 4
    page = (tmp_path / "report.html").read_text()
    assert "<script" not in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert page.count("data:image/webp") == 2


def test_a_parrot_is_found_out_on_the_simulator(tmp_path):
    benchmark = SimulatorBenchmark(n=20, diagnoses=DIAGNOSES, draws=50, cases=0)
    parrot = as_predictor(lambda record, question=None: "Sinus rhythm at 75 bpm. PR 160 ms. Possible LBBB.", "parrot")
    metrics = benchmark(parrot, tmp_path).metrics
    assert metrics["numbers"]["rate"]["mae"]["value"] > 5
    assert metrics["numbers"]["PR"]["invented"] == 4  # atrial fibrillation has no PR
    assert metrics["numbers"]["QRS"]["quoted"]["value"] == 0
    assert metrics["numbers"]["QRS"]["mae"]["value"] is None
    assert metrics["change"]["identical_text"]["value"] == 1
    assert metrics["change"]["rate_followed"]["value"] == 0
    assert metrics["uncertainty"]["hedged"]["findings"] == 20
    assert metrics["uncertainty"]["hedged"]["true"]["value"] == pytest.approx(0.2)


def test_missing_and_failed_answers_are_counted(tmp_path):
    benchmark = SimulatorBenchmark(n=5, diagnoses=["sinus"], pairs=0, draws=0, cases=0)
    names = [f"sim-7919-{i:05d}" for i in range(5)]
    answers = {names[0]: Prediction("Rate 70 bpm."), names[1]: Prediction("", error="broken")}
    metrics = benchmark.score(answers).metrics
    assert (metrics["missing"], metrics["failed"], metrics["empty"]) == (3, 1, 4)
    assert metrics["numbers"]["rate"]["quoted"]["value"] == pytest.approx(0.2)


def test_a_killed_run_goes_on_where_it_stopped(tmp_path):
    benchmark = SimulatorBenchmark(n=6, diagnoses=["sinus"], pairs=0, draws=0, cases=0)
    first = Knows(benchmark)
    benchmark(first, tmp_path)
    path = tmp_path / "predictions.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:3]) + lines[3][:20])  # as kill -9 in the middle of a line leaves it
    again = Knows(benchmark)
    benchmark(again, tmp_path)
    assert again.asked == first.asked[3:]
    assert len(read_predictions(path)) == 6
    with pytest.raises(DataError, match="oracle"):
        answer_all(as_predictor(lambda record, question=None: "", "other"), ["x"], Query, path)


def test_errors_of_a_model_are_kept_and_asked_again(tmp_path):
    calls = []

    def moody(record, question=None):
        calls.append(1)
        if len(calls) == 1:
            raise GemError("out of paper")
        return "fine"

    path = tmp_path / "p.jsonl"
    first = answer_all(as_predictor(moody, "m"), ["a", "b"], Query, path)
    assert "a" in first
    assert first["a"].error == "out of paper"
    second = answer_all(as_predictor(moody, "m"), ["a", "b"], Query, path)
    assert second["a"].text == "fine"
    assert len(calls) == 3


def composed(record, question=None, withhold=(), image=None):
    from gem_lightning.features import findings, measure
    from gem_lightning.grounding import compose

    if "signal" in withhold:
        return "No signal was given."
    features = measure(record)
    return compose(features, findings(features))


def test_claims_of_a_composer_hold_and_of_another_record_do_not(tmp_path):
    benchmark = ClaimsBenchmark(Simulated(n=6, diagnoses=["sinus", "atrial_fibrillation"]), draws=50, cases=1)
    result = benchmark(as_predictor(composed, "composer"), tmp_path)
    assert result.metrics["precision"]["value"] > 0.95
    assert result.metrics["precision_on_another_record"] < 0.8
    assert result.metrics["records"] == 6
    assert result.groups["simulated-0"] == "simulated-0"
    wrong = ClaimsBenchmark(Simulated(n=2, diagnoses=["sinus"]), draws=0, cases=0)
    liar = as_predictor(lambda record, question=None: "Heart rate 200 bpm, QRS 300 ms.", "liar")
    metrics = wrong(liar, tmp_path / "liar").metrics
    assert metrics["precision"]["value"] == 0
    assert metrics["hallucination_rate"]["value"] == 1
    assert metrics["by_kind"]["qrs"]["contradicted"] == 2


def test_claims_over_real_files_with_one_that_cannot_be_read(shared_data, tmp_path):
    for name in ("JS20000", "JS20001"):
        for suffix in (".hea", ".mat"):
            shutil.copy(shared_data / "cinc2021" / f"{name}{suffix}", tmp_path)
    (tmp_path / "broken.hea").write_text("broken 12 500 5000\n")
    result = ClaimsBenchmark(tmp_path, draws=0, cases=0)(as_predictor(composed, "composer"), tmp_path / "out")
    assert result.metrics["records"] == 2
    assert list(result.metrics["unreadable"]) == ["broken"]
    assert result.metrics["precision"]["value"] > 0.9


def test_every_perturbation_step_changes_its_query_and_repeats_exactly():
    record, other = simulate("sinus", seed=1, snr_db=25).record, simulate("lbbb", seed=2).record
    query = Query("a", "What?", record)
    for name, perturbation in PERTURBATIONS.items():
        for step, (label, _) in enumerate(perturbation.steps):
            one, two = (perturb(query, name, step, other, seed=3) for _ in range(2))
            assert (one.question, one.withhold) == (two.question, two.withhold)
            np.testing.assert_array_equal(one.record.signal, two.record.signal)
            pictures = [q.image if q.image is not None else np.zeros(0) for q in (one, two)]
            np.testing.assert_array_equal(*pictures, err_msg=f"{name} {label}")
            changed = (
                one.question != query.question
                or one.withhold
                or one.image is not None
                or one.record.signal.shape != record.signal.shape
                or not np.array_equal(one.record.signal, record.signal, equal_nan=True)
            )
            assert changed, (name, label)


def test_noise_is_as_strong_as_it_says():
    record = simulate("sinus", seed=1).record
    for step, decibel in ((1, 20), (5, 0)):
        noisy = perturb(Query("a", None, record), "noise", step, record).record
        eight = [0, 1, *range(6, 12)]
        noise, clean = noisy.signal[eight] - record.signal[eight], record.signal[eight]
        assert 10 * np.log10(np.mean(clean**2) / np.mean(noise**2)) == pytest.approx(decibel, abs=0.5)


def test_robustness_curves_fall_where_the_signal_is_hurt(tmp_path):
    source = Simulated(n=6, diagnoses=["sinus", "lbbb"], snr_db=30)
    chosen = ["noise", "missing modality", "conflict", "false history"]
    benchmark = RobustnessBenchmark(source, chosen, draws=20)
    result = benchmark(as_predictor(composed, "composer"), tmp_path)
    metrics = result.metrics
    assert metrics["clean"]["claims_kept"]["value"] == 1
    assert metrics["noise"]["0"]["claims_kept"]["value"] < metrics["noise"]["30"]["claims_kept"]["value"]
    assert metrics["missing modality"]["signal"]["precision"]["value"] is None
    assert metrics["conflict"]["another patient"]["noticed"]["value"] == 0
    assert metrics["false history"]["known atrial fibrillation"]["adopted"]["value"] == 0
    assert len(result.report.curves) == len(chosen)
    assert "noise: 0" in result.report.to_markdown()


def test_a_model_that_believes_what_it_is_told_is_found_out(tmp_path):
    def gullible(record, question=None, withhold=()):
        return "Atrial fibrillation." if "fibrillation" in (question or "") else "Sinus rhythm."

    benchmark = RobustnessBenchmark(Simulated(n=2, diagnoses=["sinus"]), ["false history"], draws=0)
    adopted = benchmark(as_predictor(gullible, "g"), tmp_path).metrics["false history"]
    assert adopted["known atrial fibrillation"]["adopted"]["value"] == 1
    with pytest.raises(DataError, match="noise"):
        RobustnessBenchmark(Simulated(n=2), ["nois"])


def test_ecgbench_from_a_folder_with_somebody_elses_predictions(golden, tmp_path):
    folder = tmp_path / "bench"
    folder.mkdir()
    golden = golden / "metrics" / "ecgbench"
    shutil.copy(golden / "cpsc-test" / "gold.json", folder / "cpsc-test.json")
    predictions = golden / "cpsc-test" / "step-100.jsonl"
    benchmark = EcgBench(folder, draws=20)
    one = benchmark(FilePredictor(predictions, "theirs"), tmp_path / "a")
    assert one.metrics["cpsc-test"]["legacy"]["f1"] == pytest.approx(0.2220836731706297, abs=1e-9)
    one.save(tmp_path / "a")
    other = benchmark(FilePredictor(golden / "cpsc-test" / "step-final.jsonl", "ours"), tmp_path / "b")
    other.save(tmp_path / "b")
    gap = compare(tmp_path / "a", tmp_path / "b")
    exact = [r.metrics["cpsc-test"]["strict"]["exact"] for r in (one, other)]
    assert gap.metrics["cpsc-test"]["difference"]["value"] == pytest.approx(exact[0] - exact[1])
    assert gap.metrics["cpsc-test"]["p_adjusted"] >= gap.metrics["cpsc-test"]["p_value"]
    with pytest.raises(DataError, match=r"ptb-test\.json"):
        EcgBench(tmp_path / "a")


def test_missing_predictions_of_a_file_are_missing_not_empty(golden, tmp_path):
    shutil.copy(golden / "metrics" / "ecgbench" / "csn-test" / "gold.json", tmp_path / "csn-test-no-cot.json")
    (tmp_path / "few.jsonl").write_text('{"id": "csn-test-0", "response": "B"}\n')
    result = EcgBench(tmp_path, draws=0)(FilePredictor(tmp_path / "few.jsonl"), tmp_path / "out")
    assert result.metrics["csn-test-no-cot"]["strict"]["missing"] == 59
    assert result.metrics["csn-test-no-cot"]["legacy"]["n"] == 1


def grade(request, n):
    """A judge that believes what agrees with the reference word by word."""
    import re

    from gem_lightning.evaluation.llm_judge.grounding import V1

    blocks = re.findall(r"=== [^\n]+ ===\n(.*?)\n=== End ===", request["messages"][0]["content"], re.DOTALL)
    reference, text = (set(re.findall(r"[a-z]+(?:-[a-z]+)*|\d+(?:\.\d+)?", b.lower())) for b in blocks[-2:])
    share = len(reference & text) / len(reference)
    level = min(1.0, 1.5 * max(0.0, share - 0.2)) if share > 0.55 else 0.1
    value = {}
    for c in V1:
        entries = int(float(c.combine[4:]) // c.high) if "/" in c.combine else 1
        value[c.name] = [{"Score": level * c.high, "Explanation": "e"}] * entries
    return json.dumps(value)


def test_grounding_with_two_judges_keeps_them_apart(tmp_path):
    rows = [
        {"id": f"g{i}", "report": f"Sinus rhythm, {60 + i} bpm.", "conversations": [
            {"from": "human", "value": "<image>\nInterpret."}, {"from": "gpt", "value": "x"}]}
        for i in range(4)
    ]  # fmt: skip
    (tmp_path / "test.json").write_text(json.dumps(rows))
    with LoopbackLLM(grade) as good, LoopbackLLM(lambda request, n: "100 of 100!") as bad:
        judges = [
            ChatClient("good", good.base_url),
            ChatClient("other", good.base_url),
            ChatClient("bad", bad.base_url),
        ]
        benchmark = GroundingBenchmark(tmp_path / "test.json", judges, draws=0)
        predictor = as_predictor(lambda record, question=None: "Sinus rhythm, 61 bpm. Report reference x.", "m")
        result = benchmark(predictor, tmp_path / "out")
        asked = len(bad.requests)
    found = result.metrics["judges"]
    assert [("means" in f) for f in found.values()] == [True, True, False]
    assert asked == 24  # the panel only: a judge that fails it is not paid for more
    assert result.metrics["agreement"]["ECGFeatureGrounding"] == 1
    assert len({*result.columns.values()}) == 2
    assert "no: not used" in result.report.to_markdown()
    judged = list((tmp_path / "out").glob("judgements-*.jsonl"))
    assert len(judged) == 2
    assert len(judged[0].read_text().splitlines()) == 4


def test_grounding_scores_ready_judgements(golden, tmp_path):
    path = golden / "metrics" / "grounding" / "judge_outputs.json"
    result = GroundingBenchmark(judgements=path, draws=0)(as_predictor(lambda record, question=None: ""), tmp_path)
    assert result.metrics["legacy"]["means"]["DiagnosisAccuracy"] == 72.44
    with pytest.raises(DataError, match="judges"):
        GroundingBenchmark()


def test_age_and_sex_of_the_source_reach_the_model_and_the_measurement(tmp_path):
    for name in "ab":
        write_wfdb(simulate("sinus", seed=ord(name)).record, tmp_path / name)
    (tmp_path / "list.csv").write_text("ecg,age,sex\na,71,F\nb,8,male\n")
    benchmark, seen = ClaimsBenchmark(tmp_path / "list.csv", draws=0), []
    benchmark(as_predictor(lambda record, question=None: seen.append(record.meta) or "Sinus rhythm.", "m"), tmp_path)
    assert [(meta["age"], meta["sex"]) for meta in seen] == [(71, "female"), (8, "male")]


def test_a_model_behind_an_api_sees_the_picture(tmp_path):
    with LoopbackLLM(lambda request, n: "Sinus rhythm.") as server:
        predictor = ApiPredictor(ChatClient("m", server.base_url), system="You are a cardiologist.")
        records = {name: simulate("sinus", seed=i).record for i, name in enumerate("abc")}
        answers = answer_all(predictor, list(records), lambda n: Query(n, "What?", records[n]), tmp_path / "p.jsonl")
        assert {a.text for a in answers.values()} == {"Sinus rhythm."}
        roles = [message["role"] for message in server.requests[0]["messages"]]
        assert roles == ["system", "user"]
        parts = server.requests[0]["messages"][1]["content"]
        assert [part["type"] for part in parts] == ["text", "image_url"]


def test_compare_refuses_what_does_not_compare(tmp_path):
    with pytest.raises(DataError, match="found none"):
        compare(tmp_path, tmp_path)
    for name, benchmark in (("a", "claims"), ("b", "simulator")):
        (tmp_path / f"{name}.json").write_text(json.dumps({"benchmark": benchmark, "per_record": {}, "groups": {}}))
    with pytest.raises(DataError, match="one benchmark"):
        compare(tmp_path / "a.json", tmp_path / "b.json")


def test_compare_refuses_other_settings_and_other_records_under_the_same_ids(tmp_path):
    def run(folder, seed=1, question=None):
        for i in range(2):
            write_wfdb(simulate("sinus", seed=seed + i).record, tmp_path / "records" / f"r{i}")
        benchmark = ClaimsBenchmark(tmp_path / "records", question, draws=0)
        predictor = as_predictor(lambda record, question=None: "Sinus rhythm, rate 72 bpm.", folder)
        benchmark(predictor, tmp_path / folder).save(tmp_path / folder)
        return tmp_path / folder

    (tmp_path / "records").mkdir()
    first = run("first")
    with pytest.raises(DataError, match="same settings"):
        run("first", question="Report")
    assert compare(first, run("second")).metrics["precision"]["n"] == 2
    with pytest.raises(DataError, match="question: None and 'Report'"):
        compare(first, run("asked", question="Report"))
    with pytest.raises(DataError, match="other content under 2 of 2 ids, such as 'r0'"):
        compare(first, run("others", seed=7))


def test_as_predictor_refuses_what_cannot_answer():
    with pytest.raises(DataError, match="interpret"):
        as_predictor(3)
    with pytest.raises(DataError, match="withhold"):
        as_predictor(lambda record, question=None: "").predict(Query("a", withhold=("image",)))


def sample_file(folder, ecg, image=None):
    folder.mkdir()
    turns = [{"from": "human", "value": "<image>\nInterpret."}, {"from": "gpt", "value": "Sinus rhythm."}]
    rows = [{"id": i, "ecg": ecg, "image": image, "conversations": turns} for i in range(3)]
    (folder / "test.json").write_text(json.dumps(rows))
    return folder / "test.json"


def test_paths_in_samples_start_at_their_own_folder(tmp_path):
    path = sample_file(tmp_path / "bench", "one")
    write_wfdb(simulate("sinus", seed=1).record, tmp_path / "bench" / "one")
    with LoopbackLLM(grade) as judge:
        benchmark = GroundingBenchmark(path, [ChatClient("good", judge.base_url)], draws=0)
        seen = []
        benchmark(as_predictor(lambda record, question=None: seen.append(record.signal.shape) or "x", "m"), tmp_path)
    assert seen == [(12, 5000)] * 3


def test_a_model_that_gets_nothing_to_read_is_an_error_before_any_judge_is_paid(tmp_path):
    with LoopbackLLM(grade) as judge:
        for folder, ecg, image in (("a", "none", None), ("b", None, "none.png")):
            path = sample_file(tmp_path / folder, ecg, image)
            benchmark = GroundingBenchmark(path, [ChatClient("good", judge.base_url)], draws=0, render_missing=True)
            with pytest.raises(DataError, match=r"errors for all 3 queries; the first \(0\): .*none"):
                benchmark(as_predictor(lambda record, question=None: "x", "m"), tmp_path / f"{folder}-out")
    assert judge.requests == []


def test_ecgs_that_could_not_be_read_are_counted_and_not_judged(tmp_path):
    path = sample_file(tmp_path / "bench", "one")
    write_wfdb(simulate("sinus", seed=1).record, tmp_path / "bench" / "one")
    rows = json.loads(path.read_text())
    rows[1]["ecg"] = "gone"
    path.write_text(json.dumps(rows))
    with LoopbackLLM(grade) as judge:
        result = GroundingBenchmark(path, [ChatClient("good", judge.base_url)], draws=0)(
            as_predictor(lambda record, question=None: "Sinus rhythm.", "m"), tmp_path / "out"
        )
    assert "1 of 3 ECGs were not answered" in result.report.to_markdown()
    assert len(next((tmp_path / "out").glob("judgements-*")).read_text().splitlines()) == 2


def test_images_that_are_missing_are_drawn_only_on_request(tmp_path):
    path = sample_file(tmp_path / "bench", "one", "page.png")
    write_wfdb(simulate("sinus", seed=1).record, tmp_path / "bench" / "one")
    model = as_predictor(lambda record, question=None: "x", "m")
    with LoopbackLLM(grade) as judge:
        clients = [ChatClient("good", judge.base_url)]
        with pytest.raises(DataError, match=r"got no file for 3, such as .*page\.png; .*render_missing=true"):
            GroundingBenchmark(path, clients, draws=0)(model, tmp_path / "refused")
        assert judge.requests == []
        result = GroundingBenchmark(path, clients, draws=0, render_missing=True)(model, tmp_path / "drawn")
    assert "3 of 3 images were not at hand and were drawn from the signals." in result.report.notes
