import numpy as np
import pytest

from gem_lightning.errors import DataError
from gem_lightning.evaluation.statistics import (
    bootstrap_sums,
    holm,
    krippendorff_alpha,
    mean_interval,
    paired_test,
    weighted_auc,
)


def test_mean_interval_has_the_width_of_theory():
    values = np.random.default_rng(0).normal(3, 2, 2000)
    interval = mean_interval(values)
    assert interval.value == pytest.approx(values.mean())
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * values.std() / np.sqrt(2000), rel=0.1)


def test_intervals_cover_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(1)
    covered = 0
    for seed in range(200):
        interval = mean_interval(rng.random(150) < 0.3, draws=300, seed=seed)
        covered += interval.low <= 0.3 <= interval.high
    assert 0.89 <= covered / 200 <= 0.99


def test_intervals_by_patient_are_wider_when_patients_repeat():
    rng = np.random.default_rng(2)
    patients = np.repeat(np.arange(100), 20)
    values = rng.normal(size=100)[patients] + 0.1 * rng.normal(size=2000)
    by_record, by_patient = mean_interval(values), mean_interval(values, groups=list(patients))
    assert by_patient.groups == 100
    assert by_patient.high - by_patient.low > 3 * (by_record.high - by_record.low)


def test_unknown_patients_are_units_of_their_own():
    assert mean_interval([1.0, 2.0, 3.0, 4.0], groups=["a", None, None, "a"]).groups == 3


def test_nan_is_left_out_and_a_single_record_has_no_interval():
    assert mean_interval([1.0, np.nan, 3.0]).value == 2
    assert np.isnan(mean_interval([1.0]).low)
    assert mean_interval([np.nan, np.nan]).to_dict()["value"] is None
    with pytest.raises(DataError, match="one group"):
        mean_interval([1.0, 2.0], groups=["a"])


def test_same_seed_same_interval():
    values = np.random.default_rng(3).random(50)
    assert mean_interval(values, seed=4) == mean_interval(values, seed=4) != mean_interval(values, seed=5)


def test_weighted_auc_is_sklearns_also_under_weights():
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(5)
    scores, positive = np.round(rng.random(200), 1), rng.random(200) < 0.4
    weights = rng.integers(0, 4, (3, 200)).astype(float)
    for row, found in zip(weights, weighted_auc(scores, positive, weights)):
        assert found == pytest.approx(roc_auc_score(positive, scores, sample_weight=row))
    assert np.isnan(weighted_auc(scores, np.ones(200, bool), weights)).all()


def test_paired_test_finds_a_difference_and_none():
    rng = np.random.default_rng(6)
    base = rng.random(300) < 0.6
    better = base | (rng.random(300) < 0.2)
    found = paired_test(better, base)
    assert found.p_value < 0.01
    assert found.mcnemar < 0.01
    assert found.difference.low > 0
    assert found.wins + found.losses + found.ties == 300
    assert paired_test(base, base).p_value == 1


def test_p_values_of_equal_runs_are_uniform():
    rng = np.random.default_rng(7)
    values = [paired_test(rng.random(40), rng.random(40), draws=400, seed=i).p_value for i in range(150)]
    assert np.mean(np.array(values) < 0.05) < 0.12
    assert 0.4 < np.mean(values) < 0.6


def test_paired_test_by_patient_does_not_count_repeats_as_evidence():
    gap = np.repeat([1.0] * 8 + [-1.0] * 4, 30)
    zero = np.zeros(360)
    assert paired_test(gap, zero).p_value < 0.001
    assert paired_test(gap, zero, list(np.repeat(np.arange(12), 30))).p_value > 0.1


def test_mcnemar_is_the_exact_binomial():
    a, b = np.array([1] * 8 + [0] * 2 + [1] * 10), np.array([0] * 8 + [1] * 2 + [1] * 10)
    assert paired_test(a, b).mcnemar == pytest.approx(0.109375)  # two-sided, 8 of 10 at one half


def test_paired_test_refuses_what_does_not_pair():
    with pytest.raises(DataError, match="same records"):
        paired_test([1.0], [1.0, 2.0])
    with pytest.raises(DataError, match="both runs"):
        paired_test([np.nan], [1.0])


def test_holm_is_the_published_procedure():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


# Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011), example C: four observers, twelve units.
NAN = np.nan
EXAMPLE = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3],
    [NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN],
]


def test_alpha_is_krippendorffs_own_example():
    assert krippendorff_alpha(EXAMPLE) == pytest.approx(0.849, abs=5e-4)


def test_alpha_at_its_ends():
    assert krippendorff_alpha([[1, 2, 3], [1, 2, 3]]) == 1
    assert np.isnan(krippendorff_alpha([[1, NAN], [NAN, 2]]))
    assert krippendorff_alpha([[0, 1, 0, 1], [1, 0, 1, 0]]) < 0
    assert krippendorff_alpha([[3, 3], [3, 3]]) == 1


def test_bootstrap_of_a_ratio_equals_a_plain_loop():
    rng = np.random.default_rng(9)
    parts = rng.random((60, 2))
    found = bootstrap_sums(parts, lambda s: s[:, :1] / s[:, 1:], draws=2000)[0]
    picks = rng.integers(0, 60, (2000, 60))
    loop = np.array([parts[p, 0].sum() / parts[p, 1].sum() for p in picks])
    assert found.low == pytest.approx(np.quantile(loop, 0.025), abs=0.03)
    assert found.high == pytest.approx(np.quantile(loop, 0.975), abs=0.03)
