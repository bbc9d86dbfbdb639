import numpy as np
import pytest
import torch

from gem_lightning.ecg.recombination import RecombinedBeats
from gem_lightning.errors import CheckpointError, DataError
from gem_lightning.models.encoder.dense import DenseEncoder, DenseReading
from gem_lightning.models.encoder.dense_store import load_dense, save_dense
from gem_lightning.models.encoder.dense_values import VALUES, ValueTokens, physical, standardise
from gem_lightning.models.encoder.dense_waves import UNKNOWN, decode_intervals, decode_waves, targets_of, wave_shares
from gem_lightning.models.encoder.outside import build_ecg_tower, outside_config
from helpers_marked import donors, logits_of

SMALL = {"width": 32, "layers": 1, "heads": 2, "channels": [8, 16]}


@pytest.fixture(scope="module")
def made():
    beats = RecombinedBeats(donors(), seed=8)
    return [beats[i] for i in range(12)]


def test_dense_labels_decode_to_the_marks_within_a_few_ms(made):
    for ecg in made:
        waves, values = targets_of(ecg.marks, ecg.beat_class, ecg.record.signal, 500, ecg.af)
        found = decode_waves(logits_of(waves), 500)
        assert len(found["R"]) == len(ecg.marks["R"])
        for name in ("QRS_on", "QRS_off"):
            assert np.abs(found[name] - ecg.marks[name]).max() * 2 < 8
        truth, read = ecg.truth, decode_intervals(logits_of(waves))
        for name in ("pr_ms", "qrs_ms", "qt_ms"):
            if truth[name] is not None and "premature_ventricular" not in ecg.beat_class:
                assert read[name] == pytest.approx(truth[name], abs=12)
        assert read["rate_bpm"] == pytest.approx(values[0], rel=0.02)


def test_what_was_not_annotated_is_unknown(made):
    waves = wave_shares(made[0].marks, 5000, 500, span=(1000, 4000))
    assert waves.shape == (3, 500)
    assert (waves[:, :100] == UNKNOWN).all() and (waves[:, 400:] == UNKNOWN).all()
    assert ((waves[:, 100:400] >= 0) & (waves[:, 100:400] <= 1)).all()


def test_a_flat_line_has_no_beats():
    found = decode_intervals(np.full((3, 500), -5.0))
    assert np.isnan([found[name] for name in ("rate_bpm", "pr_ms", "qrs_ms", "qt_ms")]).all() and found["p_share"] == 0


def test_standard_units_return():
    values = torch.rand(5, len(VALUES)) * 0.2
    values[:, :4] = torch.tensor([75.0, 160, 100, 390]) * (0.8 + 0.4 * torch.rand(5, 4))
    there = standardise(values)
    yes_no = [VALUES.index(name) for name in ("p", "af", "pvc")]
    assert torch.equal(there[:, yes_no], values[:, yes_no])
    back = physical(there)
    others = [i for i in range(len(VALUES)) if i not in yes_no]
    torch.testing.assert_close(back[:, others], values[:, others], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("trunk", "tokens"), [("conv", 125), ("transformer", 100)])
def test_forward_gives_signal_and_value_tokens(trunk, tokens):
    encoder = DenseEncoder(trunk=trunk, **SMALL).eval()
    ecg = torch.randn(2, 12, 5000)
    reading = encoder.read(ecg)
    assert reading.waves.shape == (2, 3, 500) and reading.values.shape == (2, len(VALUES))
    out = encoder(ecg)
    assert out.shape == (2, tokens + ValueTokens.count, 32) and torch.isfinite(out).all()
    torch.testing.assert_close(out[:, :tokens], reading.tokens)
    with pytest.raises(DataError, match="expected ECGs of shape"):
        encoder(ecg[:, :8])


def test_an_offset_of_the_baseline_changes_nothing():
    encoder = DenseEncoder(**SMALL).eval()
    ecg = torch.randn(1, 12, 5000)
    torch.testing.assert_close(encoder.read(ecg).waves, encoder.read(ecg + 3.0).waves, rtol=1e-3, atol=1e-3)


def test_it_is_the_ecg_tower_of_a_gem_by_name():
    import functools

    config = outside_config(functools.partial(DenseEncoder, **SMALL))
    assert (config.token_count, config.width, config.sampling_rate) == (145, 32, 500.0)
    assert isinstance(build_ecg_tower(config), DenseEncoder)


def test_value_tokens_follow_their_own_value_alone():
    torch.manual_seed(0)
    tokens = ValueTokens(16).eval()
    values, spread, decoded = torch.zeros(1, len(VALUES)), torch.zeros(1, len(VALUES)), torch.full((1, 4), torch.nan)
    before = tokens(values, spread, decoded)
    decoded[0, 1] = 0.5  # PR, 15 ms longer
    changed = (tokens(values, spread, decoded) - before).abs().amax(-1)[0] > 1e-6
    assert changed.nonzero().flatten().tolist() == [1]


def test_what_is_unknown_has_no_loss():
    encoder = DenseEncoder(**SMALL)
    reading = encoder.read(torch.randn(2, 12, 5000))
    unknown = {"waves": torch.full((2, 3, 500), UNKNOWN), "values": torch.full((2, len(VALUES)), torch.nan)}
    assert encoder.loss(reading, unknown) == 0
    unknown["values"][0, 1] = 200.0
    encoder.loss(reading, unknown).backward()
    gradient = encoder.value_head[-1].weight.grad
    assert (gradient[1] != 0).any() and (gradient[2] == 0).all()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in encoder.parameters())


def test_dense_waves_go_before_the_value_heads(made, monkeypatch):
    encoder = DenseEncoder(**SMALL)
    ecg = next(e for e in made if e.truth["pr_ms"] and "premature_ventricular" not in e.beat_class)
    waves, _ = targets_of(ecg.marks, ecg.beat_class, ecg.record.signal, 500, ecg.af)
    values = torch.zeros(1, len(VALUES))
    values[0, VALUES.index("p")] = 5.0
    reading = DenseReading(torch.zeros(1, 125, 32), torch.tensor(logits_of(waves))[None], values, values)
    monkeypatch.setattr(encoder, "read", lambda _: reading)
    found = encoder.decode(torch.zeros(1, 12, 5000))[0]
    for name in ("pr_ms", "qrs_ms", "qt_ms"):
        assert float(found[VALUES.index(name)]) == pytest.approx(ecg.truth[name], abs=12)
    assert float(found[VALUES.index("p")]) == 1 and float(found[VALUES.index("af")]) == pytest.approx(0.25)
    reading.waves[0, 0] = -20.0  # no P waves are seen, whatever the head says
    found = encoder.decode(torch.zeros(1, 12, 5000))[0]
    assert torch.isnan(found[VALUES.index("pr_ms")]) and found[VALUES.index("p")] == 0
    assert float(found[VALUES.index("af")]) == pytest.approx(0.75)


@pytest.mark.parametrize("half", [False, True])
def test_weights_return(tmp_path, half):
    encoder = DenseEncoder(**SMALL).eval()
    save_dense(encoder, tmp_path, half=half, seed=3)
    ecg = torch.randn(1, 12, 5000)
    expected, found = encoder.read(ecg), load_dense(tmp_path).read(ecg)
    torch.testing.assert_close(found.waves, expected.waves, atol=2e-2 if half else 1e-6, rtol=1e-2)
    with pytest.raises(CheckpointError, match="save_dense"):
        load_dense(tmp_path / "nothing")
