import asyncio
import contextlib
import json
import logging
import os
import socket
import sys
import time

import numpy as np
import pytest

from gem_lightning.errors import GemError
from gem_lightning.jobs import NoRoomError
from gem_lightning.llm.cache import AppendLog
from gem_lightning.llm.client import AnswerStore, ChatClient, ChatError, ChatRequest
from helpers_kill import command_of, killed_at_random
from helpers_llm_server import LoopbackLLM, Reply


def question(text, **more):
    return ChatRequest([{"role": "user", "content": text}], tag=text, **more)


def words(request):
    content = request["messages"][-1]["content"]
    return content if isinstance(content, str) else content[0]["text"]


def test_answers_come_back_in_order_with_tags_usage_and_cost():
    with LoopbackLLM(lambda r, n: words(r).upper()) as server:
        client = ChatClient("m", server.base_url, price_in=10, price_out=100, concurrency=4)
        answers = client.ask([question(f"q{i}") for i in range(20)])
    assert [a.text for a in answers] == [f"Q{i}" for i in range(20)]
    assert [a.tag for a in answers] == [f"q{i}" for i in range(20)]
    assert answers[0].usage.prompt_tokens == 100
    assert client.ledger.cost == pytest.approx(20 * (100 * 10 + 20 * 100) / 1e6)
    assert server.requests[0]["temperature"] == 0.0


def test_concurrency_is_used_and_never_exceeded():
    with LoopbackLLM(latency=0.05) as server:
        ChatClient("m", server.base_url, concurrency=8).ask([question(str(i)) for i in range(40)])
        assert server.most_in_flight == 8


@pytest.mark.parametrize(
    "trouble",
    [
        Reply(status=429, headers={"retry-after": "0.01"}),
        Reply(status=500),
        Reply(status=503),
        Reply(status=529),
        Reply(cut=0.0),
        Reply(cut=0.6),
        Reply(cut=0.97),
        Reply(body=b'{"choices": [{"mess'),
        Reply(body=b"<html>bad gateway</html>"),
        Reply(body=b'{"choices": []}'),
        Reply(hang=True),
    ],
    ids=["429", "500", "503", "529", "no_headers", "cut", "cut_late", "half_json", "html", "no_choice", "hang"],
)
def test_passing_troubles_are_retried_and_paid_once(trouble, tmp_path):
    def reply(request, n):
        return trouble if n < 2 else "fine"

    with LoopbackLLM(reply) as server:
        # A short limit only where the server hangs: on a busy machine it would add retries of its own.
        limit = 0.5 if trouble.hang else 60
        client = ChatClient("m", server.base_url, cache=tmp_path / "a.jsonl", backoff=0.01, timeout=limit)
        [answer] = client.ask([question("x")])
        assert answer.text == "fine"
        assert client.ledger.retries >= 2 if trouble.hang else client.ledger.retries == 2
        assert client.ledger.answers == 1
        assert len({h["idempotency-key"] for h in server.headers}) == 1


def test_a_request_that_never_succeeds_is_reported_not_dropped():
    def reply(request, n):
        return Reply(status=500) if words(request) == "bad" else "good"

    with LoopbackLLM(reply) as server:
        client = ChatClient("m", server.base_url, retries=2, backoff=0.001)
        answers = client.ask([question("a"), question("bad"), question("b")])
    assert [a.ok for a in answers] == [True, False, True]
    assert "after 3 attempts" in answers[1].error
    assert client.ledger.failed == 1


def test_a_refused_request_is_not_retried():
    with LoopbackLLM(lambda r, n: Reply("context too long", status=400)) as server:
        [answer] = ChatClient("m", server.base_url).ask([question("x")])
        assert "context too long" in answer.error
        assert len(server.requests) == 1


def test_wrong_key_stops_everything_and_is_never_shown(monkeypatch, caplog):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("MY_KEY", "sk-secret-123")
    with LoopbackLLM(lambda r, n: Reply("bad key sk-secret-123", status=401)) as server:
        client = ChatClient("m", server.base_url, api_key_env="MY_KEY")
        with pytest.raises(ChatError, match="MY_KEY") as error:
            client.ask([question(str(i)) for i in range(100)])
        assert server.headers[0]["authorization"] == "Bearer sk-secret-123"
        assert len(server.requests) <= 32
    assert "sk-secret" not in str(error.value) + caplog.text + repr(vars(client))


def test_cache_answers_without_asking_and_is_content_addressed(tmp_path):
    with LoopbackLLM(lambda r, n: f"answer {n}") as server:
        for _ in range(2):
            client = ChatClient("m", server.base_url, cache=tmp_path / "a.jsonl")
            [one, again] = client.ask([question("x"), question("x")])
            assert one.text == again.text == "answer 0"
        assert len(server.requests) == 1
        assert client.ledger.reused == 2
        assert client.ledger.answers == 1
        client.ask([question("x", sample=1), question("x", schema={"type": "object"}), question("y")])
        ChatClient("other", server.base_url, cache=tmp_path / "a.jsonl").ask([question("x")])
        assert len(server.requests) == 5


def test_a_torn_line_is_skipped_and_what_follows_is_kept(tmp_path):
    path = tmp_path / "a.jsonl"
    with LoopbackLLM() as server:
        ChatClient("m", server.base_url, cache=path).ask([question("x"), question("y")])
        path.write_bytes(path.read_bytes()[:-30])
        ChatClient("m", server.base_url, cache=path).ask([question("x"), question("y"), question("z")])
    assert len(AnswerStore(path).answers) == 3


def test_a_full_disk_tears_no_line_that_follows(tmp_path):
    log = AppendLog(tmp_path / "log.jsonl")
    log.append({"n": 1})
    whole, log._file = log._file, os.open("/dev/full", os.O_WRONLY)
    with pytest.raises(NoRoomError, match=r"room for .*log\.jsonl"):
        log.append({"n": 2})
    os.close(log._file)
    log._file = whole
    os.write(whole, b'{"n": ')  # what a disk that fills up half-way leaves
    log.append({"n": 3})
    assert [row["n"] for row in AppendLog(tmp_path / "log.jsonl").rows()] == [1, 3]


def test_budget_stops_cleanly_and_is_not_exceeded(tmp_path):
    with LoopbackLLM(lambda r, n: Reply("ok", usage=(20, 50))) as server:
        options = {"cache": tmp_path / "a.jsonl", "max_tokens": 100, "price_out": 1e6, "concurrency": 8}
        client = ChatClient("m", server.base_url, budget_usd=1000, **options)
        answers = client.ask([question(str(i)) for i in range(100)])
        assert 18 <= len(answers) <= 20
        assert client.ledger.cost <= 1000
        assert "1000 USD" in client.ledger.stopped
        more = ChatClient("m", server.base_url, budget_usd=1e6, **options)
        assert len(more.ask([question(str(i)) for i in range(100)])) == 100
        assert len(server.requests) == 100
        assert more.ledger.stopped is None


def test_money_budget_needs_prices():
    with pytest.raises(GemError, match="price_in"):
        ChatClient("m", budget_usd=1)


def test_structured_output_falls_back_to_what_the_endpoint_accepts():
    def reply(request, n):
        kind = request.get("response_format", {}).get("type")
        return Reply("response_format not supported", status=400) if kind == "json_schema" else str(kind)

    with LoopbackLLM(reply) as server:
        client = ChatClient("m", server.base_url, concurrency=1)
        schema = {"type": "object"}
        texts = [a.text for a in client.ask([question(str(i), schema=schema) for i in range(3)])]
        assert texts == ["json_object"] * 3
        assert len(server.requests) == 4


def test_models_that_refuse_temperature_and_max_tokens_are_asked_differently():
    def reply(request, n):
        if "max_tokens" in request:
            return Reply("use 'max_completion_tokens' instead", status=400)
        return Reply("unsupported value: 'temperature'", status=400) if "temperature" in request else "ok"

    with LoopbackLLM(reply) as server:
        [answer] = ChatClient("m", server.base_url).ask([question("x")])
        assert answer.text == "ok"
        assert server.requests[-1]["max_completion_tokens"] == 2048


def test_many_requests_refused_at_once_give_up_one_thing_only():
    def reply(request, n):
        if "max_tokens" in request or "temperature" in request:
            return Reply("'max_completion_tokens', please, and no 'temperature'", status=400, latency=0.05)
        kind = request["response_format"]["type"]
        return Reply("no json_schema", status=400, latency=0.05) if kind == "json_schema" else kind

    with LoopbackLLM(reply) as server:
        client = ChatClient("m", server.base_url, concurrency=16)
        answers = client.ask([question(str(i), schema={"type": "object"}) for i in range(16)])
    assert {a.text for a in answers} == {"json_object"}
    with pytest.raises(GemError, match="expected structured among auto"):
        ChatClient("m", structured="yaml")


def test_an_endpoint_that_is_not_there_or_falls_silent_stops_the_run(caplog):
    caplog.set_level(logging.INFO)
    with pytest.raises(ChatError, match=r"m at http://127.0.0.1:1/v1 after 2 attempts.*check the address"):
        ChatClient("m", "http://127.0.0.1:1/v1", retries=1, backoff=0.001).ask([question("x")])
    with LoopbackLLM(lambda r, n: "ok" if n < 4 else Reply(status=503)) as server:
        client = ChatClient("m", server.base_url, retries=1, backoff=0.001, concurrency=2)
        with pytest.raises(ChatError, match="4 requests in a row failed"):
            client.ask([question(str(i)) for i in range(100)])
        assert client.ledger.answers == 4
        assert len(server.requests) < 16
    assert len([line for line in caplog.messages if "attempt" in line]) <= 2  # not a line an attempt
    with LoopbackLLM(lambda r, n: Reply("no pictures here", status=400)) as server:
        client = ChatClient("m", server.base_url, concurrency=2)
        with pytest.raises(ChatError, match=r"no pictures here.*4 requests in a row failed"):
            client.ask([question(str(i)) for i in range(100)])
        assert len(server.requests) < 10


def test_a_few_refusals_do_not_stop_a_run_that_was_answered_before(tmp_path):
    options = {"cache": tmp_path / "a.jsonl", "concurrency": 4}
    with LoopbackLLM(lambda r, n: Reply("content filter", status=400) if "bad" in words(r) else "ok") as server:
        ChatClient("m", server.base_url, **options).ask([question("good")])
        again = ChatClient("m", server.base_url, **options)
        answers = again.ask([question("good"), *(question(f"bad {i}") for i in range(8))])
    assert [a.ok for a in answers] == [True] + [False] * 8


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({"max_tokens": 9}, "use 'max_completion_tokens' instead of max_tokens"),
        ({"response_format": {"type": "json_schema"}}, "response_format is not supported"),
    ],
)
def test_a_refused_field_of_one_s_own_ends_the_question(extra, words):
    def reply(request, n):
        return Reply(words, status=400) if n < 20 else "asked for ever"

    with LoopbackLLM(reply) as server:
        [answer] = ChatClient("m", server.base_url, extra=extra).ask([question("x")])
        assert words in answer.error
        assert len(server.requests) == 1


def test_an_address_where_nobody_takes_connections_is_doubted():
    with socket.socket() as full, contextlib.ExitStack() as waiting:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):  # the queue is full: further ones time out while connecting
            one = waiting.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        client = ChatClient("m", f"http://127.0.0.1:{full.getsockname()[1]}/v1", retries=0, timeout=0.3)
        with pytest.raises(ChatError, match="check the address"):
            client.ask([question("x")])


def test_a_key_that_a_long_refusal_would_cut_is_masked_whole(monkeypatch):
    monkeypatch.setenv("MY_KEY", "sk-secret-123")
    with LoopbackLLM(lambda r, n: Reply(body=b"x" * 492 + b"sk-secret-123", status=400)) as server:
        [answer] = ChatClient("m", server.base_url, api_key_env="MY_KEY").ask([question("x")])
    assert answer.error.endswith("x***")


def test_images_travel_as_data_urls():
    image = np.zeros((4, 6, 3), np.uint8)
    with LoopbackLLM() as server:
        ChatClient("m", server.base_url).ask([question("look", images=(image, b"\xff\xd8rest"))])
        parts = server.requests[0]["messages"][0]["content"]
    assert [p["type"] for p in parts] == ["text", "image_url", "image_url"]
    assert parts[1]["image_url"]["url"].startswith("data:image/png;base64,")
    assert parts[2]["image_url"]["url"].startswith("data:image/jpeg;base64,")


def test_rate_limit_spaces_requests():
    with LoopbackLLM() as server:
        client = ChatClient("m", server.base_url, requests_per_minute=600)
        start = time.monotonic()
        client.ask([question(str(i)) for i in range(15)])
        assert time.monotonic() - start >= 0.45  # 10 at once, then 10 a second; a lower bound cannot be flaky


def test_works_inside_a_running_loop_and_as_a_coroutine():
    async def main(server):
        client = ChatClient("m", server.base_url)
        inside = client.ask([question("x")])[0].text
        answer = await client.complete([{"role": "user", "content": "y"}])
        await client.aclose()
        return inside, answer.text

    with LoopbackLLM(lambda r, n: words(r)) as server:
        assert asyncio.run(main(server)) == ("x", "y")


def test_missing_usage_is_estimated_and_said_so():
    with LoopbackLLM(lambda r, n: Reply("four words are here", usage=None)) as server:
        [answer] = ChatClient("m", server.base_url).ask([question("x")])
    assert answer.usage.estimated
    assert answer.usage.completion_tokens > 0


WORKER = """
import json, os, sys
from gem_lightning.llm.client import ChatClient, ChatRequest
url, cache, out, n = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
client = ChatClient("m", url, cache=cache, concurrency=8, price_in=1, price_out=1)
answers = client.ask([ChatRequest([{"role": "user", "content": str(i)}], tag=str(i)) for i in range(n)])
with open(out, "w") as file:
    json.dump([[a.tag, a.text] for a in answers] + [client.ledger.to_dict()], file)
"""


@pytest.mark.slow
def test_killed_twenty_times_each_answer_once_and_paid_once(tmp_path):
    cache, out, n = tmp_path / "a.jsonl", tmp_path / "out.json", 400
    with LoopbackLLM(lambda r, i: "re " + words(r), latency=0.02) as server:
        command = [sys.executable, "-c", WORKER, server.base_url, str(cache), str(out), str(n)]
        killed_at_random(command_of(*command), lambda: len(server.paid), total=n)
        *answers, ledger = json.loads(out.read_text())
    assert answers == [[str(i), f"re {i}"] for i in range(n)]
    rows = [json.loads(line) for line in cache.read_bytes().splitlines() if line.strip().endswith(b"}")]
    keys = [row["key"] for row in rows if "key" in row]
    assert len(keys) == len(set(keys)) == n
    assert ledger["cost"] == pytest.approx(n * 120 / 1e6)
    # An endpoint that honours the idempotency key charged each content once; only requests in flight at a kill recur.
    assert len(server.paid) == n
    assert sum(server.paid.values()) <= n + 20 * 8
