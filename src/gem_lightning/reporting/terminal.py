"""Measurements and findings in a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gem_lightning.reporting.evidence import evidence_text

if TYPE_CHECKING:
    from gem_lightning.ecg.record import EcgRecord
    from gem_lightning.features.schema import EcgFeatures, Finding

_ROWS = (
    ("Heart rate", "heart_rate_bpm", "bpm"),
    ("RR", "rr_ms", "ms"),
    ("P", "p_ms", "ms"),
    ("PR", "pr_ms", "ms"),
    ("QRS", "qrs_ms", "ms"),
    ("QT", "qt_ms", "ms"),
)


def print_measurements(record: EcgRecord, features: EcgFeatures, found: Sequence[Finding]) -> None:
    """Print measurements, then findings with evidence and criterion, then their sources."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    values = Table(title=f"{record.seconds:.1f} s, {len(record.leads)} leads, {len(features.beats)} beats", box=None)
    values.add_column("measured")
    values.add_column("", justify="right")
    for name, key, unit in _ROWS:
        values.add_row(name, _value(getattr(features, key), unit))
    for formula, value in features.qtc_ms.items():
        values.add_row(f"QTc {formula}", _value(value, "ms"))
    for wave, value in features.axis_deg.items():
        values.add_row(f"{wave} axis", _value(value, "°"))
    console.print(values)
    if features.reason:
        console.print(f"not measured: {features.reason}")
    table = Table(title="findings", box=None)
    for column in ("finding", "evidence", "criterion", "source"):
        table.add_column(column)
    sources: dict[str, int] = {}
    for one in found:
        doubt = "" if one.certainty == "definite" else f" ({one.certainty})"
        number = sources.setdefault(one.source, len(sources) + 1)
        table.add_row(one.statement + doubt, evidence_text(one), one.threshold, str(number))
    console.print(table)
    for source, number in sources.items():
        console.print(f"{number:2d} {source}", highlight=False)


def _value(value: float | None, unit: str) -> str:
    return "–" if value is None else f"{value:.0f} {unit}"


def print_facts(facts: Mapping[str, Any]) -> None:
    """Print named facts, one a line; nested ones joined by commas."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, show_header=False)
    for name, value in facts.items():
        table.add_row(name.replace("_", " "), _plain(value))
    Console().print(table)


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {_plain(inner)}" for name, inner in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(_plain(inner) for inner in value) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
