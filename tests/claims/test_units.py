"""Numbers as written become canonical values: which number fits which quantity, and by what factor."""

from __future__ import annotations

import pytest

from gem_lightning.grounding import extract

VALUES = [
    # intervals: unit, or the size that tells seconds from milliseconds
    ("PR 160 ms", ("pr", 160.0, "ms")),
    ("PR 0.16 s", ("pr", 160.0, "ms")),
    ("PR 160", ("pr", 160.0, "ms")),
    ("PR 0.16", ("pr", 160.0, "ms")),
    ("QRS .16", ("qrs", 160.0, "ms")),
    ("QRS 0.03", ("qrs", 30.0, "ms")),
    ("QRS 30", ("qrs", 30.0, "ms")),
    ("QRS 29", None),
    ("QRS 0.029", None),
    ("RR 2.5", ("rr", 2500.0, "ms")),
    ("RR 2.6", None),
    ("RR 2500", ("rr", 2500.0, "ms")),
    ("RR 2501", None),
    ("PR 4 small boxes", ("pr", 160.0, "ms")),
    ("PR 1 large box", ("pr", 200.0, "ms")),
    ("QT 10 mm", ("qt", 400.0, "ms")),
    ("QTc 420 ms", ("qtc", 420.0, "ms")),
    ("QTc 0.42 s", ("qtc", 420.0, "ms")),
    # rates and axes
    ("Heart rate 72", ("heart_rate", 72.0, "bpm")),
    ("Heart rate 72 bpm", ("heart_rate", 72.0, "bpm")),
    ("Heart rate 15", ("heart_rate", 15.0, "bpm")),
    ("Heart rate 14", None),
    ("Heart rate 400", ("heart_rate", 400.0, "bpm")),
    ("Heart rate 401", None),
    ("QRS axis 45 degrees", ("axis_qrs", 45.0, "deg")),
    ("QRS axis -60", ("axis_qrs", -60.0, "deg")),
    ("QRS axis 270", ("axis_qrs", 270.0, "deg")),
    ("QRS axis 271", None),
    ("P axis 50 degrees", ("axis_p", 50.0, "deg")),
    ("T axis 50 degrees", ("axis_t", 50.0, "deg")),
    # amplitudes
    ("R wave 1.2 mV in V5", ("r_amplitude", 1.2, "mV")),
    ("R wave 12 mm in V5", ("r_amplitude", 1.2, "mV")),
    ("R wave 1200 µV in V5", ("r_amplitude", 1.2, "mV")),
    ("R wave 1 cm in V5", ("r_amplitude", 1.0, "mV")),
    ("R wave 2 large boxes in V5", ("r_amplitude", 1.0, "mV")),
    ("R wave 3 small boxes in V5", ("r_amplitude", 0.3, "mV")),
    ("R wave -1.2 mV in V5", ("r_amplitude", 1.2, "mV")),
    ("S wave -0.8 mV in V1", ("s_amplitude", 0.8, "mV")),
    ("Q wave -0.2 mV in III", ("q_amplitude", 0.2, "mV")),
    ("R wave 12 in V5", None),
    ("T wave -0.2 mV in V5", ("t_amplitude", -0.2, "mV")),
    ("Q wave 40 ms in III", ("q_duration", 40.0, "ms")),
    ("Q wave 0.04 s in III", ("q_duration", 40.0, "ms")),
    ("P wave duration 110 ms", ("p_duration", 110.0, "ms")),
    ("P wave duration 3 mm", ("p_duration", 120.0, "ms")),
    ("P wave amplitude 2 mm in II", ("p_amplitude", 0.2, "mV")),
    # ST: the property gives the sign
    ("ST elevation 2 mm in V2", ("st_level", 0.2, "mV")),
    ("ST depression 2 mm in V5", ("st_level", -0.2, "mV")),
    ("ST depression 0.1 mV in V5", ("st_level", -0.1, "mV")),
    ("T wave inverted 3 mm in V4", ("t_amplitude", -0.3, "mV")),
    ("ST elevation 200 ms in V2", None),
    ("SV1 + RV5 38 mm", ("voltage_sum", 3.8, "mV")),
    ("SV1 + RV5 3.8 mV", ("voltage_sum", 3.8, "mV")),
]


@pytest.mark.parametrize(("text", "expected"), VALUES, ids=[text for text, _ in VALUES])
def test_value(text, expected):
    measured = [(c.kind, c.value, c.unit) for c in extract(text + ".") if c.kind != "finding" and c.value is not None]
    if expected is None:
        assert measured == []
    else:
        kind, value, unit = expected
        assert [(k, pytest.approx(v), u) for k, v, u in measured] == [(kind, value, unit)]


def test_ranges_and_bounds_of_a_depression():
    def bounds(text):
        (claim,) = [c for c in extract(text) if c.kind == "st_level"]
        return claim.low, claim.high

    assert bounds("ST depression of 1-2 mm in V5.") == (pytest.approx(-0.2), pytest.approx(-0.1))
    assert bounds("ST depression of at least 1 mm in V5.") == (None, pytest.approx(-0.1))
    assert bounds("ST elevation of at least 1 mm in V2.") == (pytest.approx(0.1), None)


def test_an_interval_range_in_seconds():
    (claim,) = extract("PR 0.12-0.20.")
    assert (claim.kind, claim.low, claim.high) == ("pr", pytest.approx(120.0), pytest.approx(200.0))


def test_sums_have_names():
    assert {c.finding for c in extract("SV1 + RV5 38 mm.") if c.kind == "voltage_sum"} == {"sokolow_lyon"}
    assert {c.finding for c in extract("RaVL + SV3 30 mm.") if c.kind == "voltage_sum"} == {"cornell"}
