"""Criteria of several conditions: patient, forms, rhythm, what suspends what, infarction and summary."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gem_lightning.ecg import LEADS
from gem_lightning.features.criteria import decide
from gem_lightning.features.criteria.base import (
    FORM,
    TINY,
)  # fmt: skip
from gem_lightning.features.criteria.conduction import minnesota_form, q_then_r, right_form, split, strauss
from gem_lightning.features.criteria.rhythm import own_rr, p_share, pr_spread, rr_change
from gem_lightning.features.criteria.summary import abnormal, urgent
from gem_lightning.features.schema import LeadFeatures, Rhythm
from helpers_features import FREE, LAFB, LEFT, LPFB, QUIET, RIGHT, axis, every, make, qtc

# -- forms ---------------------------------------------------------------------------------------------------------


def test_form_of_right_bundle_branch_block():
    assert right_form(make(leads=RIGHT)) == ("V1",)
    for name in ("I", "V6"):
        early = RIGHT | {name: {"s_ms": 39.0, "r_ms": 45.0}}
        assert right_form(make(leads=early)) == ()
        assert right_form(make(leads=RIGHT | {name: {"s_ms": 40.0, "r_ms": 45.0}})) == ("V1",)
        assert right_form(make(leads=RIGHT | {name: {"s_ms": 30.0, "r_ms": 29.0}})) == ("V1",)
        assert right_form(make(leads=RIGHT | {name: {"s_ms": 30.0, "r_ms": 30.0}})) == ()
    first = {"q_mv": None, "s_mv": 0.1, "qrs_notes": ()}
    for r, r2, shown in ((0.2, 0.2, True), (0.2, 0.19, False), (0.02, 0.1, True), (0.02, 0.09, False),
                         (0.9, 0.3, True), (0.9, 0.29, False)):  # fmt: skip
        assert bool(right_form(make(leads=RIGHT | {"V1": first | {"r_mv": r, "r2_mv": r2}}))) == shown
    broad = {"r_mv": 0.9, "r2_mv": None, "s_mv": 0.4, "q_mv": None, "qrs_notes": ("notched",)}
    assert right_form(make(leads=RIGHT | {"V1": broad})) == ("V1",)
    assert right_form(make(leads=RIGHT | {"V1": broad | {"s_mv": 0.45}})) == ()
    assert right_form(make(leads=RIGHT | {"V1": broad | {"qrs_notes": ()}})) == ()


def test_form_of_left_bundle_branch_block():
    def met(**changes):
        leads = {name: fields | changes.get(name, {}) for name, fields in LEFT.items()}
        return decide("lbbb", make(leads=leads, qrs_ms=130.0)).met

    assert met()
    assert not met(I={"q_mv": 0.1})
    assert met(I={"q_mv": 0.09})
    assert not met(V6={"q_mv": 0.1})
    assert not met(I={"r_peak_ms": 60.0})
    assert met(I={"r_peak_ms": 61.0})
    assert not met(I={"r_mv": 0.5, "s_mv": 0.5})
    assert not met(V6={"r_mv": 0.3, "s_mv": 0.3})
    assert not met(V1={"r_mv": 0.5})
    assert met(V1={"r_mv": 0.49})
    narrow = make(leads=LEFT | {"V6": {"q_mv": 0.0, "r_mv": 0.3, "s_mv": 0.3}}, qrs_ms=115.0)
    assert decide("incomplete_lbbb", narrow).met is False


def test_strauss_block():
    notched = {"q_mv": 0.1, "r_mv": 0.8, "r2_mv": None, "s_mv": 0.1, "qrs_notes": ("notched",)}
    septal = {"r_mv": 0.1, "r2_mv": None, "s_mv": 0.9, "q_mv": None, "qrs_notes": ()}
    plain = every(("aVL", "V5", "V6"), q_mv=0.1, r_mv=0.8, r2_mv=None, s_mv=0.1, qrs_notes=())
    leads = plain | {"I": notched, "aVL": notched, "V1": septal, "V2": septal}
    assert strauss(make(leads=leads, qrs_ms=140.0, sex="M")) == 0.0
    assert strauss(make(leads=leads, qrs_ms=130.0, sex="F")) == 0.0
    assert strauss(make(leads=leads, qrs_ms=135.0, sex="M")) == -0.5
    assert strauss(make(leads=leads, qrs_ms=145.0, sex=None)) == 0.5
    assert strauss(make(leads=leads, qrs_ms=135.0, sex=None)) == -TINY
    assert strauss(make(leads=leads | {"aVL": plain["aVL"]}, qrs_ms=160.0)) == -FORM
    assert strauss(make(leads=leads | {"V2": septal | {"r_mv": 0.45}}, qrs_ms=160.0)) == -FORM
    assert decide("lbbb", make(leads=leads, qrs_ms=150.0)).met
    assert decide("lbbb", make(leads=leads | {"I": notched | {"s_ms": 50.0}, "V6": {"s_ms": 50.0},
                                              "V1": septal | {"r2_mv": 0.2}}, qrs_ms=150.0)).met is False  # fmt: skip
    assert split(LeadFeatures(r_mv=0.5, s_mv=0.4, r2_mv=0.1))
    assert not split(LeadFeatures(r_mv=0.5, s_mv=0.4))
    assert not split(LeadFeatures(r_mv=0.5, s_mv=0.5, r2_mv=0.1))


def test_minnesota_form_and_what_it_makes_of_a_block():
    def first(**fields):
        return make(leads={"V1": {"q_mv": None, "s_mv": 0.5} | fields}, qrs_ms=100.0)

    assert minnesota_form(first(r_mv=0.05, r2_mv=0.1)) == ("V1",)
    assert minnesota_form(first(r_mv=0.05, r2_mv=0.09)) == ()
    assert minnesota_form(first(r_mv=0.2, r2_mv=0.2)) == ()
    decision = decide("incomplete_rbbb", first(r_mv=0.1, r2_mv=0.3))
    assert (decision.met, decision.certainty, decision.leads) == (True, "possible", ("V1",))
    firm = decide("incomplete_rbbb", make(leads=RIGHT, qrs_ms=114.0))
    assert (firm.met, firm.certainty, firm.leads) == (True, "definite", ("V1",))
    assert decide("ivcd", make(leads=RIGHT, qrs_ms=114.0)).met is False
    assert decide("incomplete_rbbb", replace(first(r_mv=0.1, r2_mv=0.3), qrs_ms=None)).met is None


def test_rsr_prime_alone_and_as_part_of_a_block():
    late = {"r_mv": 0.4, "r2_mv": 0.35, "q_mv": None, "s_mv": 0.5}
    alone = make(leads=RIGHT | {"V1": late}, qrs_ms=100.0)
    assert decide("rsr_prime", alone).met
    assert decide("rsr_prime", make(leads=RIGHT | {"V1": late}, qrs_ms=114.0)).met is None
    assert decide("rsr_prime", make(leads=every(("V1", "V2"), r2_mv=None), qrs_ms=100.0)).met is False
    assert decide("rsr_prime", alone, ("V1",)).met
    assert decide("rsr_prime", make(leads={"V2": {"r2_mv": None, "qrs_form": "rSr'"}}), ("V2",)).met
    assert decide("rsr_prime", make(leads={"V2": {"r2_mv": None, "qrs_form": "rS"}}), ("V2",)).met is False
    assert decide("rsr_prime", make(leads={"V2": {"qrs_form": None}}), ("V2",)).met is None


def test_fascicular_blocks():
    assert q_then_r(LeadFeatures(q_mv=0.1, r_mv=0.5, s_mv=0.2))
    assert not q_then_r(LeadFeatures(q_mv=0.0, r_mv=0.5))
    assert not q_then_r(LeadFeatures(q_mv=0.5, r_mv=0.5))
    assert not q_then_r(LeadFeatures(q_mv=0.1, r_mv=0.5, s_mv=0.5))
    wide = make(leads=RIGHT | LAFB, qrs_ms=140.0, **axis(-60.0))
    assert decide("lafb", wide).met  # right bundle branch block may be wide
    level = LPFB | {"V1": {"r_mv": 0.5, "r2_mv": None, "s_mv": 0.5, "q_mv": None}}
    assert decide("lpfb", make(leads=level, **axis(120.0))).met  # R does not exceed S
    for name, fields in (
        ("III", {"q_mv": None}),
        ("aVF", {"q_mv": None}),
        ("aVL", {"r_mv": 0.0}),
        ("I", {"s_mv": 0.2}),
    ):
        leads = LPFB | {name: LPFB[name] | fields}
        assert decide("lpfb", make(leads=leads, **axis(120.0))).met is False, name


# -- rhythm --------------------------------------------------------------------------------------------------------


def test_own_rr_and_its_change():
    ectopic = make(
        kinds=["normal"] * 3 + ["premature_ventricular"] + ["normal"] * 3, rr=[np.nan, 800, 810, 400, 1200, 790, 800]
    )
    assert own_rr(ectopic).tolist() == [800, 810, 790, 800]
    assert own_rr(make(rr=[np.nan, 800, 800])).tolist() == []
    assert own_rr(make(rr=[np.nan, 800, 800, 800])).tolist() == [800, 800, 800]
    assert rr_change(np.array([900.0, 1100.0, 1000.0])) == pytest.approx(((200**2 + 100**2) / 2) ** 0.5 / 1000)
    assert rr_change(np.zeros(0)) is None


def test_p_share_leaves_out_foreign_beats():
    kinds = ["normal"] * 4 + ["premature_ventricular"] * 4
    features = make(kinds=kinds, pr=[160, 160, np.nan, 160] + [np.nan] * 4)
    assert p_share(features) == 0.75
    few = make(kinds=["normal"] + ["paced"] * 7, pr=[160] + [np.nan] * 7, rhythm=Rhythm(p_per_qrs=0.4))
    assert p_share(few) == 0.4  # too few own beats
    quarter = make(kinds=["normal"] + ["paced"] * 3, pr=[160] + [np.nan] * 3, rhythm=Rhythm(p_per_qrs=0.4))
    assert p_share(quarter) == 1.0
    assert pr_spread(make(pr=[160, np.nan, 190, 150])) == 40
    assert pr_spread(make(pr=[np.nan] * 3)) is None


def test_fibrillation_needs_all_its_signs():
    rr, gone = [np.nan, 600, 900, 650, 1000, 700, 850, 560, 950, 800], [np.nan] * 10
    assert decide("atrial_fibrillation", make(rr=rr, pr=gone)).met
    assert decide("atrial_fibrillation", make(rr=[np.nan] + [800] * 9, pr=gone)).met is False
    assert decide("atrial_fibrillation", make(rr=rr, pr=[160] * 4 + gone[:6])).met is False
    assert decide("atrial_fibrillation", make(rr=rr, pr=[160] * 3 + gone[:7])).margin == pytest.approx(0.5)
    assert decide("atrial_fibrillation", make(rr=rr, pr=gone, notes=FREE)).met is False
    assert decide("atrial_fibrillation", make(rr=rr, pr=gone, notes=("flutter_waves",))).met is False
    assert decide("atrial_fibrillation", make(rr=rr[:3], pr=gone[:3])).met is None


def test_sinus_rhythm_needs_an_upright_p_wave_and_no_other_origin():
    assert decide("sinus_rhythm", make(leads={"I": {"p_form": "inverted"}})).met is False
    assert decide("sinus_rhythm", make(leads={"II": {"p_form": "inverted"}})).met is False
    assert decide("sinus_rhythm", make(leads=every(("I", "II"), p_form=None))).certainty == "probable"
    assert decide("sinus_rhythm", make(heart_rate_bpm=None)).met is None
    assert decide("sinus_rhythm", make(notes=("flutter_waves",))).met is False
    assert decide("sinus_rhythm", make()).margin == FORM
    block = make(rhythm=Rhythm(regular=False, notes=FREE), rr=[np.nan, 800, 1600, 800, 800], pr=[160] * 5,
                 heart_rate_bpm=58.0, rr_ms=800.0)  # fmt: skip
    sinus_rate = decide("sinus_rhythm", block)
    assert (sinus_rate.evidence["sinus_rate_bpm"], sinus_rate.certainty) == (75.0, "probable")
    assert decide("sinus_bradycardia", block).met is False
    assert decide("sinus_arrhythmia", block).met is None
    assert decide("sinus_arrhythmia", make(rr=[np.nan, 700, 900])).met is None
    early = make(kinds=["normal"] * 3 + ["premature_ventricular"] + ["normal"] * 3,
                 rr=[np.nan, 800, 800, 500, 1100, 800, 800])  # fmt: skip
    assert decide("sinus_arrhythmia", early).evidence["rr_spread_ms"] == 0.0  # no RR to or from the early beat
    assert decide("sinus_arrhythmia", early).met is False
    assert decide("normal_pr", block).met is None


def test_growth_of_pr_that_cannot_be_measured_is_none():
    block = make(rhythm=Rhythm(regular=False, notes=FREE), rr=[np.nan, 800, 1500, 800], pr=[np.nan] * 4)
    assert decide("av_block_2_mobitz_1", block).evidence["pr_growth_ms"] == 0.0
    no_rr = make(rhythm=Rhythm(regular=False, notes=FREE), rr=[np.nan] * 3, pr=[160] * 3)
    assert decide("av_block_2_mobitz_1", no_rr).met is None


def test_regularity_needs_four_beats():
    assert decide("regular_rhythm", make(rr=[np.nan, 800, 800, 800])).met
    assert decide("regular_rhythm", make(rr=[np.nan, 800, 800])).met is None


def test_pr_is_decided_with_p_waves_in_sinus_rhythm():
    gone = make(pr=[np.nan] * 10)
    assert (decide("normal_pr", gone).met, decide("av_block_1", gone).margin) == (False, -FORM)
    other = decide("normal_pr", make(leads={"II": {"p_form": "inverted"}}))
    assert (other.met, other.reason) == (None, "PR is decided in sinus rhythm and atrial pacing only")


# -- what suspends what --------------------------------------------------------------------------------------------


def paced(**changes):
    return make(kinds=["paced"] * 10, pr=[160] * 10, **changes)


def test_pacing_suspends_conduction_and_morphology():
    features = paced(st={"II": 0.3, "III": 0.3}, qrs_ms=160.0, **axis(-60.0))
    for code in ("normal_axis", "left_axis_deviation", "lbbb", "rbbb", "ivcd", "lafb", "lvh", "rvh", "pathological_q",
                 "poor_r_progression", "mi_inferior", "pericarditis", "early_repolarization", "pre_excitation",
                 "t_peaked", "av_block_3", "av_block_1", "normal_pr", "av_block_2_1", "p_absent",
                 "rsr_prime", "incomplete_rbbb", "incomplete_lbbb", "lpfb"):  # fmt: skip
        decision = decide(code, features)
        assert decision.met is None, code
        assert decision.reason.endswith("not decided in the presence of paced rhythm"), code
    assert decide("st_elevation", features).certainty == "possible"
    assert decide("wide_qrs", features).met
    assert decide("av_block_3", features).reason.startswith("AV conduction cannot be judged")
    assert decide("paced_rhythm", features).evidence["paced_chamber"] == "ventricle"
    assert decide("paced_rhythm", paced(qrs_ms=120.0)).evidence["paced_chamber"] == "ventricle"
    assert decide("paced_rhythm", paced(qrs_ms=119.0)).evidence["paced_chamber"] == "not determined"


def test_blocks_suspend_hypertrophy():
    left, right = make(leads=LEFT, qrs_ms=150.0), make(leads=RIGHT, qrs_ms=150.0, **axis(120.0))
    assert decide("lvh", left).met is None
    assert decide("lafb", left).met is None
    assert decide("rvh", right).met is None
    assert decide("lvh", right).met is not None  # the terminal forces of the block turn the axis
    for degrees, open_ in ((90.0, False), (91.0, True), (-120.0, True)):
        assert (decide("lvh", make(leads=LEFT, **axis(degrees))).met is None) is open_
    assert decide("t_peaked", right).met is None
    assert decide("long_qtc", make(qrs_ms=120.0, **qtc(520.0))).certainty == "possible"
    assert decide("long_qtc", make(qrs_ms=119.0, **qtc(520.0))).certainty == "definite"


def test_low_voltage_and_fascicles_suspend_r_progression():
    flat = {"V3": {"r_mv": 0.1, "s_mv": 0.5, "r2_mv": None, "q_mv": None}}
    assert decide("poor_r_progression", make(leads=flat)).met
    assert decide("poor_r_progression", make(leads=flat | every(LEADS[:6], qrs_mv=0.3))).met is None
    assert decide("poor_r_progression", make(leads=flat | LAFB, **axis(-60.0))).met is None
    assert decide("poor_r_progression", make(leads={"V3": {"qrs_mv": None}})).met is None


def test_what_leaves_a_finding_open():
    assert decide("p_absent", make(pr=[np.nan] * 10, notes=("flutter_waves",))).met is None
    assert decide("pac", make(notes=("flutter_waves",))).met is None
    assert decide("left_atrial_enlargement", make(p_ms=130.0, notes=("flutter_waves",))).met is None
    upsloping = make()
    for name in ("V4", "V5"):
        upsloping.st_mv[name].update(J=-0.1, J80=0.0)
    assert decide("st_depression", upsloping).met is None
    assert decide("st_depression", upsloping, ("V4",)).reason.endswith("upsloping ST segment")
    assert decide("st_depression", make(st={"II": 0.3, "III": 0.3, "aVL": -0.2})).met is None  # reciprocal
    assert decide("t_inversion", make(leads={"V4": {"t_mv": 0.1, "t_form": "biphasic"}}), ("V4",)).met is None
    assert decide("t_inversion", make(leads={"V4": {"t_mv": -0.3, "t_form": "biphasic"}}), ("V4",)).met
    small = every(("V2", "V3"), t_mv=-0.3, r_mv=0.1, s_mv=1.0, r2_mv=None, q_mv=None)
    assert decide("t_inversion", make(leads=small)).met is None  # inverted, but behind a small R wave
    for depth, met in ((0.1, True), (0.2, None)):
        leads = every(("V2", "V3"), t_mv=-0.3, r_mv=0.2, s_mv=depth, r2_mv=None, q_mv=None)
        assert decide("t_inversion", make(leads=leads)).met is met
    flat = every(("V4", "V5", "V6"), t_mv=0.02, r_mv=1.0) | every(("I", "II", "V3"), t_mv=0.2, r_mv=1.0)
    assert decide("t_flat", make(leads=flat)).leads == ("V4", "V5", "V6")
    assert dict(decide("t_flat", make(leads=flat)).evidence) == {"t_V4_mv": 0.02, "t_V5_mv": 0.02, "t_V6_mv": 0.02}
    assert len(decide("t_flat", make(leads=every(LEADS, t_mv=0.2))).evidence) == 6
    assert (
        decide("pathological_q", make(leads={"aVR": {"q_ms": 50.0, "q_mv": 0.5, "qrs_form": "QS"}}), ("aVR",)).met
        is None
    )
    assert decide("pathological_q", make(leads={"V4": {"q_ms": None, "q_mv": None}}), ("V4",)).margin == -FORM
    gone = {"qrs_form": None, "qrs_mv": None, "q_mv": None}
    assert decide("pathological_q", make(leads={"V4": gone}), ("V4",)).met is None


# -- infarction, urgency and summary -------------------------------------------------------------------------------

INFERIOR = {"II": 0.3, "III": 0.3, "aVF": 0.3}
SCAR = QUIET | every(("II", "aVF"), q_ms=50.0, q_mv=0.3)


def test_infarction():
    scar = decide("mi_inferior", make(leads=SCAR))
    assert (scar.met, scar.certainty, scar.leads, scar.urgent) == (True, "possible", ("II", "aVF"), False)
    acute = decide("mi_inferior", make(leads=QUIET, st=INFERIOR | {"aVL": -0.2}))
    assert (acute.met, acute.certainty, acute.urgent) == (True, "probable", True)
    assert acute.margin == pytest.approx(6.0)
    both = decide("mi_inferior", make(leads=SCAR, st=INFERIOR | {"aVL": -0.2}))
    assert (both.certainty, both.urgent) == ("probable", True)
    old = decide("mi_inferior", make(leads=SCAR, st=INFERIOR))
    assert (old.certainty, old.urgent) == ("probable", False)
    alone = make(leads=QUIET, st=INFERIOR)
    assert (decide("mi_inferior", alone).met, decide("mi_anterior", alone).met) == (None, False)
    assert decide("mi", alone).met is None
    assert decide("mi", make(leads=QUIET)).met is False
    assert decide("mi", make(leads=SCAR)).met
    assert decide("early_repolarization", make(leads=SCAR, st={"V4": 0.2, "V5": 0.2})).met is False


def test_urgency():
    assert urgent(make(leads=QUIET, st=INFERIOR | {"aVL": -0.2})) == ["mi_inferior"]
    assert urgent(make(leads=SCAR)) == []
    assert urgent(make(**qtc(500.0))) == ["long_qtc"]
    assert urgent(make(**qtc(499.0))) == []
    assert urgent(make(qrs_ms=130.0, **qtc(520.0))) == []  # possible only
    unsure = make(qrs_ms=130.0, **qtc(520.0))
    for features, met in ((make(**qtc(500.0)), True), (make(leads=QUIET), False), (unsure, None)):
        assert decide("urgent", features).met is met
        assert decide("not_urgent", features).met is {True: False, False: True, None: None}[met]
    assert decide("urgent", unsure).reason == "no urgent finding, but prolonged QTc is possible"


def test_normal_and_abnormal():
    normal = make(leads=QUIET)
    assert abnormal(normal) == []
    assert (decide("normal_ecg", normal).met, decide("abnormal_ecg", normal).met) == (True, False)
    long = make(leads=QUIET, **qtc(476.0))
    assert (decide("normal_ecg", long).margin, decide("abnormal_ecg", long).margin) == (-2.0, 2.0)
    assert decide("normal_ecg", long).evidence["abnormal"] == ["long_qtc"]
    uneven = make(leads=QUIET, rr=[np.nan, 700, 800, 900, 760, 800])
    assert abnormal(uneven) == ["sinus_arrhythmia"]
    assert decide("normal_ecg", uneven).met  # a benign variant
    ectopic = make(leads=QUIET | {"II": {"p_form": "inverted"}})
    assert decide("normal_ecg", ectopic).evidence["abnormal"] == ["ectopic_atrial_rhythm"]
    other = make(leads=QUIET | {"I": {"p_form": "inverted"}})
    assert decide("normal_ecg", other).met is None
    assert decide("abnormal_ecg", other).reason == "no abnormal finding, but the rhythm is not decided"
