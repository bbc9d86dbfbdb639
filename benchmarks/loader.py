"""Samples a second that one core prepares for a 7B: signal read, page drawn at 336 x 435, tokenised, collated.

python benchmarks/loader.py [--samples 400] [--preset scan]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time

import numpy as np

from gem_lightning.data import (
    GemCollator,
    InstructionDataset,
    LengthBatchSampler,
    Mixture,
    PackBatchSampler,
    PackingCollator,
    SimulatedCohort,
    token_lengths,
)
from gem_lightning.models import build_processor, tiny_tokenizer
from gem_lightning.render import EcgRenderer

PUBLISHED = {
    "llm": {"model_type": "llama"},
    "vision": {
        "model_type": "clip_vision_model",
        "hidden_size": 1024,
        "num_attention_heads": 16,
        "image_size": 336,
        "patch_size": 14,
    },
}


def rate(dataset, sampler, collate, share):
    """(samples a second of this process, share of real tokens) of one pass."""
    began, samples, tokens, padded = time.process_time(), 0, 0, 0
    for keys in sampler:
        counts = collate([dataset[key] for key in keys])["counts"]
        samples += counts["samples"]
        tokens += counts["tokens"]
        padded += counts["padded"]
    share.append(tokens / padded)
    return samples / (time.process_time() - began)


def main(arguments=None):
    """Print samples a second a core and the shares of real tokens."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--preset", default=None, help="flaws of the pictures: scan, photo, hard")
    options = parser.parse_args(arguments)
    processor = build_processor(tiny_tokenizer(), PUBLISHED)
    with tempfile.TemporaryDirectory() as folder:
        cohort = SimulatedCohort(folder, n=options.samples, seed=5, style="interpretation")
        cohort.prepare()
        renderer = EcgRenderer(size=(336, 435), artifacts=options.preset)
        dataset = InstructionDataset(Mixture(cohort), processor, renderer)
        dataset[0]  # caches
        shares: list[float] = []
        padded = LengthBatchSampler(dataset.samples.lengths, 8, window=50)
        speed = rate(dataset, padded, GemCollator(processor), shares)
        lengths = token_lengths(dataset)
        packed = PackBatchSampler(lengths, 1, 8192, window=50)
        fast = rate(dataset, packed, PackingCollator(processor, 8192), shares)
        unsorted = np.array_split(np.random.default_rng(0).permutation(len(lengths)), max(1, len(lengths) // 8))
        plain = lengths.sum() / sum(len(batch) * lengths[batch].max() for batch in unsorted)
    figures = {"padded_samples_per_s": speed, "packed_samples_per_s": fast, "tokens_mean": float(lengths.mean())}
    figures |= {"real_share_unsorted": plain, "real_share_by_length": shares[0], "real_share_packed": shares[1]}
    print(json.dumps({name: round(float(value), 3) for name, value in figures.items()}))
    return figures


if __name__ == "__main__":
    main()
