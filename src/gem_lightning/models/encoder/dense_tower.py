"""ECG tower of a small GEM: the dense encoder's tokens and values, its beats measured, its numbers spelled out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from gem_lightning.errors import DataError
from gem_lightning.models.encoder.dense import DenseEncoder, DenseReading, measured_of
from gem_lightning.models.encoder.dense_beats import BeatTokens, beat_table
from gem_lightning.models.encoder.dense_values import MEASURED, VALUES
from gem_lightning.models.encoder.number_tokens import NumberTokens

#: Numbers that texts quote, as :func:`numbers_of` makes them of the values.
NUMBERS = ("rate_bpm", "rr_ms", "pr_ms", "qrs_ms", "qt_ms", "qtc_ms", "axis_deg")


class DenseTower(nn.Module):
    """A :class:`DenseEncoder` for a language model: few tokens, its beats measured, and every decoded number in digits.

    Args:
        encoder: Arguments of the :class:`DenseEncoder`.
        pooled: Tokens of 80 ms that are averaged to one; a language model's time goes with their number.
        forced: Share of training signals whose true numbers are spelled, where :meth:`supervised` knows them, in place
            of the decoded ones. Texts quote the truth: of decoded digits, which miss it by a few ms, a language model
            learns to copy the last ones only slowly.

    Raises:
        DataError: ``pooled`` does not divide the tokens.
    """

    sampling_rate = 500.0

    def __init__(self, encoder: Mapping[str, Any] | None = None, pooled: int = 5, forced: float = 0.75) -> None:
        super().__init__()
        self.encoder = DenseEncoder(**encoder or {})
        self.leads, self.samples, self.width = self.encoder.leads, self.encoder.samples, self.encoder.width
        tokens: Any = self.encoder.trunk.tokens
        if tokens % pooled:
            raise DataError(f"expected pooled to divide {tokens} tokens, got {pooled}")
        self.pooled, self.forced = pooled, forced
        self.number_tokens = NumberTokens(len(NUMBERS), self.width)
        self.beat_tokens = BeatTokens(self.width)
        self._supervision: Supervision | None = None

    def forward(self, ecg_values: Tensor) -> Tensor:
        """Return what a language model reads.

        Args:
            ecg_values: (N, 12, samples) mV.

        Returns:
            (N, tokens / pooled + 16 + 14 + 28, width): the signal in order, the value tokens, heights and rhythm of the
            beats, the digits of the numbers.
        """
        reading = self.encoder.read(ecg_values)
        shown = self.encoder.intervals(reading)
        # without the tokens of what is spelled: from their smooth values texts learn to guess, near but not exact
        values = self.encoder.value_tokens(reading.values, reading.spread, measured_of(shown))[:, len(MEASURED) :]
        known = self.known(reading, shown)
        if self._supervision is not None:
            self._supervision.reading = reading
            known = self._supervision.forced(known, self.forced)
        numbers = self.number_tokens(numbers_of(known))
        beats = self.beat_tokens(beat_table(ecg_values, reading.waves.detach()))
        tokens = reading.tokens.unflatten(1, (-1, self.pooled)).mean(2)  # (N, tokens / pooled, width)
        return torch.cat([tokens, *(part.to(tokens.dtype) for part in (values, beats, numbers))], dim=1)

    @torch.no_grad()
    def known(self, reading: DenseReading, shown: Tensor) -> Tensor:
        """Return (N, K) decoded values; an interval that the waves do not show is NaN, whatever the heads expect."""
        values = self.encoder.decoded(reading, shown)
        values[:, : len(MEASURED)].masked_fill_(~torch.isfinite(shown[:, : len(MEASURED)]), torch.nan)
        return values

    @contextmanager
    def supervised(self, targets: Mapping[str, Tensor] | None, rows: Tensor | None) -> Iterator[Supervision]:
        """Within the block, :meth:`forward` knows the truth of some of its signals and keeps its reading for a loss.

        Args:
            targets: Of these signals, see :meth:`DenseEncoder.losses`; None without any.
            rows: (n,) which signals they belong to.
        """
        self._supervision = Supervision(targets, rows)
        try:
            yield self._supervision
        finally:
            self._supervision = None

    def loss(self, supervision: Supervision) -> Tensor | None:
        """Return the encoder's own loss on what it read under supervision; None where nothing was known or read."""
        reading, targets = supervision.reading, supervision.targets
        if reading is None or targets is None:
            return None
        some = DenseReading(*(getattr(reading, part.name)[supervision.rows] for part in fields(reading)))
        return self.encoder.loss(some, targets)


@dataclass
class Supervision:
    """What is known of some of the signals of a batch, and what the encoder read in all of them.

    Attributes:
        targets: See :meth:`DenseEncoder.losses`; None without any.
        rows: (n,) signals that the targets belong to.
        reading: Of the batch, once it was read.
    """

    targets: Mapping[str, Tensor] | None
    rows: Tensor | None
    reading: DenseReading | None = None

    def forced(self, values: Tensor, share: float) -> Tensor:
        """Put the truth in place of the decoded values (N, K) of a random ``share`` of the signals that have it."""
        if self.targets is None or self.rows is None:
            return values
        chosen = torch.rand(len(self.rows), device=values.device) < share
        return values.index_copy(0, self.rows[chosen], self.targets["values"].to(values)[chosen])


def numbers_of(values: Tensor) -> Tensor:
    """(N, K) values in bpm, ms and mV → (N, 7) :data:`NUMBERS`; QTc by Fridericia's formula, NaN where unknown."""
    rate, pr, qrs, qt = (values[:, VALUES.index(name)] for name in MEASURED)
    rr = 60_000 / rate.clamp(min=1.0)
    axis = torch.rad2deg(torch.atan2(values[:, VALUES.index("axis_sin")], values[:, VALUES.index("axis_cos")]))
    return torch.stack([rate, rr, pr, qrs, qt, qt / (rr / 1000) ** (1 / 3), axis], dim=1)
