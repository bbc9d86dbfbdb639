"""Our training step beside one of the original's style, in one process, on the same samples with the same weights.

Original style: batches as they come, padded to the longest; embeddings spliced sample by sample; float32 logits of
every position; every layer's activations recomputed. Ours: packed rows, one scatter, logits only where labels are,
nothing recomputed. Prints real tokens a second, share of real tokens and peak memory, once the losses agree.

    python benchmarks/train_step.py --by-length     # tiny sizes, CPU; the library's default batches
    python benchmarks/train_step.py                 # the same with packs, whose block mask SDPA reads whole on a CPU
    python benchmarks/train_step.py --full          # the 7B's sizes, random weights, CUDA
"""

from __future__ import annotations

import argparse
import json
import pathlib
import resource
import sys
import time

import numpy as np
import torch
from torch import nn

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "tests"))

from gem_lightning.data import GemCollator, PackingCollator
from gem_lightning.data.packing import pack_lengths
from gem_lightning.models import build_gem, build_processor, tiny_tokenizer
from helpers_sizes import FULL, SMALL


def samples(processor, count, mean_words, draw):
    """Items whose answers vary in length as those of ECG instruction data do (a gamma of shape 2)."""
    words = ["sinus", "rhythm", "rate", "PR", "QRS", "QT", "axis", "72", "160", "92", "400", "ST", "elevation", "V2"]
    picture = draw.integers(255, size=(processor.image.image_size, processor.image.image_size, 3), dtype=np.uint8)
    items = []
    for number in range(count):
        text = " ".join(draw.choice(words, max(8, int(draw.gamma(2, mean_words / 2)))))
        talk = [{"from": "human", "value": "<image>\nInterpret."}, {"from": "gpt", "value": text}]
        ecg = draw.normal(0, 0.2, (12, processor.ecg.ecg_samples)).astype(np.float32)
        items.append({"id": number, **processor.encode(talk, [ecg], [picture], max_length=2048)})
    return items


def original_step(network, batch):
    """Spliced embeddings, every logit in float32; the summed loss of the answers' tokens."""
    body, config = network.model, network.config
    ecg_rows = body.get_ecg_features(batch["ecg_values"])
    image_rows = body.get_image_features(batch["pixel_values"])
    spliced = []
    for row, ids in enumerate(batch["input_ids"]):
        parts, start = [], 0
        marks = ((ids == config.ecg_token_id) | (ids == config.image_token_id)).nonzero()[:, 0].tolist()
        ecg, image = list(ecg_rows[row]), list(image_rows[row])
        for mark in marks:
            parts.append(body.get_input_embeddings()(ids[start:mark]))
            parts.append((ecg if ids[mark] == config.ecg_token_id else image).pop(0)[None])
            start = mark + 1
        parts.append(body.get_input_embeddings()(ids[start:]))
        spliced.append(torch.cat(parts))
    hidden = body.language_model(
        inputs_embeds=torch.stack(spliced), attention_mask=batch["attention_mask"], use_cache=False
    ).last_hidden_state
    logits = network.lm_head(hidden).float()
    targets = batch["labels"][:, 1:].flatten()
    return nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), targets, ignore_index=-100, reduction="sum")


def our_step(network, batch):
    """The same sum through the network's own loss."""
    inputs = {name: value for name, value in batch.items() if name not in ("ids", "counts")}
    return network(**inputs, return_logits=False, num_items_in_batch=1).loss


def run(network, batches, step, device, dtype):
    """Real tokens a second, summed loss, real-token share, peak bytes above the weights."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        torch.cuda.synchronize()
    began, losses = time.perf_counter(), []
    for batch in batches:
        moved = {
            name: value.to(device, dtype if value.is_floating_point() else None) if torch.is_tensor(value) else value
            for name, value in batch.items()
        }
        loss = step(network, moved)
        loss.backward()
        losses.append(loss.detach())
        network.zero_grad(set_to_none=True)
    total = float(sum(losses))
    seconds = time.perf_counter() - began
    real = sum(batch["counts"]["tokens"] for batch in batches)
    padded = sum(batch["counts"]["padded"] for batch in batches)
    peak = (
        torch.cuda.max_memory_allocated()
        if device == "cuda"
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    )
    return {"tokens_per_s": real / seconds, "loss": total, "real_share": real / padded, "peak_gib": peak / 2**30}


def main(arguments=None):
    """Print one JSON line a style and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--by-length", action="store_true", help="ours pads samples of similar length, not packs")
    parser.add_argument("--samples", type=int, default=32)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--mean-words", type=int, default=120)
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args(arguments)
    device, dtype = ("cuda", torch.bfloat16) if options.full else ("cpu", torch.float32)
    torch.manual_seed(0)
    sizes = FULL if options.full else SMALL
    with torch.device(device):
        network = build_gem(**sizes, dtype=str(dtype).removeprefix("torch."))
    for name, parameter in network.named_parameters():
        parameter.requires_grad_("tower" not in name)
    processor = build_processor(tiny_tokenizer(), sizes)
    items = samples(processor, options.samples, options.mean_words, np.random.default_rng(0))
    padded = [GemCollator(processor)(items[i : i + options.batch]) for i in range(0, len(items), options.batch)]
    lengths = np.array([len(item["input_ids"]) for item in items])
    room = int(1.02 * lengths.sum() / len(padded))  # as many rows as there are batches
    collate = PackingCollator(processor, max(room, int(lengths.max())))
    packed = [collate([items[i] for i in pack]) for pack in pack_lengths(lengths, collate.pack_to)]
    if options.by_length:
        order = np.split(np.argsort(lengths, kind="stable"), range(options.batch, len(items), options.batch))
        packed = [GemCollator(processor)([items[i] for i in batch]) for batch in order]
    found: dict[str, list] = {"ours": [], "original style": []}
    for _ in range(options.rounds):  # ours first: on the CPU the peak only grows
        network.gradient_checkpointing_disable()
        found["ours"].append(run(network, packed, our_step, device, dtype))
        network.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        found["original style"].append(run(network, padded, original_step, device, dtype))
    ours, theirs = (max(runs, key=lambda one: one["tokens_per_s"]) for runs in found.values())
    ours["peak_gib"], theirs["peak_gib"] = (runs[0]["peak_gib"] for runs in found.values())
    tolerance = 2e-2 if options.full else 1e-4
    assert abs(ours["loss"] / theirs["loss"] - 1) < tolerance, (ours["loss"], theirs["loss"])
    for name, figures in (("ours", ours), ("original style", theirs)):
        print(json.dumps({"style": name, **{key: round(value, 4) for key, value in figures.items()}}))
    ratio = ours["tokens_per_s"] / theirs["tokens_per_s"]
    print(
        f"real tokens a second: {ratio:.2f}x; real tokens {ours['real_share']:.1%} against {theirs['real_share']:.1%}"
    )
    return ratio


if __name__ == "__main__":
    main()
