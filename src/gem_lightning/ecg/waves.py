"""Waves that are exactly zero outside their onset and offset, and the beats made of them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from gem_lightning.ecg.leads import LIMB_FROM_I_II

INDEPENDENT: tuple[str, ...] = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")

# (12, 8): the standard leads from the eight independent ones; each precordial lead is itself.
EXPAND = np.zeros((12, 8))
EXPAND[:6, :2] = LIMB_FROM_I_II
EXPAND[6:, 2:] = np.eye(6)

_VISIBLE_MV = {"P": 0.015, "QRS": 0.03, "T": 0.02}
_GRID_MS = 0.5


@dataclass(frozen=True)
class Wave:
    """One deflection: rises from ``on`` to ``peak``, stays up to ``hold``, is back at zero at ``off``.

    Attributes:
        on, peak, off: Milliseconds from the onset of the group (P or QRS onset).
        weights: (8,) amplitude in each of :data:`INDEPENDENT`, mV.
        power: Exponent of the half sine; 1 has a corner at the onset, 2 is the raised cosine.
        hold: End of the plateau, ms; the peak itself where None.
    """

    on: float
    peak: float
    off: float
    weights: np.ndarray
    power: float = 1.3
    hold: float | None = None

    def shape(self, t_ms: np.ndarray) -> np.ndarray:
        """Height between 0 and 1 at times ``t_ms`` (any shape) after the onset of the group."""
        hold = self.peak if self.hold is None else self.hold
        rise = (t_ms - self.on) / max(self.peak - self.on, 1e-9)
        fall = (self.off - t_ms) / max(self.off - hold, 1e-9)
        return np.sin(0.5 * np.pi * np.clip(np.minimum(rise, fall), 0.0, 1.0)) ** self.power


def weights(mv: float, axis_deg: float, precordial: tuple[float, ...] | np.ndarray) -> np.ndarray:
    """Weights (8,) of a frontal vector of ``mv`` at ``axis_deg`` (Einthoven's triangle) and of V1 to V6, mV."""
    angle = np.deg2rad(axis_deg)
    return np.concatenate([[mv * np.cos(angle), mv * np.cos(angle - np.pi / 3)], np.asarray(precordial, float)])


@dataclass(frozen=True)
class Beat:
    """The waves of one kind of beat.

    Attributes:
        p: Waves of the P, from P onset.
        qrs: Waves of the QRS, from QRS onset.
        st: Plateaus of the ST segment, from QRS onset.
        t: Waves of the T, from QRS onset.
        beat_class: As in the delineation's classes.
    """

    p: tuple[Wave, ...]
    qrs: tuple[Wave, ...]
    st: tuple[Wave, ...]
    t: tuple[Wave, ...]
    beat_class: str = "normal"
    spike: tuple[Wave, ...] = field(default=())


def draw(waves: tuple[Wave, ...], onsets_s: np.ndarray, gains: np.ndarray, samples: int, fs: float) -> np.ndarray:
    """The eight independent leads (8, samples) of ``waves`` starting at ``onsets_s`` (n,) times ``gains`` (n,), mV."""
    if not waves or len(onsets_s) == 0:
        return np.zeros((8, samples))
    rows = np.empty((len(waves), samples))
    for row, wave in zip(rows, waves):
        first = np.ceil((onsets_s + wave.on / 1000) * fs).astype(int)
        index = first[:, None] + np.arange(int((wave.off - wave.on) * fs / 1000) + 2)  # (n, length)
        values = wave.shape((index / fs - onsets_s[:, None]) * 1000) * gains[:, None]
        inside = (index >= 0) & (index < samples)
        row[:] = np.bincount(index[inside], weights=values[inside], minlength=samples)[:samples]
    return np.stack([wave.weights for wave in waves], axis=1) @ rows


def template(waves: tuple[Wave, ...], t_ms: np.ndarray) -> np.ndarray:
    """The twelve leads (12, times) of one group at times ``t_ms`` after its onset, mV."""
    if not waves:
        return np.zeros((12, len(t_ms)))
    return EXPAND @ sum(np.outer(wave.weights, wave.shape(t_ms)) for wave in waves)


def fiducials(waves: tuple[Wave, ...], kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Onset, peak and offset of a group, ms from its onset.

    Args:
        waves: The group.
        kind: ``P``, ``QRS`` or ``T``: decides from which amplitude a wave counts in a lead.

    Returns:
        Per lead (3, 12), NaN where the group is not visible, and of the whole heart (3,). The peak is the largest
        deflection of either sign; that of the whole heart is the largest root mean square over the leads.
    """
    if not waves:
        return np.full((3, 12), np.nan), np.full(3, np.nan)
    on = np.array([wave.on for wave in waves])
    off = np.array([wave.off for wave in waves])
    grid = np.arange(on.min(), off.max() + _GRID_MS, _GRID_MS)
    leads = template(waves, grid)
    counts = np.abs(EXPAND @ np.stack([wave.weights for wave in waves], axis=1)) >= _VISIBLE_MV[kind]  # (12, waves)
    visible = (np.abs(leads).max(axis=1) >= _VISIBLE_MV[kind]) & counts.any(axis=1)
    marks = np.stack(
        [
            np.where(counts, on, np.inf).min(axis=1),
            grid[np.abs(leads).argmax(axis=1)],
            np.where(counts, off, -np.inf).max(axis=1),
        ]
    )
    whole = np.array([on.min(), grid[np.square(leads).sum(axis=0).argmax()], off.max()])
    return np.where(visible, marks, np.nan), whole


def net_axis(waves: tuple[Wave, ...]) -> float:
    """Frontal axis of the net area of a group, degrees in (-180, 180]."""
    grid = np.arange(0.0, max(wave.off for wave in waves), _GRID_MS)
    area = template(waves, grid)[[0, 5]].sum(axis=1)
    return float(np.rad2deg(np.arctan2(area[1] * 2 / np.sqrt(3), area[0])))
