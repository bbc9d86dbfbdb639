"""Conversations equal fresh runs, streams equal whole answers, and each statement gets its verdict once."""

import functools
import threading

import pytest
import torch

from gem_lightning.ecg import EcgReadError, simulate
from gem_lightning.errors import DataError
from gem_lightning.models.inference.conversation import Piece
from gem_lightning.models.inference.generation import generate_texts


@pytest.fixture(scope="module")
def records():
    return [simulate(code, seed=i).record for i, code in enumerate(("sinus", "lbbb"))]


def towards(gem, text, monkeypatch):
    """Make the model write ``text``, whatever it is asked; the rest of the network runs as ever."""
    ids = [*gem.processor.tokenizer.encode(text, add_special_tokens=False), gem.processor.tokenizer.eos_token_id]
    inner = type(gem.model).forward
    at = iter(ids)

    @functools.wraps(inner)
    def forward(self, *args, **kwargs):
        out = inner(self, *args, **kwargs)
        out.logits[:, -1] = torch.nn.functional.one_hot(torch.tensor(next(at)), out.logits.shape[-1]) * 100.0
        return out

    monkeypatch.setattr(type(gem.model), "forward", forward)


def test_the_first_answer_is_that_of_interpret(tiny_gem, records):
    talk = tiny_gem.chat(records[0])
    first = talk.ask("Rate?", max_new_tokens=6)
    alone = tiny_gem.interpret(records[0], "Rate?", max_new_tokens=6)
    assert (first.text, first.question) == (alone.text, "Rate?")
    assert first.claims.to_dict() == alone.claims.to_dict()
    assert talk.turns == [first]


def test_later_answers_equal_fresh_runs_over_the_whole_conversation(tiny_gem, records):
    talk = tiny_gem.chat(records[0])
    lengths = []
    inner = type(tiny_gem.model.model.language_model).forward

    @functools.wraps(inner)
    def count(self, *args, **kwargs):
        lengths.append(kwargs["inputs_embeds"].shape[1])
        return inner(self, *args, **kwargs)

    turns = [("Rate?", None), ("And the axis?", None), ("Compare with this one.", records[1]), ("So?", None)]
    conversation, shown = [], [records[0]]
    for turn, (question, other) in enumerate(turns):
        shown += [other] if other is not None else []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(tiny_gem.model.model.language_model), "forward", count)
            lengths.clear()
            answer = talk.ask(question, other, max_new_tokens=6)
        marker = "<image>\n" if turn == 0 or other is not None else ""
        conversation = [*conversation, {"from": "human", "value": marker + question}]
        images = [tiny_gem.renderer(record).image for record in shown]
        example = {"conversation": conversation, "record": shown, "image": images}
        assert answer.text == generate_texts(tiny_gem.model, tiny_gem.processor, [example], max_new_tokens=6)[0]
        if turn in (1, 3):  # no new ECG: only the new words are read
            assert lengths[0] < 16 < len(talk._cached)
        conversation = [*conversation, {"from": "gpt", "value": answer.text}]
    assert talk.turns[1].record is records[0]
    assert talk.turns[2].record is records[1]


def test_beams_and_sampling_in_a_conversation(tiny_gem, records):
    for settings in ({"num_beams": 2}, {"do_sample": True, "seed": 3}):
        talks = [tiny_gem.chat(records[0]) for _ in range(2)]
        texts = [[t.ask(q, max_new_tokens=5, **settings).text for q in ("Rate?", "Axis?")] for t in talks]
        assert texts[0] == texts[1]


def test_a_stream_is_the_answer_in_pieces(tiny_gem, records):
    talk = tiny_gem.chat(records[0])
    pieces = list(talk.stream("Rate?", max_new_tokens=8))
    assert all(isinstance(piece, Piece) for piece in pieces)
    text = "".join(piece.text for piece in pieces)
    assert text.strip() == talk.turns[0].text == tiny_gem.interpret(records[0], "Rate?", max_new_tokens=8).text
    again = talk.ask("And now?", max_new_tokens=4).text
    whole = tiny_gem.chat(records[0])
    whole.ask("Rate?", max_new_tokens=8)
    assert whole.ask("And now?", max_new_tokens=4).text == again


def test_verdicts_come_when_their_sentence_has_ended(tiny_gem, records, monkeypatch):
    towards(tiny_gem, "The rate is 20 bpm. Sinus rhythm. The axis is normal", monkeypatch)
    pieces = list(tiny_gem.stream(records[0], max_new_tokens=200))
    text = "".join(piece.text for piece in pieces)
    assert text == "The rate is 20 bpm. Sinus rhythm. The axis is normal"
    seen, given = "", []
    for piece in pieces:
        seen += piece.text
        for verdict in piece.verdicts:
            assert len(seen) >= verdict.claim.span[1]
            given.append((verdict.claim.kind, verdict.claim.finding, verdict.verdict, seen))
    assert [g[:3] for g in given] == [
        ("heart_rate", None, "contradicted"),
        ("finding", "sinus_rhythm", "supported"),
        ("finding", "normal_axis", "supported"),
    ]
    assert "Sinus rhythm" not in given[0][3]
    assert "axis is normal" not in given[1][3]


def test_closing_a_stream_stops_the_model_and_leaves_the_conversation(tiny_gem, records):
    talk = tiny_gem.chat(records[0])
    threads = threading.active_count()
    stream = talk.stream("Rate?", record=records[1], max_new_tokens=200, min_new_tokens=200)
    next(stream)
    stream.close()
    assert threading.active_count() == threads
    assert talk.turns == []
    assert talk.ask("Rate?", max_new_tokens=6).text == tiny_gem.interpret(records[0], "Rate?", max_new_tokens=6).text


def test_mistakes_reach_the_caller(tiny_gem, records):
    with pytest.raises(EcgReadError, match="does not exist"):
        tiny_gem.chat("nowhere.hea")
    talk = tiny_gem.chat(records[0])
    limit = tiny_gem.model.config.get_text_config().max_position_embeddings
    for call in (lambda q: talk.ask(q), lambda q: list(talk.stream(q))):
        with pytest.raises(DataError, match=rf"fewer than {limit} tokens"):
            call("rate " * 2 * limit)
    with pytest.raises(DataError, match="one text per record"):
        talk.ask("Rate?", num_beams=2, num_return_sequences=2)
    assert talk.turns == []


def test_options_are_scored(tiny_gem, records):
    found = tiny_gem.score_options(records[0], "Rate?", ("normal", "low"))
    assert list(found) == ["normal", "low"]
    assert all(0 < value < 1 for value in found.values())
    assert found != tiny_gem.score_options(records[1], "Rate?", ("normal", "low"))


def test_several_threads_use_one_model(tiny_gem, records):
    expected = [tiny_gem.interpret(record, max_new_tokens=6).text for record in records]
    found: dict[int, str] = {}

    def work(i: int) -> None:
        found[i] = tiny_gem.interpret(records[i % 2], max_new_tokens=6).text

    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[i] for i in range(6)] == expected * 3
