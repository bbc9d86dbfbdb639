"""The ECG tower against the original's outputs, and its contract inside larger models."""

import json

import pytest
import torch
from safetensors.torch import load_file

from gem_lightning.errors import CheckpointError, DataError
from gem_lightning.models.encoder.transformer import EcgTransformer

SMALL = {"width": 32, "layers": 2, "head_width": 16, "output_dim": 8, "samples": 500, "patch_size": 50}


@pytest.fixture(scope="module")
def folder(golden):
    return golden / "ecg_coca_tiny"


@pytest.fixture(scope="module")
def tower(folder):
    return EcgTransformer.from_original(folder / "cpt_wfep_epoch_20.pt", folder / "coca_tiny.json")


@pytest.fixture(scope="module")
def expected(folder):
    return load_file(folder / "ecg_tower_io.safetensors")


@torch.no_grad()
def test_tokens_and_pooling_equal_the_original(tower, expected):
    ecg = expected["ecg"]
    torch.testing.assert_close(tower(ecg), expected["tokens_last_transformer_layer"], atol=1e-4, rtol=0)
    torch.testing.assert_close(tower.pool(ecg), expected["pooled_projected"], atol=1e-4, rtol=0)
    pooled, tokens = tower.encode(ecg)
    torch.testing.assert_close(pooled, expected["pooled_projected"], atol=1e-4, rtol=0)
    torch.testing.assert_close(tokens, expected["tokens_after_ln_post_no_cls"], atol=1e-4, rtol=0)
    torch.testing.assert_close(tower.ln_pre(tower.embed(ecg)), expected["debug.ln_pre_out"], atol=1e-4, rtol=0)


def test_full_size_has_the_published_keys_and_shapes(folder):
    expected = json.loads((folder / "full_size_keys.json").read_text())["ecg_tower_only"]
    with torch.device("meta"):
        tower = EcgTransformer()
    assert {key: list(value.shape) for key, value in tower.state_dict().items()} == expected
    assert sum(p.numel() for p in tower.parameters()) == 85_989_888
    assert not list(tower.buffers())


def test_bfloat16_keeps_its_dtype_and_stays_near(tower, expected):
    half = EcgTransformer.from_original(
        {"state_dict": {f"module.ecg.{k}": v for k, v in tower.state_dict().items()}},
        {"embed_dim": 48, "ecg_cfg": {"width": 64, "layers": 2, "head_width": 32}},
        dtype=torch.bfloat16,
    )
    with torch.no_grad():
        tokens = half(expected["ecg"])
    reference = expected["tokens_last_transformer_layer"]
    assert tokens.dtype == torch.bfloat16
    assert (tokens.float() - reference).norm() / reference.norm() < 0.02


def test_wrong_configuration_is_refused(folder):
    with pytest.raises(CheckpointError, match="misshapen"):
        EcgTransformer.from_original(folder / "cpt_wfep_epoch_20.pt")


def test_no_file_and_foreign_file(tmp_path):
    with pytest.raises(CheckpointError, match="does not exist"):
        EcgTransformer.from_original(tmp_path / "none.pt")
    torch.save({"other.weight": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="is this ECG-CoCa"):
        EcgTransformer.from_original(tmp_path / "other.pt")


def test_pickled_code_is_refused(tmp_path):
    torch.save({"state_dict": {"a": torch.nn.Linear(1, 1)}}, tmp_path / "code.pt")
    with pytest.raises(CheckpointError, match="weights_only"):
        EcgTransformer.from_original(tmp_path / "code.pt")


def test_shape_errors_say_what_to_do(tower):
    with pytest.raises(DataError, match=r"\(batch, 12, 5000\), got \(1, 12, 4000\)"):
        tower(torch.zeros(1, 12, 4000))
    with pytest.raises(DataError, match="multiple of patch_size"):
        EcgTransformer(samples=510, patch_size=50)


def test_patch_dropout_only_while_training():
    tower = EcgTransformer(**SMALL, patch_dropout=0.5)
    ecg = torch.randn(2, 12, 500)
    assert tower.train()(ecg).shape == (2, 6, 32)
    assert tower.eval()(ecg).shape == (2, 11, 32)


@torch.no_grad()
def test_kept_patches_carry_their_own_positions():
    """The embedding of a kept subset is the same rows of the full embedding."""
    tower = EcgTransformer(**SMALL)
    ecg = torch.randn(2, 12, 500)
    keep = torch.tensor([[0, 3, 9], [1, 2, 5]])
    full, some = tower.embed(ecg), tower.embed(ecg, keep)
    for row in range(2):
        torch.testing.assert_close(some[row, 1:], full[row, 1 + keep[row]])


def test_meta_construction_then_init_fills_every_parameter():
    with torch.device("meta"):
        tower = EcgTransformer(**SMALL)
    tower.to_empty(device="cpu")
    for parameter in tower.parameters():
        torch.nn.init.constant_(parameter, float("nan"))
    tower.init_parameters()
    assert all(torch.isfinite(p).all() for p in tower.parameters())
    assert torch.isfinite(tower(torch.randn(1, 12, 500))).all()


def test_gradient_checkpointing_gives_equal_gradients():
    tower, ecg = EcgTransformer(**SMALL), torch.randn(2, 12, 500)
    tower.pool(ecg).square().sum().backward()
    plain = tower.conv1.weight.grad.clone()
    tower.zero_grad()
    tower.set_grad_checkpointing()
    tower.pool(ecg).square().sum().backward()
    torch.testing.assert_close(tower.conv1.weight.grad, plain)
