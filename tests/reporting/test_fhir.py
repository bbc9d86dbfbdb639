"""The FHIR bundle: valid R4, every value the measurement's own, nothing that identifies the patient."""

import json
import warnings

import pydicom.examples
import pytest

from gem_lightning.ecg import read_ecg, simulate
from gem_lightning.reporting.interpretation import Interpretation


@pytest.fixture(scope="module")
def made():
    record = simulate("lbbb", seed=2, snr_db=25).record
    return Interpretation.of("The rate is 20 bpm. Left bundle branch block.", record)


def resources(interpretation, kind):
    entries = interpretation.to_fhir("r1")["entry"]
    return [entry["resource"] for entry in entries if entry["resource"]["resourceType"] == kind]


def test_it_validates_against_the_published_schema(made):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bundle = pytest.importorskip("fhir.resources.R4B.bundle", reason="fhir.resources is not installed")
    parsed = bundle.Bundle.model_validate_json(json.dumps(made.to_fhir("r1")))
    assert parsed.type == "collection"
    assert len(parsed.entry) > 15


def test_quantities_are_the_measurements_with_loinc_and_ucum(made):
    found = {}
    for one in resources(made, "Observation"):
        for coding in one["code"].get("coding", []):
            found.setdefault(coding["code"], []).append(one)
    features = made.features
    expected = {
        "8867-4": features.heart_rate_bpm,
        "8633-0": features.qrs_ms,
        "8625-6": features.pr_ms,
        "8634-8": features.qt_ms,
    }
    for code, value in expected.items():
        quantity = found[code][0]["valueQuantity"]
        assert quantity["value"] == pytest.approx(value, abs=0.5)
        assert quantity["system"] == "http://unitsofmeasure.org"
    assert [q["valueQuantity"]["value"] for q in found["8636-3"]] == [
        pytest.approx(value, abs=0.5) for value in features.qtc_ms.values()
    ]
    assert {o["valueCodeableConcept"]["text"] for o in found["8601-7"]} == {f.statement for f in made.findings}


def test_what_cannot_be_measured_says_so():
    flat = simulate("sinus", seed=1).record
    flat = flat.with_signal(0 * flat.signal)
    found = Interpretation.of("Sinus rhythm.", flat)
    rate = next(o for o in resources(found, "Observation") if o["code"].get("coding", [{}])[0].get("code") == "8867-4")
    assert "valueQuantity" not in rate
    assert rate["dataAbsentReason"]["coding"][0]["code"] == "not-performed"
    (report,) = resources(found, "DiagnosticReport")
    assert "cannot be read reliably" in report["conclusion"]
    assert "Sinus rhythm" not in report["conclusion"]
    assert not [o for o in resources(found, "Observation") if "valueCodeableConcept" in o]


def test_the_conclusion_names_what_is_contradicted(made):
    (report,) = resources(made, "DiagnosticReport")
    assert report["status"] == "preliminary"
    assert "not a medical device" in report["conclusion"]
    assert 'Contradicted by the measurement: "' in report["conclusion"]
    assert "20 bpm" in report["conclusion"].split("Contradicted by the measurement")[1]
    own = {entry["fullUrl"] for entry in made.to_fhir("r1")["entry"]}
    assert {result["reference"] for result in report["result"]} < own


def test_the_same_record_gives_the_same_bundle_and_no_name():
    path = pydicom.examples.get_path("waveform")
    found = Interpretation.of("Sinus rhythm.", read_ecg(path, deidentify=False))
    text = json.dumps(found.to_fhir("r1"))
    assert text == json.dumps(found.to_fhir("r1"))
    assert text != json.dumps(found.to_fhir("r2"))
    identity = found.record.meta["identity"]
    names = [
        str(identity[key]) for key in ("PatientID", "StudyDate", "PatientName") if len(str(identity.get(key, ""))) > 3
    ]
    assert names
    assert not any(name in text for name in names)
