"""Findings: each simulated diagnosis is named, with evidence, threshold and source; criteria are complete data."""

from __future__ import annotations

import re

import numpy as np
import pytest

from gem_lightning.ecg.record import EcgRecord
from gem_lightning.ecg.simulate import simulate
from gem_lightning.errors import GemError
from gem_lightning.features import findings, from_mimic_csv, measure
from gem_lightning.features._criteria import criteria


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
    assert diagnosis in codes(diagnosis)


@pytest.mark.parametrize("seed", [3, 7])
def test_growing_pr_is_no_fibrillation(seed):
    found = codes("av_block_2_mobitz_1", seed=seed)
    assert "av_block_2_mobitz_1" in found
    assert "atrial_fibrillation" not in found


@pytest.mark.parametrize("seed", range(3))
def test_what_a_diagnosis_is_not(seed):
    assert {"rbbb", "lvh"}.isdisjoint(codes("incomplete_rbbb", seed=seed))
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
    assert "set by this library: p_share" in sources["atrial_fibrillation"]
    for entry in criteria()["findings"].values():
        assert set(entry.get("ours", ())) <= set(entry["limits"])


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
        assert entry["source"] in data["sources"], code
        assert entry["threshold"].format(**entry["limits"])
        assert entry["snomed"] is None or entry["snomed"].isdigit()


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
