"""What users of transformers do with a model: every way of decoding gives the text of the plain one."""

import stat
from importlib.metadata import distributions

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, TextIteratorStreamer, pipeline

from gem_lightning.ecg import simulate
from gem_lightning.errors import DataError
from gem_lightning.models import GemForConditionalGeneration
from gem_lightning.models.fusion import keep_tower_outputs
from gem_lightning.models.inference.generation import encode_example, generate_texts, option_likelihoods, shared_text

TOKENS = 12


@pytest.fixture(scope="module")
def records():
    return [simulate(code, seed=i).record for i, code in enumerate(("sinus", "lbbb"))]


@pytest.fixture
def varied(tiny):
    """A network whose greedy text is no repetition: logits far from equal."""
    net, processor = tiny
    with torch.no_grad():
        for parameter in (net.lm_head.weight, net.model.language_model.embed_tokens.weight):
            parameter.mul_(20)
        for name, parameter in net.named_parameters():
            if "projector" in name:
                parameter.mul_(5)
    return net, processor


@pytest.fixture
def prompt(varied, records, picture):
    return varied[1](text="<image>\nWhat is the rate, and what is the rate?", ecgs=[records[0]], images=[picture])


def generate(net, inputs, **settings):
    tokens = settings.get("max_new_tokens", TOKENS)
    settings = {"max_new_tokens": tokens, "min_new_tokens": tokens, "do_sample": False, "pad_token_id": 0} | settings
    with torch.inference_mode():
        return net.generate(**inputs, **settings)


@pytest.fixture
def plain(varied, prompt):
    """Ids of the greedy answer."""
    answer = generate(varied[0], prompt)[0, prompt["input_ids"].shape[1] :]
    assert len(set(answer.tolist())) > TOKENS // 2
    return answer


def test_fused_embeddings_instead_of_ids(varied, prompt, plain):
    net, _ = varied
    with torch.inference_mode():
        fused = net.embed_inputs(prompt["input_ids"], *(prompt[k] for k in ("ecg_values", "pixel_values")))
    out = generate(net, {"inputs_embeds": fused, "attention_mask": prompt["attention_mask"]})
    assert torch.equal(out[0], plain)
    bare = LlamaForCausalLM(net.config.text_config).eval()  # what an engine that takes embeddings holds
    bare.model.load_state_dict(net.model.language_model.state_dict())
    bare.lm_head.load_state_dict(net.lm_head.state_dict())
    out = generate(bare, {"inputs_embeds": fused.clone(), "attention_mask": prompt["attention_mask"]})
    assert torch.equal(out[0], plain)


def other_llama(seed):
    torch.manual_seed(seed)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=1500, pad_token_id=0, **sizes)).eval()


@pytest.mark.parametrize("how", ["lookup", "itself", "language model", "no cache", "static", "streamer"])
def test_every_way_of_decoding_gives_the_same_ids(varied, prompt, plain, how):
    net, processor = varied
    settings = {
        "lookup": lambda: {"prompt_lookup_num_tokens": 4},
        "itself": lambda: {"assistant_model": net},
        "language model": lambda: {"assistant_model": other_llama(1)},
        "no cache": lambda: {"use_cache": False},
        "static": lambda: {"cache_implementation": "static"},
        "streamer": lambda: {"streamer": TextIteratorStreamer(processor.tokenizer, skip_prompt=True)},
    }[how]()
    out = generate(net, prompt, **settings)
    assert torch.equal(out[0, prompt["input_ids"].shape[1] :], plain)
    if how == "streamer":
        assert "".join(settings["streamer"]).strip() == processor.tokenizer.decode(plain).strip()


def test_a_quantised_cache_decodes(varied, prompt):
    if not any(distribution.name == "optimum-quanto" for distribution in distributions()):
        pytest.skip("optimum-quanto is not installed")
    out = generate(varied[0], prompt, cache_implementation="quantized", cache_config={"backend": "quanto", "nbits": 4})
    assert out.shape[1] == prompt["input_ids"].shape[1] + TOKENS


def test_a_cache_goes_on_over_turns(varied, records, picture):
    net, processor = varied
    one = {"from": "human", "value": "<image>\nRate?"}
    more = [{"from": "gpt", "value": "60 bpm"}, {"from": "human", "value": "<image>\nAnd now?"}]
    first = processor(conversations=[one], ecgs=[records[0]], images=[picture])
    out = generate(net, first, return_dict_in_generate=True, max_new_tokens=1)
    for second in (  # a question more; a question about another ECG, whose features alone the cache lacks
        processor(
            conversations=[one, more[0], {"from": "human", "value": "Axis?"}], ecgs=records[:1], images=[picture]
        ),
        processor(conversations=[one, *more], ecgs=records, images=[picture, 255 - picture]),
    ):
        fresh = generate(net, second)
        cache = generate(net, first, return_dict_in_generate=True, max_new_tokens=1).past_key_values
        same = int(
            (first["input_ids"][0] == second["input_ids"][0, : first["input_ids"].shape[1]]).long().cumprod(0).sum()
        )
        if same < cache.get_seq_length():
            cache.crop(same - cache.get_seq_length())
        assert same > processor.ecg_tokens
        assert torch.equal(generate(net, second, past_key_values=cache), fresh)
    assert out.past_key_values.get_seq_length() == first["input_ids"].shape[1]


def test_beams_return_their_sequences_and_scores(varied, prompt):
    net, _ = varied
    settings = {"num_beams": 3, "num_return_sequences": 3, "return_dict_in_generate": True, "output_scores": True}
    out = generate(net, prompt, **settings)
    assert out.sequences.shape[0] == 3
    assert torch.equal(out.sequences_scores, out.sequences_scores.sort(descending=True).values)
    best = generate(net, prompt, num_beams=3)
    assert torch.equal(best[0], out.sequences[0][: best.shape[1]])


def test_generation_in_bf16_reads_signals_and_images(varied, prompt):
    net, _ = varied
    out = generate(net.to(torch.bfloat16), prompt)
    assert out.shape[1] == prompt["input_ids"].shape[1] + TOKENS


def test_the_pipeline_takes_texts_and_messages(varied, picture, records):
    from PIL import Image

    net, processor = varied
    image = Image.fromarray(picture)
    run = pipeline("image-text-to-text", model=net, processor=processor)
    (alone,) = run(images=image, text="Rate?", max_new_tokens=TOKENS, return_full_text=False)
    content = [{"type": "image", "image": image}, {"type": "text", "text": "Rate?"}]
    (talk,) = run(text=[{"role": "user", "content": content}], max_new_tokens=TOKENS)
    assert talk["generated_text"][-1] == {"role": "assistant", "content": alone["generated_text"]}
    ecg = processor.apply_chat_template(
        [{"role": "user", "content": [{"type": "ecg", "ecg": records[0]}, {"type": "text", "text": "Rate?"}]}]
    )
    assert ecg["ecg_values"].shape[0] == 1
    assert torch.equal(ecg["input_ids"], processor(text="<ecg>\nRate?", ecgs=records[:1])["input_ids"])
    for wrong in ({"tokenize": False}, {"continue_final_message": True}):
        with pytest.raises(DataError, match="tokenize=True"):
            processor.apply_chat_template([{"role": "user", "content": "Rate?"}], **wrong)
    with pytest.raises(DataError, match='"image"'):
        processor.apply_chat_template([{"role": "user", "content": [{"type": "image"}]}])


def test_one_image_needs_no_list(varied, picture, signal):
    _, processor = varied
    alone, listed = (processor(text="Rate?", images=i, ecgs=e) for i, e in ((picture, signal), ([picture], [signal])))
    assert all(torch.equal(alone[name], listed[name]) for name in ("input_ids", "pixel_values", "ecg_values"))
    stacked = processor(text=["Rate?", "Axis?"], ecgs=np.stack([signal, signal]))
    assert stacked["ecg_values"].shape[0] == 2


def whole_answers(net, processor, example, options):
    """Probabilities from one plain run over each complete conversation."""
    found = []
    for option in options:
        turns = [{"from": "human", "value": f"<image>\n{example['question']}"}, {"from": "gpt", "value": option}]
        batch = processor.pad([processor.encode(turns, [example["record"]], [example["image"]])])
        with torch.inference_mode():
            logits = net(**batch, return_logits=True).logits[0, :-1].float().log_softmax(-1)
        labels = batch["labels"][0, 1:]
        wanted = labels != -100
        found.append(float(logits[wanted].gather(1, labels[wanted][:, None]).sum().exp()))
    return found


def test_options_are_scored_with_one_run_of_each_tower(varied, records, picture, monkeypatch):
    net, processor = varied
    example = {"question": "Rate?", "record": records[0], "image": picture}
    options = ["normal", "normal rate", "low", "high or low", "no"]
    expected = whole_answers(net, processor, example, options)
    calls = []
    for name in ("get_ecg_features", "get_image_features"):
        inner = getattr(type(net.model), name)
        monkeypatch.setattr(
            type(net.model), name, lambda self, *a, _inner=inner, _name=name: calls.append(_name) or _inner(self, *a)
        )
    for size in (1, 2, 16):
        found = option_likelihoods(net, processor, example, options, batch_size=size)
        assert list(found) == options
        assert np.allclose(list(found.values()), expected, rtol=1e-3)
    calls.clear()
    with keep_tower_outputs():
        generate_texts(net, processor, [example], max_new_tokens=2)
        option_likelihoods(net, processor, example, options)
    assert sorted(calls) == ["get_ecg_features", "get_image_features"]
    assert option_likelihoods(net, processor, example, ["no"])["no"] == pytest.approx(expected[-1], rel=1e-3)
    with pytest.raises(DataError, match="at least one option"):
        option_likelihoods(net, processor, example, [])


def test_many_questions_about_one_record_run_its_tower_once(varied, records, monkeypatch):
    net, processor = varied
    examples = [{"question": q, "record": r} for q in ("Rate?", "Axis?", "PR?") for r in records]
    alone = [generate_texts(net, processor, [example], max_new_tokens=4)[0] for example in examples]
    rows, inner = [], type(net.model).get_ecg_features
    monkeypatch.setattr(type(net.model), "get_ecg_features", lambda self, v: rows.append(len(v)) or inner(self, v))
    assert generate_texts(net, processor, examples, max_new_tokens=4, batch_size=2) == alone
    assert sum(rows) == 2


def test_text_that_all_prompts_begin_with_is_read_once(varied, records, picture):
    net, processor = varied
    media = [{"record": records[0]}, {"record": records[1], "image": picture}, {"image": picture}, {}]
    examples = [
        {
            "conversation": [
                {"from": "human", "value": f"{'Be brief. ' * 5}<image>\n{end}" if more else "Be brief. " * 9}
            ]
        }
        | more
        for end, more in zip(("Rate?", "What is the axis?", "PR?", ""), media, strict=True)
    ]
    alone = [generate_texts(net, processor, [example], max_new_tokens=6)[0] for example in examples]
    read, before = [], net.model.language_model.forward

    def forward(*args, **kwargs):
        read.append(kwargs["inputs_embeds"].shape[:2])
        return before(*args, **kwargs)

    net.model.language_model.forward = forward
    try:
        assert generate_texts(net, processor, examples, max_new_tokens=6) == alone
        seeded = {"do_sample": True, "temperature": 0.7, "seeds": [3, 1, 4, 1]}
        together = generate_texts(net, processor, examples, max_new_tokens=6, **seeded)
    finally:
        net.model.language_model.forward = before
    items = [encode_example(processor, example) for example in examples]
    shared, longest = shared_text(net, items), max(len(item["input_ids"]) for item in items)
    assert shared >= 10
    assert read[:2] == [(1, shared), (4, longest - shared)]
    for at, example in enumerate(examples):
        settings = seeded | {"seeds": seeded["seeds"][at : at + 1]}
        assert generate_texts(net, processor, [example], max_new_tokens=6, **settings) == [together[at]]


def test_saved_weights_are_readable_by_whoever_reads_the_folder(varied, tmp_path):
    net, _ = varied
    net.save_pretrained(tmp_path / "model")
    modes = {stat.S_IMODE(file.stat().st_mode) for file in (tmp_path / "model").iterdir()}
    assert len(modes) == 1
    assert isinstance(GemForConditionalGeneration.from_pretrained(tmp_path / "model"), GemForConditionalGeneration)


@pytest.mark.slow
def test_compiled_decoding(varied, prompt, plain):
    net, _ = varied
    net.forward = torch.compile(net.forward, dynamic=True)
    assert torch.equal(generate(net, prompt)[0, prompt["input_ids"].shape[1] :], plain)
