"""The network itself: losses, families, missing modalities, batched generation, Auto classes."""

import subprocess
import sys

import pytest
import torch

from gem_lightning.errors import CheckpointError, DataError
from gem_lightning.models import GemConfig, build_gem, build_processor
from gem_lightning.models.loss import next_token_loss

FAMILIES = {  # changes to conftest.LLM
    "llama": {"num_key_value_heads": 1},
    "qwen2": {"tie_word_embeddings": True, "num_key_value_heads": 2},
    "qwen3": {"head_dim": 16, "num_key_value_heads": 1},
    "mistral": {"sliding_window": None, "num_key_value_heads": 2},
}


def test_loss_in_chunks_equals_the_plain_loss_and_its_gradients():
    torch.manual_seed(0)
    hidden = torch.randn(2, 9, 8, requires_grad=True)
    head = torch.nn.Linear(8, 4096, bias=False)
    labels = torch.randint(0, 4096, (2, 9))
    labels[0, :4] = labels[1, 6:] = -100
    plain = torch.nn.functional.cross_entropy(head(hidden)[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
    wanted = torch.autograd.grad(plain, (hidden, head.weight))
    found = next_token_loss(hidden, labels, head, 2**18, chunk_mib=3)  # three rows a chunk
    assert torch.allclose(found, plain, atol=1e-6)
    for one, other in zip(torch.autograd.grad(found, (hidden, head.weight)), wanted):
        assert torch.allclose(one, other, atol=1e-6)
    nothing = next_token_loss(hidden, torch.full_like(labels, -100), head, 4096)
    nothing.backward()
    assert float(nothing.detach()) == 0


def batch_of(processor, signal, picture, **data):
    talk = [{"from": "human", "value": "<image>\nRate?"}, {"from": "gpt", "value": "72 bpm."}]
    given = {"both": ([signal], [picture]), "ecg": ([signal], []), "image": ([], [picture]), "text": ([], [])}
    return processor.pad([processor.encode(talk, *given[name]) for name in data["mix"]])


@pytest.mark.parametrize("family", FAMILIES)
def test_language_model_families(family, parts, tokenizer, signal, picture, tmp_path):
    parts["llm"] |= {"model_type": family} | FAMILIES[family]
    torch.manual_seed(0)
    model, processor = build_gem(**parts).eval(), build_processor(tokenizer, parts)
    tied = model.lm_head.weight is model.get_input_embeddings().weight
    assert tied == bool(FAMILIES[family].get("tie_word_embeddings"))
    batch = batch_of(processor, signal, picture, mix=["both", "text"])
    wanted = model(**batch)
    assert torch.isfinite(wanted.loss)
    model.save_pretrained(tmp_path)
    from gem_lightning.models import GemForConditionalGeneration

    again = GemForConditionalGeneration.from_pretrained(tmp_path)
    assert torch.equal(again(**batch).logits, wanted.logits)


def test_siglip_has_no_class_token(parts, tokenizer, signal, picture):
    parts["vision"] |= {"model_type": "siglip_vision_model"}
    model, processor = build_gem(**parts, vision_feature_select="full"), build_processor(tokenizer, parts)
    batch = batch_of(processor, signal, picture, mix=["both"])
    assert int((batch["input_ids"] == processor.image_token_id).sum()) == 16
    model(**batch).loss.backward()
    assert processor.image.image_mean == [0.5, 0.5, 0.5]


def test_training_leaves_the_logits_out(tiny, signal, picture):
    model, processor = tiny
    batch = batch_of(processor, signal, picture, mix=["both"])
    evaluated = model(**batch)
    trained = model.train()(**batch)
    assert trained.logits is None
    assert torch.allclose(trained.loss, evaluated.loss, atol=1e-6)
    assert torch.allclose(model(**batch, return_logits=True).logits, evaluated.logits, atol=1e-5)


def test_a_modality_that_is_missing_costs_and_changes_nothing(tiny, signal, picture):
    """A sample's logits do not depend on its neighbours' modalities, and unused towers get no gradient."""
    model, processor = tiny
    mix = ["both", "ecg", "image", "text"]
    together = model(**batch_of(processor, signal, picture, mix=mix)).logits
    for row, name in enumerate(mix):
        alone = model(**batch_of(processor, signal, picture, mix=[name])).logits
        assert torch.allclose(together[row, : alone.shape[1]], alone[0], atol=1e-5), name
    model.train()(**batch_of(processor, signal, picture, mix=["ecg"])).loss.backward()
    assert all(p.grad is None for p in model.model.vision_tower.parameters())
    assert model.model.ecg_tower.conv1.weight.grad.abs().sum() > 0


def test_frozen_towers_hold_no_graph(tiny, signal):
    model, _ = tiny
    model.model.ecg_tower.requires_grad_(False)
    features = model.model.get_ecg_features(torch.from_numpy(signal)[None])
    assert features.requires_grad  # through the projectors
    values = torch.from_numpy(signal)[None].requires_grad_()
    model.model.get_ecg_features(values).sum().backward()
    assert values.grad.abs().sum() > 0  # a wanted input gradient still flows


def test_counts_that_do_not_match_are_refused(tiny, signal, picture):
    model, processor = tiny
    batch = batch_of(processor, signal, picture, mix=["both"])
    with pytest.raises(DataError, match="0 features and 11 placeholders"):
        model(**{k: v for k, v in batch.items() if k != "ecg_values"})
    with pytest.raises(DataError, match="32 features and 16 placeholders"):
        model(**{**batch, "pixel_values": batch["pixel_values"].repeat(2, 1, 1, 1), "image_sizes": None})


@pytest.mark.parametrize("leave_out", ["ecg", "vision"])
def test_models_of_one_tower(leave_out, parts, tokenizer, signal, picture):
    parts[leave_out] = "none"
    model, processor = build_gem(**parts), build_processor(tokenizer, parts)
    have = "image" if leave_out == "ecg" else "ecg"
    assert torch.isfinite(model(**batch_of(processor, signal, picture, mix=[have])).loss)
    with pytest.raises(DataError, match=r"no (ECG|image) tower"):
        model(**batch_of(processor, signal, picture, mix=["ecg" if leave_out == "ecg" else "image"]))


def test_batched_answers_are_the_answers_alone(tiny, signal, picture):
    from gem_lightning.models import generate_texts

    model, processor = tiny
    examples = [
        {"question": "Rate?", "record": signal, "image": picture},
        {"question": "Is the rhythm regular, and what are the intervals?", "record": signal * 2},
        {"question": "Axis?", "image": picture},
        {"question": "What is the PR interval?"},
    ]
    together = generate_texts(model, processor, examples, max_new_tokens=12)
    alone = [generate_texts(model, processor, [example], max_new_tokens=12)[0] for example in examples]
    assert together == alone
    assert len(set(together)) == 4
    penalised = generate_texts(model, processor, examples[:1], max_new_tokens=6, repetition_penalty=1.3)
    assert penalised[0]


def test_compiled_decoder_runs(tiny, signal, picture):
    model, processor = tiny
    batch = batch_of(processor, signal, picture, mix=["both"])
    wanted = model(**batch).logits
    model.model.language_model = torch.compile(model.model.language_model, backend="eager")
    assert torch.allclose(model(**batch).logits, wanted, atol=1e-5)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision(dtype, parts, tokenizer, signal, picture):
    model, processor = build_gem(**parts, dtype=dtype).eval(), build_processor(tokenizer, parts)
    outputs = model(**batch_of(processor, signal, picture, mix=["both", "ecg"]))
    assert outputs.logits.dtype == getattr(torch, dtype)
    assert outputs.loss.dtype == torch.float32
    assert torch.isfinite(outputs.loss)


def test_config_of_a_newer_format_is_refused(parts):
    with pytest.raises(CheckpointError, match="newer gem-lightning"):
        GemConfig(text_config=parts["llm"], format_version=99)


def test_auto_classes_after_import(tiny, tmp_path):
    """In a fresh process, and without lightning, hydra or omegaconf."""
    model, processor = tiny
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    assert {"config.json", "model.safetensors", "generation_config.json", "processor_config.json", "README.md"} <= {
        path.name for path in tmp_path.iterdir()
    }
    code = (
        "import sys\n"
        "for name in ('lightning', 'hydra', 'omegaconf'): sys.modules[name] = None\n"
        "import gem_lightning\n"
        "assert 'transformers' not in sys.modules\n"
        "assert not [finder for finder in sys.meta_path if 'gem_lightning' in type(finder).__module__]\n"
        "import gem_lightning.models\n"
        "from transformers import AutoModelForImageTextToText, AutoProcessor\n"
        f"model = AutoModelForImageTextToText.from_pretrained({str(tmp_path)!r})\n"
        f"processor = AutoProcessor.from_pretrained({str(tmp_path)!r})\n"
        "assert type(model).__name__ == 'GemForConditionalGeneration', type(model)\n"
        "assert type(processor).__name__ == 'GemProcessor', type(processor)\n"
        "from gem_lightning import Gem\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
