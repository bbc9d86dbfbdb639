"""The verdicts on a text, with the figures that follow from them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

from gem_lightning.claims.conflicts import Conflict
from gem_lightning.claims.parser.tokenize import sentences
from gem_lightning.claims.verdict import CONTRADICTED, SUPPORTED, UNVERIFIABLE, Verdict
from gem_lightning.ecg.record import LEADS

if TYPE_CHECKING:
    from gem_lightning.ecg.record import EcgRecord
    from gem_lightning.features.schema import EcgFeatures


@dataclass(frozen=True)
class ClaimReport:
    """Every claim of a text with its verdict.

    Attributes:
        verdicts: One per claim, in order.
        text: The text.
        abnormal: Codes of the record's abnormal findings.
        mentioned: Those of them that the text states.
        conflicts: Contradictions inside the text.
        features: Measurements the text was held against.
    """

    verdicts: list[Verdict]
    text: str = ""
    abnormal: tuple[str, ...] = ()
    mentioned: tuple[str, ...] = ()
    conflicts: list[Conflict] = field(default_factory=list)
    features: EcgFeatures | None = field(default=None, repr=False, compare=False)

    def count(self, verdict: str | None = None) -> int:
        """Number of claims, or of those with one verdict."""
        return len(self.verdicts) if verdict is None else sum(v.verdict == verdict for v in self.verdicts)

    @property
    def precision(self) -> float | None:
        """Supported over decided claims; None where no claim could be decided."""
        decided = self.count(SUPPORTED) + self.count(CONTRADICTED)
        return self.count(SUPPORTED) / decided if decided else None

    @property
    def hallucination_rate(self) -> float | None:
        """Contradicted over all claims; None without claims."""
        return self.count(CONTRADICTED) / len(self.verdicts) if self.verdicts else None

    @property
    def coverage(self) -> float | None:
        """Share of the record's abnormal findings that the text states; None where there is none."""
        return len(self.mentioned) / len(self.abnormal) if self.abnormal else None

    @property
    def leads_covered(self) -> tuple[str, ...]:
        """Leads that the text speaks of, in standard order."""
        named = {lead for verdict in self.verdicts for lead in verdict.claim.leads}
        return tuple(lead for lead in LEADS if lead in named)

    @property
    def unread(self) -> list[tuple[int, int]]:
        """(start, end) of each sentence in which no claim was found: what it says is not checked."""
        claimed = [verdict.claim.span for verdict in self.verdicts]
        found = []
        for start, sentence in sentences(self.text):
            words = sentence.strip()
            a = start + sentence.index(words)
            b = a + len(words)
            if len(words.split()) > 1 and not any(low < b and a < high for low, high in claimed):
                found.append((a, b))
        return found

    @property
    def by_kind(self) -> dict[str, dict[str, int]]:
        """Counts of verdicts by kind of claim."""
        table: dict[str, dict[str, int]] = {}
        for verdict in self.verdicts:
            row = table.setdefault(verdict.claim.kind, {SUPPORTED: 0, CONTRADICTED: 0, UNVERIFIABLE: 0})
            row[verdict.verdict] += 1
        return table

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "text": self.text,
            "precision": self.precision,
            "hallucination_rate": self.hallucination_rate,
            "coverage": self.coverage,
            "abnormal_findings": list(self.abnormal),
            "mentioned_findings": list(self.mentioned),
            "leads_covered": list(self.leads_covered),
            "by_kind": self.by_kind,
            "verdicts": [
                {
                    "claim": v.claim.to_dict(),
                    "verdict": v.verdict,
                    "measured": v.measured,
                    "tolerance": v.tolerance,
                    "tolerance_source": v.tolerance_source,
                    "reason": v.reason,
                }
                for v in self.verdicts
            ],
            "unread": [list(span) for span in self.unread],
            "conflicts": [
                {"first": list(c.first.span), "second": list(c.second.span), "reason": c.reason} for c in self.conflicts
            ],
        }

    def to_json(self, indent: int | None = None) -> str:
        """As :meth:`to_dict`, as JSON text."""
        return json.dumps(self.to_dict(), indent=indent, ensure_ascii=False, allow_nan=False)

    def to_html(self, record: EcgRecord | None = None) -> str:
        """The text with coloured claims; a hover shows measurement, tolerance and reason.

        Args:
            record: Adds to each claim a strip of the lead it points at.
        """
        # By name: reporting/ lies above claims/, and only these two conveniences reach up to it.
        return import_module("gem_lightning.reporting.claims").claims_html(self, record)

    def to_terminal(self, color: bool = True) -> str:
        """The text with coloured claims and a line for each that is not supported.

        Args:
            color: False marks verdicts with signs instead of ANSI colours.
        """
        return import_module("gem_lightning.reporting.claims").claims_terminal(self, color)


def mentions_of(verdicts: Sequence[Verdict], abnormal: Sequence[str]) -> tuple[str, ...]:
    """Abnormal findings that supported claims state, in words or by the number that means them."""
    said = set()
    for verdict in verdicts:
        claim = verdict.claim
        if verdict.verdict != SUPPORTED or claim.negated:
            continue
        if claim.finding is not None:
            said.add(claim.finding)
            said |= {"av_block_1": {"prolonged_pr"}, "prolonged_pr": {"av_block_1"}}.get(claim.finding, set())
        bounds = [v for v in (claim.value, claim.low, claim.high) if v is not None]
        if claim.kind == "st_level" and bounds:
            said.add("st_elevation" if max(bounds) >= 0.1 else "st_depression" if min(bounds) <= -0.05 else "")
            said |= {"reciprocal_change"} if min(bounds) <= -0.05 else set()
        elif claim.kind == "t_amplitude" and bounds and max(bounds) < 0:
            said.add("t_inversion")
        elif claim.kind == "qrs" and bounds and min(bounds) >= 120:
            said.add("wide_qrs")
    if "st_depression" in said:
        said.add("reciprocal_change")
    if said & {"rbbb", "lbbb", "ivcd"}:
        said.add("wide_qrs")
    if "atrial_fibrillation" in said:
        said |= {"p_absent", "irregular_rhythm"}
    return tuple(code for code in abnormal if code in said)
