"""Verdicts on a text and the metrics that follow from them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

from gem_lightning.claims.claim import Claim
from gem_lightning.claims.conflicts import Conflict
from gem_lightning.claims.parser.tokenize import sentences
from gem_lightning.claims.score import components
from gem_lightning.ecg.record import LEADS
from gem_lightning.features.criteria import limits

if TYPE_CHECKING:
    from gem_lightning.ecg.record import EcgRecord
    from gem_lightning.features.schema import EcgFeatures


SUPPORTED, CONTRADICTED, UNVERIFIABLE = "supported", "contradicted", "unverifiable"


@dataclass(frozen=True)
class Verdict:
    """The verdict on one claim.

    Attributes:
        claim: The claim.
        verdict: ``supported``, ``contradicted`` or ``unverifiable``.
        measured: The measured value (or text) that it was compared with; None where there is none.
        tolerance: Allowed distance in the claim's unit; None for findings that no number decides.
        reason: Why; begins with ``borderline`` where the measurement lies too near a criterion.
        tolerance_source: Where tolerance or criterion come from.
    """

    claim: Claim
    verdict: str
    measured: Any = None
    tolerance: float | None = None
    reason: str = ""
    tolerance_source: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return {**vars(self), "claim": self.claim.to_dict()}


@dataclass(frozen=True)
class ClaimReport:
    """Every claim of a text with its verdict.

    Attributes:
        verdicts: One per claim, in order.
        text: The text.
        abnormal: Codes of the record's abnormal findings.
        mentioned: Those that the text states.
        conflicts: Contradictions inside the text.
        features: Measurements that the text was compared with.
        unread_clinical: (start, end) of clinical content that no claim holds, and of text in other languages.
        languages: ISO 639-1 codes of the other languages in the text.
        urgent: Codes of the record's urgent findings.
    """

    verdicts: list[Verdict]
    text: str = ""
    abnormal: tuple[str, ...] = ()
    mentioned: tuple[str, ...] = ()
    conflicts: list[Conflict] = field(default_factory=list)
    features: EcgFeatures | None = field(default=None, repr=False, compare=False)
    unread_clinical: Sequence[tuple[int, int]] = ()
    languages: tuple[str, ...] = ()
    urgent: tuple[str, ...] = ()

    def count(self, verdict: str | None = None) -> int:
        """Return the number of claims, or of those with one verdict."""
        return len(self.verdicts) if verdict is None else sum(v.verdict == verdict for v in self.verdicts)

    @property
    def precision(self) -> float | None:
        """Return supported over decided claims; None where no claim could be decided."""
        decided = self.count(SUPPORTED) + self.count(CONTRADICTED)
        return self.count(SUPPORTED) / decided if decided else None

    @property
    def hallucination_rate(self) -> float | None:
        """Return contradicted over all claims; None without claims."""
        return self.count(CONTRADICTED) / len(self.verdicts) if self.verdicts else None

    @property
    def coverage(self) -> float | None:
        """Return the share of the record's abnormal findings that the text states; None where there is none."""
        return len(self.mentioned) / len(self.abnormal) if self.abnormal else None

    @property
    def components(self) -> dict[str, float]:
        """Return the parts of the score by name; see :func:`gem_lightning.claims.score.components`."""
        return components(
            self.verdicts, self.abnormal, self.mentioned, self.urgent, self.conflicts, self.unread_clinical
        )

    @property
    def score(self) -> float:
        """Return the score in [0, 1]: true and informative statements and covered findings, less weighed errors."""
        return self.components["score"]

    @property
    def leads_covered(self) -> tuple[str, ...]:
        """Return leads that the text names, in standard order."""
        named = {lead for verdict in self.verdicts for lead in verdict.claim.leads}
        return tuple(lead for lead in LEADS if lead in named)

    @property
    def unread(self) -> list[tuple[int, int]]:
        """Return (start, end) of each sentence without a claim: its content is not checked."""
        claimed = [verdict.claim.span for verdict in self.verdicts]
        found = []
        for start, sentence in sentences(self.text):
            stripped = sentence.strip()
            a = start + sentence.index(stripped)
            b = a + len(stripped)
            if len(stripped.split()) > 1 and not any(low < b and a < high for low, high in claimed):
                found.append((a, b))
        return found

    @property
    def by_kind(self) -> dict[str, dict[str, int]]:
        """Count verdicts by kind of claim."""
        table: dict[str, dict[str, int]] = {}
        for verdict in self.verdicts:
            row = table.setdefault(verdict.claim.kind, {SUPPORTED: 0, CONTRADICTED: 0, UNVERIFIABLE: 0})
            row[verdict.verdict] += 1
        return table

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return {
            "text": self.text,
            "precision": self.precision,
            "hallucination_rate": self.hallucination_rate,
            "coverage": self.coverage,
            "score": self.score,
            "components": self.components,
            "abnormal_findings": list(self.abnormal),
            "mentioned_findings": list(self.mentioned),
            "leads_covered": list(self.leads_covered),
            "by_kind": self.by_kind,
            "verdicts": [verdict.to_dict() for verdict in self.verdicts],
            "unread": [list(span) for span in self.unread],
            "unread_clinical": [list(span) for span in self.unread_clinical],
            "languages": list(self.languages),
            "conflicts": [
                {"first": list(c.first.span), "second": list(c.second.span), "reason": c.reason} for c in self.conflicts
            ],
        }

    def to_json(self, indent: int | None = None) -> str:
        """Return :meth:`to_dict` as JSON text."""
        return json.dumps(self.to_dict(), indent=indent, ensure_ascii=False, allow_nan=False)

    def to_html(self, record: EcgRecord | None = None, edits: Sequence[Any] = ()) -> str:
        """Render the text with coloured claims; a hover shows measurement, tolerance and reason.

        Args:
            record: Adds to each claim a strip of the lead it points at.
            edits: What a revision did to the sentences; see :class:`gem_lightning.revision.edit.Edit`.
        """
        # By name: reporting/ lies above claims/, and only these two conveniences reach up to it.
        return import_module("gem_lightning.reporting.claims").claims_html(self, record, edits)

    def to_terminal(self, color: bool | None = None, edits: Sequence[Any] = ()) -> str:
        """Render the text with coloured claims and a line for each that is not supported.

        Args:
            color: False marks verdicts with signs instead of ANSI colours; None does so where standard output takes
                no colours, in a file or with ``NO_COLOR``.
            edits: As in :meth:`to_html`.
        """
        return import_module("gem_lightning.reporting.claims").claims_terminal(self, color, edits)


#: Findings that a text states along with another one.
_IMPLIED: dict[str, tuple[str, ...]] = {
    "av_block_1": ("prolonged_pr",),
    "prolonged_pr": ("av_block_1",),
    "st_depression": ("reciprocal_change",),
    "st_elevation": ("reciprocal_change",),
    "sgarbossa": ("mi",),
    "mi": ("sgarbossa",),
    "wide_complex_tachycardia": ("wide_qrs", "ventricular_tachycardia"),
    "ventricular_tachycardia": ("wide_complex_tachycardia",),
    "junctional_rhythm": ("p_absent",),
    "trifascicular_block": ("bifascicular_block",),
    "multifocal_atrial_tachycardia": ("irregular_rhythm",),
    "rbbb": ("wide_qrs",),
    "lbbb": ("wide_qrs",),
    "ivcd": ("wide_qrs",),
    "atrial_fibrillation": ("p_absent", "irregular_rhythm"),
}


def mentions_of(verdicts: Sequence[Verdict], abnormal: Sequence[str]) -> tuple[str, ...]:
    """Return the abnormal findings that supported claims state, by name or by the number that means them."""
    stated: set[str] = set()
    for verdict in verdicts:
        if verdict.verdict == SUPPORTED and not verdict.claim.negated:
            stated |= _stated_by(verdict.claim)
    stated |= {other for code in stated for other in _IMPLIED.get(code, ())}
    return tuple(code for code in abnormal if code in stated)


def _stated_by(claim: Claim) -> set[str]:
    """Return the findings that one claim states."""
    bounds = [v for v in (claim.value, claim.low, claim.high) if v is not None]
    if claim.finding is not None or not bounds:
        return {claim.finding} if claim.finding else set()
    if claim.kind == "st_level":
        raised = max(bounds) >= limits("st_elevation")["other"]
        lowered = min(bounds) <= -limits("st_depression")["level"]
        return {code for code, shown in (("st_elevation", raised), ("st_depression", lowered)) if shown}
    if claim.kind == "t_amplitude":
        return {"t_inversion"} if max(bounds) < 0 else set()
    return {"wide_qrs"} if claim.kind == "qrs" and min(bounds) >= limits("wide_qrs")["qrs"] else set()
