"""A text held against the measurements of its record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from gem_lightning.claims.claim import Claim
from gem_lightning.claims.conflicts import conflicts
from gem_lightning.claims.report import ClaimReport, mentions_of
from gem_lightning.claims.verdict import Judge

if TYPE_CHECKING:
    from gem_lightning.features.schema import EcgFeatures, Finding


def verify(
    text: str | Sequence[Claim],
    features: EcgFeatures,
    tolerance: Mapping[str, float] | float | None = None,
    findings: Sequence[Finding] | None = None,
) -> ClaimReport:
    """Judge every claim of a text.

    Args:
        text: The text, or claims extracted before.
        features: Measurements of the record the text is about.
        tolerance: Absolute tolerances by claim kind in its unit, or one factor for all; None takes the defaults of
            :mod:`gem_lightning.claims.tolerance`.
        findings: Findings of the record; None asks :func:`gem_lightning.features.findings`.

    Returns:
        A verdict for each claim and the figures that follow.
    """
    from gem_lightning.claims.extract import extract

    if findings is None:
        from gem_lightning.features import findings as find

        findings = find(features)
    claims = extract(text) if isinstance(text, str) else list(text)
    judge = Judge(features, findings, tolerance)
    verdicts = [judge.judge(claim) for claim in claims]
    abnormal = tuple(dict.fromkeys(f.code for f in findings if f.abnormal))
    return ClaimReport(
        verdicts,
        text if isinstance(text, str) else "",
        abnormal,
        mentions_of(verdicts, abnormal),
        conflicts(claims),
        features,
    )
