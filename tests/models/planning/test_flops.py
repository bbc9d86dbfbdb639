"""Counted operations against PyTorch's own counter of what really runs."""

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from gem_lightning.data import GemCollator
from gem_lightning.models import build_gem, build_processor, tiny_tokenizer
from gem_lightning.models.compute import Kernels
from gem_lightning.models.planning.flops import FlopCounter

SIZES = {
    "llm": {
        "hidden_size": 64,
        "intermediate_size": 160,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 640,
    },
    "ecg": {"patch_size": 500, "width": 64, "layers": 2, "head_width": 32, "output_dim": 32},
    "vision": {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 56,
        "patch_size": 28,
    },
    "vision_feature_layer": -1,
    "kernels": Kernels(attention="eager"),  # whose products the counter sees, the upper triangle included
}


def one_step(network, batch):
    inputs = {name: value for name, value in batch.items() if name not in ("ids", "counts")}
    with FlopCounterMode(display=False) as counter:
        network(**inputs, return_logits=False).loss.backward()
    return counter.get_total_flops()


@pytest.mark.parametrize("stage", ["all", "frozen towers", "projectors", "lora"])
def test_counted_operations_are_those_that_run(stage):
    torch.manual_seed(0)
    network = build_gem(**SIZES, lora={"r": 4} if stage == "lora" else None)
    for name, parameter in network.named_parameters():
        if stage == "frozen towers":
            parameter.requires_grad_("tower" not in name)
        elif stage == "projectors":
            parameter.requires_grad_("projector" in name)
    processor = build_processor(tiny_tokenizer(), SIZES)
    talk = [{"from": "human", "value": "<image>\nRate?"}, {"from": "gpt", "value": "72 bpm. " * 20}]
    draw = np.random.default_rng(0)
    ecg, picture = draw.normal(size=(12, 5000)).astype(np.float32), draw.integers(255, size=(56, 56, 3), dtype=np.uint8)
    batch = GemCollator(processor)([{"id": i, **processor.encode(talk, [ecg], [picture])} for i in range(3)])
    found = FlopCounter(network).count(batch["counts"])
    counts = batch["counts"]
    upper = found.attention * (2 * counts["squares"] / (counts["squares"] + counts["tokens"]) - 1)
    recomputed = 2 * 640 * 64 * counts["labels"]  # the head's logits, a second time
    assert one_step(network, batch) == pytest.approx(found.total + upper + recomputed, rel=0.02)


def test_seven_billion_by_hand():
    """GEM-7B, frozen towers, 101 ECG + 576 image + 400 text tokens: 14.5 and 29.1 TFLOP forward and backward."""
    with torch.device("meta"):
        network = build_gem()
    for name, parameter in network.named_parameters():
        parameter.requires_grad_("tower" not in name)
    one = {"tokens": 1077, "squares": 1077**2, "labels": 1077, "ecgs": 1, "tiles": 1}
    found = FlopCounter(network).count(one)
    assert found.language + found.attention + found.head == pytest.approx((14.5 + 29.1) * 1e12, rel=0.01)
    assert found.towers == pytest.approx(0.39e12, rel=0.07)
