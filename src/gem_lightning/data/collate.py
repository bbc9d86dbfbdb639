"""Items to a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gem_lightning.errors import DataError
from gem_lightning.models.configuration_gem import IGNORE_INDEX


class GemCollator:
    """Pads texts on the right and lays signals and pictures one after another, in the order of their markers.

    A batch holds ``ids`` and tensors: ``input_ids, attention_mask, labels`` (B, S); ``ecg_values`` (signals, 12, T)
    and ``pixel_values`` (pictures, 3, h, w), each left out when no sample of the batch has one.

    Args:
        processor: A ``GemProcessor``: gives the padding id and stacks pictures of several tiles.
    """

    def __init__(self, processor: Any) -> None:
        self.processor = processor

    def __call__(self, items: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """A batch from at least one item.

        Raises:
            DataError: No sample of the batch has a label to learn from.
        """
        batch = self.processor.pad([{k: v for k, v in item.items() if k != "id"} for item in items])
        batch["ids"] = [item["id"] for item in items]
        if bool((batch["labels"] == IGNORE_INDEX).all()):
            raise DataError(f"expected answers to learn from, got only masked labels in the samples {batch['ids']}")
        return dict(batch)
