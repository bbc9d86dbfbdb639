"""Evaluation reports: one self-contained HTML page, Markdown, and their plots."""

from __future__ import annotations

import base64
import io
import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gem_lightning import __version__
from gem_lightning.reporting.html import Table, environment, image_url, style_sheet

# Okabe and Ito's colours: distinguishable for colour-blind readers and in grey.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")


@dataclass(frozen=True)
class Series:
    """One line of a plot; ``low`` and ``high`` are the ends of its intervals, empty for none."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()


@dataclass(frozen=True)
class Curve:
    """A metric as a function of a condition's strength.

    Attributes:
        title, x_label, y_label: Labels.
        series: Lines.
        ticks: Names of the x values 0, 1, 2, …; empty for numbers.
        ordered: The x values grow; else points stand side by side without a line between them.
        note: One line under the plot.
    """

    title: str
    x_label: str
    y_label: str
    series: list[Series]
    ticks: list[str] = field(default_factory=list)
    ordered: bool = True
    note: str = ""


@dataclass(frozen=True)
class Matrix:
    """Confusion counts: true class (rows) against stated class (columns)."""

    title: str
    rows: list[str]
    columns: list[str]
    counts: list[list[int]]
    note: str = ""

    def shades(self) -> list[list[tuple[int, float]]]:
        """Each count with its share of the row, for the depth of its colour."""
        return [[(c, c / total if (total := sum(row)) else 0.0) for c in row] for row in self.counts]


@dataclass(frozen=True)
class Case:
    """One record with its text; ``marked`` is the text as HTML with coloured claims."""

    title: str
    text: str
    image: np.ndarray | None = None
    marked: str | None = None
    note: str = ""


@dataclass
class EvaluationReport:
    """The content of a report.

    Attributes:
        title, subtitle: Heading.
        summary: (name, value) of the headline metrics.
        tables, curves, matrices, cases: In the order to show.
        notes: What a reader must know to interpret the metrics.
        provenance: How the results were produced.
    """

    title: str
    subtitle: str = ""
    summary: list[tuple[str, str]] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    matrices: list[Matrix] = field(default_factory=list)
    cases: list[Case] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    provenance: str = ""

    def to_html(self) -> str:
        """Render as one self-contained page."""
        from markupsafe import Markup

        return (
            environment()
            .get_template("evaluation.html.jinja")
            .render(
                report=self,
                style=Markup(style_sheet()),
                curves=[(curve, _svg_url(draw_curve(curve))) for curve in self.curves],
                cases=[(case, *_shown(case)) for case in self.cases],
                version=__version__,
            )
        )

    def to_markdown(self) -> str:
        """Render as Markdown for a repository or an appendix; curves become tables, images are omitted."""
        parts = [f"# {self.title}", self.subtitle, "\n".join(f"- **{name}**: {value}" for name, value in self.summary)]
        parts += [_markdown_table(table) for table in self.tables]
        parts += [_markdown_table(_curve_table(curve)) for curve in self.curves]
        for matrix in self.matrices:
            rows = [[name, *map(str, counts)] for name, counts in zip(matrix.rows, matrix.counts)]
            header = ["true \\ stated", *matrix.columns]
            parts.append(_markdown_table(Table(matrix.title, header, rows, matrix.note)))
        parts += [f"## {case.title}\n\n> {case.text.strip() or '(no text)'}\n\n{case.note}" for case in self.cases]
        parts += ["## Notes\n\n" + "\n".join(f"- {note}" for note in self.notes)] if self.notes else []
        parts.append(f"Research software, not a medical device. {self.provenance}")
        return "\n\n".join(part for part in parts if part) + "\n"


def _markdown_table(table: Table) -> str:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"

    lines = [f"## {table.title}", "", line(table.header), line(["---"] * len(table.header)), *map(line, table.rows)]
    return "\n".join([*lines, *(["", table.note] if table.note else [])])


def _curve_table(curve: Curve) -> Table:
    xs = sorted({x for series in curve.series for x in series.x})
    header = [curve.x_label, *(series.name for series in curve.series)]
    rows = []
    for x in xs:
        name = curve.ticks[int(x)] if curve.ticks else f"{x:g}"
        rows.append([name, *(_point(series, x) for series in curve.series)])
    return Table(curve.title, header, rows, curve.note or curve.y_label)


def _point(series: Series, x: float) -> str:
    places = [i for i, value in enumerate(series.x) if value == x]
    if not places or math.isnan(series.y[places[0]]):
        return "–"
    i = places[0]
    if len(series.low) and not math.isnan(series.low[i]):
        return f"{series.y[i]:.3g} [{series.low[i]:.3g}, {series.high[i]:.3g}]"
    return f"{series.y[i]:.3g}"


def _shown(case: Case) -> tuple[str | None, Any]:
    """Image URL and marked text for the page, None where absent."""
    from markupsafe import Markup

    return None if case.image is None else image_url(case.image), Markup(case.marked) if case.marked else None


def _svg_url(data: bytes) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(data).decode()}"


def draw_curve(curve: Curve) -> bytes:
    """The plot as SVG: one line a series with a band for its interval."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    # two plots side by side on a laptop, one on a phone
    figure = Figure(figsize=(5.6, 3.6), layout="constrained")
    axes = figure.add_subplot()
    for i, (series, colour, marker) in enumerate(zip(curve.series, COLOURS * 4, "osD^vPX" * 4)):
        if not curve.ordered:
            _points(axes, series, colour, marker, 0.12 * (i - (len(curve.series) - 1) / 2))
            continue
        axes.plot(series.x, series.y, color=colour, marker=marker, markersize=4, linewidth=1.6, label=series.name)
        if len(series.low):
            axes.fill_between(series.x, series.low, series.high, color=colour, alpha=0.15, linewidth=0)
    axes.set_xlabel(curve.x_label)
    axes.set_ylabel(curve.y_label)
    if curve.ticks:
        crowded = sum(map(len, curve.ticks)) > 40  # 40 characters fill the axis at this width
        turn: dict[str, Any] = {"rotation": 20, "ha": "right"} if crowded else {}
        axes.set_xticks(range(len(curve.ticks)), [textwrap.fill(name, 18) for name in curve.ticks], **turn)
    _dress(axes, len(curve.series))
    buffer = io.BytesIO()
    FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})
    return buffer.getvalue()


def _points(axes: Any, series: Series, colour: str, marker: str, shift: float) -> None:
    """Points with their intervals as bars, shifted so that they do not overlap."""
    y = np.asarray(series.y, float)
    ends = np.stack([y - series.low, series.high - y]) if len(series.low) else None
    ends = None if ends is None else np.nan_to_num(np.maximum(ends, 0))
    x = np.asarray(series.x, float) + shift
    # bars, not bands: the x values have no order
    axes.errorbar(x, y, ends, fmt=marker, color=colour, markersize=5, capsize=2, linewidth=1.2, label=series.name)


def _dress(axes: Any, lines: int) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#dfe4ea", linewidth=0.8)
    axes.set_axisbelow(True)
    low, high = axes.get_ylim()
    if low >= 0 and high <= 1.06:  # shares: the whole range, so that slopes of different plots compare
        axes.set_ylim(0, 1.03)
    if lines > 1:
        axes.legend(frameon=False, fontsize=8)


def number(value: float | None, digits: int = 1, scale: float = 1.0) -> str:
    """A number for a table; a dash for None and NaN."""
    if value is None or math.isnan(value):
        return "–"
    return f"{value * scale:.{digits}f}"


def with_interval(interval: dict[str, Any] | None, digits: int = 1, scale: float = 1.0) -> str:
    """``value [low, high]`` of an interval as a dict."""
    if not interval or interval.get("value") is None:
        return "–"
    text = number(interval["value"], digits, scale)
    if interval.get("low") is None:
        return text
    return f"{text} [{number(interval['low'], digits, scale)}, {number(interval['high'], digits, scale)}]"
