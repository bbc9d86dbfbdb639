"""Augmentations: equal to the original where its draws are known, its rates elsewhere, and their own contract."""

import hashlib
import json

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from gem_lightning.data.ecg_text import augment
from gem_lightning.errors import DataError


@pytest.fixture(scope="module")
def folder(golden):
    return golden / "ecg_transforms"


@pytest.fixture(scope="module")
def expected(folder):
    return json.loads((folder / "expected.json").read_text())


ALL = [
    augment.BaselineWander(1.0),
    augment.CutMix(1.0),
    augment.RandomMasking(1.0),
    augment.LeadDrop(1.0),
    augment.Noise(1.0),
    augment.Gain(1.0),
    augment.TimeShift(1.0),
]


def sha(array):
    return hashlib.sha256(np.ascontiguousarray(array, dtype=np.float32).tobytes()).hexdigest()


def test_baseline_wander_equals_the_original_for_its_draws(expected, folder):
    arrays = load_file(folder / "arrays.safetensors")
    for number, draw in enumerate(expected["baseline_wander"]):
        wander = augment.baseline_wander(
            5000,
            500,
            amplitudes=np.array(draw["component_amplitude"]),
            frequencies=np.array(draw["component_freq_hz"]),
            phases=np.array(draw["component_phase"]),
            gains=np.array(draw["channel_amplitude"]),
        )
        np.testing.assert_allclose(wander[:, ::10], arrays[f"baseline_wander_{number}_every10"][0], atol=1e-6)


def test_standardising_and_length_equal_the_original(expected, folder):
    inputs = load_file(folder / "inputs.safetensors")
    case = expected["normalise_with_mean_std"]
    out = augment.fit_signal(inputs["ecg0"][:, :3000], 5000, case["mean"], case["std"])
    wanted = load_file(folder / "arrays.safetensors")["normalise_mean_std_out_every10"][0]
    np.testing.assert_allclose(out[:, ::10], wanted, atol=1e-5)
    long = np.concatenate([inputs["ecg0"], inputs["ecg1_start"]], axis=1)
    assert sha(augment.fit_signal(long, 5000)) == expected["resize_long"]["sha256_of_float32_C_order_bytes"]


@pytest.mark.parametrize("name", ["std500", "mimic_order", "short4000", "long6000", "fs250", "with_nan", "microvolt"])
def test_reading_equals_the_original(expected, folder, name):
    from gem_lightning.ecg import read_ecg

    record = read_ecg(folder / "records" / name, contract="gem")
    found = augment.fit_signal(record.signal, 5000)
    assert sha(found) == expected["records"][name]["coca_eval_path"]["sha256_of_float32_C_order_bytes"]


def test_masking_rates_equal_the_original(expected):
    """Over batches of one, as the statistics were taken: how often, how much and in how many pieces."""
    wanted, trials = expected["statistics"], 6000
    mask, rng, ones = augment.RandomMasking(0.3, original=True), np.random.default_rng(0), torch.ones(1, 1, 5000)
    changed = [kept for kept in (mask(ones, rng)[0, 0].numpy() for _ in range(trials)) if kept.min() == 0]
    rate = wanted["random_masking_batch1_fraction_changed"]
    assert abs(len(changed) / trials - rate) < 4 * np.sqrt(rate * (1 - rate) / trials)
    always = augment.RandomMasking(1.0)
    kept = [always(ones, rng)[0, 0].numpy() for _ in range(300)]
    zero = np.array([1 - k.mean() for k in kept])
    pieces = np.array([np.sum(np.diff(k, prepend=1) < 0) for k in kept])
    assert abs(zero.mean() - wanted["random_masking_when_changed_mean_zero_fraction"]) < 4 * zero.std() / 300**0.5
    assert abs(pieces.mean() - wanted["random_masking_when_changed_mean_interval_count"]) < 4 * pieces.std() / 300**0.5


def test_masking_widths_are_those_seen_in_the_original(expected):
    spans = [s for case in expected["random_masking"] for row in case["zeroed_intervals_per_sample"] for s in row]
    narrowest = min(end - start for start, end in spans)
    mask, rng = augment.RandomMasking(1.0), np.random.default_rng(1)
    kept = mask(torch.ones(50, 1, 5000), rng)[:, 0].numpy()
    edges = np.diff(np.pad(kept, ((0, 0), (1, 1)), constant_values=1), axis=1)
    widths = np.flatnonzero(edges > 0) - np.flatnonzero(edges < 0)
    assert widths.min() == narrowest == 40


def test_cutmix_of_one_is_identity_and_of_many_exchanges_stretches():
    cut, rng = augment.CutMix(1.0), np.random.default_rng(0)
    one = torch.randn(1, 12, 1000)
    assert torch.equal(cut(one, rng), one)
    levels = torch.arange(8.0)[:, None, None].expand(8, 12, 1000)
    mixed = cut(levels, rng)
    assert torch.equal(mixed, mixed[:, :1].expand_as(mixed))  # all leads alike
    foreign = mixed[:, 0] != levels[:, 0]
    assert foreign.any(dim=1).sum() >= 4
    assert foreign.float().mean(dim=1).max() <= 0.5  # the larger part keeps its text
    for row in foreign.nonzero()[:, 0].unique():
        assert len(mixed[row, 0, foreign[row]].unique()) == 1  # one source
        assert foreign[row].int().diff().abs().sum() <= 2  # one stretch


@pytest.mark.parametrize("step", ALL, ids=lambda step: type(step).__name__)
def test_same_generator_same_result_and_input_untouched(step):
    ecg = torch.randn(6, 12, 500)
    before = ecg.clone()
    one, two = step(ecg, np.random.default_rng(3)), step(ecg, np.random.default_rng(3))
    other = step(ecg, np.random.default_rng(4))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert torch.equal(ecg, before)
    assert one.shape == ecg.shape
    assert one.dtype == ecg.dtype


@pytest.mark.parametrize(
    "kind", [augment.BaselineWander, augment.RandomMasking, augment.LeadDrop, augment.Noise, augment.Gain]
)
def test_share_of_changed_samples(kind):
    ecg = torch.ones(400, 3, 500)
    changed = (kind(0.3)(ecg, np.random.default_rng(0)) != ecg).flatten(1).any(dim=1).float().mean().item()
    assert changed == pytest.approx(0.3, abs=4 * (0.3 * 0.7 / 400) ** 0.5)


def test_lead_drop_loses_whole_leads():
    out = augment.LeadDrop(1.0, most=3)(torch.ones(200, 12, 10), np.random.default_rng(0))
    assert torch.equal(out, out[..., :1].expand_as(out))
    lost = (out[..., 0] == 0).sum(dim=1)
    assert set(lost.tolist()) == {1, 2, 3}


def test_time_shift_moves_without_wrapping():
    ecg = torch.zeros(50, 2, 500)
    ecg[..., 250] = 1
    ecg[..., -1] = 5
    out = augment.TimeShift(1.0, most=0.2, fs=500)(ecg, np.random.default_rng(0))
    place = (out[:, 0] == 1).nonzero()[:, 1]
    assert place.min() < 200 < 300 < place.max() + 10
    late = place > 250
    assert (out[late, 0, :150] == 0).all()


def test_gain_is_one_factor_a_sample_within_bounds():
    factor = augment.Gain(1.0, 0.5, 2.0)(torch.ones(100, 3, 4), np.random.default_rng(0))
    assert torch.equal(factor, factor[:, :1, :1].expand_as(factor))
    assert 0.5 <= factor.min() < 0.7
    assert 1.5 < factor.max() <= 2.0


def test_original_pipeline_and_bad_share():
    out = augment.original_augmentations()(torch.randn(4, 12, 5000), np.random.default_rng(0))
    assert torch.isfinite(out).all()
    with pytest.raises(DataError, match=r"from 0 to 1, got 1\.5"):
        augment.Gain(1.5)
