"""Training as the original does: stored images, drawn ones where the file is missing, saves at shares of the run."""

import json
import logging

import numpy as np
import PIL.Image
import pytest

from gem_lightning.data import SimulatedCohort
from gem_lightning.errors import DataError
from gem_lightning.lit import InstructionDataModule, KeepLast
from gem_lightning.lit.data.instruction import SampleOptions
from gem_lightning.models import build_gem, build_processor, load_original, save_original
from gem_lightning.models.planning.memory import config_for
from gem_lightning.render import EcgRenderer
from gem_lightning.samples.io import write_samples
from gem_lightning.samples.sample import InstructionSample
from helpers_training import fit, parts


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """The original's tree: images and ECGs below folders of their own; the second image is missing."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "ecg_images" / "mimic").mkdir(parents=True)
    PIL.Image.fromarray(np.full((70, 90, 3), 7, np.uint8)).save(folder / "ecg_images" / "mimic" / "1.png")
    turns = [{"from": "human", "value": "<image>\nRead this."}, {"from": "gpt", "value": "Sinus rhythm."}]
    rows = [InstructionSample(i, turns, ecg=f"simulate:sinus::{i}", image=f"mimic/{i}.png") for i in (1, 2)]
    write_samples(rows, folder / "train.json")
    return folder


def module(tree, tiny_gem, draw, renderer=None, **roots):
    options = SampleOptions(renderer=renderer or EcgRenderer(size=(56, 72)), draw=draw)
    root = {"image": str(tree / "ecg_images")} | roots
    return InstructionDataModule(tiny_gem.processor, str(tree / "train.json"), root=root, samples=options)


def test_stored_images_are_opened_and_missing_ones_stop(tree, tiny_gem):
    with pytest.raises(DataError, match=r"1 samples have no file: 2: .*ecg_images/mimic/2.png"):
        module(tree, tiny_gem, "never").dataset("train")


def test_missing_images_are_drawn_and_counted(tree, tiny_gem, caplog):
    caplog.set_level(logging.INFO)
    found = module(tree, tiny_gem, "missing").dataset("train")
    images = [found.example(i)["image"] for i in (0, 1)]
    assert (images[0] == 7).all() and images[0].shape == (70, 90, 3)
    assert images[1].shape == (56, 72, 3) and images[1].std() > 0
    assert "1 without image, drawn" in caplog.text


def test_all_are_drawn_where_the_config_says_so(tree, tiny_gem):
    found = module(tree, tiny_gem, "always").dataset("train")
    assert all(found.example(i)["image"].shape == (56, 72, 3) for i in (0, 1))


def test_a_root_of_something_else_is_refused(tree, tiny_gem):
    with pytest.raises(DataError, match="ecg, image"):
        module(tree, tiny_gem, "never", images="x")


@pytest.fixture
def llava(golden, tmp_path):
    """A base in the layout of LLaVA-1.6: tiles, and a newline after each row."""
    import shutil

    gem_tiny, folder = golden / "gem_tiny", tmp_path / "llava"
    shutil.copytree(gem_tiny / "model", folder)
    shutil.copytree(gem_tiny / "clip-vit-tiny-patch14-336", tmp_path / "clip-vit-tiny-patch14-336")
    shutil.copy(gem_tiny / "coca_tiny.json", tmp_path)
    raw = json.loads((folder / "config.json").read_text())
    raw |= {"image_aspect_ratio": "anyres", "mm_patch_merge_type": "spatial_unpad"}
    raw |= {"image_grid_pinpoints": [[336, 672], [672, 336]], "open_clip_config": "coca_tiny"}
    (folder / "config.json").write_text(json.dumps(raw))
    return folder


def test_a_base_of_tiles_is_trained_flat(llava, caplog, tmp_path):
    caplog.set_level(logging.INFO)
    net = {"checkpoint": str(llava), "image_merge": "flat", "vision": "openai/clip-vit-large-patch14-336"}
    model, processor = build_gem(**net), build_processor(None, net, image_mode="ori", contract=None, chat=None)
    assert model.config.image_merge == processor.image.image_merge == config_for(net).image_merge == "flat"
    assert "image_merge=flat in place of the checkpoint's spatial_unpad" in caplog.text
    assert "processor.image_mode=ori in place of the checkpoint's anyres" in caplog.text
    assert processor.contract == "gem" and processor.chat == "llava_v1"
    image = np.zeros((435, 336, 3), np.uint8)
    ids = processor.encode([{"from": "human", "value": "<image>\nWhat?"}], [np.zeros((12, 5000))], [image])["input_ids"]
    assert sum(i >= 1_000_000 for i in ids) == 677  # as REFERENCE: 101 + 576
    save_original(model, processor, tmp_path / "trained")
    raw = json.loads((tmp_path / "trained" / "config.json").read_text())
    assert (raw["image_aspect_ratio"], raw["mm_patch_merge_type"]) == ("ori", "flat")
    again = load_original(tmp_path / "trained")[1]
    assert (again.image.image_mode, again.image.image_merge) == ("ori", "flat")


def test_without_a_choice_the_checkpoint_s_values_hold(llava):
    net = {"checkpoint": str(llava), "image_merge": None}
    model, processor = build_gem(**net), build_processor(None, net, image_mode=None)
    assert model.config.image_merge == processor.image.image_merge == "spatial_unpad"
    assert processor.image.image_mode == "anyres"


def test_a_field_that_the_weights_decide_is_refused(llava):
    with pytest.raises(DataError, match="projector_type"):
        build_gem(checkpoint=str(llava), projector_type="linear")


def test_saves_at_shares_of_the_run(tmp_path):
    cohort = SimulatedCohort(tmp_path / "cohort", n=12, seed=3, workers=1)
    cohort.prepare()
    keep = KeepLast(tmp_path / "kept", every_n_steps=0.2, keep=5)
    fit(*parts(cohort, "data.batch_size=1"), keep, max_epochs=1)
    assert [path.name for path in sorted((tmp_path / "kept").glob("*.ckpt"))] == [
        f"step-{step:07d}.ckpt" for step in (3, 6, 9, 12)
    ]
