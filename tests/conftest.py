"""Shared fixtures: where golden files and real ECGs lie, and one thread a process."""

import os
import pathlib

for _name, _value in (("OMP_NUM_THREADS", "1"), ("GOMP_SPINCOUNT", "0"), ("OMP_WAIT_POLICY", "passive")):
    os.environ.setdefault(_name, _value)

import pytest

HERE = pathlib.Path(__file__).parent


@pytest.fixture(scope="session")
def golden() -> pathlib.Path:
    """Outputs of the original implementation, committed under tests/golden."""
    return HERE / "golden"


@pytest.fixture(scope="session")
def shared_data() -> pathlib.Path:
    """Real ECGs that stay outside the repository; tests that need them skip where they are absent."""
    folder = pathlib.Path(os.environ.get("GEM_LIGHTNING_DATA", HERE.parent.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real ECGs are not here: {folder} (set GEM_LIGHTNING_DATA)")
    return folder


@pytest.fixture(scope="session")
def tiny_gem():
    """A network of the quickstart's kind with random weights: real parts, meaningless words."""
    import torch

    from gem_lightning.models import Gem, build_gem, build_processor, tiny_tokenizer

    torch.manual_seed(0)
    sizes = {
        "llm": {
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "vocab_size": 640,
            "bos_token_id": 0,
            "eos_token_id": 1,
            "pad_token_id": 2,
        },
        "ecg": {"patch_size": 500, "width": 64, "layers": 1, "head_width": 32, "output_dim": 32},
        "vision": {
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 56,
            "patch_size": 28,
        },
        "vision_feature_layer": -1,
    }
    model = build_gem(**sizes)
    model.config.fresh_parts = None
    return Gem(model.eval(), build_processor(tiny_tokenizer(), sizes))
