"""Texts whose diagnosis is a clinician's report: its statements conclude, measurements are the evidence."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gem_lightning.claims.claim import Claim
from gem_lightning.claims.conflicts import conflicts
from gem_lightning.claims.extract import extract
from gem_lightning.composition.facts import Facts, Stated, Statement
from gem_lightning.composition.phrases import sentence
from gem_lightning.features.criteria.arrhythmia import RHYTHMS
from gem_lightning.features.schema import Finding

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Statements about the report or an earlier ECG, which this tracing cannot show.
_NOT_OF_THE_TRACING = re.compile(
    r"\b(?:confirmed|reviewed|signed|dictated|overread|referred) by\b|\bunconfirmed\b|\bpreliminary\b"
    r"|\bcompar(?:ed|ison|e)\b.{0,20}\b(?:with|to)\b|\bsince (?:the )?(?:last|previous|prior)\b"
    r"|\b(?:no|the|a) (?:previous|prior|earlier) (?:ecg|ekg|tracing|report)|\bno significant change\b"
    r"|\b(?:this|the) report\b|\bcomputer (?:interpretation|generated)\b|\bdr\.? [A-Z]",
    re.IGNORECASE,
)
_END = re.compile(r"(?<!\b[Dd]r)\.(?=\s|$)|[;\n\r|]|\*{2,}")  # a point inside a number or a word ends nothing
#: What an infarct or ischaemia shows: its absence is not stated next to a report of one.
_SIGNS = frozenset(("st_elevation", "st_depression", "t_inversion", "pathological_q", "reciprocal_change"))
_EDGE = " \t-–—*•#:,"


def report_statements(report: str | None) -> list[str]:
    """Split a report into clean statements: each once, none about the report itself or about an earlier ECG.

    Args:
        report: As a clinician or a device wrote it.
    """
    found: dict[str, str] = {}
    for part in _END.split(report or ""):
        text = " ".join(part.split()).strip(_EDGE)
        if text and not _NOT_OF_THE_TRACING.search(text):
            found.setdefault(text.casefold(), text)
    return list(found.values())


def report_text(report: str | None) -> str:
    """Return a report as clean sentences; empty where nothing of it is left."""
    return " ".join(map(sentence, report_statements(report)))


class Diagnosis:
    """The diagnosis of a report, and what of a composed text goes with it.

    Args:
        statements: Of the report, see :func:`report_statements`.
    """

    def __init__(self, statements: Sequence[str]) -> None:
        self.text = " ".join(map(sentence, statements))
        self.claims = [claim._replace(span=(0, 0)) for claim in extract(self.text)]
        firm = (c for c in self.claims if c.kind == "finding" and not c.negated and not c.uncertain)
        self.codes = frozenset(str(claim.finding) for claim in firm)

    def into(self, facts: Facts) -> Facts:
        """Put the report's rhythm in place of the measured one where they differ; what it states is definite."""
        for code in self.codes & facts.stated.keys():
            facts.stated[code] = facts.stated[code]._replace(certainty="definite")
        named = [code for code in RHYTHMS if code in self.codes]
        if named and facts.rhythm not in named:
            for code in (*RHYTHMS, "undetermined_rhythm"):
                facts.stated.pop(code, None)
            given = Finding(named[0], named[0].replace("_", " "), {}, "", "the clinician's report")
            facts.stated[named[0]] = Stated(named[0], (), "definite", given)
        return facts

    def conclude(self, statements: Iterable[Statement], lead_in: str) -> list[Statement]:
        """Leave out statements that exclude the diagnosis, and end with it.

        Args:
            statements: Measured evidence.
            lead_in: Before the diagnosis, such as ``Conclusion``.
        """
        kept = [found for statement in statements if (found := self._agreed(statement)) is not None]
        return [*kept, Statement(f"{lead_in}: {self.text}", tuple(self.claims))]

    def _agreed(self, statement: Statement) -> Statement | None:
        clashing = self.clashing(statement.claims)
        if not clashing:
            return statement
        rate = next((c for c in statement.claims if c.kind == "heart_rate" and c not in clashing), None)
        # the rate stands although the rhythm that it was stated with does not
        return None if rate is None else Statement(f"The ventricular rate is {rate.value:g} bpm.", (rate,))

    def clashing(self, claims: Sequence[Claim]) -> list[Claim]:
        """Return the claims that a statement of the report excludes."""
        own = set(self.claims)
        pairs = [(one.first, one.second) for one in conflicts([*self.claims, *claims])]
        crossing = [pair for pair in pairs if (pair[0] in own) != (pair[1] in own)]
        infarct = any(code == "ischaemia" or code.startswith("mi") for code in self.codes)
        absent = self.codes | (_SIGNS if infarct else frozenset())
        denied = [c for c in claims if c.negated and c.finding in absent]
        return [one for pair in crossing for one in pair if one not in own] + denied


def agrees(claims: Sequence[Claim], diagnosis: Sequence[str]) -> bool:
    """Return whether claims and the statements of a report can all be true."""
    return not Diagnosis(diagnosis).clashing(claims)
