"""A task of one quantity for policy training: the rate of sinus rhythm; and a network small enough to learn it."""

from functools import cache, partial

import lightning
import torch
from torch.optim import AdamW

from gem_lightning.data.datasets import InstructionDataset
from gem_lightning.data.mixture import Mixture
from gem_lightning.lit import GrpoModule, PromptDataModule
from gem_lightning.lit.data.instruction import BatchOptions
from gem_lightning.lit.optim import Optimization
from gem_lightning.models import Gem, build_gem, build_processor, tiny_tokenizer
from gem_lightning.rl.objective import GrpoOptions
from gem_lightning.rl.prompts import PromptDataset, SimulatedPrompts
from gem_lightning.rl.report import ratios, totals
from gem_lightning.rl.rewards import ClaimScore, Reward
from gem_lightning.rl.rollout import LocalRollout, encoder_of, rollout_seeds

RATE = "Rate {heart_rate_bpm:.0f} bpm."
#: True of every record here and without information: what a reward of precision alone makes of a text.
EMPTY = "No paced rhythm."
TRAIN, HELD_OUT = 21, 22  # seeds of the sources; they share no patient
LONGEST = 24  # tokens of a completion: an answer takes 8, with the empty statement 17
SIZES = {
    "llm": {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "vocab_size": 640,
        "max_position_embeddings": 256,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 2,
    },
    "ecg": {"samples": 5000, "patch_size": 250, "width": 64, "layers": 2, "head_width": 32, "output_dim": 32},
    "vision": "none",
}
CHAT = {
    "prefix": "",
    "user": ["USER: ", " "],
    "assistant": ["ASSISTANT:", " ", "</s>"],
    "open": ["USER:", "ASSISTANT:"],
    "generation": "ASSISTANT:",
}


class Spread:
    """The share of letters e: a reward that texts of any network, even an untrained one, differ in."""

    weight = 1.0

    def __call__(self, written):
        return written.text.count("e") / max(1, len(written.text))

    @classmethod
    def reward(cls):
        return Reward(letters=cls())


@cache
def the_processor():
    """The processor of these networks."""
    return build_processor(tiny_tokenizer(), SIZES, chat=CHAT)


def questions(n, seed, answers=(RATE,)):
    """Healthy records with little noise: 62 to 97 bpm, no abnormal finding."""
    return SimulatedPrompts(n, seed, ("sinus",), "Rate?", answers, {"snr_db": (25, 35)})


def fit(module, data, *callbacks, ckpt_path=None, **settings):
    """Train on the CPU without logs."""
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "max_epochs": -1}
    options = {"enable_checkpointing": any(hasattr(c, "best_model_path") for c in callbacks), "limit_val_batches": 0}
    trainer = lightning.Trainer(
        accelerator="cpu", callbacks=list(callbacks), use_distributed_sampler=False, **quiet | options | settings
    )
    trainer.fit(module, data, ckpt_path=ckpt_path, weights_only=True)
    return trainer


def adam(lr, warmup=5, decay=0.0):
    """AdamW with a warm-up; the rate falls to a tenth."""
    return Optimization(partial(AdamW, betas=(0.9, 0.98)), lr=lr, warmup=warmup, weight_decay=decay, final_lr=0.1)


def encoded(source):
    """Conversations of a source with their answers, encoded once."""
    dataset = InstructionDataset(Mixture(source), the_processor())
    return [dataset[row] for row in range(len(dataset))]


def supervised(net, items, steps, lr=2e-3, batch=32, seed=0):
    """Train a network on encoded conversations, without the trainer around it; returns the network."""
    draw, optimizer = torch.Generator().manual_seed(seed), None
    settings, processor = adam(lr, warmup=20, decay=0.05).configure(net, steps), the_processor()
    optimizer, schedule = settings["optimizer"], settings["lr_scheduler"]["scheduler"]
    net.train()
    for _ in range(steps):
        some = torch.randint(len(items), (batch,), generator=draw).tolist()
        optimizer.zero_grad()
        net(**processor.pad([items[row] for row in some])).loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return net.eval()


def save_start(folder, records=400, steps=250):
    """Train a network from nothing until it is half right, and write it."""
    torch.manual_seed(0)
    save(supervised(build_gem(**SIZES), encoded(questions(records, TRAIN)), steps), folder)


def save_forms(start, folder, records=150, steps=150):
    """Train a model on the rate, on what is always true, and on both, one of them for each record; and write it."""
    items = encoded(questions(records, TRAIN + 1000, (RATE, f"{RATE} {EMPTY}", EMPTY)))
    save(supervised(Gem.from_pretrained(start).model, items, steps), folder)


def save(net, folder):
    """Write a model's folder."""
    Gem(net.eval(), the_processor()).save_pretrained(folder)


def policy(start, reward=None, seed=0, lr=3e-4, longest=LONGEST, optim=None, freeze=(), net=None, **options):
    """A GrpoModule over the model in a folder."""
    settings = GrpoOptions(**{"group": 16, "micro_prompts": 32, "beta": 0.0} | options)
    return GrpoModule(
        partial(build_gem, checkpoint=str(start), **(net or {})),
        reward or Reward(claims=ClaimScore()),
        LocalRollout(longest),
        settings,
        optim or adam(lr),
        freeze=freeze,
        seed=seed,
    )


def prompts(start, source, size, updates=1):
    """The data of policy training."""
    processor, batches = Gem.from_pretrained(start).processor, BatchOptions(length_window=1)
    return PromptDataModule(processor, source, batch_size=size, num_workers=0, updates=updates, batches=batches)


def grpo(start, source, steps, *callbacks, size=32, ckpt_path=None, trainer=None, **settings):
    """Train by GRPO from a folder; returns the module."""
    module = policy(start, **settings)
    data = prompts(start, source, size, module.options.updates)
    fit(module, data, *callbacks, ckpt_path=ckpt_path, **{"max_steps": steps} | (trainer or {}))
    return module


def judged(net, source, reward=None, temperature=0.0, draws=1, seed=99):
    """Answer every question of a source and compare with the truth.

    Returns ``precision`` of decided claims; ``right``, the share of questions whose rate is stated and true;
    ``states_rate``, of those whose rate is stated at all; ``reward`` and ``tokens`` a text.
    """
    processor = the_processor()
    dataset = PromptDataset(Mixture(source), processor)
    items = [dataset[row] for row in range(len(dataset))]
    write = LocalRollout(LONGEST, temperature, prompts=128)
    seeds = rollout_seeds(seed, 0, [item["id"] for item in items], draws)
    done = write(net.eval(), processor, encoder_of(net, processor), items, seeds)
    score = reward or Reward(claims=ClaimScore())
    found = score(done.texts, done.mask.sum(1).tolist(), done.ended.tolist(), [item["facts"] for item in items])
    rows = [(one, text, "Rate" in text) for one, text in zip(found, done.texts, strict=True)]
    return {
        "precision": ratios(totals(found))["precision"],
        "right": sum(rate and one.right > text.count(EMPTY) for one, text, rate in rows) / len(found),
        "states_rate": sum(rate for *_, rate in rows) / len(found),
        "reward": sum(one.total for one in found) / len(found),
        "tokens": float(done.mask.sum()) / len(found),
    }
