import json
import subprocess
import sys

import pytest

from gem_lightning.composition.chains.chain import Chain, read_chains
from gem_lightning.errors import DataError, GemError
from gem_lightning.evaluation.predictors import FilePredictor, GemPredictor, as_predictor
from gem_lightning.evaluation.reasoning.answers import chosen
from gem_lightning.evaluation.reasoning.benchmark import ReasoningBenchmark
from helpers_chains import RIGHT, chain, write


@pytest.fixture
def file(tmp_path):
    return write(tmp_path / "chains.jsonl", [chain(i) for i in range(4)])


def test_a_chain_reads_and_writes_the_published_form(file):
    found = read_chains(file)
    assert [c.id for c in found] == ["0", "1", "2", "3"]
    assert found[0].to_row()["data"] == chain(0)["data"]
    assert len(found[0].questions) == 8
    assert [q.answer for q in found[0].questions][-2:] == ["Lead I, Lead V1", "Yes"]


def test_the_published_sample_reads_as_it_is(shared_data):
    path = shared_data / "reasoning_sample" / "ptbxl_first.jsonl"
    (found,) = read_chains(path)
    assert (found.source, found.record, found.diagnosis) == ("ptbxl", "13665", "first_degree_av_block")
    assert found.to_row()["data"] == json.loads(path.read_text())["data"]
    with pytest.raises(DataError, match=r"1 of 1 of ptbxl .*physionet.org/content/ptb-xl.*benchmark.folders"):
        ReasoningBenchmark(path)(as_predictor(lambda record, question=None: "", "m"), path.parent)
    place = ReasoningBenchmark(path, root="/x").signals.reference(found).path
    assert place == "/x/records500/13000/13665_hr"


def test_accuracy_depth_and_completion_end_a_chain_at_its_first_error(file, tmp_path):
    wrong_lead = [*RIGHT[:6], "Lead I", "Yes"]
    wrong_start = ["No", "Axis", *RIGHT[2:]]
    wrong_initial = ["No", *RIGHT[1:]]
    rows = [{"id": i, "answers": a} for i, a in enumerate((RIGHT, wrong_lead, wrong_start, wrong_initial))]
    path = write(tmp_path / "p.jsonl", rows)
    result = ReasoningBenchmark(file, draws=100)(FilePredictor(path), tmp_path)
    metrics = result.metrics
    assert metrics["completion"]["value"] == 0.5  # the initial question is no part of it
    assert metrics["depth"]["value"] == (2 + 1 + 0 + 2) / 4
    assert metrics["initial"]["value"] == 0.5
    assert metrics["final"]["value"] == 1.0  # asked after the right answers
    assert metrics["accuracy"]["value"] == 26 / 28
    assert metrics["accuracy"]["lead_grounding"]["value"] == 0.75
    assert metrics["accuracy"]["criterion_selection"]["value"] == 7 / 8
    assert metrics["completion"]["low"] < 0.5 < metrics["completion"]["high"]
    assert metrics["first_errors"] == {"lead_grounding": 1, "criterion_selection": 1}
    assert metrics["chance"] == pytest.approx(1 / (2 * 2 * 3 * 2 * 2 * 7 * 3))
    saved = json.loads((result.save(tmp_path).parent / "results.json").read_text())
    assert {"accuracy", "depth", "completion"} <= set(saved["metrics"])
    assert "Lead I" in (tmp_path / "report.md").read_text()


def test_chains_without_answers_are_wrong_and_counted(file, tmp_path):
    path = write(tmp_path / "p.jsonl", [{"id": "2", "answers": RIGHT}])
    metrics = ReasoningBenchmark(file, draws=0)(FilePredictor(path), tmp_path).metrics
    assert (metrics["answered"], metrics["completion"]["value"]) == (1, 0.25)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"id": 0, "answers": RIGHT[1:]}, "expected 8 answers for chain 0 .*got 7"),
        ({"id": 99, "answers": RIGHT}, "got 1 others, such as '99'"),
        ({"id": 0, "text": "Yes, it is"}, "expected answers in the row of chain 0"),
        ({"id": 0, "answers": "Yes"}, "got str"),
    ],
)
def test_predictions_that_do_not_fit_give_one_clear_error(file, tmp_path, row, message):
    with pytest.raises(DataError, match=message):
        ReasoningBenchmark(file)(FilePredictor(write(tmp_path / "p.jsonl", [row])), tmp_path)


def broken(change):
    row = chain(0)
    change(row)
    return json.dumps(row)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty file"),
        ('{"id": 1, "text": "x"}', "line 1: expected a chain .*predictions"),
        ('{"metadata": {', "line 1: expected JSON"),
        (broken(lambda r: r["metadata"].pop("target_dx")), "metadata without target_dx"),
        (broken(lambda r: r["data"]["reasoning"][0].pop("diagnostic_decision")), r"line 1, reasoning\[0\]: expected"),
        (
            broken(lambda r: r["data"]["reasoning"][1]["criterion_selection"].update(answer="Q waves")),
            r"reasoning\[1\], criterion_selection: expected an answer among .*got \['Q waves'\]",
        ),
        (broken(lambda r: r["data"]["reasoning"][1]["ecg_grounding"][0].pop("options")), r"g\[0\]: expected"),
    ],
)  # fmt: skip
def test_a_bad_file_gives_one_error_that_names_the_place(tmp_path, text, message):
    path = tmp_path / "bad.jsonl"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        ReasoningBenchmark(path)


def test_ids_that_two_data_sets_share_get_the_data_set_in_front(tmp_path):
    rows = [chain(0, source="ptbxl"), chain(0, source="mimic_iv_ecg")]
    assert [c.id for c in read_chains(write(tmp_path / "c.jsonl", rows))] == ["ptbxl-0", "mimic_iv_ecg-0"]
    with pytest.raises(DataError, match="one chain per id"):
        read_chains(write(tmp_path / "c.jsonl", [chain(0), chain(0)]))


def test_missing_signals_are_one_message_or_left_out_on_request(tmp_path):
    rows = [
        chain(0),
        chain(1, None, "mimic_iv_ecg", subject_id="10000032"),
        chain(2, None, "mimic_iv_ecg", subject_id="1"),
    ]
    path = write(tmp_path / "c.jsonl", rows)
    model = as_predictor(lambda record, question=None: "Yes", "m")
    with pytest.raises(DataError, match=r"2 of 2 of mimic_iv_ecg .*mimic-iv-ecg.*skip_missing"):
        ReasoningBenchmark(path)(model, tmp_path)
    benchmark = ReasoningBenchmark(path, folders={"mimic_iv_ecg": "/data/mimic"}, skip_missing=True, draws=0)
    assert benchmark.signals.reference(benchmark.chains[1]).path == "/data/mimic/files/p1000/p10000032/s1/1"
    metrics = benchmark(model, tmp_path).metrics
    assert (metrics["chains"], metrics["without_signal"]) == (1, {"mimic_iv_ecg": 2})


class Oracle:
    """Answers with the truth, found by the question's text; counts what it is asked."""

    name = "oracle"

    def __init__(self, fail=()):
        self.asked, self.fail = [], fail

    def dialogue(self, query, choose):
        self.asked.append(query.id)
        assert query.record.signal.shape == (12, 5000)
        if query.id in self.fail:
            raise GemError("out of paper")
        return self

    def ask(self, question):
        return question.answer

    def note(self, question, answer):
        assert answer == question.answer


def test_a_killed_run_resumes_chain_by_chain(file, tmp_path):
    benchmark = ReasoningBenchmark(file, draws=0)
    first = Oracle(fail={"3"})
    assert benchmark(first, tmp_path).metrics["completion"]["value"] == 0.75
    path = tmp_path / "predictions.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:2]) + lines[2][:30])  # as kill -9 in the middle of a line leaves it
    again = Oracle()
    assert benchmark(again, tmp_path).metrics["completion"]["value"] == 1.0
    assert again.asked == ["2", "3"]


def test_own_predictions_are_a_file_of_answers(file, tmp_path):
    benchmark = ReasoningBenchmark(file, draws=0)
    benchmark(Oracle(), tmp_path)
    own = benchmark(FilePredictor(tmp_path / "predictions.jsonl"), tmp_path / "own")
    assert own.metrics["completion"]["value"] == 1.0


def test_any_function_gets_the_earlier_right_answers_in_its_question(file, tmp_path):
    seen = []

    def model(record, question=None):
        seen.append(question)
        return "(a)"

    ReasoningBenchmark(file, limit=1, draws=0)(as_predictor(model, "m"), tmp_path)
    assert len(seen) == 8
    assert "Question: Is it 1:1?\nAnswer: Yes" in seen[-1]
    assert seen[-1].endswith("Answer with the text of one option and nothing else.")
    assert "Now?" not in seen[0]


def predictor(tiny_gem, **options):
    return GemPredictor(tiny_gem.model, tiny_gem.processor, tiny_gem.renderer, **options)


def test_a_network_reads_the_ecg_once_and_scores_options_as_a_fresh_run(tiny_gem, file, tmp_path):
    model = predictor(tiny_gem)
    benchmark = ReasoningBenchmark(file, limit=1, draws=0)
    (one,) = benchmark.chains
    talk = model.dialogue(benchmark_query(benchmark, one))
    for asked in one.questions[:4]:
        reused = talk.talk.score_options(asked.text, asked.options)
        fresh = model.dialogue(benchmark_query(benchmark, one))
        fresh.talk._messages = talk.talk._messages
        whole = fresh.talk._prompt(asked.text, None, None)
        if talk.talk._messages:  # a fresh conversation has its marker in the first turn
            fresh.talk._messages = list(whole.messages[:-1])
        again = fresh.talk.score_options(asked.text, asked.options)
        assert reused == pytest.approx(again, abs=2e-4)
        talk.note(asked, asked.answer)
    metrics = benchmark(model, tmp_path).metrics
    assert metrics["unreadable"] == 0  # a likeliest option is always one of them


def benchmark_query(benchmark, one):
    from gem_lightning.evaluation.base import Query

    return Query(one.id, record=benchmark.signals.read(one), source=benchmark.signals.reference(one))


def test_later_turns_of_a_network_read_only_what_is_new(tiny_gem, file):
    benchmark = ReasoningBenchmark(file, limit=1)
    (one,) = benchmark.chains
    talk = predictor(tiny_gem).dialogue(benchmark_query(benchmark, one))
    lengths = []
    for asked in one.questions[:3]:
        before = len(talk.talk._cached)
        talk.ask(asked)
        lengths.append(len(talk.talk._cached) - before)
        talk.note(asked, asked.answer)
    assert lengths[1] < 0.5 * lengths[0]
    assert lengths[2] < 0.5 * lengths[0]


def test_a_network_may_write_its_answers_instead(tiny_gem, file, tmp_path):
    benchmark = ReasoningBenchmark(file, limit=1, draws=0, choose="text")
    metrics = benchmark(predictor(tiny_gem, max_new_tokens=4), tmp_path).metrics
    assert metrics["answered"] == 1
    with pytest.raises(DataError, match="same settings"):
        ReasoningBenchmark(file, limit=1, draws=0)(predictor(tiny_gem), tmp_path)


def test_the_command_scores_a_file_of_answers(file, tmp_path):
    path = write(tmp_path / "p.jsonl", [{"id": i, "answers": RIGHT} for i in range(4)])
    command = [sys.executable, "-m", "gem_lightning.evaluate", "benchmark=reasoning", f"benchmark.file={file}"]
    done = subprocess.run([*command, f"model={path}", f"out={tmp_path}/o"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    saved = json.loads((tmp_path / "o" / "results.json").read_text())
    assert saved["metrics"]["completion"]["value"] == 1.0
    bad = subprocess.run(
        [*command, f"model={path}", f"out={tmp_path}/q", "benchmark.file=nowhere.jsonl"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert bad.returncode == 2
    assert "nowhere.jsonl" in bad.stderr


def test_chains_survive_a_round_trip(file):
    for one in read_chains(file):
        assert Chain.from_row(one.to_row()) == one
        assert all(chosen(q, q.answer) == set(q.answers) for q in one.questions)
