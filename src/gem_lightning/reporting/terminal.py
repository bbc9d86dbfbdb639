"""Measurements and findings in a terminal."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from gem_lightning.reporting.evidence import evidence_text

if TYPE_CHECKING:
    from rich.console import Console

    from gem_lightning.features.schema import EcgFeatures, Finding
    from gem_lightning.reporting.interpretation import Interpretation

_WIDE = 100  # characters of a line in a file, where no terminal states its width
_LONGEST_NAME = 44  # of a file in a line of measurements, so that a line of 120 characters holds the first findings


def takes_color() -> bool:
    """Return whether standard output takes ANSI colours: a terminal, and no NO_COLOR (https://no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def console() -> Console:
    """Return a console on standard output: no colour in a file or with NO_COLOR, and no invented highlights."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else _WIDE, highlight=False)


def print_measurements(measured: Interpretation, name: str, explain: bool = False) -> None:
    """Print one recording: measurements in columns, abnormal findings with evidence, the normal ones in a line.

    Args:
        measured: The recording.
        name: Of its file.
        explain: Also print the criterion of each finding.
    """
    from rich.markup import escape
    from rich.padding import Padding

    out = console()
    with out.capture() as page:
        out.print(f"[bold]{escape(name)}[/bold] · {escape(_about(measured))}")
        if measured.quality.refused:
            out.print(Padding(f"[bold]{escape(measured.quality.refused)}[/bold]", (1, 0, 0, 2)))
        else:
            for reason in measured.quality.reasons:
                out.print(escape(f"  {reason}"))
        if measured.features.reason:
            out.print(Padding(escape(f"not measured: {measured.features.reason}"), (1, 0, 1, 2)))
        else:
            out.print(Padding(_values(measured.features), (1, 0, 1, 2)))
        if measured.findings:
            _print_findings(out, measured.findings, explain)
    _write(page.get())


def _write(page: str) -> None:
    """Write a page without the spaces that rich fills lines up with."""
    sys.stdout.write(re.sub(r" +$", "", page, flags=re.MULTILINE))


def _about(measured: Interpretation) -> str:
    """Length, leads, beats, patient and quality in one line."""
    record, features = measured.record, measured.features
    facts = [f"{record.seconds:.1f} s, {len(record.leads)} leads, {len(features.beats)} beats"]
    patient = [] if features.age is None else [f"{features.age:.0f} years"]
    sex = {"M": "man", "F": "woman"}.get(features.sex or "")
    facts += [", ".join([*([sex] if sex else []), *patient])] if sex or patient else []
    return " · ".join([*facts, f"quality: {measured.quality.verdict}"])


def _values(features: EcgFeatures) -> Any:
    """A grid of name and value, three pairs of columns: intervals, axes, QTc by formula."""
    from itertools import zip_longest

    from rich.table import Table

    intervals = [("heart rate", features.heart_rate_bpm, "bpm"), ("RR", features.rr_ms, "ms")]
    intervals += [(n, getattr(features, f"{n.lower()}_ms"), "ms") for n in ("P", "PR", "QRS", "QT")]
    axes = [(f"{wave} axis", value, "°") for wave, value in features.axis_deg.items()]
    corrected = [(f"QTc {formula.capitalize()}", value, "ms") for formula, value in features.qtc_ms.items()]
    grid = Table.grid(padding=(0, 2))
    for _ in range(3):
        grid.add_column()
        grid.add_column(justify="right", min_width=8)
    for row in zip_longest(intervals, axes, corrected):
        grid.add_row(*(cell for pair in row for cell in (("", "") if pair is None else (pair[0], _value(*pair[1:])))))
    return grid


def _print_findings(out: Console, found: Sequence[Finding], explain: bool) -> None:
    """Abnormal findings with what they rest on, then the normal ones, then the sources of what is shown in full."""
    from rich.markup import escape
    from rich.padding import Padding
    from rich.table import Table

    sources: dict[str, int] = {}
    shown = sorted((one for one in found if one.abnormal), key=lambda one: not one.urgent)
    normal = [one for one in found if not one.abnormal]
    table = Table.grid(padding=(0, 2))
    table.add_column(min_width=28)
    table.add_column()
    for one in [*shown, *(normal if explain else [])]:
        style = "bold red" if one.urgent else "bold" if one.abnormal else "none"
        number = sources.setdefault(_citation(one.source, explain), len(sources) + 1)
        criterion = f"\ncriterion: {one.threshold}" if explain else ""
        evidence = escape(f"{evidence_text(one)} [{number}]{criterion}")
        table.add_row(f"[{style}]{escape(_statement(one))}[/{style}]", evidence)
    if sources:
        out.print(Padding(table, (0, 0, 1, 2)))
    if normal and not explain:
        text = ", ".join(_statement(one) for one in normal)
        out.print(Padding(escape(text if shown else f"nothing abnormal: {text}"), (0, 0, 1, 2)))
    for source, number in sources.items():
        out.print(Padding(f"[dim]{escape(f'[{number}] {source}')}[/dim]", (0, 0, 0, 2)))


def _citation(source: str, explain: bool) -> str:
    """A source without the names of this library's own limits, which only who looks a criterion up needs."""
    return source if explain else re.sub(r"set by this library: [\w, ]+", "some limits set by this library", source)


def _statement(finding: Finding) -> str:
    """A finding with its certainty where that is not definite; urgent ones are marked, also without colour."""
    doubt = "" if finding.certainty == "definite" else f" ({finding.certainty})"
    return ("! " if finding.urgent else "") + finding.statement + doubt


def _value(value: float | None, unit: str) -> str:
    return "–" if value is None else f"{value:.0f}{'' if unit == '°' else ' '}{unit}"


class MeasuredLines:
    """Prints several recordings, one line each under a common head.

    Args:
        names: Of all their files; the longest sets the width of the first column.
    """

    _COLUMNS = (("rate", 5), ("PR", 5), ("QRS", 5), ("QTc", 5), ("axis", 6), ("quality", 9))

    def __init__(self, names: Sequence[str]) -> None:
        # the folder that all are in; commonpath refuses relative names among absolute ones
        self._cut = os.path.commonprefix(list(names)).rfind(os.sep) + 1  # noqa: RUF071
        self._width = min(max(map(len, names)) - self._cut, _LONGEST_NAME)
        self._begun = False

    @cached_property
    def _console(self) -> Console:
        return console()

    def print(self, name: str, measured: Interpretation) -> None:
        """Print the line of one recording: bpm, ms, degrees, and its abnormal findings."""
        if not self._begun:
            head = "".join(title.rjust(width) for title, width in self._COLUMNS[:-1])
            self._line(f"{'file'.ljust(self._width)}{head}  {'quality'.ljust(9)}findings")
            self._begun = True
        features = measured.features
        qtc, axis = features.qtc_ms.get("fridericia"), features.axis_deg.get("QRS")
        values = (features.heart_rate_bpm, features.pr_ms, features.qrs_ms, qtc, axis)
        cells = "".join(
            ("–" if value is None else f"{value:.0f}").rjust(width) for value, (_, width) in zip(values, self._COLUMNS)
        )
        name = name[self._cut :]
        short = name if len(name) <= self._width else f"…{name[1 - self._width :]}"
        self._line(f"{short.ljust(self._width)}{cells}  {measured.quality.verdict.ljust(9)}{_conclusion(measured)}")

    def _line(self, text: str) -> None:
        """One line, cut at the width of a terminal, whole in a file."""
        from rich.text import Text

        cut = sys.stdout.isatty()
        self._console.print(Text(text), no_wrap=True, overflow="ellipsis" if cut else "ignore", crop=cut)


def _conclusion(measured: Interpretation) -> str:
    """The abnormal findings, urgent ones first and marked; or why there are none."""
    if measured.quality.refused:
        return f"not interpreted: {', '.join(reason.split(':')[0] for reason in measured.quality.reasons)}"
    if measured.features.reason:
        return f"not measured: {measured.features.reason}"
    found = sorted((one for one in measured.findings if one.abnormal), key=lambda one: not one.urgent)
    return ", ".join(map(_statement, found)) or "nothing abnormal"


def print_facts(facts: Mapping[str, Any]) -> None:
    """Print named facts, one a line; nested ones joined by commas."""
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    for name, value in facts.items():
        table.add_row(name.replace("_", " "), Text(_plain(value)))
    out = console()
    with out.capture() as page:
        out.print(table)
    _write(page.get())


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {_plain(inner)}" for name, inner in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(_plain(inner) for inner in value) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
