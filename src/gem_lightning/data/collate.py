"""Items to a batch, padded by the processor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from gem_lightning.errors import DataError
from gem_lightning.models.configuration_gem import IGNORE_INDEX


class GemCollator:
    """Pads texts on the right and concatenates signals and images in the order of their markers.

    A batch holds ``ids``, ``counts`` (see :func:`count_items`) and tensors: ``input_ids, attention_mask, labels``
    (B, S); ``ecg_values`` (signals, 12, T) and ``pixel_values`` (images, 3, h, w), each omitted when no sample of
    the batch has one. Where samples have targets of the ECG encoder, ``targets`` holds them, stacked by name, and
    ``target_rows`` (n,) the signals of ``ecg_values`` that they belong to.

    Args:
        processor: A ``GemProcessor``: provides the padding id and stacks images of several tiles.
    """

    def __init__(self, processor: Any) -> None:
        self.processor = processor

    def __call__(self, items: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Return a batch from at least one item.

        Raises:
            DataError: No sample of the batch has a label to learn from.
        """
        batch = self.batch(items)
        batch["ids"] = [item["id"] for item in items]
        batch["counts"] = count_items(items, batch["input_ids"].numel())
        batch |= stack_targets(items)
        if bool((batch["labels"] == IGNORE_INDEX).all()):
            raise DataError(
                f"expected answers to learn from, got only masked labels in the samples {batch['ids']}; give each an "
                "answer (a turn from gpt), raise data.max_length if it was cut off, or leave such samples out"
            )
        return batch

    def batch(self, items: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Return the tensors."""
        return dict(self.processor.pad([{k: v for k, v in item.items() if k != "id"} for item in items]))


def stack_targets(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Stack the encoder's targets of a batch, and say which of its signals they belong to; empty without any."""
    starts = np.cumsum([0, *(len(item.get("ecg_values", ())) for item in items)])
    known = [(int(start), item["targets"]) for start, item in zip(starts, items) if item.get("targets") is not None]
    if not known:
        return {}
    names = known[0][1].keys()
    targets = {name: torch.from_numpy(np.stack([one[name] for _, one in known])) for name in names}
    return {"targets": targets, "target_rows": torch.tensor([row for row, _ in known])}


def count_items(items: Sequence[dict[str, Any]], padded: int) -> dict[str, int]:
    """Count the samples, tokens and data of a batch.

    Args:
        items: Of :meth:`gem_lightning.models.GemProcessor.encode`.
        padded: Tokens of the batch, padding included.

    Returns:
        ``samples``; ``tokens`` without and ``padded`` with padding; ``squares``, the sum of the squared lengths;
        ``labels`` that are learnt; ``ecgs``; image ``tiles``; samples that were ``cut`` at ``max_length``, or
        ``skipped`` in favour of these.
    """
    lengths = [len(item["input_ids"]) for item in items]
    return {
        "samples": len(items),
        "tokens": sum(lengths),
        "padded": padded,
        "squares": sum(length**2 for length in lengths),
        "labels": sum(label != IGNORE_INDEX for item in items for label in item["labels"][1:]),
        "ecgs": sum(len(item.get("ecg_values", ())) for item in items),
        "tiles": sum(len(tiles) for item in items for tiles in item.get("pixel_values", ())),
        "cut": sum(bool(item.get("cut")) for item in items),
        "skipped": sum(item.get("skipped", 0) for item in items),
    }
