"""Training that leaves modalities out and changes their order, so that a model reads either one alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gem_lightning.errors import DataError

_PAIR = re.compile(r"(<ecg>)(\s*)(<image>)|(<image>)(\s*)(<ecg>)")


@dataclass(frozen=True)
class ModalityDropout:
    """What ECG-R1 (arXiv:2602.04279) calls interleaved modality dropout, with its published values.

    A sample with both modalities loses one of them, either with the same chance; one that keeps both may have the
    image before the ECG. A sample with one modality keeps it.

    Args:
        dropout: Chance that a modality is left out.
        interleave: Chance that the order changes.

    Raises:
        DataError: A chance is not between 0 and 1.
    """

    dropout: float = 0.5
    interleave: float = 0.1

    def __post_init__(self) -> None:
        if not (0 <= self.dropout <= 1 and 0 <= self.interleave <= 1):
            raise DataError(f"expected chances from 0 to 1, got dropout={self.dropout}, interleave={self.interleave}")

    def __call__(self, draw: np.random.Generator) -> tuple[str | None, bool]:
        """(modality to leave out: ``ecg``, ``image`` or None; whether the order changes) of one sample with both."""
        left_out = ("ecg", "image")[int(draw.integers(2))] if draw.random() < self.dropout else None
        return left_out, left_out is None and draw.random() < self.interleave


def swap_markers(turns: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """The conversation with each pair of ECG and image in the other order.

    A lone ``<image>`` stands for both, ECG first, and becomes ``<image><ecg>``; ``<ecg><image>`` becomes
    ``<image><ecg>`` and the other way round.
    """

    def other(pair: re.Match[str]) -> str:
        return f"<image>{pair[2]}<ecg>" if pair[1] else f"<ecg>{pair[5]}<image>"

    lone = not any("<ecg>" in turn["value"] for turn in turns)
    return [
        {**turn, "value": turn["value"].replace("<image>", "<image><ecg>") if lone else _PAIR.sub(other, turn["value"])}
        for turn in turns
    ]
