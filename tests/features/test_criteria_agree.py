"""Findings, verification and composition agree on every criterion, for every age and sex."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gem_lightning.claims.claim import Claim
from gem_lightning.claims.extract import extract
from gem_lightning.claims.parser.lexicon import lexicon
from gem_lightning.claims.tolerance import default_tolerance
from gem_lightning.claims.verify import verify
from gem_lightning.ecg import DIAGNOSES, LEADS, EcgRecord, read_ecg, simulate
from gem_lightning.features import findings, from_mimic_csv, measure
from gem_lightning.features.criteria import by_lead, codes, criteria, decide
from gem_lightning.features.criteria.base import error
from gem_lightning.grounding import compose

STATED = tuple(criteria()["findings"])
AGES = (None, 1, 17, 18, 39, 40, 64, 95)
SEXES = (None, "M", "F")


def check(features, checked=STATED):
    """Of "X" and "no X" exactly one is supported or both are open, and it is the one that findings states."""
    found = findings(features)
    stated = {finding.code for finding in found}
    claims = [Claim("finding", finding=code, negated=no) for code in checked for no in (False, True)]
    verdicts = iter(verify(claims, features, findings=found).verdicts)
    for code, yes, no in zip(checked, verdicts, verdicts):
        decision = decide(code, features)
        pair = (yes.verdict, no.verdict)
        where = (code, features.age, features.sex, pair, decision)
        assert (decision.margin is None) == (decision.met is None), where
        assert decision.met is None or decision.met == (decision.margin >= 0), where
        if decision.met is None:
            assert pair == ("unverifiable", "unverifiable"), where
            assert yes.reason, where
        else:
            assert pair.count("supported") == 1, where
            assert (yes.verdict == "supported") == decision.met, where
            other = no if decision.met else yes
            assert other.verdict == ("contradicted" if decision.clear else "unverifiable"), where
            assert decision.clear or other.reason.startswith("borderline"), where
        refined = any(decide(c, features).met for c in criteria()["findings"].get(code, {}).get("refined_by", ()))
        assert code not in STATED or (code in stated) == bool(decision.met and not refined), where
    return found


def text_of(code: str) -> str | None:
    """Return a sentence of the lexicon that states this finding and nothing else."""
    table = lexicon("en").data["findings"]
    for key, patterns in table.items():
        for pattern in patterns if key == code else ():
            words = (word.split("|")[0] for word in str(pattern).split() if not word.endswith("*"))
            text = " ".join(words).capitalize() + "."
            if [(c.finding, c.negated, c.leads) for c in extract(text)] == [(code, False, ())]:
                return text
    return SENTENCES.get(code)


SENTENCES = {
    "st_elevation": "ST elevation.",
    "st_depression": "ST depression.",
    "t_inversion": "T wave inversion.",
    "t_flat": "Flat T waves.",
    "t_peaked": "Peaked T waves.",
    "pathological_q": "Pathological Q waves.",
    "normal_pr": "Normal PR interval.",
    "prolonged_pr": "Prolonged PR interval.",
    "normal_qtc": "Normal QTc.",
    "long_qtc": "Prolonged QTc.",
    "short_qtc": "Short QTc.",
    "narrow_qrs": "Narrow QRS.",
    "wide_qrs": "Wide QRS.",
    "normal_axis": "Normal axis.",
    "regular_rhythm": "Regular rhythm.",
    "irregular_rhythm": "Irregular rhythm.",
    "mi_inferior": "Inferior infarct.",
    "mi_anterior": "Anterior infarct.",
    "mi_lateral": "Lateral infarct.",
    "mi_septal": "Septal infarct.",
    "low_voltage": "Low QRS voltage.",
}


def measured(diagnosis, seed, **parameters):
    return measure(simulate(diagnosis, seed=seed, **parameters).record)


@pytest.mark.parametrize("diagnosis", DIAGNOSES)
def test_findings_and_verdicts_agree(diagnosis):
    for seed in range(2):
        features = measured(diagnosis, seed, snr_db=25 if seed else None)
        for age in AGES[seed::2]:
            for sex in SEXES:
                check(_patient(features, age, sex), codes() if age is None else STATED)


def _patient(features, age, sex):
    return replace(features, age=age, sex=sex)


@settings(max_examples=60, deadline=None)
@given(
    diagnosis=st.sampled_from(DIAGNOSES),
    seed=st.integers(0, 10**6),
    age=st.none() | st.integers(1, 95),
    sex=st.sampled_from(SEXES),
    level=st.floats(-0.3, 0.3),
    qtc=st.floats(300, 560),
    axis=st.floats(-180, 180),
    qrs=st.floats(60, 200),
    lost=st.sets(st.sampled_from(LEADS), max_size=4),
)
def test_any_measurement_is_decided_once(diagnosis, seed, age, sex, level, qtc, axis, qrs, lost):
    features = measured(diagnosis, seed, seconds=5)
    leads = {name: replace(lead, trust=0.0) if name in lost else lead for name, lead in features.leads.items()}
    points = {name: dict.fromkeys(levels, level) for name, levels in features.st_mv.items()}
    check(
        replace(features, age=age, sex=sex, leads=leads, st_mv=points, qrs_ms=qrs,
                axis_deg=features.axis_deg | {"QRS": axis}, qtc_ms=features.qtc_ms | {"fridericia": qtc})
    )  # fmt: skip


def test_ludb_agrees(shared_data):
    paths = sorted((shared_data / "ludb_odd" / "data").glob("*.hea"))
    if not paths:
        pytest.skip("LUDB is not here")
    for k, path in enumerate(paths):
        features = measure(read_ecg(path))
        for sex in SEXES:
            check(_patient(features, AGES[k % len(AGES)], sex))


def test_every_code_has_a_sentence_that_agrees_with_findings():
    texts = {code: text for code in STATED if (text := text_of(code))}
    named = {code for key in lexicon("en").data["findings"] for code in key.split("+")} | set(SENTENCES)
    assert named & set(STATED) - set(texts) <= {"rsr_prime", "reciprocal_change"}  # named with a lead only
    assert len(texts) > 50
    denials = {code: f"No {text[:1].lower()}{text[1:]}" for code, text in texts.items()}
    denials = {code: text for code, text in denials.items() if [c.negated for c in extract(text)] == [True]}
    assert len(denials) > 30
    for diagnosis in DIAGNOSES:
        features = measured(diagnosis, 5)
        stated = {finding.code for finding in findings(features)}
        for code, text in texts.items():
            decision, verdicts = decide(code, features), verify(text, features).verdicts
            got = next(v.verdict for v in verdicts if v.claim.finding == code)
            assert (got == "supported") == (decision.met is True), (diagnosis, text, decision)
            assert code not in stated or got == "supported", (diagnosis, text)
            if code in denials:
                got = verify(denials[code], features).verdicts[0].verdict
                assert (got == "supported") == (decision.met is False), (diagnosis, denials[code], decision)


# -- what used to disagree -----------------------------------------------------------------------------------------


def with_qtc(qtc, age, sex):
    features = measured("sinus", 1)
    features.qtc_ms["fridericia"] = qtc
    return _patient(features, age, sex)


def verdict(text, features):
    return verify(text, features).verdicts[0].verdict


def test_a_womans_qtc_has_her_limit():
    woman, man = with_qtc(453, 50, "F"), with_qtc(453, 50, "M")
    assert "normal_qtc" in {f.code for f in findings(woman)}
    assert (verdict("Normal QTc.", woman), verdict("Prolonged QTc.", woman)) == ("supported", "unverifiable")
    assert (verdict("Normal QTc.", man), verdict("Prolonged QTc.", man)) == ("unverifiable", "supported")
    assert verdict("Prolonged QTc.", with_qtc(446, 50, "F")) == "contradicted"
    assert verdict("Prolonged QTc.", with_qtc(446, 50, None)) == "unverifiable"  # a man's limit is near


def test_a_young_mans_st_has_his_limit():
    features = measured("sinus", 1)
    for lead in ("V2", "V3"):
        features.st_mv[lead]["J"] = 0.22
    for age, sex, stated in ((30, "M", False), (50, "M", True), (30, "F", True), (None, None, True)):
        own = _patient(features, age, sex)
        assert ("st_elevation" in {f.code for f in findings(own)}) == stated
        assert (verdict("ST elevation.", own) == "supported") == stated
        assert (verdict("ST elevation in V2.", own) == "supported") == stated
    assert verdict("No ST elevation.", _patient(features, None, None)) == "unverifiable"


def test_paced_complexes_have_no_axis_deviation():
    features = measured("paced_rhythm", 0)
    features.axis_deg["QRS"] = -60
    assert verdict("Left axis deviation.", features) == "unverifiable"
    assert verdict("Normal axis.", features) == "unverifiable"
    assert "left_axis_deviation" not in {f.code for f in findings(features)}


def test_hypertrophy_is_open_in_left_bundle_branch_block_and_in_children_and_by_voltage_in_the_young():
    features = measured("lbbb", 0)
    features.voltages_mv["sokolow_lyon"] = 5.0
    assert verdict("Left ventricular hypertrophy.", features) == "unverifiable"
    child = _patient(measured("lvh", 0), 10, "M")
    assert verdict("Left ventricular hypertrophy.", child) == "unverifiable"
    for age in (18, 34):  # tall, and nothing but voltage
        stated = {f.code for f in findings(child, age=age)}
        assert not stated & {"lvh", "normal_ecg"}
        assert verdict("Left ventricular hypertrophy.", _patient(child, age, "M")) == "unverifiable"
    assert "lvh" in {f.code for f in findings(child, age=35)}


# -- age and sex ---------------------------------------------------------------------------------------------------


def test_age_and_sex_come_from_the_record_and_can_be_overridden():
    sim = simulate("sinus", seed=1)
    features = measure(sim.record)
    assert (features.age, features.sex) == (sim.parameters["age"], sim.parameters["sex"])
    other = measure(sim.record, age=7, sex="female")
    assert (other.age, other.sex) == (7, "F")
    assert (other.to_dict()["age"], other.to_dict()["sex"]) == (7, "F")
    kept = pickle.loads(pickle.dumps(other))
    assert (kept.age, kept.sex) == (7, "F")
    assert "_decisions" not in kept.__dict__
    empty = measure(EcgRecord(np.zeros((12, 5000), np.float32), 500.0, LEADS, {"age": "old", "sex": "?"}))
    assert (empty.age, empty.sex) == (None, None)
    with pytest.raises(ValueError, match="sex"):
        measure(sim.record, sex="x")
    with pytest.raises(ValueError, match="0-150"):
        measure(sim.record, age=151)
    assert from_mimic_csv({"rr_interval": 800}, age=60, sex="F").sex == "F"


def test_overrides_of_findings_leave_the_features_alone():
    features = with_qtc(455, 50, "F")
    assert "long_qtc" in {f.code for f in findings(features, sex="M")}
    assert "long_qtc" not in {f.code for f in findings(features)}
    assert features.sex == "F"


# -- margins -------------------------------------------------------------------------------------------------------


def test_errors_are_half_the_reading_tolerance():
    for quantity, kind in (("ms", "rr"), ("mv", "st_level"), ("deg", "axis_qrs"), ("bpm", "heart_rate")):
        assert error(quantity) == default_tolerance(kind, 60.0).value / 2
    assert error("qt_ms") == pytest.approx(default_tolerance("qt", 400).value / 2, abs=0.5)


def test_urgent_findings_are_the_clear_ones():
    def urgent(features):
        return {f.code for f in findings(features) if f.urgent}

    assert urgent(measured("av_block_3", 1)) == {"av_block_3"}
    assert urgent(measured("av_block_2_mobitz_2", 1)) == {"av_block_2_mobitz_2"}
    assert urgent(with_qtc(499, 50, "F")) == set()
    assert urgent(with_qtc(501, 50, "F")) == {"long_qtc"}
    assert urgent(measured("sinus", 1)) == set()
    stemi = [urgent(measured("st_elevation", seed, territory="inferior")) for seed in range(4)]
    assert {"mi_inferior"} in stemi
    for seed in range(4):
        text = compose(with_qtc(520, 50, "F"), seed=seed)
        assert text.startswith("This ECG is urgent because of prolonged QTc.")
        assert compose(with_qtc(480, 50, "F"), seed=seed).startswith("No urgent finding by these criteria.")


def test_leads_are_decided_where_the_criterion_allows_it():
    features = measured("st_elevation", 1, territory="inferior")
    assert decide("st_elevation", features, ("II", "III")).met
    assert decide("st_elevation", features, ("II", "V5")).met is False
    assert decide("lbbb", features, ("V1",)) == decide("lbbb", features)
    assert decide("st_elevation", features, ("V9",)).met is None
    assert decide("no_such_finding", features).reason == "no criterion for this finding"
    assert {code for code in STATED if by_lead(code)} == {
        "st_elevation", "st_depression", "t_inversion", "t_flat", "t_peaked", "pathological_q", "rsr_prime",
        "low_voltage", "abnormal_u",
    }  # fmt: skip


def test_decisions_are_kept_until_a_measurement_changes():
    features = measured("sinus", 1)
    assert decide("normal_qtc", features) is decide("normal_qtc", features)
    for change in (
        lambda: features.qtc_ms.update(fridericia=520.0),
        lambda: [features.st_mv[lead].update(J=0.4) for lead in ("II", "III")],
        lambda: features.axis_deg.update(QRS=-60.0),
        lambda: features.leads.update({lead: replace(features.leads[lead], t_mv=-0.5) for lead in ("V4", "V5")}),
        lambda: features.voltages_mv.update(sokolow_lyon=5.0),
        lambda: features.beats.whole["rr_ms"].__setitem__(slice(1, 4), (500.0, 900.0, 1200.0)),
        lambda: features.beats.whole["pr_ms"].fill(np.nan),
        lambda: features.beats.beat_class.__setitem__(3, "premature_ventricular"),
    ):
        before = [decide(code, features) for code in STATED]
        change()
        after = [decide(code, features) for code in STATED]
        assert after != before
        assert [d.margin for d in after] == [decide(code, features.of_patient()).margin for code in STATED]
        found = {finding.code for finding in findings(features) if finding.abnormal}
        assert set(verify("Sinus rhythm.", features).abnormal) == found


def test_most_criteria_are_met_somewhere():
    records = [measured(diagnosis, seed) for diagnosis in DIAGNOSES for seed in range(2)]
    seen = {finding.code for features in records for finding in findings(features)}
    assert len(seen) >= 44, sorted(set(STATED) - set(seen))
