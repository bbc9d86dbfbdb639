"""Any record, at any rate and of any length, damaged in any way: marks in order and inside, numbers or nothing."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from gem_lightning.ecg import DIAGNOSES, LEADS, EcgRecord, simulate
from gem_lightning.features import delineate, findings, measure
from gem_lightning.features.schema import MARKS

RATES = (100.0, 125.0, 200.0, 250.0, 257.3, 360.0, 400.0, 500.0, 720.0, 1000.0)
SECONDS = (2.5, 3.0, 5.0, 8.0, 10.0, 30.0)


def damaged(signal: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    x, kind = signal.copy(), rng.integers(7)
    if kind == 1:
        x[rng.integers(12)] = np.nan
    elif kind == 2:
        start = rng.integers(x.shape[1])
        x[:, start : start + rng.integers(1, 400)] = np.nan
    elif kind == 3:
        x[rng.integers(12)] *= rng.choice([0, 100, -1])
    elif kind == 4:
        x[rng.choice(12, 6, replace=False)] = rng.normal(0, 1, (6, x.shape[1]))
    elif kind == 5:
        x = x[rng.permutation(12)[: rng.integers(1, 12)]]
    elif kind == 6:
        x = np.clip(x, -0.3, 0.3)
    return x.astype(np.float32)


def check(seed: int) -> None:
    rng = np.random.default_rng(seed)
    made = simulate(
        str(rng.choice(DIAGNOSES)),
        seed=int(rng.integers(1_000_000)),
        fs=float(rng.choice(RATES)),
        seconds=float(rng.choice(SECONDS)),
        snr_db=rng.choice([None, 30, 20, 10, 5, 0]),
    )
    signal = damaged(made.record.signal, rng)
    record = EcgRecord(signal, made.record.fs, LEADS[: len(signal)])
    found = delineate(record)
    assert found.beats or found.reason
    for marks in (found.marks, found.global_marks):
        column = np.moveaxis(np.stack([marks[name] for name in MARKS]), 0, -1)  # (..., beats, 9)
        for row in column.reshape(-1, found.beats * len(MARKS)) if found.beats else ():
            row = row[np.isfinite(row)]
            assert np.all((row >= 0) & (row <= record.samples - 1))
            assert np.all(np.diff(row) >= 0)
    features = measure(record, found)
    features.to_json()
    features.to_measurements()
    findings(features, age=50, sex="F")


@pytest.mark.parametrize("part", range(4))
def test_any_record(part):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for seed in range(75 * part, 75 * (part + 1)):
            check(seed)


@pytest.mark.slow
def test_very_many_records():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for seed in range(1_000, 1_500):
            check(seed)
