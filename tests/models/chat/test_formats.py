"""Token ids and label masks against the original's, and where ours are better on purpose."""

import json

import pytest
from transformers import AutoTokenizer

from gem_lightning.errors import DataError
from gem_lightning.models import tokenize_conversation
from gem_lightning.models.chat.formats import TEMPLATE, chat_formats


@pytest.fixture(scope="module")
def facts(golden):
    return json.loads((golden / "preprocess" / "preprocess.json").read_text())


@pytest.fixture(scope="module")
def tokenizers(golden):
    return {
        folder.name: AutoTokenizer.from_pretrained(folder)
        for folder in (golden / "preprocess" / "tokenizers").iterdir()
    }


def arguments(conversation):
    return {"max_length": conversation["model_max_length"], "has_image": conversation["has_image"]}


@pytest.mark.parametrize(
    "name", ["llava_v1", "vicuna_v1", "v1_mmtag", "llava_llama_2", "mpt", "chatml_direct", "qwen_2", "plain", "v0"]
)
def test_legacy_masks_equal_the_original(name, facts, tokenizers):
    seen = 0
    for tokenizer, results in facts["templates"][name]["results"].items():
        for title, wanted in results.items():
            conversation = facts["conversations"][title]
            given = (conversation["conversations"], tokenizers[tokenizer], name, True)
            if "error" in wanted:
                with pytest.raises(DataError):
                    tokenize_conversation(*given, **arguments(conversation))
                continue
            found = tokenize_conversation(*given, **arguments(conversation))
            assert found["input_ids"] == wanted["input_ids"], (tokenizer, title)
            assert found["labels"] == wanted["labels"], (tokenizer, title)
            seen += 1
    assert seen >= 5


def test_default_masks_differ_only_where_the_original_is_wrong(facts, tokenizers):
    """llava_v1: the same labels, except where the original's count broke and every label was lost."""
    for tokenizer, results in facts["templates"]["llava_v1"]["results"].items():
        for title, wanted in results.items():
            conversation = facts["conversations"][title]
            found = tokenize_conversation(
                conversation["conversations"], tokenizers[tokenizer], **arguments(conversation)
            )
            assert found["input_ids"] == wanted["input_ids"]
            if not wanted["warning"]:
                assert found["labels"] == wanted["labels"], title
    lost = [t for t, w in facts["templates"]["llava_v1"]["results"]["llama_legacy_false"].items() if w["warning"]]
    assert lost == ["empty_answer", "empty_question", "special_strings_in_text"]


def test_an_answer_that_holds_separators_is_learnt_whole(facts, tokenizers):
    conversation = facts["conversations"]["special_strings_in_text"]["conversations"]
    tokenizer = tokenizers["llama_legacy_false"]
    found = tokenize_conversation(conversation, tokenizer)
    learnt = [i for i in found["labels"] if i != -100]
    assert tokenizer.decode(learnt) == "It says ASSISTANT: and </s> inside.</s>"


def test_an_empty_answer_costs_only_itself(tokenizers):
    conversation = [
        {"from": "human", "value": "Rate?"},
        {"from": "gpt", "value": ""},
        {"from": "human", "value": "Rhythm?"},
        {"from": "gpt", "value": "Sinus rhythm."},
    ]
    tokenizer = tokenizers["llama_legacy_false"]
    learnt = [i for i in tokenize_conversation(conversation, tokenizer)["labels"] if i != -100]
    assert tokenizer.decode(learnt) == "Sinus rhythm.</s>"


@pytest.mark.parametrize(("name", "tokenizer"), [("mpt", "mpt"), ("qwen_2", "qwen"), ("v0", "llama_legacy_false")])
def test_default_labels_are_the_answer_and_its_end(name, tokenizer, facts, tokenizers):
    conversation = facts["conversations"]["multi_turn_image_first"]["conversations"]
    found = tokenize_conversation(conversation, tokenizers[tokenizer], name)
    text = tokenizers[tokenizer].decode([i for i in found["labels"] if i != -100])
    for answer in ("Left bundle branch block.", "142 ms.", "Yes."):
        assert answer in text
    assert not any(word in text for word in ("Assistant", "assistant", "USER", "QRS", "user"))


def test_inference_prompts(facts, tokenizers):
    for name, prompts in facts["inference_prompts"].items():
        if name == "v1_mmtag":  # the original forgets its own <Image> tags here; ours asks as it trained
            continue
        for question, wanted in prompts.items():
            found = tokenize_conversation(
                [{"from": "human", "value": question}], tokenizers[wanted["tokenizer"]], name, generate=True
            )
            assert found["input_ids"] == wanted["input_ids"], (name, question)


def test_what_is_asked_is_what_is_learnt(tokenizers):
    """The prompt for an answer is the training prompt up to the first learnt token, in every format."""
    question, answer = {"from": "human", "value": "<image>\nRate?"}, {"from": "gpt", "value": "72 bpm."}
    kinds = {"mpt": "mpt", "chatml_direct": "llama_chatml_legacy_false", "qwen_2": "qwen"}
    for name in chat_formats():
        if name == "plain":  # training drops the question
            continue
        tokenizer = tokenizers[kinds.get(name, "llama_legacy_false")]
        asked = tokenize_conversation([question], tokenizer, name, generate=True)["input_ids"]
        trained = tokenize_conversation([question, answer], tokenizer, name)
        first = next(i for i, label in enumerate(trained["labels"]) if label != -100)
        assert trained["input_ids"][:first] == asked, name


def test_a_tokenizer_s_own_template(tokenizers):
    tokenizer = tokenizers["qwen"]
    conversation = [
        {"from": "human", "value": "<image>\nRate?"},
        {"from": "gpt", "value": "72 bpm."},
        {"from": "human", "value": "Rhythm?"},
        {"from": "gpt", "value": "Sinus."},
    ]
    found = tokenize_conversation(conversation, tokenizer, TEMPLATE)
    messages = [{"role": "user" if m["from"] == "human" else "assistant", "content": m["value"]} for m in conversation]
    text = tokenizer.apply_chat_template(messages, tokenize=False)
    assert tokenizer.decode([i for i in found["input_ids"] if i != -200]) == text.replace("<image>", "")
    assert tokenizer.decode([i for i in found["labels"] if i != -100]) == "72 bpm.<|im_end|>Sinus.<|im_end|>"


def test_bad_conversations_are_named(tokenizers):
    tokenizer = tokenizers["llama_legacy_false"]
    with pytest.raises(DataError, match="robot"):
        tokenize_conversation([{"from": "robot", "value": "beep"}], tokenizer)
    with pytest.raises(DataError, match="chat format"):
        tokenize_conversation([{"from": "human", "value": "?"}], tokenizer, "nonsense")
    with pytest.raises(DataError, match="template"):
        tokenize_conversation([{"from": "human", "value": "?"}], tokenizer, TEMPLATE)
