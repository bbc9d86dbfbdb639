"""Report of the validation of instruction data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from gem_lightning.reporting.evaluation import Curve, EvaluationReport, Series
from gem_lightning.reporting.html import Table

if TYPE_CHECKING:
    from gem_lightning.generation.validate import ValidationReport

SHOWN = 200  # faults of one kind on the page; validation.jsonl has all
BARS = 30  # rows of one distribution on the page; validation.json has all


def validation_page(found: ValidationReport) -> EvaluationReport:
    """Build the page of a validation: faults by kind with examples, balance and lengths."""
    from gem_lightning.generation.validate import FAULTS

    counts = found.counts()
    totals = {name: sum(n for kind, n in counts.items() if FAULTS[kind][0] == name) for name in ("error", "warning")}
    tally = ", ".join(f"{n:,} {name}{'s' if n > 1 else ''}" for name, n in totals.items() if n)
    report = EvaluationReport(f"Instruction data: {found.samples:,} samples", f"{tally or 'No faults'}.")
    rows = [[kind.replace("_", " "), FAULTS[kind][0], f"{n:,}", FAULTS[kind][1]] for kind, n in counts.items()]
    report.tables = [Table("Faults", ["Kind", "Severity", "Count", "Meaning"], rows)] if rows else []
    for kind, n in counts.items():
        faults = [fault for fault in found.faults if fault["kind"] == kind][:SHOWN]
        rows = [[str(fault["id"]), str(fault["file"]), str(fault["message"])] for fault in faults]
        note = f"{n - SHOWN:,} more in validation.jsonl" if n > SHOWN else ""
        report.tables.append(Table(f"{kind.replace('_', ' ')} ({n:,})", ["Sample", "File", "Fault"], rows, note))
    report.tables.append(_counts_table("Findings that the answers state", found.labels))
    report.tables += [_counts_table("Kinds of samples", found.kinds), _counts_table("Splits", found.splits)]
    points = ("n", "mean", "min", "p5", "median", "p95", "max")
    rows = [
        [name, *(f"{round(values[point], 1):,}".removesuffix(".0") if values else "–" for point in points)]
        for name, values in ((name, found.statistics()[name]) for name in ("words", "turns"))
    ]
    header = ["Per sample", "Samples", "Mean", "Min", "5 %", "Median", "95 %", "Max"]
    report.tables.append(Table("Lengths", header, rows))
    if found.lengths:
        heights, edges = np.histogram(found.lengths, bins=min(40, max(5, len(set(found.lengths)))))
        centres = ((edges[1:] + edges[:-1]) / 2).tolist()
        series = [Series("samples", centres, heights.tolist())]
        report.curves = [Curve("Length of an answer", "words", "samples", series)]
    return report


def _counts_table(title: str, counts: Mapping[str, int]) -> Table:
    rows = [[name.replace("_", " "), f"{n:,}"] for name, n in list(counts.items())[:BARS]]
    note = f"{BARS} of {len(counts)}; validation.json has all" if len(counts) > BARS else ""
    return Table(title, ["", "Samples"], rows, note)
