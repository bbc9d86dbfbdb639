"""What teachers have in common."""

import asyncio

from gem_lightning.grounding.teacher import Compose, OpenAITeacher, Written


def test_facts_hold_no_key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    teacher = OpenAITeacher("m", base_url="http://127.0.0.1:1/v1", retries=0)
    assert "sk-secret" not in str(teacher.facts())
    answer = asyncio.run(teacher.write([{"role": "user", "content": "x"}], None, (), "a#0"))
    assert isinstance(answer, Written)
    assert answer.error
    assert "sk-secret" not in answer.error
    assert Compose().offline
