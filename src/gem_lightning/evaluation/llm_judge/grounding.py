"""ECG-Grounding: eight criteria scored by an LLM judge, under the original's rules or strictly.

``score({"40689238": judge_answer, ...}, rules="strict")["means"]["LeadAssessmentCoverage"]`` is per cent of the twelve
leads.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from gem_lightning.errors import DataError
from gem_lightning.evaluation.llm_judge import grounding_legacy
from gem_lightning.evaluation.llm_judge.aggregate import aggregate
from gem_lightning.evaluation.llm_judge.parsing import Criterion, plain_key, read_json

_DIAGNOSIS = Criterion("DiagnosisAccuracy", 2, "share", 100)
_ANALYSIS = (Criterion("AnalysisCompleteness", 1, "sum"), Criterion("AnalysisRelevance", 2, "sum"))
_WHOLE = (
    Criterion("ECGFeatureGrounding", 100, "mean", aliases=("GroundedECGUnderstanding",)),
    Criterion("EvidenceBasedReasoning", 100, "mean"),
    Criterion("ClinicalDiagnosticFidelity", 100, "mean", aliases=("RealisticDiagnosticProcess",)),
)
V1: tuple[Criterion, ...] = (
    _DIAGNOSIS,
    *_ANALYSIS,
    Criterion("LeadAssessmentCoverage", 1, "sum/12", 100 / 12),
    Criterion("LeadAssessmentAccuracy", 2, "sum/24", 100 / 24),
    *_WHOLE,
)
# ECG-R1's second version has one criterion for the leads instead of two; its scale is taken as that of the accuracy.
V2: tuple[Criterion, ...] = (_DIAGNOSIS, *_ANALYSIS, Criterion("LeadEvidenceValidity", 2, "sum"), *_WHOLE)
VERSIONS = {"v1": V1, "v2": V2}


def score(
    judgements: dict[str, Any],
    rules: str = "strict",
    version: str = "auto",
    groups: Mapping[str, Hashable] | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Score the answers of a judge.

    Args:
        judgements: The judge's answers by record id (texts; under ``strict`` also parsed dicts).
        rules: ``legacy``: the original's parsing, quirks included. ``strict``: schema, bounds, every spelling, and
            an account of what is missing.
        version: Criteria expected under ``strict``: ``v1`` (GEM), ``v2`` (ECG-R1) or ``auto`` (v2 when any answer has
            its criterion).
        groups: Patient of each id, for intervals by patient.
        draws: Number of bootstrap resamples of ``strict``.
        seed: Seed of the bootstrap.

    Returns:
        ``means`` (per cent where the criterion has a maximum, else sums) and ``per_id`` (raw: shares and sums); under
        ``strict`` also the entries of :func:`gem_lightning.evaluation.llm_judge.aggregate.aggregate`.

    Raises:
        DataError: Unknown rules or version, or no answers.
        LegacyScoreError: The original program would stop (``legacy``).
    """
    if rules == "legacy":
        return grounding_legacy.score(judgements)
    if rules != "strict":
        raise DataError(f"expected rules 'strict' or 'legacy', got {rules!r}")
    if version == "auto":
        version = "v2" if any(_has_v2(answer) for answer in judgements.values()) else "v1"
    if version not in VERSIONS:
        raise DataError(f"expected version v1, v2 or auto, got {version!r}")
    return aggregate(judgements, VERSIONS[version], groups, draws, seed) | {"version": version}


def _has_v2(answer: Any) -> bool:
    if isinstance(answer, str) and "vidence" not in answer:
        return False
    value = answer if isinstance(answer, dict) else read_json(answer or "").value
    return any(plain_key(str(key)) == "leadevidencevalidity" for key in value or {})
