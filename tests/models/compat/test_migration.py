"""What labs bring along: GEMs that began as LLaVA, adapters alone, weights of DistributedDataParallel, odd configs."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from gem_lightning.errors import CheckpointError, DataError
from gem_lightning.models import load_gem, save_original, tokenize_conversation
from gem_lightning.models.compat.towers import vision_config_from


@pytest.fixture
def aids(gem_tiny):
    return {"ecg_config": gem_tiny / "coca_tiny.json", "dtype": torch.float32}


@pytest.fixture
def base(gem_tiny):
    return load_file(gem_tiny / "model" / "model.safetensors")


def rewrite(folder, tensors, without=()):
    """Give a folder other weights and a config without some keys."""
    save_file({k: v.clone() for k, v in tensors.items()}, folder / "model.safetensors", {"format": "pt"})
    raw = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({k: v for k, v in raw.items() if k not in without}))


def same(one, other):
    assert one.keys() == other.keys()
    assert all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize("unfrozen", [True, False])
def test_a_gem_that_began_as_llava_is_exported_whole(copied, aids, base, tmp_path, unfrozen):
    folder = copied(unfreeze_mm_vision_tower=unfrozen)
    no_ecg = ("mm_ecg_tower", "open_clip_config", "ecg_projector_type")
    rewrite(folder, {k: v for k, v in base.items() if "ecg" not in k}, no_ecg)
    model, processor = load_gem(folder, **aids)
    with torch.no_grad():  # as training would
        for parameter in model.model.ecg_tower.parameters():
            parameter.add_(0.1)
    save_original(model, processor, folder.parent / "back")
    again = load_gem(folder.parent / "back", dtype=torch.float32)[0]  # without being told the tower's sizes
    same(model.state_dict(), again.state_dict())


def adapters(base, rank=4):
    low = {}
    for i in range(2):
        name = f"base_model.model.model.layers.{i}.self_attn.q_proj"
        weight = base[f"model.layers.{i}.self_attn.q_proj.weight"]
        low[f"{name}.lora_A.weight"] = torch.randn(rank, weight.shape[1])
        low[f"{name}.lora_B.weight"] = torch.randn(weight.shape[0], rank)
    return low


def checkpoint(folder, of, low, **settings):
    folder.mkdir()
    torch.save(low, folder / "adapter_model.bin")
    facts = {"base_model_name_or_path": str(of), "peft_type": "LORA", "r": 4, "lora_alpha": 16, "bias": "none"}
    facts |= {"target_modules": ["q_proj"], "task_type": "CAUSAL_LM"} | settings
    (folder / "adapter_config.json").write_text(json.dumps(facts))
    return folder


@pytest.mark.parametrize("settings", [{}, {"alpha_pattern": {"layers.1.self_attn.q_proj": 32}}, {"use_rslora": True}])
def test_adapters_alone_are_merged_into_their_base(copied, aids, base, settings):
    torch.manual_seed(0)
    low = adapters(base)
    folder = copied()
    state = load_gem(checkpoint(folder.parent / "checkpoint-200", folder, low, **settings), **aids)[0].state_dict()
    for i in range(2):
        stem = f"base_model.model.model.layers.{i}.self_attn.q_proj"
        alpha = 32 if i == 1 and "alpha_pattern" in settings else 16
        scale = alpha / (2 if settings.get("use_rslora") else 4)
        own = base[f"model.layers.{i}.self_attn.q_proj.weight"].float()
        wanted = own + scale * low[f"{stem}.lora_B.weight"] @ low[f"{stem}.lora_A.weight"]
        found = state[f"model.language_model.layers.{i}.self_attn.q_proj.weight"]
        assert torch.allclose(found, wanted, rtol=0.01, atol=0.02)  # the base's own dtype is 16 bits wide
        assert (found - own).abs().max() > 1


def test_adapters_of_another_model_are_refused(copied, aids, base):
    folder = copied()
    other = {name.replace("model.layers", "model.decoder.blocks"): value for name, value in adapters(base).items()}
    with pytest.raises(CheckpointError, match="another base"):
        load_gem(checkpoint(folder.parent / "other", folder, other), **aids)


def test_names_of_distributed_training(copied, aids, base):
    folder = copied()
    (folder / "model.safetensors").unlink()
    torch.save({f"module.{name}": value for name, value in base.items()}, folder / "pytorch_model.bin")
    weight = load_gem(folder, **aids)[0].state_dict()["model.language_model.layers.0.self_attn.q_proj.weight"]
    assert torch.equal(weight, base["model.layers.0.self_attn.q_proj.weight"].float())


def test_sizes_of_anyres_as_text(copied, aids):
    anyres = {"image_aspect_ratio": "anyres", "mm_patch_merge_type": "spatial_unpad"}
    as_text, as_list = "[[336, 672], [672, 336]]", [[336, 672], [672, 336]]
    model, processor = load_gem(copied(**anyres, image_grid_pinpoints=as_text), **aids)
    assert model.config.image_grid_pinpoints == processor.image.image_grid_pinpoints == as_list


@pytest.fixture
def onevision(copied):
    """A GEM whose images are cut as LLaVA-NeXT and OneVision cut them."""
    anyres = {"image_aspect_ratio": "anyres_max_2", "mm_patch_merge_type": "spatial_unpad"}
    return copied(**anyres, image_grid_pinpoints="(1x1),...,(2x3)")


def test_a_range_of_grids_and_a_bound(onevision, aids, tmp_path):
    model, processor = load_gem(onevision, **aids)
    own = processor.image
    grids = [[336, 336], [336, 672], [336, 1008], [672, 336], [672, 672], [672, 1008]]
    assert model.config.image_grid_pinpoints == own.image_grid_pinpoints == grids
    assert (own.image_mode, own.image_max_tiles, model.config.image_max_tiles) == ("anyres", 2, 2)
    kept = []
    for width, height in ((660, 1000), (640, 300), (100, 90), (660, 600)):
        page = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
        item = processor.encode([{"from": "human", "value": "<image>\nWhat is it?"}], images=[page])
        features = model.model.get_image_features(item["pixel_values"], item["image_sizes"])[0]
        kept.append(len(features))
        assert item["input_ids"].count(processor.image_token_id) == len(features)
        assert processor.image_tokens((width, height), own.count_tiles((width, height))) == len(features)
    # 48 x 72 patches over two tiles' 1,152: sides 1.73 times too long, 27 x 41 stay, with a newline a row
    assert kept[0] == 576 + 41 * (27 + 1)
    save_original(model, processor, tmp_path / "back")
    raw = json.loads((tmp_path / "back" / "config.json").read_text())
    assert (raw["image_aspect_ratio"], raw["image_grid_pinpoints"]) == ("anyres_max_2", "(1x1),...,(2x3)")
    for part in (model, processor):
        part.save_pretrained(tmp_path / "ours")
    again = load_gem(tmp_path / "ours")
    assert again[1].image == own
    assert again[0].config.image_max_tiles == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_aspect_ratio": "anyres", "image_grid_pinpoints": "six by six"}, "pairs of pixels or a range"),
        ({"image_aspect_ratio": "anyres_max_all"}, "anyres_max_N"),
        ({"mm_use_im_start_end": True, "mm_use_im_patch_token": True}, "embedding rows"),
    ],
)
def test_what_is_not_supported_is_refused(copied, aids, changes, message):
    with pytest.raises(CheckpointError, match=message):
        load_gem(copied(**changes), **aids)


EXTRA = ("<im_patch>", "<im_start>", "<im_end>")


@pytest.fixture(params=[True, False], ids=["added_tokens.json", "tokenizer without them"])
def with_ends(request, copied, base):
    """A GEM with tokens around its images; its number of rows without them."""
    folder = copied(mm_use_im_start_end=True, mm_use_im_patch_token=True)
    rows = base["model.embed_tokens.weight"].shape[0]
    wider = {}
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        wider[name] = torch.cat([base[name], torch.randn(3, base[name].shape[1]).to(base[name])])
    rewrite(folder, base | wider)
    raw = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(raw | {"vocab_size": rows + 3}))
    if request.param:
        added = {token: rows + index for index, token in enumerate(EXTRA)}
        (folder / "added_tokens.json").write_text(json.dumps(added))
    return folder, rows


TALK = [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "A sinus rhythm."}]


def test_tokens_around_images(with_ends, aids, tmp_path, signal, picture):
    folder, rows = with_ends
    model, processor = load_gem(folder, **aids)
    start, end = rows + 1, rows + 2
    item = processor.encode(TALK, ecgs=[signal], images=[picture])
    ids = item["input_ids"]
    first, last = ids.index(start), ids.index(end)
    data = [processor.ecg_token_id] * processor.ecg_tokens + [processor.image_token_id] * processor.image_tokens()
    assert ids[first : last + 1] == [start, *data, end]
    text = [token for token in ids if token not in (processor.ecg_token_id, processor.image_token_id)]
    assert "USER: <im_start><im_end>\nWhat is it? ASSISTANT: A sinus" in processor.tokenizer.decode(text)
    assert set(item["labels"][: last + 1]) == {-100}
    assert not {start, end} & set(processor.encode(TALK)["input_ids"])  # no data, no tokens around them
    with torch.no_grad():
        batch = processor.pad([item])
        assert torch.isfinite(model(**batch).loss)
    save_original(model, processor, tmp_path / "back")
    again, other = load_gem(tmp_path / "back", **aids | {"vision_tower": folder.parent / "clip-vit-tiny-patch14-336"})
    same(model.state_dict(), again.state_dict())
    assert other.encode(TALK, ecgs=[signal], images=[picture])["input_ids"] == ids
    for part in (model, processor):
        part.save_pretrained(tmp_path / "ours")
    assert load_gem(tmp_path / "ours")[1].encode(TALK, ecgs=[signal], images=[picture])["input_ids"] == ids


def test_each_marker_with_data_has_its_tokens(with_ends, aids, signal, picture):
    _, processor = load_gem(with_ends[0], **aids)
    apart = [{"from": "human", "value": "<ecg>\n<image>\nWhat is it?"}, TALK[1]]
    vocabulary = processor.tokenizer.get_vocab()
    counts = []
    for data in ({"ecgs": [signal], "images": [picture]}, {"ecgs": [signal]}, {"images": [picture]}):
        ids = processor.encode(apart, **data)["input_ids"]
        counts.append([ids.count(vocabulary[token]) for token in EXTRA])
    assert counts == [[0, 2, 2], [0, 1, 1], [0, 1, 1]]


@pytest.mark.parametrize(
    ("width", "patch", "size", "layers"), [(1024, 14, 336, 24), (1024, 14, 224, 24), (768, 32, 224, 12)]
)
def test_sizes_of_openai_s_clip_are_known(width, patch, size, layers):
    meta = {"device": "meta"}
    tensors = {
        "embeddings.position_embedding.weight": torch.empty((size // patch) ** 2 + 1, width, **meta),
        "embeddings.patch_embedding.weight": torch.empty(width, 3, patch, patch, **meta),
        **{f"encoder.layers.{i}.mlp.fc1.weight": torch.empty(4 * width, width, **meta) for i in range(layers)},
    }
    found = vision_config_from(None, tensors, "openai/clip")
    assert (found.hidden_size, found.patch_size, found.image_size, found.num_hidden_layers) == (
        width,
        patch,
        size,
        layers,
    )
    assert found.num_attention_heads == width // 64


def test_an_outside_encoder_is_not_saved_as_ours(loaded, tmp_path):
    model, _ = loaded
    own = model.model.ecg_tower
    model.model.ecg_tower = torch.nn.Linear(12, 8)
    try:
        with pytest.raises(DataError, match="got Linear"):
            model.save_pretrained(tmp_path)
    finally:
        model.model.ecg_tower = own


def test_captions_keep_their_marker_whatever_the_flag(tokenizer):
    talk = [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "A sinus rhythm."}]
    found = [tokenize_conversation(talk, tokenizer, chat="plain", has_image=flag) for flag in (True, False)]
    assert found[0] == found[1]
    assert found[0]["input_ids"].count(-200) == 1
