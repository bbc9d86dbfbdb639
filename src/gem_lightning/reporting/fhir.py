"""An interpretation as a FHIR R4 bundle: a DiagnosticReport with an Observation for each measurement and finding.

Codes: LOINC 2.77 for quantities (``loinc.org``), UCUM for units. Where LOINC has no code that we know to fit, the
Observation has a text alone. Nothing in the bundle identifies the patient.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from gem_lightning import __version__

if TYPE_CHECKING:
    from gem_lightning.reporting.interpretation import Interpretation

_LOINC = "http://loinc.org"
_UCUM = "http://unitsofmeasure.org"
_NAMESPACE = uuid.UUID("6f1c1f9e-6a55-4c5b-9a0e-6f1b8f0f5a11")  # of our ids: the same record gives the same bundle
_CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category"
_ABSENT = "http://terminology.hl7.org/CodeSystem/data-absent-reason"
_NOTE = "Research software, not a medical device."

# attribute of EcgFeatures → (LOINC, name there, unit as people write it, UCUM)
_QUANTITIES = {
    "heart_rate_bpm": ("8867-4", "Heart rate", "/min", "/min"),
    "rr_ms": ("8637-1", "R-R interval by EKG", "ms", "ms"),
    "pr_ms": ("8625-6", "P-R Interval", "ms", "ms"),
    "qrs_ms": ("8633-0", "QRS duration", "ms", "ms"),
    "qt_ms": ("8634-8", "Q-T interval", "ms", "ms"),
}
_QTC = ("8636-3", "Q-T interval corrected")
_AXES = {
    "P": ("8626-4", "P wave axis"),
    "QRS": ("8632-2", "QRS axis"),
    "T": ("8638-9", "T wave axis"),
}


def interpretation_fhir(interpretation: Interpretation, record_id: str = "") -> dict[str, Any]:
    """Return the bundle as plain values, ready for JSON.

    Args:
        interpretation: What to report.
        record_id: Name of the record; ids follow from it and from the content.
    """
    bundle = _Bundle(f"{record_id}\0{interpretation.text}")
    device = bundle.add("Device", "device", deviceName=[{"name": "gem-lightning", "type": "model-name"}],
                        version=[{"value": __version__}], note=[{"text": _NOTE}])  # fmt: skip
    results = [
        *_measured(bundle, interpretation, device),
        *_levels(bundle, interpretation, device),
        *_findings(bundle, interpretation, device),
        _quality(bundle, interpretation, device),
    ]
    bundle.add(
        "DiagnosticReport",
        "report",
        status="preliminary",  # no clinician has confirmed it
        category=[{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0074", "code": "EC"}]}],
        code={"coding": [{"system": _LOINC, "code": "11524-6", "display": "EKG study"}]},
        result=results,
        conclusion=_conclusion(interpretation),
    )
    return bundle.to_dict()


class _Bundle:
    """Resources with ids that follow from their content."""

    def __init__(self, seed: str) -> None:
        self.seed = seed
        self.entries: list[dict[str, Any]] = []

    def add(self, kind: str, name: str, **fields: Any) -> dict[str, str]:
        """Add a resource; return the reference to it."""
        own = str(uuid.uuid5(_NAMESPACE, f"{self.seed}\0{name}"))
        resource = {"resourceType": kind, "id": own, **{k: v for k, v in fields.items() if v not in (None, [])}}
        self.entries.append({"fullUrl": f"urn:uuid:{own}", "resource": resource})
        return {"reference": f"urn:uuid:{own}"}

    def observation(self, name: str, code: dict[str, Any], device: dict[str, str], **fields: Any) -> dict[str, str]:
        """Add an Observation; return the reference to it."""
        category = [{"coding": [{"system": _CATEGORY, "code": "procedure"}]}]
        return self.add(
            "Observation", name, status="preliminary", category=category, code=code, device=device, **fields
        )

    def to_dict(self) -> dict[str, Any]:
        """The report first, as readers look for it."""
        return {"resourceType": "Bundle", "type": "collection", "entry": [*self.entries[-1:], *self.entries[:-1]]}


def _code(loinc: str, display: str, text: str | None = None) -> dict[str, Any]:
    coding = {"coding": [{"system": _LOINC, "code": loinc, "display": display}]}
    return coding if text is None else {**coding, "text": text}


def _value(value: float | None, unit: str, ucum: str, digits: int = 0) -> dict[str, Any]:
    """A quantity, or why there is none."""
    if value is None:
        return {"dataAbsentReason": {"coding": [{"system": _ABSENT, "code": "not-performed"}]}}
    return {"valueQuantity": {"value": round(value, digits) or 0, "unit": unit, "system": _UCUM, "code": ucum}}


def _measured(bundle: _Bundle, interpretation: Interpretation, device: dict[str, str]) -> list[dict[str, str]]:
    features = interpretation.features
    found = [
        bundle.observation(name, _code(loinc, display), device, **_value(getattr(features, name), unit, ucum))
        for name, (loinc, display, unit, ucum) in _QUANTITIES.items()
    ]
    found += [
        bundle.observation(
            f"qtc {formula}", _code(*_QTC, f"QTc, {formula.capitalize()}"), device, **_value(value, "ms", "ms")
        )
        for formula, value in features.qtc_ms.items()
    ]
    return found + [
        bundle.observation(f"axis {wave}", _code(*_AXES[wave]), device, **_value(value, "deg", "deg"))
        for wave, value in features.axis_deg.items()
        if wave in _AXES
    ]


def _levels(bundle: _Bundle, interpretation: Interpretation, device: dict[str, str]) -> list[dict[str, str]]:
    """ST levels at the J point, one component per lead."""
    components = [
        {"code": {"text": f"ST level at the J point, lead {lead}"}, **_value(points.get("J"), "mV", "mV", 2)}
        for lead, points in interpretation.features.st_mv.items()
    ]
    return [bundle.observation("st", {"text": "ST level at the J point"}, device, component=components)]


def _findings(bundle: _Bundle, interpretation: Interpretation, device: dict[str, str]) -> list[dict[str, str]]:
    from gem_lightning.reporting.evidence import evidence_text

    return [
        bundle.observation(
            f"finding {finding.code}",
            _code("8601-7", "EKG impression"),
            device,
            valueCodeableConcept={"text": finding.statement},
            note=[{"text": f"{finding.certainty}: {evidence_text(finding)} ({finding.source})"}],
        )
        for finding in interpretation.findings
    ]


def _quality(bundle: _Bundle, interpretation: Interpretation, device: dict[str, str]) -> dict[str, str]:
    quality = interpretation.quality
    note = [{"text": reason} for reason in quality.reasons]
    return bundle.observation(
        "quality", {"text": "Technical quality of the recording"}, device, valueString=quality.verdict, note=note
    )


def _conclusion(interpretation: Interpretation) -> str:
    """Urgency and text, and after them what the measurement contradicts: the one must not be read without the other."""
    parts = [_NOTE, interpretation.refused or "", interpretation.summary.statement, interpretation.text]
    wrong = [v for v in interpretation.claims.verdicts if v.verdict == "contradicted"]
    if wrong:
        quotes = [interpretation.text[slice(*v.claim.span)] for v in wrong]
        parts.append("Contradicted by the measurement: " + "; ".join(f'"{quote}"' for quote in quotes) + ".")
    return "\n\n".join(part for part in parts if part)
