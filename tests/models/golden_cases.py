"""Golden inputs in the form that the network takes; used by the parity tests and by benchmarks/parity.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from gem_lightning.models.chat.placeholders import expand_markers

CASES = (
    "flat_single",
    "flat_batch2_right_pad",
    "flat_text_only_in_batch",
    "flat_image_token_absent",
    "anyres_unpad_two_sizes",
    "anyres_flat",
)


def sketch(values: torch.Tensor) -> torch.Tensor:
    """The golden projection of the last axis onto eight random directions."""
    width = values.shape[-1]
    directions = np.random.Generator(np.random.PCG64(20240501)).standard_normal((width, 8))
    return (values.double() @ torch.from_numpy(directions) / width**0.5).float()


def batch_of(name: str, root: Path, model: Any, processor: Any, ecgs: Any, pixels: Any) -> tuple[dict, dict, dict]:
    """(batch, golden tensors, golden facts) of a case; zero stand-ins of text-only samples are left out."""
    facts = json.loads((root / "expected.json").read_text())["cases"][name]
    tensors = load_file(root / "cases" / f"{name}.safetensors")
    items = []
    for row, multimodal in enumerate(facts["n_mm_tokens"]):
        count = int(tensors["attention_mask"][row].sum())
        ids, labels = (tensors[key][row, :count].tolist() for key in ("input_ids", "labels"))
        tokens = ([101], [multimodal - 101]) if multimodal else ([], [])
        ids, labels = expand_markers(ids, labels, *tokens, model.config.ecg_token_id, model.config.image_token_id)
        items.append({"input_ids": ids, "labels": labels})
    batch = dict(processor.pad(items))
    used = [row for row, multimodal in enumerate(facts["n_mm_tokens"]) if multimodal]
    if used:
        images = [pixels(facts["images"][row]) for row in used]
        batch["ecg_values"] = torch.stack([ecgs[facts["ecg_rows"][row]] for row in used])
        batch["pixel_values"] = images if any(len(image) > 1 for image in images) else torch.cat(images)
        batch["image_sizes"] = [facts["image_sizes"][row] for row in used]
    return batch, tensors, facts
