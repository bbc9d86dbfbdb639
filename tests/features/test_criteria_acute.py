"""Acute patterns, ectopic rhythms, pauses and exchanged electrodes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gem_lightning.ecg import EcgRecord, simulate
from gem_lightning.features import findings, measure
from gem_lightning.features.criteria import criteria, decide
from gem_lightning.features.schema import Rhythm
from helpers_features import FREE, LEFT, QUIET, every, make

POINTS = ("J", "J40", "J60", "J80")


def at(**level):
    """Findings by code of a healthy man of 60 with these ST levels, mV, and 0 in every other lead."""
    features = measure(simulate("sinus", seed=3).record, age=60, sex="M")
    levels = {lead: dict.fromkeys(POINTS, level.get(lead, 0.0)) for lead in features.st_mv}
    return {finding.code: finding for finding in findings(replace(features, st_mv=levels))}


# -- ischaemia -----------------------------------------------------------------------------------------------------


def test_high_anterior_elevation_needs_no_mirror_image():
    found = at(V1=0.15, V2=0.4, V3=0.5, V4=0.4)
    assert (found["mi_anterior"].certainty, found["mi_anterior"].urgent) == ("probable", True)
    assert "mi_anterior" not in at(V1=0.15, V2=0.3, V3=0.38, V4=0.3)


def test_a_mirror_image_counts_for_its_territory_only():
    found = at(II=0.2, III=0.25, aVF=0.22, aVL=-0.12, I=-0.06, V3=0.3, V4=0.3)
    assert found["mi_inferior"].urgent
    assert "mi_anterior" not in found


def test_posterior_infarct_is_possible_from_its_mirror_image():
    found = at(V1=-0.15, V2=-0.25, V3=-0.2)
    assert (found["mi_posterior"].certainty, found["mi_posterior"].urgent) == ("possible", False)
    assert "V7-V9" in found["mi_posterior"].evidence["look_for"]
    tall = make(leads=QUIET | {"V2": {"r_mv": 1.0, "s_mv": 0.3, "q_mv": None, "t_mv": 0.3}},
                st={"V1": -0.15, "V2": -0.25, "V3": -0.2})  # fmt: skip
    assert decide("mi_posterior", tall).certainty == "probable"
    assert decide("mi_posterior", make(leads=QUIET, st={"V2": -0.2})).met is None


def test_diffuse_depression_with_elevation_in_avr_is_urgent():
    level = {"aVR": 0.2, "I": -0.15, "II": -0.2, "V3": -0.2, "V4": -0.25, "V5": -0.25, "V6": -0.2, "aVF": -0.1}
    assert at(**level)["ischaemia"].urgent
    assert "ischaemia" not in at(**(level | {"aVR": 0.05}))
    assert decide("ischaemia", make(leads=QUIET, st=level | {"aVR": 0.05})).met is None


def test_sgarbossa_and_smith_in_left_bundle_branch_block():
    def block(st, **leads):
        return make(leads=LEFT | leads, st=st, qrs_ms=150.0)

    concordant = decide("sgarbossa", block({"I": 0.1}))
    assert (concordant.met, concordant.leads, concordant.certainty) == (True, ("I",), "probable")
    assert decide("sgarbossa", block({"V1": -0.1})).leads == ("V1",)
    assert decide("sgarbossa", block({"V1": 0.24})).met is False  # S of 1 mV: up to a quarter is proportional
    assert decide("sgarbossa", block({"V1": 0.26})).met
    assert decide("sgarbossa", make(st={"I": 0.1})).met is False
    paced = make(kinds=["paced"] * 10, leads=LEFT, st={"I": 0.1}, qrs_ms=150.0)
    assert decide("sgarbossa", paced).certainty == "possible"
    assert {f.code for f in findings(block({"I": 0.1})) if f.urgent} == {"sgarbossa"}


def test_flutter_leaves_st_and_t_open():
    features = make(notes=("flutter_waves",), st=dict.fromkeys(("II", "III", "aVF"), 0.3))
    for code in ("st_elevation", "st_depression", "t_inversion"):
        assert decide(code, features).met is None
        assert "flutter" in decide(code, features, ("II",)).reason


def test_secondary_changes_name_their_cause():
    features = make(leads=LEFT, st={"V2": 0.3, "V3": 0.3}, qrs_ms=150.0)
    stated = next(f for f in findings(features) if f.code == "st_elevation")
    assert stated.evidence["secondary_to"] == "complete left bundle branch block"
    assert stated.certainty == "possible"


def test_hyperkalaemia_and_brugada():
    tall = every(("V3", "V4"), t_mv=1.4)
    assert decide("hyperkalaemia", make(leads=tall)).met is False
    assert decide("hyperkalaemia", make(leads=tall, qrs_ms=125.0)).certainty == "possible"
    long = make(leads=tall, qrs_ms=125.0, pr_ms=230.0)
    assert (decide("hyperkalaemia", long).certainty, decide("urgent", long).met) == ("probable", True)
    coved = make(leads={"V1": {"t_mv": -0.2}})
    coved.st_mv["V1"].update(J=0.25, J40=0.2, J60=0.15, J80=0.1)
    assert decide("brugada", coved).met
    coved.st_mv["V1"].update(J80=0.3)
    assert decide("brugada", coved).met is False


# -- rhythm --------------------------------------------------------------------------------------------------------

GONE = [np.nan] * 10
EVEN = Rhythm(regular=True, rr_cv=0.01, p_per_qrs=0.0)


def stated(code, **changes):
    decision = decide(code, make(**changes))
    return decision.certainty if decision.met else decision.met


def test_ectopic_rhythms():
    low = {"II": {"p_form": "inverted"}}
    assert stated("ectopic_atrial_rhythm", leads=low) == "probable"
    assert stated("atrial_tachycardia", leads=low, heart_rate_bpm=120.0) == "probable"
    assert stated("junctional_rhythm", leads=low, pr_ms=100.0, rhythm=EVEN) == "possible"
    assert stated("junctional_rhythm", pr=GONE, rhythm=EVEN, heart_rate_bpm=50.0) == "probable"
    assert stated("junctional_rhythm", pr=GONE, rhythm=EVEN, heart_rate_bpm=50.0, qrs_ms=140.0) is False
    assert stated("escape_rhythm", pr=GONE, rhythm=EVEN, heart_rate_bpm=38.0, qrs_ms=140.0) == "probable"
    assert stated("supraventricular_tachycardia", pr=GONE, rhythm=EVEN, heart_rate_bpm=180.0) == "possible"


def test_wide_complex_tachycardia_is_urgent():
    fast = make(pr=GONE, rhythm=EVEN, heart_rate_bpm=170.0, qrs_ms=150.0)
    assert decide("urgent", fast).met
    assert {f.code for f in findings(fast) if f.urgent} == {"wide_complex_tachycardia"}
    assert decide("ventricular_tachycardia", fast).certainty == "possible"
    assert decide("wide_complex_tachycardia", make(heart_rate_bpm=120.0, qrs_ms=150.0)).met is False  # P waves lead


def test_runs_of_ventricular_beats():
    def run(beats, rr=400.0):
        kinds = ["normal"] * 3 + ["premature_ventricular"] * beats + ["normal"] * 3
        return make(kinds=kinds, rr=[np.nan] + [rr] * (len(kinds) - 1))

    assert decide("couplet", run(2)).met
    assert decide("couplet", run(3)).met is False
    assert decide("ventricular_tachycardia", run(3)).certainty == "probable"
    assert decide("ventricular_tachycardia", run(3, rr=650.0)).met is False  # 92 bpm
    assert "ventricular_tachycardia" in decide("urgent", run(3)).evidence["urgent"]


def test_pauses_and_two_to_one_block():
    assert decide("pause", make(rr=[np.nan, 800, 3050, 800])).met
    assert decide("pause", make(rr=[np.nan, 800, 3000, 800])).met is False
    even = make(pr=[160.0] * 10, rhythm=Rhythm(regular=True, rr_cv=0.01, notes=FREE))
    assert decide("av_block_2_1", even).met
    assert decide("av_block_2_mobitz_2", even).met is False


def test_fibrillation_needs_a_recording_that_would_show_p_waves():
    rr = [np.nan, 600, 900, 650, 1000, 700, 850, 560, 950, 800]
    assert decide("atrial_fibrillation", make(rr=rr, pr=GONE)).met
    noisy = make(rr=rr, pr=GONE, leads=every(trust=0.5))
    assert decide("atrial_fibrillation", noisy).reason.startswith("irregular rhythm, P waves not identified")
    assert decide("undetermined_rhythm", noisy).met
    assert decide("atrial_fibrillation", make(rr=rr[:5], pr=GONE[:5])).met is None


def test_every_usable_record_has_one_statement_on_the_rhythm():
    for diagnosis in ("sinus", "av_block_2_mobitz_1", "atrial_flutter", "pac", "paced_rhythm"):
        for snr in (None, 10):
            codes = {f.code for f in findings(measure(simulate(diagnosis, seed=7, snr_db=snr).record))}
            assert codes & {"undetermined_rhythm", "sinus_rhythm", "sinus_bradycardia", "sinus_tachycardia",
                            "atrial_flutter", "atrial_fibrillation", "paced_rhythm", "av_block_2_mobitz_1",
                            "ectopic_atrial_rhythm", "junctional_rhythm"}, (diagnosis, snr)  # fmt: skip


# -- electrodes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_exchanged_arm_electrodes_put_the_axis_in_doubt(seed):
    record = simulate("sinus", seed=seed, snr_db=25).record
    signal = record.signal[[0, 2, 1, 4, 3, 5, *range(6, 12)]].copy()
    signal[0] *= -1
    found = {f.code: f for f in findings(measure(EcgRecord(signal, record.fs, record.leads)))}
    assert "electrode_misplacement" in found
    for code in ("right_axis_deviation", "extreme_axis_deviation", "left_axis_deviation"):
        assert code not in found or found[code].certainty == "possible"
    assert "electrode_misplacement" not in {f.code for f in findings(measure(record))}


def test_every_entry_names_a_known_source():
    known = set(criteria()["sources"])
    for code, entry in criteria()["findings"].items():
        sources = entry["source"] if isinstance(entry["source"], list) else [entry["source"]]
        assert set(sources) <= known, code
        assert entry.get("urgent", "chou") in known, code
