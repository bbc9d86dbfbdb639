"""GRPO on one quantity, the rate, against supervised training, rejection sampling and DPO of equal compute.

A network of 0.5 M parameters learns to state the rate of healthy simulated ECGs until it is about half right. From
there each way to train goes on for as many CPU seconds as GRPO took, with several seeds. Held-out patients, truth by
the simulator. Then the same model, taught to add or state only something that is always true, is trained by the claim
score and by precision alone: precision is hacked, the score is not.

    python benchmarks/grpo.py                # about 6 minutes of one core
    python benchmarks/grpo.py --steps 10 --seeds 1 --held-out 32    # a short look
    python benchmarks/grpo.py --gpu MODEL    # a free-text model on GPUs: the command, and what to expect
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import pathlib
import statistics
import sys
import tempfile
import time
from functools import partial

import lightning
import torch

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "tests"))

from gem_lightning.lit import DpoModule, PairDataModule
from gem_lightning.lit.data.instruction import BatchOptions
from gem_lightning.models import Gem, build_gem
from gem_lightning.rl.best_of import BestOf
from gem_lightning.rl.rewards import ClaimScore, Precision, Reward
from gem_lightning.rl.rollout import LocalRollout
from helpers_rl import (
    HELD_OUT,
    LONGEST,
    adam,
    encoded,
    fit,
    grpo,
    judged,
    questions,
    save_forms,
    save_start,
    supervised,
    the_processor,
)

POOL = 121  # seed of the patients that every way to train sees after the start
N = 16  # completions of a prompt, for GRPO and for rejection sampling

GPU_COMMAND = """\
python -m gem_lightning.train experiment=gem_grpo model.net.checkpoint={model} name=grpo \\
  model.net.lora='{{r: 64}}' model.net.dtype=bfloat16 trainer.precision=bf16-mixed strategy=ddp trainer.devices=8 \\
  data.batch_size=14 model.options.group=16 trainer.max_steps=300 rollout.max_new_tokens=256
python -m gem_lightning.evaluate model={model} benchmark=simulator out=grpo_before
python -m gem_lightning.evaluate model=outputs/grpo/model benchmark=simulator out=grpo_after"""
GPU_BARS = (
    "14 prompts x 16 completions x 8 devices = 1,792 completions an update (at least 1,500; smaller updates made a "
    "free-text model worse). Expected on held-out patients: precision against the truth +0.05, coverage no lower than "
    "at the start, tokens a text within 15 % of the start. Not run here."
)


class Curve(lightning.Callback):
    """Metrics of the rollouts at every step."""

    names = ("reward", "precision", "tokens", "divergence")

    def __init__(self):
        self.rows = []

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        row = {name: round(float(trainer.callback_metrics[f"train/{name}"]), 4) for name in self.names}
        rate = sum("Rate" in one["text"] for one in module.written) / len(module.written)
        self.rows.append(row | {"states_rate": round(rate, 4)})


class Stop(lightning.Callback):
    """Ends a run after some CPU seconds."""

    def __init__(self, seconds):
        self.seconds, self.began = seconds, time.process_time()

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        trainer.should_stop = time.process_time() - self.began > self.seconds


def by_grpo(start, seed, args):
    """(network, CPU seconds, curve)."""
    curve, began = Curve(), time.process_time()
    module = grpo(start, questions(args.pool, POOL), args.steps, curve, seed=seed, group=N, lr=args.lr)
    return module.net, time.process_time() - began, curve.rows


def by_supervision(start, items, seconds, seed, lr):
    """Train on answers for some CPU seconds: the steps that fit are measured first."""
    began = time.process_time()
    supervised(Gem.from_pretrained(start).model, items, 5, lr)
    each = (time.process_time() - began) / 5
    return supervised(Gem.from_pretrained(start).model, items, max(1, int(seconds / each)), lr, seed=seed)


def best_of(start, folder, seed, args):
    """Best of N answers by the truth to the pool's questions, and the CPU seconds that they took."""
    began = time.process_time()
    score = Reward(claims=ClaimScore())
    source = BestOf(folder, questions(args.pool, POOL), start, score, N, LocalRollout(LONGEST), seed=seed)
    source.prepare()
    return source, time.process_time() - began


def by_preference(start, source, seconds, seed):
    """Train on pairs of the best and the worst answer for some CPU seconds."""
    data = PairDataModule(the_processor(), source, batch_size=32, num_workers=0, batches=BatchOptions(length_window=1))
    module = DpoModule(partial(build_gem, checkpoint=str(start)), 0.1, adam(1e-4), seed=seed)
    fit(module, data, Stop(seconds), max_steps=10_000)
    return module.net


def compare(start, folder, args):
    """Held-out metrics of each way to train, by seed."""
    held = questions(args.held_out, HELD_OUT)

    def judge(net):
        return {f"{how}/{name}": value for how, temperature, draws in (("greedy", 0.0, 1), ("sampled", 1.0, 8))
                for name, value in judged(net, held, temperature=temperature, draws=draws).items()}  # fmt: skip

    found = {"start": [judge(Gem.from_pretrained(start).model)]}
    print(json.dumps({"way": "start"} | rounded(found["start"][0])), flush=True)

    def note(name, seed, net, seconds):
        found.setdefault(name, []).append(judge(net))
        print(json.dumps({"seed": seed, "way": name, "cpu_s": round(seconds)} | rounded(found[name][-1])), flush=True)

    took = []
    for seed in range(args.seeds):
        net, seconds, rows = by_grpo(start, seed, args)
        took.append(seconds)
        note("GRPO", seed, net, seconds)
        if seed == 0:
            print_curve("GRPO, claim score", rows)
    answers = encoded(questions(args.pool, POOL))
    for seed, seconds in enumerate(took):
        note("supervised", seed, by_supervision(start, answers, seconds, seed, args.lr), seconds)
        source, spent = best_of(start, folder, seed, args)
        best = encoded(source.samples())
        note("rejection sampling", seed, by_supervision(start, best, seconds - spent, seed, args.lr), seconds)
        note("DPO", seed, by_preference(start, source, seconds - spent, seed), seconds)
    return found


def hack(start, folder, args):
    """Curves of both rewards from a model that may also state what is always true."""
    both = pathlib.Path(folder) / "forms"
    save_forms(start, both)
    held = questions(args.held_out, HELD_OUT)
    rewards = {"claim score": Reward(claims=ClaimScore()), "precision alone": Reward(precision=Precision())}
    for name, reward in rewards.items():
        curve = Curve()
        module = grpo(both, questions(args.pool, POOL), args.steps, curve, reward=reward, group=N, lr=args.lr)
        print_curve(f"reward: {name}", curve.rows)
        before, after = (
            judged(net, held, temperature=1.0, draws=4) for net in (Gem.from_pretrained(both).model, module.net)
        )
        print(json.dumps({"reward": name, "before": rounded(before), "after": rounded(after)}), flush=True)


def rounded(values):
    return {name: round(value, 3) for name, value in values.items()}


def print_curve(title, rows, points=7):
    """A few points of a curve, each the mean of three steps."""
    print(f"\n{title}\n{'step':>6}" + "".join(f"{name:>13}" for name in rows[0]))
    for at in sorted({round(k * (len(rows) - 1) / (points - 1)) for k in range(points)}):
        some = rows[max(0, at - 1) : at + 2]
        print(f"{at:6}" + "".join(f"{statistics.mean(row[name] for row in some):13.3f}" for name in rows[0]))
    print()


def print_table(found):
    """Means over seeds with standard errors, and the difference from the start in standard errors."""
    names = ("sampled/precision", "sampled/right", "greedy/precision", "greedy/right", "greedy/states_rate")
    (start,) = found["start"]
    print(f"{'':20}" + "".join(f"{name:>28}" for name in names))
    for way, runs in found.items():
        cells = []
        for name in names:
            values = [run[name] for run in runs]
            cell = f"{statistics.mean(values):.3f}"
            if len(values) > 1:
                error = statistics.stdev(values) / math.sqrt(len(values))
                cell += f" ± {error:.3f} ({(statistics.mean(values) - start[name]) / max(error, 1e-9):+.1f} SE)"
            cells.append(f"{cell:>28}")
        print(f"{way:20}" + "".join(cells))


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20, help="optimiser steps of GRPO")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--pool", type=int, default=128, help="patients that every way to train sees after the start")
    parser.add_argument("--held-out", type=int, default=100, help="patients that metrics are taken over")
    parser.add_argument("--lr", type=float, default=5e-4, help="of GRPO")
    parser.add_argument("--start", help="folder of a start model; None trains one")
    parser.add_argument("--only", choices=("compare", "hack"))
    parser.add_argument("--gpu", metavar="MODEL", help="print the command for GPUs and what to expect")
    args = parser.parse_args(arguments)
    if args.gpu:
        print(f"{GPU_COMMAND.format(model=args.gpu)}\n\n{GPU_BARS}")
        return
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        start = pathlib.Path(args.start or pathlib.Path(folder) / "start")
        if not start.exists():
            save_start(start)
        if args.only != "compare":
            hack(start, folder, args)
        if args.only != "hack":
            print_table(compare(start, folder, args))


if __name__ == "__main__":
    main()
