import numpy as np
import pytest

from gem_lightning.ecg.simulation.randomised import random_ecg


@pytest.fixture(scope="module")
def made():
    return [random_ecg(3, i) for i in range(40)]


def test_seed_and_index_are_one_ecg(made):
    np.testing.assert_array_equal(random_ecg(3, 5).record.signal, made[5].record.signal)
    assert not np.array_equal(random_ecg(4, 5).record.signal, made[5].record.signal)


def test_rhythms_forms_and_values_spread_and_none_fibrillates(made):
    codes = {code for ecg in made for code in ecg.diagnoses}
    assert len(codes) > 12 and "atrial_fibrillation" not in codes
    assert {"premature_ventricular", "paced"} <= {kind for ecg in made for kind in ecg.beat_class}
    rates = [ecg.parameters["heart_rate"] for ecg in made if ecg.parameters["heart_rate"]]
    assert min(rates) < 55 and max(rates) > 100
    assert np.std([ecg.parameters["pr_ms"] for ecg in made if ecg.parameters["pr_ms"]]) > 25
