"""Plain values of measured recordings, ready for JSON: what ``/v1/measure`` sends, and differences of two."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gem_lightning.ecg.record import EcgRecord
from gem_lightning.reporting.interpretation import Interpretation

#: Measurements that are compared: attribute of ``EcgFeatures`` → unit.
_COMPARED = {"heart_rate_bpm": "bpm", "rr_ms": "ms", "p_ms": "ms", "pr_ms": "ms", "qrs_ms": "ms", "qt_ms": "ms"}


def drafted(record: EcgRecord, question: str, provenance: str) -> Interpretation:
    """Measure a recording in another process: the interpretation before the text, without the record that was sent."""
    draft = Interpretation.of("", record, question, provenance)
    _ = draft.summary, draft.partial  # here, where the decisions that they rest on are still known
    return draft.changed(record=None)


def measured(found: Interpretation) -> dict[str, Any]:
    """What was measured, without the text."""
    every = found.to_dict()
    kept = {name: every[name] for name in ("refused", "quality", "findings", "features")}
    return {**kept, "record": record_facts(found.record)}


def written(found: Interpretation) -> dict[str, Any]:
    """The whole interpretation."""
    return {**found.to_dict(), "record": record_facts(found.record)}


def record_facts(record: EcgRecord) -> dict[str, Any]:
    """What is known about a recording; nothing that identifies the patient."""
    known = {name: record.meta.get(name) for name in ("format", "age", "sex", "device")}
    notes = [str(note) for note in record.meta.get("notes") or ()]
    return {"leads": list(record.leads), "fs": record.fs, "seconds": record.seconds, **known, "notes": notes}


def differences(first: Interpretation, second: Interpretation) -> Iterator[dict[str, Any]]:
    """Each measurement of both recordings, and second less first; axes the shorter way around."""
    for (name, unit, a), (_, _, b) in zip(_quantities(first), _quantities(second), strict=True):
        change = None if a is None or b is None else b - a
        if unit == "deg" and change is not None:
            change = (change + 180) % 360 - 180
        yield {"name": name, "unit": unit, "first": a, "second": b, "difference": change}


@dataclass(frozen=True)
class Comparison:
    """Two measured recordings: differences are second less first."""

    first: Interpretation
    second: Interpretation

    @property
    def gone(self) -> list[str]:
        """Findings of the first recording that the second does not have."""
        return _only(self.first, self.second)

    @property
    def new(self) -> list[str]:
        """Findings of the second recording that the first does not have."""
        return _only(self.second, self.first)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "first": measured(self.first),
            "second": measured(self.second),
            "differences": list(differences(self.first, self.second)),
            "findings_gone": self.gone,
            "findings_new": self.new,
        }


def _only(one: Interpretation, other: Interpretation) -> list[str]:
    known = {finding.code for finding in other.findings}
    return list({finding.code: finding.statement for finding in one.findings if finding.code not in known}.values())


def _quantities(found: Interpretation) -> Iterator[tuple[str, str, float | None]]:
    features = found.features
    for name, unit in _COMPARED.items():
        yield name, unit, getattr(features, name)
    for formula, value in features.qtc_ms.items():
        yield f"qtc_{formula}_ms", "ms", value
    for wave, value in features.axis_deg.items():
        yield f"axis_{wave}_deg", "deg", value
    for lead, points in features.st_mv.items():
        yield f"st_j_{lead}_mv", "mV", points.get("J")
