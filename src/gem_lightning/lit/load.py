"""What the data of a run bring to a step: counted on some samples, without reading a signal or a picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gem_lightning.errors import GemError
from gem_lightning.models.configuration_gem import IGNORE_INDEX

_LOOKED_AT = 64  # samples whose tokens are counted


@dataclass(frozen=True)
class Load:
    """What the data bring.

    Attributes:
        samples: An epoch deals.
        batches: Of one process in an epoch.
        rows, length: Of its largest batch.
        mean: Counts of an average batch, as :func:`gem_lightning.data.collate.count_items` names them.
        largest: Counts of the largest one.
    """

    samples: int
    batches: int
    rows: int
    length: int
    mean: Mapping[str, float]
    largest: Mapping[str, float]


def measure_load(data: Any, devices: int) -> Load:
    """Look at some samples of a data module's training split, the longest among them; no signal is read.

    Args:
        data: An ``InstructionDataModule``, prepared.
        devices: Processes that share an epoch.

    Raises:
        GemError: None of these samples has an answer to learn from.
    """
    dataset = data.dataset("train")
    processor, rough = dataset.processor, dataset.samples.lengths
    spread = np.linspace(0, len(dataset) - 1, min(_LOOKED_AT, len(dataset))).astype(int)
    longest = np.argsort(rough)[-min(data.batch_size, _LOOKED_AT) :]
    counted = {int(i): _counts(dataset, processor, int(i)) for i in {*spread, *longest}}
    if not any(counts["labels"] for counts in counted.values()):
        first = dataset.samples[next(iter(counted))].id
        raise GemError(
            f"expected samples with answers to learn from, got none among {len(counted)} that were looked at (the "
            f"first is {first!r}): give them turns from gpt, or raise data.max_length if these were cut off"
        )
    mean = {name: float(np.mean([counted[int(i)][name] for i in spread])) for name in counted[int(spread[0])]}
    largest = max((counted[int(i)] for i in longest), key=lambda counts: counts["tokens"])
    samples = len(dataset.samples.order(data.seed))
    if data.pack_to is None:
        rows, length, each = data.batch_size, largest["tokens"], float(data.batch_size)
        most = {name: value * rows for name, value in largest.items()}
        batches = samples // (rows * devices)
    else:
        rows, length = data.batch_size, data.pack_to
        each = rows * length * 0.98 / mean["tokens"]
        most = {name: value * each for name, value in mean.items()}
        batches = int(samples / (each * devices))
    return Load(samples, batches, rows, length, {name: value * each for name, value in mean.items()}, most)


def _counts(dataset: Any, processor: Any, index: int) -> dict[str, int]:
    found = dataset.placeholders(index)
    ids = found["input_ids"]
    return {
        "tokens": len(ids),
        "squares": len(ids) ** 2,
        "labels": sum(label != IGNORE_INDEX for label in found["labels"][1:]),
        "ecgs": ids.count(processor.ecg_token_id) // processor.ecg_tokens,
        "tiles": -(-ids.count(processor.image_token_id) // processor.tile_tokens),
    }
