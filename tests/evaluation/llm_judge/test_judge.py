import json
import re
import sys

import numpy as np
import pytest

from gem_lightning.errors import DataError, GemError
from gem_lightning.evaluation import grounding
from gem_lightning.evaluation.llm_judge.judge import SCHEMES, Judge, JudgeCase, agreement, calibrate, panel
from gem_lightning.llm.client import ChatClient
from helpers_kill import command_of, killed_at_random
from helpers_llm_server import LoopbackLLM, Reply

WORDS = re.compile(r"[a-z]+(?:-[a-z]+)*|\d+(?:\.\d+)?")


def parts(request):
    content = request["messages"][0]["content"]
    blocks = re.findall(r"=== [^\n]+ ===\n(.*?)\n=== End ===", content, re.DOTALL)
    return blocks[-2], blocks[-1]


def answer(share, scheme="grounding"):
    _, criteria, lists = SCHEMES[scheme]
    value = {}
    for criterion in criteria:
        entries = int(criterion.combine[4:]) // int(criterion.high) if "/" in criterion.combine else 1
        entry = {"Score": round(share * criterion.high, 3), "Explanation": "e"}
        value[criterion.name] = [entry] * entries if lists else entry
    return json.dumps(value)


def sensible(request, n):
    """Grades by the share of the reference's words and numbers that recur; long enough texts only."""
    reference, text = (set(WORDS.findall(block.lower())) for block in parts(request))
    share = len(reference & text) / len(reference)
    return answer(min(1.0, 1.5 * max(0.0, share - 0.2)) if share > 0.55 else 0.1)


def test_a_sensible_judge_is_trusted():
    with LoopbackLLM(sensible) as server:
        calibration = calibrate(Judge(ChatClient("m", server.base_url)))
    assert calibration.trusted, [check for check in calibration.checks if not check["passed"]]
    assert len(calibration.checks) == sum(1 + len(item["bad"]) for item in panel()) == 24


@pytest.mark.parametrize(
    "reply",
    [
        lambda request, n: answer(1.0),
        lambda request, n: answer(0.0),
        lambda request, n: answer(np.random.default_rng(n).random()),
        lambda request, n: answer(1.0 if "grader" in parts(request)[1] or "SYSTEM" in parts(request)[1] else 0.7),
        lambda request, n: answer(min(1.0, len(parts(request)[1]) / 150)),
        lambda request, n: "I refuse",
    ],
    ids=["flatterer", "harsh", "random", "obeys_injections", "likes_length", "refuses"],
)
def test_judges_that_do_not_tell_texts_apart_are_not_trusted(reply):
    with LoopbackLLM(reply) as server:
        assert not calibrate(Judge(ChatClient("m", server.base_url))).trusted


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_scheme_is_asked_read_and_scored(scheme):
    with LoopbackLLM(lambda request, n: answer(0.5, scheme)) as server:
        judge = Judge(ChatClient("m", server.base_url), scheme)
        found = judge.judge([JudgeCase("1", "text {reference}", "known", "asked?")])
        sent = server.requests[0]
    result = judge.score(found.answers, draws=0)
    assert result["complete"] == 1
    assert not result["missing"]
    words = sent["messages"][0]["content"]
    assert "text {reference}" in words  # what is judged is never filled in itself
    assert sent["temperature"] == 0
    assert set(sent["response_format"]["json_schema"]["schema"]["required"]) == {c.name for c in SCHEMES[scheme][1]}


def test_a_judges_failures_are_counted_not_dropped():
    def reply(request, n):
        return Reply(status=500) if "bad" in parts(request)[1] else answer(1.0)

    with LoopbackLLM(reply) as server:
        judge = Judge(ChatClient("m", server.base_url, retries=0))
        found = judge.judge([JudgeCase(name, name, "known") for name in ("a", "bad", "c")])
    assert set(found.answers) == {"a", "bad", "c"}
    assert "bad" in found.errors
    result = judge.score(found.answers, draws=0)
    assert result["unreadable"] == ["bad"]
    assert result["n"] == 3


def test_a_published_prompt_gets_the_material_appended(tmp_path):
    (tmp_path / "theirs.txt").write_text('Evaluate. Answer {"A": {"Score": $S$}}')
    with LoopbackLLM(lambda request, n: answer(1.0)) as server:
        client = ChatClient("m", server.base_url)
        judge = Judge(client, prompt_file=tmp_path / "theirs.txt")
        judge.judge([JudgeCase("1", "the text", "the truth")])
        words = server.requests[0]["messages"][0]["content"]
        assert words.startswith('Evaluate. Answer {"A": {"Score": $S$}}')
        assert "the text" in words
        assert "the truth" in words
        assert judge.label != Judge(client).label
    with pytest.raises(DataError, match=r"none\.txt"):
        Judge(client, prompt_file=tmp_path / "none.txt")


def test_agreement_of_judges():
    rng = np.random.default_rng(0)
    first = {f"r{i}": answer(float(rng.random())) for i in range(200)}
    other = {name: answer(float(rng.random())) for name in first}
    one, two = grounding.score(first, draws=0), grounding.score(other, draws=0)
    assert agreement([one, one])["ECGFeatureGrounding"] == pytest.approx(1)
    assert abs(agreement([one, two])["ECGFeatureGrounding"]) < 0.2
    with pytest.raises(GemError, match="two"):
        agreement([one])


def test_a_local_model_answers_the_same_requests(tmp_path, monkeypatch):
    from gem_lightning.llm.cache import Answer
    from gem_lightning.llm.local import LocalClient

    asked = []

    def write(self, chats):
        asked.extend(chats)
        return [Answer(answer(0.5)) for _ in chats]

    monkeypatch.setattr("gem_lightning.llm.local.LocalClient.write", write)
    for _ in range(2):
        judge = Judge(LocalClient("folder/some-model", cache=tmp_path / "a.jsonl", batch_size=2))
        found = judge.judge([JudgeCase(str(i), f"text {i}", "known") for i in range(5)])
        assert list(found.answers) == list("01234")
    assert len(asked) == 5
    assert "some-model" in judge.label


WORKER = """
import json, sys
from gem_lightning.evaluation.llm_judge.judge import Judge, JudgeCase
from gem_lightning.llm.client import ChatClient
url, cache, out, n = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
judge = Judge(ChatClient("m", url, cache=cache, concurrency=8, price_in=1, price_out=1))
found = judge.judge([JudgeCase(str(i), f"text {i}", "known") for i in range(n)])
with open(out, "w") as file:
    json.dump([found.answers, judge.client.ledger.to_dict()], file)
"""


@pytest.mark.slow
def test_killed_twenty_times_every_judgement_once_and_paid_once(tmp_path):
    cache, out, n = tmp_path / "answers.jsonl", tmp_path / "out.json", 400
    with LoopbackLLM(lambda request, i: answer(0.5), latency=0.02) as server:
        command = [sys.executable, "-c", WORKER, server.base_url, str(cache), str(out), str(n)]
        killed_at_random(command_of(*command), lambda: len(server.paid), total=n)
        answers, ledger = json.loads(out.read_text())
    assert list(answers) == [str(i) for i in range(n)] or set(answers) == {str(i) for i in range(n)}
    assert ledger["answers"] == n
    assert ledger["cost"] == pytest.approx(n * 120 / 1e6)
    assert len(server.paid) == n


def test_slots_of_the_published_prompts_are_filled(tmp_path):
    (tmp_path / "theirs.txt").write_text("Generated: {{generated}}\nReference: {{ groundtruth }}\nAsked: {question}")
    client = ChatClient("m", "http://127.0.0.1:9/v1")
    case = JudgeCase("1", "the text with {reference} in it", "the truth", "the question")
    content = Judge(client, prompt_file=tmp_path / "theirs.txt").request(case).messages[0]["content"]
    assert content == "Generated: the text with {reference} in it\nReference: the truth\nAsked: the question"
    (tmp_path / "odd.txt").write_text("Generated: {{generated}} {{answer_key}}")
    with pytest.raises(DataError, match=r"got answer_key; rename them"):
        Judge(client, prompt_file=tmp_path / "odd.txt")
