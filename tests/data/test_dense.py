from dataclasses import replace

import numpy as np
import pytest

from gem_lightning.data.dense import (
    DenseMixture,
    DenseRecords,
    Distortion,
    MarkedPart,
    RecombinedPart,
    SimulatedPart,
    stretch,
)
from gem_lightning.ecg.recombination import QUANTITIES
from gem_lightning.errors import DataError
from gem_lightning.models.encoder.dense_waves import UNKNOWN, wave_shares
from helpers_marked import donors


@pytest.fixture(scope="module")
def mixture():
    parts = {"recombined": RecombinedPart(donors()), "marked": MarkedPart(donors()), "simulated": SimulatedPart()}
    shares = {"recombined": 0.4, "marked": 0.4, "simulated": 0.2}
    return DenseMixture(parts, shares, length=8, seed=5, distortion=Distortion())


def test_an_item_depends_on_epoch_and_index_alone(mixture):
    first, same, other = mixture[1, 3], mixture[1, 3], mixture[2, 3]
    for name in ("ecg_values", "waves", "values"):
        np.testing.assert_array_equal(first[name], same[name])
    assert not np.array_equal(first["ecg_values"], other["ecg_values"])
    assert first["ecg_values"].shape == (12, 5000) and first["ecg_values"].dtype == np.float32
    assert first["waves"].shape == (3, 500) and first["values"].shape == (len(QUANTITIES),)


def test_shares_name_the_parts():
    with pytest.raises(DataError, match="sum to 1"):
        DenseMixture({"simulated": SimulatedPart()}, {"simulated": 0.5}, length=1)


def test_stretching_moves_signal_marks_and_values_together():
    ecg = MarkedPart(donors()).draw(0)
    moved = stretch(ecg, 1.25, 40.0)
    assert moved.values[0] == pytest.approx(ecg.values[0] / 1.25)
    assert moved.values[1] == pytest.approx(ecg.values[1] * 1.25)
    at = ecg.marks["R"][2]
    np.testing.assert_allclose(moved.marks["R"][2], at * 1.25 + 40)
    place = round(at * 1.25 + 40)
    np.testing.assert_allclose(
        moved.signal[:, place], ecg.signal[:, round((place - 40) / 1.25)], atol=0.2 * np.ptp(ecg.signal)
    )
    waves = wave_shares(moved.marks, 5000, 500, moved.span)
    assert (waves[:, 0] == UNKNOWN).all()  # what was shifted in is not labelled


def test_a_dropped_lead_has_unknown_amplitudes():
    ecg = MarkedPart(donors()).draw(0)
    lost = replace(Distortion(), lead_drop=1.0)(ecg, np.random.default_rng(0))
    assert not lost.signal.any()
    assert np.isnan(lost.values[9:]).all() and np.isfinite(lost.values[:4]).all()


def test_validation_shows_records_as_they_are():
    records = DenseRecords(MarkedPart(donors()))
    assert len(records) == len(donors())
    np.testing.assert_array_equal(records[0]["ecg_values"], donors()[0].record.signal)
    with pytest.raises(DataError, match="expected marked records"):
        MarkedPart(donors(), patients=["nobody else"]).draw(0)
