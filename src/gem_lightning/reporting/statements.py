"""Statements of a verified text for readers: quote, verdict, evidence in plain English, place on the trace."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gem_lightning.claims.claim import UNITS
from gem_lightning.claims.report import CONTRADICTED, SUPPORTED, UNVERIFIABLE
from gem_lightning.ecg.record import LEADS
from gem_lightning.features.criteria import criteria
from gem_lightning.reporting.claims import BORDERLINE, Piece, look, pieces
from gem_lightning.reporting.evidence import evidence_text

if TYPE_CHECKING:
    from gem_lightning.claims.claim import Claim
    from gem_lightning.claims.report import Verdict
    from gem_lightning.features.schema import EcgFeatures, Finding
    from gem_lightning.reporting.interpretation import Interpretation

#: What a reader reads for a verdict.
LABELS = {
    SUPPORTED: "agrees with the measurement",
    BORDERLINE: "too near a limit to decide",
    CONTRADICTED: "disagrees with the measurement",
    UNVERIFIABLE: "cannot be checked on this record",
}
#: Part of the beat that a claim is about, by its kind or finding; the first pattern that fits counts.
_WAVES = tuple(
    (wave, re.compile(pattern))
    for wave, pattern in (
        ("PR", r"pr$|_pr$|av_block|pre_excitation"),
        ("P", r"p_|axis_p|.*atrial_enlargement"),
        ("QT", r"qt|jt|.*_qtc"),
        ("ST", r"st_|mi\b|mi_|ischaemia|infarct|early_rep|pericarditis|brugada|sgarbossa|reciprocal|de_winter"),
        ("T", r"t_|axis_t|hyperacute|hyperkal|wellens"),
        (
            "QRS",
            r"q|r_|s_|axis_q|narrow|wide_q|.*bbb|ivcd|l[ap]fb|.*fascicular|.*axis|[lr]vh|low_volt|voltage|poor_r|rsr|pvc|"
            r"pac|couplet|.*geminy|paced",
        ),
    )
)
_RHYTHM = "RR"  # everything else is about the sequence of beats
#: Findings of single beats, by the class of those beats.
_BEATS = {"pvc": "premature_ventricular", "couplet": "premature_ventricular", "pac": "premature_supraventricular"}
_NAMES = {
    "heart_rate": "Heart rate", "rr": "RR interval", "pr": "PR interval", "qrs": "QRS duration", "qt": "QT interval",
    "qtc": "QTc", "jt": "JT interval", "st_level": "ST level", "axis_p": "P axis", "axis_qrs": "QRS axis",
    "axis_t": "T axis",
}  # fmt: skip
_URGENCY = {
    "urgent": "Urgency follows from the findings that their sources name as urgent",
    "not_urgent": "No criterion of an urgent finding is met, and none is near its limit",
}


@dataclass(frozen=True)
class Statement:
    """One marked statement.

    Attributes:
        number: From 1, in the order of the text.
        quote: The marked text, with what denies it.
        look: ``supported``, ``borderline``, ``contradicted`` or ``unverifiable``.
        sign: Of the look, for readers who see no colours.
        lines: The evidence in plain English, one line per claim.
        technical: Criterion, limits and sources, one line per claim.
        leads: Leads concerned, in standard order; empty where it is about the whole record.
        wave: ``P``, ``PR``, ``QRS``, ``ST``, ``T``, ``QT`` or ``RR``: what to mark on the trace.
        beats: Indices of the beats concerned; None for all.
    """

    number: int
    quote: str
    look: str
    sign: str
    lines: tuple[str, ...]
    technical: tuple[str, ...]
    leads: tuple[str, ...]
    wave: str
    beats: tuple[int, ...] | None

    @property
    def label(self) -> str:
        """The verdict as text."""
        return LABELS[self.look]


def marked_text(interpretation: Interpretation) -> list[tuple[Piece, Statement | None]]:
    """Cut a text into its pieces, each with its statement where it makes one."""
    found: list[tuple[Piece, Statement | None]] = []
    number = 0
    for piece in pieces(interpretation.claims, edits=interpretation.shown_edits):
        number += bool(piece.verdicts)
        found.append((piece, _statement(number, piece, interpretation) if piece.verdicts else None))
    return found


def statements(interpretation: Interpretation) -> list[Statement]:
    """List the statements of a text."""
    return [statement for _, statement in marked_text(interpretation) if statement is not None]


def _statement(number: int, piece: Piece, interpretation: Interpretation) -> Statement:
    first = piece.verdicts[0].claim
    found = interpretation.findings
    return Statement(
        number,
        piece.text,
        piece.kind,
        piece.sign,
        tuple(dict.fromkeys(evidence_line(verdict, found) for verdict in piece.verdicts)),
        tuple(piece.lines),
        _leads(piece.verdicts, found),
        wave_of(first),
        _beats(first, interpretation.features),
    )


def wave_of(claim: Claim) -> str:
    """Return the part of the beat that a claim is about."""
    name = claim.finding if claim.kind == "finding" and claim.finding else claim.kind
    return next((wave for wave, pattern in _WAVES if pattern.match(name)), _RHYTHM)


def _leads(verdicts: Sequence[Verdict], found: Sequence[Finding]) -> tuple[str, ...]:
    """Collect the leads that the claims name, or else those of the findings that they state or wrongly deny."""
    named = {lead for verdict in verdicts for lead in verdict.claim.leads}
    if not named:
        # a denial that holds has no place; one that the measurement contradicts is shown where the finding is
        stated = {v.claim.finding for v in verdicts if not (v.claim.negated and v.verdict == SUPPORTED)}
        named = {lead for finding in found if finding.code in stated for lead in _finding_leads(finding)}
    return tuple(lead for lead in LEADS if lead in named)


def _finding_leads(finding: Finding) -> Iterator[str]:
    yield from finding.leads
    for key, value in finding.evidence.items():
        if key.endswith("leads"):
            yield from value


def _beats(claim: Claim, features: EcgFeatures) -> tuple[int, ...] | None:
    count = len(features.beats)
    if claim.beat is not None:
        index = claim.beat - 1 if claim.beat > 0 else count + claim.beat
        return (index,) if 0 <= index < count else ()
    if claim.finding in _BEATS and not claim.negated:
        wanted = _BEATS[claim.finding]
        return tuple(i for i, name in enumerate(features.beats.beat_class) if name == wanted)
    return None


def evidence_line(verdict: Verdict, found: Sequence[Finding]) -> str:
    """Return what a verdict rests on, in plain English; limits and sources stay with the technical lines."""
    claim = verdict.claim
    if claim.kind in UNITS:
        return _measured_line(verdict)
    code = claim.finding or claim.kind
    name = str(criteria()["findings"].get(code, {}).get("statement", code.replace("_", " ")))
    name = name[:1].upper() + name[1:]
    if look(verdict) == BORDERLINE:
        return f"{name}: the measurement lies too near the limit to decide."
    if verdict.verdict == UNVERIFIABLE:
        return f"{name}: {verdict.reason}."
    if code in _URGENCY:
        return f"{_URGENCY[code] if verdict.verdict == SUPPORTED else 'The findings state otherwise'}."
    met = (verdict.verdict == SUPPORTED) != claim.negated
    if not met:
        return f"{name}: the criterion is not met."
    evidence = "; ".join(dict.fromkeys(evidence_text(finding) for finding in found if finding.code == code))
    return f"{name}: the criterion is met{f' ({evidence})' if evidence else ''}."


def _measured_line(verdict: Verdict) -> str:
    claim = verdict.claim
    name = _NAMES.get(claim.kind) or claim.kind.replace("_", " ").capitalize()
    if claim.finding:
        name = claim.finding.replace("_", " ").capitalize()
    place = f" in {', '.join(claim.leads)}" if claim.leads else ""
    if not isinstance(verdict.measured, int | float):
        return f"{name}{place}: {verdict.reason or 'not measured'}."
    digits, unit = (2, " mV") if claim.unit == "mV" else (0, "°" if claim.unit == "deg" else f" {claim.unit}")
    text = f"{name}{place}: measured {verdict.measured:.{digits}f}{unit}"
    if verdict.tolerance is not None:
        text += f", tolerance ±{verdict.tolerance:.{digits}f}{unit}"
    return f"{text}."
