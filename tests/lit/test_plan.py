"""Plans against what really happens: memory of small models, counts, and refusals before any weight is read."""

import gc
import json
from dataclasses import replace

import lightning
import pytest
import torch
from omegaconf import OmegaConf
from torch.distributed.device_mesh import init_device_mesh
from torch.nn.parallel import DistributedDataParallel
from torch.profiler import ProfilerActivity, profile, record_function

from gem_lightning.data import SimulatedCohort
from gem_lightning.errors import GemError
from gem_lightning.lit import GemLitModule, InstructionDataModule, KeepLast
from gem_lightning.lit.checkpointing.io import newest_whole
from gem_lightning.lit.data.instruction import BatchOptions
from gem_lightning.lit.optim import freeze_unreached, set_trainable
from gem_lightning.lit.plan import GIB, Load, Run, make_plan, measure_load, out_of_memory, refuse_what_does_not_fit
from gem_lightning.models import build_gem, build_processor, tiny_tokenizer
from gem_lightning.models.compute import Kernels
from gem_lightning.models.sharding import Sharding
from gem_lightning.train import Planned, fit, plan_run, settings_of
from helpers_kill import exit_codes
from helpers_processes import start
from helpers_sizes import SMALL
from helpers_training import parts, tiny_cohort

TOWERS = ("model.ecg_tower.*", "model.vision_tower.*")
ROWS, LENGTH, LABELS, VOCABULARY = 4, 384, 200, 4096


def sizes(layers):
    """Longer ECG patches than SMALL has, and fewer words: a step takes less."""
    return SMALL | {
        "llm": SMALL["llm"] | {"num_hidden_layers": layers, "vocab_size": VOCABULARY},
        "ecg": SMALL["ecg"] | {"patch_size": 100},
    }


def drawn_batch(config):
    """Random tokens, signals and pictures of the sizes that :func:`load` counts."""
    ids = torch.randint(0, VOCABULARY, (ROWS, LENGTH))
    ids[:, 5:56] = config.ecg_token_id
    ids[:, 56:120] = config.image_token_id
    labels = ids.clone()
    labels[:, : LENGTH - LABELS] = -100
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "labels": labels,
        "ecg_values": torch.randn(ROWS, 12, 5000),
        "pixel_values": torch.randn(ROWS, 3, 112, 112),
    }


def built(run):
    """The network of a run as its strategy holds it, and what is called in a step."""
    if run.strategy == "fsdp2":
        mesh = init_device_mesh("cpu", (run.devices,), mesh_dim_names=("data_parallel",))
        compute = torch.bfloat16 if "mixed" in run.precision else None
        network = build_gem(**run.net, shard=Sharding(mesh["data_parallel"], compute))
    else:
        network = build_gem(**run.net)
    set_trainable(network, run.freeze)
    freeze_unreached(network)
    return network, DistributedDataParallel(network) if run.strategy == "ddp" else network


def measured(run):
    """The most bytes that the CPU's allocator had given at any moment of a run's second step, from its beginning on."""
    torch.manual_seed(0)
    casts = "mixed" in run.precision and run.strategy != "fsdp2"
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        network, called = built(run)
        batch = drawn_batch(network.config)
        optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], foreach=False)
        for number in range(2):
            with record_function(f"step {number}"):
                with torch.autocast("cpu", dtype=torch.bfloat16, enabled=casts):
                    loss = called(**batch, return_logits=False).loss
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
            del loss
            gc.collect()
    events = sorted(profiler.profiler.kineto_results.events(), key=lambda event: event.start_ns())
    began = next(event.start_ns() for event in events if event.name() == "step 1")
    now = most = 0
    for event in events:
        if event.name() == "[memory]":
            now += event.nbytes()
            most = max(most, now) if event.start_ns() >= began else 0
    return most - sum(value.numel() * value.element_size() for value in batch.values())


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
        Run(net=sizes(5) | {"gradient_checkpointing": 2}, freeze=TOWERS, cuda=False),
        Run(net=sizes(4) | {"lora": {"r": 8}, "dtype": "bfloat16"}, precision="bf16-mixed", cuda=False),
    ],
    ids=["all", "mixed", "recomputed", "every second", "lora"],
)
def test_estimated_memory_is_what_a_step_takes(run):
    (memory,) = make_plan(run, load()).memory.values()
    assert memory.total == pytest.approx(measured(run), rel=0.15)


ON_TWO = {
    "ddp": Run(net=sizes(4), strategy="ddp", devices=2, cuda=False),
    "fsdp2": Run(net=sizes(4), strategy="fsdp2", devices=2, cuda=False),
    "fsdp2 mixed": Run(net=sizes(6), freeze=TOWERS, strategy="fsdp2", devices=2, precision="bf16-mixed", cuda=False),
}


def _measured_on_two(folder):
    torch.distributed.init_process_group("gloo")
    found = {name: measured(run) for name, run in ON_TWO.items()}
    (folder / f"{torch.distributed.get_rank()}.json").write_text(json.dumps(found))
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_estimated_memory_of_two_processes_is_what_each_takes(tmp_path):
    assert exit_codes(start(_measured_on_two, tmp_path, ranks=2)) == [0, 0]
    for rank in range(2):
        found = json.loads((tmp_path / f"{rank}.json").read_text())
        for name, run in ON_TWO.items():
            (memory,) = make_plan(run, load()).memory.values()
            assert memory.total == pytest.approx(found[name], rel=0.15), name


def test_sharing_out_divides_what_it_divides():
    plan = make_plan(Run(net=sizes(4)), load(), others=[("fsdp2", 8), ("ddp", 8)])
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


class Exhausted(lightning.Callback):
    """Finds no memory in the second step: as a GPU's allocator says it, or as the CPU's really does."""

    def __init__(self, on_gpu):
        self.on_gpu = on_gpu

    def on_before_backward(self, trainer, module, loss):
        if trainer.global_step == 1:
            if self.on_gpu:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 7.00 GiB. GPU 0 has ...")
            torch.empty(10**15)


@pytest.mark.parametrize("on_gpu", [True, False])
def test_a_step_without_memory_ends_in_one_message_and_keeps_the_last_step(on_gpu, tmp_path):
    module, data = parts(tiny_cohort(tmp_path), "data.batch_size=2")
    planned = Planned(make_plan(Run(net=module.net_factory.keywords, cuda=False), measure_load(data, 1)), False)
    trainer = lightning.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False, max_steps=4,
        limit_val_batches=0, callbacks=[Exhausted(on_gpu), KeepLast(tmp_path / "kept")],
    )  # fmt: skip
    said = "CUDA out of memory" if on_gpu else "the CPU's memory is used up"
    words = rf"got .{said}., after an estimate of 0\.\d+ GiB; lower data\.batch_size .*gradient_checkpointing=true"
    with pytest.raises(GemError, match=words):
        fit(trainer, module, data, None, planned)
    assert newest_whole(tmp_path / "kept").name == "step-0000001.ckpt"


def test_other_errors_stay_what_they_are():
    assert out_of_memory(RuntimeError("shape mismatch"), GIB, None) is None
    assert "fits into 1.0 GiB, got 'MemoryError'; lower" in str(out_of_memory(MemoryError(), GIB, None))


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
    packed = InstructionDataModule(processor, cohort, batch_size=1, num_workers=0, batches=BatchOptions(pack_to=1024))
    assert measure_load(packed, devices=1).length == 1024


def test_a_load_that_makes_no_step_is_refused(tmp_path):
    cohort = SimulatedCohort(tmp_path, n=12, seed=3, workers=1)
    cohort.prepare()
    processor = build_processor(tiny_tokenizer(), sizes(1))
    few = InstructionDataModule(processor, cohort, batch_size=4, num_workers=0)
    cfg = OmegaConf.create({"dry_run": False, "check_memory": False, "trainer": {"accelerator": "cpu"}})
    plan_run(cfg, few, Run(net={}, devices=3))
    packed = InstructionDataModule(processor, cohort, batch_size=4, num_workers=0, batches=BatchOptions(pack_to=1024))
    for data in (few, packed):
        with pytest.raises(GemError, match=r"at least 32 samples for 8 device\(s\) of data.batch_size=4, got 12"):
            plan_run(cfg, data, Run(net={}, devices=8))
    unanswered = [replace(sample, conversations=sample.conversations[:1]) for sample in cohort.samples()]
    mute = InstructionDataModule(processor, unanswered, batch_size=4, num_workers=0)
    with pytest.raises(GemError, match=r"with answers to learn from, got none among 12 .* 'simulated-3-0'"):
        measure_load(mute, devices=1)


def test_all_devices_are_those_that_are_there(monkeypatch):
    module = GemLitModule(lambda: None, freeze=[], unfreeze=[])
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    trainer = {"num_nodes": 2, "strategy": "auto", "precision": "32-true", "accumulate_grad_batches": 1}
    trainer |= {"max_epochs": 1, "max_steps": -1, "accelerator": "gpu"}
    model = {"optim": {"optimizer": {"_target_": "torch.optim.AdamW"}}}
    for asked, found in ((-1, 8), ("auto", 8), (2, 4)):
        cfg = OmegaConf.create({"dry_run": False, "model": model, "trainer": trainer | {"devices": asked}})
        assert settings_of(cfg, module).devices == found


def test_rates_for_nothing_are_refused_before_any_weight_is_read():
    with pytest.raises(GemError, match="reach trainable"):
        make_plan(Run(net=sizes(2), freeze=TOWERS, lr_by_pattern={"model.ecg_tower.*": 1e-4}), load())


@pytest.mark.parametrize(
    ("net", "words"),
    [
        ({"dtype": "foo"}, "dtype to be one of"),
        ({"kernels": Kernels(attention="foo")}, "attention to be one of"),
        ({"kernels": Kernels(compile="foo")}, "compile to be true, false or one of"),
        ({"gradient_checkpointing": "foo"}, "selective or a number"),
        ({"gradient_checkpointing": -1}, "selective or a number"),
        ({"lora": {"r": 0}}, r"rank \(lora.r\) of at least 1, got 0"),
        ({"lora": {"lora_dropuot": 0.1}}, "'lora_dropuot'; did you mean lora_dropout"),
        ({"lora": {"lora_dropout": 1.5}}, "from 0 to below 1"),
        ({"lora": {}, "checkpoint": "x", "quantization": "nf5"}, "nf5"),
    ],
)
def test_values_of_the_network_are_refused_before_it_is_built(net, words):
    with pytest.raises(GemError, match=words):
        make_plan(Run(net=sizes(2) | net), load())
