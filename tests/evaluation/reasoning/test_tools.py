"""Models that call tools: a network in a conversation, and a text model behind an endpoint on loopback."""

import functools
import json
import subprocess
import sys

import pytest
import torch

from gem_lightning.composition.chains.make import make_chains
from gem_lightning.composition.chains.pathways import judge, number, pathways
from gem_lightning.composition.chains.view import View
from gem_lightning.ecg import simulate
from gem_lightning.evaluation.predictors import ApiPredictor
from gem_lightning.evaluation.reasoning import reading
from gem_lightning.evaluation.reasoning.benchmark import ReasoningBenchmark
from gem_lightning.llm.client import ChatClient
from helpers_llm_server import LoopbackLLM, Reply


def calls(name, **arguments):
    """A reply that calls a tool."""
    function = {"name": name, "arguments": json.dumps(arguments)}
    message = {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "c1", "type": "function", "function": function}],
    }
    body = {"id": "x", "object": "chat.completion", "model": "m"}
    body["choices"] = [{"index": 0, "message": message, "finish_reason": "tool_calls"}]
    return Reply(body=json.dumps(body).encode())


def text_model(request, n):
    """A text model that knows first-degree AV block by heart and sees the record through tools alone."""
    messages = request["messages"]
    at = max(i for i, message in enumerate(messages) if message["role"] == "user")
    question, results = (
        messages[at]["content"],
        [json.loads(m["content"]) for m in messages[at:] if m["role"] == "tool"],
    )
    assert isinstance(question, str)  # no image
    if "Which criterion" in question:
        wanted = "PR interval above" if "next" in question else "A QRS complex after each P wave"
        return next(line[4:] for line in question.splitlines() if wanted in line)
    if "time ranges" in question:
        options = [line[4:] for line in question.splitlines() if line.startswith("(")]
        if len(results) == len(options):
            inside = [any(wave["wave"] == "P" for wave in found["waves"]) for found in results]
            return options[inside.index(True)]
        start, end = reading.span(options[len(results)])
        middle = (start + end) / 2
        return calls("zoom", lead="II", t0=middle - 0.005, t1=middle + 0.005)
    if not results:
        return (
            calls("criterion", code="av_block_1") if "first-degree" in question else calls("measure", quantity="pr_ms")
        )
    if "range does" in question:
        options = [line[4:] for line in question.splitlines() if line.startswith("(")]
        return next(o for o in options if reading.bounds(o)[0] <= results[0]["value"] < reading.bounds(o)[1])
    if "With the findings so far" in question:
        asked = sum("Which criterion" in str(m["content"]) for m in messages if m["role"] == "user")
        return "Further findings are needed" if asked == 1 else "Yes" if results[0]["met"] else "No"
    met = results[0].get("met", results[0].get("value", 0) > 200)
    return "Yes" if met or "followed" in question else "No"


@pytest.fixture
def file(tmp_path):
    rows = []
    for seed in range(3):
        view = View.simulated(simulate("av_block_1", seed, pr_ms=250, snr_db=25))
        ref = f"simulate:av_block_1?snr_db=25&pr_ms=250::{seed}"
        made = make_chains(view, f"p{seed}", "simulator", f"p{seed}", diagnoses=["first_degree_av_block"], ecg=ref)
        rows += [chain.to_row() for chain in made]
    assert len(rows) == 3
    path = tmp_path / "chains.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_text_model_behind_an_endpoint_completes_chains_with_tools(file, tmp_path):
    with LoopbackLLM(text_model) as server:
        model = ApiPredictor(ChatClient("m", server.base_url, cache=tmp_path / "a.jsonl"), tools=True, images=False)
        metrics = ReasoningBenchmark(file, draws=0)(model, tmp_path / "o").metrics
        sent = len(server.requests)
        assert metrics["completion"]["value"] == 1.0
        assert metrics["initial"]["value"] == 1.0
        assert all(r["tools"][0]["function"]["name"] == "measure" for r in server.requests)
        (tmp_path / "o" / "predictions.jsonl").unlink()
        fresh = ApiPredictor(ChatClient("m", server.base_url, cache=tmp_path / "a.jsonl"), tools=True, images=False)
        again = ReasoningBenchmark(file, draws=0)(fresh, tmp_path / "o").metrics
        assert again["completion"]["value"] == 1.0
        assert len(server.requests) == sent  # answers with calls are cached as well


def test_the_command_takes_an_endpoint_with_tools(file, tmp_path):
    with LoopbackLLM(text_model) as server:
        done = subprocess.run(
            [sys.executable, "-m", "gem_lightning.evaluate", "model=m", f"endpoint.base_url={server.base_url}",
             "endpoint.tools=true", "endpoint.images=false", "benchmark=reasoning", f"benchmark.file={file}",
             f"out={tmp_path}/o"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "o" / "results.json").read_text())["metrics"]["completion"]["value"] == 1.0


def test_without_tools_a_model_gets_the_image_once_and_the_right_answers_as_its_own(file, tmp_path):
    with LoopbackLLM(lambda request, n: "Yes") as server:
        model = ApiPredictor(ChatClient("m", server.base_url))
        metrics = ReasoningBenchmark(file, limit=1, draws=0)(model, tmp_path).metrics
    last = max(server.requests, key=lambda request: len(request["messages"]))["messages"]
    images = [
        part for m in last if isinstance(m["content"], list) for part in m["content"] if part["type"] == "image_url"
    ]
    assert len(images) == 1
    assert last[4]["content"] == "A QRS complex after each P wave"
    assert "tools" not in server.requests[0]
    assert metrics["completion"]["value"] == 0
    assert metrics["initial"]["value"] == 1


def test_a_model_that_never_stops_calling_is_made_to_answer(file, tmp_path):
    def restless(request, n):
        return calls("measure", quantity="mood") if "tools" in request else "No"

    with LoopbackLLM(restless) as server:
        model = ApiPredictor(ChatClient("m", server.base_url), tools=True, images=False)
        metrics = ReasoningBenchmark(file, limit=1, draws=0)(model, tmp_path).metrics
    assert metrics["answered"] == 1
    told = [m["content"] for m in server.requests[-1]["messages"] if m["role"] == "tool"]
    assert "expected a quantity" in told[0]


def test_a_chain_that_an_endpoint_refuses_is_kept_as_failed(file, tmp_path):
    def picky(request, n):
        return Reply("too long", status=400) if n == 5 else "Yes"

    with LoopbackLLM(picky) as server:
        client = ChatClient("m", server.base_url, concurrency=1)
        metrics = ReasoningBenchmark(file, draws=0)(ApiPredictor(client, images=False), tmp_path).metrics
    assert metrics["answered"] == 2


def writes(gem, texts, monkeypatch):
    """Make the network write these texts, one after the other; the rest of it runs as ever."""
    tokenizer = gem.processor.tokenizer
    ids = [i for text in texts for i in (*tokenizer.encode(text, add_special_tokens=False), tokenizer.eos_token_id)]
    inner, at = type(gem.model).forward, iter(ids)

    @functools.wraps(inner)
    def forward(self, *args, **kwargs):
        out = inner(self, *args, **kwargs)
        out.logits[:, -1] = torch.nn.functional.one_hot(torch.tensor(next(at)), out.logits.shape[-1]) * 100.0
        return out

    monkeypatch.setattr(type(gem.model), "forward", forward)


def test_a_network_calls_tools_in_a_conversation(tiny_gem, monkeypatch):
    record = simulate("lbbb", 2).record
    writes(tiny_gem, ["measure(qrs_ms)", "criterion(lbbb)", "There is left bundle branch block."], monkeypatch)
    talk = tiny_gem.chat(record, tools=True)
    answer = talk.ask("Is there a bundle branch block?", max_new_tokens=40)
    assert answer.text == "There is left bundle branch block."
    assert [call for call, _ in talk.calls] == ["measure(qrs_ms)", "criterion(lbbb)"]
    assert talk.calls[0][1]["value"] > 120
    assert talk.calls[1][1]["met"] is True
    assert any(message["value"].startswith("Result: ") for message in talk._messages)
    assert talk._messages[-1]["value"] == answer.text


def test_without_tools_a_call_is_only_text(tiny_gem, monkeypatch):
    writes(tiny_gem, ["measure(qrs_ms)"], monkeypatch)
    talk = tiny_gem.chat(simulate("sinus", 2).record)
    assert talk.ask("?", max_new_tokens=20).text == "measure(qrs_ms)"
    assert talk.calls == []


def test_the_numbers_that_chains_ask_for_can_be_measured_with_the_tools():
    view = View.of(simulate("rvh", 2).record)
    quantities = {c.quantity for one in pathways().values() for c in one.criteria.values() if c.quantity}
    assert all(number(quantity, view.features) is not None for quantity in quantities)
    assert judge(pathways()["right_ventricular_hypertrophy"].criteria["rvh_axis"], view.features).met
