"""Findings: each simulated diagnosis is named, with evidence, threshold and source; criteria are complete data."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pytest

from gem_lightning.ecg.record import LEADS, EcgRecord
from gem_lightning.ecg.simulation import truth
from gem_lightning.ecg.simulation.simulate import simulate
from gem_lightning.errors import GemError
from gem_lightning.features import findings, from_mimic_csv, measure
from gem_lightning.features.criteria import criteria, limits
from gem_lightning.features.criteria.base import FORM, TO_SCALE, form
from gem_lightning.features.criteria.conduction import minnesota_form, strauss
from gem_lightning.features.criteria.ischaemia import contiguous
from gem_lightning.features.criteria.rhythm import irregularly_irregular
from gem_lightning.features.delineation import atrial as _atria
from gem_lightning.features.measurement.axes import scale_error
from gem_lightning.features.schema import LeadFeatures


def codes(diagnosis: str, seed: int = 1, **parameters) -> set[str]:
    sim = simulate(diagnosis, seed=seed, **parameters)
    stated = findings(measure(sim.record), sim.parameters["age"], sim.parameters["sex"])
    return {finding.code for finding in stated}


@pytest.mark.parametrize(
    "diagnosis",
    [
        "sinus_bradycardia", "sinus_tachycardia", "sinus_arrhythmia", "atrial_fibrillation", "av_block_1",
        "av_block_2_mobitz_1", "av_block_2_mobitz_2", "av_block_3", "rbbb", "incomplete_rbbb", "lbbb", "lafb", "lpfb",
        "left_axis_deviation", "right_axis_deviation", "lvh", "rvh", "low_voltage", "long_qtc", "short_qtc", "pvc",
        "pac", "bigeminy", "paced_rhythm", "pre_excitation", "st_elevation", "st_depression", "t_inversion",
        "t_peaked",
    ],
)  # fmt: skip
def test_simulated_diagnosis_is_found(diagnosis):
    clear = {"qrs_ms": 114} if diagnosis == "incomplete_rbbb" else {}  # further from 120 ms than we measure exactly
    assert diagnosis in codes(diagnosis, **clear)


@pytest.mark.parametrize("seed", [3, 7])
def test_growing_pr_is_no_fibrillation(seed):
    found = codes("av_block_2_mobitz_1", seed=seed)
    assert "av_block_2_mobitz_1" in found
    assert "atrial_fibrillation" not in found


@pytest.mark.parametrize("seed", range(4))
def test_blocked_p_waves_are_neither_slow_nor_absent(seed):
    assert "sinus_rhythm" in codes("av_block_2_mobitz_2", seed=seed)
    for diagnosis in ("av_block_2_mobitz_1", "av_block_2_mobitz_2", "av_block_3"):
        assert "p_absent" not in codes(diagnosis, seed=seed)


@pytest.mark.parametrize("seed", range(3))
def test_what_a_diagnosis_is_not(seed):
    assert {"rbbb", "lvh"}.isdisjoint(codes("incomplete_rbbb", seed=seed, qrs_ms=114))
    assert {"lbbb", "lvh"}.isdisjoint(codes("rbbb", seed=seed))
    assert {"av_block_3", "left_axis_deviation", "atrial_fibrillation"}.isdisjoint(codes("paced_rhythm", seed=seed))


def test_fibrillation_needs_an_uneven_rhythm():
    features = measure(simulate("atrial_fibrillation", seed=2).record)
    rr = features.beats.whole["rr_ms"]
    assert "atrial_fibrillation" in {f.code for f in findings(features)}
    rr[1:] = np.mean(rr[1:])
    assert "atrial_fibrillation" not in {f.code for f in findings(features)}


def test_own_limits_are_named():
    features = measure(simulate("atrial_fibrillation", seed=2).record)
    sources = {finding.code: finding.source for finding in findings(features)}
    assert "set by this library: rr_change, p_share" in sources["atrial_fibrillation"]
    for entry in criteria()["findings"].values():
        assert set(entry.get("ours", ())) <= {*entry["limits"], "the whole rule"}


def test_a_normal_ecg_is_normal():
    found = codes("sinus", seed=1)
    assert {"sinus_rhythm", "normal_ecg", "normal_axis", "normal_pr", "normal_qtc"} <= found
    assert "st_elevation" not in found


def test_every_finding_rests_on_something():
    sim = simulate("st_elevation", seed=1)
    for finding in findings(measure(sim.record), 60, "F"):
        assert finding.statement
        assert finding.evidence
        assert "{" not in finding.threshold
        assert re.search(r"\d{4}", finding.source)  # a year
        assert finding.certainty in ("definite", "probable", "possible")


def test_st_thresholds_depend_on_sex_and_age():
    sim = simulate("sinus", seed=1)
    features = measure(sim.record)
    for lead in ("V2", "V3"):
        features.st_mv[lead]["J"] = 0.18

    def elevated(age, sex):
        return any(f.code == "st_elevation" for f in findings(features, age, sex))

    assert elevated(50, "F")
    assert not elevated(50, "M")
    for lead in ("V2", "V3"):
        features.st_mv[lead]["J"] = 0.22
    assert elevated(50, "M")
    assert not elevated(30, "M")


def test_sex_and_age_are_checked():
    features = measure(simulate("sinus").record)
    assert findings(features, 40, "female")
    with pytest.raises(GemError, match="sex"):
        findings(features, 40, "x")
    with pytest.raises(GemError, match="age"):
        findings(features, -3, "M")


def test_nothing_measured_means_nothing_found():
    assert findings(measure(EcgRecord(np.zeros((12, 5000), np.float32), 500))) == []


def test_criteria_are_complete():
    data = criteria()
    for code, entry in data["findings"].items():
        keys = entry["source"] if isinstance(entry["source"], list) else [entry["source"]]
        assert set(keys) <= set(data["sources"]), code
        assert entry["threshold"].format(**entry["limits"])
        assert entry["snomed"] is None or entry["snomed"].isdigit()


def test_every_source_is_used():
    data = criteria()
    named = [entry["source"] for entry in data["findings"].values()]
    used = {key for keys in named for key in (keys if isinstance(keys, list) else [keys])}
    assert used == set(data["sources"])


def test_truth_and_findings_share_their_limits():
    long, short = limits("long_qtc"), limits("short_qtc")
    assert {"M": long["m"], "F": long["f"]} == truth.LONG_QTC_MS
    assert short["high"] == truth.SHORT_QTC_MS
    for code, (low, high) in truth.AXES_DEG.items():
        assert (limits(code)["low"], limits(code)["high"]) == (low, high)
    flutter = limits("atrial_flutter")
    assert flutter["per_s"] == _atria.FLUTTER_PER_S
    assert (flutter["rate_low"], flutter["rate_high"]) == pytest.approx([60 * f for f in _atria.FLUTTER_HZ])


def test_truth_and_findings_share_what_is_contiguous():
    pairs = {frozenset(pair) for pair in truth._CONTIGUOUS}
    for i, one in enumerate(LEADS):
        for other in LEADS[i + 1 :]:
            margin, found = contiguous(lambda name, pair=(one, other): form(name in pair), 2)
            assert bool(found) == ({one, other} in pairs), (one, other)
            assert margin == (FORM if found else -FORM)


def test_st_truth_follows_sex_and_age():
    level = {lead: {"J": 0.18 if lead in ("V2", "V3") else 0.0, "J80": 0.0} for lead in LEADS}
    assert truth._st_codes(level, 60, "F") == {"st_elevation"}
    assert truth._st_codes(level, 60, "M") == set()
    level["V2"]["J"] = level["V3"]["J"] = 0.22
    assert truth._st_codes(level, 60, "M") == {"st_elevation"}
    assert truth._st_codes(level, 30, "M") == set()


@pytest.mark.parametrize(
    ("angle", "code"),
    [(-170, "extreme_axis_deviation"), (-91, "extreme_axis_deviation"), (-90, "left_axis_deviation"),
     (-31, "left_axis_deviation"), (-30, "normal_axis"), (90, "normal_axis"), (91, "right_axis_deviation"),
     (180, "right_axis_deviation")],
)  # fmt: skip
def test_every_axis_has_one_name(angle, code):
    features = measure(simulate("sinus", seed=1).record)
    features.axis_deg["QRS"] = angle
    axes = {f.code for f in findings(features) if "axis" in f.code}
    assert axes == {code}


def test_turned_limb_leads_have_an_extreme_axis():
    record = simulate("sinus", seed=1, axis_deg=40).record
    turned = record.signal.copy()
    turned[:6] *= -1
    assert "extreme_axis_deviation" in {f.code for f in findings(measure(record.with_signal(turned)))}


def test_leads_scaled_one_by_one_make_voltages_doubtful():
    record = simulate("lvh", seed=1, snr_db=20).record
    certain = {f.code: f for f in findings(measure(record), 60, "M")}
    scaled = measure(record.with_signal(record.signal / np.ptp(record.signal, axis=1, keepdims=True)))
    doubted = {f.code: f for f in findings(scaled, 60, "M")}
    assert certain["normal_axis"].certainty == "definite"
    for finding in doubted.values():
        if criteria()["findings"][finding.code].get("voltage"):
            assert finding.certainty == "possible"
            assert finding.evidence["limb_leads_scale_error"] > TO_SCALE
    assert doubted["sinus_rhythm"].certainty == "definite"


def test_scale_error_sees_factors_and_not_noise():
    rng = np.random.default_rng(0)
    sim = simulate("sinus", seed=3)
    onset, offset = (int(sim.global_marks[name][2]) for name in ("QRS_on", "QRS_off"))
    beat = sim.record.signal[:, onset - 10 : offset + 10]
    trust = np.ones(12)
    assert scale_error(beat, LEADS, trust) < 1e-3
    assert scale_error(beat + rng.normal(0, 0.01, beat.shape), LEADS, trust) < TO_SCALE
    beat = beat * np.where(np.array(LEADS) == "aVF", 1.4, 1.0)[:, None]
    assert scale_error(beat, LEADS, trust) > TO_SCALE
    assert scale_error(beat, LEADS, np.where(np.array(LEADS) == "aVF", 0.0, 1.0)) < 1e-3
    assert scale_error(beat[6:], LEADS[6:], trust[6:]) is None


def test_block_by_strauss_may_keep_q_waves():
    features = measure(simulate("lbbb", seed=2, qrs_ms=160).record)
    notched = LeadFeatures(q_mv=0.1, r_mv=0.8, r2_mv=0.7, qrs_notes=("notched",))
    features.leads.update(dict.fromkeys(("I", "aVL", "V6"), notched))
    assert "lbbb" in {f.code for f in findings(features, 60, "M")}
    assert strauss(features) > 0
    assert strauss(measure(simulate("sinus", seed=2).record)) < 0


def test_minnesota_asks_for_r_prime_above_r():
    features = measure(simulate("sinus", seed=2).record)
    features.leads["V1"] = LeadFeatures(r_mv=0.15, s_mv=0.6, r2_mv=0.25)
    assert minnesota_form(features) == ("V1",)
    stated = {f.code: f.certainty for f in findings(features)}
    assert stated["incomplete_rbbb"] == "possible"
    features.leads["V1"] = LeadFeatures(r_mv=0.25, s_mv=0.6, r2_mv=0.2)
    assert "incomplete_rbbb" not in {f.code for f in findings(features)}


@pytest.mark.parametrize("diagnosis", ["rbbb", "lafb"])
def test_axis_and_width_alone_are_no_hypertrophy(diagnosis):
    for seed in range(6):
        assert "lvh" not in codes(diagnosis, seed=seed, snr_db=28)


def test_a_q_wave_is_no_s_wave():
    features = measure(simulate("sinus", seed=2).record)
    features.leads["III"] = LeadFeatures(q_mv=2.5, r_mv=0.1, qrs_mv=2.6, qrs_form="Qr")
    assert "lvh" not in {f.code for f in findings(features, 60, "M")}
    features.leads["III"] = LeadFeatures(q_mv=2.5, qrs_mv=2.5, qrs_form="QS")
    assert "lvh" in {f.code for f in findings(features, 60, "M")}


def test_mimic_row():
    row = {
        "rr_interval": "800", "p_onset": "40", "p_end": "150", "qrs_onset": "200", "qrs_end": "290", "t_end": "580",
        "p_axis": "60", "qrs_axis": "29999", "t_axis": "350",
    }  # fmt: skip
    features = from_mimic_csv(row)
    assert (features.pr_ms, features.qrs_ms, features.qt_ms, features.p_ms) == (160, 90, 380, 110)
    assert features.heart_rate_bpm == 75
    assert features.axis_deg == {"P": 60, "QRS": None, "T": -10}
    assert from_mimic_csv(row | {"t_end": "29999"}).qt_ms is None
    with pytest.raises(GemError, match="rr_interval"):
        from_mimic_csv({"heart": 1})
    with pytest.raises(GemError, match="number"):
        from_mimic_csv(row | {"p_end": "soon"})


def test_one_beat_makes_no_second_degree_block():
    single = 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for seed in range(80):
            record = simulate("av_block_3", seed=seed, fs=250, seconds=2.5, snr_db=20).record
            features = measure(record)
            stated = {finding.code for finding in findings(features)}
            if len(features.beats) == 1 and "p_free_of_qrs" in features.rhythm.notes:
                single += 1
                assert not stated & {"av_block_2_mobitz_1", "av_block_2_mobitz_2"}
    assert single >= 3


def test_a_few_early_beats_are_not_irregularly_irregular():
    early = np.array([1060.0, 540, 1240, 1050, 1110, 1040, 1070, 1040, 1060, 1070])
    rng = np.random.default_rng(0)
    assert irregularly_irregular(early) < 0
    assert irregularly_irregular(np.full(10, 800.0)) < 0
    assert irregularly_irregular(np.zeros(0)) is None
    assert all(irregularly_irregular(rng.uniform(500, 1100, 12)) > 0 for _ in range(20))
