"""What teachers have in common, and what they refuse before anything is read."""

import asyncio

import pytest

from gem_lightning.errors import DataError
from gem_lightning.generation.teachers import Compose, OpenAITeacher, ReplayTeacher, TeacherAnswer
from gem_lightning.llm.client import ChatError
from helpers_llm_server import LoopbackLLM, Reply

QUESTION = [{"role": "user", "content": "x"}]


def test_facts_hold_no_key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    with LoopbackLLM(lambda r, n: Reply("not today, sk-secret", status=400)) as server:
        teacher = OpenAITeacher("m", base_url=server.base_url, retries=0)
        answer = asyncio.run(teacher.write(QUESTION, None, (), "a#0"))
    assert "sk-secret" not in str(teacher.facts())
    assert isinstance(answer, TeacherAnswer)
    assert "not today, ***" in answer.error
    teacher = OpenAITeacher("m", base_url="http://127.0.0.1:1/v1", retries=0)
    with pytest.raises(ChatError) as error:  # nobody is there: no other question can be answered either
        asyncio.run(teacher.write(QUESTION, None, (), "a#0"))
    assert "sk-secret" not in str(error.value)
    assert Compose().offline


def test_a_missing_key_is_said_before_anything_is_read(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(DataError, match="environment variable OPENAI_API_KEY, got none"):
        OpenAITeacher("m").open()
    OpenAITeacher("m", base_url="http://127.0.0.1:1/v1").open()  # a server of one's own often wants none
    monkeypatch.setenv("OPENAI_API_KEY", "sk")
    OpenAITeacher("m").open()


@pytest.mark.parametrize("text", ["not json", '{"text": "no id"}', '["a"]', '{"id": 1, "conversations": [{}]}', "[]"])
def test_answers_that_cannot_be_replayed_are_refused_in_words(tmp_path, text):
    (tmp_path / "answers.jsonl").write_text(text + "\n")
    with pytest.raises(DataError, match=r"expected .*answers\.jsonl"):
        ReplayTeacher(str(tmp_path / "answers.jsonl"))
