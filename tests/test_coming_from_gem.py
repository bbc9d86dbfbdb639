"""docs/coming_from_gem.md: the table of flags holds for the composed experiment, and names every flag."""

import pathlib
import re

import pytest
import yaml
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from gem_lightning.models.configuration_gem import EcgConfig, GemConfig

PAGE = pathlib.Path(__file__).parent.parent / "docs" / "coming_from_gem.md"
# of train_gem.sh, read from the published script
FLAGS = """
deepspeed model_name_or_path version data_path ecg_folder ecg_tower open_clip_config image_folder vision_tower
mm_projector_type mm_vision_select_layer mm_use_im_start_end mm_use_im_patch_token image_aspect_ratio
group_by_modality_length bf16 output_dir num_train_epochs per_device_train_batch_size per_device_eval_batch_size
gradient_accumulation_steps evaluation_strategy save_strategy save_steps save_total_limit learning_rate
weight_decay warmup_ratio lr_scheduler_type logging_steps tf32 model_max_length gradient_checkpointing
dataloader_num_workers lazy_preprocess report_to nproc_per_node nnodes
"""
# of the dataclasses of its train.py
ARGUMENTS = """
freeze_backbone tune_mm_mlp_adapter checkpoint_path ecg_projector_type pretrain_ecg_projector
pretrain_mm_mlp_adapter mm_patch_merge_type mm_vision_select_feature is_multimodal ecg_seq_length cache_dir optim
remove_unused_columns freeze_mm_mlp_adapter mpt_attn_impl double_quant quant_type bits lora_enable lora_r
lora_alpha lora_dropout lora_weight_path lora_bias mm_projector_lr attn_implementation
"""


def rows():
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 4 and cells[0].startswith("`--"):
            yield re.findall(r"`--(\w+)`", cells[0]), *cells[1:]


@pytest.fixture(scope="module")
def gem7b():
    GlobalHydra.instance().clear()
    with initialize_config_module("gem_lightning.conf", version_base="1.3"):
        return compose("train", ["experiment=gem7b", "paths.output=unused"])


def test_every_flag_is_in_the_table():
    named = [flag for flags, *_ in rows() for flag in flags]
    assert len(named) == len(set(named))
    assert not set((FLAGS + ARGUMENTS).split()) - set(named)


@pytest.mark.parametrize(
    ("flags", "original", "key", "value"), rows(), ids=lambda v: v[0] if isinstance(v, list) else ""
)
def test_a_row_holds(gem7b, flags, original, key, value):
    if not re.fullmatch(r"`[\w.]+`", key):
        assert not value
        return
    key = key.strip("`")
    raw = OmegaConf.to_container(gem7b, resolve=False) | {"GemConfig": vars(GemConfig), "EcgConfig": vars(EcgConfig)}
    for part in key.split("."):
        assert part in raw, f"{key} is no key of the config"
        raw = raw[part]
    assert raw == yaml.safe_load(value), key


def test_numbers_of_the_original_are_ours(gem7b):
    """Where the original's value is a number of the same meaning, ours is that number."""
    other = {"dataloader_num_workers", "bits"}  # processes change the speed; 16 bits are no quantisation
    for flags, original, key, value in rows():
        numbers = [float(n) for n in re.findall(r"^-?[\d.e-]+$", original)]
        if numbers and key.startswith("`") and not set(flags) & other:
            assert float(yaml.safe_load(value)) == numbers[0], flags
