import numpy as np
import pytest

from gem_lightning.ecg import simulate
from gem_lightning.ecg.recombination import QUANTITIES, true_values
from gem_lightning.evaluation.encoder.intervals import majority_values, measured_values, score_values


def table(**columns):
    out = np.full((len(next(iter(columns.values()))), len(QUANTITIES)), np.nan)
    for name, values in columns.items():
        out[:, QUANTITIES.index(name)] = values
    return out


def test_scores_are_errors_of_what_both_know_and_the_share_that_was_missed():
    truth = table(rate_bpm=[60, 70, 80, 90], pr_ms=[160, np.nan, 160, 160], p=[1, 0, 1, 1], af=[0, 1, 0, 1])
    found = table(
        rate_bpm=[61, 70, 90, 90], pr_ms=[150, 140, np.nan, 160], p=[0.9, 0.2, 0.4, 1], af=[0.1, 0.9, 0.3, 0.2]
    )
    scores = score_values(found, truth)
    assert scores["rate_bpm"].value == pytest.approx(11 / 4)
    assert scores["rate_near"].value == pytest.approx(3 / 4)
    assert scores["pr_ms"].value == pytest.approx(5)
    assert scores["pr_ms_missed"].value == pytest.approx(1 / 3)
    assert scores["p_accuracy"].value == pytest.approx(3 / 4)
    assert scores["af_auc"].value == pytest.approx(3 / 4)


def test_the_majority_knows_medians():
    truth = table(rate_bpm=[60, 70, 90], af=[0, 0, 1])
    guess = majority_values(truth)
    assert guess[QUANTITIES.index("rate_bpm")] == 70 and guess[QUANTITIES.index("af")] == 0


def test_native_measurements_of_simulated_records_are_near_the_truth():
    made = [simulate(kind, seed=i, snr_db=30) for i, kind in enumerate(("sinus", "atrial_fibrillation", "av_block_1"))]
    truth = np.stack(
        [true_values(m.clean, m.global_marks, m.beat_class, 500, "atrial_fibrillation" in m.diagnoses) for m in made]
    )
    scores = score_values(np.stack([measured_values(m.record) for m in made]), truth)
    assert scores["rate_bpm"].value < 1 and scores["pr_ms"].value < 8 and scores["af_auc"].value == 1
