"""What each of two processes does, started by torchrun: train by every strategy, save, load across strategies.

Writes what rank 0 saw to ``<folder>/<name>.json`` and weights to ``<folder>/<name>.pt``; test_strategies.py judges.
"""

import json
import os
import pathlib
import resource
import sys

import lightning
import torch

from gem_lightning.data import SimulatedCohort
from gem_lightning.lit import AtomicCheckpointIO, KeepLast, SaveFinished, ShardedStrategy
from helpers_training import Losses, StopAfter, fit, parts


def strategy(name):
    if name == "fsdp2":
        return {"strategy": ShardedStrategy(process_group_backend="gloo")}
    return {"strategy": "ddp", "plugins": [AtomicCheckpointIO()]}


def train(folder, name, kind, *overrides, callbacks=(), **options):
    """Ten steps (or what ``options`` say) from the same weights; returns module and trainer."""
    cohort = SimulatedCohort(folder / "cohort", n=8, seed=3, workers=1)
    module, data = parts(cohort, f"model.net.checkpoint={folder / 'start'}", "data.batch_size=2", *overrides)
    losses = Losses()
    options = {"max_steps": 10, "max_epochs": -1} | options
    trainer = fit(module, data, losses, *callbacks, devices=2, **strategy(kind), **options)
    weights = {key: value.full_tensor() if hasattr(value, "full_tensor") else value for key, value in
               module.net.state_dict().items()}  # fmt: skip
    if trainer.is_global_zero:
        (folder / f"{name}.json").write_text(json.dumps(losses.logged))
        torch.save(weights, folder / f"{name}.pt")
    return module, trainer


def without_a_modality(module, folder):
    """One process has no picture, the other no ECG: both finish, and agree on every gradient."""
    config, rank = module.net.config, int(os.environ["RANK"])
    batch = {
        "input_ids": torch.tensor([[3, 4, 5, 6]]),
        "attention_mask": torch.ones(1, 4, dtype=torch.long),
        "labels": torch.tensor([[3, 4, 5, 6]]),
    }
    if rank == 0:
        batch["input_ids"] = torch.tensor([[config.ecg_token_id] * config.ecg_tokens + [4, 5]])
        batch["labels"] = batch["input_ids"].masked_fill(batch["input_ids"] > 1000, -100)
        batch["attention_mask"] = torch.ones_like(batch["input_ids"])
        batch["ecg_values"] = torch.randn(1, 12, 5000)
    module.zero_grad()
    module._loss(batch).backward()
    with_gradient = sorted(n for n, p in module.net.named_parameters() if p.grad is not None)
    every = [None, None]
    torch.distributed.all_gather_object(every, with_gradient)
    assert every[0] == every[1]
    assert any("ecg_projector" in name for name in with_gradient)


def main(folder):
    kept = folder / "kept"
    train(folder, "ddp", "ddp")
    keep = KeepLast(kept, every_n_steps=3)
    module, trainer = train(folder, "fsdp2", "fsdp2", callbacks=[keep, SaveFinished(folder / "model", kept)])
    without_a_modality(module, folder)

    # six steps, then on to ten: with the same strategy and with the others
    for kind in ("fsdp2", "ddp"):
        stop = KeepLast(folder / f"stopped_{kind}", every_n_steps=6)
        train(folder, f"first_{kind}", kind, callbacks=[StopAfter(6), stop])
    torch.distributed.barrier()
    for kind, start in (("fsdp2", "ddp"), ("ddp", "fsdp2"), ("fsdp2", "fsdp2")):
        checkpoint = folder / f"stopped_{start}" / "step-0000006.ckpt"
        train(folder, f"{start}_to_{kind}", kind, ckpt_path=checkpoint)
    bf16, _ = train(folder, "bf16", "fsdp2", precision="bf16-mixed")
    if int(os.environ["RANK"]) == 0:
        assert bf16.net.model.language_model.rotary_emb.inv_freq.dtype == torch.float32
        assert next(bf16.net.parameters()).dtype == torch.float32
        (folder / "peak.json").write_text(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))


if __name__ == "__main__":
    lightning.seed_everything(0, verbose=False)
    main(pathlib.Path(sys.argv[1]))
