"""Values of an ECG for a network: standardised, and as tokens that a language model can read numbers from."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from gem_lightning.ecg.recombination.values import QUANTITIES

VALUES = QUANTITIES  # columns of every table of values of the dense encoder
YES_NO = ("p", "af", "pvc")  # given as logits; all others are standardised
BINARY = [VALUES.index(name) for name in YES_NO]
CONTINUOUS = [i for i in range(len(VALUES)) if i not in BINARY]
MEASURED = ("rate_bpm", "pr_ms", "qrs_ms", "qt_ms")  # also decoded from the dense waves, which is more precise
#: Standardised values beyond this do not happen in people, and must not dominate a loss.
LIMIT = 4.0
# Centre and spread that standardise each value, near those of resting adults; rate as its logarithm. Ours: they only
# set the scale of the loss.
_CENTRES = {
    "rate_bpm": math.log(75.0),
    "pr_ms": 160.0,
    "qrs_ms": 100.0,
    "qt_ms": 390.0,
    "axis_sin": 0.3,
    "axis_cos": 0.6,
}
_SPREADS = {"rate_bpm": 0.3, "pr_ms": 30.0, "qrs_ms": 20.0, "qt_ms": 50.0, "axis_sin": 0.6, "axis_cos": 0.6}
_ST_SPREAD_MV, _T_SPREAD_MV = 0.08, 0.3
_BINS = 25  # soft bins from -3 to 3: a quarter of a standard unit each, that is 6 bpm or 7 ms PR before interpolation
SOFT_BINS = _BINS + 1  # numbers of soft_bins
_HARMONICS = 6  # of the axis' angle; the highest turns within 60 degrees


def standardise(values: Tensor) -> Tensor:
    """(N, K) in bpm, ms, mV and 0 or 1 → standard units; yes/no columns stay, NaN stays."""
    centre, spread = _scales(values)
    scaled = values.clone()
    scaled[:, 0] = torch.log(values[:, 0].clamp(min=1.0))
    return ((scaled - centre) / spread).clamp(-LIMIT, LIMIT)


def physical(standard: Tensor) -> Tensor:
    """(N, K) standard units and logits → bpm, ms, mV and probabilities."""
    centre, spread = _scales(standard)
    out = standard * spread + centre
    out[:, 0] = torch.exp(out[:, 0])
    out[:, BINARY] = torch.sigmoid(standard[:, BINARY])
    return out


def _scales(like: Tensor) -> tuple[Tensor, Tensor]:
    centre = [_CENTRES.get(name, 0.0) for name in VALUES]
    spread = [_SPREADS.get(name) or _own_spread(name) for name in VALUES]
    return like.new_tensor(centre), like.new_tensor(spread)


def _own_spread(name: str) -> float:
    return _ST_SPREAD_MV if name.startswith("st_") else _T_SPREAD_MV if name.startswith("t_") else 1.0


def soft_bins(values: Tensor) -> Tensor:
    """(...) standard units → (..., :data:`SOFT_BINS`): a bump over 25 places from -3 to 3, then half the value."""
    centres = torch.linspace(-3, 3, _BINS, device=values.device, dtype=values.dtype)
    bump = torch.exp(-0.5 * ((values.clamp(-3, 3)[..., None] - centres) * (_BINS - 1) / 6) ** 2)
    return torch.cat([bump, values.clamp(-LIMIT, LIMIT)[..., None] / 2], -1)


class ValueTokens(nn.Module):
    """Tokens of the values: rate, PR, QRS, QT, axis, P, AF, PVC, then ST and T of each lead: 20 tokens.

    A value becomes soft bins, a bump over 25 places from -3 to 3 standard units, so that a linear layer can read it to
    a few ms and neighbours look alike. With it go the spread that the network expects of its error, and whether and how
    well the dense waves agree.

    Args:
        width: Of a token.
    """

    count = 8 + 12

    def __init__(self, width: int) -> None:
        super().__init__()
        self.features = 2 * SOFT_BINS + 3
        self.weight = nn.Parameter(torch.randn(self.count, self.features, width) * 0.5)
        self.bias = nn.Parameter(torch.randn(self.count, width) * 0.5)
        self.norm = nn.LayerNorm(width)

    def forward(self, values: Tensor, spread: Tensor, decoded: Tensor) -> Tensor:
        """Return (N, 20, width).

        Args:
            values: (N, K) standard units and logits, of the value heads.
            spread: (N, K) logarithm of the expected error, standard units.
            decoded: (N, 4) :data:`MEASURED` of the dense waves, standard units; NaN where they show none.
        """
        rows = []
        for column in range(4):
            seen = torch.isfinite(decoded[:, column])
            head, other = values[:, column], decoded[:, column].nan_to_num().to(values.dtype)
            sure = [spread[:, column], torch.tanh((head - other).abs()) * seen, seen.to(head.dtype)]
            rows.append(self._row([torch.where(seen, other, head)], sure))
        sin, cos = (physical(values)[:, VALUES.index(name)] for name in ("axis_sin", "axis_cos"))
        turn = torch.atan2(sin, cos)[:, None] * torch.arange(1, _HARMONICS + 1, device=values.device)
        rows.append(self._pad(torch.cat([turn.sin(), turn.cos()], 1), [spread[:, 4], spread[:, 5]]))
        rows += [self._row([values[:, i] / 2], []) for i in BINARY]  # logits of ±6 are certain
        first_st, first_t = VALUES.index("st_I"), VALUES.index("t_I")
        for lead in range(12):
            st, t = first_st + lead, first_t + lead
            rows.append(self._row([values[:, st], values[:, t]], [spread[:, st], spread[:, t]]))
        features = torch.stack(rows, dim=1)  # (N, 20, features)
        return self.norm(torch.einsum("nsf,sfw->nsw", features, self.weight) + self.bias)

    def _row(self, values: list[Tensor], sure: list[Tensor]) -> Tensor:
        return self._pad(torch.cat([soft_bins(value) for value in values], 1), sure)

    def _pad(self, row: Tensor, sure: list[Tensor]) -> Tensor:
        """(N, features): what is known of a value, zeros, then how sure it is."""
        out = row.new_zeros(len(row), self.features)
        out[:, : row.shape[1]] = row
        for place, column in enumerate(sure):
            out[:, self.features - 3 + place] = column.detach()
        return out
