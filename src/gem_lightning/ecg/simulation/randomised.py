"""Simulated ECGs of random rhythm, form and values, wider than healthy ranges: for training encoders."""

from __future__ import annotations

from typing import Any

import numpy as np

from gem_lightning.ecg.simulation.simulate import SimulatedEcg, simulate
from gem_lightning.errors import DataError

# Rhythms by how often they come; half are sinus rhythm, which morphologies go with.
_RHYTHMS: tuple[tuple[str, int], ...] = (
    ("sinus", 10), ("pvc", 2), ("bigeminy", 1), ("pac", 1), ("atrial_flutter", 1), ("av_block_1", 1),
    ("sinus_arrhythmia", 1), ("sinus_bradycardia", 1), ("sinus_tachycardia", 1), ("paced_rhythm", 2), ("av_block_3", 1),
    ("pre_excitation", 1),
)  # fmt: skip
_FORMS: tuple[tuple[str, int], ...] = (
    ("", 6), ("rbbb", 1), ("lbbb", 1), ("lafb", 1), ("lvh", 1), ("rvh", 1), ("st_elevation", 1), ("st_depression", 1),
    ("t_inversion", 1), ("pathological_q", 1), ("low_voltage", 1), ("incomplete_rbbb", 1), ("long_qtc", 1),
)  # fmt: skip
_OWN_VALUES = {"lvh", "low_voltage", "pre_excitation", "paced_rhythm"}  # forms that random amplitudes would undo
_TRIES = 20  # of combinations until one is possible; a few rhythms exclude a few forms


def random_ecg(seed: int, index: int, fs: float = 500.0, seconds: float = 10.0) -> SimulatedEcg:
    """Simulate ECG ``index`` of a seed without noise; equal arguments give equal bytes.

    Fibrillation is left out: synthetic f waves mislead a model about real ones.

    Raises:
        DataError: No possible combination was drawn.
    """
    rng = np.random.default_rng([seed, index])
    for _ in range(_TRIES):
        rhythm, form = _choose(rng, _RHYTHMS), _choose(rng, _FORMS)
        codes = [rhythm] if not form or rhythm in ("paced_rhythm", "pre_excitation") else [rhythm, form]
        try:
            return simulate(codes, int(rng.integers(2**31)), fs, seconds, **_values(rng, rhythm, form))
        except DataError:
            continue
    raise DataError(f"expected a possible simulated ECG of seed {seed}, index {index} within {_TRIES} draws, got none")


def _choose(rng: np.random.Generator, table: tuple[tuple[str, int], ...]) -> str:
    weights = np.array([weight for _, weight in table], float)
    return table[int(rng.choice(len(table), p=weights / weights.sum()))][0]


def _values(rng: np.random.Generator, rhythm: str, form: str) -> dict[str, Any]:
    """Draw values that the rhythm and the form leave open; ranges of resting adults, healthy and ill, ours."""
    values: dict[str, Any] = {}
    if rhythm in ("sinus", "pvc", "bigeminy", "pac"):
        values["heart_rate"] = rng.uniform(45, 120)
        values["pr_ms"] = rng.uniform(110, 240)
    if form != "long_qtc":
        values["qtc_ms"] = rng.uniform(370, 470)
    if {rhythm, form} & _OWN_VALUES:
        return values
    if not form:
        values |= {"qrs_ms": rng.uniform(74, 120), "axis_deg": rng.uniform(-80, 120)}
    return values | {
        "p_mv": rng.uniform(0.04, 0.22),
        "t_mv": rng.uniform(0.08, 0.55),
        "t_axis_deg": rng.uniform(-40, 110),
        "chest": rng.uniform(0.4, 1.8),
        "transition": rng.uniform(-1, 1),
    }
