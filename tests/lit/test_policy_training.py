"""Policy and preference training: gradients, references, logs, and the place in the data."""

import json
from functools import partial

import lightning
import pytest
import torch

from gem_lightning.errors import GemError
from gem_lightning.lit import CompletionLog, DpoModule, PairDataModule
from gem_lightning.lit.optim import Optimization
from gem_lightning.lit.reference import Reference, only_adapters_train
from gem_lightning.models import Gem, build_gem
from gem_lightning.models.lora import add_lora
from gem_lightning.rl.prompts import SimulatedPrompts
from gem_lightning.rl.rewards import Reward
from gem_lightning.samples.sample import InstructionSample
from helpers_rl import Spread, fit, grpo, policy, prompts
from helpers_training import SaveAt

SGD = Optimization(partial(torch.optim.SGD), lr=0.5, warmup=1, final_lr=1.0)
SOURCE = SimulatedPrompts(8, seed=31, question="Rate?")


class Constant:
    weight = 1.0

    def __call__(self, written):
        return 0.5


SMALL = {"reward": Spread.reward(), "longest": 6, "optim": SGD, "group": 4, "micro_prompts": 2, "size": 4}


class Watch(lightning.Callback):
    """Metrics and texts of each batch."""

    def __init__(self):
        self.metrics, self.texts, self.ids = [], [], []

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.metrics.append({name: float(value) for name, value in trainer.callback_metrics.items()})
        self.texts.append([row["text"] for row in module.written])
        self.ids.append(batch["ids"])


@pytest.fixture(scope="module")
def start(tiny_gem, tmp_path_factory):
    folder = tmp_path_factory.mktemp("start")
    tiny_gem.save_pretrained(folder)
    return folder


def change(module, start):
    """Largest change of a weight since the start."""
    before = Gem.from_pretrained(start).model.state_dict()
    after = module.net.state_dict()
    return max(float((after[name] - value).abs().max()) for name, value in before.items())


def test_equal_rewards_move_nothing(start):
    watch = Watch()
    module = grpo(start, SOURCE, 2, watch, **SMALL | {"reward": Reward(c=Constant())})
    assert change(module, start) == 0
    assert watch.metrics[0]["train/grad_norm"] == 0 and watch.metrics[0]["train/groups_with_spread"] == 0


def test_the_reward_rises(start):
    watch = Watch()
    module = grpo(start, SOURCE, 12, watch, **SMALL | {"group": 32, "optim": None, "lr": 6e-3})
    assert change(module, start) > 0
    rewards = [row["train/reward"] for row in watch.metrics]
    assert sum(rewards[-3:]) > 1.5 * sum(rewards[:3])


@pytest.mark.parametrize("other", [{"micro_prompts": 4}, {"net": {"gradient_checkpointing": True}}])
def test_how_a_step_is_cut_is_no_matter(start, other):
    one, two = (grpo(start, SOURCE, 2, **SMALL | more) for more in ({}, other))
    for (name, value), twin in zip(one.net.state_dict().items(), two.net.state_dict().values(), strict=True):
        assert torch.allclose(value, twin, atol=1e-5), name
    assert change(one, start) > 1e-3


def test_several_steps_on_one_rollout(start):
    watch = Watch()
    module = grpo(start, SOURCE, 4, watch, **SMALL | {"updates": 2})
    assert module.trainer.global_step == 4 and len(watch.ids) == 2
    assert sorted(watch.ids[0] + watch.ids[1]) == [f"simulated-31-{k}" for k in range(8)]
    with pytest.raises(GemError, match="equal parts"):
        grpo(start, SOURCE, 3, **SMALL | {"updates": 3})


def test_the_divergence_is_measured_from_the_start(start):
    watch = Watch()
    grpo(start, SOURCE, 3, watch, **SMALL | {"beta": 0.5})
    found = [row["train/divergence"] for row in watch.metrics]
    assert found[0] == pytest.approx(0, abs=1e-6)
    assert found[2] > 1e-6
    strong = Watch()
    grpo(start, SOURCE, 12, strong, **SMALL | {"beta": 10.0})
    free = Watch()
    grpo(start, SOURCE, 12, free, **SMALL | {"beta": 1e-9})
    assert strong.metrics[-1]["train/divergence"] < free.metrics[-1]["train/divergence"]


def test_adapters_are_their_own_reference(tiny_gem, items_of_two):
    torch.manual_seed(0)
    base = tiny_gem.model
    net = add_lora(build_like(base), r=4).eval()
    frozen = [name for name, p in net.named_parameters() if p.requires_grad][:1]
    dict(net.named_parameters())[frozen[0]].requires_grad_(False)
    learning = {name: p.requires_grad for name, p in net.named_parameters()}
    with torch.no_grad():
        truth = net(**items_of_two).logits
        reference = Reference(net, lambda: pytest.fail("no copy is needed"))
        for parameter in net.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
        moved = net(**items_of_two).logits
        with reference.network(net) as before:
            assert torch.equal(before(**items_of_two).logits, truth)
        assert torch.equal(net(**items_of_two).logits, moved) and not torch.equal(moved, truth)
    assert {name: p.requires_grad for name, p in net.named_parameters()} == learning


def build_like(model):
    twin = type(model)(model.config)
    twin.load_state_dict(model.state_dict())
    return twin


@pytest.fixture
def items_of_two(tiny_gem):
    item = tiny_gem.processor.encode([{"from": "human", "value": "Rate?"}], add_generation_prompt=True)
    batch = dict(tiny_gem.processor.pad([item, item]))
    del batch["labels"]
    return batch


def test_what_trains_whole_needs_a_copy(tiny_gem, items_of_two):
    net = add_lora(build_like(tiny_gem.model), r=4)
    assert only_adapters_train(net)
    next(p for name, p in net.named_parameters() if "embed_tokens" in name).requires_grad_(True)
    assert not only_adapters_train(net)
    plain = build_like(tiny_gem.model).eval()
    reference = Reference(plain, lambda: build_like(tiny_gem.model))
    with torch.no_grad():
        truth = plain(**items_of_two).logits
        for parameter in plain.parameters():
            parameter.add_(0.1)
        with reference.network(plain) as before:
            assert torch.equal(before(**items_of_two).logits, truth)
    assert not any(p.requires_grad for p in reference.copy.parameters())


def test_checkpoints_hold_no_reference(start):
    module = policy(start, beta=0.1)
    module.configure_model()
    assert module.reference.copy is not None
    assert len(module.state_dict()) == len(module.net.state_dict())


def test_every_completion_is_logged(start, tmp_path):
    module = grpo(start, SOURCE, 2, CompletionLog(tmp_path), **SMALL)
    files = sorted(tmp_path.iterdir())
    assert [path.name for path in files] == ["step-000000-rank-0.jsonl", "step-000001-rank-0.jsonl"]
    rows = [json.loads(line) for line in files[1].read_text().splitlines()]
    assert rows == module.written and len(rows) == 16
    for group in (rows[:4], rows[4:8]):
        assert len({row["id"] for row in group}) == 1 and [row["completion"] for row in group] == [0, 1, 2, 3]
        assert sum(row["advantage"] for row in group) == pytest.approx(0, abs=1e-5)
    assert rows[0]["reward"] == rows[0]["terms"]["letters"]


def test_validation_is_greedy_and_logged(start):
    data = prompts(start, SOURCE, 4)
    data.sources["val"] = SOURCE
    module = policy(start, reward=Spread.reward(), longest=6)
    trainer = lightning.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_checkpointing=False)
    first, second = (trainer.validate(module, data, verbose=False)[0] for _ in range(2))
    assert first == second and {"val/reward", "val/precision", "val/coverage", "val/tokens"} <= first.keys()


@pytest.mark.parametrize("updates", [1, 2])
def test_a_resumed_run_writes_the_same_texts(start, tmp_path, updates):
    settings = SMALL | {"updates": updates, "beta": 0.1, "lr": 1e-3, "optim": None, "size": 2}
    whole, rest = Watch(), Watch()
    one = grpo(start, SOURCE, 6, whole, SaveAt(2, tmp_path / "two.ckpt"), **settings)
    torch.manual_seed(99)  # no global state takes part
    two = grpo(start, SOURCE, 6, rest, ckpt_path=tmp_path / "two.ckpt", **settings)
    done = 2 // updates
    assert rest.texts == whole.texts[done:] and rest.ids == whole.ids[done:]
    assert rest.metrics == whole.metrics[done:]
    for (name, value), twin in zip(one.net.state_dict().items(), two.net.state_dict().values(), strict=True):
        assert torch.equal(value, twin), name


def test_groups_are_whole_and_no_prompt_is_on_two_processes(start):
    """Every process has equally many prompts at a step; what a prompt's group holds is written where it is."""
    shares = []
    for rank in range(2):
        data = prompts(start, SOURCE, 2)
        data.__class__ = type("Placed", (type(data),), {"share": (rank, 2)})
        shares.append([batch["ids"] for batch in data.train_dataloader()])
    assert [len(ids) for ids in shares[0]] == [len(ids) for ids in shares[1]] == [2, 2]
    assert len({name for share in shares for ids in share for name in ids}) == 8


def test_loss_scalers_are_refused(start):
    module = policy(start)
    module.configure_model()
    module._trainer = trainer = lightning.Trainer(accelerator="cpu", logger=False)
    trainer.precision_plugin.scaler = object()
    with pytest.raises(GemError, match="bf16"):
        module.on_fit_start()


def test_preferred_answers_become_more_likely(start):
    turns = [{"from": "human", "value": "<image>\nRate?"}, {"from": "gpt", "value": "Rate 60 bpm."}]
    pairs = [
        InstructionSample(str(seed), turns, f"simulate:sinus::{seed}", metadata={"rejected": "Rate 99 bpm."})
        for seed in range(4)
    ]
    data = PairDataModule(Gem.from_pretrained(start).processor, pairs, batch_size=4, num_workers=0)
    module = DpoModule(partial(build_gem, checkpoint=str(start)), 0.1, SGD)
    watch = Losses()
    fit(module, data, watch, max_steps=8)
    assert watch.found[0][0] == pytest.approx(0.6931, abs=1e-4)  # log 2: policy and reference are one
    assert watch.found[-1][0] < 0.69 and watch.found[-1][1] == 1.0
    with pytest.raises(GemError, match="beta above 0"):
        DpoModule(None, beta=0)


class Losses(lightning.Callback):
    def __init__(self):
        self.found = []

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.found.append([float(trainer.callback_metrics[f"train/{name}"]) for name in ("loss", "preferred")])
