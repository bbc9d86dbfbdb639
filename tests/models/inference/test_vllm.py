"""The export for vLLM: embeddings of the front, read by the plain language model, give the tokens of the whole."""

import os
import subprocess
import sys
import types

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from gem_lightning.ecg import simulate
from gem_lightning.errors import CheckpointError, GemError
from gem_lightning.models import Gem
from gem_lightning.models.inference.generation import encode_example, generate_encoded
from gem_lightning.models.inference.vllm import VllmWriter, export_vllm, marks, prompt_embeddings, vllm_request


@pytest.fixture(scope="module", params=["random", "golden"])
def gem(request, tiny_gem):
    if request.param == "random":
        return tiny_gem
    model, processor = request.getfixturevalue("loaded")
    return Gem(model, processor)


@pytest.fixture(scope="module")
def folder(gem, tmp_path_factory):
    return export_vllm(gem, tmp_path_factory.mktemp("export") / "model")


def encoded(gem, questions=("Rate?", "What is the rhythm of this ECG?")):
    records = [simulate(code, seed=i).record for i, code in enumerate(("sinus", "lbbb"))]
    image = [gem.renderer(record).image for record in records]
    return [
        encode_example(gem.processor, {"question": question, "record": record, "image": page})
        for question, record, page in zip(questions, records, image, strict=True)
    ]


def test_the_plain_language_model_writes_the_same_tokens(gem, folder):
    plain = AutoModelForCausalLM.from_pretrained(folder / "llm").eval()
    front = Gem.from_pretrained(folder / "front")
    for item in encoded(gem):
        embeddings = prompt_embeddings(front, item)[None]
        with torch.inference_mode():
            batch = gem.processor.pad([item])
            whole = gem.model.embed_inputs(batch["input_ids"], batch["ecg_values"], batch.get("pixel_values"))
            assert torch.equal(embeddings, whole.to(embeddings.dtype))
            del batch["labels"]
            settings = {"max_new_tokens": 12, "min_new_tokens": 12, "do_sample": False, "pad_token_id": 0}
            expected = gem.model.generate(**batch, **settings)[0, len(item["input_ids"]) :]
            found = plain.generate(inputs_embeds=embeddings.clone(), **settings)[0]
        assert torch.equal(found, expected)


def test_the_front_has_no_layers_and_no_head_of_its_own(gem, folder):
    from safetensors import safe_open

    with safe_open(folder / "front" / "model.safetensors", "pt") as file:
        names = set(file.keys())
    assert not any(".layers." in name and "language_model" in name for name in names)
    assert "lm_head.weight" not in names
    assert len(AutoTokenizer.from_pretrained(folder / "llm")) == len(gem.processor.tokenizer)


class StandIn:
    """vLLM's documented interface over transformers' plain model: requests in, outputs with texts out."""

    class SamplingParams(types.SimpleNamespace):
        pass

    class LLM:
        def __init__(self, model, enable_prompt_embeds):
            assert enable_prompt_embeds
            self.model = AutoModelForCausalLM.from_pretrained(model).eval()
            self.tokenizer = AutoTokenizer.from_pretrained(model)

        def generate(self, requests, parameters):
            answers = []
            for request, own in zip(requests, parameters, strict=True):
                assert own.temperature == 0.0
                with torch.inference_mode():
                    ids = self.model.generate(
                        inputs_embeds=request["prompt_embeds"][None].clone(),
                        max_new_tokens=own.max_tokens, do_sample=False, pad_token_id=0,
                    )  # fmt: skip
                text = self.tokenizer.decode(ids[0], skip_special_tokens=True)
                answers.append(types.SimpleNamespace(outputs=[types.SimpleNamespace(text=text)]))
            return answers


def test_the_writer_answers_as_the_model_does(gem, folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", StandIn)
    items = encoded(gem)
    found = VllmWriter(folder)(items, max_new_tokens=8, seeds=[1, 2])
    assert found == generate_encoded(gem.model, gem.processor, items, max_new_tokens=8)
    with pytest.raises(CheckpointError, match="gem-lightning export vllm"):
        VllmWriter(folder / "llm")


def test_without_vllm(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(GemError, match="pip install vllm"):
        VllmWriter(folder)


@pytest.mark.slow
def test_the_command_line(tiny_gem, tmp_path):
    tiny_gem.save_pretrained(tmp_path / "model")
    command = [sys.executable, "-m", "gem_lightning.cli", "export", "vllm", str(tmp_path / "model")]
    subprocess.run([*command, "-o", str(tmp_path / "out")], check=True, timeout=120)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"llm", "front"}


def test_a_request_for_the_plugin_holds_marks_in_the_vocabulary_and_the_data(gem):
    record = simulate("sinus", seed=0).record
    data = {"record": record, "image": gem.renderer(record).image}
    item = encode_example(gem.processor, {"question": "Rate?"} | data)
    request, (mark, _) = vllm_request(gem, record, "Rate?"), marks(gem.processor)
    ids, data = request["prompt_token_ids"], request["multi_modal_data"]
    assert max(ids) < gem.model.config.text_config.vocab_size
    config, text = gem.model.config, "".join(f"<{token}>" for token in ids)
    placeholders = {
        "ecg": [config.ecg_token_id] * gem.processor.ecg_tokens,
        "image": [config.image_token_id] * item["input_ids"].count(config.image_token_id),
    }
    for name, full in placeholders.items():
        text = text.replace("".join(f"<{token}>" for token in mark[name]), "".join(f"<{token}>" for token in full), 1)
    assert text == "".join(f"<{token}>" for token in item["input_ids"])
    assert torch.equal(torch.from_numpy(data["ecg"][0]), item["ecg_values"][0])
    assert torch.equal(torch.from_numpy(gem.processor.image_values(data["image"][0])[0]), item["pixel_values"][0])


RUN = """
import sys
import vllm
from gem_lightning.ecg import simulate
from gem_lightning.models import Gem
from gem_lightning.models.inference.generation import encode_example
from gem_lightning.models.inference.vllm import VllmWriter, vllm_request

def main(whole, exported):
    gem = Gem.from_pretrained(whole)
    records = [simulate(code, seed=i).record for i, code in enumerate(("sinus", "lbbb", "atrial_fibrillation"))]
    expected = [gem.interpret(record, max_new_tokens=24).text for record in records]
    items = [encode_example(gem.processor, gem.example(gem.prepare(r, None, {}), None)) for r in records]
    options = {"dtype": "float32", "max_model_len": 1024, "enforce_eager": True}
    writer = VllmWriter(exported, **options)
    assert writer(items, max_new_tokens=24) == expected
    del writer
    llm = vllm.LLM(model=whole, limit_mm_per_prompt={"ecg": 1, "image": 1}, **options)
    parameters = vllm.SamplingParams(temperature=0.0, max_tokens=24)
    answers = llm.generate([vllm_request(gem, record) for record in records], parameters)
    assert [answer.outputs[0].text.strip() for answer in answers] == expected

if __name__ == "__main__":
    main(*sys.argv[1:])
"""


@pytest.mark.slow
def test_vllm_itself_writes_what_the_model_writes(tiny_gem, tmp_path):
    """Embeddings and the plugin; vLLM starts processes of its own, so this is a script. Runs on vLLM's CPU wheel."""
    pytest.importorskip("vllm", reason="vLLM is not installed (see docs/cohorts.md)")
    tiny_gem.save_pretrained(tmp_path / "model")
    export_vllm(tiny_gem, tmp_path / "exported")
    (tmp_path / "run.py").write_text(RUN)
    command = [sys.executable, str(tmp_path / "run.py"), str(tmp_path / "model"), str(tmp_path / "exported")]
    subprocess.run(command, check=True, timeout=600, env=os.environ | {"VLLM_CPU_KVCACHE_SPACE": "1"})
