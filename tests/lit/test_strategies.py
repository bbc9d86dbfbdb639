"""One process, two by DDP, two by FSDP2: the same losses and weights, and checkpoints that go from one to the other."""

import json
import os

import pytest
import torch

from gem_lightning.errors import CheckpointError, GemError
from gem_lightning.lit import AtomicCheckpointIO, KeepLast, SaveFinished, ShardedStrategy, export
from gem_lightning.lit.checkpointing.io import damage
from gem_lightning.models import Gem
from helpers_kill import exit_codes
from helpers_processes import start
from helpers_training import Losses, StopAfter, fit, parts, tiny_cohort


def options(kind):
    if kind == "one":
        return {"devices": 1, "plugins": [AtomicCheckpointIO()]}
    if kind == "ddp":
        return {"devices": 2, "strategy": "ddp", "plugins": [AtomicCheckpointIO()]}
    return {"devices": 2, "strategy": ShardedStrategy(process_group_backend="gloo")}


def train(folder, name, kind, *overrides, callbacks=(), **settings):
    """Ten steps from the same weights over the same four samples a step; losses and weights go to files."""
    size = 4 if kind == "one" else 2
    module, data = parts(
        tiny_cohort(folder), f"model.net.checkpoint={folder / 'start'}", f"data.batch_size={size}", *overrides
    )
    losses = Losses()
    trainer = fit(module, data, losses, *callbacks, **({"max_steps": 10, "max_epochs": -1} | options(kind) | settings))
    state = module.net.state_dict()
    weights = {key: value.full_tensor() if hasattr(value, "full_tensor") else value for key, value in state.items()}
    if trainer.is_global_zero:
        (folder / f"{name}.json").write_text(json.dumps(losses.logged))
        torch.save(weights, folder / f"{name}.pt")
    return module


def with_one_modality_each(module):
    """One process has an ECG, the other nothing to look at: both go through, with gradients for the same parameters."""
    config, batch = module.net.config, {"input_ids": torch.tensor([[3, 4, 5, 6]])}
    batch["labels"] = batch["input_ids"].clone()
    if int(os.environ["RANK"]) == 0:
        ids = torch.tensor([[config.ecg_token_id] * config.ecg_tokens + [4, 5]])
        batch = {"input_ids": ids, "labels": ids.masked_fill(ids > 1000, -100), "ecg_values": torch.randn(1, 12, 5000)}
    batch["attention_mask"] = torch.ones_like(batch["input_ids"])
    module.zero_grad()
    module._loss(batch).backward()
    found = [None, None]
    torch.distributed.all_gather_object(
        found, sorted(n for n, p in module.net.named_parameters() if p.grad is not None)
    )
    assert found[0] == found[1]
    assert {"model.ecg_projector.weight", "model.multi_modal_projector.0.weight"} <= set(found[0])


def work(folder):
    """What each of two processes does."""
    for kind in ("ddp", "fsdp2"):
        stop = KeepLast(folder / f"stopped_{kind}", every_n_steps=6)
        train(folder, f"first_{kind}", kind, callbacks=[StopAfter(6), stop])
    for begun, ended in (("ddp", "fsdp2"), ("fsdp2", "ddp"), ("fsdp2", "fsdp2"), ("one", "fsdp2")):
        checkpoint = folder / f"stopped_{begun}" / "step-0000006.ckpt"
        train(folder, f"{begun}_to_{ended}", ended, ckpt_path=checkpoint)
    kept = folder / "kept"
    finished = [KeepLast(kept, every_n_steps=3), SaveFinished(folder / "model", kept)]
    with_one_modality_each(train(folder, "fsdp2", "fsdp2", callbacks=finished))
    train(folder, "ddp", "ddp")
    rounded = train(folder, "bf16", "fsdp2", precision="bf16-mixed").net
    assert rounded.model.language_model.rotary_emb.inv_freq.dtype == torch.float32
    assert next(rounded.parameters()).dtype == torch.float32


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("strategies")
    module, data = parts(tiny_cohort(folder))
    module.configure_model()
    module.net.save_pretrained(folder / "start")
    data.processor.save_pretrained(folder / "start")
    train(folder, "first_one", "one", callbacks=[StopAfter(6), KeepLast(folder / "stopped_one", every_n_steps=6)])
    train(folder, "one", "one")
    assert exit_codes(start(work, folder, ranks=2)) == [0, 0]
    return folder


def differences(folder, name):
    one, other = (json.loads((folder / f"{run}.json").read_text()) for run in ("one", name))
    weights, others = (torch.load(folder / f"{run}.pt") for run in ("one", name))
    loss = max(abs(a - b) for a, b in zip(one[-len(other) :], other, strict=True))
    return len(other), loss, max(float((weights[key] - others[key]).abs().max()) for key in weights)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ddp", "fsdp2"])
def test_ten_steps_on_two_processes_equal_one(folder, name):
    steps, loss, weights = differences(folder, name)
    assert steps == 10
    assert loss < 1e-5
    assert weights < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ddp_to_fsdp2", "fsdp2_to_ddp", "fsdp2_to_fsdp2", "one_to_fsdp2"])
def test_a_checkpoint_of_one_strategy_goes_on_in_another(folder, name):
    steps, loss, weights = differences(folder, name)
    assert steps == 4
    assert loss < 1e-5
    assert weights < 1e-5


@pytest.mark.slow
def test_shards_go_on_in_one_process(folder):
    train(folder, "fsdp2_to_one", "one", ckpt_path=folder / "stopped_fsdp2" / "step-0000006.ckpt")
    assert differences(folder, "fsdp2_to_one")[1] < 1e-5


@pytest.mark.slow
def test_mixed_precision_learns_alike(folder):
    # bf16 keeps 8 bits, 0.4 % of a value; over ten steps the losses part by a few times that
    assert 1e-6 < differences(folder, "bf16")[1] < 0.03


@pytest.mark.slow
def test_shards_become_one_folder(folder):
    """Both as the run ends and from a checkpoint of its shards."""
    weights = torch.load(folder / "fsdp2.pt")
    export(folder / "kept" / "step-0000010.ckpt", folder / "exported")
    for name in ("model", "exported"):
        model = Gem.from_pretrained(folder / name).model
        assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())
        assert model.config.fresh_parts is None


@pytest.mark.slow
def test_shards_of_another_architecture_or_damaged_are_refused(folder, tmp_path):
    kept = folder / "kept" / "step-0000010.ckpt"
    with pytest.raises(CheckpointError, match="misshapen"):
        train(folder, "other", "one", "model.net.checkpoint=null", "model.net.llm.intermediate_size=64", ckpt_path=kept)
    shard = next(kept.glob("*.distcp"))
    whole = shard.read_bytes()
    shard.write_bytes(whole[:1000] + bytes([whole[1000] ^ 1]) + whole[1001:])
    assert "has changed" in damage(kept)
    with pytest.raises(CheckpointError, match="has changed"):
        export(kept, tmp_path / "out")
    shard.write_bytes(whole)
    assert damage(kept) is None


def test_what_cannot_be_shared_out_is_refused(tmp_path):
    cohort = tiny_cohort(tmp_path)
    sharded = {"devices": 1, "strategy": ShardedStrategy(process_group_backend="gloo"), "max_steps": 1}
    with pytest.raises(GemError, match="lora"):
        fit(*parts(cohort, "+model.net.lora={r: 4}"), **sharded)
    module, data = parts(cohort)
    module.configure_model()  # whole, before the strategy could have a say
    with pytest.raises(GemError, match="can be sharded"):
        fit(module, data, **sharded | {"strategy": ShardedStrategy(process_group_backend="gloo")})
