"""Mark up a verified text: HTML with evidence on hover, and coloured terminal output."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from gem_lightning.claims.report import CONTRADICTED, SUPPORTED, UNVERIFIABLE, Verdict
from gem_lightning.reporting.html import HERE, environment
from gem_lightning.reporting.terminal import takes_color
from gem_lightning.revision.edit import FLAG, MEASUREMENT, Edit

if TYPE_CHECKING:
    from markupsafe import Markup

    from gem_lightning.claims.report import ClaimReport
    from gem_lightning.ecg.record import EcgRecord

BORDERLINE = "borderline"
#: Looks of a mark, the gravest first; signs and lines differ as well as colours, which not everybody sees.
_SIGN = {CONTRADICTED: "✗", BORDERLINE: "≈", UNVERIFIABLE: "?", SUPPORTED: "✓"}
_ANSI = {CONTRADICTED: "\033[31m", BORDERLINE: "\033[33m", UNVERIFIABLE: "\033[90m", SUPPORTED: "\033[36m"}
#: Sentences of the measurement, and those of the model that are in doubt.
_INK = {"measured": "◆", "flagged": "⚑"}
_ANSI_INK = {"measured": "\033[3;34m", "flagged": "\033[3m"}
#: What denies a statement in front of it or behind it, within its clause; a mark includes it.
_DENIAL_BEFORE = re.compile(
    r"\b(?:no|not|without|neither|nor|never|absence of|free of)\b[^.;:\n]{0,60}$", re.IGNORECASE
)
#: What turns a name into an absence that is itself a finding, as in "no P waves".
_ABSENCE_BEFORE = re.compile(r"\b(?:no|without|absent|absence of|lack of)\s+$", re.IGNORECASE)
_DENIAL_AFTER = re.compile(
    r"^[^.;\n]{0,30}?\b(?:absent|none|excluded|not (?:seen|present|evident|found))\b", re.IGNORECASE
)
# fits a tip on a phone's width
_STRIP_PX = (280, 70)
_STRIP_SECONDS = 2.5  # one lead of a 3x4 page: readers are used to that extract


@dataclass(frozen=True)
class Piece:
    """A stretch of the text: claims with one mark, a sentence without a claim, or what stands between them.

    Attributes:
        text: The stretch.
        verdicts: Of the claims in it; empty where there is none.
        unread: Whether it is a sentence in which no claim was found.
        lines: One line of evidence for each verdict.
        strip: The piece of signal that the first claim is about.
        edit: Of the sentence, where the text is not the model's own or was flagged.
        opens: Whether the sentence begins here.
    """

    text: str
    verdicts: tuple[Verdict, ...] = ()
    unread: bool = False
    strip: SignalStrip | None = None
    edit: Edit | None = None
    opens: bool = False

    @property
    def kind(self) -> str:
        """The gravest verdict of the piece: contradicted, borderline, unverifiable, supported."""
        found = {look(v) for v in self.verdicts}
        return next(name for name in _SIGN if name in found)

    @property
    def sign(self) -> str:
        """The sign of :attr:`kind`."""
        return _SIGN[self.kind]

    @property
    def ink(self) -> str:
        """Who wrote it, as a class of the style sheet: ``measured``, ``flagged`` or empty for the model."""
        if self.edit is None:
            return ""
        return "measured" if self.edit.source == MEASUREMENT else "flagged"

    @property
    def mark(self) -> str:
        """The sign in front of a sentence that is not plainly the model's, for readers who see no colours."""
        return _INK[self.ink] if self.opens and self.ink else ""

    @property
    def lines(self) -> list[str]:
        """One line of evidence for each verdict."""
        return [_line(v) for v in self.verdicts]


@dataclass(frozen=True)
class SignalStrip:
    """2.5 s of one lead as SVG coordinates, px; ``ticks`` are the R peaks."""

    lead: str
    points: str
    ticks: list[str]
    width: int = _STRIP_PX[0]
    height: int = _STRIP_PX[1]


def look(verdict: Verdict) -> str:
    """Return the verdict's name, ``borderline`` where the measurement lies too near a limit."""
    return BORDERLINE if verdict.reason.startswith(BORDERLINE) else verdict.verdict


def marks(report: ClaimReport) -> list[tuple[int, int, list[Verdict]]]:
    """Return (start, end, verdicts) of each mark, in order and disjoint.

    A mark spans its statement with what denies it. A claim that contains another's text keeps the rest of its own
    ("sinus rhythm | at 67 bpm"); claims that one denial covers share a mark.
    """
    spans = [(*_statement(report.text, v), v) for v in report.verdicts]
    marked: list[tuple[int, int, bool, list[Verdict]]] = []
    for start, end, denied, verdict in sorted(spans, key=lambda span: (span[0], span[1])):
        if not marked or start >= marked[-1][1]:
            marked.append((start, end, denied, [verdict]))
            continue
        a, b, covered, inside = marked[-1]
        rest = report.text[b:end]
        if not (denied or covered) and any(char.isalnum() for char in rest):
            own = rest.partition("(")[2] or rest.lstrip(" ,")  # "narrow QRS complexes (96 ms)": the number is its own
            marked.append((end - len(own), end, False, [verdict]))
        else:
            marked[-1] = (a, max(b, end), covered or denied, [*inside, verdict])
    return [(a, b, inside) for a, b, _, inside in marked]


def _statement(text: str, verdict: Verdict) -> tuple[int, int, bool]:
    """Return start and end of a claim's statement with its denial, and whether a denial was added."""
    start, end = verdict.claim.span
    if not verdict.claim.negated:
        absence = _ABSENCE_BEFORE.search(text, max(0, start - 20), start)  # 20: the longest of its phrases
        return (absence.start() if absence else start), end, absence is not None
    before = _DENIAL_BEFORE.search(text, max(0, start - 70), start)
    after = _DENIAL_AFTER.search(text[end : end + 60])
    if before:
        return before.start(), end, True
    return start, end + (after.end() if after else 0), bool(after)


def pieces(report: ClaimReport, record: EcgRecord | None = None, edits: Sequence[Edit] = ()) -> list[Piece]:
    """Cut the text into consecutive pieces: marks, sentences without a claim, and what stands between them.

    Args:
        report: A verified text.
        record: Adds the signal strip that each claim is about.
        edits: Of the text's sentences; those that are not plainly the model's are marked.
    """
    cuts = sorted([*marks(report), *((a, b, []) for a, b in report.unread)], key=lambda cut: cut[:2])
    parts, position = [], 0
    for start, end, verdicts in cuts:
        start = max(start, position)
        parts.append((position, Piece(report.text[position:start])))
        strip = _strip(report, record, verdicts) if record is not None and verdicts else None
        parts.append((start, Piece(report.text[start:end], tuple(verdicts), not verdicts, strip)))
        position = end
    parts.append((position, Piece(report.text[position:])))
    return [inked for start, part in parts if part.text for inked in _inked(start, part, edits)]


def _inked(start: int, piece: Piece, edits: Sequence[Edit]) -> list[Piece]:
    """Cut what stands between claims where a sentence begins, and name each piece's edit."""
    shown = [e for e in edits if e.text.strip() and (e.source == MEASUREMENT or e.action == FLAG)]
    spans = [(e.start, e.start + len(e.text.strip()), e) for e in shown]
    end = start + len(piece.text)
    cuts = sorted({start, end, *(place for a, b, _ in spans for place in (a, b) if start < place < end)})
    if piece.verdicts:  # a claim is one mark
        cuts = [start, end]
    found = []
    for a, b in pairwise(cuts):
        span = next(((low, edit) for low, high, edit in spans if low <= a < high), None)
        edit, opens = (span[1], span[0] == a) if span else (None, False)
        found.append(replace(piece, text=piece.text[a - start : b - start], edit=edit, opens=opens))
    return found


def claims_html(report: ClaimReport, record: EcgRecord | None = None, edits: Sequence[Edit] = ()) -> str:
    """One self-contained ``<div>`` with its style; hover or focus shows the evidence."""
    from markupsafe import Markup

    return (
        environment()
        .get_template("claims.html.jinja")
        .render(
            style=Markup((HERE / "claims.css").read_text(encoding="utf-8")),
            pieces=pieces(report, record, edits),
            footer=_footer(report, edits),
            lines=_with_breaks,
        )
    )


def _with_breaks(text: str) -> Markup:
    from markupsafe import Markup, escape

    return Markup("<br>").join(escape(line) for line in text.split("\n"))


def _line(verdict: Verdict) -> str:
    name = f"{'no ' if verdict.claim.negated else ''}{verdict.claim.finding or verdict.claim.kind}"
    source = f" [{verdict.tolerance_source}]" if verdict.tolerance_source else ""
    return f"{_SIGN[look(verdict)]} {name.replace('_', ' ')}: {verdict.verdict}; {verdict.reason}{source}"


def _footer(report: ClaimReport, edits: Sequence[Edit]) -> list[str]:
    def share(value: float | None) -> str:
        return "none" if value is None else f"{value:.0%}"

    covered = f"coverage of abnormal findings {share(report.coverage)}"
    if any(not edit.kept for edit in edits):  # held to the measurement: that it agrees says nothing of the model
        scores = f"{len(report.verdicts)} claims after revision, {covered}"
    else:
        scores = (
            f"{len(report.verdicts)} claims, score {report.score:.2f}, precision {share(report.precision)}, "
            f"hallucination rate {share(report.hallucination_rate)}, {covered}"
        )
    return [scores, *(f"Inside the text: {conflict.reason}" for conflict in report.conflicts)]


def _strip(report: ClaimReport, record: EcgRecord, verdicts: list[Verdict]) -> SignalStrip | None:
    """Cut out the lead that the first claim names, around the beat that it names; None where there is no signal."""
    claim = verdicts[0].claim
    lead = next((name for name in (*claim.leads, "II", *record.leads) if name in record.leads), None)
    if lead is None:
        return None
    signal = np.nan_to_num(record.lead(lead))
    times = report.features.beats.time_s if report.features is not None else np.zeros(0)
    index = (claim.beat - 1 if claim.beat > 0 else len(times) + claim.beat) if claim.beat else 0
    start = max(0.0, float(times[index]) - 0.6) if 0 <= index < len(times) else 0.0  # 0.6 s: the P wave before it
    a, b = int(start * record.fs), int((start + _STRIP_SECONDS) * record.fs)
    piece = signal[a:b]
    if len(piece) < 2:
        return None
    width, height = _STRIP_PX
    low, high = (
        min(float(piece.min()), -0.3),  # at least ±0.3 mV, else a flat lead would be drawn as noise
        max(float(piece.max()), 0.3),
    )  # mV; so that noise does not fill a flat lead
    i = np.arange(0, len(piece), max(1, len(piece) // (2 * width)))
    x, y = i / len(piece) * width, height - 4 - (piece[i] - low) / (high - low) * (height - 8)
    inside = times[(times >= start) & (times < start + _STRIP_SECONDS)]
    return SignalStrip(
        lead,
        " ".join(f"{px:.1f},{py:.1f}" for px, py in zip(x, y)),
        [f"{(t - start) / _STRIP_SECONDS * width:.1f}" for t in inside],
    )


def claims_terminal(report: ClaimReport, color: bool | None = None, edits: Sequence[Edit] = ()) -> str:
    """The text with marked claims, then a line for each claim that is not supported and for what is not checked."""
    color = takes_color() if color is None else color
    parts = []
    for piece in pieces(report, edits=edits):
        parts.append(f"{piece.mark} " if piece.mark else "")
        if color and piece.ink and not piece.verdicts:
            parts.append(f"{_ANSI_INK[piece.ink]}{piece.text}\033[0m")
        elif not piece.verdicts:
            parts.append(piece.text)
        elif color:
            parts.append(f"{_ANSI[piece.kind]}{piece.text}\033[0m")
        else:
            parts.append(f"{piece.text}[{piece.sign}]")
    lines = ["".join(parts)]
    lines += [f"  {_line(v)}" for v in report.verdicts if v.verdict != SUPPORTED]
    lines += [f"  ! {conflict.reason}" for conflict in report.conflicts]
    lines += [f"  – not read as a claim: {report.text[a:b]}" for a, b in report.unread]
    lines += [f"  {_INK['measured']} {edit.line}" for edit in edits if not edit.kept]
    return "\n".join(lines)
