"""Tolerances and the metrics of a report, number by number."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gem_lightning.claims.claim import UNITS, Claim
from gem_lightning.claims.conflicts import conflicts
from gem_lightning.claims.report import ClaimReport, Verdict, mentions_of
from gem_lightning.claims.tolerance import LUDB_SD_MS, default_tolerance


def claim(finding=None, kind="finding", **fields):
    return Claim(kind, finding=finding, **fields)


def verdict(word, finding=None, kind="finding", **fields):
    return Verdict(claim(finding, kind, **fields), word)


# -- tolerances ----------------------------------------------------------------------------------------------------

WIDTHS = {
    "rr": 20.0, "q_duration": 20.0, "r_duration": 20.0, "s_duration": 20.0, "pr": 19.4, "qrs": 17.0,
    "qt": 25.5, "jt": 26.4, "p_duration": 24.1, "t_duration": 36.2,
}  # fmt: skip


@pytest.mark.parametrize("kind", WIDTHS)
def test_interval_tolerance(kind):
    assert default_tolerance(kind, 100.0).value == WIDTHS[kind]
    assert ("LUDB" in default_tolerance(kind, 100.0).source) == (WIDTHS[kind] != 20.0)


def test_ludb_deviations_are_the_bars_of_the_delineation():
    assert LUDB_SD_MS == {"P_on": 16, "P_off": 18, "QRS_on": 11, "QRS_off": 13, "T_on": 28, "T_off": 23}


def test_qtc_tolerance_grows_with_the_rate():
    assert default_tolerance("qtc", 400.0).value == 25.5
    assert default_tolerance("qtc", 400.0, 1000.0).value == 25.5
    assert default_tolerance("qtc", 400.0, 1500.0).value == 25.5  # never tighter than QT's
    assert default_tolerance("qtc", 400.0, 250.0).value == 51.0
    assert default_tolerance("qtc", 400.0, 500.0).value == 36.1
    assert default_tolerance("qtc", 400.0, 640.0).value == 31.9
    assert default_tolerance("qtc", 400.0, 999.0).value == 25.5


def test_rate_tolerance_is_the_paper_or_the_strip():
    assert default_tolerance("heart_rate", 60.0).value == 3.0
    assert default_tolerance("heart_rate", 94.0).value == 3.0
    assert default_tolerance("heart_rate", 100.0).value == 3.3
    assert default_tolerance("heart_rate", 180.0).value == 10.8


def test_other_tolerances():
    assert {default_tolerance(kind, 50.0).value for kind in UNITS if kind.startswith("axis")} == {10.0}
    assert default_tolerance("voltage_sum", 3.0).value == 0.1
    assert {default_tolerance(kind, 1.0).value for kind in UNITS if kind.endswith("amplitude")} == {0.05}
    assert default_tolerance("st_level", 0.1).value == 0.05
    assert default_tolerance("st_level", 0.1).source.endswith("half a small box, 0.05 mV")
    assert default_tolerance("rr", 900.0).source.endswith("half a small box, 20 ms")


# -- metrics -------------------------------------------------------------------------------------------------------

FOUR = [
    verdict("supported", "rbbb"),
    verdict("supported", kind="pr", value=160.0, unit="ms"),
    verdict("contradicted", "lbbb"),
    verdict("unverifiable", "pvc", leads=("V3", "II")),
]


def test_metrics_of_a_report():
    report = ClaimReport(FOUR, abnormal=("rbbb", "wide_qrs", "pac"), mentioned=("rbbb",))
    assert (report.count(), report.count("supported"), report.count("unverifiable")) == (4, 2, 1)
    assert report.precision == pytest.approx(2 / 3)
    assert report.hallucination_rate == 0.25
    assert report.coverage == pytest.approx(1 / 3)
    assert report.leads_covered == ("II", "V3")
    assert report.by_kind == {
        "finding": {"supported": 1, "contradicted": 1, "unverifiable": 1},
        "pr": {"supported": 1, "contradicted": 0, "unverifiable": 0},
    }
    assert report.to_dict()["verdicts"][0]["claim"]["finding"] == "rbbb"


def test_metrics_without_claims():
    empty = ClaimReport([])
    assert (empty.precision, empty.hallucination_rate, empty.coverage, empty.leads_covered) == (None, None, None, ())
    assert ClaimReport(FOUR[3:]).precision is None
    assert ClaimReport(FOUR[3:]).hallucination_rate == 0.0


def test_unread_sentences():
    text = "The rate is 72. Nothing that counts here. Word. Two words. Tail of it"
    report = ClaimReport([verdict("supported", kind="heart_rate", value=72.0, span=(0, 14))], text)
    assert [text[a:b] for a, b in report.unread] == ["Nothing that counts here.", "Two words.", "Tail of it"]
    edge = ClaimReport([verdict("supported", "rbbb", span=(15, 16)), verdict("supported", "rbbb", span=(41, 43))], text)
    assert [text[a:b] for a, b in edge.unread] == [
        "The rate is 72.",
        "Nothing that counts here.",
        "Two words.",
        "Tail of it",
    ]


def test_a_report_as_json_and_in_the_terminal():
    report = ClaimReport([verdict("supported", "rbbb", span=(0, 4))], "RBBB, 120 µs")
    assert "µs" in report.to_json()
    with pytest.raises(ValueError, match="JSON"):
        ClaimReport([replace(FOUR[1], measured=float("nan"))]).to_json()
    assert "\033[" in report.to_terminal(color=True)
    assert "\033[" not in report.to_terminal(color=False)


ABNORMAL = (
    "st_elevation", "st_depression", "reciprocal_change", "t_inversion", "wide_qrs", "rbbb", "lbbb", "ivcd",
    "av_block_1", "prolonged_pr", "atrial_fibrillation", "p_absent", "irregular_rhythm",
)  # fmt: skip


@pytest.mark.parametrize(
    ("stated", "mentioned"),
    [
        (claim("rbbb"), {"rbbb", "wide_qrs"}),
        (claim("lbbb"), {"lbbb", "wide_qrs"}),
        (claim("ivcd"), {"ivcd", "wide_qrs"}),
        (claim("av_block_1"), {"av_block_1", "prolonged_pr"}),
        (claim("prolonged_pr"), {"av_block_1", "prolonged_pr"}),
        (claim("st_depression"), {"st_depression", "reciprocal_change"}),
        (claim("atrial_fibrillation"), {"atrial_fibrillation", "p_absent", "irregular_rhythm"}),
        (claim("rbbb", negated=True), set()),
        (claim(kind="st_level", value=0.1), {"st_elevation", "reciprocal_change"}),
        (claim(kind="st_level", value=0.09), set()),
        (claim(kind="st_level", low=0.05, high=0.1), {"st_elevation", "reciprocal_change"}),
        (claim(kind="st_level", value=-0.05), {"st_depression", "reciprocal_change"}),
        (claim(kind="st_level", value=-0.04), set()),
        (claim(kind="st_level", low=-0.2, high=-0.04), {"st_depression", "reciprocal_change"}),
        (claim(kind="t_amplitude", value=-0.01), {"t_inversion"}),
        (claim(kind="t_amplitude", value=0.0), set()),
        (claim(kind="t_amplitude", low=-0.2, high=0.1), set()),
        (claim(kind="qrs", value=120.0), {"wide_qrs"}),
        (claim(kind="qrs", value=119.0), set()),
        (claim(kind="qrs", low=110.0, high=130.0), set()),
        (claim(kind="pr", value=240.0), set()),
        (claim(kind="st_level"), set()),
    ],
)
def test_what_a_claim_mentions(stated, mentioned):
    assert set(mentions_of([Verdict(stated, "supported")], ABNORMAL)) == mentioned
    assert mentions_of([Verdict(stated, "contradicted")], ABNORMAL) == ()
    assert mentions_of([Verdict(stated, "unverifiable")], ABNORMAL) == ()


def test_mentions_keep_the_order_of_the_record():
    both = [Verdict(claim("lbbb"), "supported"), Verdict(claim("av_block_1"), "supported")]
    assert mentions_of(both, ("av_block_1", "pac", "lbbb")) == ("av_block_1", "lbbb")


# -- conflicts take their ranges from the criteria -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "kind", "fits", "clashes"),
    [
        ("normal_pr", "pr", 205.0, 215.0),
        ("av_block_1", "pr", 195.0, 185.0),
        ("wide_qrs", "qrs", 112.0, 105.0),
        ("narrow_qrs", "qrs", 118.0, 125.0),
        ("normal_qtc", "qtc", 465.0, 475.0),
        ("long_qtc", "qtc", 440.0, 430.0),
        ("sinus_bradycardia", "heart_rate", 61.0, 64.0),
        ("sinus_tachycardia", "heart_rate", 99.0, 96.0),
        ("left_axis_deviation", "axis_qrs", -27.0, -20.0),
    ],
)
def test_a_finding_and_its_number(code, kind, fits, clashes):
    for value, count in ((fits, 0), (clashes, 1)):
        number = Claim(kind, value, unit=UNITS[kind])
        assert len(conflicts([claim(code), number])) == count, value
    assert "inf" not in conflicts([claim(code), Claim(kind, clashes, unit=UNITS[kind])])[0].reason
