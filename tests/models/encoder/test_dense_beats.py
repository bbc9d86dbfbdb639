"""What the tower measures at its beats, against the simulator's own heights and intervals."""

import numpy as np
import pytest
import torch

from gem_lightning.composition.chains.view import View
from gem_lightning.ecg import LEADS, simulate
from gem_lightning.models.encoder.dense_beats import (
    HEIGHTS,
    RHYTHM,
    SUMS,
    BeatTokens,
    beat_table,
    beat_values,
)
from gem_lightning.models.encoder.dense_waves import wave_shares
from helpers_marked import logits_of


def measured(diagnosis: str, seed: int = 4, **options):
    simulated = simulate(diagnosis, seed, 500, 10, **options)
    view = View.simulated(simulated)
    signal = np.asarray(simulated.record.signal[:, :5000], np.float32)
    return simulated, view, signal, logits_of(wave_shares(view.marks.global_marks, 5000, 500.0))


@pytest.mark.parametrize("diagnosis", ["sinus", "lvh", "st_elevation", "low_voltage"])
def test_heights_are_the_simulators(diagnosis):
    simulated, view, signal, logits = measured(diagnosis)
    table = beat_values(signal, logits)
    for row, lead in zip(table, LEADS):
        true = simulated.parameters["amplitudes_mv"][lead]
        assert row[HEIGHTS.index("r")] == pytest.approx(max(true["R"], 0), abs=0.06)
        deepest = min(row[HEIGHTS.index("s")], row[HEIGHTS.index("q")])
        assert deepest == pytest.approx(-abs(true["S"]), abs=0.06)
    sums = dict(zip(SUMS, table[-2]))
    assert sums["sokolow_lyon"] == pytest.approx(view.features.voltages_mv["sokolow_lyon"], abs=0.1)
    assert sums["cornell"] == pytest.approx(view.features.voltages_mv["cornell"], abs=0.1)


def test_the_rhythm_tells_sinus_from_fibrillation_and_dropped_beats():
    rows = {name: dict(zip(RHYTHM, beat_values(*measured(name)[2:])[-1])) for name in
            ("sinus", "atrial_fibrillation", "av_block_2_mobitz_2")}  # fmt: skip
    assert rows["sinus"]["rr_spread"] < 0.05 and rows["sinus"]["p_share"] > 0.9
    assert rows["atrial_fibrillation"]["rr_spread"] > 0.1 and rows["atrial_fibrillation"]["p_share"] == 0
    assert rows["av_block_2_mobitz_2"]["rr_longest"] > 1.5


def test_what_is_not_there_is_not_a_number():
    *_, signal, logits = measured("sinus")
    signal = signal.copy()
    signal[7] = 0.0
    table = beat_values(signal, logits)
    assert np.isnan(table[7]).all() and np.isfinite(table[6]).all()
    assert np.isnan(beat_values(signal, np.full_like(logits, -9.0))).all()


def test_tokens_follow_the_signal_and_unknown_values_are_one_token():
    *_, signal, logits = measured("sinus")
    signals = torch.from_numpy(np.stack([signal, 1.5 * signal]))
    table = beat_table(signals, torch.from_numpy(np.stack([logits, logits])))
    tokens = BeatTokens(32)
    with torch.no_grad():
        shown, none = tokens(table), tokens(torch.full((1, BeatTokens.count, len(HEIGHTS)), torch.nan))
    assert shown.shape == (2, BeatTokens.count, 32) and torch.isfinite(none).all()
    assert (shown[0, :12] - shown[1, :12]).abs().amax(-1).min() > 0.05
    assert torch.equal(shown[0, -1], shown[1, -1])  # the rhythm is the same
