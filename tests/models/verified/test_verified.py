"""Verified generation with real networks: scripted ones that are right or wrong, and random ones for the cache."""

import numpy as np
import pytest
import torch
from transformers import LogitsProcessor, LogitsProcessorList

from gem_lightning.claims.verify import verify
from gem_lightning.composition.compose import compose
from gem_lightning.ecg import simulate
from gem_lightning.errors import DataError
from gem_lightning.features import findings, measure
from gem_lightning.models.inference.generation import generate_encoded
from gem_lightning.models.verified.decoder import SentenceDecoder
from gem_lightning.models.verified.rerank import likelihoods, repetition, score
from gem_lightning.models.verified.verified import verified_answer, verified_answers
from gem_lightning.revision.edit import Edit
from gem_lightning.revision.options import VerifyOptions
from gem_lightning.revision.segments import segments

REVISE = VerifyOptions("revise")


@pytest.fixture(scope="module")
def record():
    return simulate("lbbb", seed=2).record


@pytest.fixture(scope="module")
def measured(record):
    features = measure(record)
    return features, findings(features)


def test_a_model_that_is_always_right_writes_its_greedy_text_at_no_cost(scripted, record, measured):
    text = compose(*measured, seed=3)
    net, processor, item, settings = scripted(record, [s.strip() for s in segments(text)])
    (greedy,) = generate_encoded(net, processor, [item], 400, **settings)
    done = verified_answer(net, processor, item, *measured, REVISE, 400, **settings)
    assert done.text == greedy
    assert {e.action for e in done.edits} <= {"keep", "flag"}
    assert done.kept_share == 1
    written = len(processor.tokenizer(greedy, add_special_tokens=False)["input_ids"])
    assert done.tokens <= written + 2  # the end of text is a token, too


WRONG = ["Atrial fibrillation at 31 bpm.", "PR 320 ms.", "Narrow QRS complexes.", "Right axis deviation.", "No LBBB."]


@pytest.mark.parametrize("on_fail", ["restate", "drop", "flag"])
def test_a_model_that_is_always_wrong_is_fully_caught(scripted, record, measured, on_fail):
    net, processor, item, settings = scripted(record, WRONG)
    options = VerifyOptions("revise", on_fail=on_fail)
    done = verified_answer(net, processor, item, *measured, options, 200, **settings)
    drafts = [e for e in done.edits if e.draft.strip()]
    assert [e.draft.strip() for e in drafts] == WRONG
    assert all(e.reason for e in drafts)
    if on_fail == "flag":
        assert {e.action for e in drafts} == {"flag"}
        assert done.text == " ".join(WRONG)
        return
    assert done.kept_share == 0
    assert done.text
    assert not verify(done.text, measured[0]).count("contradicted")
    assert {e.action for e in drafts} <= ({"restate", "drop"} if on_fail == "restate" else {"drop"})


class EndsAfterForeignWords(LogitsProcessor):
    """A script's network that prefers to end the text where the sentence before is not its own."""

    def __init__(self, script):
        self.script = script

    def __call__(self, input_ids, scores):
        wanted = self.script(input_ids, scores)
        answer = self.script.tokenizer.decode(input_ids[0, self.script.prompt :], skip_special_tokens=True)
        written = [piece.strip() for piece in segments(answer) if piece.strip()]
        if written and written[-1].endswith(".") and written[-1] not in self.script.sentences:
            wanted[:, self.script.tokenizer.eos_token_id] = 1.0
        return wanted.masked_fill(torch.isneginf(scores), -torch.inf)


def test_a_restated_sentence_does_not_end_a_text_that_would_have_gone_on(scripted, record, measured):
    sentences = ["PR 320 ms.", "A twelve-lead ECG.", "QT 700 ms."]
    net, processor, item, settings = scripted(record, sentences)
    settings["logits_processor"] = LogitsProcessorList([EndsAfterForeignWords(settings["logits_processor"][0])])
    done = verified_answer(net, processor, item, *measured, REVISE, 100, **settings)
    assert [e.draft.strip() for e in done.edits] == sentences  # and the last one, restated too, is the end
    assert "A twelve-lead ECG." in done.text


def test_a_sentence_is_resampled_before_it_is_restated(scripted, record, measured):
    """Sampled from a script the second try is as wrong as the first; a right one would be taken."""
    net, processor, item, settings = scripted(record, WRONG[:2])
    options = VerifyOptions("revise", tries=2)
    done = verified_answer(net, processor, item, *measured, options, 200, **settings)
    once = verified_answer(net, processor, item, *measured, REVISE, 200, **settings)
    assert done.text == once.text
    assert done.tokens > 2 * once.tokens


@pytest.fixture
def free(tiny):
    """A random network with varied text that ends sentences often."""
    from transformers import LogitsProcessor, LogitsProcessorList

    net, processor = tiny
    with torch.no_grad():
        for parameter in (net.lm_head.weight, net.model.language_model.embed_tokens.weight):
            parameter.mul_(20)
    stop = processor.tokenizer("bpm.", add_special_tokens=False)["input_ids"][-1]

    class Often(LogitsProcessor):
        def __call__(self, input_ids, scores):
            scores[:, processor.tokenizer.eos_token_id] = -torch.inf
            if input_ids.shape[1] % 7 == 0:
                return torch.full_like(scores, -torch.inf).index_fill(1, torch.tensor([stop]), 0.0)
            return scores

    return net, processor, {"logits_processor": LogitsProcessorList([Often()])}


def encoded(processor, record):
    from gem_lightning.models.inference.generation import encode_example

    return encode_example(processor, {"question": "Interpret this ECG.", "record": record})


def test_sentences_joined_are_the_greedy_text(free, record):
    net, processor, settings = free
    item = encoded(processor, record)
    (greedy,) = generate_encoded(net, processor, [item], 60, **settings)
    decoder = SentenceDecoder(net, processor, item, 60, **settings)
    parts = []
    while (written := decoder.next()) is not None:
        parts.append(written[0])
        decoder.replace(Edit(written[0], written[0]))
    assert "".join(parts).strip() == greedy
    assert len(parts) > 2
    assert decoder.tokens <= 60


def run(net, processor, item, settings, cached):
    decoder = SentenceDecoder(net, processor, item, 80, **settings)
    if not cached:
        decoder._reusable = lambda whole: None
    for turn in range(6):
        written = decoder.next()
        if written is None:
            break
        edit = Edit(written[0], " The rate is 72 bpm.", "restate") if turn % 2 else Edit(written[0], written[0])
        decoder.replace(edit)
    return decoder.ids


def test_the_cache_follows_what_stands_in_a_sentences_place(free, record):
    net, processor, settings = free
    item = encoded(processor, record)
    with_cache, without = (run(net, processor, item, settings, cached) for cached in (True, False))
    assert with_cache == without
    text = processor.tokenizer.decode(with_cache)
    assert text.count("The rate is 72 bpm.") >= 2


def test_samples_of_a_sentence_repeat_by_their_number(free, record):
    net, processor, settings = free
    decoder = SentenceDecoder(net, processor, encoded(processor, record), 60, seed=3, **settings)
    decoder.next()
    first, again, other = decoder.retry(0), decoder.retry(0), decoder.retry(1)
    assert first == again
    assert first != other


def test_beams_are_refused(tiny, record):
    net, processor = tiny
    with pytest.raises(DataError, match="one beam"):
        SentenceDecoder(net, processor, encoded(processor, record), num_beams=2)


def test_rerank_takes_the_true_text(tiny, record, measured, monkeypatch):
    """Of texts of equal likelihood the true one is chosen, whatever its place."""
    from gem_lightning.models.verified import rerank

    net, processor = tiny
    right = compose(*measured, seed=1)
    texts = ["Atrial fibrillation at 31 bpm.", " ".join(["No LBBB."] * 5), right, ""]
    monkeypatch.setattr(rerank, "generate_encoded", lambda m, p, items, *a, **k: [texts.pop(0) for _ in items])
    monkeypatch.setattr(rerank, "likelihoods", lambda m, p, i, t: ([0.5] * len(t), [3] * len(t)))
    done = verified_answer(net, processor, encoded(processor, record), *measured, VerifyOptions("rerank", 4))
    assert done.text == right
    assert done.tokens == 12


def test_the_score_of_a_text_falls_with_lies_repetition_and_faults(measured):
    right = compose(*measured, seed=1)
    assert score(right, *measured) > score(right + " " + right, *measured)
    assert score(right, *measured) > score(right + " PR 16.", *measured)
    assert score(right, *measured) > score("No LBBB. " + right, *measured)
    assert repetition(right) < 0.1 < repetition(" ".join([right] * 2))
    assert score("", *measured) == 0


def test_likelihood_is_that_of_the_tokens(tiny, record):
    net, processor = tiny
    item = encoded(processor, record)
    (p,), (n,) = likelihoods(net, processor, item, ["Rate 72 bpm."])
    ids = processor.tokenizer("Rate 72 bpm.", add_special_tokens=False)["input_ids"]
    batch = processor.pad([{**item, "input_ids": [*item["input_ids"], *ids], "labels": item["labels"] + ids}])
    batch.pop("labels")
    with torch.inference_mode():
        logits = net(**batch).logits[0].log_softmax(-1)
    start = len(item["input_ids"])
    want = np.mean([float(logits[start + k - 1, token]) for k, token in enumerate(ids)])
    assert n == len(ids)
    assert p == pytest.approx(np.exp(want), rel=1e-4)


def test_report_completes_a_batch(tiny, record, measured):
    net, processor = tiny
    items = [encoded(processor, record)] * 2
    done = list(verified_answers(net, processor, items, [measured] * 2, VerifyOptions(complete=True), 12))
    plain = generate_encoded(net, processor, items, 12)
    for revision, text in zip(done, plain, strict=True):
        assert revision.draft == text
        assert revision.text.startswith(text)
        assert [e for e in revision.edits if e.action == "add"]
