"""The route of OpenAI's clients, asked by OpenAI's client."""

import base64

import pytest
from openai import OpenAI, UnprocessableEntityError

from gem_lightning.serving.api import build_app
from helpers_serving import DICOM, serving


@pytest.fixture(scope="module")
def openai(gem_small):
    """OpenAI's client of a server on loopback."""
    with serving(build_app(gem_small, name="gem_small", max_new_tokens=30)) as url:
        yield OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)


def asked(text, data=None):
    data = DICOM.read_bytes() if data is None else data
    url = f"data:application/dicom;base64,{base64.b64encode(data).decode()}"
    file = {"type": "file", "file": {"filename": "ecg.dcm", "file_data": url}}
    return {"role": "user", "content": [{"type": "text", "text": text}, file]}


def test_questions_about_one_recording(openai):
    messages = [asked("Interpret this ECG.")]
    first = openai.chat.completions.create(model="gem_small", messages=messages)
    assert first.choices[0].message.content
    assert first.model == "gem_small"
    assert 0 < first.usage.completion_tokens <= 30
    messages += [{"role": "assistant", "content": first.choices[0].message.content}]
    messages += [{"role": "user", "content": "What is the rate?"}]
    second = openai.chat.completions.create(model="gem_small", messages=messages, max_tokens=8)
    assert "bpm" in second.choices[0].message.content  # what was asked, whatever eight tokens of the model hold
    assert second.usage.completion_tokens <= 8
    assert second.interpretation["question"] == "What is the rate?"


def test_a_stream_holds_the_same_text(openai):
    messages = [asked("Interpret this ECG.")]
    whole = openai.chat.completions.create(model="gem_small", messages=messages)
    chunks = list(openai.chat.completions.create(model="gem_small", messages=messages, stream=True))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text.strip() == whole.choices[0].message.content
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert chunks[-1].interpretation["claims"]["verdicts"]


def test_a_flat_line_is_refused(openai, flat):
    messages = [asked("Interpret this ECG.", flat[0][1][1])]
    message = openai.chat.completions.create(model="gem_small", messages=messages).choices[0].message
    assert message.content is None
    assert "cannot be read reliably" in message.refusal


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([{"role": "user", "content": "Hello"}], "expected an ECG"),
        ([asked("x", b"no ECG")], "expected"),
        ([asked("x"), {"role": "assistant", "content": "y"}], "at the end"),
        ([asked("long " * 390)] * 4, "tokens"),
    ],
)
def test_what_cannot_be_answered_says_why(openai, messages, expected):
    with pytest.raises(UnprocessableEntityError, match=expected):
        openai.chat.completions.create(model="gem_small", messages=messages)
