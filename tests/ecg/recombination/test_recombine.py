import pickle

import numpy as np
import pytest

from gem_lightning.ecg import LEADS
from gem_lightning.ecg.recombination import QUANTITIES, RecombinedBeats
from gem_lightning.ecg.simulation.truth import MARKS
from gem_lightning.errors import DataError
from gem_lightning.features import measure
from helpers_marked import donors


@pytest.fixture(scope="module")
def beats():
    return RecombinedBeats(donors(), seed=3)


@pytest.fixture(scope="module")
def made(beats):
    return [beats[i] for i in range(40)]


def test_an_index_is_one_ecg_in_any_process(beats, made):
    again = pickle.loads(pickle.dumps(beats))[7]
    np.testing.assert_array_equal(again.record.signal, made[7].record.signal)
    assert not np.array_equal(made[7].record.signal, made[8].record.signal)
    assert not np.array_equal(RecombinedBeats(donors(), seed=4)[7].record.signal, made[7].record.signal)


def test_limb_leads_obey_einthoven_and_goldberger(made):
    for ecg in made:
        lead = dict(zip(LEADS, ecg.record.signal))
        np.testing.assert_allclose(lead["III"], lead["II"] - lead["I"], atol=1e-5)
        np.testing.assert_allclose(lead["aVF"], lead["II"] - lead["I"] / 2, atol=1e-5)
        np.testing.assert_allclose(lead["aVR"], -(lead["I"] + lead["II"]) / 2, atol=1e-5)


def test_marks_lie_in_order_inside_the_record(made):
    for ecg in made:
        for names in (MARKS[:3], MARKS[3:6], MARKS[6:]):
            on, peak, off = (ecg.marks[name] for name in names)
            shown = np.isfinite(on)
            assert (on[shown] <= peak[shown]).all() and (peak[shown] <= off[shown]).all()
            assert (on[shown] >= 0).all() and (off[shown] <= ecg.record.samples - 1).all()
        assert (np.diff(ecg.marks["QRS_on"]) > 0).all()


def test_the_signal_is_steep_exactly_between_the_qrs_marks(made):
    slope = np.concatenate([np.abs(np.diff(ecg.record.signal, axis=1)).mean(0) for ecg in made])
    inside = np.concatenate([_inside(ecg, "QRS_on", "QRS_off") for ecg in made])
    assert slope[inside].mean() > 5 * slope[~inside].mean()


def test_truth_follows_from_the_marks_and_the_native_measurement_agrees(made):
    apart = []
    for ecg in made:
        truth, peaks = ecg.truth, ecg.marks["R"]
        assert truth["rate_bpm"] == pytest.approx(60 * 500 / np.diff(peaks).mean())
        features = measure(ecg.record)
        if features.heart_rate_bpm is not None and "premature_ventricular" not in ecg.beat_class:
            apart.append(abs(features.heart_rate_bpm - truth["rate_bpm"]))
    assert len(apart) > 20 and np.median(apart) < 1


def test_fibrillation_has_no_p_waves_and_waves_between_the_beats(made):
    fibrillating = [ecg for ecg in made if ecg.af]
    assert 2 <= len(fibrillating) <= 15
    for ecg in fibrillating:
        assert ecg.truth["p_share"] == 0 and ecg.truth["pr_ms"] is None
        assert set(ecg.patients) & {"patient 4", "patient 5"}  # f waves are cut from who fibrillates
    regular = [ecg for ecg in made if not ecg.af and ecg.truth["p_share"] > 0.5]
    assert np.median([_rest(ecg) for ecg in fibrillating]) > 1.5 * np.median([_rest(ecg) for ecg in regular])
    assert len(regular) > 15


def test_values_spread_over_what_people_have(made):
    values = np.stack([ecg.values for ecg in made])
    for name, least in (("rate_bpm", 15), ("pr_ms", 25), ("qrs_ms", 8), ("qt_ms", 25)):
        assert np.nanstd(values[:, QUANTITIES.index(name)]) > least


def test_real_ventricular_beats_come_from_who_has_them(made):
    ectopic = [ecg for ecg in made if "premature_ventricular" in ecg.beat_class]
    assert len(ectopic) > 2
    assert any("patient 3" in ecg.patients for ecg in ectopic)


def test_the_licences_of_the_donors_go_with_every_ecg(beats, made):
    assert beats.licences == ("simulator: ours",)
    assert made[0].record.meta["licences"] == ["simulator: ours"]


def test_patients_select_the_donors():
    only = RecombinedBeats(donors(), patients=["patient 0", "patient 1"])
    assert {name for i in range(10) for name in only[i].patients} <= {"patient 0", "patient 1"}
    with pytest.raises(DataError, match="add records or patients"):
        RecombinedBeats(donors(), patients=["patient 4"])[0]


def _inside(ecg, onset, offset):
    out = np.zeros(ecg.record.samples - 1, bool)
    for on, off in zip(ecg.marks[onset], ecg.marks[offset]):
        out[int(on) : int(off)] = True
    return out


def _rest(ecg):
    """Median spread of lead V1 in the last 120 ms before a QRS complex or P wave, mV."""
    starts = np.fmin(ecg.marks["QRS_on"], ecg.marks["P_on"]).astype(int)
    return np.median([np.std(ecg.record.signal[6, s - 60 : s - 5]) for s in starts if s > 60])
