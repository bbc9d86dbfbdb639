"""The local teacher with tiny random chat models of transformers: batches, stops, templates, memory, resume."""

import asyncio
import json

import hydra
import pytest

from gem_lightning.errors import DataError, GemError
from gem_lightning.generate import generate
from gem_lightning.generation.teachers import LocalTeacher
from gem_lightning.llm.cache import ChatRequest
from gem_lightning.llm.local import LocalClient
from helpers_chat import NO_SYSTEM, WORDS, save_chat_model


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(save_chat_model(tmp_path_factory.mktemp("chat") / "small"))


def chat(i, *more):
    return [*more, {"role": "user", "content": " ".join(f"w{(i * 7 + k) % 60}" for k in range(3 + i))}]


def ask(client, *chats):
    return client.ask([ChatRequest(c) for c in chats])


def test_batches_answer_as_single_questions_do(model):
    teacher = LocalTeacher(model, batch_size=4, max_new_tokens=6, device="cpu")
    assert teacher.name == "small"  # no path of this machine goes into the data
    sizes, write = [], teacher.client.write
    teacher.client.write = lambda chats: (sizes.append(len(chats)), write(chats))[1]

    async def ask_all():
        return await asyncio.gather(*(teacher.write(chat(i), None, (), f"s{i}#0") for i in range(6)))

    together = asyncio.run(ask_all())
    assert sizes == [4, 2]
    assert [w.text for w in together] == [write([chat(i)])[0].text for i in range(6)]
    assert len({w.text for w in together}) > 1
    assert any(w.cut for w in together)  # a random model seldom ends by itself
    assert teacher.facts()["dtype"] == "float32"


def test_an_answer_ends_where_the_template_ends_a_turn(tmp_path):
    client = LocalClient(str(save_chat_model(tmp_path, mute=True)), max_tokens=50)
    answer = ask(client, chat(0))[0]
    assert (answer.text, answer.usage.completion_tokens, answer.finish_reason) == ("", 1, "stop")


def test_thoughts_are_not_part_of_the_answer(model):
    client = LocalClient(model)
    client.open()
    ids = [WORDS.index(word) for word in ("w5", "</think>", "w1", "w2", "<eos>", "w9")]
    assert client._answer(ids, 3).text == "w1 w2"


def test_where_no_system_turn_is_known_its_words_lead_the_users(tmp_path, model):
    strict = LocalClient(str(save_chat_model(tmp_path, NO_SYSTEM)), max_tokens=5)
    system = {"role": "system", "content": "w58 w59"}
    folded = [{"role": "user", "content": f"w58 w59\n\n{chat(1)[0]['content']}"}]
    assert ask(strict, chat(1, system))[0].text == ask(LocalClient(model, max_tokens=5), folded)[0].text


def test_a_batch_that_does_not_fit_into_memory_is_halved(model, monkeypatch):
    import torch

    client = LocalClient(model, max_tokens=5)
    expected = [a.text for a in ask(client, *(chat(i) for i in range(5)))]
    tight = LocalClient(model, max_tokens=5, batch_size=5)
    tight.open()
    generate = tight._network.generate

    def full(input_ids, **more):
        if len(input_ids) > 2:
            raise torch.OutOfMemoryError
        return generate(input_ids=input_ids, **more)

    monkeypatch.setattr(tight._network, "generate", full)
    assert [a.text for a in ask(tight, *(chat(i) for i in range(5)))] == expected
    assert tight.batch_size <= 2
    monkeypatch.setattr(tight._network, "generate", lambda **more: full([0, 0, 0]))
    with pytest.raises(DataError, match="memory"):
        tight.write([chat(0)])


def test_too_long_a_question_costs_the_others_nothing(tmp_path):
    client = LocalClient(str(save_chat_model(tmp_path, longest=64)), max_tokens=8)
    long, short = ask(client, chat(58), chat(1))
    assert "at most 56 tokens" in long.error
    assert short.error is None
    assert short.text


def test_what_is_no_chat_model_is_explained(tmp_path, model):
    save_chat_model(tmp_path)
    (tmp_path / "chat_template.jinja").unlink()
    with pytest.raises(DataError, match="chat template"):
        LocalClient(str(tmp_path)).open()
    with pytest.raises(DataError, match="folder with a chat model of transformers at /no/where"):
        LocalClient("/no/where").open()
    with pytest.raises(DataError, match="device cuda:97"):
        LocalClient(model, device="cuda:97").open()


@pytest.fixture
def run(model, tmp_path):
    def begin():
        parts = ["source=simulated", "source.n=3", "teacher=local", f"teacher.model={model}", "workers=0"]
        sizes = ["teacher.max_new_tokens=12", "teacher.batch_size=2", f"out={tmp_path}"]
        with hydra.initialize_config_module("gem_lightning.conf", version_base="1.3"):
            cfg = hydra.compose("generate", [*parts, *sizes])
        with pytest.raises(GemError, match=r"got none of 3 records.*too few claims"):
            generate(cfg)
        return json.loads((tmp_path / "run_card.json").read_text())

    return begin


def test_a_whole_run_names_the_problems_and_resumes_without_writing_again(run, tmp_path):
    card = run()
    rows = [json.loads(line) for line in (tmp_path / "rejected.jsonl").read_text().splitlines()]
    assert card["rejected"] == len(rows) == 3  # nothing that a random model writes is let through
    assert card["reject_reasons"]["too few claims"] == card["reject_reasons"]["cut off"] == 3
    assert [len(row["attempts"]) for row in rows] == [3, 3, 3]
    made, reused = card["ledger"]["answers"], card["ledger"]["reused"]
    assert made + reused == 9
    assert made >= 6  # a retry that is the very same chat is not made again
    assert (card["teacher"], card["device"], card["dtype"]) == ("small", "cpu", "float32")
    for shard in (tmp_path / "job" / "shards").iterdir():
        shard.unlink()  # as if killed before the block was whole
    again = run()
    assert (again["ledger"]["answers"], again["ledger"]["reused"]) == (made, 9)
    assert [json.loads(line) for line in (tmp_path / "rejected.jsonl").read_text().splitlines()] == rows
