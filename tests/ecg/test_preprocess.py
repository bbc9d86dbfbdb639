"""The two contracts: bit-identical to the original GEM, and clean by physical criteria."""

import hashlib
import json

import numpy as np
import pytest

from gem_lightning.ecg import LEADS, EcgReadError, EcgRecord, read_ecg, simulate
from gem_lightning.ecg.preprocess import bridge_gaps, clean, gem


@pytest.mark.parametrize("name", ["std500", "mimic_order", "short4000", "long6000", "fs250", "with_nan", "microvolt"])
def test_gem_contract_is_the_originals(golden, name):
    folder = golden / "ecg_transforms"
    expected = json.loads((folder / "expected.json").read_text())["records"][name]["mllm_path"]
    record = read_ecg(folder / "records" / name, contract="gem")
    assert list(record.signal.shape) == expected["shape"]
    assert hashlib.sha256(record.signal.tobytes()).hexdigest() == expected["sha256_of_float32_C_order_bytes"]


def test_gem_keeps_file_order_and_clean_does_not(golden):
    path = golden / "ecg_transforms" / "records" / "mimic_order"
    as_file, by_name = read_ecg(path, contract="gem"), read_ecg(path)
    assert as_file.leads[3:6] == ("aVR", "aVF", "aVL")
    assert by_name.leads == LEADS
    for lead in LEADS:
        assert np.array_equal(as_file.lead(lead), by_name.lead(lead))


def test_clean_scales_microvolts(golden):
    path = golden / "ecg_transforms" / "records" / "microvolt"
    ratio = read_ecg(path, contract="gem").signal.std() / read_ecg(path).signal.std()
    assert ratio == pytest.approx(1000, rel=1e-5)


@pytest.mark.parametrize("fs", [100, 240, 250, 257.3, 360, 400, 977, 1000])
def test_resampling_keeps_shape_and_time(fs):
    seconds = 10
    t = np.arange(round(fs * seconds)) / fs
    waves = np.stack([np.sin(2 * np.pi * f * t + 0.3) for f in (1.0, 8.0, 20.0)] * 4)
    out = clean(EcgRecord(waves, fs))
    assert out.signal.shape == (12, 5000)
    assert out.quality.resampled_from == fs
    at = np.arange(5000) / 500
    expected = np.stack([np.sin(2 * np.pi * f * at + 0.3) for f in (1.0, 8.0, 20.0)] * 4)
    inside = slice(250, -250)
    assert np.abs(out.signal - expected)[:, inside].max() < 0.02


def test_resampling_does_not_alias():
    t = np.arange(10_000) / 1000
    high = np.tile(np.sin(2 * np.pi * 380 * t), (12, 1))  # above 250 Hz: must vanish, not fold to 120 Hz
    assert np.abs(clean(EcgRecord(high, 1000)).signal[:, 100:-100]).max() < 0.01


def test_short_gaps_are_bridged_and_long_ones_stay():
    ecg = simulate(seed=2)
    signal = ecg.record.signal.copy()
    signal[1, 1000:1010] = np.nan  # 20 ms
    signal[2, 2000:2200] = np.nan  # 400 ms
    signal[3, :5] = np.inf  # at the edge
    signal[11] = np.nan
    record = clean(ecg.record.with_signal(signal))
    assert record.quality.repaired == {"II": 10}
    assert record.quality.missing == {"III": 200, "aVR": 5, "V6": 5000}
    assert np.isnan(record.signal[2, 2000:2200]).all()
    assert np.isfinite(record.signal[1]).all()
    others = [0, 4, 5, 6, 7, 8, 9, 10]
    assert np.array_equal(record.signal[others], ecg.record.signal[others])


def test_gaps_survive_resampling():
    signal = np.zeros((12, 10_000), dtype=np.float32)
    signal[0, 5000:6000] = np.nan
    record = clean(EcgRecord(signal, 1000))
    assert np.isnan(record.signal[0, 2500:3000]).all()
    assert np.isfinite(record.signal[0, :2500]).all()
    assert record.quality.missing == {"I": 500}


def test_bridge_is_straight():
    row = np.array([[0.0, np.nan, np.nan, 3.0, np.nan]])
    filled, unknown, repaired = bridge_gaps(row, 2)
    assert filled[0, :4].tolist() == [0, 1, 2, 3]
    assert unknown.tolist() == [[False, False, False, False, True]]
    assert repaired.tolist() == [2]


def test_nothing_known_is_an_error():
    record = EcgRecord(np.full((12, 100), np.nan), 500)
    for contract in (clean, gem):
        with pytest.raises(EcgReadError, match="only NaN"):
            contract(record)


def test_untouched_records_are_not_flagged():
    ecg = simulate(seed=1)
    assert clean(ecg.record).quality is None
    assert np.array_equal(clean(ecg.record).signal, ecg.record.signal)
