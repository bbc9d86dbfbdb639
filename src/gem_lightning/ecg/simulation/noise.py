"""What a real recording adds to the heart: muscle, mains and baseline wander, electrode by electrode."""

from __future__ import annotations

import numpy as np

# (8, 9): leads I, II, V1 to V6 from the electrodes RA, LA, LL, V1 to V6; V leads are against Wilson's terminal.
_LEADS_FROM_ELECTRODES = np.zeros((8, 9))
_LEADS_FROM_ELECTRODES[0, :2] = -1.0, 1.0
_LEADS_FROM_ELECTRODES[1, [0, 2]] = -1.0, 1.0
_LEADS_FROM_ELECTRODES[2:, :3] = -1 / 3
_LEADS_FROM_ELECTRODES[2:, 3:] = np.eye(6)


def recording_noise(
    clean: np.ndarray, fs: float, snr_db: float, wander_mv: float, mains_hz: float, rng: np.random.Generator
) -> np.ndarray:
    """Noise of the eight independent leads.

    Muscle (broad-band, four fifths of the amplitude) and mains (one fifth) have the power that ``snr_db`` states
    against the clean signal, over all leads together; wander comes on top. Noise arises at electrodes, so the limb
    leads stay consistent.

    Args:
        clean: (8, samples) mV.
        fs: Hz.
        snr_db: Mean power of ``clean`` over that of muscle and mains, dB.
        wander_mv: Root mean square of the baseline wander, mV.
        mains_hz: 50 or 60.
        rng: Source of randomness.

    Returns:
        (8, samples) mV, to be added.
    """
    samples = clean.shape[1]
    mix = _LEADS_FROM_ELECTRODES.astype(np.float32)
    white = mix @ rng.standard_normal((9, samples + 4), dtype=np.float32)
    # a short smoothing minus a longer one keeps about fs/20 to fs/3: where muscle potentials lie at 500 Hz
    muscle = white[:, 2:-2] * 2
    muscle += white[:, 1:-3] + white[:, 3:-1]
    muscle -= 0.5 * (white[:, :-4] + white[:, 4:])
    t = np.arange(samples, dtype=np.float32) / np.float32(fs)
    # one phase for all leads: the mains couple into the patient, not into single electrodes
    hum = np.sin(np.float32(2 * np.pi * mains_hz) * t + np.float32(rng.uniform(0, 2 * np.pi)))
    mains = rng.standard_normal((8, 1), dtype=np.float32) * hum
    # 0.1 to 0.5 Hz: breathing and slow drift of the electrodes
    slow = rng.uniform(0.1, 0.5, 3)[:, None] * t + rng.uniform(0, 1, 3)[:, None]  # (3, samples) cycles
    wander = (mix @ rng.standard_normal((9, 3)) @ np.sin(2 * np.pi * slow)).astype(np.float32)
    # four fifths muscle, one fifth mains, by amplitude
    fast = _unit(0.8 * _unit(muscle) + 0.2 * _unit(mains))
    return fast * float(np.sqrt(np.mean(clean**2)) * 10 ** (-snr_db / 20)) + wander_mv * _unit(wander)


def _unit(x: np.ndarray) -> np.ndarray:
    """Scaled to a root mean square of 1 over everything."""
    return x * (1 / max(float(np.sqrt(np.vdot(x, x) / x.size)), 1e-12))
