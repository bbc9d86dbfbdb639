"""Published folders: recognised by content, read exactly, written back equal, refused when bad."""

import json
import shutil
import struct
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from gem_lightning.errors import CheckpointError
from gem_lightning.models import Gem, load_gem, load_original, save_original
from gem_lightning.models.compat.load import load_processor, recognise
from gem_lightning.models.gem import modalities
from gem_lightning.models.planning.memory import config_for, network_shell

CLIP, COCA = "clip-vit-tiny-patch14-336", "coca_tiny.json"


@pytest.fixture
def aids(gem_tiny):
    """What a folder on its own cannot know about a tower that is not of the published size."""
    return {"vision_tower": gem_tiny / CLIP, "ecg_config": gem_tiny / COCA}


def same(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name
        assert value.dtype == other[name].dtype, name


def test_one_file_and_shards_hold_the_same(loaded, gem_tiny):
    same(loaded[0].state_dict(), load_original(gem_tiny / "model_sharded")[0].state_dict())


def test_original_ours_original_is_equal_per_tensor(loaded, gem_tiny, tmp_path):
    wanted = load_file(gem_tiny / "model" / "model.safetensors")
    save_original(*loaded, tmp_path / "direct")
    same(load_file(tmp_path / "direct" / "model.safetensors"), wanted)
    Gem(*loaded, renderer=object()).save_pretrained(tmp_path / "ours")
    assert recognise(tmp_path / "ours") == "ours"
    save_original(*load_gem(tmp_path / "ours"), tmp_path / "again")
    same(load_file(tmp_path / "again" / "model.safetensors"), wanted)
    config = json.loads((tmp_path / "again" / "config.json").read_text())
    assert config == json.loads((gem_tiny / "model" / "config.json").read_text())
    model, processor = load_original(tmp_path / "again", vision_tower=gem_tiny / CLIP, ecg_config=gem_tiny / COCA)
    same(model.state_dict(), loaded[0].state_dict())
    assert processor.tokenizer.get_vocab() == loaded[1].tokenizer.get_vocab()


def test_a_network_of_our_own_in_the_published_layout(tiny, tmp_path, signal):
    model, processor = tiny
    processor.image = replace(processor.image, image_mode="ori")
    save_original(model, processor, tmp_path)
    again, other = load_original(tmp_path)
    same(again.state_dict(), model.state_dict())
    assert (other.ecg_tokens, other.image.image_size) == (11, 112)


def test_binary_files_load_too(copied, loaded):
    folder = copied()
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    same(load_original(folder)[0].state_dict(), loaded[0].state_dict())


def test_adapters_on_their_base(copied, gem_tiny, aids):
    adapter = torch.load(gem_tiny / "adapter" / "mm_projector.bin", weights_only=True)
    beside = copied()
    shutil.copy(gem_tiny / "adapter" / "ecg_projector.bin", beside)
    apart = load_original(gem_tiny / "adapter", base=gem_tiny / "model")[0]
    for model in (load_original(beside)[0], apart):
        assert torch.equal(model.model.ecg_projector.weight, adapter["model.ecg_projector.weight"])
        assert torch.equal(model.model.multi_modal_projector[0].bias, adapter["model.mm_projector.0.bias"])
    with pytest.raises(CheckpointError, match="base="):
        load_original(gem_tiny / "adapter")


class TestWhichTowerWeightsCount:
    def test_checkpoint_wins_for_the_ecg_tower(self, loaded, gem_tiny, golden):
        coca = golden / "ecg_coca_tiny" / "cpt_wfep_epoch_20.pt"
        model, _ = load_original(gem_tiny / "model", ecg_tower=coca)
        same(model.model.ecg_tower.state_dict(), loaded[0].model.ecg_tower.state_dict())

    def test_without_ecg_weights_the_argument_counts(self, copied, golden):
        folder = copied(without=["model.ecg_tower"])
        with pytest.raises(CheckpointError, match=r"download ECG-CoCa .*ecg_tower="):
            load_original(folder)
        coca = golden / "ecg_coca_tiny" / "cpt_wfep_epoch_20.pt"
        model, _ = load_original(folder, ecg_tower=coca)
        wanted = torch.load(coca, weights_only=True)["state_dict"]["module.ecg.conv1.weight"]
        assert torch.equal(model.model.ecg_tower.conv1.weight, wanted)

    def test_the_image_tower_s_folder_counts_unless_it_was_trained(self, copied, loaded, gem_tiny):
        folder = copied(unfreeze_mm_vision_tower=False)
        own = load_file(gem_tiny / CLIP / "model.safetensors")["vision_model.embeddings.class_embedding"]
        model, _ = load_original(folder)
        assert torch.equal(model.model.vision_tower.embeddings.class_embedding, own)
        assert not torch.equal(loaded[0].model.vision_tower.embeddings.class_embedding, own)

    def test_dead_paths(self, copied, aids):
        folder = copied(siblings=False, mm_vision_tower="/somebody/s/own/clip", mm_ecg_tower="/gone/cpt.pt")
        with pytest.raises(CheckpointError, match=r"download it .*vision_tower="):
            load_original(folder, ecg_config=aids["ecg_config"])
        assert load_original(folder, **aids)[0].config.vision_config.num_attention_heads == 4

    def test_sizes_that_shapes_do_not_tell_are_asked_for(self, copied, aids):
        folder = copied(siblings=False)
        with pytest.raises(CheckpointError, match="ecg_config="):
            load_original(folder, vision_tower=aids["vision_tower"])


def test_bases_without_ecg_parts_get_fresh_ones_and_say_so(copied, golden, caplog, signal):
    folder = copied(without=["model.ecg_"], mm_ecg_tower=None, ecg_projector_type=None)
    model, _ = load_original(folder, ecg_tower=golden / "ecg_coca_tiny" / "cpt_wfep_epoch_20.pt")
    assert model.config.fresh_parts == ["ecg_projector"]
    assert "no weights for the ecg_projector" in caplog.text
    assert modalities(model.config) == ("image",)
    assert torch.isfinite(model.model.ecg_projector.weight).all()


def test_llava_hf_folders(gem_tiny, tokenizer, tmp_path, loaded, pixels):
    """The same image answers through transformers' own Llava and through ours."""
    from transformers import LlavaConfig, LlavaForConditionalGeneration

    gem = loaded[0].config
    torch.manual_seed(0)
    vision = {k: v for k, v in gem.vision_config.to_dict().items() if k != "dtype"}
    text = {k: v for k, v in gem.text_config.to_dict().items() if k != "dtype"}
    theirs = LlavaForConditionalGeneration(
        LlavaConfig(vision_config=vision, text_config=text, image_token_index=1499)
    ).eval()
    theirs.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    assert recognise(tmp_path) == "llava-hf"
    model, processor = load_gem(tmp_path)
    assert set(model.config.fresh_parts) == {"ecg_tower", "ecg_projector"}
    assert load_processor(tmp_path).to_dict() == processor.to_dict()
    planned = network_shell({"checkpoint": tmp_path}, config_for({"checkpoint": tmp_path, "ecg": "none"}))
    assert {n: p.shape for n, p in planned.named_parameters()} == {n: p.shape for n, p in model.named_parameters()}
    image = pixels("img0.ori")
    ids = torch.tensor([[1, *[1499] * 576, 5, 6]])
    wanted = theirs(input_ids=ids, pixel_values=image).logits
    ours = ids.masked_fill(ids == 1499, model.config.image_token_id)
    assert torch.allclose(model(input_ids=ours, pixel_values=image).logits, wanted, atol=1e-4)


class TestBadInput:
    def test_a_shard_that_is_cut_off(self, gem_tiny, tmp_path):
        shutil.copytree(gem_tiny, tmp_path / "g")
        shard = tmp_path / "g" / "model_sharded" / "model-00002-of-00003.safetensors"
        shard.write_bytes(shard.read_bytes()[:-1000])
        with pytest.raises(CheckpointError, match="cut off"):
            load_gem(tmp_path / "g" / "model_sharded")
        shard.write_bytes(shard.read_bytes()[:200])
        with pytest.raises(CheckpointError, match="cut off or damaged"):
            load_gem(tmp_path / "g" / "model_sharded")
        shard.unlink()
        with pytest.raises(CheckpointError, match="model-00002"):
            load_gem(tmp_path / "g" / "model_sharded")

    def test_a_wrong_hidden_size(self, copied):
        with pytest.raises(CheckpointError, match=r"misshapen: .*expected"):
            load_gem(copied(hidden_size=128))

    def test_a_wrong_tokenizer(self, copied, golden):
        folder = copied()
        for name in ("tokenizer.model", "tokenizer_config.json", "special_tokens_map.json"):
            (folder / name).unlink()
        for path in (golden / "preprocess" / "tokenizers" / "qwen").iterdir():
            shutil.copy(path, folder)
        with pytest.raises(CheckpointError, match="1500 embedding rows, got one of 903"):
            load_gem(folder)

    def test_a_pickle_with_code_is_not_executed(self, copied, tmp_path):
        import pickle

        class Trap:
            def __reduce__(self):
                return (open, (str(tmp_path / "executed"), "w"))

        for write in (torch.save, lambda content, path: path.write_bytes(pickle.dumps(content))):
            shutil.rmtree(tmp_path / "place", ignore_errors=True)
            folder = copied()
            (folder / "model.safetensors").unlink()
            write({"model.norm.weight": Trap()}, folder / "pytorch_model.bin")
            with pytest.raises(CheckpointError, match="not executed"):
                load_gem(folder)
            assert not (tmp_path / "executed").exists()

    def test_missing_and_unknown_names_are_listed(self, copied):
        folder = copied(without=["model.layers.1.mlp"])
        with pytest.raises(CheckpointError, match=r"missing: model.language_model.layers.1.mlp.down_proj.weight"):
            load_gem(folder)
        tensors = load_file(folder / "model.safetensors") | {
            "model.surprise": torch.zeros(1),
            "other.x": torch.zeros(1),
        }
        save_file(tensors, folder / "model.safetensors")
        with pytest.raises(CheckpointError, match=r"other\.x"):
            load_gem(folder)

    def test_configs_of_newer_versions(self, tiny, tmp_path, copied):
        for processor_or_model in tiny:
            processor_or_model.save_pretrained(tmp_path / "ours")
        raw = json.loads((tmp_path / "ours" / "config.json").read_text())
        (tmp_path / "ours" / "config.json").write_text(json.dumps(raw | {"format_version": 2}))
        with pytest.raises(CheckpointError, match="newer gem-lightning"):
            load_gem(tmp_path / "ours")
        (tmp_path / "ours" / "config.json").write_text(json.dumps(raw | {"transformers_version": "9.0.0"}))
        with pytest.raises(CheckpointError, match="pip install -U transformers"):
            load_gem(tmp_path / "ours")

    def test_folders_that_hold_something_else(self, tmp_path):
        with pytest.raises(CheckpointError, match="cannot be found"):
            load_gem(tmp_path / "nothing")
        (tmp_path / "config.json").write_text('{"model_type": "bert"}')
        with pytest.raises(CheckpointError, match="'bert'"):
            load_gem(tmp_path)

    def test_a_header_that_lies(self, copied):
        folder = copied()
        header = json.dumps({"model.norm.weight": {"dtype": "F32", "shape": [64], "data_offsets": [0, 4]}}).encode()
        (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 4)
        with pytest.raises(CheckpointError, match="64 values, got 4 bytes"):
            load_gem(folder)
