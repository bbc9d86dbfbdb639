"""The score of a text: honest texts beat every cheat, true informative claims never cost, lies always do."""

from __future__ import annotations

import csv
import importlib.util
import random
from functools import cache

import numpy as np
import pytest

from gem_lightning.claims.claim import UNITS, Claim
from gem_lightning.claims.report import ClaimReport, Verdict
from gem_lightning.claims.score import SEVERITY, components, information, severity
from gem_lightning.claims.verify import verify
from gem_lightning.ecg import DIAGNOSES, LEADS, EcgRecord, simulate
from gem_lightning.features import measure
from gem_lightning.features.criteria import codes, decide
from gem_lightning.features.criteria.summary import abnormal
from gem_lightning.grounding import compose, compose_with_claims


@cache
def simulated():
    return tuple(measure(simulate(name, seed=seed, snr_db=25).record) for name in DIAGNOSES for seed in range(4))


def records(shared_data):
    """At least 200 records, simulated ones and those of LUDB."""
    real = []
    for row in csv.DictReader((shared_data / "ludb_odd" / "ludb.csv").open(newline="")):
        import wfdb

        counts = wfdb.rdrecord(str(shared_data / "ludb_odd" / "data" / row["ID"].strip()), physical=False).d_signal
        real.append(measure(EcgRecord((counts.T / 1000).astype(np.float32), 500.0, LEADS)))
    return [*simulated(), *real]


def values(features):
    """The numbers that a template may take, as its file describes them."""
    numbers = {
        "rate": features.heart_rate_bpm,
        "pr": features.pr_ms,
        "qrs": features.qrs_ms,
        "qt": features.qt_ms,
        "axis": features.axis_deg["QRS"],
    }
    known = {name: round(value) for name, value in numbers.items() if value is not None}
    offsets = {"rate": 3, "pr": 19, "qrs": 19, "qt": 24}
    return known | {f"{name}_off": known[name] + off for name, off in offsets.items() if name in known}


def test_honest_texts_beat_every_cheat(shared_data):
    path = shared_data.parent / "cases" / "cheats.py"
    if not path.exists() or not (shared_data / "ludb_odd" / "ludb.csv").exists():
        pytest.skip("the cheats or LUDB are not here")
    spec = importlib.util.spec_from_file_location("cheats", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    every = records(shared_data)
    assert len(every) >= 200
    honest = [verify(compose(f, seed=k, style="report"), f).score for k, f in enumerate(every)]
    ill = [bool(abnormal(f)) for f in every]
    assert sum(ill) > len(every) / 3
    for name, template in module.CHEATS.items():
        gaps = []
        for k, features in enumerate(every):
            try:
                text = template.format_map(values(features))
            except KeyError:
                continue
            score = verify(text, features).score
            gaps.append((honest[k] - score, ill[k]))
            if name in module.SEVERE and not decide("av_block_3", features).met:
                assert score <= 0.5, (name, k)
        assert np.mean([gap for gap, _ in gaps]) >= 0.2, name
        assert np.mean([gap for gap, abnormal_ in gaps if abnormal_]) >= 0.2, name


def test_one_more_true_informative_claim_never_costs():
    rng = random.Random(0)
    for k, features in enumerate(simulated()):
        true = [
            v for v in verify(compose_with_claims(features, seed=k).claims, features).verdicts if information(v) > 0
        ]
        assert len(true) > 4
        wrong = [Claim("finding", finding=code) for code in rng.sample(codes(), 6)]
        wrong += [Claim(kind, float(rng.randrange(40, 600)), unit=UNITS[kind]) for kind in ("pr", "qrs", "heart_rate")]
        chosen = rng.sample([v.claim for v in true], rng.randrange(len(true)))
        base = [*rng.sample(wrong, rng.randrange(len(wrong))), *chosen]
        before = verify(base, features).score
        for verdict in true:
            assert verify([*base, verdict.claim], features).score >= before - 1e-12, verdict


def test_a_lie_always_costs_by_what_it_concerns():
    features = simulated()[DIAGNOSES.index("sinus") * 4]
    truth = list(compose_with_claims(features, seed=1).claims)
    best = verify(truth, features).score

    def loss(claim):
        assert verify([claim], features).verdicts[0].verdict == "contradicted"
        return best - verify([*truth, claim], features).score

    detail = loss(Claim("p_amplitude", 1.5, unit="mV", leads=("II",)))
    interval = loss(Claim("qrs", 180.0, unit="ms"))
    finding = loss(Claim("finding", finding="left_axis_deviation"))
    emergency = loss(Claim("finding", finding="av_block_3"))
    assert 0 < detail < interval < finding < emergency
    denial = Claim("finding", finding="sinus_rhythm", negated=True)
    assert loss(denial) > 0
    assert severity(denial, ()) == SEVERITY["interval"]


def test_what_informs():
    def told(verdict="supported", measured=None, tolerance=None, **fields):
        return information(Verdict(Claim(**fields), verdict, measured, tolerance))

    assert told(kind="finding", finding="short_qtc", negated=True) < 0.1
    assert told(kind="finding", finding="pericarditis", negated=True) == 0.0
    assert told(kind="finding", finding="st_elevation", negated=True, leads=("V5",)) == 0.0
    assert told(kind="finding", finding="lbbb") > 0.9
    assert told(kind="finding", finding="lbbb", uncertain=True) == pytest.approx(0.48)
    assert told(kind="qrs", high=900.0, tolerance=17.0) == 0.0
    assert told(kind="heart_rate", low=20.0, high=300.0, tolerance=3.0) == 0.0
    exact = told(kind="qrs", value=100.0, measured=100.0, tolerance=17.0)
    assert told(kind="qrs", value=116.0, measured=100.0, tolerance=17.0) < 0.2 * exact
    assert told(kind="pr", value=160.0, measured=300.0, tolerance=19.4, negated=True) > 0


def test_components_by_hand():
    verdicts = [
        Verdict(Claim("finding", finding="lbbb"), "supported"),
        Verdict(Claim("finding", finding="lbbb", span=(5, 9)), "supported"),  # counts once
        Verdict(Claim("finding", finding="rbbb"), "contradicted"),
        Verdict(Claim("finding", finding="rvh", uncertain=True), "unverifiable", reason="borderline: near"),
    ]
    parts = components(verdicts, ("lbbb", "long_qtc"), ("lbbb",), ("long_qtc",), (), [(0, 9)])
    assert parts["information"] == pytest.approx(0.96)
    assert parts["errors"] == pytest.approx(3.0 + 0.3 + 1.5)
    assert parts["correctness"] == pytest.approx(0.96 / 5.76)
    assert parts["content"] == pytest.approx(0.96 / 5)
    assert parts["coverage"] == pytest.approx(1 / 5)
    assert parts["score"] == pytest.approx(0.96 / 5.76 * (0.192 + 0.2) / 2 * 0.5)
    assert ClaimReport([]).score == 0.0
    report = ClaimReport(verdicts, "x", ("lbbb",), ("lbbb",))
    assert report.to_dict()["score"] == report.score == report.components["score"]
    assert 0 < report.score < ClaimReport(verdicts[:2], "x", ("lbbb",), ("lbbb",)).score


def test_silence_on_an_urgent_finding_halves_the_score():
    features = simulated()[DIAGNOSES.index("av_block_3") * 4]
    assert decide("urgent", features).met
    claims = [c for c in compose_with_claims(features).claims if c.finding not in ("av_block_3", "urgent")]
    silent, full = verify(claims, features), verify(compose_with_claims(features).claims, features)
    assert silent.components["urgent_stated"] == 0.0
    assert silent.score < 0.5 * full.score
    lie = verify([*claims, Claim("finding", finding="not_urgent")], features)
    assert lie.score < silent.score
