"""Every experiment composes, and builds what it names when its sizes are made tiny."""

import importlib.util
import pathlib
import sys

import gem_lightning.conf
import pytest
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import OmegaConf

from gem_lightning.errors import GemError

CONF = pathlib.Path(gem_lightning.conf.__file__).parent
CARDS = pathlib.Path(__file__).parents[1] / "docs" / "experiments.py"
EXPERIMENTS = sorted(p.stem for p in (CONF / "experiment").glob("*.yaml"))
PARTS = ["model/net/llm=tiny", "model/net/ecg=tiny", "model/net/vision=tiny", "processor=tiny", "data.train=none"]
TINY = {
    "gem7b": PARTS,
    "gem7b_plus": PARTS,
    "align": PARTS,
    "gem7b_lora": PARTS,
    "gem7b_qlora": ["data.train=none", "model.net.ecg=null", "model.net.checkpoint={base}"],
    "gem_lora": ["data.train=none", "model.net.checkpoint={base}"],
    "gem_lora_sweep": ["data.train=none", "model.net.checkpoint={base}"],
    "ecg_dense_pretrain": ["data.train.root=unused"],
    "gem_grpo": ["model.net.checkpoint={base}"],
    "gem_rft": ["model.net.checkpoint={base}"],
    "gem_dpo": ["model.net.checkpoint={base}"],
    "gem_small": ["data.train.recombined.records.donors.root=unused"],
}


def composed(*overrides, config="train"):
    GlobalHydra.instance().clear()
    with initialize_config_module("gem_lightning.conf", version_base="1.3"):
        return compose(config, ["paths.output=unused", *overrides] if config == "train" else list(overrides))


@pytest.fixture(scope="module")
def cards():
    """The script that writes docs/experiments.md, imported."""
    spec = importlib.util.spec_from_file_location("experiments", CARDS)
    module = sys.modules["experiments"] = importlib.util.module_from_spec(spec)  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules["experiments"]


def test_every_experiment_has_its_card(cards):
    stored = cards.PAGE.read_text(encoding="utf-8")
    stated = [line for line in stored.splitlines() if not line.startswith(("| planned", "| parameters"))]
    assert stated == cards.page(planned=False).splitlines(), "run: make docs"
    assert stored.count("| planned: memory") == len(cards.CARDS)


@pytest.mark.slow
def test_planned_values_are_those_of_the_planner(cards, tmp_path):
    base, stored = cards.full_size(tmp_path), cards.PAGE.read_text(encoding="utf-8")
    large = [name for name, card in cards.CARDS.items() if card.stand_in is None]
    for name in (*large, "gem_tiny"):  # the other small ones differ from it by their data, which take minutes to make
        assert "\n".join(cards.plan_rows(name, base)) in stored, "run: make docs"


@pytest.fixture(scope="module")
def base(tiny_gem, tmp_path_factory):
    """A small model's folder, for experiments that start from one."""
    folder = tmp_path_factory.mktemp("base")
    tiny_gem.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiment_builds(name, base):
    cfg = composed(f"experiment={name}", *(part.format(base=base) for part in TINY.get(name, ())))
    assert cfg.name == name
    module = instantiate(cfg.model)
    module.configure_model()
    assert sum(p.numel() for p in module.parameters()) < 5e6
    assert instantiate(cfg.data) is not None
    for callback in filter(None, cfg.callbacks.values()):
        assert instantiate(callback) is not None


def test_the_dense_encoder_continues_from_weights(tmp_path):
    from gem_lightning.models.encoder.dense import DenseEncoder
    from gem_lightning.models.encoder.dense_store import save_dense

    save_dense(DenseEncoder(width=16, layers=1, heads=1, channels=[4, 8]), tmp_path)
    chosen = ["model=ecg_dense_continue", f"model.net.folder={tmp_path}", "data.train.root=unused"]
    module = instantiate(composed("experiment=ecg_dense_pretrain", *chosen).model)
    module.configure_model()
    assert module.net.width == 16
    assert module.net.training


def test_gem7b_asks_for_a_trained_ecg_tower():
    cfg = composed("experiment=gem7b", *(part for part in PARTS if "ecg" not in part))
    assert "model.net.ecg" in OmegaConf.missing_keys(cfg)


def test_gem7b_is_the_originals_recipe():
    cfg = composed("experiment=gem7b", *TINY["gem7b"])
    trainer, model, data, optim = cfg.trainer, cfg.model, cfg.data, cfg.model.optim
    assert trainer.devices * data.batch_size * trainer.accumulate_grad_batches == 256
    assert (optim.lr, optim.warmup, optim.weight_decay, optim.final_lr) == (2e-5, 0.03, 0.0, 0.0)
    assert (trainer.max_epochs, trainer.gradient_clip_val, data.max_length) == (1, 1.0, 4096)
    assert trainer.precision.startswith("bf16")
    assert list(model.freeze) == ["model.ecg_tower.*", "model.vision_tower.*"]
    assert (cfg.processor.contract, cfg.processor.image_mode, data.samples.draw) == ("gem", "ori", "never")
    assert instantiate(data).contract == "gem"


def test_adapters_keep_what_the_checkpoint_says(base):
    cfg = composed("experiment=gem7b_qlora", *(part.format(base=base) for part in TINY["gem7b_qlora"]))
    assert {cfg.processor[name] for name in ("image_mode", "contract", "chat")} == {None}
    assert cfg.model.net.image_merge is None


@pytest.mark.parametrize("config", ["predict", "evaluate", "generate", "serve"])
def test_other_entry_points_compose(config):
    assert composed(config=config)


@pytest.mark.parametrize("name", ["ecgbench", "grounding"])
def test_answers_are_as_long_as_the_original_s(name):
    assert composed(f"benchmark={name}", config="evaluate").max_new_tokens == 1024
    assert composed(f"benchmark={name}", "max_new_tokens=8", config="evaluate").max_new_tokens == 8
    assert composed("benchmark=simulator", config="evaluate").max_new_tokens == 256


def test_strategies_compose():
    for path in (CONF / "strategy").glob("*.yaml"):
        cfg = composed("experiment=gem_tiny", f"strategy={path.stem}")
        assert cfg.trainer.strategy


@pytest.mark.parametrize("name", sorted(p.stem for p in (CONF / "benchmark").glob("*.yaml")))
def test_benchmark_is_callable(name):
    needed = {
        "claims": ["benchmark.source.root=unused"],
        "ecgbench": ["benchmark.folder=unused"],
        "encoder": ["benchmark.data=unused", "benchmark.task=simulated"],
        "reasoning": ["benchmark.file=unused"],
        "grounding": ["benchmark.judges=[]", "benchmark.judgements=unused"],
    }
    cfg = composed(f"benchmark={name}", "out=unused", *needed.get(name, ()), config="evaluate")
    try:
        benchmark = instantiate(cfg.benchmark, _convert_="all")
    except InstantiationException as error:  # a folder that is not there is the next mistake, after the config
        assert isinstance(error.__cause__, GemError | FileNotFoundError), error
    else:
        assert callable(benchmark)
