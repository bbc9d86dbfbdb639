from types import SimpleNamespace

import numpy as np
import pytest
import torch

from gem_lightning.ecg import LEADS, EcgRecord, simulate
from gem_lightning.errors import CheckpointError
from gem_lightning.features import delineate, measure, reliability
from gem_lightning.features.delineation.weights import VARIABLE
from gem_lightning.models.encoder.dense import DenseEncoder
from gem_lightning.models.encoder.dense_delineator import delineate_ensemble, delineate_neural, read_waves
from gem_lightning.models.encoder.dense_store import load_of_tower, save_dense
from gem_lightning.models.encoder.dense_waves import wave_shares
from helpers_marked import logits_of


class Reads:
    """An encoder that answers with what it is given, for each window."""

    samples = 5000

    def __init__(self, waves_of):
        self.waves_of = waves_of

    def read(self, ecg):
        return SimpleNamespace(waves=torch.stack([self.waves_of(one) for one in ecg]))


def knows(marks):
    """An encoder that knows the marks of the record."""
    logits = torch.tensor(logits_of(wave_shares(marks, 5000, 500)))
    return Reads(lambda _: logits)


@pytest.fixture(scope="module")
def made():
    return simulate("pvc", seed=5, snr_db=30)


def test_neural_marks_are_the_encoder_s_and_kinds_of_beats_the_native_ones(made):
    found = delineate_neural(made.record, knows(made.global_marks))
    assert found.beats == len(made.beat_class)
    for name in ("P_on", "QRS_on", "QRS_off", "T_off"):
        known = np.isfinite(made.global_marks[name]) & np.isfinite(found.global_marks[name])
        assert known.sum() > 5
        assert np.abs(found.global_marks[name] - made.global_marks[name])[known].max() * 2 < 8
    native = delineate(made.record)
    assert (
        (found.beat_class == "premature_ventricular").sum() == (native.beat_class == "premature_ventricular").sum() > 0
    )
    truth = made.parameters
    assert measure(made.record, found).qrs_ms == pytest.approx(truth["qrs_ms"], abs=6)


def test_the_ensemble_lies_in_the_middle(made):
    later = {name: column + (20 if name == "T_off" else 0) for name, column in made.global_marks.items()}
    native, neural = delineate(made.record), delineate_neural(made.record, knows(later))
    both = delineate_ensemble(made.record, knows(later))
    apart = (neural.global_marks["T_off"] - native.global_marks["T_off"])[1:-1]
    np.testing.assert_allclose((both.global_marks["T_off"] - native.global_marks["T_off"])[1:-1], apart / 2, atol=1)
    assert both.beats == native.beats


def test_long_records_are_read_in_windows_that_meet():
    t = np.arange(12_345) / 500
    row = np.sin(2 * np.pi * 0.3 * t).astype(np.float32)
    record = EcgRecord(np.tile(row, (12, 1)), 500.0, LEADS)
    logits = read_waves(record, Reads(lambda ecg: ecg[1].unflatten(0, (-1, 10)).mean(1).expand(3, -1)))
    assert logits.shape == (3, 1234)
    np.testing.assert_allclose(logits[0], row[:12_340].reshape(-1, 10).mean(1), atol=0.02)


def test_other_rates_and_leads_keep_their_own_time():
    made = simulate("sinus", seed=1, fs=250, snr_db=30)
    record = EcgRecord(made.record.signal[[1, 6]], 250.0, ("II", "V1"))
    at_500 = {name: 2 * column for name, column in made.global_marks.items()}
    found = delineate_neural(record, knows(at_500))
    assert np.abs(found.global_marks["QRS_on"] - made.global_marks["QRS_on"]).max() * 4 < 10


def test_where_no_heart_beats_there_are_no_marks(made):
    flat = EcgRecord(np.zeros((12, 5000), np.float32), 500.0, LEADS)
    found = delineate_neural(flat, knows(made.global_marks))
    assert found.beats == 0 and found.reason


def test_the_weights_of_the_package_read_a_simulated_ecg(made, monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    found = delineate(made.record, backend="neural")
    for name, most in (("QRS_on", 12), ("QRS_off", 12), ("T_off", 25), ("P_on", 15)):  # ms
        error = (found.global_marks[name] - made.global_marks[name])[1:-1] * 1000 / made.record.fs
        assert np.abs(np.nanmedian(error)) < most, name


def test_a_folder_without_a_dense_encoder_is_refused(tmp_path, monkeypatch, made):
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    with pytest.raises(CheckpointError, match="save_dense"):
        delineate(made.record, backend="neural")
    with pytest.raises(CheckpointError, match="a GEM with a dense encoder"):
        load_of_tower(tmp_path)


def test_the_environment_names_the_weights(made, monkeypatch, tmp_path):
    save_dense(DenseEncoder(width=16, layers=1, heads=1, channels=[4, 8]), tmp_path)
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    assert delineate(made.record, backend="ensemble").beats == delineate(made.record).beats


@pytest.mark.parametrize(("later", "names"), [(0, ()), (30, ("QT",)), (9, ())])
def test_delineations_that_disagree_make_a_value_uncertain(made, monkeypatch, later, names):
    native = delineate(made.record)
    moved = dict(native.global_marks) | {"T_off": native.global_marks["T_off"] + later}
    other = delineate_neural(made.record, knows(moved))
    monkeypatch.setattr(reliability, "find_weights", lambda: "here")
    monkeypatch.setattr(reliability, "delineator", lambda name: lambda record: other)
    judged = reliability.reliability(made.record)
    assert tuple(r.split()[1] for r in judged.reasons if r.startswith("uncertain:")) == names
    assert judged.verdict == ("care" if names else reliability.quality(made.record).verdict)


def test_without_weights_the_quality_is_the_technical_one(made, monkeypatch):
    monkeypatch.setattr(reliability, "find_weights", lambda: None)
    assert reliability.reliability(made.record) == reliability.quality(made.record)
