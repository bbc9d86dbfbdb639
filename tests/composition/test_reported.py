"""Texts whose diagnosis is a clinician's report."""

import pytest

from gem_lightning.claims.conflicts import conflicts
from gem_lightning.claims.extract import extract
from gem_lightning.composition.questions import make_turns
from gem_lightning.composition.reported import report_statements
from gem_lightning.ecg import simulate
from gem_lightning.features import findings, measure
from gem_lightning.grounding import compose


@pytest.mark.parametrize(
    ("report", "statements"),
    [
        ("Sinus rhythm. PR 0.16 s.\nNormal ECG", ["Sinus rhythm", "PR 0.16 s", "Normal ECG"]),
        ("*** LVH ***; lvh. - Rate 70.5", ["LVH", "Rate 70.5"]),
        ("Atrial fibrillation. Compared with the ECG of 3/4/2020 no change. Unconfirmed", ["Atrial fibrillation"]),
        ("Undefined ischemia/scar/supp.nstemi: inferior wall", ["Undefined ischemia/scar/supp.nstemi: inferior wall"]),
        (None, []),
    ],
)
def test_a_report_is_cleaned(report, statements):
    assert report_statements(report) == statements


@pytest.fixture(scope="module")
def sinus():
    return measure(simulate("sinus", seed=4, snr_db=30).record)


@pytest.mark.parametrize("style", ["interpretation", "report", "brief", "teaching"])
@pytest.mark.parametrize(
    "report", ["Atrial fibrillation", "First-degree AV block", "Acute inferior STEMI", "Left bundle branch block"]
)
def test_the_report_concludes_and_nothing_measured_excludes_it(sinus, report, style):
    found = [finding for finding in findings(sinus) if not finding.abnormal]
    for seed in range(8):
        text = compose(sinus, found, seed, style, diagnosis=[report])
        assert text.endswith(f": {report}.")
        claims = extract(text)
        assert not conflicts(claims)
        rate = next(claim.value for claim in claims if claim.kind == "heart_rate")
        assert rate == pytest.approx(sinus.heart_rate_bpm, abs=1)
        assert "No ST" not in text or "STEMI" not in report
    if report == "Atrial fibrillation":
        assert "inus" not in text and "P wave" not in text


def test_a_dialogue_ends_with_the_report(sinus):
    turns = make_turns("dialogue", sinus, findings(sinus), 3, diagnosis=["Atrial flutter"])
    assert turns[-1][1].endswith("Atrial flutter.")
    assert not conflicts(extract(" ".join(answer for _, answer in turns)))
