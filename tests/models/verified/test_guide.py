"""Numbers held to the measurement, with every kind of tokenizer."""

import pytest
import torch
from transformers import LogitsProcessorList

from gem_lightning.claims.extract import extract
from gem_lightning.composition.facts import Facts
from gem_lightning.ecg import simulate
from gem_lightning.features import measure
from gem_lightning.models.verified.guide import GuidedNumbers, Quantities
from gem_lightning.models.verified.number_tokens import NumberTokens, admits

RNG = torch.Generator().manual_seed(0)


@pytest.fixture(scope="module")
def facts():
    return Facts.of(measure(simulate("sinus", seed=2).record), None)


def tokenizers(golden):
    """SentencePiece with single digits, byte-level BPE that splits digits, and BPE with numbers of up to 3 digits."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    from gem_lightning.models import tiny_tokenizer

    many = Tokenizer(models.BPE())
    many.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    many.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=2500, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    words = ["ms.", "bpm.", "QRS", "PR", "rate", "axis", "interval", "is", "of", "mV", "in", "V1", "V2", "°", "−", "-"]
    many.train_from_iterator([f"{w} {n} {n}" for n in range(0, 620) for w in words] * 2, trainer)
    return {
        "sentencepiece": AutoTokenizer.from_pretrained(golden / "preprocess" / "tokenizers" / "llama_legacy_false"),
        "digits": tiny_tokenizer(),
        "whole numbers": PreTrainedTokenizerFast(tokenizer_object=many),
    }


@pytest.mark.parametrize("name", ["sentencepiece", "digits", "whole numbers"])
@pytest.mark.parametrize(
    ("begin", "kind"),
    [("The QRS duration is", "qrs"), ("Sinus rhythm. PR", "pr"), ("The heart rate is", "heart_rate"),
     ("QRS axis", "axis_qrs"), ("The QT interval is", "qt"), ("The T wave amplitude in V5 is", "t_amplitude")],
)  # fmt: skip
def test_whatever_the_model_wants_the_number_is_near_the_measurement(golden, facts, name, begin, kind):
    """Random logits over digits only: the guide alone decides."""
    tokenizer = tokenizers(golden)[name]
    prompt = tokenizer("Q:", add_special_tokens=False)["input_ids"]
    guide = GuidedNumbers(tokenizer, facts, len(prompt))
    unit = {"heart_rate": " bpm.", "axis_qrs": "°.", "t_amplitude": " mV."}.get(kind, " ms.")
    digits = [i for i, t in guide.tokens.literal.items() if t == "." or t.isdigit()]
    for _ in range(4):
        guide._targets = frozenset()
        ids = [*prompt, *tokenizer(f"{begin} ", add_special_tokens=False)["input_ids"]]
        while True:
            scores = torch.full((1, len(tokenizer)), -30.0)
            scores[0, digits] = torch.rand(len(digits), generator=RNG)
            if not guide._targets and len(ids) > len(prompt) + 1:  # a number begins with a digit
                scores[0, [i for i in digits if not tokenizer.decode(i).strip()[:1].isdigit()]] = -30.0
            held = guide(torch.tensor([ids]), scores)
            token = int(held.argmax())
            stopped = tokenizer.decode(ids).endswith(".")
            if held[0, token] < -20 or (stopped and guide.tokens.literal[token][0] == "."):  # the number is finished
                break
            ids.append(token)
            assert len(ids) < len(prompt) + 40
        text = tokenizer.decode(ids[len(prompt) :]).rstrip(".")
        fraction = unit == " ms." and "." in text[len(begin) :]  # in seconds, where the model began so
        (claim,) = [c for c in extract(text + (" s." if fraction else unit)) if c.kind == kind]
        want = facts.number(kind) if kind != "t_amplitude" else facts.features.leads["V5"].t_mv
        reach = {"heart_rate": 2, "axis_qrs": 5.5, "t_amplitude": 0.026}.get(kind, 18)
        assert abs(claim.value - want) <= reach, text


def test_a_number_in_another_place_is_left_to_the_model(facts):
    quantities = Quantities(facts)
    for text in ("Suspected ST elevation in", "Beat", "The ECG was recorded at", "No ST elevation in any of the"):
        assert not quantities.targets(text), text
    absent = Quantities(Facts.of(measure(simulate("atrial_fibrillation", seed=2).record), None))
    assert not absent.targets("The PR interval is")  # no measurement to hold it to
    assert absent.targets("The QRS duration is")
    assert quantities.targets("Sinus rhythm at") == quantities.targets("The heart rate is")


def test_half_the_tolerance_and_both_signs(facts):
    targets = Quantities(facts).targets("The QRS duration is")
    numbers = sorted(int(t) for t in targets if "." not in t)
    assert abs(numbers[0] - facts.number("qrs")) <= 8.6 >= abs(numbers[-1] - facts.number("qrs"))
    left = Quantities(Facts.of(measure(simulate("lafb", seed=2).record), None)).targets("QRS axis")
    assert left
    assert {t[0] for t in left} == {"−", "-"}


@pytest.mark.parametrize(
    ("written", "more", "allowed"),
    [("", "9", True), ("", "8", False), ("9", "6", True), ("96", "0", False), ("96", ".", True), ("96", ".5", False),
     ("96", " ms", True), ("9", " ms", False), ("96.", "5", False), ("0.", "1", False), ("10", "1", True)],
)  # fmt: skip
def test_admitted_continuations(written, more, allowed):
    assert admits(written, more, frozenset({"96", "97", "101"})) is allowed


def test_literals_are_what_a_token_adds(golden):
    for name, tokenizer in tokenizers(golden).items():
        tokens = NumberTokens(tokenizer)
        digits = {literal.strip() for literal in tokens.literal.values()}
        assert set("0123456789") <= digits, name
        assert any(len(d) == 3 and d.isdigit() for d in digits) == (name == "whole numbers")


def test_the_processor_goes_with_generate(scripted, facts):
    """A script that writes another number is overruled at the number, and nowhere else."""
    record = simulate("lbbb", seed=2).record
    net, processor, item, settings = scripted(record, ["The QRS duration is 290 ms."])
    from gem_lightning.features import findings
    from gem_lightning.models.verified.verified import verified_answer
    from gem_lightning.revision.options import VerifyOptions

    features = measure(record)
    script = settings["logits_processor"][0]

    class Soft(type(script)):
        def __call__(self, input_ids, scores):
            forced = super().__call__(input_ids, scores)
            return torch.where(forced == 0, 0.0, -50.0) + 0 * scores

    script.__class__ = Soft
    more = {"logits_processor": LogitsProcessorList([script])}
    done = verified_answer(net, processor, item, features, findings(features), VerifyOptions("guide"), 20, **more)
    (claim, *_) = [c for c in extract(done.draft) if c.kind == "qrs"]
    assert abs(claim.value - features.qrs_ms) <= 9
    assert done.edits[0].action == "restate", "the script stops behind a number that it did not write"
    assert done.edits[0].source == "measurement"
    assert done.kept_share < 1
