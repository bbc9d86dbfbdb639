"""Waves that are exactly zero outside their onset and offset, and the beats made of them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np

from gem_lightning.ecg.leads import LIMB_FROM_I_II

INDEPENDENT: tuple[str, ...] = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")

# (12, 8): the standard leads from the eight independent ones; each precordial lead is itself.
EXPAND = np.zeros((12, 8))
EXPAND[:6, :2] = LIMB_FROM_I_II
EXPAND[6:, 2:] = np.eye(6)

# From here on a wave counts: a little below what must be seen, so that whoever finds a wave that is there, but hardly,
# has not invented it. A reader sees P waves of 15 to 20 µV; a recorder has to recognise a wave of 30 µV that lasts
# 6 ms (IEC 60601-2-51, annex GG.5).
_VISIBLE_MV = {"P": 0.010, "QRS": 0.020, "T": 0.020}
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
        # 1e-9 ms: a wave whose peak lies on its onset rises at once instead of dividing by zero
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
        spike: Stimulus of the ventricles, from QRS onset.
        p_spike: Stimulus of the atria, from P onset.
    """

    p: tuple[Wave, ...]
    qrs: tuple[Wave, ...]
    st: tuple[Wave, ...]
    t: tuple[Wave, ...]
    beat_class: str = "normal"
    spike: tuple[Wave, ...] = field(default=())
    p_spike: tuple[Wave, ...] = field(default=())


def draw(waves: tuple[Wave, ...], onsets_s: np.ndarray, gains: np.ndarray, samples: int, fs: float) -> np.ndarray:
    """The eight independent leads (8, samples) of ``waves`` starting at ``onsets_s`` (n,) times ``gains`` (n,), mV."""
    if not waves or len(onsets_s) == 0:
        return np.zeros((8, samples))
    rows = np.empty((len(waves), samples))
    for row, wave in zip(rows, waves):
        first = np.ceil((onsets_s + wave.on / 1000) * fs).astype(int)
        index = first[:, None] + np.arange(int((wave.off - wave.on) * fs / 1000) + 2)  # (n, length)
        values = wave.shape(index * (1000 / fs) - onsets_s[:, None] * 1000) * gains[:, None]
        # one extra place at each end takes what lies outside the record
        row[:] = np.bincount((index.clip(-1, samples) + 1).ravel(), values.ravel(), samples + 2)[1:-1]
    return np.stack([wave.weights for wave in waves], axis=1) @ rows


def template(waves: tuple[Wave, ...], t_ms: np.ndarray) -> np.ndarray:
    """The twelve leads (12, times) of one group at times ``t_ms`` after its onset, mV."""
    if not waves:
        return np.zeros((12, len(t_ms)))
    shapes = np.stack([wave.shape(t_ms) for wave in waves])  # (waves, times)
    return EXPAND @ np.stack([wave.weights for wave in waves], axis=1) @ shapes


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
    mv = EXPAND @ np.stack([wave.weights for wave in waves], axis=1)  # (12, waves)
    leads = mv @ np.stack([wave.shape(grid) for wave in waves])
    counts = np.abs(mv) >= _VISIBLE_MV[kind]
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


def frontal_area(waves: tuple[Wave, ...]) -> np.ndarray:
    """Net area of a group in the frontal plane (2,): to the left and downwards, mV ms."""
    area = np.zeros(2)
    for wave in waves:
        slopes = math.gamma((wave.power + 1) / 2) / (math.sqrt(math.pi) * math.gamma(wave.power / 2 + 1))
        hold = wave.peak if wave.hold is None else wave.hold
        one, two = wave.weights[:2] * (slopes * (wave.peak - wave.on + wave.off - hold) + hold - wave.peak)
        area += one, (2 * two - one) / math.sqrt(3)
    return area


def net_axis(waves: tuple[Wave, ...]) -> float:
    """Frontal axis of the net area of a group, degrees in (-180, 180]."""
    x, y = frontal_area(waves)
    return math.degrees(math.atan2(y, x))


def aim(fixed: tuple[Wave, ...], main: tuple[Wave, ...], axis_deg: float) -> tuple[Wave, ...]:
    """All waves, with ``main`` turned in the frontal plane so that the net area of all points to ``axis_deg``.

    Where ``main`` is too small against ``fixed`` for that, ``fixed`` is made smaller in the limb leads.
    """
    angle = math.radians(axis_deg)
    x, y = frontal_area(fixed)
    across = y * math.cos(angle) - x * math.sin(angle)  # what main has to cancel
    mx, my = frontal_area(main)
    # the fixed waves may take at most four fifths of the wanted vector, so that the axis can be reached
    shrink = min(1.0, 0.8 * math.hypot(mx, my) / max(math.hypot(x, y), 1e-9))
    limb = np.concatenate([np.full(2, shrink), np.ones(6)])
    fixed = tuple(replace(wave, weights=wave.weights * limb) for wave in fixed)
    turn = angle - math.asin(shrink * across / math.hypot(mx, my)) - math.atan2(my, mx)
    return fixed + tuple(replace(wave, weights=rotate(wave.weights, math.degrees(turn))) for wave in main)


def rotate(w: np.ndarray, degrees: float) -> np.ndarray:
    """Weights (8,) with their frontal vector turned by ``degrees``."""
    x, y = w[0], (2 * w[1] - w[0]) / math.sqrt(3)  # II = x/2 + y·√3/2
    return weights(math.hypot(x, y), math.degrees(math.atan2(y, x)) + degrees, w[2:])
