"""Mistakes in a run's config: told by the key to change, before anything is built, from the targets' own signatures."""

import pathlib

import gem_lightning.conf
import pytest
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra

from gem_lightning.config.types import check_types, describe, fits
from gem_lightning.config.validate import check_complete, check_config, check_devices, check_ranges
from gem_lightning.errors import GemError

EXPERIMENTS = sorted(path.stem for path in (pathlib.Path(gem_lightning.conf.__file__).parent / "experiment").glob("*"))
GIVEN = ("model.net.ecg=x", "data.train=x")
MORE = {"gem7b": GIVEN, "gem7b_plus": GIVEN, "align": GIVEN, "gem7b_lora": GIVEN, "gem7b_qlora": GIVEN} | dict.fromkeys(
    ("gem_lora", "gem_lora_sweep"), ("data.train=x",)
)
MORE |= {"ecg_dense_pretrain": ("data.train.root=x",), "gem_small": ("data.train.recombined.records.donors.root=x",)}


def composed(*overrides):
    GlobalHydra.instance().clear()
    with initialize_config_module("gem_lightning.conf", version_base="1.3"):
        return compose("train", ["paths.output=unused", *overrides])


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_passes(name):
    """Encoders too, whose configs hold a processor that points at a language model they lack."""
    check_config(composed(f"experiment={name}", *MORE.get(name, ())))


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("optim.lr=abc", "optim.lr to be a number above 0, got 'abc'"),
        ("optim.lr=null", "optim.lr to be float, got None"),
        ("optim.lr=-1", "optim.lr to be a number above 0"),
        ("optim.lr=nan", "optim.lr to be a number above 0"),
        ("optim.optimizer.betas=[0.9]", "optim.optimizer.betas to be list of 2"),
        ("data.batch_size=0", "data.batch_size to be an int, at least 1, got 0"),
        ("data.batch_size=two", "data.batch_size"),
        ("data.num_workers=-1", "data.num_workers"),
        ("data.batches.pack_to=abc", "data.batches.pack_to"),
        ("data.train.n=x", "data.train.n to be int, got 'x'"),
        ("trainer.max_steps=0", "trainer.max_steps to be an int, at least 1, or -1"),
        ("trainer.max_epochs=0", "trainer.max_epochs"),
        ("trainer.max_epochs=null", "a run with an end"),
        ("trainer.accumulate_grad_batches=0", "accumulate_grad_batches"),
        ("trainer.precision=bf17", "bf16-mixed, 32-true"),
        ("trainer.devices=0", "at least one device"),
        ("model.freeze=abc", "model.freeze to be list, got 'abc'"),
        ("model.lr_by_pattern={a.*: b}", "model.lr_by_pattern of a.*"),
        ("model.net.lora=4", "model.net.lora to be mapping or null, got 4"),
        ("seed=-1", "seed to be an int from 0"),
        ("dry_run=no", "dry_run to be true or false"),
        ("seed=null", "seed to be an int from 0"),
        ("check_memory=null", "check_memory to be true or false, got None"),
        ("mfu=null", "mfu to be a share above 0, at most 1, got None"),
        ("peak_tflops=null", "peak_tflops to be a number above 0, got None"),
        ("data.batch_size=${.batches.pack_to}", "data.batch_size to be int, got None"),
        ("render.size=5", "render.size to be list"),
        ("callbacks.keep_last.keep=0", "callbacks.keep_last.keep"),
        ("optim.optimizer._target_=torch.optim.Adamm", "torch.optim.Adamm"),
    ],
)
def test_a_wrong_value_is_told_by_its_key(override, said):
    with pytest.raises(GemError) as error:
        check_config(composed("experiment=gem_tiny", override))
    assert said in str(error.value)


def test_a_value_by_a_relative_key_is_told_by_its_own():
    for pointer in ("${.batches.pack_to}", "${..data.batches.pack_to}"):
        cfg = composed("experiment=gem_tiny", "data.batches.pack_to=2.5", f"data.batch_size={pointer}")
        with pytest.raises(GemError, match=r"expected data\.batch_size to be an int, at least 1, got 2\.5"):
            check_ranges(cfg)


def test_several_wrong_types_are_told_at_once():
    with pytest.raises(GemError, match=r"render\.size to be list or null, got 5; .*to be int"):
        check_types(composed("experiment=gem_tiny", "render.size=5", "data.val.n=x"))


def test_values_that_only_the_user_can_give_are_named():
    with pytest.raises(GemError, match=r"values for data\.train, model\.net\.ecg, got none; add data\.train="):
        check_complete(composed("experiment=gem7b"))


def test_numbers_that_fit_pass():
    check_ranges(composed("experiment=gem_tiny", "optim.lr=1", "trainer.max_steps=-1", "optim.warmup=0"))


@pytest.mark.parametrize(
    ("value", "hint", "right"),
    [(1, float, True), (True, int, False), (1.0, int, False), ("a", pathlib.Path, True), ("a", list[str], False)],
)
def test_what_fits_where(value, hint, right):
    assert fits(value, hint) is right
    assert describe(hint)


def test_devices_that_are_not_there():
    for accelerator in ("auto", "gpu"):
        with pytest.raises(GemError, match="expected 999 GPUs"):
            check_devices(accelerator, 999)
    check_devices("cpu", 2)
    check_devices("auto", 1)
    check_devices("auto", "auto")
