"""Plans against what really happens: memory of small models, counts, and refusals before any weight is read."""

import gc

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from gem_lightning.data import SimulatedCohort
from gem_lightning.errors import GemError
from gem_lightning.lit import InstructionDataModule
from gem_lightning.lit.optim import freeze_unreached, set_trainable
from gem_lightning.lit.plan import GIB, Load, Run, make_plan, measure_load, refuse_what_does_not_fit
from gem_lightning.models import build_gem, build_processor, tiny_tokenizer

TOWERS = ("model.ecg_tower.*", "model.vision_tower.*")
ROWS, LENGTH, LABELS, VOCABULARY = 4, 384, 200, 4096


def sizes(layers):
    return {
        "llm": {
            "hidden_size": 256,
            "intermediate_size": 704,
            "num_hidden_layers": layers,
            "num_attention_heads": 4,
            "vocab_size": VOCABULARY,
            "max_position_embeddings": 1024,
        },
        "ecg": {"patch_size": 100, "width": 128, "layers": 2, "head_width": 32, "output_dim": 64},
        "vision": {
            "hidden_size": 128,
            "intermediate_size": 256,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "image_size": 112,
            "patch_size": 14,
        },
        "vision_feature_layer": -1,
    }


def measured(run):
    """Bytes of weights and moments, and the most that the CPU's allocator gave besides during one step."""
    torch.manual_seed(0)
    network = build_gem(**run.net)
    set_trainable(network, run.freeze)
    freeze_unreached(network)
    config = network.config
    ids = torch.randint(0, VOCABULARY, (ROWS, LENGTH))
    ids[:, 5:56] = config.ecg_token_id
    ids[:, 56:120] = config.image_token_id
    labels = ids.clone()
    labels[:, : LENGTH - LABELS] = -100
    batch = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "labels": labels,
        "ecg_values": torch.randn(ROWS, 12, 5000),
        "pixel_values": torch.randn(ROWS, 3, 112, 112),
    }
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], foreach=False)

    def step():
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled="mixed" in run.precision):
            loss = network(**batch, return_logits=False).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    step()
    gc.collect()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    now = most = 0
    for event in profiler.profiler.kineto_results.events():
        if event.name() == "[memory]":
            now += event.nbytes()
            most = max(most, now)
    moments = [value for state in optimizer.state.values() for value in state.values() if torch.is_tensor(value)]
    return most + sum(t.numel() * t.element_size() for t in (*network.parameters(), *moments))


def load(rows=ROWS, length=LENGTH):
    counts = {
        "tokens": rows * length,
        "squares": rows * length**2,
        "labels": rows * LABELS,
        "ecgs": rows,
        "tiles": rows,
    }
    return Load(samples=400, batches=400 // rows, rows=rows, length=length, mean=counts, largest=counts)


@pytest.mark.parametrize(
    "run",
    [
        Run(net=sizes(4), cuda=False),
        Run(net=sizes(4), freeze=TOWERS, precision="bf16-mixed", cuda=False),
        Run(net=sizes(6) | {"gradient_checkpointing": True}, freeze=TOWERS, cuda=False),
        Run(net=sizes(4) | {"lora": {"r": 8}, "dtype": "bfloat16"}, precision="bf16-mixed", cuda=False),
    ],
    ids=["all", "mixed", "recomputed", "lora"],
)
def test_estimated_memory_is_what_a_step_takes(run):
    (memory,) = make_plan(run, load()).memory.values()
    assert memory.total == pytest.approx(measured(run), rel=0.15)


def test_sharing_out_divides_what_it_divides():
    plan = make_plan(Run(net=sizes(4)), load(), [("fsdp2", 8), ("ddp", 8)])
    one, shared, copied = plan.memory.values()
    assert shared.weights == pytest.approx(one.weights / 8)
    assert shared.optimizer == pytest.approx(one.optimizer / 8)
    assert copied.weights == one.weights and copied.total > one.total


def test_four_bits_and_small_moments():
    whole = Run(net=sizes(4) | {"lora": {"r": 8}, "dtype": "bfloat16"}, optimizer="torch.optim.AdamW")
    small = Run(
        net=whole.net | {"quantization": "nf4", "checkpoint": "unused"}, optimizer="bitsandbytes.optim.PagedAdamW8bit"
    )
    with pytest.raises(GemError):  # a checkpoint that is not there
        make_plan(small, load())
    (memory,) = make_plan(whole, load()).memory.values()
    assert memory.optimizer == pytest.approx(8 * make_plan(whole, load()).trainable)


def test_steps_hours_and_disk():
    run = Run(net=sizes(2), accumulate=4, epochs=3, devices=2)
    plan = make_plan(run, load())
    assert plan.steps == 25 * 3
    assert plan.parameters == sum(p.numel() for p in build_gem(**sizes(2)).parameters())
    assert plan.hours(0.5, 100, 2) == pytest.approx(plan.flops / (0.5 * 100e12 * 2) / 3600)
    assert plan.checkpoint == pytest.approx(4 * plan.parameters + 8 * plan.trainable)
    assert make_plan(Run(net=sizes(2), max_steps=7), load()).steps == 7
    assert "parameters" in str(plan) and "single x 2" in str(plan)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"net": {"quantization": "nf4", "lora": {}}, "strategy": "fsdp2"}, "quantised"),
        ({"net": {"lora": {}}, "strategy": "fsdp"}, "lora"),
        ({"net": {"quantization": "nf4"}}, "adapters"),
        ({"net": {"quantization": "nf4", "lora": {}}}, "checkpoint"),
        ({"net": {}, "strategy": "fsdp", "cuda": False}, "fsdp2"),
    ],
)
def test_what_cannot_work_is_refused(settings, words):
    with pytest.raises(GemError, match=words):
        make_plan(Run(**settings), load())


def test_a_batch_that_cannot_fit_is_an_estimate():
    plan = make_plan(Run(net=sizes(2), cuda=False), load(rows=512))
    refuse_what_does_not_fit(plan, 1000 * GIB)
    with pytest.raises(GemError, match=r"fits into 0\.5 GiB, got an estimate of .*activations .*data\.batch_size"):
        refuse_what_does_not_fit(plan, 0.5 * GIB)


def test_the_load_is_counted_without_reading_signals(tmp_path):
    cohort = SimulatedCohort(tmp_path, n=12, seed=3, workers=1)
    cohort.prepare()
    processor = build_processor(tiny_tokenizer(), sizes(1))
    data = InstructionDataModule(processor, cohort, batch_size=4, num_workers=0)
    found = measure_load(data, devices=1)
    items = [data.dataset("train")[i] for i in range(12)]
    assert found.batches == 3 and found.rows == 4
    assert found.length == max(len(item["input_ids"]) for item in items)
    assert found.mean["tokens"] == pytest.approx(4 * sum(len(item["input_ids"]) for item in items) / 12)
    assert found.mean["ecgs"] == 4 and found.mean["tiles"] == 0
    packed = InstructionDataModule(processor, cohort, batch_size=1, num_workers=0, pack_to=1024)
    assert measure_load(packed, devices=1).length == 1024
