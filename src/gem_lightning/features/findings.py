"""Findings: the criteria that a record meets, each with its evidence, limits and source."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gem_lightning.features.criteria import Decision, criteria, wording
from gem_lightning.features.criteria.base import decide, met, refresh
from gem_lightning.features.criteria.summary import is_urgent
from gem_lightning.features.schema import EcgFeatures, Finding


def findings(features: EcgFeatures, age: float | None = None, sex: str | None = None) -> list[Finding]:
    """State every criterion of ``criteria.yaml`` that a record meets.

    Args:
        features: Measurements of one record.
        age: Years, in place of ``features.age``; ST limits in V2-V3 differ below 40.
        sex: ``M`` or ``F`` (texts that begin so are understood), in place of ``features.sex``. Where both are None, the
            stricter limit of the two is used.

    Returns:
        Rhythm first, then conduction, then chambers and myocardium; none where nothing was measured.

    Raises:
        GemError: The sex is not understood or the age is out of range.
    """
    if age is not None or sex:
        features = features.of_patient(age, sex)
    refresh(features)
    stated: list[Finding] = []
    for code, entry in criteria()["findings"].items():
        decision = decide(code, features)
        if decision.met and not met(features, *entry.get("refined_by", ())):
            stated += _findings(code, decision)
    return stated


def _findings(code: str, decision: Decision) -> list[Finding]:
    """Build one finding, or one for each place where the criterion is met."""
    places = [(part.statement, part.evidence, part.leads) for part in decision.parts]
    return [_finding(code, decision, *place) for place in places or [("", decision.evidence, decision.leads)]]


def _finding(
    code: str, decision: Decision, statement: str, evidence: Mapping[str, Any], leads: tuple[str, ...]
) -> Finding:
    entry, (threshold, source) = criteria()["findings"][code], wording(code)
    return Finding(
        code=code,
        statement=statement or entry["statement"],
        evidence={k: round(v, 3) if isinstance(v, float) else v for k, v in evidence.items() if v is not None},
        threshold=threshold,
        source=source,
        certainty=decision.certainty,
        leads=leads,
        snomed=entry["snomed"],
        abnormal=entry.get("abnormal", True),
        urgent=is_urgent(code, decision),
    )
