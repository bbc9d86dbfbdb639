"""Networks small enough to run in milliseconds, and the golden ones."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

LLM = {
    "model_type": "llama",
    "vocab_size": 1500,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 1024,
    "pad_token_id": 0,
}
ECG = {"samples": 500, "patch_size": 50, "width": 64, "layers": 2, "head_width": 32, "output_dim": 16}
VISION = {
    "model_type": "clip_vision_model",
    "image_size": 112,
    "patch_size": 28,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
}


@pytest.fixture(scope="session")
def gem_tiny(golden):
    return golden / "gem_tiny"


@pytest.fixture(scope="session")
def expected(gem_tiny):
    return json.loads((gem_tiny / "expected.json").read_text())


@pytest.fixture(scope="session")
def loaded(gem_tiny):
    from gem_lightning.models import load_original

    return load_original(gem_tiny / "model")


@pytest.fixture(scope="session")
def ecgs(gem_tiny):
    return load_file(gem_tiny / "ecg_inputs.safetensors")["ecgs"]


@pytest.fixture(scope="session")
def pixels(gem_tiny):
    from gem_lightning.models.preprocessing import normalise

    tiles = np.load(gem_tiny / "images" / "tiles_u8.npz")
    return lambda name: torch.from_numpy(normalise(tiles[name])).reshape(-1, 3, *tiles[name].shape[-2:])


@pytest.fixture(scope="session")
def tokenizer(golden):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(golden / "preprocess" / "tokenizers" / "llama_legacy_false")


@pytest.fixture
def parts():
    """Keyword arguments of ``build_gem`` for a network from nothing."""
    return {"llm": dict(LLM), "ecg": dict(ECG), "vision": dict(VISION)}


@pytest.fixture
def tiny(parts, tokenizer):
    """(network in eval mode, its processor), the same weights every time."""
    from gem_lightning.models import build_gem, build_processor

    torch.manual_seed(0)
    return build_gem(**parts).eval(), build_processor(tokenizer, parts)


@pytest.fixture
def signal():
    return np.random.default_rng(0).normal(size=(12, 500)).astype(np.float32)


@pytest.fixture
def picture():
    return np.random.default_rng(1).integers(0, 255, (85, 110, 3), dtype=np.uint8)


@pytest.fixture
def copied(gem_tiny, tmp_path):
    """A function that copies a golden folder, with changes to its config.json, where it can be written."""
    import shutil

    def copy(name="model", siblings=True, without=(), **changes):
        root = tmp_path / "place"
        root.mkdir(exist_ok=True)
        target = root / name
        shutil.copytree(gem_tiny / name, target)
        if siblings:
            shutil.copytree(gem_tiny / "clip-vit-tiny-patch14-336", root / "clip-vit-tiny-patch14-336")
            shutil.copy(gem_tiny / "coca_tiny.json", root)
        config = target / "config.json"
        if config.exists():
            raw = json.loads(config.read_text()) | changes
            config.write_text(json.dumps(raw))
        weights = target / "model.safetensors"
        if without:
            from safetensors.torch import save_file

            kept = {k: v for k, v in load_file(weights).items() if not k.startswith(tuple(without))}
            save_file(kept, weights)
        return target

    return copy
