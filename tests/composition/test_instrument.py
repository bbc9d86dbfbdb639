"""An instrument's reading: near the truth but for one wrong value, which the answer neither quotes nor hides."""

import numpy as np
import pytest

from gem_lightning.claims.extract import extract
from gem_lightning.composition.compose import compose
from gem_lightning.composition.instrument import (
    disagreement,
    drawn_reading,
    instrument_reading,
    with_instrument,
)
from gem_lightning.ecg import simulate
from gem_lightning.features import findings, measure
from gem_lightning.features.measure import corrected_qt
from gem_lightning.features.reliability import LIMITS


@pytest.mark.parametrize("diagnosis", ["sinus", "atrial_fibrillation", "sinus_tachycardia", "lbbb"])
@pytest.mark.parametrize("wrong", [False, True])
def test_a_reading_is_near_the_truth_but_for_the_value_that_is_wrong(diagnosis, wrong):
    truth = measure(simulate(diagnosis, 5).record)
    for seed in range(20):
        reading, quoted, named = drawn_reading(truth, wrong, np.random.default_rng(seed))
        assert len(named) == wrong
        for field, (_, limit, _) in LIMITS.items():
            true, told, said = (getattr(one, field) for one in (truth, reading, quoted))
            if true is None:
                assert told is None and said is None
            elif field in named:
                assert abs(told - true) > 1.5 * limit and said == true and told > 0
            else:
                assert abs(told - true) < limit and said == told
        assert quoted.qtc_ms == corrected_qt(quoted.qt_ms, 60_000 / quoted.heart_rate_bpm)


def test_the_question_holds_the_reading_and_what_was_not_measured():
    features = measure(simulate("atrial_fibrillation", 2).record)
    text = with_instrument("Is it regular?", features)
    assert text.endswith(". Is it regular?") and "PR not measured" in text
    assert f"QRS {features.qrs_ms:.0f} ms" in text


def test_the_remark_about_the_instrument_is_no_claim_about_the_ecg():
    assert disagreement(()) == ""
    for fields in (["qt_ms"], ["heart_rate_bpm"], ["pr_ms"], ["qrs_ms"]):
        assert LIMITS[fields[0]][0] in disagreement(fields)
        features = measure(simulate("sinus", 1).record)
        text = compose(features, findings(features), 0, "brief")
        assert len(extract(text + disagreement(fields))) == len(extract(text))


def test_the_library_reads_as_its_delineators_do():
    simulated = simulate("sinus", 8)
    reading, true = instrument_reading(simulated.record), simulated.parameters
    assert abs(reading.heart_rate_bpm - true["heart_rate"]) < 2
    assert abs(reading.qt_ms - true["qt_ms"]) < 15 and abs(reading.pr_ms - true["pr_ms"]) < 15
