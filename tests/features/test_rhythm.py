"""Premature beats in turn, group beating, and flutter: simulated rhythms whose truth is known by construction."""

from __future__ import annotations

import numpy as np
import pytest

from gem_lightning.ecg.simulation.simulate import simulate
from gem_lightning.features import delineate, findings, measure
from gem_lightning.features.measurement.rhythm import in_groups


def codes(diagnosis: str, seed: int, **options) -> set[str]:
    return {found.code for found in findings(measure(simulate(diagnosis, seed=seed, **options).record))}


@pytest.mark.parametrize("snr_db", [None, 10])
def test_every_second_beat_early_is_bigeminy(snr_db):
    found = [codes("pac", seed, every=2, snr_db=snr_db) for seed in range(24)]
    assert sum({"pac", "bigeminy"} <= f for f in found) >= 22
    assert not any({"atrial_fibrillation", "atrial_flutter"} & f for f in found)


def test_beats_are_early_where_the_simulator_made_them():
    for seed in range(12):
        sim = simulate("pac", seed=seed, every=2)
        assert (delineate(sim.record).beat_class == sim.beat_class).mean() > 0.9


def test_a_wenckebach_block_is_no_bigeminy():
    found = [codes("av_block_2_mobitz_1", seed, snr_db=20) for seed in range(20)]
    assert not any({"pac", "bigeminy"} & f for f in found)
    assert sum("av_block_2_mobitz_1" in f for f in found) >= 17


@pytest.mark.parametrize(
    ("diagnosis", "seed", "options"),
    [
        ("pac", 150, {"every": 2}),
        ("pac", 200, {"every": 2}),
        ("av_block_2_mobitz_1", 209, {}),
        ("pvc", 405, {"every": 3}),
        ("pvc", 1004, {"every": 2}),
        ("pvc", 1054, {"every": 2}),
        ("av_block_2_mobitz_1", 1709, {}),
    ],
)
def test_hidden_p_waves_of_a_patterned_rhythm_are_no_fibrillation(diagnosis, seed, options):
    assert not {"atrial_fibrillation", "atrial_flutter"} & codes(diagnosis, seed, snr_db=10, **options)


def test_fibrillation_keeps_to_no_values_and_group_beating_does():
    rng = np.random.default_rng(0)
    assert in_groups(rng.choice([914.0, 983.0, 1630.0], 12) + rng.normal(0, 6, 12))
    assert in_groups(np.tile([525.0, 880.0], 6) + rng.normal(0, 8, 12))
    assert not any(in_groups(rng.uniform(450, 1100, 12)) for _ in range(50))
    assert not in_groups(np.r_[rng.uniform(600, 800, 11), 1500.0])  # one pause is no group
    assert not in_groups(np.array([800.0, 1200.0, 800.0]))  # too few


@pytest.mark.parametrize("snr_db", [10, 20, 30])
def test_fibrillation_and_flutter_are_still_found(snr_db):
    for diagnosis in ("atrial_fibrillation", "atrial_flutter"):
        assert all(diagnosis in codes(diagnosis, seed, snr_db=snr_db) for seed in range(10))


@pytest.mark.parametrize("rate", [135, 155, 165])
def test_sinus_tachycardia_is_stated_where_p_stands_on_t(rate):
    found = [codes("sinus_tachycardia", seed, heart_rate=rate, snr_db=25) for seed in range(12)]
    assert sum("sinus_tachycardia" in f for f in found) >= 11
    assert not any("p_absent" in f for f in found)
