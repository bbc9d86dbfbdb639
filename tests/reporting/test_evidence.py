"""Every finding's evidence can be read: a name, a number, its unit."""

import re

import pytest

from gem_lightning.ecg import DIAGNOSES, simulate
from gem_lightning.ecg.quality import Quality
from gem_lightning.features import findings, measure
from gem_lightning.features.schema import Finding
from gem_lightning.reporting.evidence import evidence_text, quality_sentences


@pytest.mark.parametrize(
    ("evidence", "text"),
    [
        ({"pr_ms": 236.133}, "PR 236 ms"),
        ({"st_j_II_mv": 0.293, "st_j_aVL_mv": -0.065}, "ST J II 0.29 mV, ST J aVL -0.07 mV"),
        ({"qrs_axis_deg": -8.016}, "QRS axis -8°"),
        ({"qtc_fridericia_ms": 401.016, "sokolow_lyon_mv": 3.791}, "QTc Fridericia 401 ms, Sokolow-Lyon 3.79 mV"),
        ({"cornell_product_mv_ms": 284.459}, "Cornell product 284 mV ms"),
        ({"count": 2, "times_s": [0.24, 1.86]}, "count 2, times 0.2, 1.9 s"),
        ({"q_leads": ["II", "III"]}, "Q leads II, III"),
    ],
)
def test_names_numbers_and_units(evidence, text):
    assert evidence_text(Finding("x", "x", evidence, "", "")) == text


@pytest.mark.parametrize("diagnosis", DIAGNOSES)
def test_every_finding_shows_what_it_rests_on(diagnosis):
    sim = simulate(diagnosis, seed=1)
    for finding in findings(measure(sim.record), 50, "M"):
        text = evidence_text(finding)
        assert re.search(r"\d|V\d|aV|\bI", text), finding
        assert "_" not in text, finding


@pytest.mark.parametrize(
    ("reason", "sentence"),
    [
        ("flat: I (no signal), II (no signal), V1 (no signal)", "Flat: all leads (no signal)."),
        ("noise: I (0.40 mV), II (0.05 mV), V1 (0.21 mV)", "Noise: all leads (0.05 to 0.40 mV)."),
        ("missing: II (12% unknown)", "Missing: II (12% unknown)."),
        ("mains: I (0.10 mV of 50 or 60 Hz), V1 (0.04 mV of 50 or 60 Hz)",
         "Mains: I, V1 (0.04 to 0.10 mV of 50 or 60 Hz)."),
        ("uncertain: PR is 150 ms by one delineation and 190 ms by another",
         "Uncertain: PR is 150 ms by one delineation and 190 ms by another."),
        ("short: 1.2 s of signal; at least 2 s are needed", "Short: 1.2 s of signal; at least 2 s are needed."),
    ],
)  # fmt: skip
def test_reasons_of_quality_read_as_sentences(reason, sentence):
    quality = Quality("care", (reason,), dict.fromkeys(("I", "II", "V1")))
    assert quality_sentences(quality) == [sentence]
