"""ECG-CoCa against the original's outputs, losses and gradients; the mended default; saving and loading."""

import json
import math
from functools import partial

import pytest
import torch
from safetensors.torch import load_file

from gem_lightning.errors import CheckpointError, DataError
from gem_lightning.models.compat.coca import original_config, read_config, save_coca
from gem_lightning.models.encoder.coca import EcgCoCa, bert_text_encoder, build_coca, caption_decoder
from gem_lightning.models.encoder.loss import CocaObjective
from gem_lightning.models.encoder.mae import EcgMaskedAutoencoder
from gem_lightning.models.encoder.transformer import EcgTransformer

ECG = partial(EcgTransformer, width=32, layers=1, head_width=16, output_dim=8, samples=500, patch_size=50)
BERT = {
    "model_type": "bert", "vocab_size": 60, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
    "intermediate_size": 64, "max_position_embeddings": 32,
}  # fmt: skip
TEXT = partial(bert_text_encoder, BERT, output_dim=8)
DECODER = partial(caption_decoder, vocab_size=60, width=32, layers=1, heads=2, context_length=15)


@pytest.fixture(scope="module")
def folder(golden):
    return golden / "ecg_coca_tiny"


@pytest.fixture
def model(folder):
    return EcgCoCa.from_original(folder / "cpt_wfep_epoch_20.pt", folder / "coca_tiny.json")


@pytest.fixture(scope="module")
def expected(folder):
    io = load_file(folder / "coca_io.safetensors")
    io["ecg"] = load_file(folder / "ecg_tower_io.safetensors")["ecg"]
    return io


@torch.no_grad()
def test_outputs_equal_the_original(model, expected):
    out = model(expected["ecg"], expected["text_ids"])
    for name in ("ecg_features", "text_features"):
        torch.testing.assert_close(out[name], expected[name], atol=1e-5, rtol=0)
    torch.testing.assert_close(out["logits"], expected["logits"], atol=1e-4, rtol=0)
    assert torch.equal(out["labels"], expected["labels"])
    assert out["logit_scale"].item() == pytest.approx(expected["logit_scale"].item(), rel=1e-6)
    raw = model.encode_text(expected["text_ids"], normalize=False)
    torch.testing.assert_close(raw, expected["text_features_unnormalized"], atol=1e-4, rtol=0)
    raw = model.encode_ecg(expected["ecg"], normalize=False)
    torch.testing.assert_close(raw, expected["ecg_features_unnormalized"], atol=1e-4, rtol=0)
    torch.testing.assert_close(
        model.text(expected["text_ids"])[1], expected["text_token_embeddings"], atol=1e-4, rtol=0
    )


def test_losses_under_three_weightings(model, expected, folder):
    table = json.loads((folder / "coca_expected.json").read_text())["losses"]
    with torch.no_grad():
        out = model(expected["ecg"], expected["text_ids"])
    for name, losses in table.items():
        caption, contrastive = (float(part.split("=")[1]) for part in name.split(","))
        found = CocaObjective(caption, contrastive).losses(out)
        for key in ("contrastive_loss", "caption_loss"):
            assert float(found[key]) == pytest.approx(losses[key], abs=1e-4), (name, key)
        assert float(sum(found.values())) == pytest.approx(losses["total"], abs=1e-4)


def test_gradients_equal_the_original(model, expected, folder):
    norms = json.loads((folder / "coca_expected.json").read_text())["grad_norms"]
    losses = CocaObjective(2.0, 1.0)(model, {"ecg_values": expected["ecg"], "input_ids": expected["text_ids"]})
    sum(losses.values()).backward()
    own = {name: p.grad for name, p in model.named_parameters()}
    assert own.keys() == norms.keys()
    for name, norm in norms.items():
        assert float(own[name].norm()) == pytest.approx(norm, rel=1e-4, abs=1e-6), name
    for name in (key.removeprefix("grad.") for key in expected if key.startswith("grad.")):
        torch.testing.assert_close(
            own[name].reshape(expected[f"grad.{name}"].shape), expected[f"grad.{name}"], atol=1e-5, rtol=1e-4
        )


def test_ecg_tower_alone_reads_the_same_file(folder, model, expected):
    tower = EcgTransformer.from_original(folder / "cpt_wfep_epoch_20.pt", folder / "coca_tiny.json")
    with torch.no_grad():
        assert torch.equal(tower(expected["ecg"]), model.ecg(expected["ecg"]))


@pytest.mark.parametrize("prefix", ["module.", ""])
def test_written_file_has_the_original_layout_and_loads_again(model, folder, tmp_path, prefix):
    path = save_coca(model, tmp_path, prefix=prefix, epoch=20, optimizer={"state": {}, "param_groups": []})
    written = torch.load(path, weights_only=True)
    original = torch.load(folder / "cpt_wfep_epoch_20.pt", weights_only=True)["state_dict"]
    assert path.name == "cpt_wfep_epoch_20.pt"
    assert written["epoch"] == 20
    assert {prefix + key.removeprefix("module.") for key in original} == written["state_dict"].keys()
    again = EcgCoCa.from_original(tmp_path)
    assert all(torch.equal(again.state_dict()[k], v) for k, v in model.state_dict().items())
    assert again.compat == "original"
    published = json.loads((folder / "coca_tiny.json").read_text())
    found = original_config(model)
    assert found["ecg_cfg"].items() >= published["ecg_cfg"].items()
    assert found["multimodal_cfg"] == published["multimodal_cfg"]


def test_full_size_keys_are_the_published(folder):
    expected = json.loads((folder / "full_size_keys.json").read_text())
    with torch.device("meta"):
        config = read_config(None)
        model = EcgCoCa(
            ecg=EcgTransformer(),
            text=bert_text_encoder({"model_type": "bert"}, output_dim=512),
            decoder=caption_decoder(vocab_size=49408, **config["multimodal_cfg"]),
        )
    assert {key: list(value.shape) for key, value in model.state_dict().items()} == expected["state_dict"]
    assert sum(p.numel() for p in model.parameters()) == expected["parameters_total"]


def small(**changes):
    torch.manual_seed(0)
    return build_coca(ecg=ECG, text=TEXT, decoder=DECODER, **changes).eval()


@torch.no_grad()
@pytest.mark.parametrize(("compat", "leaks"), [("default", False), ("original", True)])
def test_caption_logits_and_the_words_to_come(compat, leaks):
    """Changing a later word changes an earlier prediction only in the original's way."""
    model, ecg = small(compat=compat), torch.randn(1, 12, 500)
    ids = torch.tensor([[2, 10, 11, 12, 13, 14, 3]])
    changed = ids.clone()
    changed[0, 5] = 40
    one, two = model(ecg, ids)["logits"], model(ecg, changed)["logits"]
    assert torch.allclose(one[:, :5], two[:, :5], atol=1e-6) is not leaks
    assert not torch.allclose(one[:, 5:], two[:, 5:], atol=1e-4)


def test_default_decoder_is_initialised_and_has_the_text_vocabulary():
    model = small()
    assert model.text_decoder.text_projection.shape == (32, 60)
    assert model.text_decoder.text_projection.std().item() == pytest.approx(32**-0.5, rel=0.1)


def test_every_parameter_learns():
    """DDP stalls on parameters without gradient."""
    model = small().train()
    batch = {"ecg_values": torch.randn(2, 12, 500), "input_ids": torch.tensor([[2, 5, 6, 3], [2, 7, 3, 0]])}
    sum(CocaObjective()(model, batch).values()).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_caption_loss_ignores_padding():
    model = small()
    batch = {"ecg_values": torch.randn(2, 12, 500), "input_ids": torch.tensor([[2, 5, 6, 3], [2, 7, 3, 0]])}
    longer = {**batch, "input_ids": torch.nn.functional.pad(batch["input_ids"], (0, 5))}
    with torch.no_grad():
        short, long = CocaObjective()(model, batch), CocaObjective()(model, longer)
    assert float(short["caption_loss"]) == pytest.approx(float(long["caption_loss"]), abs=1e-5)
    assert float(short["contrastive_loss"]) == pytest.approx(float(long["contrastive_loss"]), abs=1e-5)


def test_clip_only_and_sigmoid():
    batch = {"ecg_values": torch.randn(3, 12, 500), "input_ids": torch.tensor([[2, 5, 3], [2, 7, 3], [2, 9, 3]])}
    clip = build_coca(ecg=ECG, text=TEXT)
    assert set(CocaObjective(caption_weight=0)(clip, batch)) == {"contrastive_loss"}
    with pytest.raises(DataError, match="caption_weight=0"):
        CocaObjective()(clip, batch)
    sigmoid = build_coca(ecg=ECG, text=TEXT, init_logit_scale=math.log(10), init_logit_bias=-10.0).eval()
    with torch.no_grad():
        found = CocaObjective(caption_weight=0, contrastive="sigmoid")(sigmoid, batch)["contrastive_loss"]
        ecg, text = sigmoid.encode_ecg(batch["ecg_values"]), sigmoid.encode_text(batch["input_ids"])
    logits = 10 * ecg @ text.T - 10
    signs = 2 * torch.eye(3) - 1
    assert float(found) == pytest.approx(float(torch.log1p((-signs * logits).exp()).sum() / 3), rel=1e-4)


def test_temperature_is_clamped():
    model = small(init_logit_scale=9.0)
    model.clamp_temperature()
    assert float(model.logit_scale.exp()) == pytest.approx(100.0, rel=1e-5)


def test_errors_say_what_to_do(folder, tmp_path):
    with pytest.raises(DataError, match="at most 16 text ids"):
        small()(torch.randn(1, 12, 500), torch.ones(1, 17, dtype=torch.long))
    with pytest.raises(DataError, match="compat"):
        small(compat="new")
    with pytest.raises(CheckpointError, match="text_tower=FOLDER"):
        EcgCoCa.from_original({}, {**json.loads((folder / "coca_tiny.json").read_text())})
    with pytest.raises(CheckpointError, match=r"coca\.json"):
        EcgCoCa.from_original(tmp_path)
    with pytest.raises(DataError, match="got 'gpt2'"):
        bert_text_encoder({"model_type": "gpt2"}, output_dim=8)


def test_masked_autoencoder_learns_only_from_hidden_patches():
    torch.manual_seed(0)
    model = EcgMaskedAutoencoder(ECG, width=32, heads=2, mask_ratio=0.5).eval()
    ecg, keep = torch.randn(2, 12, 500), torch.tensor([[0, 2, 4, 6, 8], [1, 3, 5, 7, 9]])
    out = model(ecg, keep)
    assert out["hidden"][0].tolist() == [False, True] * 5
    target = model.patchify(ecg)
    assert torch.equal(target[0, 3].reshape(12, 50), ecg[0, :, 150:200])
    changed = ecg.clone()
    changed[0, :, 50:100] += torch.randn(12, 50)  # a hidden patch: the tower must not see it
    torch.testing.assert_close(model(changed, keep)["reconstruction"], out["reconstruction"])


def test_masked_autoencoder_overfits_one_batch():
    torch.manual_seed(0)
    model, ecg = EcgMaskedAutoencoder(ECG, width=32, heads=2, mask_ratio=0.5), torch.randn(1, 12, 500)
    keep = torch.tensor([[0, 2, 4, 6, 8]])
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    losses = []
    for _ in range(60):
        loss = model(ecg, keep)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]
