"""U waves: known heights added to simulated beats are measured, and what T, P or the rate hides is unknown."""

from dataclasses import replace

import numpy as np
import pytest

from gem_lightning.composition.chains.view import View
from gem_lightning.ecg import LEADS, simulate
from gem_lightning.features import measure
from gem_lightning.features.criteria import decide

CHEST = ("V2", "V3", "V4")


def with_u(simulated, height: float):
    """The record with a bell of this height, mV, 90 ms after the end of each T wave in V2 to V4."""
    record = simulated.record
    signal, n = record.signal.copy(), np.arange(record.samples)
    ends = View.simulated(simulated).marks.global_marks["T_off"]
    for end in ends[np.isfinite(ends)]:
        bell = height * np.exp(-0.5 * ((n - end - 0.09 * record.fs) / (0.03 * record.fs)) ** 2)
        signal[[LEADS.index(name) for name in CHEST]] += bell
    return replace(record, signal=signal.astype(np.float32))


@pytest.mark.parametrize("height", [0.0, 0.1, 0.25, -0.15])
def test_a_known_height_is_measured(height):
    features = measure(with_u(simulate("sinus", 3, heart_rate=60), height))
    for name in CHEST:
        assert features.leads[name].u_mv == pytest.approx(height, abs=0.03)
    assert features.leads["V5"].u_mv == pytest.approx(0, abs=0.02)


def test_tall_and_inverted_waves_are_found_and_ordinary_ones_are_not():
    simulated = simulate("sinus", 3, heart_rate=60)
    found = {height: decide("abnormal_u", measure(with_u(simulated, height))) for height in (0.05, 0.42, -0.15)}
    assert found[0.05].met is False
    for height in (0.42, -0.15):
        assert found[height].met and found[height].certainty == "possible" and set(found[height].leads) <= set(CHEST)


def test_a_u_wave_above_a_flat_t_wave_is_tall():
    simulated = simulate("sinus", 3, heart_rate=60)
    features = measure(with_u(simulated, 0.2))
    flat = {name: replace(features.leads[name], t_mv=0.05) for name in CHEST}
    assert decide("abnormal_u", features).met is False
    assert decide("abnormal_u", replace(features, leads=features.leads | flat)).met


@pytest.mark.parametrize("diagnosis", ["atrial_fibrillation", "atrial_flutter", "sinus_tachycardia"])
def test_without_room_between_t_and_p_it_is_unknown(diagnosis):
    rate = {"heart_rate": 150} if diagnosis == "sinus_tachycardia" else {}
    decision = decide("abnormal_u", measure(simulate(diagnosis, 2, **rate).record))
    assert decision.met is None and "U wave" in decision.reason
