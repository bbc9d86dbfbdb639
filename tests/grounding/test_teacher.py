"""The local teacher with a tiny random chat model: batches answer as single questions do."""

import asyncio

import pytest

from gem_lightning.errors import DataError
from gem_lightning.grounding.teacher import Compose, LocalTeacher, OpenAITeacher, Written

TEMPLATE = (
    "{% for m in messages %}{{ m['role'] }} {{ m['content'] }} {% endfor %}"
    "{% if add_generation_prompt %}gpt {% endif %}"
)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("chat")
    words = ["<unk>", "<eos>", "user", "gpt", *(f"w{i}" for i in range(60))]
    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>", eos_token="<eos>")
    tokenizer.save_pretrained(folder / "plain")
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    LlamaForCausalLM(LlamaConfig(vocab_size=len(words), eos_token_id=1, pad_token_id=1, **sizes)).save_pretrained(
        folder
    )
    return folder


def chat(i):
    return [{"role": "user", "content": " ".join(f"w{(i * 7 + k) % 60}" for k in range(3 + i))}]


def test_batches_answer_as_single_questions_do(model):
    teacher = LocalTeacher(str(model), batch_size=4, max_new_tokens=6, device="cpu", dtype="float32")
    sizes, answer = [], teacher.answer
    teacher.answer = lambda chats: (sizes.append(len(chats)), answer(chats))[1]

    async def ask_all():
        return await asyncio.gather(*(teacher.write(chat(i), None, (), f"s{i}#0") for i in range(6)))

    together = asyncio.run(ask_all())
    assert sizes == [4, 2]
    assert [w.text for w in together] == [answer([chat(i)])[0] for i in range(6)]
    assert len({w.text for w in together}) > 1


def test_a_model_without_chat_template_is_explained(model):
    teacher = LocalTeacher(str(model / "plain"), device="cpu")
    with pytest.raises(DataError, match="chat template"):
        teacher.answer([chat(0)])


def test_facts_hold_no_key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    teacher = OpenAITeacher("m", base_url="http://127.0.0.1:1/v1", retries=0)
    assert "sk-secret" not in str(teacher.facts())
    answer = asyncio.run(teacher.write([{"role": "user", "content": "x"}], None, (), "a#0"))
    assert isinstance(answer, Written)
    assert answer.error
    assert "sk-secret" not in answer.error
    assert Compose().offline
