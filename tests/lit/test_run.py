"""What users of Lightning and Hydra expect: test stage, callbacks, debug groups, any strategy, a search."""

import json
import os
import subprocess
import sys

import pytest
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.utils import instantiate
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.strategies import DDPStrategy, FSDPStrategy, SingleDeviceStrategy
from omegaconf import OmegaConf

from gem_lightning.errors import GemError
from gem_lightning.lit import KeepLast, ShardedStrategy
from gem_lightning.lit.plan import refuse_what_cannot_work
from gem_lightning.lit.strategies import SHARDED, strategy_kind
from gem_lightning.train import settings_of, train

SMALL = ("data.train.n=8", "data.val.n=4", "data.batch_size=2", "callbacks.samples=null", "trainer.accelerator=cpu")


def composed(*overrides, experiment="gem_tiny"):
    GlobalHydra.instance().clear()
    with initialize_config_module("gem_lightning.conf", version_base="1.3"):
        return compose("train", [f"experiment={experiment}", *overrides])


def config(tmp_path, *overrides):
    return composed(f"paths.output={tmp_path}", f"paths.cohorts={tmp_path}/cohorts", *SMALL, *overrides)


def test_test_stage_uses_the_best_weights_and_returns_the_metric(tmp_path):
    overrides = ["data.test=${data.val}", "test=true", "optimized_metric=test/loss"]
    loss = train(config(tmp_path, *overrides))
    assert json.loads((tmp_path / "test.json").read_text()) == {"test/loss": loss}
    best = json.loads((tmp_path / "checkpoints" / "best.json").read_text())
    assert loss == pytest.approx(best["val/loss"], rel=1e-5)  # the same samples and weights
    again = train(config(tmp_path, *overrides, "train=false", "ckpt_path=last"))
    assert again == pytest.approx(loss, rel=1e-5)
    table = (tmp_path / "logs" / "csv" / "metrics.csv").read_text()
    assert "train/loss" in table  # a test alone leaves the run's own logs as they are


def test_a_test_without_samples_is_refused(tmp_path):
    with pytest.raises(GemError, match=r"test samples .* got data\.test=null"):
        train(config(tmp_path, "test=true"))


def test_lightnings_callbacks_stop_and_save(tmp_path):
    chosen = "callbacks=[default,early_stopping,model_checkpoint]"
    cfg = config(tmp_path, chosen, "callbacks.early_stopping.patience=1", "callbacks.early_stopping.min_delta=1e9")
    cfg.trainer.max_epochs = 5
    train(cfg)
    assert (tmp_path / "checkpoints" / "best.ckpt").is_file()
    steps = sorted(path.name for path in (tmp_path / "checkpoints").glob("step-*.ckpt"))
    assert steps[-1] == "step-0000008.ckpt"  # two epochs of four steps: the second brought no improvement
    assert train(config(tmp_path, chosen, "ckpt_path=last", "trainer.max_epochs=3")) is not None


def test_our_checkpoint_callback_is_lightnings():
    found = [instantiate(node) for node in composed("paths.output=x").callbacks.values()]
    assert issubclass(KeepLast, ModelCheckpoint) and not any(isinstance(one, EarlyStopping) for one in found)


@pytest.mark.parametrize("name", ["default", "overfit", "limit", "profiler"])
def test_debug_groups_build_their_trainer(name):
    cfg = composed(f"debug={name}", "paths.output=x")
    assert (cfg.callbacks, cfg.logger, cfg.data.num_workers) == (None, None, 0)
    assert instantiate(cfg.trainer, logger=False).max_epochs == cfg.trainer.max_epochs


def test_overfitting_repeats_its_batches(tmp_path):
    seen = []
    cfg = config(tmp_path, "data.batch_size=1")
    data, module = instantiate(cfg.data), instantiate(cfg.model)
    data.prepare_data()

    class Reader(type(module)):
        def training_step(self, batch, batch_idx):
            seen.append(batch["ids"])
            return super().training_step(batch, batch_idx)

    module.__class__ = Reader
    overrides = composed("debug=overfit", "trainer.max_epochs=3", "trainer.accelerator=cpu").trainer
    instantiate(overrides, logger=False, enable_progress_bar=False, enable_checkpointing=False).fit(module, data)
    assert len(seen) == 9 and seen[:3] == seen[3:6] == seen[6:]


@pytest.mark.parametrize(
    ("strategy", "kind"),
    [
        ("auto", "ddp"),
        ("ddp_find_unused_parameters_true", "ddp"),
        ("fsdp", "fsdp"),
        ("fsdp_cpu_offload", "fsdp"),
        ("deepspeed_stage_2", "ddp"),
        ("deepspeed_stage_3_offload", "deepspeed_stage_3"),
        (type("Own", (FSDPStrategy,), {}), "fsdp"),
        (ShardedStrategy, "fsdp2"),
        (DDPStrategy(), "ddp"),
        (SingleDeviceStrategy, "single"),
    ],
)
def test_a_strategy_is_recognised_by_its_class(strategy, kind):
    assert strategy_kind(strategy, devices=2) == kind


@pytest.mark.parametrize(
    "strategy",
    ["fsdp", "deepspeed_stage_3", "{_target_: lightning.pytorch.strategies.FSDPStrategy}",
     "{_target_: lightning.pytorch.strategies.DeepSpeedStrategy, stage: 3}"],
)  # fmt: skip
def test_sharded_strategies_of_any_name_refuse_adapters(strategy):
    cfg = composed(f"trainer.strategy={strategy}", "model.net.lora={r: 4}", "trainer.devices=2")
    run = settings_of(cfg, instantiate(cfg.model))
    assert run.strategy in SHARDED
    with pytest.raises(GemError, match="no adapters for strategy"):
        refuse_what_cannot_work(run)


def test_an_unknown_strategy_is_refused():
    with pytest.raises(GemError, match=r"one of .*ddp.*, got 'dpp'"):
        strategy_kind("dpp")


@pytest.mark.parametrize("experiment", ["ecg_coca_pretrain", "ecg_mae_pretrain", "ecg_clip_pretrain", "gem_tiny"])
def test_optim_reaches_every_network(experiment):
    cfg = composed("optim.lr=0.5", "optim.optimizer.eps=0.25", "paths.output=x", experiment=experiment)
    optim = instantiate(cfg.model).optim
    assert (optim.lr, optim.optimizer.keywords["eps"]) == (0.5, 0.25)
    assert (
        "8bit" in composed("optim=paged_adamw_8bit", "paths.output=x", experiment=experiment).optim.optimizer._target_
    )


def test_one_root_for_all_ecgs():
    cfg = composed("data=instructions", "data.train=x", "data.root=/x", "data.samples.paths={a: /y}", "paths.output=x")
    assert instantiate(cfg.data, processor=None).paths == {"": "/x", "a": "/y"}


@pytest.mark.parametrize(
    ("config_name", "override", "key"),
    [
        ("evaluate", "benchmark.folders={a: /x}", "benchmark.folders"),
        ("evaluate", "benchmark.prompt_files={a: /x}", "benchmark.prompt_files"),
        ("evaluate", "benchmark.root=/x", "benchmark.root"),
        ("predict", "reading={fs: 500}", "reading"),
    ],
)
def test_mappings_and_roots_are_set_as_documented(config_name, override, key):
    GlobalHydra.instance().clear()
    chosen = ["benchmark=ecgbench"] if config_name == "evaluate" else []
    with initialize_config_module("gem_lightning.conf", version_base="1.3"):
        assert OmegaConf.select(compose(config_name, [*chosen, override]), key) is not None


@pytest.mark.slow
def test_a_search_over_hyperparameters_runs(tmp_path):
    command = [sys.executable, "-m", "gem_lightning.train", "-m", "experiment=gem_tiny", "hparams_search=optuna"]
    command += [*SMALL, "hydra.sweeper.n_trials=2", f"paths.cohorts={tmp_path}/cohorts"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    (results,) = (tmp_path / "multirun").rglob("optimization_results.yaml")
    found = OmegaConf.load(results)
    assert set(found.best_params) == {"optim.lr", "optim.warmup"} and found.best_value > 0
