"""Records whose image can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from gem_lightning.ecg.record import LEADS, EcgRecord


def heart(fs: float = 500, seconds: float = 10, seed: int = 0) -> EcgRecord:
    """A plain beat in every lead, drawn from bell curves."""
    t = np.arange(int(fs * seconds)) / fs
    signal = np.random.default_rng(seed).normal(0, 0.006, (12, t.size))
    for lead, size in enumerate((0.8, 1.1, 0.5, -0.9, 0.3, 0.8, -0.9, -1.0, 0.8, 1.2, 1.1, 0.9)):
        for beat in np.arange(0.35, seconds, 0.82):
            for place, width, height in (
                (-0.16, 0.022, 0.12 * np.sign(size)),
                (-0.027, 0.008, -0.12 * size),
                (0.0, 0.011, size),
                (0.028, 0.009, -0.25 * size),
                (0.28, 0.045, 0.28 * size),
            ):
                signal[lead] += height * np.exp(-0.5 * ((t - beat - place) / width) ** 2)
    return EcgRecord(signal.astype(np.float32), fs)


@pytest.fixture(scope="session")
def record() -> EcgRecord:
    return heart()


@pytest.fixture(scope="session")
def ramps() -> EcgRecord:
    """Every lead is another square wave: its own period and its own height, so lead and time can be told apart."""
    t = np.arange(5000) / 500
    rows = [0.1 + 0.03 * k + (0.02 * k + 0.05) * np.sign(np.sin(2 * np.pi * t * (0.6 + 0.13 * k))) for k in range(12)]
    return EcgRecord(np.array(rows, np.float32), 500, LEADS)
