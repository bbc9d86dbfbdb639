"""Training of the dense encoder: that it learns, resumes, and beats its floors on patients it never saw."""

import json

import lightning
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from gem_lightning.data.dense import collate
from gem_lightning.errors import DataError
from gem_lightning.evaluation.encoder.intervals import majority_values, score_values
from gem_lightning.lit import AtomicCheckpointIO
from gem_lightning.lit.data.dense import DenseDataModule
from gem_lightning.lit.dense_module import DenseLitModule
from gem_lightning.lit.optim import Optimization
from gem_lightning.models.encoder.dense import DenseEncoder
from gem_lightning.models.encoder.dense_store import load_dense
from helpers_marked import donors
from helpers_training import SaveAt

SMALL = {"width": 64, "layers": 2, "heads": 4, "channels": [16, 48]}


def run(folder, epochs, optim=None, net=SMALL, **options):
    lightning.seed_everything(0, verbose=False)
    module = DenseLitModule(lambda: DenseEncoder(**net), optim or Optimization(lr=2e-3, warmup=0.1), folder / "model")
    trainer = lightning.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        gradient_clip_val=1.0,
        plugins=[AtomicCheckpointIO()],
        enable_checkpointing=False,
        **options,
    )
    return trainer, module


def tiny(**options):
    return DenseDataModule(donors()[:4], donors()[4:], length=8, batch_size=4, **options)


def test_it_trains_validates_and_exports(tmp_path):
    data = tiny()
    trainer, module = run(tmp_path, 1)
    trainer.fit(module, data)
    assert {"val/loss", "val/rate_bpm_mae", "val/p_accuracy", "train/waves"} <= set(trainer.callback_metrics)
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert config["trained_on"] == ["simulator: ours, 4 records"] and config["steps"] == 2
    ecg = torch.randn(1, 12, 5000)
    torch.testing.assert_close(load_dense(tmp_path / "model").read(ecg).waves, module.net.eval().read(ecg).waves)


def test_a_resumed_run_ends_with_the_same_weights(tmp_path):
    whole, module = run(tmp_path, 2, callbacks=[SaveAt(3, tmp_path / "three.ckpt")])
    whole.fit(module, tiny())
    rest, resumed = run(tmp_path, 2)
    rest.fit(resumed, tiny(), ckpt_path=tmp_path / "three.ckpt", weights_only=True)
    for a, b in zip(module.net.parameters(), resumed.net.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_a_patient_is_in_one_split_only():
    with pytest.raises(DataError, match="in both splits"):
        DenseDataModule(donors(), donors()[:1]).setup("fit")


def test_without_records_the_simulator_alone_trains():
    data = DenseDataModule(None, length=2, batch_size=2)
    data.setup("fit")
    assert data.shares == {"simulated": 1.0}
    assert data.datasets["train"][0, 1]["ecg_values"].any()


@pytest.mark.slow
def test_recombined_beats_beat_the_majority(shared_data, tmp_path):
    """The recipe of experiment=ecg_dense_pretrain, a smaller network and a fifteenth of the data.

    That as many simulated ECGs alone teach less is in docs/encoder.md: training twice is too long for a test.
    """
    from gem_lightning.sources.marked import LudbMarks

    folder = shared_data / "ludb_odd"
    if not (folder / "ludb.csv").is_file():
        pytest.skip("LUDB is not here")
    train, held = (list(LudbMarks(str(folder), split)) for split in ("train", "held_out"))
    data = DenseDataModule(train, held, length=1920, batch_size=16)
    trainer, module = run(tmp_path, 1, precision="bf16-mixed")
    trainer.fit(module, data)
    batches = DataLoader(data.datasets["val"], batch_size=10, collate_fn=collate)
    pairs = [(module.net.eval().decode(b["ecg_values"]).float(), b["values"]) for b in batches]
    found, truth = (torch.cat(column).numpy() for column in zip(*pairs))
    learned = score_values(found, truth)
    majority = score_values(np.tile(majority_values(truth), (len(truth), 1)), truth)
    for name, share in (("rate_bpm", 0.4), ("pr_ms", 0.9), ("qrs_ms", 1.0), ("qt_ms", 0.9)):
        assert learned[name].value < share * majority[name].value, name
