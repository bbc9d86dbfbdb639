"""Report as a PDF, drawn without a browser: the ECG in true millimetres, then the verified text and the tables."""

from __future__ import annotations

import io
import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np

from gem_lightning.reporting.evidence import evidence_text, quality_sentences
from gem_lightning.reporting.result import (
    QUALITIES,
    URGENCIES,
    headline,
    measurement_rows,
    reading_title,
    record_facts,
)
from gem_lightning.reporting.statements import LABELS, marked_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_pdf import PdfPages

    from gem_lightning.reporting.interpretation import Interpretation

A4 = (297.0, 210.0)  # mm
_MARGIN = 14.0  # mm
_ECG_TOP, _ECG_BOTTOM = 58.0, 10.0  # mm: the header above the paper, speed and gain below it
_LINE = 4.6  # mm from line to line of 9 pt text
_WIDTH = 150  # characters of 9 pt DejaVu Sans on a line of 269 mm
_NOTE = "Research software, not a medical device."
_POINTS_PER_MM = 72 / 25.4
#: Colour of each verdict's text; the sign stands there too. Okabe and Ito (2008), dark enough for text on white.
_INK = {"supported": "#00674b", "borderline": "#7a5200", "contradicted": "#a63f00", "unverifiable": "#555555"}
_URGENT = "#a3240f"


def interpretation_pdf(interpretation: Interpretation, file_name: str = "") -> bytes:
    """Draw the report; the same interpretation gives the same bytes.

    Args:
        interpretation: What to report.
        file_name: Of the recording, for the header.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_pdf import PdfPages

    buffer = io.BytesIO()
    # letters stay text that can be searched and copied; no date, so that equal reports are equal files
    with mpl.rc_context({"pdf.fonttype": 42, "font.family": "DejaVu Sans", "font.size": 9}):
        meta = {"Title": "ECG report", "Creator": "gem-lightning", "CreationDate": None, "ModDate": None}
        with PdfPages(buffer, metadata=meta) as pages:
            _ecg_page(pages, interpretation, file_name)
            _text_pages(pages, interpretation)
    return buffer.getvalue()


def _sheet() -> tuple[Any, Axes]:
    """An A4 landscape page whose axes count millimetres from the top left corner."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(A4[0] / 25.4, A4[1] / 25.4))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, A4[0]), ylim=(A4[1], 0))
    axes.axis("off")
    return figure, axes


def _ecg_page(pages: PdfPages, interpretation: Interpretation, file_name: str) -> None:
    figure, axes = _sheet()
    _header(axes, interpretation, file_name)
    _draw_ecg(axes, interpretation)
    seconds = interpretation.record.seconds
    extent = f"the first 10 s of {seconds:.0f} s   " if seconds > 10.5 else ""  # half a second over is no second page
    axes.text(_MARGIN, A4[1] - 4, f"25 mm/s   10 mm/mV   {extent}{_NOTE}", fontsize=8)
    pages.savefig(figure)


def _header(axes: Axes, interpretation: Interpretation, file_name: str) -> None:
    """Three columns, as on the page: conclusion, measurements, recording."""
    y, features = 11.0, interpretation.features
    quality = f"Recording quality: {QUALITIES[interpretation.quality.verdict]}."
    if interpretation.partial:
        quality += f" Known in part: {interpretation.partial}."
    if not interpretation.refused:
        quality = " ".join([quality, *quality_sentences(interpretation.quality)])
    y = _write(axes, quality, y, width=70, fontsize=8)
    sign, heading = URGENCIES[interpretation.summary.urgency]
    if interpretation.refused:
        y = _write(axes, "This recording is not interpreted.", y, width=70, fontweight="bold", color=_URGENT)
        y = _write(axes, " ".join(quality_sentences(interpretation.quality)), y, width=70)
    color = _URGENT if interpretation.summary.urgency == "urgent" else "black"
    text = " ".join(part for part in (sign, heading, interpretation.summary.statement) if part)
    y = _write(axes, text, y, width=70, fontweight="bold", color=color)
    for line in interpretation.summary.conclusions[:5]:  # the room above the paper; the text names all
        y = _write(axes, line, y, width=62, fontsize=10.5, fontweight="bold")
    columns = [(150.0, [] if interpretation.refused else headline(features))]
    columns.append((210.0, record_facts(interpretation.record, features, file_name)))
    for x, rows in columns:
        for k, (name, value) in enumerate(rows):
            axes.text(x, 11 + k * _LINE, name, color="#444444", fontsize=8.5)
            axes.text(x + 24, 11 + k * _LINE, textwrap.shorten(value, 40), fontsize=8.5)


def _write(axes: Axes, text: str, y: float, width: int = _WIDTH, x: float = _MARGIN, **style: Any) -> float:
    """Write a wrapped text; return the place of the next line, mm."""
    for line in textwrap.wrap(text, width) or [""]:
        axes.text(x, y, line, **style)
        y += _LINE
    return y


def _draw_ecg(axes: Axes, interpretation: Interpretation) -> None:
    """Draw the renderer's own page below the header, at its true size."""
    from matplotlib.collections import LineCollection
    from matplotlib.patches import PathPatch, Rectangle
    from matplotlib.path import Path

    from gem_lightning.render import EcgRenderer
    from gem_lightning.render.vector import Lines, page_items

    height = A4[1] - _ECG_TOP - _ECG_BOTTOM
    if not np.isfinite(interpretation.record.signal).any():
        return
    renderer = EcgRenderer(page={"paper": (A4[0] - 2 * 5.0, height), "footer": ""})
    corner = np.array([5.0, _ECG_TOP])
    axes.add_patch(Rectangle(tuple(corner), A4[0] - 10, height, facecolor=_color(renderer.style.paper)))
    # matplotlib would draw all patches before all lines: the order of the items is that from back to front
    for order, item in enumerate(page_items(renderer, interpretation.record), 2):
        if isinstance(item, Lines):
            dash = "solid" if item.dash is None else (0, tuple(part * _POINTS_PER_MM for part in item.dash))
            lines = [line + corner for line in item.points]
            width = item.width * _POINTS_PER_MM
            axes.add_collection(
                LineCollection(lines, colors=[_color(item.color)], linewidths=width, linestyles=[dash], zorder=order)
            )
            continue
        codes, points = [], []
        for contour in item.contours:
            for command, numbers in contour:
                codes += {"M": [Path.MOVETO], "L": [Path.LINETO], "Q": [Path.CURVE3] * 2}[command]
                points += [pair + corner for pair in np.array(numbers).reshape(-1, 2)]
        axes.add_patch(PathPatch(Path(points, codes), facecolor=_color(item.color), linewidth=0, zorder=order))


def _color(rgb: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(part / 255 for part in rgb)


def _text_pages(pages: PdfPages, interpretation: Interpretation) -> None:
    """Text with a verdict for each statement, then measurements and findings, over as many pages as needed."""
    lines = [] if interpretation.refused else list(_report_lines(interpretation))
    room = int((A4[1] - 2 * _MARGIN) / _LINE)
    for start in range(0, len(lines), room):
        figure, axes = _sheet()
        for k, (text, style) in enumerate(lines[start : start + room]):
            axes.text(_MARGIN, _MARGIN + k * _LINE, text, **style)
        axes.text(_MARGIN, A4[1] - 4, _NOTE, fontsize=8)
        pages.savefig(figure)


def _report_lines(interpretation: Interpretation) -> list[tuple[str, dict[str, Any]]]:
    bold: dict[str, Any] = {"fontweight": "bold", "fontsize": 11}
    marked = marked_text(interpretation)
    lines: list[tuple[str, dict[str, Any]]] = [(reading_title(interpretation), bold), *_wrapped(interpretation.note)]
    if interpretation.question:
        lines += _wrapped(f"Question: {interpretation.question}")
    shown = ((f"{piece.mark} {piece.text}" if piece.mark else piece.text, one) for piece, one in marked)
    text = "".join(part if one is None else f"{part}[{one.sign}]" for part, one in shown)
    lines += [row for part in text.split("\n") for row in _wrapped(part)]
    legend = "✓ agrees, ≈ too near a limit, ✗ disagrees with the measurement, ? cannot be checked"
    if any(piece.mark for piece, _ in marked):
        legend += "; ◆ written or corrected from the measurement, ⚑ the model's, in doubt"
    lines += [(legend, {"fontsize": 8, "color": "#444444"}), ("", {})]
    lines.append(("Statements", bold))
    for _, one in marked:
        if one is not None:
            ink = {"color": _INK[one.look], "fontsize": 8.5}
            verdict = "" if one.look == "supported" else f" {LABELS[one.look]}."
            text = f"{one.sign} {one.quote.strip()}:{verdict} {' '.join(one.lines)}"
            lines += [(row, ink) for row, _ in _wrapped(text)]
    device = interpretation.record.meta.get("device_measurements") or {}
    lines += [("", {}), ("Measured intervals and axes", bold)]
    for row in measurement_rows(interpretation.features, device):
        own = f" (device: {row['device']})" if row["device"] != "–" else ""
        lines.append((f"{row['name']}: {row['value']}{own}", {}))
    lines += [("", {}), ("Findings of the measurement", bold)]
    for finding in interpretation.findings:
        doubt = "" if finding.certainty == "definite" else f" ({finding.certainty})"
        lines += _wrapped(f"{finding.statement}{doubt}: {evidence_text(finding)}")
        lines += [(row, {"fontsize": 7.5, "color": "#444444"}) for row, _ in _wrapped(f"    {finding.source}", 175)]
    return lines


def _wrapped(text: str, width: int = _WIDTH) -> list[tuple[str, dict[str, Any]]]:
    return [(line, {}) for line in textwrap.wrap(text, width)]
