"""What the signal holds at the beats that the dense encoder marks: heights of waves in each lead, sums, rhythm."""

from __future__ import annotations

import math
import warnings

import numpy as np
import torch
from torch import Tensor, nn

from gem_lightning.ecg.record import LEADS
from gem_lightning.models.encoder.dense_values import LIMIT, SOFT_BINS, soft_bins
from gem_lightning.models.encoder.dense_waves import decode_waves

#: Of each lead, mV against the level before the QRS complex; medians over beats.
HEIGHTS = ("p_max", "p_min", "q", "r", "s", "st", "t_max", "t_min")
#: Sums that criteria of hypertrophy, low voltage and progression ask of several leads, mV.
SUMS = (
    "sokolow_lyon",
    "cornell",
    "limb_most",
    "chest_most",
    "r_v1_less_s",
    "r_v3_less_s",
    "r_i_less_s",
    "r_avf_less_s",
)
#: Spread, shortest, longest and mean step of RR, as shares of its median; P waves of beats; spread of PR and QRS, s.
RHYTHM = ("rr_spread", "rr_shortest", "rr_longest", "rr_step", "p_share", "p_per_beat", "pr_spread_s", "qrs_spread_s")
#: Centre and spread that standardise each value, near those of resting adults; they only choose the scale. Ours.
_SCALES = {
    "p_max": (0.1, 0.08), "p_min": (0.0, 0.05), "q": (0.0, 0.1), "r": (0.7, 0.6), "s": (-0.5, 0.5), "st": (0.0, 0.08),
    "t_max": (0.2, 0.25), "t_min": (0.0, 0.2),
    "sokolow_lyon": (2.3, 0.8), "cornell": (1.2, 0.7), "limb_most": (1.0, 0.4), "chest_most": (2.0, 0.7),
    "r_v1_less_s": (-0.6, 0.5), "r_v3_less_s": (-0.2, 0.6), "r_i_less_s": (0.4, 0.4), "r_avf_less_s": (0.4, 0.5),
    "rr_spread": (0.1, 0.08), "rr_shortest": (0.9, 0.15), "rr_longest": (1.1, 0.2), "rr_step": (0.08, 0.08),
    "p_share": (0.5, 0.25), "p_per_beat": (1.0, 0.3), "pr_spread_s": (0.01, 0.01), "qrs_spread_s": (0.01, 0.01),
}  # fmt: skip
_FS = 500.0  # Hz, of the signals that the encoder reads
_BASE = 8  # samples before the QRS complex that are the level: shorter than any PQ segment
_MARGIN = 5  # samples: half of a label's 20 ms, by which an edge may be late
_ST = (20, 30)  # samples after the J point: past the QRS complex, before the T wave rises; ours
_T_FROM = 40  # samples after the J point: T is looked for behind the ST point
_WIDTH = len(HEIGHTS)  # values of a token


def beat_values(signal: np.ndarray, waves: np.ndarray) -> np.ndarray:
    """Measure one signal at the beats that its dense logits show.

    Args:
        signal: (12, samples) mV at 500 Hz, standard order.
        waves: (3, bins) logits of P, QRS and T.

    Returns:
        (14, 8) float32: :data:`HEIGHTS` of each lead, :data:`SUMS`, :data:`RHYTHM`; NaN where there is nothing to
        measure.
    """
    marks = decode_waves(waves, _FS)
    out = np.full((len(LEADS) + 2, _WIDTH), np.nan, np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the median of nothing is NaN, as wanted
        heights = [found for beat in range(len(marks["R"])) if (found := _heights(signal, marks, beat)) is not None]
        if heights:
            out[: len(LEADS)] = np.nanmedian(heights, axis=0)
            out[: len(LEADS)][np.ptp(signal, axis=1) == 0] = np.nan  # a lead that is not there
            out[-2] = _sums(out[: len(LEADS)])
        out[-1] = _rhythm(marks, waves)
    return out


def _heights(signal: np.ndarray, marks: dict[str, np.ndarray], beat: int) -> np.ndarray | None:
    """Return (12, 8) of one beat; None of a beat that the record's ends cut."""
    on, off = round(marks["QRS_on"][beat]) - _MARGIN, round(marks["QRS_off"][beat]) + _MARGIN
    if on < _BASE or off + _ST[1] >= signal.shape[1]:
        return None
    level = signal - signal[:, on - _BASE : on].mean(1, keepdims=True)
    out = np.full((len(LEADS), _WIDTH), np.nan)
    out[:, :2] = _extremes(level, marks["P_on"][beat], min(marks["P_off"][beat], on))
    complexes = level[:, on:off]
    top, rows = complexes.argmax(1), np.arange(len(complexes))
    q = np.minimum.accumulate(complexes, axis=1)[rows, top]  # the lowest level up to the peak, and from it on
    s = np.minimum.accumulate(complexes[:, ::-1], axis=1)[rows, -1 - top]
    out[:, 2:5] = np.stack([np.minimum(q, 0), np.maximum(complexes[rows, top], 0), np.minimum(s, 0)], 1)
    out[:, 5] = level[:, off + _ST[0] : off + _ST[1]].mean(1)
    out[:, 6:] = _extremes(level, off + _T_FROM, marks["T_off"][beat])
    return out


def _extremes(level: np.ndarray, start: float, stop: float) -> np.ndarray:
    """Return highest and lowest level (12, 2) from ``start`` to ``stop``; NaN where there is no such stretch."""
    if not (math.isfinite(start) and math.isfinite(stop)) or round(stop) - round(start) < 1:
        return np.full((len(level), 2), np.nan)
    part = level[:, max(round(start), 0) : round(stop) + 1]
    return np.stack([part.max(1), part.min(1)], 1) if part.shape[1] else np.full((len(level), 2), np.nan)


def _sums(heights: np.ndarray) -> np.ndarray:
    """Return :data:`SUMS` of (12, 8) heights."""
    at = {name: i for i, name in enumerate(LEADS)}
    r, s = heights[:, HEIGHTS.index("r")], heights[:, HEIGHTS.index("s")]
    most = r - np.minimum(s, heights[:, HEIGHTS.index("q")])
    return np.array(
        [
            max(r[at["V5"]], r[at["V6"]]) - s[at["V1"]],
            r[at["aVL"]] - s[at["V3"]],
            np.nanmax(most[:6]),
            np.nanmax(most[6:]),
            *(r[at[lead]] + s[at[lead]] for lead in ("V1", "V3", "I", "aVF")),
        ]
    )


def _rhythm(marks: dict[str, np.ndarray], waves: np.ndarray) -> np.ndarray:
    """Return :data:`RHYTHM` of the marks of all beats."""
    beats = len(marks["R"])
    if beats < 3:
        return np.full(_WIDTH, np.nan)
    rr = np.diff(marks["R"])
    middle = np.median(rr)
    p_bins = waves[0] > 0
    p_waves = int(np.count_nonzero(p_bins[1:] & ~p_bins[:-1]))
    spreads = [np.nanstd((marks["QRS_on"] - marks["P_on"])[1:-1]), np.std((marks["QRS_off"] - marks["QRS_on"])[1:-1])]
    shares = [rr.std(), rr.min(), rr.max(), np.abs(np.diff(rr)).mean()]
    return np.array(
        [
            *(share / middle for share in shares),
            np.isfinite(marks["P_on"]).mean(),
            p_waves / beats,
            *(spread / _FS for spread in spreads),
        ]
    )


@torch.library.custom_op("gem_lightning::beat_table", mutates_args=())
def beat_table(signals: Tensor, waves: Tensor) -> Tensor:
    """(N, 14, 8) :func:`beat_values` of (N, 12, samples) and (N, 3, bins), float32.

    An operator of its own, because decoding is not made of tensor operations: what only traces shapes skips it.
    """
    rows = [beat_values(*pair) for pair in zip(signals.float().cpu().numpy(), waves.float().cpu().numpy())]
    return torch.from_numpy(np.stack(rows) if rows else np.zeros((0, len(LEADS) + 2, _WIDTH), np.float32)).to(
        signals.device
    )


@beat_table.register_fake
def _(signals: Tensor, waves: Tensor) -> Tensor:
    return signals.new_empty(len(signals), len(LEADS) + 2, _WIDTH, dtype=torch.float32)


class BeatTokens(nn.Module):
    """Tokens of :func:`beat_table`: one of each lead, one of the sums, one of the rhythm.

    A language model of a few million parameters cannot measure an S wave in pooled tokens; it can compare numbers. One
    map serves all leads, and a lead's own vector says which it is.

    Args:
        width: Of a token.
    """

    count = len(LEADS) + 2

    def __init__(self, width: int) -> None:
        super().__init__()
        self.features = _WIDTH * (SOFT_BINS + 1)
        self.weight = nn.Parameter(torch.randn(3, self.features, width) * 0.5)
        self.place = nn.Parameter(torch.randn(self.count, width) * 0.5)
        self.norm = nn.LayerNorm(width)

    def forward(self, table: Tensor) -> Tensor:
        """Return (N, 14, width) of (N, 14, 8) values, NaN where unknown."""
        kinds = [HEIGHTS] * len(LEADS) + [SUMS, RHYTHM]
        centre, spread = table.new_tensor([[_SCALES[name] for name in kind] for kind in kinds]).unbind(-1)
        known = torch.isfinite(table)
        standard = ((table - centre) / spread).nan_to_num().clamp(-LIMIT, LIMIT)
        shown = torch.cat([soft_bins(standard) * known[..., None], known[..., None].to(standard.dtype)], -1).flatten(2)
        heights, *others = shown.to(self.weight.dtype).split([len(LEADS), 1, 1], dim=1)
        mapped = [part @ weight for part, weight in zip((heights, *others), self.weight, strict=True)]
        return self.norm(torch.cat(mapped, 1) + self.place)
