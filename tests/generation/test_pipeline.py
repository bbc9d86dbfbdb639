"""Records through the whole pipeline: composed, taught by a server on loopback, replayed."""

import json
import os
import re
import signal
from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
import pytest

from gem_lightning.composition.questions import KINDS
from gem_lightning.ecg import EcgRecord, write_wfdb
from gem_lightning.errors import DataError
from gem_lightning.generation.gate import Gate
from gem_lightning.generation.pipeline import Pipeline, safe_name
from gem_lightning.generation.run import (
    RunOptions,
    finish_features,
    finish_samples,
    open_features_job,
    open_samples_job,
    run_features,
    run_samples,
)
from gem_lightning.generation.teachers import Compose, OpenAITeacher, ReplayTeacher
from gem_lightning.render import EcgRenderer
from gem_lightning.samples.io import read_samples
from gem_lightning.sources.base import RecordFiles, Simulated, SourceRecord
from helpers_llm_server import LoopbackLLM, Reply

HERE = RunOptions(workers=0)
SOURCE = Simulated(n=12, seed=40, diagnoses=["sinus", "rbbb", "av_block_1"], snr_db=28)


def make(out, teacher, source=SOURCE, block=4, **options):
    folder = open_samples_job(source, out, block=block)
    pipeline = Pipeline(paths=source.paths, out=str(out), source=source.name, teacher=teacher.name, **options)
    _, stopped = run_samples(folder, pipeline, teacher, HERE)
    return finish_samples(out, "json", source, teacher.facts() | {"stopped": stopped})


@pytest.fixture(scope="module")
def texts():
    """A true text for each record, found again by the summary that a prompt quotes."""
    pipeline, found = Pipeline(), {}
    for record in SOURCE.records():
        (row,) = pipeline(record.to_item())
        prepared = pipeline.prepare(record.to_item())
        prompt = pipeline.messages(prepared, "interpretation")[1]["content"]
        answer = row["sample"]["conversations"][1]["value"]
        found[re.search(r"rr_ms: .*", prompt).group()] = answer
    return found


def ask(texts, request):
    prompt = request["messages"][1]["content"]
    prompt = prompt if isinstance(prompt, str) else prompt[0]["text"]
    return texts[re.search(r"rr_ms: .*", prompt).group()]


def all_samples(out):
    return sorted((s for path in out.glob("*.json") if path.stem in ("train", "val", "test")
                   for s in read_samples(path)), key=lambda s: s.id)  # fmt: skip


def test_composed_data_are_whole_verified_and_the_same_again(tmp_path):
    card = make(tmp_path / "a", Compose(), renderer=EcgRenderer(size=(336, 435)))
    make(tmp_path / "b", Compose(), renderer=EcgRenderer(size=(336, 435)))
    samples = all_samples(tmp_path / "a")
    assert card["samples"] == len(samples) == 12
    assert card["claims"]["contradicted"] == 0
    assert card["source"]["licence"] == "CC0"
    assert [s.to_dict() for s in samples] == [s.to_dict() for s in all_samples(tmp_path / "b")]
    first = samples[0]
    assert first.conversations[0]["value"].startswith("<image>\n")
    assert [t["from"] for t in first.conversations] == ["human", "gpt"]
    picture = tmp_path / "a" / first.image
    assert picture.read_bytes() == (tmp_path / "b" / first.image).read_bytes()
    assert len(first.machine_measurements) == 12
    assert (tmp_path / "a" / "run_card.md").read_text().startswith("# Run card")


def test_splits_are_by_patient_and_the_data_set_s_own_come_first():
    pipeline = Pipeline(splits={"val": 0.2, "test": 0.2})
    names = [pipeline.split(SourceRecord(f"r{i}", None, patient=f"p{i // 5}")) for i in range(2000)]
    assert all(len(set(names[i : i + 5])) == 1 for i in range(0, 2000, 5))
    shares = Counter(names)
    assert shares["val"] / 2000 == pytest.approx(0.2, abs=0.06)
    assert pipeline.split(SourceRecord("r", None, split="test")) == "test"
    other = Pipeline(splits={"val": 0.2, "test": 0.2}, seed=1)
    assert [other.split(SourceRecord(f"r{i}", None)) for i in range(50)] != names[:50]


def test_one_bad_record_stops_nothing(tmp_path):
    class Mixed(Simulated):
        def _records(self):
            yield SourceRecord("missing", str(tmp_path / "nothing.hea"))
            yield SourceRecord("nowhere", None)
            yield from super()._records()

    card = make(tmp_path / "out", Compose(), Mixed(n=3, seed=1, diagnoses=["sinus"], snr_db=28))
    assert (card["records"], card["records_broken"], card["samples"]) == (5, 2, 3)
    broken = [json.loads(line) for line in (tmp_path / "out" / "broken.jsonl").read_text().splitlines()]
    assert [b["id"] for b in broken] == ["missing", "nowhere"]


def test_records_without_a_heart_are_rejected_with_the_reason(tmp_path):
    (tmp_path / "data").mkdir()
    write_wfdb(EcgRecord(np.zeros((12, 5000), np.float32), 500), tmp_path / "data" / "flat")
    card = make(tmp_path / "out", Compose(), RecordFiles(str(tmp_path / "data")))
    assert (card["samples"], card["rejected"], card["records_broken"]) == (0, 1, 0)
    assert card["reject_reasons"] == {"quality": 1}


def test_a_teacher_that_contradicts_is_asked_again_with_the_contradiction(tmp_path, texts):
    def reply(request, number):
        truth = ask(texts, request)
        return truth if len(request["messages"]) > 2 else f"{truth} The PR interval is 512 ms."

    with LoopbackLLM(reply) as server:
        teacher = OpenAITeacher("m", base_url=server.base_url, cache=str(tmp_path / "answers.jsonl"))
        card = make(tmp_path / "out", teacher)
    assert (card["samples"], card["rejected"]) == (12, 0)
    assert card["attempts"] == {"2": 12}
    second = [r for r in server.requests if len(r["messages"]) > 2]
    assert all("512 ms" in r["messages"][3]["content"] for r in second)
    assert card["ledger"]["answers"] == 24
    assert all("512 ms" not in s.answer for s in all_samples(tmp_path / "out"))


def test_an_empty_answer_is_asked_for_again_and_then_rejected(tmp_path, texts):
    def reply(request, number):
        return ask(texts, request) if "It was empty" in request["messages"][-1]["content"] else " "

    with LoopbackLLM(reply) as server:
        card = make(tmp_path / "out", OpenAITeacher("m", base_url=server.base_url))
        assert all([m["role"] for m in r["messages"]] == ["system", "user"] for r in server.requests)
    assert (card["samples"], card["attempts"]) == (12, {"2": 12})
    with LoopbackLLM(lambda r, n: Reply("", finish_reason="content_filter")) as server:
        card = make(tmp_path / "none", OpenAITeacher("m", base_url=server.base_url), tries=2)
    assert card["reject_reasons"] == {"empty answer": 12}
    assert "content_filter" in (tmp_path / "none" / "rejected.jsonl").read_text()


@dataclass(frozen=True)
class Fragile(Pipeline):
    """One record kills its process, the answers for another cannot be checked."""

    def start(self, item):
        if item["id"].endswith("41"):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().start(item)

    def check(self, prepared, kind, name, text):
        if "42" in name:
            raise ValueError("expected words")
        return super().check(prepared, kind, name, text)


def test_a_record_that_kills_its_process_costs_itself_alone(tmp_path, texts):
    folder = open_samples_job(SOURCE, tmp_path, block=4)
    with LoopbackLLM(lambda r, n: ask(texts, r)) as server:
        teacher = OpenAITeacher("m", base_url=server.base_url)
        run_samples(folder, Fragile(out=str(tmp_path)), teacher, RunOptions(workers=1))
    card = finish_samples(tmp_path, "json")
    assert (card["records"], card["records_broken"], card["samples"], card["rejected"]) == (12, 1, 10, 1)
    (broken,) = (json.loads(line) for line in (tmp_path / "broken.jsonl").read_text().splitlines())
    assert (broken["id"], broken["error"]) == ("simulated-41", "Died")
    assert card["reject_reasons"] == {"cannot be checked": 1}


def test_what_stays_wrong_is_rejected_with_reasons(tmp_path, texts):
    with LoopbackLLM(lambda r, n: f"{ask(texts, r)} There is ventricular pacing at 412 bpm.") as server:
        teacher = OpenAITeacher("m", base_url=server.base_url)
        card = make(tmp_path / "out", teacher, tries=2)
    assert (card["samples"], card["accept_rate"]) == (0, 0.0)
    assert card["reject_reasons"]["contradicted number"] == 12
    row = json.loads((tmp_path / "out" / "rejected.jsonl").read_text().splitlines()[0])
    assert len(row["attempts"]) == 2
    assert row["problems"][0]["message"]


def test_a_misbehaving_server_costs_nothing_but_time(tmp_path, texts):
    def reply(request, number):
        faults = (Reply(status=429, headers={"retry-after": "0"}), Reply(status=500), Reply(text="x", cut=0.4),
                  Reply(body=b"{not json"), None)  # fmt: skip
        return faults[number % 5] or ask(texts, request)

    with LoopbackLLM(reply) as server:
        client = {"base_url": server.base_url, "backoff": 0.001, "retries": 40, "concurrency": 4}
        card = make(tmp_path / "out", OpenAITeacher("m", **client))
    assert (card["samples"], card["ledger"]["failed"]) == (12, 0)


def test_a_spent_budget_stops_cleanly_and_a_larger_one_goes_on_without_paying_twice(tmp_path, texts):
    with LoopbackLLM(lambda r, n: Reply(ask(texts, r), usage=(1500, 100))) as server:

        def teacher(tokens):
            options = {"budget_tokens": tokens, "max_tokens": 64, "concurrency": 2}
            return OpenAITeacher("m", base_url=server.base_url, cache=str(tmp_path / "answers.jsonl"), **options)

        card = make(tmp_path / "out", teacher(12_000), block=2)
        assert "budget" in card["stopped"]
        assert 0 < card["samples"] < 12
        assert card["samples"] + card["records_unfinished"] == 12
        card = make(tmp_path / "out", teacher(10**9), block=2)
    assert (card["samples"], card["stopped"], card["records_unfinished"]) == (12, None, 0)
    assert len(server.requests) == 12
    assert max(server.paid.values()) == 1


def test_what_got_no_answer_is_asked_again_by_the_next_run(tmp_path, texts):
    away = [True]

    def reply(request, number):
        return Reply(status=503) if away[0] and number % 3 == 0 else ask(texts, request)

    with LoopbackLLM(reply) as server:

        def teacher():
            return OpenAITeacher("m", base_url=server.base_url, cache=str(tmp_path / "a.jsonl"), retries=0)

        card = make(tmp_path / "out", teacher())
        assert card["reject_reasons"] == {"no answer": 4}
        away[0] = False
        card = make(tmp_path / "out", teacher())
    assert (card["samples"], card["rejected"]) == (12, 0)
    assert len(server.requests) == 16
    assert max(server.paid.values()) == 1


def test_pictures_reach_a_teacher_that_sees(tmp_path, texts):
    with LoopbackLLM(lambda r, n: ask(texts, r)) as server:
        teacher = OpenAITeacher("m", images=True, base_url=server.base_url)
        make(tmp_path / "out", teacher, renderer=EcgRenderer(size=(336, 435)))
    content = server.requests[0]["messages"][1]["content"]
    assert content[1]["image_url"]["url"].startswith("data:image/png;base64,")


def test_dialogues_become_turns(tmp_path, texts):
    def reply(request, number):
        assert request["response_format"]["type"] == "json_schema"
        turns = [{"question": "What is seen?", "answer": ask(texts, request)}, {"question": "Sure?", "answer": "Yes."}]
        return json.dumps({"turns": turns}) if len(request["messages"]) > 2 else "Certainly! Here it is."

    with LoopbackLLM(reply) as server:
        teacher = OpenAITeacher("m", base_url=server.base_url, concurrency=1)
        card = make(tmp_path / "out", teacher, kinds={"dialogue": 1.0})
    assert card["samples_by_kind"] == {"dialogue": 12}
    sample = all_samples(tmp_path / "out")[0]
    assert [t["from"] for t in sample.conversations] == ["human", "gpt", "human", "gpt"]
    assert sum(t["value"].count("<image>") for t in sample.conversations) == 1


def test_replayed_answers_are_checked_like_any(tmp_path, texts):
    make(tmp_path / "a", Compose())
    rows = [{"id": s.id, "text": s.answer} for s in all_samples(tmp_path / "a")]
    rows[0]["text"] += " The heart rate is 250 bpm."
    (tmp_path / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    card = make(tmp_path / "b", ReplayTeacher(str(tmp_path / "answers.jsonl")))
    assert (card["samples"], card["rejected"]) == (11, 1)
    (tmp_path / "none.jsonl").write_text("{}\n")
    with pytest.raises(DataError, match="id and text"):
        ReplayTeacher(str(tmp_path / "none.jsonl"))


def test_a_user_s_prompt_replaces_ours_and_a_wrong_name_is_explained(tmp_path):
    own = tmp_path / "mine.jinja"
    own.write_text("Measured: {{ machine_measurements }}\n{% include 'facts.jinja' %}")
    item = next(iter(SOURCE.records())).to_item()
    pipeline = Pipeline(prompt_file=str(own))
    prompt = pipeline.messages(pipeline.prepare(item), "interpretation")[1]["content"]
    assert prompt.startswith('Measured: {"I"')
    own.write_text("{{ nonsense }}")
    with pytest.raises(DataError, match=r"nonsense.*a prompt can use: age, beats"):
        pipeline.messages(pipeline.prepare(item), "interpretation")


def test_a_prompt_that_shows_nothing_of_the_record_gets_the_facts_before_it(tmp_path):
    item = next(iter(SOURCE.records())).to_item()
    plain, braces = tmp_path / "published.txt", tmp_path / "format.txt"
    plain.write_text('Interpret the ECG in at most {{ max_words }} words. Give JSON such as {"a": 1}.')
    pipeline = Pipeline(prompt_file=str(plain))
    prompt = pipeline.messages(pipeline.prepare(item), "interpretation")[1]["content"]
    assert "heart_rate_bpm" in prompt
    assert prompt.endswith('Interpret the ECG in at most 300 words. Give JSON such as {"a": 1}.')
    braces.write_text("Interpret {machine_measurements}.")
    pipeline = Pipeline(prompt_file=str(braces))
    with pytest.raises(DataError, match=r"names as \{\{ machine_measurements \}\}, got \{machine_measurements\}"):
        pipeline.messages(pipeline.prepare(item), "interpretation")


def test_the_report_is_told_to_the_teacher_as_truth_and_kept_in_the_sample():
    item = next(iter(SOURCE.records())).to_item() | {"report": "Left bundle branch block."}
    pipeline = Pipeline(gate=Gate(min_claims=0))
    system, user = pipeline.messages(pipeline.prepare(item), "interpretation")
    assert "never mention" in system["content"]
    assert "Confirmed diagnosis: Left bundle branch block." in user["content"]
    (row,) = pipeline(item)
    assert row["status"] == "accepted"  # the report is the diagnosis, although the record is of a sinus rhythm
    assert row["sample"]["conversations"][1]["value"].endswith(": Left bundle branch block.")
    assert [found["statement"] for found in row["sample"]["contradictions"]] == ["Left bundle branch block"]
    strict = Pipeline(gate=Gate(min_claims=0, report_contradictions="reject"))
    assert {problem["category"] for problem in strict(item)[0]["problems"]} == {"contradicted report"}
    (row,) = Pipeline(verbatim=True)(item | {"report": "***Left bundle branch block;\nconfirmed by Dr. Who"})
    assert row["sample"]["conversations"][1]["value"] == "Left bundle branch block."
    (row,) = Pipeline(verbatim=True)(item | {"report": None})
    assert row["problems"][0]["category"] == "no report"


def test_every_kind_is_made_verified_and_drawn_by_weight(tmp_path):
    class Visits(Simulated):
        def _records(self):
            for record in super()._records():
                yield replace(record, patient=f"p{int(record.id.split('-')[1]) // 2}")

    kinds = dict.fromkeys(KINDS, 1.0)
    card = make(tmp_path, Compose(), Visits(n=16, seed=50, snr_db=28), kinds=kinds, samples_per_record=4)
    assert set(card["samples_by_kind"]) == set(KINDS)
    assert card["claims"]["contradicted"] == 0
    assert set(card["reject_reasons"]) <= {"nothing to ask", "too few claims"}
    samples = all_samples(tmp_path)
    assert len({s.id for s in samples}) == len(samples)
    comparison = next(s for s in samples if s.metadata["kind"] == "comparison")
    assert "first ECG read:" in comparison.question
    choice = next(s for s in samples if s.metadata["kind"] == "choice")
    assert choice.answer[0] in "ABCD"
    by_patient = {}
    for s in samples:
        assert by_patient.setdefault(s.metadata["patient"], s.metadata["split"]) == s.metadata["split"]


def test_comparisons_alone_say_which_records_have_nothing_before_them():
    (row,) = Pipeline(kinds={"comparison": 1.0})(next(iter(SOURCE.records())).to_item())
    assert (row["status"], row["problems"][0]["category"]) == ("rejected", "nothing to ask")


def test_features_of_a_source_as_a_table(tmp_path):
    import pyarrow.parquet as pq

    source = Simulated(n=5, seed=9, diagnoses=["sinus", "rbbb"], snr_db=28)
    folder = open_features_job(source, tmp_path, block=2)
    run_features(folder, source.paths, HERE)
    facts = finish_features(tmp_path)
    rows = pq.read_table(tmp_path / "features.parquet").to_pylist()
    assert (facts["records"], len(rows)) == (5, 5)
    assert rows[1]["codes"] == ["rbbb"]
    assert "rbbb" in rows[1]["findings"]
    assert 40 < rows[0]["heart_rate_bpm"] < 120
    (sample,) = (row["sample"] for row in Pipeline()(next(iter(source.records())).to_item()))
    assert {sample["sex"], *(row["sex"] for row in rows)} <= {"female", "male"}  # whatever the header writes


def test_settings_that_make_no_sense_are_explained():
    with pytest.raises(DataError, match="interpretation, report"):
        Pipeline(kinds={"poem": 1})
    with pytest.raises(DataError, match="unusable"):
        Pipeline(quality="fine")
    with pytest.raises(DataError, match="shares of 0 to 1 together"):
        Pipeline(splits={"val": 0.6, "test": 0.6})
    with pytest.raises(DataError, match="splits val and test"):
        Pipeline(splits={"dev": 0.1})
    with pytest.raises(DataError, match="tries of 1 or more, got 0"):
        Pipeline(tries=0)
    with pytest.raises(DataError, match=r"Jinja file at none\.jinja, got none"):
        Pipeline(prompt_file="none.jinja")
    with pytest.raises(DataError, match="contract clean or gem, got 'foo'"):
        Pipeline(contract="foo")
    with pytest.raises(DataError, match="receives images, got none; give render=default"):
        Pipeline(attached=True)
    with pytest.raises(DataError, match=r"gate\.max_words as an int of 0 or more, got 'x'"):
        Gate(max_words="x")
    with pytest.raises(DataError, match=r"source\.seed as an int, got 'x'"):
        Simulated(seed="x")
    with pytest.raises(DataError, match=r"source\.diagnoses among .*sinus.*, got nonsense"):
        list(Simulated(n=1, diagnoses=["nonsense"]).records())


def test_file_names_of_odd_ids_differ():
    assert safe_name("ptbxl-1") == "ptbxl-1"
    assert safe_name("a/b") != safe_name("a_b")
    assert "/" not in safe_name("../../etc/passwd")
