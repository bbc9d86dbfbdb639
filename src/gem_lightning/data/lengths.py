"""Exact token counts of samples, without reading signals or images."""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path
from typing import Any

import numpy as np

from gem_lightning.errors import DataError
from gem_lightning.jobs import write_atomically
from gem_lightning.samples.sample import CHARACTERS_PER_TOKEN

logger = logging.getLogger(__name__)

_CALIBRATION = 64  # samples that calibrate the tokens beyond a text's own


def token_lengths(dataset: Any, cache: str | os.PathLike[str] | None = None) -> np.ndarray:
    """(samples,) exact tokens of every sample, without reading signals or images.

    Args:
        dataset: An ``InstructionDataset``.
        cache: Folder that keeps the numbers for the next run over the same samples; None recounts.
    """
    settings = dataset.processor.to_dict() if hasattr(dataset.processor, "to_dict") else {}
    facts = repr((len(dataset), dataset.cut_at, dataset.renderer is None, sorted(map(str, settings.items()))))
    key = hashlib.sha256(facts.encode() + dataset.samples.lengths.tobytes()).hexdigest()[:12]
    path = None if cache is None else Path(cache) / f"tokens-{key}.npy"
    if path is not None and path.is_file():
        return np.load(path)
    logger.info("counting the tokens of %d samples", len(dataset))
    lengths = np.array([len(dataset.placeholders(index)["input_ids"]) for index in range(len(dataset))], np.int32)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)

        def write(target: Path) -> None:
            with target.open("wb") as file:
                np.save(file, lengths)

        write_atomically(path, write)
    return lengths


def longer_than(dataset: Any, limit: int) -> dict[int, int]:
    """Index → tokens of the samples with more than ``limit`` tokens before any cut, in order.

    Only samples that may be so long are tokenised: a text has at most one token a character, and ECG, image and the
    conversation's format bring as many as they bring to some samples that are looked at first.

    Args:
        dataset: An ``InstructionDataset``.
        limit: Tokens.
    """
    rough = np.asarray(dataset.samples.lengths, np.int64)
    spread = np.unique(np.linspace(0, len(rough) - 1, min(_CALIBRATION, len(rough))).astype(int))
    on_top = max(_whole_length(dataset, int(index)) - int(rough[index]) for index in spread)
    most = on_top + CHARACTERS_PER_TOKEN * (rough + 1)
    counted = {int(index): _whole_length(dataset, int(index)) for index in np.flatnonzero(most > limit)}
    return {index: tokens for index, tokens in counted.items() if tokens > limit}


def settle_long_samples(dataset: Any) -> str:
    """Apply a data set's ``long_samples`` before training and describe the result.

    What is not known in advance (images stored in tiles, other wordings of questions) is handled at reading.

    Args:
        dataset: An ``InstructionDataset``; ``skip`` leaves samples of its mixture out.

    Raises:
        DataError: There is a long sample and the policy is to stop, or none is left.
    """
    limit, policy = dataset.max_length, dataset.long_samples
    if limit is None:
        return "samples of any length"
    try:
        found = longer_than(dataset, limit)
    except DataError as error:
        return f"samples longer than {limit:,} tokens are found as they are read ({error})"
    if found and policy == "stop":
        index, tokens = next(iter(found.items()))
        raise DataError(f"{too_long(dataset.samples[index].id, tokens, limit)} ({len(found):,} samples are so long)")
    if found and policy == "skip":
        dataset.samples.leave_out(found)
    if not found:
        return f"none longer than {limit:,} tokens"
    return f"{len(found):,} longer than {limit:,} tokens: {'cut off there' if policy == 'cut' else 'left out'}"


def too_long(name: Any, tokens: int, limit: int) -> str:
    """Explain that a sample is too long, and how to fix it."""
    return (
        f"sample {name!r}: expected at most {limit:,} tokens (data.max_length), got {tokens:,}; raise data.max_length, "
        "or choose data.samples.long_samples=cut (it loses its end) or skip"
    )


def _whole_length(dataset: Any, index: int) -> int:
    return len(dataset.placeholders(index, whole=True)["input_ids"])
