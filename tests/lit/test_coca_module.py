"""Encoder training: every variant runs from its config, a restart changes nothing, two processes equal one."""

import subprocess
import sys
from dataclasses import replace

import lightning
import pytest
import torch
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.utils import instantiate

from gem_lightning.data.ecg_text.dataset import EcgText, EcgTextTable
from gem_lightning.errors import DataError
from gem_lightning.models.encoder.coca import EcgCoCa
from gem_lightning.models.encoder.transformer import EcgTransformer
from helpers_training import StopAfter

SMALL = [
    "model.net.ecg.width=32", "model.net.ecg.layers=1", "model.net.ecg.head_width=16", "model.net.ecg.output_dim=16",
    "++model.net.ecg.samples=1000",
]  # fmt: skip
TEXTS = [*SMALL, "model.net.text.source.hidden_size=32", "model.net.text.source.num_hidden_layers=1"]
LABELS = ("sinus_tachycardia", "rbbb")


def table(n, start, split):
    pairs = (
        EcgText(
            id=str(i),
            ecg=f"simulate:{LABELS[i % 2]}::{i}",
            text=("Sinus tachycardia at 120 bpm. Narrow.", "Right bundle branch block. QRS 140 ms.")[i % 2],
            patient=str(i),
            codes=(LABELS[i % 2],),
            split=split,
        )
        for i in range(start, start + n)
    )
    return EcgTextTable(pairs)


def parts(tmp_path, experiment, *overrides):
    """Module and data of an experiment at the smallest size, over twenty simulated patients."""
    GlobalHydra.instance().clear()
    with initialize_config_module("gem_lightning.conf", version_base="1.3"):
        cfg = compose(
            "train",
            [
                f"experiment={experiment}", f"paths.output={tmp_path}", "data.batch_size=4", "data.table.labels=null",
                "data.table.prompts=null", "data.signal.samples=1000", *overrides,
            ],
        )  # fmt: skip
    cfg.data.train = cfg.data.val = None
    lightning.seed_everything(0, verbose=False)
    data = instantiate(cfg.data)
    data.sources.update(train=table(20, 0, "train"), val=table(24, 100, "val"))
    return instantiate(cfg.model), data


class Losses(lightning.Callback):
    def __init__(self):
        self.values = []

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.values.append((batch["index"].tolist(), outputs["loss"].item()))


def fit(module, data, *callbacks, ckpt_path=None, **options):
    options = {"limit_val_batches": 0, "enable_checkpointing": False, **options}
    trainer = lightning.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        use_distributed_sampler=False, callbacks=list(callbacks), **options,
    )  # fmt: skip
    data.prepare_data()
    trainer.fit(module, data, ckpt_path=ckpt_path, weights_only=True)
    return trainer


@pytest.mark.parametrize(
    ("experiment", "overrides", "wanted"),
    [
        ("ecg_coca_pretrain", TEXTS, {"train/contrastive_loss", "train/caption_loss", "val/zero_shot_auc"}),
        ("ecg_clip_pretrain", TEXTS, {"train/contrastive_loss", "val/ecg_to_text_R@5", "train/logit_scale"}),
        ("ecg_mae_pretrain", SMALL, {"train/reconstruction_loss", "val/probe_auc"}),
    ],
)
def test_each_experiment_trains_validates_and_reports(tmp_path, experiment, overrides, wanted):
    module, data = parts(tmp_path, experiment, *overrides)
    trainer = fit(module, data, max_steps=2, max_epochs=-1, limit_val_batches=1.0, val_check_interval=2)
    metrics = trainer.callback_metrics
    assert wanted | {"train/loss", "val/loss"} <= set(metrics)
    assert all(torch.isfinite(torch.as_tensor(float(metrics[name]))) for name in wanted)
    if experiment == "ecg_mae_pretrain":
        assert "train/contrastive_loss" not in metrics
        return
    again = EcgCoCa.from_original(tmp_path / "model")
    assert torch.equal(again.ecg.conv1.weight, module.net.ecg.conv1.weight)
    assert (
        EcgTransformer.from_original(next((tmp_path / "model").glob("*.pt")), tmp_path / "model/coca.json").width == 32
    )


@pytest.mark.parametrize("steps", [3, 5])
def test_a_restart_changes_nothing(tmp_path, steps):
    """In mid epoch and at its end (of five batches): same batches, augmentation, dropout and weights, bit for bit."""
    whole = Losses()
    module, data = parts(tmp_path, "ecg_coca_pretrain", *TEXTS, "model.net.ecg.patch_dropout=0.3")
    straight = fit(module, data, whole, max_steps=8, max_epochs=-1)
    weights = {name: value.clone() for name, value in module.net.state_dict().items()}

    module, data = parts(tmp_path, "ecg_coca_pretrain", *TEXTS, "model.net.ecg.patch_dropout=0.3")
    stop = lightning.pytorch.callbacks.ModelCheckpoint(
        tmp_path, filename="stop", every_n_train_steps=steps, save_top_k=-1
    )
    first = Losses()
    fit(module, data, first, StopAfter(steps), stop, max_steps=8, max_epochs=-1, enable_checkpointing=True)
    module, data = parts(tmp_path, "ecg_coca_pretrain", *TEXTS, "model.net.ecg.patch_dropout=0.3")
    torch.manual_seed(99)  # the state of the global generator must not matter
    second = Losses()
    resumed = fit(module, data, second, max_steps=8, max_epochs=-1, ckpt_path=str(tmp_path / "stop.ckpt"))
    assert first.values + second.values == whole.values
    assert all(torch.equal(value, weights[name]) for name, value in module.net.state_dict().items())
    assert resumed.global_step == straight.global_step == 8


def test_training_augments_and_validation_does_not(tmp_path):
    module, data = parts(tmp_path, "ecg_clip_pretrain", *TEXTS)
    seen = {}

    class Look(lightning.Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            seen.setdefault("train", batch)

        def on_validation_batch_end(self, trainer, module, outputs, batch, batch_idx, dataloader_idx=0):
            seen.setdefault("val", batch)

    fit(module, data, Look(), max_steps=1, max_epochs=-1, limit_val_batches=1, val_check_interval=1)
    for split, differs in (("train", True), ("val", False)):
        raw = data._loader(split, data._sampler_of(split, shuffle=False)).dataset
        own = torch.from_numpy(raw[int(seen[split]["index"][0])]["ecg"])
        assert torch.equal(own, seen[split]["ecg_values"][0]) is not differs


def test_loss_that_is_not_finite_names_the_pairs(tmp_path):
    module, data = parts(tmp_path, "ecg_clip_pretrain", *TEXTS)
    data.signal = replace(data.signal, augment=lambda ecg, rng: ecg * float("nan"))
    with pytest.raises(DataError, match=r"finite loss.*pairs \["):
        fit(module, data, max_steps=1, max_epochs=-1)


TWO_PROCESSES = """
import os, sys
from functools import partial
import torch, torch.distributed as dist
from gem_lightning.models.encoder.loss import CocaObjective
from gem_lightning.models.encoder.coca import bert_text_encoder, caption_decoder
from gem_lightning.models.encoder.coca import build_coca
from gem_lightning.models.encoder.transformer import EcgTransformer

BERT = {"model_type": "bert", "vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 64, "max_position_embeddings": 32, "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0}

class Loss(torch.nn.Module):
    def __init__(self, net, objective):
        super().__init__()
        self.net, self.objective = net, objective
    def forward(self, batch):
        return self.objective(self.net, batch)

rank = int(sys.argv[2])
for objective, bias in ((CocaObjective(2.0, 1.0), None), (CocaObjective(0.0, 1.0, "sigmoid"), -5.0)):
    torch.manual_seed(0)
    net = build_coca(
        ecg=partial(EcgTransformer, width=32, layers=1, head_width=16, output_dim=8, samples=500),
        text=partial(bert_text_encoder, BERT, output_dim=8), init_logit_bias=bias,
        decoder=partial(caption_decoder, vocab_size=50, width=32, layers=1, heads=2, context_length=9)
        if objective.caption_weight else None,
    )
    ids = torch.randint(5, 50, (6, 10))
    ids[1, 3:] = ids[4, 7:] = 0  # ranks count different numbers of words
    batch = {"ecg_values": torch.randn(6, 12, 500), "input_ids": ids}
    one = sum(objective(net, batch).values())
    one.backward()
    wanted = {n: p.grad.clone() for n, p in net.named_parameters()}
    net.zero_grad(set_to_none=True)
    meet = "file://" + sys.argv[1] + objective.contrastive
    dist.init_process_group("gloo", init_method=meet, rank=rank, world_size=2)
    ddp = torch.nn.parallel.DistributedDataParallel(Loss(net, objective))
    half = {name: value[3 * rank:3 * rank + 3] for name, value in batch.items()}
    loss = sum(ddp(half).values())
    loss.backward()
    total = loss.detach().clone()
    dist.all_reduce(total)
    torch.testing.assert_close(total / 2, one.detach(), atol=1e-5, rtol=1e-5)
    for name, p in net.named_parameters():
        torch.testing.assert_close(p.grad, wanted[name], atol=1e-6, rtol=1e-4, msg=lambda m: name + m)
    dist.destroy_process_group()
sys.stdout.write("equal")
"""


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path):
    """Loss and every gradient of a batch dealt to two gloo processes, softmax with captions and sigmoid."""
    command = [sys.executable, "-c", TWO_PROCESSES, str(tmp_path / "meet")]
    runs = [
        subprocess.Popen([*command, str(rank)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    for run in runs:
        out, err = run.communicate(timeout=300)
        assert out == "equal", err[-2000:]
