"""Limits of units, tolerances and reports: just at them, just beyond them."""

from __future__ import annotations

import pytest

from gem_lightning.claims.claim import Claim
from gem_lightning.claims.parser.quantities import Value
from gem_lightning.claims.parser.units import canonical, fits
from gem_lightning.claims.report import ClaimReport, Verdict, mentions_of
from gem_lightning.claims.tolerance import BORDERLINE, PAPER_MS, PAPER_MV, default_tolerance
from gem_lightning.features import from_mimic_csv


def written(value=None, unit=None, low=None, high=None):
    return Value(value, low, high, unit, 0, 0)


@pytest.mark.parametrize(
    ("quantity", "value", "yes"),
    [
        ("pr", written(30.0), True), ("pr", written(29.9), False), ("pr", written(2500.0), True),
        ("pr", written(2500.1), False), ("pr", written(0.03), True), ("pr", written(0.029), False),
        ("pr", written(2.5), True), ("pr", written(2.51), False), ("pr", written(-160.0), True),
        ("pr", written(5.0, "ms"), True), ("pr", written(5.0, "mV"), False), ("pr", written(low=160.0), True),
        ("pr", written(high=29.0), False), ("pr", written(), False), ("jt", written(5.0, "large_box"), True),
        ("rate", written(15.0), True), ("rate", written(14.9), False), ("rate", written(400.0), True),
        ("rate", written(400.1), False), ("rate", written(5.0, "bpm"), True), ("rate", written(72.0, "ms"), False),
        ("p", written(1.0), False), ("p", written(1.0, "ms"), True), ("p", written(1.0, "mV"), True),
        ("p", written(1.0, "bpm"), False), ("st", written(1.0, "mm"), True), ("st", written(1.0), False),
        ("st", written(1.0, "ms"), False), ("qrs_amplitude", written(1.0, "cm"), True),
        ("cornell", written(1.0, "mV"), True), ("cornell", written(1.0, "s"), False),
        ("axis", written(270.0), True), ("axis", written(270.1), False), ("axis", written(400.0, "deg"), True),
        ("axis_p", written(50.0, "mm"), False), ("-", written(1.0), True), ("other", written(1.0), False),
    ],
)  # fmt: skip
def test_which_number_fits(quantity, value, yes):
    assert fits(quantity, None, value) is yes


@pytest.mark.parametrize(
    ("quantity", "dim", "value", "direction", "expected"),
    [
        ("-", None, written(1.0), 0, None),
        ("pr", "form", written(160.0, "ms"), 0, None),
        ("other", None, written(1.0, "mV"), 0, None),
        ("pr", None, written(30.0), 0, ("pr", 30.0, None, None, "ms", None)),
        ("pr", None, written(29.0), 0, ("pr", 29_000.0, None, None, "ms", None)),
        ("pr", None, written(low=0.12, high=0.2), 0, ("pr", None, 120.0, 200.0, "ms", None)),
        ("pr", None, written(high=0.2), 0, ("pr", None, None, 200.0, "ms", None)),
        ("qt", None, written(2.0, "large_box"), 0, ("qt", 400.0, None, None, "ms", None)),
        ("st", None, written(0.12345678, "mV"), 1, ("st_level", 0.123457, None, None, "mV", None)),
        ("st", None, written(1.0, "mm"), -1, ("st_level", -0.1, None, None, "mV", None)),
        ("st", None, written(1.0, "mm"), 0, ("st_level", 0.1, None, None, "mV", None)),
        ("st", None, written(-1.0, "mm"), -1, ("st_level", -0.1, None, None, "mV", None)),
        ("st", None, written(low=1.0, high=2.0, unit="mm"), -1, ("st_level", None, -0.2, -0.1, "mV", None)),
        ("st", None, written(1.5, "mm", low=1.0, high=2.0), -1, ("st_level", -0.15, -0.1, -0.2, "mV", None)),
        ("p", None, written(0.1, "mV"), -1, ("p_amplitude", -0.1, None, None, "mV", None)),
        ("t", None, written(0.1, "mV"), -1, ("t_amplitude", -0.1, None, None, "mV", None)),
        ("r", None, written(-1.0, "mV"), -1, ("r_amplitude", 1.0, None, None, "mV", None)),
        ("r", None, written(low=-1.0, unit="mV"), 0, ("r_amplitude", None, -1.0, None, "mV", None)),
        ("q", "duration", written(1.0, "mm"), 0, ("q_duration", 40.0, None, None, "ms", None)),
        ("q", "duration", written(1.0, "mV"), 0, ("q_amplitude", 1.0, None, None, "mV", None)),
        ("q", "amplitude", written(1.0, "s"), 0, ("q_duration", 1000.0, None, None, "ms", None)),
        ("q", None, written(1.0, "bpm"), 0, None),
        ("rate", None, written(72.0), 0, ("heart_rate", 72.0, None, None, "bpm", None)),
        ("axis", None, written(45.0), 0, ("axis_qrs", 45.0, None, None, "deg", None)),
        ("axis_t", None, written(45.0), 0, ("axis_t", 45.0, None, None, "deg", None)),
        ("sokolow_lyon", None, written(38.0, "mm"), 0, ("voltage_sum", 3.8, None, None, "mV", "sokolow_lyon")),
        ("qrs_amplitude", None, written(1.0, "large_box"), 0, ("qrs_amplitude", 0.5, None, None, "mV", None)),
    ],
)
def test_canonical_values(quantity, dim, value, direction, expected):
    assert canonical(quantity, dim, value, direction) == expected


def test_tolerances_at_their_limits():
    assert (PAPER_MS, PAPER_MV, BORDERLINE) == (20.0, 0.05, 2.0)
    # half a small box of RR is 3 bpm at the rate r with 20 r²/60000 = 3
    assert default_tolerance("heart_rate", 94.8).source.startswith("counting")
    assert default_tolerance("heart_rate", 95.0).source.startswith("reading")
    assert default_tolerance("heart_rate", 9000.0**0.5).value == 3.0
    assert default_tolerance("qtc", 400.0, 0.0).value == 25.5
    assert default_tolerance("qtc", 400.0).source.endswith("corrected for rate")
    assert default_tolerance("qrs", 90.0).source.endswith("QRS_on and QRS_off combined, 17.0 ms")


def test_counts_of_a_report_without_decided_claims():
    open_ = Verdict(Claim("finding", finding="rbbb"), "unverifiable")
    wrong = Verdict(Claim("finding", finding="rbbb"), "contradicted")
    assert ClaimReport([wrong]).precision == 0.0
    assert ClaimReport([wrong, open_]).hallucination_rate == 0.5
    assert ClaimReport([open_], abnormal=("rbbb",)).coverage == 0.0
    assert ClaimReport([open_, wrong]).count("unverifiable") == 1
    assert ClaimReport([]).count() == 0
    assert ClaimReport([]).unread == []
    features = from_mimic_csv({"rr_interval": 800})
    assert ClaimReport([], features=features) == ClaimReport([])
    assert "EcgFeatures" not in repr(ClaimReport([], features=features))


def test_a_sentence_is_read_where_a_claim_overlaps_it():
    text = "One two. Three four."

    def unread(*spans):
        verdicts = [Verdict(Claim("finding", finding="rbbb", span=span), "supported") for span in spans]
        return [text[a:b] for a, b in ClaimReport(verdicts, text).unread]

    assert unread() == ["One two.", "Three four."]
    assert unread((0, 1)) == ["Three four."]
    assert unread((7, 8)) == ["Three four."]
    assert unread((8, 9)) == ["One two.", "Three four."]  # the space between them
    assert unread((9, 10)) == ["One two."]
    assert unread((19, 20)) == ["One two."]
    assert unread((20, 25)) == ["One two.", "Three four."]


def test_json_of_a_report():
    report = ClaimReport(
        [Verdict(Claim("finding", finding="rbbb", span=(0, 4)), "supported")], "RBBB", languages=("de",)
    )
    plain = report.to_dict()
    assert plain["text"] == "RBBB"
    assert plain["languages"] == ["de"]
    assert report.to_json(indent=2).count("\n") > report.to_json().count("\n") == 0
    assert (plain["unread"], plain["unread_clinical"], plain["conflicts"]) == ([], [], [])


@pytest.mark.parametrize(
    ("code", "implied"),
    [
        ("st_elevation", {"reciprocal_change"}), ("sgarbossa", {"mi"}), ("mi", {"sgarbossa"}),
        ("wide_complex_tachycardia", {"wide_qrs", "ventricular_tachycardia"}),
        ("ventricular_tachycardia", {"wide_complex_tachycardia"}), ("junctional_rhythm", {"p_absent"}),
        ("trifascicular_block", {"bifascicular_block"}), ("multifocal_atrial_tachycardia", {"irregular_rhythm"}),
    ],
)  # fmt: skip
def test_findings_that_another_one_states(code, implied):
    every = (code, *implied, "pac")
    assert set(mentions_of([Verdict(Claim("finding", finding=code), "supported")], every)) == {code, *implied}
