"""Policy training that is killed, and on two processes: the same texts and weights as one that nothing happened to."""

import json

import pytest
import torch

from gem_lightning.lit import AtomicCheckpointIO, CompletionLog, KeepLast, ShardedStrategy
from gem_lightning.lit.checkpointing.io import newest_whole
from gem_lightning.models import Gem
from gem_lightning.rl.prompts import SimulatedPrompts
from helpers_kill import exit_codes, killed_at_random
from helpers_processes import start
from helpers_rl import Spread, grpo

STEPS = 8
SOURCE = SimulatedPrompts(8, seed=31, question="Rate?")
SMALL = {"reward": Spread.reward(), "longest": 6, "group": 4, "micro_prompts": 1, "size": 2, "lr": 1e-2}


def run(home, name, kind="one", steps=STEPS, **settings):
    """A run that goes on where its folder says; its completions and last weights go to files."""
    kept = home / name / "kept"
    strategy = {"plugins": [AtomicCheckpointIO()], "devices": 1}
    if kind == "ddp":
        strategy |= {"devices": 2, "strategy": "ddp"}
    if kind == "fsdp2":
        strategy = {"devices": 2, "strategy": ShardedStrategy(process_group_backend="gloo")}
    callbacks = CompletionLog(home / name / "texts"), KeepLast(kept, every_n_steps=2, monitor=None)
    options = {"ckpt_path": newest_whole(kept), "trainer": strategy} | SMALL | settings
    module = grpo(home / "start", SOURCE, steps, *callbacks, **options)
    weights = {
        key: value.full_tensor() if hasattr(value, "full_tensor") else value
        for key, value in module.net.state_dict().items()
    }
    if module.trainer.is_global_zero:
        torch.save(weights, home / name / "weights.pt")


def texts(home, name):
    """Rows of the log of completions, without the advantages' last digits."""
    rows = [json.loads(line) for path in (home / name / "texts").iterdir() for line in path.read_text().splitlines()]
    return sorted((row["step"], row["id"], row["completion"], row["text"], row["reward"]) for row in rows)


@pytest.fixture(scope="module")
def home(tmp_path_factory, tiny_gem):
    home = tmp_path_factory.mktemp("policies")
    tiny_gem.save_pretrained(home / "start")
    return home


def difference(home, one, other):
    """Largest difference between the last weights of two runs."""
    first, second = (torch.load(home / name / "weights.pt") for name in (one, other))
    return max(float((value - second[key]).abs().max()) for key, value in first.items())


@pytest.mark.slow
def test_killed_at_random_steps_it_ends_at_the_same_bits(home):
    assert exit_codes(start(run, home, "whole")) == [0]
    progress = lambda: len(list((home / "killed" / "texts").glob("*.jsonl")))  # noqa: E731
    killed_at_random(lambda: start(run, home, "killed"), progress, STEPS, kills=2, share=0.9)
    assert texts(home, "killed") == texts(home, "whole")
    assert difference(home, "killed", "whole") == 0
    start_weights = Gem.from_pretrained(home / "start").model.state_dict()
    whole = torch.load(home / "whole" / "weights.pt")
    assert max(float((whole[key] - value).abs().max()) for key, value in start_weights.items()) > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ddp", "fsdp2"])
def test_two_processes_are_one(home, kind):
    """Twice the prompts on one process are the same step: the same texts, and gradients that add up to the same."""
    if not (home / "one" / "weights.pt").exists():
        run(home, "one", steps=3, size=4, beta=0.1)
    assert exit_codes(start(two, home, kind, ranks=2)) == [0, 0]
    assert texts(home, kind) == texts(home, "one")
    assert difference(home, kind, "one") < 1e-5


def two(home, kind):
    run(home, kind, kind, steps=3, size=2, beta=0.1)
