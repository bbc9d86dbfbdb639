"""An encoder keeps its own loss while the language model trains, and every saved tensor survives an export."""

from functools import partial

import lightning
import pytest
import torch
from torch.utils.data import DataLoader

from gem_lightning.data import (
    ConversationCohort,
    ConversationPlan,
    GemCollator,
    InstructionDataset,
    Mixture,
    SimulatedRecords,
    encoder_targets,
)
from gem_lightning.errors import GemError
from gem_lightning.lit import GemLitModule, KeepLast, SaveFinished
from gem_lightning.lit.checkpointing.export import export
from gem_lightning.lit.optim import Optimization
from gem_lightning.models import build_gem, build_processor, load_gem, small_tokenizer
from gem_lightning.models.encoder.dense_tower import DenseTower

LLM = {"model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1,
       "num_attention_heads": 2, "num_key_value_heads": 2, "vocab_size": 1024, "tie_word_embeddings": True}  # fmt: skip
SIZES = {"width": 32, "layers": 1, "heads": 2, "channels": [8, 16]}
PARTS = {"llm": LLM, "ecg": partial(DenseTower, encoder=SIZES, pooled=25), "vision": "none"}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    cohort = ConversationCohort(
        tmp_path_factory.mktemp("c"), SimulatedRecords(("sinus",)), 2, 3, ConversationPlan(per_record=2), workers=1
    )
    cohort.prepare()
    return InstructionDataset(Mixture(cohort), build_processor(small_tokenizer(), PARTS), targets=encoder_targets)


def fit(dataset, weight, *callbacks, net=PARTS, steps=2):
    lightning.seed_everything(0, verbose=False)
    module = GemLitModule(partial(build_gem, **net), Optimization(lr=1e-3), auxiliary_weight=weight)
    loader = DataLoader(dataset, batch_size=4, collate_fn=GemCollator(dataset.processor))
    trainer = lightning.Trainer(
        max_epochs=-1, max_steps=steps, accelerator="cpu", logger=False, callbacks=list(callbacks),
        enable_checkpointing=bool(callbacks), enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    data = lightning.LightningDataModule.from_datasets(dataset)
    data.processor, data.train_dataloader = dataset.processor, lambda: loader
    trainer.fit(module, data)
    return module, trainer.callback_metrics


def test_targets_come_with_the_batch_for_the_signals_that_have_them(dataset):
    items = [dataset[k] for k in range(3)]
    items[1]["targets"] = None
    batch = GemCollator(dataset.processor)(items)
    assert batch["target_rows"].tolist() == [0, 2] and batch["ecg_values"].shape == (3, 12, 5000)
    assert {name: tuple(value.shape) for name, value in batch["targets"].items()} == {
        "waves": (2, 3, 500), "values": (2, 33)
    }  # fmt: skip
    for item in items:
        item["targets"] = None
    assert not GemCollator(dataset.processor)(items).keys() & {"targets", "target_rows"}


def test_the_encoders_own_loss_is_added_and_trains_its_heads(dataset):
    plain, without = fit(dataset, 0.0)
    both, logged = fit(dataset, 0.5)
    assert "train/encoder_loss" not in without and logged["train/encoder_loss"] > 0

    def moved(module):
        lightning.seed_everything(0, verbose=False)
        fresh = build_gem(**PARTS).model.ecg_tower.encoder.wave_head.mix[0].weight
        return (module.net.model.ecg_tower.encoder.wave_head.mix[0].weight - fresh).abs().max()

    assert moved(plain) == 0 < moved(both)  # what a text never sees learns from the targets alone


def test_an_encoder_without_readings_is_refused(dataset):
    with pytest.raises(GemError, match="auxiliary_weight=0"):
        fit(dataset, 0.5, net=PARTS | {"ecg": {"width": 32, "head_width": 16, "layers": 1}})


def test_an_export_keeps_the_encoders_running_means_and_ties_embeddings(dataset, tmp_path):
    keep = KeepLast(tmp_path / "checkpoints", every_n_steps=1)
    module, _ = fit(dataset, 0.5, keep, SaveFinished(tmp_path / "model", tmp_path / "checkpoints"))
    checkpoint = max((tmp_path / "checkpoints").glob("*.ckpt"))
    export(checkpoint, tmp_path / "exported")
    name = "model.ecg_tower.encoder.trunk.near.1.running_mean"
    trained = module.net.state_dict()
    assert trained[name].abs().sum() > 0
    for folder in ("model", "exported"):
        loaded = load_gem(tmp_path / folder)[0].state_dict()
        assert all(torch.equal(loaded[key], value) for key, value in trained.items()), folder
