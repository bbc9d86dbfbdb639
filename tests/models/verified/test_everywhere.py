"""The same switches wherever a text is asked for: interpret, stream, chat, predict, serve, the command line."""

import functools
import json

import pytest
import torch
from fastapi.testclient import TestClient

from gem_lightning.claims.verify import verify
from gem_lightning.cli import main
from gem_lightning.ecg import simulate
from gem_lightning.ecg.writers import write_ecg
from gem_lightning.errors import DataError, GemError
from gem_lightning.models import Gem
from gem_lightning.serving.api import build_app

LIES = "Atrial fibrillation at 31 bpm. PR 320 ms. A twelve-lead ECG. No P waves."


@pytest.fixture(scope="module")
def record():
    return simulate("sinus", seed=4).record


@pytest.fixture
def liar(tiny_gem, monkeypatch):
    """A model that writes :data:`LIES`, whatever it is asked; the rest of the network runs as ever."""
    tokenizer = tiny_gem.processor.tokenizer
    ids = [*tokenizer.encode(LIES, add_special_tokens=False), tokenizer.eos_token_id]
    inner = type(tiny_gem.model).forward
    state = {"at": 0}

    @functools.wraps(inner)
    def forward(self, *args, **kwargs):
        out = inner(self, *args, **kwargs)
        token = ids[state["at"] % len(ids)]
        state["at"] += 1
        out.logits[:, -1] = torch.nn.functional.one_hot(torch.tensor(token), out.logits.shape[-1]) * 100.0
        return out

    write = type(tiny_gem.model).generate

    @functools.wraps(write)
    def generate(self, *args, **kwargs):
        before = state["at"]
        out = write(self, *args, **kwargs)
        if kwargs.get("max_new_tokens") == 1:  # a look at the next token, which is not written
            state["at"] = before
        return out

    monkeypatch.setattr(type(tiny_gem.model), "forward", forward)
    monkeypatch.setattr(type(tiny_gem.model), "generate", generate)
    return tiny_gem


def check(done, record):
    assert not done.claims.count("contradicted")
    assert [e.draft.strip() for e in done.edits] == [s + "." for s in LIES.rstrip(".").split(". ")]
    assert [e.kept for e in done.edits] == [False, False, True, False]
    assert done.kept_share == 0.25
    assert "A twelve-lead ECG." in done.text
    assert done.tokens >= 30


def test_interpret_and_what_it_writes(liar, record):
    done = liar.interpret(record, verify="revise", max_new_tokens=120)
    check(done, record)
    row = json.loads(done.to_json())
    assert row["kept_share"] == 0.25
    assert row["tokens"] == done.tokens
    assert row["edits"][0]["draft"].startswith("Atrial fibrillation")
    assert row["edits"][0]["source"] == "measurement"
    assert row["edits"][0]["verdicts"][0]["verdict"] == "contradicted"
    page = done.to_html()
    assert "◆" in page  # also without colour
    assert 'class="measured' in page or " measured" in page
    assert "What verification changed" in page
    assert "Atrial fibrillation at 31 bpm." in page  # the draft stays to be seen
    assert "◆" in done.to_terminal(color=False)
    plain = liar.interpret(record, max_new_tokens=120)
    assert plain.text == LIES
    assert (plain.edits, plain.kept_share) == ((), 1.0)
    assert "◆" not in plain.to_html()


def test_a_stream_gives_a_sentence_only_after_its_verdict(liar, record):
    talk = liar.chat(record)
    pieces = list(talk.stream(verify="revise", max_new_tokens=120))
    check(talk.turns[-1], record)
    assert "".join(p.text for p in pieces).strip() == talk.turns[-1].text
    assert all(p.edit is not None for p in pieces)
    for piece in pieces:
        assert not verify(piece.text, talk.turns[-1].features).count("contradicted")
    assert talk._messages[-1]["value"] == talk.turns[-1].text
    again = talk.ask("And the rate?", verify="revise", max_new_tokens=120)
    check(again, record)
    with pytest.raises(DataError, match="rerank"):
        talk.ask(verify="rerank")


def test_a_stream_that_is_closed_leaves_the_conversation(liar, record):
    talk = liar.chat(record)
    stream = talk.stream(verify="revise", max_new_tokens=120)
    next(stream)
    stream.close()
    assert talk.turns == []
    assert talk._messages == []


def test_complete_adds_to_the_report(liar):
    record = simulate("lbbb", seed=4).record
    done = liar.interpret(record, complete=True, max_new_tokens=120)
    assert done.text.startswith(LIES)
    assert "eft bundle branch block" in done.text[len(LIES) :]
    assert {e.action for e in done.edits} <= {"keep", "flag", "add"}


def test_many_records_and_one_that_fails(liar, record, tmp_path):
    (tmp_path / "broken.dcm").write_bytes(b"not an ECG")
    found = liar.interpret_many([record, tmp_path / "broken.dcm", record], verify="revise", max_new_tokens=120)
    assert isinstance(found[1], GemError)
    check(found[0], record)
    check(found[2], record)


def test_unknown_modes_are_refused(tiny_gem, record):
    with pytest.raises(GemError, match="expected verify"):
        tiny_gem.interpret(record, verify="always")
    with pytest.raises(DataError, match="one beam"):
        tiny_gem.interpret(record, verify="revise", num_beams=2)


def test_predict_over_a_folder(liar, tmp_path, monkeypatch):
    import hydra
    from hydra.core.global_hydra import GlobalHydra

    from gem_lightning import predict as module

    (tmp_path / "in").mkdir()
    for seed in range(2):
        write_ecg(simulate("sinus", seed=seed).record, tmp_path / "in" / f"{seed}.dcm")
    monkeypatch.setattr(Gem, "from_pretrained", classmethod(lambda cls, *a, **k: liar))
    own = [f"weights={tmp_path}", f"out={tmp_path / 'out'}", "max_new_tokens=120", "workers=0", "html=true"]
    GlobalHydra.instance().clear()
    with hydra.initialize_config_module("gem_lightning.conf", version_base="1.3"):
        module.predict(hydra.compose("predict", overrides=[*own, f"record={tmp_path / 'in'}", "verify=revise"]))
        one = [*(o.replace("/out", "/one") for o in own), f"record={tmp_path / 'in' / '0.dcm'}"]
        module.predict(
            hydra.compose("predict", overrides=[*one, f"record={tmp_path / 'in' / '0.dcm'}", "verify=revise"])
        )
        with pytest.raises(GemError):  # a job is not resumed under other switches
            module.predict(hydra.compose("predict", overrides=[*own, f"record={tmp_path / 'in'}", "verify=guide"]))
    rows = [json.loads(line) for line in (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()]
    assert len(rows) == 2
    for row in rows:
        assert row["kept_share"] == 0.25
        assert row["claims"]["hallucination_rate"] == 0
        assert [e["action"] for e in row["edits"]].count("keep") == 1
    assert all("◆" in page.read_text() for page in (tmp_path / "out" / "pages").iterdir())
    assert json.loads((tmp_path / "one" / "report.json").read_text())["kept_share"] == 0.25


def test_serve_and_its_form(liar, record, tmp_path):
    write_ecg(record, tmp_path / "a.dcm")
    files = [("files", ("a.dcm", (tmp_path / "a.dcm").read_bytes()))]
    client = TestClient(build_app(liar))
    own = client.post("/v1/interpret", files=files, data={"verify": "report"}).json()
    assert own["text"].startswith("Atrial fibrillation at 31 bpm.")
    row = client.post("/v1/interpret", files=files).json()  # revised, unless asked otherwise
    assert row["kept_share"] == 0.25
    form = {"verify": "revise", "complete": "true", "format": "html"}
    assert "◆" in client.post("/v1/interpret", files=files, data=form).text
    assert client.post("/v1/interpret", files=files, data={"verify": "all"}).status_code == 422
    assert 'name="verify"' in client.get("/").text


def test_the_command_line(liar, record, tmp_path, monkeypatch, capsys):
    write_ecg(record, tmp_path / "a.dcm")
    monkeypatch.setattr(Gem, "from_pretrained", classmethod(lambda cls, *a, **k: liar))
    main(["interpret", str(tmp_path / "a.dcm"), "--model", "x", "--verify", "revise", "--on-fail", "drop"])
    out = capsys.readouterr().out
    assert "A twelve-lead ECG." in out.split("\n")[0]
    assert "dropped" in out
    with pytest.raises(SystemExit):
        main(["interpret", str(tmp_path / "a.dcm"), "--model", "x", "--verify", "all"])
