"""Adapters: trained, saved alone, loaded, merged; what they learnt about ECGs is never lost."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from gem_lightning.models import build_gem, build_processor, load_gem, load_original
from gem_lightning.models.compat.load import load_processor
from gem_lightning.models.planning.memory import config_for

TALK = [{"from": "human", "value": "<image>\nRate?"}, {"from": "gpt", "value": "72 bpm."}]


def train(model, batch, steps=3):
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        model(**batch).loss.backward()
        optimizer.step()
    return model.eval()


def test_train_save_load_merge(parts, tokenizer, signal, picture, tmp_path):
    torch.manual_seed(0)
    base, processor = build_gem(**parts), build_processor(tokenizer, parts)
    base.save_pretrained(tmp_path / "base")
    processor.save_pretrained(tmp_path / "base")
    before = {k: v.clone() for k, v in base.state_dict().items()}
    batch = processor.pad([processor.encode(TALK, [signal], [picture])])
    model = train(build_gem(checkpoint=tmp_path / "base", lora={"r": 4}), batch)
    wanted = model(**batch).logits
    model.save_pretrained(tmp_path / "adapter")
    saved = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    for part in ("ecg_projector", "multi_modal_projector"):
        assert any(part in name for name in saved), f"the {part}'s weights are lost"
    assert not any("vision_tower" in name or "embed_tokens" in name for name in saved)
    again, _ = load_gem(tmp_path / "adapter", base=tmp_path / "base")
    assert type(again).__name__ == "GemForConditionalGeneration"
    assert torch.allclose(again(**batch).logits, wanted, atol=1e-5)
    assert load_processor(tmp_path / "adapter").to_dict() == processor.to_dict()  # found through the name of its base
    assert (
        config_for({"checkpoint": tmp_path / "adapter"}).text_config.hidden_size == base.config.text_config.hidden_size
    )
    assert not torch.equal(again.model.ecg_projector.weight, before["model.ecg_projector.weight"])
    again.save_pretrained(tmp_path / "merged")
    processor.save_pretrained(tmp_path / "merged")
    assert torch.allclose(load_gem(tmp_path / "merged")[0](**batch).logits, wanted, atol=1e-5)
    frozen = "model.ecg_tower.conv1.weight"
    assert torch.equal(again.state_dict()[frozen], before[frozen])


def test_llava_lora_folder_with_its_other_weights(gem_tiny, loaded, tmp_path):
    """The layout of the original's LoRA run, made by hand: W + alpha / r * B A, and the projectors whole."""
    torch.manual_seed(0)
    folder = tmp_path / "gem-lora"
    folder.mkdir()
    stem = "model.layers.0.self_attn.q_proj"
    first, second = torch.randn(4, 64), torch.randn(64, 4)
    save_file(
        {f"base_model.model.{stem}.lora_A.weight": first, f"base_model.model.{stem}.lora_B.weight": second},
        folder / "adapter_model.safetensors",
    )
    ecg = torch.randn(32, 64)
    torch.save({"base_model.model.model.ecg_projector.weight": ecg}, folder / "non_lora_trainables.bin")
    settings = {"r": 4, "lora_alpha": 8, "base_model_name_or_path": str(gem_tiny / "model"), "peft_type": "LORA"}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    model, _ = load_gem(folder, dtype=torch.float32)
    base = loaded[0].model
    old = base.language_model.layers[0].self_attn.q_proj.weight
    new = model.model.language_model.layers[0].self_attn.q_proj.weight
    assert torch.allclose(new, (old + 2 * second @ first).to(torch.bfloat16).float(), atol=1e-2)
    assert torch.equal(model.model.ecg_projector.weight, ecg)
    assert torch.equal(model.lm_head.weight, loaded[0].lm_head.weight)


@pytest.mark.parametrize("choice", ["nf4", "int8"])
def test_quantised_language_model_whole_towers(choice, gem_tiny, ecgs, pixels, loaded):
    bitsandbytes = pytest.importorskip("bitsandbytes")
    model, processor = load_original(gem_tiny / "model", quantization_config=choice, device="cpu")
    layer = model.model.language_model.layers[0].self_attn.q_proj
    assert isinstance(layer, (bitsandbytes.nn.Linear4bit, bitsandbytes.nn.Linear8bitLt))
    whole = (model.model.ecg_projector, model.model.multi_modal_projector[0], model.lm_head)
    assert all(type(layer) is torch.nn.Linear for layer in whole)
    item = processor.tokenize_conversation(TALK)
    batch = processor.pad([item]) | {"ecg_values": ecgs[:1], "pixel_values": pixels("img0.ori")}
    with torch.no_grad():
        found, wanted = model(**batch), loaded[0](**batch)
    assert torch.isfinite(found.loss)
    agreement = torch.nn.functional.cosine_similarity(found.logits.flatten().float(), wanted.logits.flatten(), dim=0)
    assert agreement > (0.8 if choice == "nf4" else 0.99)


def test_qlora_learns(parts, tokenizer, signal, picture, tmp_path):
    pytest.importorskip("bitsandbytes")
    torch.manual_seed(0)
    parts["llm"] |= {"hidden_size": 64, "intermediate_size": 128}
    base, processor = build_gem(**parts), build_processor(tokenizer, parts)
    base.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    batch = processor.pad([processor.encode(TALK, [signal], [picture])])
    model = build_gem(checkpoint=tmp_path, quantization="nf4", lora={"r": 4})
    start = float(model(**batch).loss.detach())
    train(model, batch, steps=6)
    assert float(model(**batch).loss.detach()) < start - 0.5
