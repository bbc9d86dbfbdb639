"""Verdicts against records whose truth is known."""

from __future__ import annotations

import json
import random

import pytest

from gem_lightning.claims.claim import Claim
from gem_lightning.claims.perturb import alter
from gem_lightning.claims.tolerance import LUDB_SD_MS, default_tolerance
from gem_lightning.ecg import simulate
from gem_lightning.features import findings, measure
from gem_lightning.grounding import compose, conflicts, extract, verify

CODES = (
    "sinus",
    "atrial_fibrillation",
    "lbbb",
    "rbbb",
    "av_block_1",
    "st_elevation",
    "t_inversion",
    "pvc",
    "sinus_bradycardia",
)


@pytest.fixture(scope="module")
def records():
    made = [simulate(code, seed=seed) for code in CODES for seed in (1, 2)]
    return [(m, f, findings(f)) for m in made for f in [measure(m.record)]]


@pytest.fixture(scope="module")
def normal(records):
    return records[0]


def only(text, features):
    (verdict,) = verify(text, features).verdicts
    return verdict


def test_number_within_and_beyond_tolerance(normal):
    _, features, _ = normal
    qrs = features.qrs_ms
    assert only(f"QRS {qrs:.0f} ms", features).verdict == "supported"
    assert only(f"QRS {qrs + 16:.0f} ms", features).verdict == "supported"
    near = only(f"QRS {qrs + 25:.0f} ms", features)
    assert near.verdict == "unverifiable"
    assert near.reason.startswith("borderline")
    far = only(f"QRS {qrs + 40:.0f} ms", features)
    assert far.verdict == "contradicted"
    assert far.measured == pytest.approx(qrs)
    assert far.tolerance == 17.0
    assert "LUDB" in far.tolerance_source


def test_tolerance_is_that_of_experts_or_of_paper():
    assert default_tolerance("pr", 160).value == 19.4
    qt = default_tolerance("qt", 400)
    assert qt.value == pytest.approx((LUDB_SD_MS["QRS_on"] ** 2 + LUDB_SD_MS["T_off"] ** 2) ** 0.5, abs=0.1)
    assert "LUDB" in qt.source
    assert default_tolerance("st_level", 0.1).value == 0.05


def test_own_tolerance(normal):
    _, features, _ = normal
    text = f"QRS {features.qrs_ms + 20:.0f} ms"
    assert verify(text, features, tolerance={"qrs": 5}).verdicts[0].verdict == "contradicted"
    assert verify(text, features, tolerance=0.5).verdicts[0].verdict == "contradicted"
    assert verify(text, features, tolerance=2).verdicts[0].verdict == "supported"


def test_a_denied_number_is_true_where_the_measurement_differs(normal):
    _, features, _ = normal
    pr = round(features.pr_ms)
    for value, verdict in ((pr + 80, "supported"), (pr + 30, "unverifiable"), (pr, "contradicted")):
        claim = Claim("pr", float(value), unit="ms", negated=True)
        assert verify([claim], features).verdicts[0].verdict == verdict


def test_a_hedged_statement_is_contradicted_only_where_firmly_excluded():
    features = measure(simulate("sinus", seed=1, sex="M", age=50).record)
    for qtc, firm, hedged in ((445, "unverifiable", "unverifiable"), (430, "contradicted", "unverifiable"),
                              (400, "contradicted", "unverifiable"),
                              (380, "contradicted", "contradicted")):  # fmt: skip
        features.qtc_ms["fridericia"] = float(qtc)
        claims = [Claim("finding", finding="long_qtc", uncertain=uncertain) for uncertain in (False, True)]
        assert [v.verdict for v in verify(claims, features).verdicts] == [firm, hedged]


def test_a_missed_criterion_does_not_exclude_a_disease(normal):
    _, features, _ = normal
    assert only("Possible left ventricular hypertrophy.", features).verdict != "contradicted"
    assert only("Possible inferior infarct.", features).verdict != "contradicted"
    assert only("Left ventricular hypertrophy.", features).verdict != "supported"
    assert only("Possible atrial fibrillation.", features).verdict == "contradicted"


def test_bounds_and_ranges(normal):
    _, features, _ = normal
    pr = features.pr_ms
    assert only(f"PR above {pr - 50:.0f} ms", features).verdict == "supported"
    assert only(f"PR above {pr + 50:.0f} ms", features).verdict == "contradicted"
    assert only(f"PR {pr - 10:.0f}-{pr + 10:.0f} ms", features).verdict == "supported"
    assert only(f"PR {pr + 40:.0f}-{pr + 60:.0f} ms", features).verdict == "contradicted"


def test_lead_and_beat(records):
    _, features, _ = next(r for r in records if "st_elevation" in {f.code for f in r[2]})
    found = [f for f in findings(features) if f.code == "st_elevation"]
    inside = found[0].leads[0]
    outside = next(lead for lead in features.st_mv if abs(features.st_mv[lead]["J"]) < 0.02)
    assert only(f"ST elevation in {inside}", features).verdict == "supported"
    assert only(f"ST elevation in {outside}", features).verdict == "contradicted"
    assert only(f"No ST elevation in {inside}", features).verdict == "contradicted"
    assert only(f"No ST elevation in {outside}", features).verdict == "supported"
    qrs = features.beats.whole["qrs_ms"][2]
    assert only(f"QRS {qrs:.0f} ms in the third beat", features).verdict == "supported"
    assert only("QRS 90 ms in beat 99", features).verdict == "unverifiable"


def test_findings_and_their_denial(records):
    _, features, _ = next(r for r in records if "lbbb" in {f.code for f in r[2]})
    assert only("LBBB.", features).verdict == "supported"
    assert only("No LBBB.", features).verdict == "contradicted"
    assert only("RBBB.", features).verdict == "contradicted"
    assert only("No RBBB.", features).verdict == "supported"
    assert only("Normal ECG.", features).verdict == "contradicted"


def test_an_interval_without_p_waves_is_contradicted(records):
    _, features, _ = next(r for r in records if "atrial_fibrillation" in {f.code for f in r[2]})
    assert only("PR 160 ms.", features).verdict == "contradicted"


def test_too_near_a_criterion_is_left_open(records):
    made = (measure(simulate("sinus", seed=1, pr_ms=float(pr)).record) for pr in range(186, 200, 2))
    features = next(f for f in made if 191 < f.pr_ms < 200)
    assert only("PR prolonged.", features).verdict == "unverifiable"
    assert only("Normal PR.", features).verdict == "supported"


def test_nothing_measured_nothing_decided():
    import numpy as np

    from gem_lightning.ecg import LEADS, EcgRecord

    features = measure(EcgRecord(np.zeros((12, 5000), np.float32), 500.0, LEADS))
    report = verify("Sinus rhythm at 72 bpm.", features)
    assert {v.verdict for v in report.verdicts} == {"unverifiable"}
    assert report.precision is None


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("Rate 60 bpm with RR 600 ms.", 1),
        ("Normal axis at −60°.", 1),
        ("Normal PR interval of 240 ms.", 1),
        ("No ST elevation. ST elevation in V2.", 1),
        ("Sinus rhythm with atrial fibrillation.", 1),
        ("Rate 60 bpm with RR 1000 ms. Normal axis at 30°.", 0),
        ("ST elevation in V2, no ST elevation in V5.", 0),
        ("Possible atrial fibrillation or sinus rhythm.", 0),
    ],
)
def test_conflicts_inside_a_text(text, count):
    assert len(conflicts(extract(text))) == count


def test_report_figures_and_views(normal, records):
    made, features, found = normal
    text = compose(features, found, 1) + " Third degree AV block."
    report = verify(text, features, findings=found)
    assert report.count("contradicted") == 1
    assert report.precision == pytest.approx(1 - 1 / len(report.verdicts))
    assert report.hallucination_rate == pytest.approx(1 / len(report.verdicts))
    assert json.loads(report.to_json())["by_kind"]["finding"]["contradicted"] == 1
    html = report.to_html(made.record)
    assert html.count('class="c contradicted"') == 1
    assert "<svg" in html
    assert "<script" not in verify("<script>PR 160 ms</script>", features).to_html()
    assert "Third degree AV block[✗]" in report.to_terminal(color=False)


def test_what_is_not_read_as_a_claim_is_marked(records):
    _, features, _ = records[0]
    text = "Rate 70 bpm. The heart sits like 1.5 <b>bananas</b>. PR 0.16 s; nothing else of note\nSummary:"
    report = verify(text, features)
    unread = ["The heart sits like 1.5 <b>bananas</b>.", "nothing else of note"]
    assert [text[a:b] for a, b in report.unread] == unread
    assert report.to_html().count('class="unread"') == 2
    assert "1.5 &lt;b&gt;bananas" in report.to_html()
    assert [line[25:] for line in report.to_terminal().splitlines() if "not read as a claim" in line] == unread


def test_coverage_counts_what_is_said(records):
    _, features, found = next(r for r in records if "lbbb" in {f.code for f in r[2]})
    assert verify("LBBB.", features).coverage < 1
    assert verify(compose(features, found, 0, "report"), features).coverage == 1
    assert verify("Sinus rhythm.", features).coverage == 0


@pytest.mark.parametrize("style", ["brief", "report", "interpretation", "teaching"])
def test_alterations_are_caught_and_originals_pass(records, style):
    rng = random.Random(style)
    tried = caught = 0
    for k in range(60):
        _, features, found = rng.choice(records)
        text = compose(features, found, k, style)
        assert all(v.verdict != "contradicted" for v in verify(text, features, findings=found).verdicts), text
        changed = alter(text, features, found, rng)
        if changed is not None:
            tried += 1
            caught += any(v.verdict == "contradicted" for v in verify(changed[1], features, findings=found).verdicts)
    assert tried > 50
    assert caught >= 0.98 * tried
