"""Views of a claim report: HTML with hovers and lead strips, and coloured terminal text."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

import numpy as np

from gem_lightning.claims.report import CONTRADICTED, SUPPORTED, UNVERIFIABLE, Verdict

if TYPE_CHECKING:
    from gem_lightning.claims.report import ClaimReport
    from gem_lightning.ecg.record import EcgRecord

_STYLE = (
    ".claims{font-family:system-ui,sans-serif;line-height:1.7}"
    ".claims .c{position:relative;border-radius:3px;padding:0 2px;cursor:help;border-bottom:2px solid}"
    ".claims .supported{background:#e3f4e6;border-color:#2e7d32}"
    ".claims .contradicted{background:#fde3e1;border-color:#c62828}"
    ".claims .unverifiable{background:#eeeeee;border-color:#757575}"
    ".claims .unread{border-bottom:2px dotted #8a94a3;cursor:help}"
    ".claims .tip{display:none;position:absolute;left:0;top:1.7em;z-index:9;background:#fff;color:#222;"
    "border:1px solid #999;border-radius:4px;padding:6px 8px;font-size:12px;line-height:1.4;width:300px;"
    "box-shadow:0 2px 8px #0003}"
    ".claims .c:hover .tip,.claims .c:focus .tip{display:block}.claims svg{display:block;margin-top:4px}"
)
_SIGN = {SUPPORTED: "✓", CONTRADICTED: "✗", UNVERIFIABLE: "?"}
_ANSI = {SUPPORTED: "\033[32m", CONTRADICTED: "\033[31m", UNVERIFIABLE: "\033[90m"}
_STRIP = (280, 70)
_STRIP_SECONDS = 2.5


def spans(report: ClaimReport) -> list[tuple[int, int, list[Verdict]]]:
    """Split off the non-overlapping pieces of the text that hold claims, in order, with their verdicts."""
    pieces: list[tuple[int, int, list[Verdict]]] = []
    for verdict in sorted(report.verdicts, key=lambda v: v.claim.span):
        start, end = verdict.claim.span
        if pieces and start < pieces[-1][1]:
            a, b, inside = pieces[-1]
            pieces[-1] = (a, max(b, end), [*inside, verdict])
        else:
            pieces.append((start, end, [verdict]))
    return pieces


def worst(verdicts: list[Verdict]) -> str:
    """Return contradicted before unverifiable before supported."""
    names = {v.verdict for v in verdicts}
    return next(name for name in (CONTRADICTED, UNVERIFIABLE, SUPPORTED) if name in names)


def to_html(report: ClaimReport, record: EcgRecord | None = None) -> str:
    """Build one self-contained ``<div>`` with its style; hover or focus shows the evidence."""
    parts, position, unread = [], 0, report.unread
    for start, end, verdicts in spans(report):
        parts.append(_between(report.text, position, start, unread))
        tips = "<br>".join(escape(_line(v)) for v in verdicts)
        strip = _strip(report, record, verdicts) if record is not None else ""
        kind = worst(verdicts)
        title = escape("; ".join(_line(v) for v in verdicts), quote=True)
        parts.append(
            f'<span class="c {kind}" tabindex="0" aria-label="{title}">{escape(report.text[start:end])}'
            f'<span class="tip">{tips}{strip}</span></span>'
        )
        position = end
    parts.append(_between(report.text, position, len(report.text), unread))
    body = "".join(parts).replace("\n", "<br>")
    return f'<div class="claims"><style>{_STYLE}</style><p>{body}</p>{_footer(report)}</div>'


def _between(text: str, start: int, end: int, unread: list[tuple[int, int]]) -> str:
    """Mark sentences between two claims that hold none as not checked."""
    parts = []
    for a, b in unread:
        if start <= a and b <= end:
            marked = f'<span class="unread" title="not read as a claim: not checked">{escape(text[a:b])}</span>'
            parts += [escape(text[start:a]), marked]
            start = b
    return "".join([*parts, escape(text[start:end])])


def _line(verdict: Verdict) -> str:
    name = f"{'no ' if verdict.claim.negated else ''}{verdict.claim.finding or verdict.claim.kind}"
    source = f" [{verdict.tolerance_source}]" if verdict.tolerance_source else ""
    return f"{_SIGN[verdict.verdict]} {name.replace('_', ' ')}: {verdict.verdict}; {verdict.reason}{source}"


def _footer(report: ClaimReport) -> str:
    def share(value: float | None) -> str:
        return "none" if value is None else f"{value:.0%}"

    lines = [
        f"{len(report.verdicts)} claims, precision {share(report.precision)}, "
        f"hallucination rate {share(report.hallucination_rate)}, coverage of abnormal findings {share(report.coverage)}"
    ]
    lines += [f"Inside the text: {conflict.reason}" for conflict in report.conflicts]
    return "".join(f"<p><small>{escape(line)}</small></p>" for line in lines)


def _strip(report: ClaimReport, record: EcgRecord, verdicts: list[Verdict]) -> str:
    """Draw the claim's lead around its beat, with R peaks ticked."""
    claim = verdicts[0].claim
    lead = next((name for name in (*claim.leads, "II", *record.leads) if name in record.leads), None)
    if lead is None:
        return ""
    signal = np.nan_to_num(record.lead(lead))
    times = report.features.beats.time_s if report.features is not None else np.zeros(0)
    index = (claim.beat - 1 if claim.beat > 0 else len(times) + claim.beat) if claim.beat else 0
    start = max(0.0, float(times[index]) - 0.6) if 0 <= index < len(times) else 0.0
    a, b = int(start * record.fs), int((start + _STRIP_SECONDS) * record.fs)
    piece = signal[a:b]
    if len(piece) < 2:
        return ""
    width, height = _STRIP
    low, high = min(float(piece.min()), -0.3), max(float(piece.max()), 0.3)
    step = max(1, len(piece) // (2 * width))

    def y(value: float) -> float:
        return height - 4 - (value - low) / (high - low) * (height - 8)

    points = " ".join(f"{i / len(piece) * width:.1f},{y(float(piece[i])):.1f}" for i in range(0, len(piece), step))
    ticks = "".join(
        f'<line x1="{(t - start) / _STRIP_SECONDS * width:.1f}" x2="{(t - start) / _STRIP_SECONDS * width:.1f}" '
        f'y1="0" y2="6" stroke="#c62828"/>'
        for t in times
        if start <= t < start + _STRIP_SECONDS
    )
    return (
        f'<svg width="{width}" height="{height}" role="img" aria-label="lead {lead}">'
        f'<rect width="100%" height="100%" fill="#fff6f4"/><polyline fill="none" stroke="#222" points="{points}"/>'
        f'{ticks}<text x="4" y="{height - 4}" font-size="10">{lead}</text></svg>'
    )


def to_terminal(report: ClaimReport, color: bool = True) -> str:
    """Format the text with marked claims, then one line per claim that is not supported and per unchecked sentence."""
    parts, position = [], 0
    for start, end, verdicts in spans(report):
        kind, piece = worst(verdicts), report.text[start:end]
        parts.append(report.text[position:start])
        parts.append(f"{_ANSI[kind]}{piece}\033[0m" if color else f"{piece}[{_SIGN[kind]}]")
        position = end
    parts.append(report.text[position:])
    lines = ["".join(parts)]
    lines += [f"  {_line(v)}" for v in report.verdicts if v.verdict != SUPPORTED]
    lines += [f"  ! {conflict.reason}" for conflict in report.conflicts]
    lines += [f"  – not read as a claim: {report.text[a:b]}" for a, b in report.unread]
    return "\n".join(lines)
