"""Stages as their configs say them: what trains, at which rate, and a folder at the end that loads again."""

from functools import partial

import lightning
import pytest
import torch
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.utils import instantiate

from gem_lightning.data import SimulatedCohort
from gem_lightning.errors import GemError
from gem_lightning.lit import InstructionDataModule, SaveFinished, export
from gem_lightning.lit.data.instruction import BatchOptions
from gem_lightning.lit.optim import parameter_groups, set_trainable
from gem_lightning.models import Gem, build_gem, build_processor, generate_texts, tiny_tokenizer
from helpers_sizes import TINY
from helpers_training import SaveAt

SIZES = TINY | {
    "llm": TINY["llm"] | {"num_hidden_layers": 2},
    "vision": TINY["vision"] | {"hidden_size": 64},
}
PROJECTORS = ("model.ecg_projector.", "model.multi_modal_projector.")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A small model's folder, for the stages that start from one."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("base")
    build_gem(**SIZES).save_pretrained(folder)
    build_processor(tiny_tokenizer(), SIZES).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    cohort = SimulatedCohort(tmp_path_factory.mktemp("cohort"), n=8, seed=3, workers=1)
    cohort.prepare()
    processor = build_processor(tiny_tokenizer(), SIZES)
    return InstructionDataModule(processor, cohort, cohort, batch_size=2, num_workers=0)


def stage(name, base, *overrides):
    """The module of an experiment over the small model."""
    GlobalHydra.instance().clear()
    with initialize_config_module("gem_lightning.conf", version_base="1.3"):
        parts = [f"model.net.checkpoint={base}", "paths.output=unused", "model.net.gradient_checkpointing=false"]
        cfg = compose("train", [f"experiment={name}", *parts, *overrides])
    torch.manual_seed(0)
    return instantiate(cfg.model)


def fit(module, data, *callbacks, steps=4, ckpt_path=None, **options):
    trainer = lightning.Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        use_distributed_sampler=False,
        callbacks=list(callbacks),
        max_steps=steps,
        limit_val_batches=0,
        gradient_clip_val=1.0,
        **options,
    )
    trainer.fit(module, data, ckpt_path=ckpt_path, weights_only=True)
    return trainer


def test_align_moves_the_projectors_alone(base, data):
    module = stage("align", base)
    module.configure_model()
    before = {name: value.clone() for name, value in module.net.state_dict().items()}
    trainer = fit(module, data)
    moved = {name for name, value in module.net.state_dict().items() if not torch.equal(value, before[name])}
    assert moved and all(name.startswith(PROJECTORS) for name in moved)
    assert {name.split(".")[1] for name in moved} == {"ecg_projector", "multi_modal_projector"}
    (optimizer,) = trainer.optimizers
    held = {id(p) for p in optimizer.state}
    for name, parameter in module.net.named_parameters():
        assert (id(parameter) in held) == name.startswith(PROJECTORS), name
        assert parameter.grad is None or name.startswith(PROJECTORS), name
    module.train()
    assert not any(part.training for part in (module.net.model.language_model, module.net.model.ecg_tower))
    assert module.net.model.ecg_projector.training


@pytest.mark.parametrize("name", ["gem7b_lora", "gem_lora"])
def test_rates_reach_both_projectors_under_adapters(base, name):
    module = stage(name, base, "model.lr_by_pattern={model.*_projector.*: 2e-5}", "optim.weight_decay=0.1")
    module.configure_model()
    groups = parameter_groups(module.net, 2e-4, 0.1, module.lr_by_pattern)
    rate = {member: group["lr"] for group in groups for member in group["names"]}
    decay = {member: group["weight_decay"] for group in groups for member in group["names"]}
    for part in PROJECTORS:
        mine = {member: value for member, value in rate.items() if member.startswith(part)}
        assert mine and set(mine.values()) == {2e-5}
    assert {value for member, value in rate.items() if ".lora_" in member} == {2e-4}
    assert not any("tower" in member for member in rate)
    assert decay["model.ecg_projector.weight"] == 0.1 and decay["model.ecg_projector.bias"] == 0.0
    assert all(p.dtype == torch.float32 for p in module.net.parameters() if p.requires_grad)


def test_norms_and_biases_never_decay():
    network = build_gem(**SIZES)
    groups = parameter_groups(network, 1e-3, 0.1)
    spared = {name for group in groups if group["weight_decay"] == 0 for name in group["names"]}
    due = {n for n, p in network.named_parameters() if "norm" in n or "ln_" in n or n.endswith("bias")}
    assert due <= spared
    assert not any(name.endswith("_proj.weight") for name in spared)


def test_patterns_that_reach_nothing_are_refused(base):
    module = stage("gem_lora", base)
    module.configure_model()
    with pytest.raises(GemError, match=r"model\.vision\.\*"):
        set_trainable(module.net, ["model.vision.*"])
    with pytest.raises(GemError, match="reach trainable"):
        parameter_groups(module.net, 1e-3, lr_by_pattern={"model.ecg_tower.*": 1e-4})


def test_a_tower_that_the_network_lacks_is_as_good_as_frozen():
    network = build_gem(**SIZES | {"vision": "none"})
    assert len(set_trainable(network, ["model.vision_tower.*"])) == len(list(network.parameters()))
    with pytest.raises(GemError, match="vision_tower"):
        set_trainable(network, unfreeze=["model.vision_tower.*"])


def answers(gem, data):
    return generate_texts(gem.model, gem.processor, data.examples(4), max_new_tokens=24)


def test_adapters_end_as_a_folder_that_loads(base, data, tmp_path):
    module = stage("gem_lora", base, "optim.lr=0.05", "optim.warmup=1")
    fit(module, data, SaveFinished(tmp_path / "model"))
    trained = answers(Gem(module.net.eval(), data.processor), data)
    sizes = [f.stat().st_size for f in (tmp_path / "model").glob("*.safetensors")]
    assert sum(sizes) < sum(f.stat().st_size for f in base.glob("*.safetensors")) / 2
    assert answers(Gem.from_pretrained(tmp_path / "model", device="cpu"), data) == trained
    assert answers(Gem.from_pretrained(base, device="cpu"), data) != trained


@pytest.mark.parametrize("extra", [(), ("model.unfreeze=[model.ecg_tower.conv1.*]",)], ids=["alone", "and more"])
@pytest.mark.parametrize("apart", [True, False], ids=["base in a folder", "parts"])
def test_a_checkpoint_of_adapters_is_exported_as_the_run_would_have_ended(base, data, tmp_path, extra, apart):
    module = stage("gem_lora", base, "optim.lr=0.05", "optim.warmup=1", *extra)
    if not apart:
        module.net_factory = partial(build_gem, **SIZES, lora={"r": 4})
    kept = tmp_path / "kept"
    fit(module, data, SaveFinished(tmp_path / "model", kept), SaveAt(4, kept / "four.ckpt"))
    export(kept / "four.ckpt", tmp_path / "exported")
    alone = apart and not extra
    files = {path.name for path in (tmp_path / "exported").iterdir()}
    assert ("adapter_config.json" in files) is alone and ("config.json" in files) is not alone
    wanted, found = (Gem.from_pretrained(tmp_path / name, device="cpu").model for name in ("model", "exported"))
    assert found.state_dict().keys() == wanted.state_dict().keys()
    for name, value in wanted.state_dict().items():
        assert torch.allclose(found.state_dict()[name], value, atol=1e-6), name


def test_what_learned_beside_the_adapters_is_not_lost(base, data, tmp_path):
    module = stage("gem_lora", base, "optim.lr=0.05", "optim.warmup=1", "model.unfreeze=[model.ecg_tower.conv1.*]")
    fit(module, data, SaveFinished(tmp_path / "model"))
    whole = Gem.from_pretrained(tmp_path / "model", device="cpu").model
    before = Gem.from_pretrained(base, device="cpu").model
    assert not torch.equal(whole.model.ecg_tower.conv1.weight, before.model.ecg_tower.conv1.weight)
    assert torch.equal(whole.model.ecg_tower.ln_pre.weight, before.model.ecg_tower.ln_pre.weight)
    assert not (tmp_path / "model" / "adapter_config.json").exists()


def test_adapters_on_parts_without_a_folder_are_merged(data, tmp_path):
    from gem_lightning.models.lora import save_trained

    torch.manual_seed(0)
    network = build_gem(**SIZES, lora={"r": 2})
    save_trained(network, tmp_path)
    data.processor.save_pretrained(tmp_path)
    assert type(Gem.from_pretrained(tmp_path, device="cpu").model).__name__ == "GemForConditionalGeneration"


class Losses(lightning.Callback):
    def __init__(self):
        self.values = []

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.values.append(outputs["loss"].item())


def test_qlora_learns_in_four_bits_and_goes_on_where_it_stopped(base, data, tmp_path):
    bitsandbytes = pytest.importorskip("bitsandbytes")
    overrides = ("model.net.lora={r: 2, lora_dropout: 0.1}", "optim.lr=0.01", "optim.warmup=1")
    whole = Losses()
    module = stage("gem7b_qlora", base, *overrides)
    two, ends = tmp_path / "kept" / "two.ckpt", SaveFinished(tmp_path / "model", tmp_path / "kept")
    trainer = fit(module, data, whole, SaveAt(2, two), ends)
    layer = module.net.get_base_model().model.language_model.layers[0].self_attn.q_proj.base_layer
    assert isinstance(layer, bitsandbytes.nn.Linear4bit)
    assert isinstance(trainer.optimizers[0], bitsandbytes.optim.PagedAdamW8bit)
    assert whole.values[-1] < whole.values[0]
    again = Losses()
    fit(stage("gem7b_qlora", base, *overrides), data, again, ckpt_path=two)
    assert again.values == whole.values[2:]
    export(two, tmp_path / "exported")
    assert answers(Gem.from_pretrained(tmp_path / "exported", device="cpu"), data)
    assert answers(Gem.from_pretrained(tmp_path / "model", device="cpu"), data)


def test_packed_training_goes_on_where_it_stopped(base, data, tmp_path):
    cohort = data.sources["train"]
    whole, first, second = Losses(), Losses(), Losses()

    def packed():
        packed = BatchOptions(pack_to=256, cache=tmp_path)
        return InstructionDataModule(data.processor, cohort, batch_size=1, num_workers=0, batches=packed)

    fit(stage("gem_lora", base), packed(), whole, steps=5)
    fit(stage("gem_lora", base), packed(), first, SaveAt(2, tmp_path / "two.ckpt"), steps=5)
    fit(stage("gem_lora", base), packed(), second, steps=5, ckpt_path=tmp_path / "two.ckpt")
    assert first.values == whole.values
    assert second.values == whole.values[2:]
