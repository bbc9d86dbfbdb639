"""Who is refused, with what, and what is written down about it."""

import asyncio
import json
import logging
import threading

import pytest
from fastapi.testclient import TestClient
from starlette.exceptions import HTTPException

from gem_lightning.errors import GemError
from gem_lightning.serving.api import build_app
from gem_lightning.serving.limits import BodyLimit, Limits, RateLimit
from gem_lightning.serving.security import TOKENS, read_tokens
from helpers_serving import DICOM, upload

TOKEN = "0123456789abcdef"


def test_too_large_a_body_is_refused(client):
    big = [("files", ("a.dcm", bytes(1_000_001)))]
    form = {"content-type": "multipart/form-data; boundary=x"}
    start = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.dcm"\r\n\r\n'
    parts = (start, *(bytes(100_000) for _ in range(11)))  # of unknown length
    for answer in (client.post("/v1/measure", files=big), client.post("/v1/measure", content=parts, headers=form)):
        assert answer.status_code == 413
        assert answer.json()["detail"].startswith("expected at most 1 MB")
    kind = {"content-type": "application/json"}
    content = (b'{"x": "' + b"a" * 100_000 for _ in range(11))
    assert client.post("/v1/chat/completions", content=content, headers=kind).status_code == 413


def test_no_more_than_the_limit_is_received():
    received = 0

    async def endless():
        nonlocal received
        received += 1000
        return {"type": "http.request", "body": bytes(1000), "more_body": True}

    async def reads_all(scope, receive, send):
        while True:
            await receive()

    with pytest.raises(HTTPException) as caught:
        asyncio.run(BodyLimit(reads_all, 10_000)({"type": "http", "headers": []}, endless, None))
    assert caught.value.status_code == 413
    assert received == 11_000


def test_a_client_that_stops_sending_gives_its_place_up():
    async def stalled():
        await asyncio.sleep(60)

    async def reads(scope, receive, send):
        await receive()

    with pytest.raises(HTTPException) as caught:
        asyncio.run(BodyLimit(reads, 10_000, idle_s=0.01)({"type": "http", "headers": []}, stalled, None))
    assert caught.value.status_code == 408


def test_requests_a_minute(client):
    now = 0.0
    limit = RateLimit(None, 2, clock=lambda: now)

    def wait(address):
        return limit._wait_s({"client": (address, 1)})

    assert [wait("a"), wait("a"), wait("a"), wait("b")] == [0, 0, 30, 0]
    now = 29.0
    assert wait("a") == 1
    now = 30.0
    assert [wait("a"), wait("a")] == [0, 30]
    limited = TestClient(build_app(client.app.state.service.gem, limits=Limits(requests_per_minute=1)))
    assert limited.post("/v1/measure", files=upload(DICOM)).status_code == 200
    answer = limited.post("/v1/measure", files=upload(DICOM))
    assert answer.status_code == 429
    assert 0 < int(answer.headers["retry-after"]) <= 60


def test_more_requests_than_the_server_takes(gem_small, monkeypatch):
    app = build_app(gem_small, limits=Limits(max_requests=1))
    begun, go_on = threading.Event(), threading.Event()

    def answer(jobs):
        begun.set()
        assert go_on.wait(30)
        return ["Sinus rhythm."] * len(jobs)

    monkeypatch.setattr(app.state.service.queue, "answer", answer)
    first = []
    with TestClient(app) as client:
        ask = lambda: first.append(client.post("/v1/interpret", files=upload(DICOM)))  # noqa: E731
        thread = threading.Thread(target=ask)
        thread.start()
        assert begun.wait(30)
        answer = client.post("/v1/interpret", files=upload(DICOM))
        assert client.get("/healthz").status_code == 200
        assert "gem_lightning_requests_open 2.0" in client.get("/metrics").text
        go_on.set()
        thread.join()
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) >= 1
    assert first[0].json()["text"].startswith("Sinus rhythm.")


def test_tokens(gem_small):
    client = TestClient(build_app(gem_small, tokens=[TOKEN]))
    for given in (None, "Bearer wrong", f"Basic {TOKEN}", "Bearer", f"Bearer {TOKEN}x"):
        headers = {} if given is None else {"authorization": given}
        answer = client.post("/v1/measure", files=upload(DICOM), headers=headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
    assert client.get("/v1/models", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200
    assert client.get("/healthz").status_code == 200
    described = client.get("/openapi.json").json()
    assert described["paths"]["/v1/measure"]["post"]["security"]


def test_tokens_come_from_the_environment_and_a_file(tmp_path, monkeypatch):
    monkeypatch.setenv(TOKENS, f"{TOKEN}, {TOKEN}2")
    (tmp_path / "tokens").write_text(f"\n{TOKEN}3\n")
    assert read_tokens(tmp_path / "tokens") == (TOKEN, f"{TOKEN}2", f"{TOKEN}3")
    with pytest.raises(GemError, match="tokens_file"):
        read_tokens(tmp_path / "none")
    monkeypatch.setenv(TOKENS, "short")
    with pytest.raises(GemError, match="16 characters"):
        read_tokens()


def test_other_sites_may_not_ask(client, gem_small):
    for origin, status in (("http://evil.example", 403), ("null", 403), ("http://testserver", 200)):
        answer = client.post("/v1/measure", files=upload(DICOM), headers={"origin": origin})
        assert answer.status_code == status
    named = TestClient(build_app(gem_small, trusted_hosts=["localhost"]))
    assert named.get("/healthz").status_code == 400
    assert named.get("/healthz", headers={"host": "localhost:8000"}).status_code == 200


def test_every_answer_has_the_headers(client):
    for answer in (
        client.get("/"),
        client.get("/none"),
        client.get("/v1/measure"),
        client.post("/v1/measure", files=[("files", ("a.dcm", bytes(1_000_001)))]),
        client.post("/v1/measure", headers={"origin": "http://evil.example"}),
    ):
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"


def test_logs_hold_nothing_of_the_patient(client, caplog, monkeypatch):
    caplog.set_level(logging.INFO, logger="gem_lightning.serving")
    files = [("files", ("jane-doe.dcm", DICOM.read_bytes()))]
    client.post("/v1/interpret?who=jane-doe", files=files, data={"question": "Is Jane Doe well?"})

    def bug(*args):
        raise RuntimeError("jane-doe")

    monkeypatch.setattr(client.app.state.service, "read", bug)
    answer = client.post("/v1/measure", files=files)
    assert answer.status_code == 500
    assert answer.json()["detail"].startswith("internal error")
    assert answer.headers["x-content-type-options"] == "nosniff"
    lines = [json.loads(record.getMessage()) for record in caplog.records if record.name.endswith("observe")]
    assert [(line["route"], line["status"]) for line in lines] == [("/v1/interpret", 200), ("/v1/measure", 500)]
    assert lines[1]["error"] == "RuntimeError"
    assert "jane" not in caplog.text.lower()
