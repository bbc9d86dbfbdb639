"""Every limit of every criterion: met on one side, missed on the other, with the margin in measurement errors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gem_lightning.ecg import LEADS
from gem_lightning.features.criteria import decide
from gem_lightning.features.criteria.base import (
    FORM,
    TINY,
    above,
    all_of,
    any_of,
    at_least,
    at_most,
    below,
    count_of,
    decided,
    negated,
    without,
)  # fmt: skip
from gem_lightning.features.criteria.chambers import romhilt_estes
from gem_lightning.features.criteria.ischaemia import contiguous, st_limits
from gem_lightning.features.schema import Rhythm
from helpers_features import FREE, LAFB, LEFT, LPFB, QUIET, RIGHT, SMALL, axis, every, make, qtc, sinus

# code, measurements that meet it, margin, measurements that miss it, margin
SLURRED = every(("V1", "V2"), qrs_notes=("delta",))
ONE_SLURRED = every(LEADS, qrs_notes=()) | every(("V1",), qrs_notes=("delta",))
UNEVEN = Rhythm(regular=False, notes=FREE)
LATE_R = LAFB["aVL"] | {"r_peak_ms": 45.0}
EARLY_R = LAFB["aVL"] | {"r_peak_ms": 35.0}
LIMITS = [
    ("long_qtc", qtc(463.0), 1.0, qtc(437.0), -1.0),
    ("long_qtc", qtc(450.0), 0.0, qtc(449.9), None),
    ("long_qtc", qtc(460.0) | {"sex": "F"}, 0.0, qtc(459.9) | {"sex": "F"}, None),
    ("normal_qtc", qtc(437.0), 1.0, qtc(450.0), None),
    ("normal_qtc", qtc(373.0), 1.0, qtc(360.0), None),
    ("short_qtc", qtc(360.0), 0.0, qtc(373.0), -1.0),
    ("wide_qrs", {"qrs_ms": 120.0}, 0.0, {"qrs_ms": 110.0}, -1.0),
    ("narrow_qrs", {"qrs_ms": 110.0}, 0.0, {"qrs_ms": 120.0}, -1.0),
    ("av_block_1", {"pr_ms": 210.0}, 1.0, {"pr_ms": 200.0}, -TINY),
    ("prolonged_pr", {"pr_ms": 220.0}, 2.0, {"pr_ms": 190.0}, -1.0),
    ("normal_pr", {"pr_ms": 200.0}, 0.0, {"pr_ms": 210.0}, -1.0),
    ("normal_pr", {"pr_ms": 120.0}, 0.0, {"pr_ms": 110.0}, -1.0),
    ("normal_axis", axis(90.0), 0.0, axis(95.0), -1.0),
    ("normal_axis", axis(-30.0), 0.0, axis(-35.0), -1.0),
    ("left_axis_deviation", axis(-35.0), 1.0, axis(-30.0), -TINY),
    ("left_axis_deviation", axis(-90.0), 0.0, axis(-95.0), -1.0),
    ("right_axis_deviation", axis(95.0), 1.0, axis(90.0), -TINY),
    ("right_axis_deviation", axis(180.0), 0.0, axis(-175.0), -1.0),
    ("extreme_axis_deviation", axis(-95.0), 1.0, axis(-90.0), -TINY),
    ("extreme_axis_deviation", axis(-175.0), 1.0, axis(180.0), -TINY),
    ("sinus_bradycardia", {"heart_rate_bpm": 57.0}, 1.0, {"heart_rate_bpm": 60.0}, -TINY),
    ("sinus_tachycardia", {"heart_rate_bpm": 101.5}, 1.0, {"heart_rate_bpm": 100.0}, -TINY),
    ("pre_excitation",
     {"pr_ms": 110.0, "qrs_ms": 120.0, "leads": SLURRED}, 1.0,
     {"pr_ms": 120.0, "qrs_ms": 120.0, "leads": SLURRED}, -TINY),
    ("pre_excitation",
     {"pr_ms": 115.0, "qrs_ms": 130.0, "leads": SLURRED}, 0.5,
     {"pr_ms": 100.0, "qrs_ms": 110.0, "leads": SLURRED}, -TINY),
    ("pre_excitation",
     {"pr_ms": 115.0, "qrs_ms": 130.0, "leads": SLURRED}, 0.5,
     {"pr_ms": 100.0, "qrs_ms": 130.0, "leads": ONE_SLURRED}, -FORM),
    ("rbbb", {"qrs_ms": 120.0, "leads": RIGHT}, 0.0, {"qrs_ms": 115.0, "leads": RIGHT}, -0.5),
    ("rbbb", {"qrs_ms": 150.0, "leads": RIGHT}, FORM, {"qrs_ms": 150.0}, -FORM),
    ("incomplete_rbbb", {"qrs_ms": 110.0, "leads": RIGHT}, None, {"qrs_ms": 105.0}, -FORM),
    ("lbbb", {"qrs_ms": 120.0, "leads": LEFT}, 0.0, {"qrs_ms": 115.0, "leads": LEFT}, -0.5),
    ("incomplete_lbbb", {"qrs_ms": 110.0, "leads": LEFT}, 0.0, {"qrs_ms": 105.0, "leads": LEFT}, -0.5),
    ("incomplete_lbbb", {"qrs_ms": 115.0, "leads": LEFT}, 0.5, {"qrs_ms": 120.0, "leads": LEFT}, None),
    ("ivcd", {"qrs_ms": 120.0}, 0.0, {"qrs_ms": 110.0}, -1.0),
    ("lafb", {"leads": LAFB} | axis(-45.0), 0.0, {"leads": LAFB} | axis(-40.0), -1.0),
    ("lafb", {"leads": LAFB} | axis(-90.0), 0.0, {"leads": LAFB} | axis(-95.0), -1.0),
    ("lafb", {"leads": {"aVL": LATE_R}} | axis(-60.0), 0.0,
     {"leads": {"aVL": EARLY_R}} | axis(-60.0), -1.0),
    ("lafb", {"leads": LAFB, "qrs_ms": 110.0} | axis(-60.0), 1.0,
     {"leads": LAFB, "qrs_ms": 120.0} | axis(-60.0), -TINY),
    ("lpfb", {"leads": LPFB} | axis(95.0), 1.0, {"leads": LPFB} | axis(90.0), -TINY),
    ("lpfb", {"leads": LPFB} | axis(180.0), 0.0, {"leads": LPFB | {"I": {"r_mv": 0.5, "s_mv": 0.2}}} | axis(120.0), -1),
    ("lpfb", {"leads": LPFB} | axis(120.0), 1.0,
     {"leads": LPFB | {"V1": {"r_mv": 0.9, "r2_mv": None, "s_mv": 0.2}}} | axis(120.0), -FORM),
    ("left_atrial_enlargement", {"p_ms": 120.0}, 0.0, {"p_ms": 110.0}, -1.0),
    ("right_atrial_enlargement", {"leads": SMALL | every(("II", "aVF"), p_mv=0.275)}, 1.0,
     {"leads": SMALL | every(("II", "aVF"), p_mv=0.25)}, -TINY),
    ("right_atrial_enlargement", {"leads": SMALL | {"II": {"p_mv": 0.1}, "aVF": {"p_mv": 0.1}, "V2": {"p_mv": 0.2}}}, 2,
     {"leads": SMALL | {"II": {"p_mv": 0.1}, "aVF": {"p_mv": 0.1}, "V2": {"p_mv": 0.15}}}, -TINY),
    ("rvh", {"leads": {"V1": {"r_mv": 0.7, "s_mv": 0.1, "r2_mv": None, "q_mv": None}}} | axis(120.0), 0.0,
     {"leads": {"V1": {"r_mv": 0.675, "s_mv": 0.1, "r2_mv": None, "q_mv": None}}} | axis(120.0), -1.0),
    ("rvh", {"voltages_mv": sinus().voltages_mv | {"rvh": 1.10}} | axis(120.0), 1.0,
     {"voltages_mv": sinus().voltages_mv | {"rvh": 1.05}} | axis(120.0), -TINY),
    ("rvh", {"voltages_mv": sinus().voltages_mv | {"rvh": 2.0}} | axis(95.0), 1.0,
     {"voltages_mv": sinus().voltages_mv | {"rvh": 2.0}} | axis(90.0), -TINY),
    ("low_voltage", {"leads": every(LEADS[:6], qrs_mv=0.475)}, 1.0, {"leads": every(LEADS[:6], qrs_mv=0.5)}, -TINY),
    ("low_voltage", {"leads": every(LEADS[6:], qrs_mv=0.95)}, 2.0, {"leads": every(LEADS[6:], qrs_mv=1.0)}, -TINY),
    ("poor_r_progression", {"leads": {"V3": {"r_mv": 0.3, "s_mv": 1.0, "r2_mv": None, "q_mv": None}}}, 0.0,
     {"leads": {"V3": {"r_mv": 0.325, "s_mv": 1.0, "r2_mv": None, "q_mv": None}}}, -1.0),
    ("poor_r_progression", {"leads": {"V3": {"r_mv": 0.2, "s_mv": 0.25, "r2_mv": None, "q_mv": None}}}, 2.0,
     {"leads": {"V3": {"r_mv": 0.2, "s_mv": 0.2, "r2_mv": None, "q_mv": None}}}, -TINY),
    ("st_elevation", {"st": {"II": 0.1, "III": 0.1}}, 0.0, {"st": {"II": 0.1, "III": 0.075}}, -1.0),
    ("st_elevation", {"st": {"V2": 0.225, "V3": 0.3}}, 1.0, {"st": {"V2": 0.175, "V3": 0.3}}, -1.0),
    ("st_elevation", {"st": {"V4": 0.15, "V5": 0.15}}, 2.0, {"st": {"aVR": 0.3, "V6": 0.3}}, None),
    ("st_depression", {"st": {"V4": -0.05, "V5": -0.1}}, 0.0, {"st": {"V4": -0.025, "V5": -0.1}}, -1.0),
    ("reciprocal_change", {"st": {"II": 0.2, "III": 0.2, "aVF": 0.2, "I": -0.1}}, 2.0,
     {"st": {"II": 0.2, "III": 0.2, "aVF": 0.2}}, -2.0),
    ("t_inversion", {"leads": every(("V4", "V5"), t_mv=-0.15, r_mv=1.0)}, 1.0,
     {"leads": every(("V4", "V5"), t_mv=-0.1, r_mv=1.0)}, -TINY),
    ("t_inversion", {"leads": QUIET | every(("III", "aVF"), t_mv=-0.3, r_mv=0.3, s_mv=2.0, r2_mv=None)}, 0.0,
     {"leads": every(("V1", "aVR"), t_mv=-0.3, r_mv=1.0)}, None),
    ("t_flat", {"leads": every(("V4", "V5", "V6"), t_mv=0.025, r_mv=1.0)}, 1.0,
     {"leads": every(("V4", "V5", "V6"), t_mv=0.05, r_mv=1.0)}, -TINY),
    ("t_flat", {"leads": every(("V4", "V5", "V6"), t_mv=-0.0, r_mv=0.5, r2_mv=None)}, 0.0,
     {"leads": every(("V4", "V5", "V6"), t_mv=-0.0, r_mv=0.475, r2_mv=None)}, -1.0),
    ("t_peaked", {"leads": every(("V4", "V5"), t_mv=1.25)}, 1.0, {"leads": every(("V4", "V5"), t_mv=1.2)}, -TINY),
    ("t_peaked", {"leads": every(("I", "II"), t_mv=0.65)}, 1.0, {"leads": every(("I",), t_mv=0.9)}, None),
    ("pathological_q", {"leads": QUIET | every(("II", "aVF"), q_ms=30.0, q_mv=0.2)}, 0.0,
     {"leads": QUIET | every(("II", "aVF"), q_ms=20.0, q_mv=0.2)}, -1.0),
    ("pathological_q", {"leads": QUIET | every(("II", "aVF"), q_ms=50.0, q_mv=0.1)}, 0.0,
     {"leads": QUIET | every(("II", "aVF"), q_ms=50.0, q_mv=0.075)}, -1.0),
    ("pathological_q", {"leads": QUIET | every(("V2", "V3"), q_ms=20.0, q_mv=0.02)}, 0.0,
     {"leads": QUIET | every(("V2", "V3"), q_ms=10.0, q_mv=0.02)}, -1.0),
    ("pathological_q", {"leads": QUIET | every(("V1", "V2"), qrs_form="QS")}, FORM,
     {"leads": QUIET | {"V1": {"q_ms": 25.0, "q_mv": 0.5}, "V2": {"qrs_form": "QS"}}}, -0.5),
    ("pathological_q", {"leads": QUIET | {"V1": {"q_ms": 35.0, "q_mv": 0.5}, "V2": {"qrs_form": "QS"}}}, 0.5,
     {"leads": QUIET | {"V1": {"q_ms": 35.0, "q_mv": 0.05}, "V2": {"qrs_form": "QS"}}}, -FORM),
    ("early_repolarization",
     {"st": {"V4": 0.1, "V5": 0.15}, "leads": every(("V4", "V5"), s_mv=None, st_form="concave")}, 0.0,
     {"st": {"V4": 0.075, "V5": 0.15}, "leads": every(("V4", "V5"), s_mv=None, st_form="concave")}, -1.0),
    ("early_repolarization",
     {"qrs_ms": 110.0, "st": {"V4": 0.2, "V5": 0.2}, "leads": every(("V4", "V5"), s_mv=None, st_form="upsloping")}, 1.0,
     {"st": {"V4": 0.2, "V5": 0.2}, "leads": every(("V4", "V5"), s_mv=None, st_form="convex")}, -FORM),
    ("early_repolarization",
     {"st": {"V4": 0.2, "V5": 0.2}, "leads": every(("V4", "V5"), s_mv=0.0, st_form="concave")}, 1.0,
     {"st": {"V4": 0.2, "V5": 0.2}, "leads": every(("V4", "V5"), s_mv=0.3, st_form="concave")}, -FORM),
    ("pericarditis", {"st": dict.fromkeys(("II", "aVF", "V4", "V5", "V6"), 0.1)}, 0.0,
     {"st": dict.fromkeys(("II", "aVF", "V4", "V5", "V6"), 0.09)}, -FORM),
    ("pericarditis", {"st": dict.fromkeys(("II", "III", "aVF", "I", "V4", "V5"), 0.13)}, FORM,
     {"st": dict.fromkeys(("II", "III", "aVF", "I", "V5"), 0.13)}, -FORM),
    ("pericarditis", {"st": dict.fromkeys(("II", "aVF", "I", "V4", "V5"), 0.13)}, FORM,
     {"st": dict.fromkeys(("II", "aVF", "I", "V4", "V5"), 0.13) | {"V2": -0.2}}, None),
    ("p_absent", {"pr": [np.nan] * 9 + [160]}, 1.0, {"pr": [np.nan] * 8 + [160] * 2}, -TINY),
    ("p_absent", {"pr": [np.nan] * 10}, FORM, {"pr": [np.nan] * 10, "notes": FREE}, -FORM),
    ("sinus_rhythm", {"pr": [np.nan] * 3 + [160] * 7}, 0.0, {"pr": [np.nan] * 4 + [160] * 6}, -1.0),
    ("sinus_arrhythmia", {"rr": [np.nan, 700, 800, 870, 760, 800]}, 1.0,
     {"rr": [np.nan, 700, 800, 860, 760, 800]}, -TINY),
    ("regular_rhythm", {"rhythm": Rhythm(rr_cv=0.04)}, 1.0, {"rhythm": Rhythm(rr_cv=0.06)}, -TINY),
    ("irregular_rhythm", {"rhythm": Rhythm(rr_cv=0.12)}, 1.0, {"rhythm": Rhythm(rr_cv=0.10)}, -TINY),
    ("paced_rhythm", {"kinds": ["paced"] * 2 + ["normal"] * 8}, 0.0, {"kinds": ["paced"] + ["normal"] * 9}, -1.0),
    ("pvc", {"kinds": ["normal"] * 5 + ["premature_ventricular"]}, FORM, {"kinds": ["normal"] * 5}, -FORM),
    ("pac", {"kinds": ["normal"] * 5 + ["premature_supraventricular"]}, FORM, {"kinds": ["normal"] * 5}, -FORM),
    ("bigeminy", {"rhythm": Rhythm(pattern="bigeminy")}, FORM, {"rhythm": Rhythm(pattern="trigeminy")}, -FORM),
    ("atrial_flutter", {"notes": ("flutter_waves",)}, FORM, {"notes": ()}, -FORM),
    ("av_block_3", {"rhythm": Rhythm(regular=True, notes=FREE), "pr": [160, 195, 180, 170]}, 1.0,
     {"rhythm": Rhythm(regular=True, notes=FREE), "pr": [160, 185, 180, 170]}, -TINY),
    ("av_block_3", {"rhythm": Rhythm(regular=True, notes=FREE), "pr": [np.nan] * 4}, FORM,
     {"rhythm": Rhythm(regular=False, notes=FREE), "pr": [160, 260, 180, 170]}, -FORM),
    ("av_block_2_mobitz_1",
     {"rhythm": UNEVEN, "rr": [np.nan, 800, 1200, 800, 800], "pr": [160, 190, 160, 180, 200]},
     1.0,
     {"rhythm": UNEVEN, "rr": [np.nan, 800, 1200, 800, 800], "pr": [160, 180, 160, 180, 200]},
     -TINY),
    ("av_block_2_mobitz_1",
     {"rhythm": UNEVEN, "rr": [np.nan, 800, 1500, 800, 800], "pr": [np.nan] * 5}, FORM,
     {"rhythm": UNEVEN, "rr": [np.nan, 800, 1520, 800, 800], "pr": [np.nan] * 5}, -FORM),
    ("av_block_2_mobitz_2",
     {"rhythm": UNEVEN, "rr": [np.nan, 800, 1600, 800, 800], "pr": [160, 160, 160, 160, 160]},
     FORM,
     {"rhythm": Rhythm(regular=False, notes=()), "rr": [np.nan, 800, 1600, 800, 800], "pr": [160, 160, 160, 160, 160]},
     -FORM),
]  # fmt: skip


@pytest.mark.parametrize(("code", "meets", "near", "misses", "far"), LIMITS)
def test_limit(code, meets, near, misses, far):
    yes, no = decide(code, make(**meets)), decide(code, make(**misses))
    assert yes.met is True, yes
    assert no.met is False, no
    for decision, margin in ((yes, near), (no, far)):
        if margin is not None:
            assert decision.margin == pytest.approx(margin, abs=1e-12 if abs(margin) == TINY else 1e-6), decision


# -- margins and their logic ---------------------------------------------------------------------------------------


def test_margins_of_one_value():
    assert (at_least(12.0, 10.0, 4.0), at_least(8.0, 10.0, 4.0), at_least(10.0, 10.0, 4.0)) == (0.5, -0.5, 0.0)
    assert (above(12.0, 10.0, 4.0), above(10.0, 10.0, 4.0)) == (0.5, -TINY)
    assert (at_most(8.0, 10.0, 4.0), at_most(10.0, 10.0, 4.0), at_most(12.0, 10.0, 4.0)) == (0.5, 0.0, -0.5)
    assert (below(8.0, 10.0, 4.0), below(10.0, 10.0, 4.0)) == (0.5, -TINY)
    assert [f(None, 1.0, 1.0) for f in (at_least, above, at_most, below)] == [None] * 4
    assert at_least(float("nan"), 1.0, 1.0) is None


def test_a_limit_that_depends_on_an_unknown_patient():
    limits = (10.0, 20.0)
    assert at_least(24.0, 15.0, 4.0, limits) == 1.0  # beyond every limit
    assert at_least(16.0, 15.0, 4.0, limits) == 0.0  # another limit would miss it
    assert at_least(14.0, 15.0, 4.0, limits) == -TINY
    assert at_least(15.0, 15.0, 4.0, limits) == 0.0
    assert at_least(6.0, 15.0, 4.0, limits) == -1.0


def test_logic_of_margins():
    assert (all_of(1.0, 2.0), all_of(1.0, -2.0), all_of(1.0, None), all_of(-1.0, None)) == (1.0, -2.0, None, -1.0)
    assert (any_of(1.0, 2.0), any_of(-1.0, -2.0), any_of(1.0, None), any_of(-1.0, None)) == (2.0, -1.0, 1.0, None)
    assert (all_of(0.0, None), any_of(0.0, None)) == (None, 0.0)
    assert (negated(2.0), negated(0.0), negated(None)) == (-2.0, -TINY, None)
    assert count_of([3.0, 2.0, -1.0], 2) == 2.0
    assert count_of([3.0, -1.0, -2.0], 2) == -1.0
    assert count_of([3.0, 0.0, None], 2) == 0.0
    assert count_of([3.0, -1.0, None], 2) is None  # the open one may be the second
    assert count_of([-1.0, -2.0, None], 2) == -1.0
    assert count_of([None, None, -1.0], 2) is None
    assert count_of([3.0], 2) == -FORM
    assert count_of([], 1) == -FORM


def test_decisions_follow_margins():
    assert decided(0.0, {}, "possible").met is True
    assert decided(-0.5, {}, "possible").certainty == "definite"
    assert decided(None, {}).met is None
    assert decided(1.0, {}).clear
    assert decided(-1.0, {}).clear
    assert not decided(0.99, {}).clear
    assert not decided(5.0, {}, "possible").clear
    assert decided(5.0, {}, "probable").clear
    assert without(make(**qtc(476.0)), "long_qtc", "short_qtc") == -2.0
    assert without(make(**qtc(424.0)), "long_qtc") == 2.0
    assert without(make(**qtc(None)), "long_qtc") == FORM


def test_leads_that_cannot_be_trusted_are_open():
    features = make(leads={"V4": {"trust": 0.0}}, st={"V3": 0.5, "V4": 0.5})
    assert decide("st_elevation", features).met is None  # V4 may be the second lead
    assert decide("st_elevation", features, ("V4",)).met is None
    assert decide("st_elevation", features, ("V3", "V4")).met is None
    assert decide("st_elevation", features, ("V3", "V4")).reason == "lead V4 cannot be measured for this finding"
    assert decide("st_elevation", features, ("V6", "V4")).met is False
    assert decide("poor_r_progression", make(leads={"V3": {"trust": 0.0}})).met is None
    assert decide("st_elevation", make(leads={"V4": {"trust": 0.01}}, st={"V3": 0.5, "V4": 0.5})).met


def test_voltages_out_of_scale_are_possible():
    for scale, certainty in ((0.05, "definite"), (0.06, "possible")):
        decision = decide("st_elevation", make(st={"II": 0.3, "III": 0.3}, scale_error=scale))
        assert decision.certainty == certainty
        assert ("limb_leads_scale_error" in decision.parts[0].evidence) == (certainty == "possible")


def test_contiguous_leads():
    def found(*names, count=2):
        return contiguous(lambda name: 1.0 if name in names else -1.0, count)

    assert found("II", "aVF") == (1.0, {"inferior": ("II", "aVF")})
    assert found("V2", "V3") == (1.0, {"anterior": ("V2", "V3")})
    assert found("V4", "V5") == (1.0, {"anterior": ("V4", "V5")})
    # a chest lead next to a territory that shows the same is named with it
    assert found("V1", "V2", "V3") == (1.0, {"septal": ("V1", "V2", "V3")})
    assert found("V3", "V4", "V5") == (1.0, {"anterior": ("V3", "V4", "V5")})
    assert found("V2", "V3", "V4", "V5", "V6")[1] == {"anterior": ("V2", "V3", "V4"), "lateral": ("V5", "V6")}
    assert found("V1", "V2", "V4")[1] == {"septal": ("V1", "V2")}
    assert found("I", "aVL", "V4", "II", "III")[1] == {"inferior": ("II", "III"), "lateral": ("I", "aVL")}
    assert found("I", "aVL", "V5", "V4", "V3")[1]["lateral"] == ("I", "aVL", "V5")
    assert found("I", "V2", "II") == (-1.0, {})
    assert found("II", "III", "aVF", count=3)[1] == {"inferior": ("II", "III", "aVF")}
    assert found("II", "III", count=3)[0] == -1.0


# -- age and sex ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("age", "sex", "limit", "possible"),
    [
        (39, "M", 0.25, None), (40, "M", 0.20, None), (39, "F", 0.15, None), (70, "F", 0.15, None),
        (None, "M", 0.20, (0.20, 0.25)), (50, None, 0.20, (0.15, 0.20)), (30, None, 0.25, (0.15, 0.25)),
        (None, None, 0.20, (0.15, 0.25)),
    ],
)  # fmt: skip
def test_st_limits_of_v2_and_v3(age, sex, limit, possible):
    features = replace(sinus(), age=age, sex=sex)
    for name in ("V2", "V3"):
        assert st_limits(features, name) == (limit, possible)
    assert st_limits(features, "V4") == (0.10, None)


@pytest.mark.parametrize(
    ("sums", "sex", "met"),
    [
        ({"sokolow_lyon": 3.5}, "M", 0.0), ({"sokolow_lyon": 3.45}, "M", -1.0), ({"sokolow_lyon_avl": 1.125}, "M", 1.0),
        ({"sokolow_lyon_avl": 1.1}, "M", -TINY), ({"cornell": 2.85}, "M", 1.0), ({"cornell": 2.05}, "F", 1.0),
        ({"peguero": 2.8}, "M", 0.0), ({"peguero": 2.75}, "M", -1.0), ({"peguero": 2.3}, "F", 0.0),
        ({"peguero": 2.25}, "F", -1.0), ({"peguero": 2.5}, None, -TINY),
    ],
)  # fmt: skip
def test_hypertrophy_by_voltage(sums, sex, met):
    low = dict.fromkeys(("sokolow_lyon", "sokolow_lyon_avl", "cornell", "peguero"), 0.0)
    features = make(voltages_mv=low | sums, sex=sex, qrs_ms=80.0)
    assert decide("lvh", features).margin == pytest.approx(met, abs=1e-6 if abs(met) != TINY else 1e-12)


def test_hypertrophy_by_product_lewis_and_age():
    low = dict.fromkeys(("sokolow_lyon", "sokolow_lyon_avl", "peguero"), 0.0)
    # scale: 0.05 mV x 100 ms + 1.9 or 2.5 mV x 10 ms
    met = decide("lvh", make(voltages_mv=low | {"cornell": 2.5}, qrs_ms=100.0, sex="M"))
    assert (met.margin, dict(met.evidence)) == (pytest.approx(6.0 / 30.0), {"cornell_product_mv_ms": 250.0})
    woman = decide("lvh", make(voltages_mv=low | {"cornell": 1.9}, qrs_ms=100.0, sex="F"))
    assert woman.margin == pytest.approx(6.0 / 24.0)
    assert decide("lvh", make(voltages_mv=low | {"cornell": 1.8}, qrs_ms=100.0, sex="F")).met is False
    unknown = decide("lvh", make(voltages_mv=low | {"cornell": 1.9}, qrs_ms=100.0, sex=None))
    assert (unknown.met, unknown.margin) == (False, -TINY)
    assert decide("lvh", make(voltages_mv=low | {"cornell": 2.5}, qrs_ms=100.0, age=17)).met is None
    young = decide("lvh", make(voltages_mv=low | {"cornell": 2.5}, qrs_ms=100.0, age=34))
    assert (young.met, dict(young.evidence)) == (None, {"cornell_product_mv_ms": 250.0})  # voltage alone
    assert decide("lvh", make(voltages_mv=low | {"cornell": 0.0}, qrs_ms=100.0, age=34)).met is False
    assert decide("lvh", make(voltages_mv=low | {"cornell": 2.5}, qrs_ms=100.0, age=35)).met is True
    lewis = {"I": {"r_mv": 1.2, "r2_mv": None, "s_mv": 0.1, "qrs_form": "RS"},
             "III": {"r_mv": 0.2, "r2_mv": None, "s_mv": 0.8, "qrs_form": "rS"}}  # fmt: skip
    features = make(leads=lewis, voltages_mv=low | {"cornell": 0.0}, qrs_ms=80.0)
    assert decide("lvh", features).margin == pytest.approx(0.0, abs=1e-9)
    assert decide("lvh", features).evidence["lewis_mv"] == pytest.approx(1.7)
    two = decide("lvh", make(voltages_mv=low | {"cornell": 2.85, "sokolow_lyon": 3.6}, qrs_ms=60.0))
    assert (two.certainty, len(two.evidence)) == ("possible", 2)  # voltage only
    tall = {"voltages_mv": low | {"cornell": 0.0, "sokolow_lyon": 3.6}, "qrs_ms": 60.0}
    assert decide("lvh", make(age=35, **tall)).met
    assert not decide("lvh", make(age=34, **tall)).met


def test_what_voltages_leave_open_and_show():
    low = dict.fromkeys(("sokolow_lyon", "sokolow_lyon_avl", "cornell", "peguero"), 0.0)
    missed = make(leads={"I": {"r_mv": 0.8, "r2_mv": None, "s_mv": 0.0, "qrs_form": "R"},
                         "III": {"r_mv": 0.0, "r2_mv": None, "s_mv": 0.8, "qrs_form": "S"}},
                  voltages_mv=low, qrs_ms=80.0)  # fmt: skip
    assert decide("lvh", missed).margin == pytest.approx(-1.0)  # Lewis: 1.6 of 1.7 mV, four readings
    assert dict(decide("lvh", missed).evidence) == {"sokolow_lyon_mv": 0.0, "cornell_mv": 0.0}
    for name in ("I", "III"):  # Lewis' index needs both leads
        assert decide("lvh", make(leads={name: {"qrs_mv": None}}, voltages_mv=low, qrs_ms=80.0)).met is None
    at_limit = make(voltages_mv=low | {"cornell": 2.0}, qrs_ms=122.0, sex="M")
    assert decide("lvh", at_limit).margin == -TINY
    assert decide("rvh", make(leads={"V1": {"qrs_mv": None}}, **axis(120.0))).met is None
    for shape, certainty in (("biphasic", "probable"), ("inverted", "probable"), ("upright", "possible")):
        decision = decide("left_atrial_enlargement", make(p_ms=125.0, leads={"V1": {"p_form": shape}}))
        assert decision.certainty == certainty


def test_the_tallest_p_wave_is_the_evidence_of_a_missed_enlargement():
    low = make(leads=every(("II", "III", "aVF", "V1", "V2"), p_mv=0.05) | {"aVF": {"p_mv": 0.12}})
    assert dict(decide("right_atrial_enlargement", low).evidence) == {"p_aVF_mv": 0.12}


def test_a_record_without_beats_gives_its_reason():
    empty = make(kinds=[], reason="noise")
    assert (decide("lvh", empty).met, decide("lvh", empty).reason) == (None, "noise")
    assert decide("lvh", make(kinds=[])).reason == "no beats were found in this record"


def test_romhilt_estes_points():
    small = every(LEADS, r_mv=0.5, s_mv=0.2, q_mv=None, r2_mv=None, t_mv=0.2, qrs_form="Rs")
    plain = {"leads": small, "qrs_ms": 80.0, "p_ms": 100.0} | axis(30.0)

    def points(**changes):
        leads = small | changes.pop("leads", {})
        return romhilt_estes(make(**plain | {"leads": leads} | changes))[0]

    tall = small["I"] | {"r_mv": 2.0}
    assert points() == 0
    assert points(leads={"I": tall}) == 3
    assert points(leads={"I": tall | {"r_mv": 1.99}}) == 0
    assert points(leads={"V1": small["I"] | {"s_mv": 3.0}}) == 3
    assert points(leads={"V5": small["I"] | {"r_mv": 3.0}, "V2": small["I"] | {"s_mv": 2.9}}) == 3
    assert points(leads={"V6": small["I"] | {"r_mv": 2.99}}) == 0
    assert points(leads={"V6": small["I"] | {"t_mv": -0.11}}) == 3
    assert points(leads={"V6": small["I"] | {"t_mv": -0.1}}) == 0
    assert points(leads={"V6": small["I"] | {"t_mv": -0.3, "r_mv": 0.49}}) == 0
    assert points(qrs_ms=90.0) == 1
    assert points(qrs_ms=89.9) == 0
    assert points(**axis(-30.0)) == 2
    assert points(**axis(-29.0)) == 0
    assert points(p_ms=120.0) == 0  # the points are for the terminal force
    force = {"V1": small["I"] | {"p_form": "inverted", "p_mv": -0.05, "p_ms": 80.0}}
    assert points(leads=force) == 3
    assert points(leads={"V1": force["V1"] | {"p_ms": 79.0}}) == 0
    assert points(leads=force, qrs_ms=95.0) == 4
    none = dict.fromkeys(("sokolow_lyon", "sokolow_lyon_avl", "cornell", "peguero"), 0.0)
    lvh = decide("lvh", make(**plain | {"leads": small | force, "qrs_ms": 95.0, "voltages_mv": none}))
    assert (lvh.met, lvh.margin, lvh.evidence["romhilt_estes_points"]) == (True, 0.0, 4.0)
