"""Composed texts name what is urgent, first, in every style, and close with one conclusion."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from gem_lightning.composition.compose import STYLES
from gem_lightning.ecg import DIAGNOSES, LEADS, EcgRecord, read_ecg, simulate
from gem_lightning.features import findings, measure
from gem_lightning.features.criteria import decide
from gem_lightning.features.criteria.arrhythmia import RHYTHMS
from gem_lightning.grounding import compose_with_claims

LEAD_INS = ("Conclusion:", "Impression:", "Summary:")


def check(features, seed):
    """Check urgency, conclusion, rhythm and hedges of every style; return whether the record is urgent."""
    found = findings(features)
    urgent = [finding.code for finding in found if finding.urgent]
    rhythms = [code for code in RHYTHMS if decide(code, features).met]
    assert bool(rhythms) != bool(decide("undetermined_rhythm", features).met)
    for style in STYLES:
        composed = compose_with_claims(features, found, seed, style)
        text, claims = composed.text, composed.claims
        stated = {claim.finding for claim in claims if not claim.negated}
        assert sum(text.count(word) for word in LEAD_INS) == 1, text
        if urgent:
            assert text.startswith("This ECG is urgent because of "), text
            assert claims[0].finding == "urgent"
            assert {"mi" if code == "sgarbossa" else code for code in urgent} <= stated, (urgent, text)
            assert not any(claim.finding in urgent and claim.negated for claim in claims), text
            assert "not_urgent" not in stated
        elif decide("not_urgent", features).met:
            assert text.startswith("No urgent finding by these criteria.")
        else:
            assert not {"urgent", "not_urgent"} & stated, text
        hedges = {}
        for claim in claims:
            if claim.kind == "finding" and not claim.negated and claim.beat is None:
                assert hedges.setdefault(claim.finding, claim.uncertain) == claim.uncertain, text
        assert not {"low_voltage", "lvh"} <= stated
        if not rhythms:
            assert "undetermined" in text
    return bool(urgent)


@pytest.mark.parametrize("diagnosis", DIAGNOSES)
def test_simulated_records(diagnosis):
    urgent = 0
    for seed in range(6):
        record = simulate(diagnosis, seed=seed, snr_db=(None, 25, 12)[seed % 3]).record
        urgent += check(measure(record), seed)
    if diagnosis in ("av_block_3", "av_block_2_mobitz_2"):
        assert urgent >= 4


@pytest.mark.slow
def test_many_simulated_records():
    count = sum(
        check(measure(simulate(diagnosis, seed=100 + seed, snr_db=20).record), seed)
        for diagnosis in DIAGNOSES
        for seed in range(-(-500 // len(DIAGNOSES)))
    )
    assert count > 25


def test_real_records(shared_data):
    folder = shared_data / "ludb_odd"
    if not (folder / "ludb.csv").exists():
        pytest.skip("LUDB is not here")
    import wfdb

    for row in csv.DictReader((folder / "ludb.csv").open(newline="")):
        counts = wfdb.rdrecord(str(folder / "data" / row["ID"].strip()), physical=False).d_signal
        check(measure(EcgRecord((counts.T / 1000).astype(np.float32), 500.0, LEADS)), int(row["ID"]))
    for path in sorted((shared_data / "cinc2021").glob("*.hea")):
        check(measure(read_ecg(path)), 1)


def test_what_is_not_to_scale_is_said_and_its_amplitudes_are_left_out(shared_data):
    path = shared_data / "ludb_odd" / "data" / "1.hea"  # every lead has a gain of its own
    if not path.exists():
        pytest.skip("LUDB is not here")
    composed = compose_with_claims(measure(read_ecg(path)), seed=3)
    assert "not to one scale" in composed.text
    assert not any(claim.unit == "mV" for claim in composed.claims)
    assert "low_voltage" not in {claim.finding for claim in composed.claims}
