"""Dense ECG encoder: tokens, P, QRS and T of every 20 ms, and values with their uncertainty, from one signal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gem_lightning.errors import DataError
from gem_lightning.models.encoder.dense_trunk import ConvTrunk, PatchTrunk
from gem_lightning.models.encoder.dense_values import (
    BINARY,
    CONTINUOUS,
    MEASURED,
    VALUES,
    ValueTokens,
    physical,
    standardise,
)
from gem_lightning.models.encoder.dense_waves import INTERVALS, decode_intervals

_BETA = 0.3  # standard units: smaller errors count quadratically, so that the last ms do not dominate
_YES_NO_WEIGHT, _SPREAD_WEIGHT = 0.5, 0.1  # of the yes/no values and of the expected error, against the values
_LEAST_LOG_SPREAD = -4.0  # an expected error of 0.02 standard units: below any measurement's
_QUERIES = 8  # places that the value heads look at, by attention


@dataclass(frozen=True)
class DenseReading:
    """What the encoder sees in N signals.

    Attributes:
        tokens: (N, tokens, width) of the trunk, 80 ms each, without value tokens.
        waves: (N, 3, bins) logits of P, QRS and T in every 20 ms.
        values: (N, K) of :data:`~gem_lightning.models.encoder.dense_values.VALUES` in standard units; logits of the
            yes/no ones. :func:`~gem_lightning.models.encoder.dense_values.physical` gives bpm, ms, mV, probabilities.
        spread: (N, K) logarithm of the expected absolute error, standard units; meaningless for yes/no values.
    """

    tokens: Tensor
    waves: Tensor
    values: Tensor
    spread: Tensor


class DenseEncoder(nn.Module):
    """Convolution stem and transformer with heads for waves and values; a language model reads tokens and values.

    ``forward`` gives 125 tokens of 80 ms and 20 value tokens, so that it can be the ECG tower of a GEM (see
    :mod:`gem_lightning.models.encoder.outside`); ``read`` gives what is trained on and decoded. Weights are trained by
    ``experiment=ecg_dense_pretrain``.

    Args:
        leads: Rows of the signal, standard order; the values need the twelve.
        samples: Samples of a lead at 500 Hz.
        width: Of a token.
        layers: Transformer layers.
        heads: Of attention.
        channels: Of the stem's two convolutions.
        trunk: ``conv``, or ``transformer``: the published encoder's form with ``patch_size``.
        patch_size: Samples of a token of the ``transformer`` trunk.

    Raises:
        DataError: An unknown trunk, or sizes that do not divide.
    """

    sampling_rate = 500.0

    def __init__(
        self,
        *,
        leads: int = 12,
        samples: int = 5000,
        width: int = 160,
        layers: int = 3,
        heads: int = 4,
        channels: Sequence[int] = (32, 96),
        trunk: str = "conv",
        patch_size: int = 50,
    ) -> None:
        super().__init__()
        self.arguments = {
            "leads": leads, "samples": samples, "width": width, "layers": layers, "heads": heads,
            "channels": list(channels), "trunk": trunk, "patch_size": patch_size,
        }  # fmt: skip
        if leads != 12 or width % heads:
            raise DataError(f"expected 12 leads and a width that heads divide, got {leads} and {width}, {heads} heads")
        self.leads, self.samples, self.width = leads, samples, width
        if trunk == "conv":
            near, wide = channels
            self.trunk: nn.Module = ConvTrunk(leads, samples, width, layers, heads, (near, wide))
        elif trunk == "transformer":
            self.trunk = PatchTrunk(leads, samples, width, layers, heads, patch_size)
        else:
            raise DataError(f"expected trunk conv or transformer, got {trunk!r}")
        self.wave_head = WaveHead(width, int(self.trunk.factor), int(self.trunk.skip))
        self.look = nn.Linear(width, _QUERIES)
        self.value_head = nn.Sequential(
            nn.Linear((_QUERIES + 1) * width, 192), nn.GELU(), nn.Linear(192, 2 * len(VALUES))
        )
        self.value_tokens = ValueTokens(width)

    def forward(self, ecg_values: Tensor) -> Tensor:
        """Return what a language model reads.

        Args:
            ecg_values: (N, 12, samples) mV; cast to the parameters' dtype.

        Returns:
            (N, tokens + 20, width): tokens of 80 ms in order, then the value tokens.

        Raises:
            DataError: Another shape.
        """
        reading = self.read(ecg_values)
        tokens = self.value_tokens(reading.values, reading.spread, measured_of(self.intervals(reading)))
        return torch.cat([reading.tokens, tokens.to(reading.tokens.dtype)], dim=1)

    def read(self, ecg_values: Tensor) -> DenseReading:
        """Read (N, 12, samples) mV; see :class:`DenseReading`.

        Raises:
            DataError: Another shape.
        """
        if ecg_values.ndim != 3 or ecg_values.shape[1:] != (self.leads, self.samples):
            raise DataError(
                f"expected ECGs of shape (batch, {self.leads}, {self.samples}), got {tuple(ecg_values.shape)}; "
                "use gem_lightning.ecg.preprocess to bring leads, rate and length to the encoder's"
            )
        tokens, fine = self.trunk(ecg_values)
        weight = self.look(tokens).softmax(1)  # (N, tokens, queries)
        seen = torch.einsum("ntq,ntw->nqw", weight, tokens).flatten(1)
        values, spread = self.value_head(torch.cat([seen, tokens.mean(1)], 1)).chunk(2, dim=1)
        return DenseReading(tokens, self.wave_head(tokens, fine), values, spread.clamp(min=_LEAST_LOG_SPREAD))

    @staticmethod
    def intervals(reading: DenseReading) -> Tensor:
        """Return (N, 5) :data:`~gem_lightning.models.encoder.dense_waves.INTERVALS`; NaN where the waves show none."""
        return wave_intervals(reading.waves.detach().float())

    @torch.no_grad()
    def decode(self, ecg_values: Tensor) -> Tensor:
        """Return (N, K) values in bpm, ms, mV and probabilities: of the dense waves where they show them, else heads.

        Where the waves show beats, P is the share of beats with a P wave, and fibrillation the mean of its own head and
        of the share without. Where P is below one half, PR is NaN.
        """
        reading = self.read(ecg_values)
        return self.decoded(reading, self.intervals(reading))

    @torch.no_grad()
    def decoded(self, reading: DenseReading, shown: Tensor) -> Tensor:
        """Return what :meth:`decode` does, of a reading and of the :meth:`intervals` that its waves show."""
        standard, measured = reading.values.clone(), measured_of(shown)
        standard[:, : len(MEASURED)] = torch.where(torch.isfinite(measured), measured, standard[:, : len(MEASURED)])
        out, share = physical(standard), shown[:, -1]
        p, af, beats = VALUES.index("p"), VALUES.index("af"), torch.isfinite(measured[:, 0])
        out[:, p] = torch.where(beats, share, out[:, p])
        out[:, af] = torch.where(beats, (out[:, af] + 1 - share) / 2, out[:, af])
        out[:, VALUES.index("pr_ms")].masked_fill_(out[:, VALUES.index("p")] < 0.5, torch.nan)
        return out

    def loss(self, reading: DenseReading, targets: Mapping[str, Tensor]) -> Tensor:
        """Return the sum of :meth:`losses`."""
        return torch.stack(list(self.losses(reading, targets).values())).sum()

    def losses(self, reading: DenseReading, targets: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the weighted losses ``waves values yes_no spread``; what is unknown does not count.

        Args:
            reading: Of N signals.
            targets: ``waves`` (N, 3, bins) in [0, 1], -1 unknown, and ``values`` (N, K) in bpm, ms, mV, 0 or 1, NaN
                unknown, as :func:`~gem_lightning.models.encoder.dense_waves.targets_of` makes them.
        """
        wanted, values = targets["waves"].float(), standardise(targets["values"].float())
        known, truth = torch.isfinite(values), values.nan_to_num()
        read, spread = reading.values.float(), reading.spread.float()
        waves = nn.functional.binary_cross_entropy_with_logits(
            reading.waves.float(), wanted.clamp(min=0), reduction="none"
        )
        error = nn.functional.smooth_l1_loss(read, truth, beta=_BETA, reduction="none")
        yes = nn.functional.binary_cross_entropy_with_logits(read, truth.clamp(0, 1), reduction="none")
        surprise = (read - truth).abs().detach() * torch.exp(-spread) + spread  # of a Laplace distribution
        return {
            "waves": _mean(waves, wanted >= 0),
            "values": _mean(error[:, CONTINUOUS], known[:, CONTINUOUS]),
            "yes_no": _YES_NO_WEIGHT * _mean(yes[:, BINARY], known[:, BINARY]),
            "spread": _SPREAD_WEIGHT * _mean(surprise[:, CONTINUOUS], known[:, CONTINUOUS]),
        }


class WaveHead(nn.Module):
    """Logits of P, QRS and T for every 20 ms, from tokens and from finer features where the trunk has them.

    Args:
        width: Of a token.
        factor: Bins a token.
        skip: Channels of the finer features; 0 without.
    """

    def __init__(self, width: int, factor: int, skip: int, hidden: int = 48) -> None:
        super().__init__()
        self.factor, self.hidden = factor, hidden
        self.spread = nn.Linear(width, factor * hidden)
        self.mix = nn.Sequential(nn.Conv1d(hidden + skip, hidden, 3, padding=1), nn.GELU(), nn.Conv1d(hidden, 3, 1))

    def forward(self, tokens: Tensor, fine: Tensor | None) -> Tensor:
        """(N, tokens, width) and (N, skip, bins) → (N, 3, bins)."""
        coarse = self.spread(tokens).unflatten(2, (self.factor, self.hidden)).flatten(1, 2).transpose(1, 2)
        return self.mix(coarse if fine is None else torch.cat([coarse, fine], 1))


def _mean(loss: Tensor, known: Tensor) -> Tensor:
    """Mean over what is known; 0 where nothing is."""
    return (loss * known).sum() / known.sum().clamp(min=1)


def measured_of(shown: Tensor) -> Tensor:
    """Return (N, 4) :data:`MEASURED` in standard units of (N, 5) intervals; NaN where the waves show none."""
    table = shown.new_full((len(shown), len(VALUES)), torch.nan)
    table[:, : len(MEASURED)] = shown[:, : len(MEASURED)]
    return standardise(table)[:, : len(MEASURED)]


@torch.library.custom_op("gem_lightning::wave_intervals", mutates_args=())
def wave_intervals(waves: Tensor) -> Tensor:
    """(N, 5) :data:`INTERVALS` in bpm, ms and shares, float32, of dense logits (N, 3, bins); NaN where they show none.

    An operator of its own, because decoding is not made of tensor operations: what only traces shapes skips it.
    """
    rows = [decode_intervals(logits) for logits in waves.cpu().numpy()]
    table = [[row[name] for name in INTERVALS] for row in rows]
    return torch.tensor(table, dtype=torch.float32, device=waves.device).reshape(len(rows), len(INTERVALS))


@wave_intervals.register_fake
def _(waves: Tensor) -> Tensor:
    return waves.new_empty(len(waves), len(INTERVALS), dtype=torch.float32)
