"""Streaming shards through Lightning: dealt over ranks and workers, resumed to the sample, and said at the start."""

import logging

import lightning
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from gem_lightning.data import write_shards
from gem_lightning.lit import InstructionDataModule
from gem_lightning.lit.data.instruction import BatchOptions, SampleOptions
from gem_lightning.samples.io import write_samples
from gem_lightning.samples.sample import InstructionSample


def sample(i):
    turns = [{"from": "human", "value": "<image>\nRead this."}, {"from": "gpt", "value": "Sinus. " * (1 + i % 7)}]
    return InstructionSample(f"s{i}", turns, ecg=f"simulate:sinus?snr_db=25::{i % 3}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("streamed")
    write_samples([sample(i) for i in range(41)], folder / "data.jsonl")
    write_samples([sample(i) for i in range(100, 106)], folder / "few.json")
    write_shards(folder / "data.jsonl", folder / "shards", workers=0, block=4)
    return folder


@pytest.fixture
def data(folder, tiny_gem):
    def make(weights=None, **options):
        given = {"train": str(folder / "shards"), "batch_size": 3, "num_workers": 0}
        batches = BatchOptions(length_window=2, weights=weights)
        return InstructionDataModule(tiny_gem.processor, **given | options, batches=batches)

    return make


class Reader(lightning.LightningModule):
    """Notes what it is given."""

    def __init__(self):
        super().__init__()
        self.weight, self.seen = torch.nn.Parameter(torch.zeros(1)), []

    def training_step(self, batch, batch_idx):
        self.seen.append(batch["ids"])
        return self.weight.sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Stop(lightning.Callback):
    def __init__(self, step):
        self.step = step

    def on_train_batch_end(self, trainer, module, *_):
        trainer.should_stop = trainer.global_step >= self.step


def fit(data, *callbacks, ckpt_path=None):
    trainer = lightning.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False, min_epochs=0,
        max_epochs=3, use_distributed_sampler=False, accumulate_grad_batches=2, callbacks=list(callbacks),
        enable_checkpointing=bool(callbacks),
    )  # fmt: skip
    module = Reader()
    trainer.fit(module, data, ckpt_path=ckpt_path, weights_only=True)
    return module.seen


@pytest.mark.parametrize("step", [3, 7, 14])
def test_streamed_shards_go_on_with_the_next_sample(data, tmp_path, step):
    whole = fit(data())
    assert len(whole) == 3 * 13
    for epoch in range(3):
        ids = [name for batch in whole[13 * epoch : 13 * (epoch + 1)] for name in batch]
        assert len(set(ids)) == 39
    keep = ModelCheckpoint(dirpath=tmp_path, every_n_train_steps=1, save_last=True, save_top_k=0)
    first = fit(data(), keep, Stop(step))
    assert first + fit(data(), ckpt_path=tmp_path / "last.ckpt") == whole


def test_ranks_share_an_epoch_and_all_say_the_same_to_themselves(data, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    dealt = []
    for rank in range(2):
        monkeypatch.setattr(InstructionDataModule, "share", (rank, 2))
        dealt.append([batch["ids"] for batch in data().train_dataloader()])
    assert [len(batches) for batches in dealt] == [6, 6]
    assert len({name for batches in dealt for batch in batches for name in batch}) == 36
    assert caplog.text.count("shards 41 x 1") == 1


def test_several_sources_by_weight_with_questions(data, folder, caplog):
    caplog.set_level(logging.INFO)
    sources = {"stream": str(folder / "shards"), "few": str(folder / "few.json")}
    options = {"val": str(folder / "few.json"), "samples": SampleOptions(question="Please: {question}")}
    module = data(train=sources, weights={"few": 2}, **options)
    ids = [name for batch in module.train_dataloader() for name in batch["ids"]]
    assert len(ids) == 51
    assert sum(int(name[1:]) >= 100 for name in ids) >= 10
    assert "stream 41 x 1, few 6 x 2" in caplog.text
    tokens = module.dataset("train")[41]["input_ids"]
    assert len(tokens) > len(module.dataset("val")[0]["input_ids"])  # held-out questions stay as they are
    assert [e["id"] for e in module.examples(2)] == ["s100", "s101"]
    assert caplog.text.count("val:") == 1


@pytest.mark.slow
def test_worker_processes_deal_the_same_batches(data):
    alone = [batch["ids"] for batch in data().train_dataloader()]
    assert [batch["ids"] for batch in data(num_workers=2).train_dataloader()] == alone
