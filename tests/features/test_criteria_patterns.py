"""Acute patterns, lost R waves, grouped beats, forms of P waves, dextrocardia, and what leaves urgency open."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gem_lightning.ecg import LEADS
from gem_lightning.features.criteria import by_lead, codes, criteria, decide
from gem_lightning.features.criteria.acute import _shown
from gem_lightning.features.criteria.arrhythmia import p_forms
from gem_lightning.features.criteria.base import FORM, TINY
from gem_lightning.features.criteria.rhythm import grouped, irregularly_irregular
from gem_lightning.features.criteria.summary import BENIGN, doubt
from gem_lightning.features.schema import BeatTable, Rhythm
from helpers_features import (
    BIG_T,
    DEEP,
    DOWN,
    FLAT,
    GONE,
    IRREGULAR,
    LAFB,
    LEFT,
    LPFB,
    QUIET,
    RIGHT,
    S1Q3T3,
    TALL_T,
    axis,
    every,
    make,
    qtc,
    sinus,
)

# -- evidence and leads --------------------------------------------------------------------------------------------


def test_leads_of_acute_patterns():
    features = make(leads=QUIET, st=FLAT | DOWN | {"aVR": 0.1, "V1": -0.1})
    decision = decide("ischaemia", features)
    assert decision.leads == ("aVR", *(n for n in LEADS if n in DOWN))
    assert decision.evidence["st_j_aVR_mv"] == 0.1
    assert dict(decide("ischaemia", make(leads=QUIET | every(("V4",), t_mv=0.3), st=FLAT)).evidence) == {
        "st_j_aVR_mv": 0.0
    }
    assert _shown({"I": 0.0, "II": -TINY, "III": None, "V1": 2.0}) == ("I", "V1")
    assert decide("mi_posterior", make(leads=QUIET, st=FLAT)).evidence["st_j_V3_mv"] == 0.0
    assert decide("hyperacute_t", make(leads=BIG_T)).leads == ("V3", "V4")
    assert decide("rv_strain", make(leads=DEEP | S1Q3T3)).urgent
    thick = DEEP | {"V1": {"t_mv": -0.2, "r_mv": 0.9, "s_mv": 0.1, "r2_mv": None, "q_mv": None}}
    assert not decide("rv_strain", make(leads=thick, **axis(120.0))).urgent


def test_an_upsloping_depression_is_no_ischaemia_but_may_be_de_winter():
    features = make(leads=QUIET | TALL_T, heart_rate_bpm=70.0)
    for name, late in (("V3", 0.0), ("V4", 0.0)):
        features.st_mv[name].update(J=-0.1, J80=late)
    assert decide("de_winter", features).leads == ("V3", "V4")
    assert decide("urgent", features).evidence["urgent"] == ["de_winter"]
    features.st_mv["V4"].update(J=-0.09)
    assert decide("de_winter", features).met is False
    features.st_mv["V4"].update(J=-0.1, J80=-0.1)  # horizontal
    assert decide("de_winter", features).margin == -TINY


# -- Q waves and inverted T waves ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "met"),
    [
        ({"q_ms": 20.0, "q_mv": 0.2, "r_mv": 0.8, "t_mv": -0.2}, True),
        ({"q_ms": 19.0, "q_mv": 0.2, "r_mv": 0.8, "t_mv": -0.2}, False),
        ({"q_ms": 20.0, "q_mv": 0.19, "r_mv": 0.8, "t_mv": -0.2}, False),  # as small as a septum's
        ({"q_ms": 20.0, "q_mv": 0.2, "r_mv": 0.8, "t_mv": -0.1}, False),
        ({"q_ms": 20.0, "q_mv": 0.09, "r_mv": 0.2, "t_mv": -0.2}, False),
        ({"q_ms": 30.0, "q_mv": 0.1, "r_mv": 0.8, "t_mv": 0.2}, True),
    ],
)
def test_a_short_q_wave_counts_with_an_inverted_t_wave(fields, met):
    leads = QUIET | every(("II", "aVF"), r2_mv=None, s_mv=0.0, qrs_form="qR", **fields)
    assert decide("pathological_q", make(leads=leads)).met is met
    assert decide("pathological_q", make(leads=leads), ("II",)).met is met


def test_an_old_infarct_is_probable_where_st_or_t_is_abnormal_too():
    q = {"q_ms": 50.0, "q_mv": 0.5, "r_mv": 0.5, "s_mv": 0.0, "r2_mv": None}
    plain = QUIET | every(("II", "aVF"), **q, t_mv=0.2)
    assert decide("mi_inferior", make(leads=plain, st=FLAT)).certainty == "possible"
    inverted = QUIET | every(("II", "aVF"), **q, t_mv=-0.2)
    assert decide("mi_inferior", make(leads=inverted, st=FLAT)).certainty == "probable"
    one = inverted | {"II": q | {"t_mv": 0.2}}
    assert decide("mi_inferior", make(leads=one, st=FLAT)).certainty == "possible"
    mixed = make(leads=one, st=FLAT | {"II": 0.1})
    assert (decide("mi_inferior", mixed).certainty, decide("mi_inferior", mixed).urgent) == ("probable", False)
    atrium = {"V1": inverted["V1"] | {"p_form": "inverted", "p_mv": -0.1, "p_ms": 80.0}}
    heavy = make(leads=inverted | atrium | {"I": {"r_mv": 2.5}}, st=FLAT, qrs_ms=95.0,
                 voltages_mv=sinus().voltages_mv | {"sokolow_lyon": 4.0})  # fmt: skip
    assert decide("lvh", heavy).certainty == "probable"
    assert set(decide("lvh", heavy).evidence) > {"romhilt_estes_points", "sokolow_lyon_mv"}
    assert decide("mi_inferior", heavy).certainty == "possible"  # Q waves and strain of hypertrophy


def test_inverted_t_waves_count_where_r_is_lost_or_every_adults_are_upright():
    small = {"t_mv": -0.3, "r_mv": 0.1, "s_mv": 1.0, "r2_mv": None, "q_mv": None}
    chest = make(leads=QUIET | every(("V3", "V4"), **small))
    assert decide("t_inversion", chest).leads == ("V3", "V4")
    assert decide("t_inversion", replace(chest, age=None)).met
    assert decide("t_inversion", replace(chest, age=20)).met
    assert decide("t_inversion", replace(chest, age=19)).met is None
    for names in (("I", "V5"), ("V5", "V6"), ("V3", "V4")):
        assert decide("t_inversion", make(leads=QUIET | every(names, **small))).met, names
    for names in (("III", "aVF"), ("V2", "V3")):
        assert decide("t_inversion", make(leads=QUIET | every(names, **small))).met is None, names
    lost = small | {"q_mv": 0.6, "q_ms": 60.0, "qrs_form": "Qr"}
    assert decide("t_inversion", make(leads=QUIET | every(("III", "aVF"), **lost))).met


# -- fibrillation and grouped beats --------------------------------------------------------------------------------


def test_grouped_beats():
    short, long = [500.0, 520.0, 480.0], [950.0, 970.0, 930.0]
    assert grouped(np.array(short + long))
    assert not grouped(np.array(short + long[:2]))  # two long ones are no group
    assert not grouped(np.array(short[:2] + long))
    # two pairs of each, 100 apart from their mean: means differ by d, standard deviation 10
    spread = [490.0, 490.0, 510.0, 510.0]
    assert not grouped(np.array(spread + [length + 60.0 for length in spread]))
    assert grouped(np.array(spread + [length + 61.0 for length in spread]))
    assert not grouped(np.linspace(500.0, 1000.0, 12))
    rr = [np.nan, 512, 974, 906, 514, 567, 957, 972, 540, 451, 921, 1026, 542, 480]
    decision = decide("atrial_fibrillation", make(rr=rr, pr=[np.nan] * 14))
    assert (decision.met, decision.reason.endswith("groups")) == (None, True)
    uneven = make(rr=rr, pr=[np.nan] * 14, rhythm=Rhythm(regular=False, rr_cv=0.3))
    assert decide("undetermined_rhythm", uneven).evidence["why"] == "P waves not identified, irregular RR intervals"


def test_irregularity_at_its_limits():
    assert irregularly_irregular(np.array([950.0, 1050.0] * 4)) == -TINY  # changes by a tenth of the mean
    assert irregularly_irregular(np.array([1000.0] * 7 + [600.0, 1500.0, 600.0])) == -TINY  # 70 % near the median
    assert irregularly_irregular(np.array([1000.0] * 6 + [1400.0, 600.0, 1500.0, 600.0])) > 0
    assert irregularly_irregular(np.zeros(0)) is None
    table = np.full((12, 20), np.nan)
    table[0, :7] = 0.1  # P in 35 % of the beats in one lead
    rr = [np.nan, 600, 900, 650, 1000, 700, 850, 560, 950, 800] * 2
    features = make(rr=rr, pr=GONE * 2)
    beats = BeatTable(features.beats.time_s, features.beats.beat_class, features.beats.whole, {"p_mv": table}, LEADS)
    assert decide("atrial_fibrillation", replace(features, beats=beats)).margin == -TINY


def test_definite_fibrillation_shows_waves():
    rr = [np.nan, 600, 900, 650, 1000, 700, 850, 560, 950, 800]

    def certainty(atrial, noise):
        rhythm = replace(sinus().rhythm, atrial_mv=atrial, noise_mv=noise)
        return decide("atrial_fibrillation", make(rr=rr, pr=GONE, rhythm=rhythm)).certainty

    assert certainty(0.02, 0.01) == "definite"
    assert certainty(0.019, 0.01) == "probable"
    assert certainty(None, 0.01) == certainty(0.02, None) == "probable"


def multifocal(counts=(3, 3, 3), rate=120.0, noise=0.025, rr=IRREGULAR, silent=0):
    """A rhythm whose P waves have as many directions over three leads as there are counts."""
    base = sinus()
    kinds = [k for k, count in enumerate(counts) for _ in range(count)] + [-1] * silent
    table = np.full((len(base.beats.leads), len(kinds)), np.nan)
    for beat, kind in enumerate(kinds):
        if kind >= 0:
            table[:, beat] = 0.0
            table[kind, beat] = 0.15
    rr = (rr * 2)[: len(kinds)]
    features = make(rr=[np.nan, *rr[1:]], pr=[160.0 if k >= 0 else np.nan for k in kinds], heart_rate_bpm=rate,
                    rhythm=replace(base.rhythm, noise_mv=noise, rr_cv=0.15))  # fmt: skip
    beats = features.beats
    return replace(features, beats=BeatTable(beats.time_s, beats.beat_class, beats.whole, {"p_mv": table}, beats.leads))


def test_multifocal_atrial_tachycardia():
    def met(**changes):
        return decide("multifocal_atrial_tachycardia", multifocal(**changes)).met

    assert p_forms(multifocal(counts=(2, 4, 3))) == [4, 3, 2]
    assert p_forms(multifocal(counts=(2, 2), silent=4)) == [2, 2]
    assert p_forms(make(rr=[np.nan, 800])) == []
    assert met()
    assert decide("multifocal_atrial_tachycardia", multifocal()).evidence["p_forms"] == 3
    assert not met(counts=(5, 4))
    assert not met(counts=(4, 4, 1))
    assert met(counts=(4, 2, 2))  # half of the beats
    assert not met(counts=(5, 2, 2))
    assert met(counts=(3, 2, 2), silent=3)  # P in seven of ten beats
    assert not met(counts=(3, 2, 2), silent=4)
    assert not met(rate=100.0)
    assert met(rate=100.5)
    assert not met(noise=0.026)
    assert met(noise=0.025)
    assert decide("multifocal_atrial_tachycardia", multifocal(noise=None)).met is None
    assert not met(rr=[500] * 10)
    assert decide("sinus_tachycardia", multifocal()).met is False
    assert decide("sinus_tachycardia", multifocal(counts=(9,))).met
    table = np.full((12, 4), np.nan)
    table[:3] = np.array([[0.1, 0.045, 0.1, 0.1], [0.0, 0.0893, 0.0, 0.05], [0.0, 0.0, 0.0, 0.0]])
    base = multifocal(counts=(4,))
    beats = BeatTable(*[getattr(base.beats, n) for n in ("time_s", "beat_class", "whole")], {"p_mv": table}, LEADS)
    assert p_forms(replace(base, beats=beats)) == [3, 1]  # cosine 0.45 to the first, and 0.89
    table[:4, 1] = 0.1  # cosine 0.5
    assert p_forms(replace(base, beats=beats)) == [4]
    three = multifocal(counts=(3, 3, 3))
    hidden = replace(three, leads=three.leads | {LEADS[2]: replace(three.leads[LEADS[2]], trust=0.0)})
    assert p_forms(hidden)[:3] == [3, 3, 1]  # the third form shows in a lead that is not trusted


# -- dextrocardia and exchanged electrodes -------------------------------------------------------------------------

MIRRORED = {"p_form": "inverted", "r_mv": 0.1, "s_mv": 0.8, "q_mv": None, "r2_mv": None}
AWAY = {"r_mv": 0.1, "s_mv": 0.3, "q_mv": None, "r2_mv": None, "qrs_mv": 0.4}
NEAR = {"r_mv": 0.6, "s_mv": 0.3, "q_mv": None, "r2_mv": None, "qrs_mv": 0.9}


def test_dextrocardia():
    heart = {"I": MIRRORED, "V2": {"qrs_mv": 0.9}, "V6": AWAY}
    assert decide("dextrocardia", make(leads=heart)).met
    assert decide("electrode_misplacement", make(leads=heart)).met is False
    assert decide("electrode_misplacement", make(leads=heart | {"V6": NEAR})).met
    assert decide("dextrocardia", make(leads=heart | {"V6": NEAR})).met is False
    for other in ({"I": MIRRORED | {"p_form": "upright"}}, {"I": MIRRORED | {"r_mv": 0.8}},
                  {"V2": {"qrs_mv": 0.4}}, {"V2": {"qrs_mv": None}}, {"V6": AWAY | {"r_mv": 0.3}}):  # fmt: skip
        assert decide("dextrocardia", make(leads=heart | other)).met is False, other
    level = AWAY | {"r_mv": 0.3}  # R as large as S
    assert decide("electrode_misplacement", make(leads=heart | {"V6": level})).met is False
    for name in ("I", "V6"):
        gone = make(leads=heart | {name: heart[name] | {"qrs_mv": None}})
        assert decide("dextrocardia", gone).met is None
        assert decide("electrode_misplacement", gone).met is None
    tall = make(leads=heart, st={"II": 0.3, "III": 0.3})
    assert decide("st_elevation", tall).certainty == "possible"
    assert "right" in decide("st_elevation", tall).evidence["electrodes"]
    assert decide("sinus_rhythm", make(leads=heart)).certainty == "probable"


# -- what leaves a normal ECG and urgency open ---------------------------------------------------------------------


def test_borderline_st_leaves_a_normal_ecg_open():
    def normal(**levels):
        return decide("normal_ecg", make(leads=QUIET, st=FLAT | levels)).met

    assert normal()
    assert normal(II=0.075, III=0.075)  # one error below its limit
    assert normal(II=0.08, III=0.08) is None
    assert decide("abnormal_ecg", make(leads=QUIET, st=FLAT | {"II": 0.08, "III": 0.08})).met is None
    assert normal(V4=-0.03, V5=-0.03) is None
    assert normal(V4=-0.025, V5=-0.025)
    assert decide("normal_ecg", make(leads=QUIET | every(("V4", "V5"), t_mv=-0.06), st=FLAT)).met is None


def test_borderline_st_elevation_and_abnormal_activation_leave_urgency_open():
    def urgent(**changes):
        return decide("urgent", make(**{"st": FLAT, "leads": QUIET} | changes))

    assert urgent().met is False
    assert urgent(st=FLAT | {"II": 0.08, "III": 0.08}).reason.endswith("ST elevation is borderline")
    assert urgent(st=FLAT | {"V4": -0.03, "V5": -0.03}).met is False
    assert urgent(leads=QUIET | LEFT, qrs_ms=150.0).reason.endswith("hidden by abnormal activation")
    assert urgent(kinds=["paced"] * 10, qrs_ms=150.0).met is None


def test_bifascicular_block_is_stated_as_trifascicular_with_a_long_pr():
    leads = (
        RIGHT | LPFB | {"V1": {"r_mv": 0.2, "r2_mv": 0.5, "s_mv": 0.9}, "I": {"r_mv": 0.2, "s_mv": 0.5, "s_ms": 50.0}}
    )
    posterior = make(leads=leads, qrs_ms=140.0, **axis(120.0))
    assert decide("lpfb", posterior).met
    assert decide("bifascicular_block", posterior).certainty == "possible"
    open_ = decide("trifascicular_block", make(leads=RIGHT | LAFB, qrs_ms=140.0, kinds=["paced"] * 5, **axis(-60.0)))
    assert open_.met is None
    assert open_.reason == "not decided in the presence of paced rhythm"


def test_what_just_reaches_a_limit_is_met():
    """Margins of 0: each decision that asks whether another criterion is met or missed."""
    rr = [np.nan, 600, 900, 650, 1000, 700, 850, 560, 950, 800]
    even = make(rr=rr[:7], pr=GONE[:7])
    assert decide("atrial_fibrillation", even).met  # six RR
    assert decide("atrial_fibrillation", make(rr=rr[:6], pr=GONE[:6])).met is None
    assert decide("sinus_arrhythmia", make(rr=[np.nan, 700, 900, 800])).met
    assert decide("sinus_arrhythmia", make(rr=[np.nan, 700, 900])).met is None
    low = {"V4": {"t_mv": -0.1, "t_form": "biphasic"}}
    assert decide("t_inversion", make(leads=low), ("V4",)).met is None
    assert decide("t_inversion", make(leads={"V4": {"t_mv": 0.0, "t_form": "biphasic"}}), ("V4",)).met is None
    plain = {"t_mv": -0.3, "r_mv": 1.0, "s_mv": 0.1, "r2_mv": None, "q_mv": None}
    assert decide("t_inversion", make(leads=QUIET | every(("V1", "V2"), **plain))).met is False  # V1 does not count
    tall = {"r_mv": 0.2, "r2_mv": 0.6, "s_mv": 0.5, "q_mv": None}
    assert decide("rsr_prime", make(leads=every(("V1", "V2"), **tall), qrs_ms=100.0)).met is None  # no late S wave


def test_kinds_of_doubt_about_urgency():
    def kind(**changes):
        return doubt(make(**{"st": FLAT, "leads": QUIET} | changes))[0]

    assert kind() == ""
    assert kind(leads=QUIET | BIG_T) == "possible"
    assert kind(rr=[np.nan, 800, 2996, 800]) == "borderline"
    assert kind(rr=[np.nan, 800, 2995, 800]) == ""
    assert kind(**qtc(494.0)) == ""  # long, but not urgent
    assert [kind(heart_rate_bpm=rate) for rate in (39.5, 40.0, 150.0, 150.5)] == ["rate", "", "", "rate"]
    assert kind(pr=GONE, rhythm=Rhythm(regular=False, rr_cv=0.2), heart_rate_bpm=70.0) == "rhythm"
    assert kind(leads=QUIET | LEFT, qrs_ms=150.0) == "masked"
    assert kind(st=FLAT | {"II": 0.2, "III": 0.2}) == "recent"
    assert kind(st=FLAT | {"V4": -0.1, "V5": -0.1}) == "recent"
    old = every(("II", "aVF"), q_ms=50.0, q_mv=0.5, r_mv=0.5, s_mv=0.0, r2_mv=None, t_mv=0.2)
    assert kind(leads=QUIET | old) == "recent"
    assert kind(st=FLAT | {"II": 0.09, "III": 0.09}) == "borderline"
    inverted = {"t_mv": -0.3, "r_mv": 1.0, "s_mv": 0.1, "r2_mv": None, "q_mv": None}
    assert kind(leads=QUIET | every(("V3", "V4"), **inverted)) == "recent"
    assert kind(leads=QUIET | every(("V4", "V5"), **inverted)) == ""
    assert [kind(scale_error=error) for error in (0.05, 0.051)] == ["", "scale"]
    assert kind(notes=("flutter_waves",), rr=[np.nan] + [800] * 5) in ("borderline", "unreadable")


def test_why_a_rhythm_is_undetermined():
    def why(pr, cv):
        uneven = Rhythm(regular=False, rr_cv=cv, p_per_qrs=0.5)
        one = {"I": {"p_form": "inverted"}, "II": {"p_form": "upright"}}
        decision = decide("undetermined_rhythm", make(pr=pr, rhythm=uneven, leads=one, heart_rate_bpm=70.0))
        return decision.evidence.get("why")

    assert why([160.0] * 7 + [np.nan] * 3, 0.2) == "P waves of unclear origin"
    assert why([160.0] * 6 + [np.nan] * 4, 0.2) == "P waves not identified, irregular RR intervals"
    assert why([160.0] * 6 + [np.nan] * 4, 0.08) == "P waves not identified"
    assert why([], 0.08) is None


def test_codes_are_listed_once_in_the_order_of_the_criteria_file():
    listed = [code for code in criteria()["findings"] if code in codes()]
    assert list(codes()[: len(listed)]) == listed
    assert set(codes()[len(listed) :]) == {"abnormal_ecg", "mi", "urgent", "not_urgent"}
    assert len(set(codes())) == len(codes())


def test_infarction_anywhere_is_the_first_that_is_met_or_open():
    assert decide("mi", make(leads=QUIET, st=FLAT)).margin == -FORM
    open_ = decide("mi", make(leads=QUIET, st=FLAT | {"II": 0.2, "III": 0.2}))
    assert (open_.met, "inferior" in open_.reason) == (None, True)
    both = FLAT | {"II": 0.2, "III": 0.2, "aVL": -0.1, "V4": 0.2, "V3": 0.25}
    assert decide("mi", make(leads=QUIET, st=both)).leads == ("II", "III")


def test_a_normal_ecg_is_as_far_off_as_its_clearest_abnormal_finding():
    features = make(leads=QUIET, st=FLAT, **qtc(476.0))
    assert decide("normal_ecg", features).margin == -2.0
    assert decide("normal_ecg", features).evidence["abnormal"] == ["long_qtc"]
    assert decide("abnormal_ecg", features).margin == 2.0
    ectopic = make(leads=LOW_P, st=FLAT, heart_rate_bpm=None)
    assert decide("normal_ecg", ectopic).met is None
    for benign in ("rsr_prime", "sinus_arrhythmia"):
        assert benign in BENIGN
    uneven = make(leads=QUIET, st=FLAT, rr=[np.nan, 700, 800, 870, 760, 800])
    assert decide("sinus_arrhythmia", uneven).met
    assert decide("normal_ecg", uneven).margin == FORM
    assert decide("urgent", uneven).margin == -FORM
    assert decide("not_urgent", uneven).margin == FORM


LOW_P = QUIET | {"II": {"p_form": "inverted", "q_mv": None}}


def test_unread_leads_leave_urgency_open():
    def reason(trust):
        return decide("urgent", make(leads=QUIET | {"V4": {"trust": trust}}, st=FLAT)).reason

    assert reason(0.3) == ""
    assert reason(0.29).endswith("every lead")


def test_a_lead_without_trust_has_no_repeated_p_wave():
    base = sinus()
    table = np.full((12, 10), np.nan)
    table[0] = 0.1
    rr = [np.nan, 600, 900, 650, 1000, 700, 850, 560, 950, 800]
    features = make(rr=rr, pr=GONE)
    beats = features.beats
    shown = replace(features, beats=BeatTable(beats.time_s, beats.beat_class, beats.whole, {"p_mv": table}, LEADS))
    assert decide("atrial_fibrillation", shown).met is False
    assert by_lead("t_inversion")
    assert not by_lead("lbbb")
    table[0, :7] = np.nan  # changed in place: P in three of ten beats
    assert decide("atrial_fibrillation", shown).met
    table[0] = 0.1
    silent = replace(shown, leads=shown.leads | {"I": replace(base.leads["I"], trust=0.0)})
    assert decide("atrial_fibrillation", silent).met
