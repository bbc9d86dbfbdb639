"""Standings of several models on several benchmarks: tables with intervals, paired tests and cost."""

from __future__ import annotations

import json
import os
import pathlib
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

from gem_lightning.errors import DataError
from gem_lightning.evaluation.comparison import compare
from gem_lightning.evaluation.statistics import holm, mean_interval
from gem_lightning.features.schema import plain
from gem_lightning.jobs import write_atomically
from gem_lightning.reporting.evaluation import EvaluationReport, number, with_interval
from gem_lightning.reporting.html import Table


@dataclass
class Cell:
    """One model on one benchmark.

    Attributes:
        model, benchmark: Names in the table.
        folder: Of its run.
        report: Its page, relative to the leaderboard.
        status: ``not run``, ``done``, ``not applicable``, ``failed`` or ``interrupted``.
        why: Reason of any status but done.
        seconds: Wall time over all runs of the cell.
        answers, errors: Stored answers, and how many of them are errors.
        requests, tokens, cost_usd: Paid at endpoints, judges included; ``tokens`` also of models that count theirs.
    """

    model: str
    benchmark: str
    folder: str
    report: str = ""
    status: str = "not run"
    why: str = ""
    seconds: float = 0.0
    answers: int | None = None
    errors: int | None = None
    requests: int | None = None
    tokens: int | None = None
    cost_usd: float | None = None

    def results(self) -> dict[str, Any]:
        """Read what its run wrote."""
        found: dict[str, Any] = json.loads((pathlib.Path(self.folder) / "results.json").read_text(encoding="utf-8"))
        return found


@dataclass
class Standings:
    """Content of ``results.json`` and the page."""

    values: dict[str, Any]
    report: EvaluationReport

    def save(self, out: str | os.PathLike[str]) -> pathlib.Path:
        """Write results.json and leaderboard.html, each atomically; return the page."""
        folder = pathlib.Path(out)
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(plain(self.values), indent=1, ensure_ascii=False)
        write_atomically(folder / "results.json", text.encode())
        write_atomically(folder / "leaderboard.html", self.report.to_html().encode())
        return folder / "leaderboard.html"


def standings(cells: list[Cell]) -> Standings:
    """Collect the cells' results, and test every pair of models on the records that both answered."""
    rows = []
    for cell in cells:
        results = cell.results() if cell.status == "done" else {}
        means = _means(results)
        # a benchmark without a headline of its own is shown by its means over records
        headline = results.get("summary") or [[name, with_interval(mean, 3)] for name, mean in means.items()]
        facts = {"metrics": results.get("metrics", {}), "means": means, "headline": headline}
        rows.append(asdict(cell) | facts)
    names = list(dict.fromkeys(cell.benchmark for cell in cells))
    tests = {name: _tests([c for c in cells if c.benchmark == name and c.status == "done"]) for name in names}
    models = list(dict.fromkeys(cell.model for cell in cells))
    report = EvaluationReport("Leaderboard", f"{len(models)} models, {len(names)} benchmarks")
    report.tables = [_overview(models, names, rows)]
    for name in names:
        report.tables += _benchmark(name, [row for row in rows if row["benchmark"] == name], tests[name])
    report.tables.append(_cost(rows))
    report.notes = [
        f"{name}: {pair['a']} and {pair['b']} are not compared: {pair['error']}"
        for name in names
        for pair in tests[name]
        if "error" in pair
    ]
    return Standings({"cells": rows, "tests": tests}, report)


def _means(results: dict[str, Any]) -> dict[str, Any]:
    groups = results.get("groups") or {}
    return {
        name: mean_interval(
            [float("nan") if value is None else value for value in column.values()],
            [groups.get(i) for i in column] if groups else None,
        ).to_dict()
        for name, column in results.get("per_record", {}).items()
        if column
    }


def _tests(cells: list[Cell]) -> list[dict[str, Any]]:
    """Compare all pairs of one benchmark; P values are adjusted over all of its pairs and metrics."""
    pairs: list[dict[str, Any]] = []
    for a, b in combinations(cells, 2):
        try:
            found: dict[str, Any] = {"metrics": compare(a.folder, b.folder).metrics}
        except DataError as error:
            found = {"error": str(error)}
        pairs.append({"a": a.model, "b": b.model, **found})
    rows = [row for pair in pairs for row in pair.get("metrics", {}).values()]
    for row, p in zip(rows, holm([row["p_value"] for row in rows])):
        row["p_adjusted"] = p
    return pairs


def _why(row: dict[str, Any]) -> str:
    from markupsafe import Markup, escape

    why = escape(row["why"]).replace(", ", Markup(",&#32;"))  # the template binds numbers at commas, prose may break
    return Markup('<span class="why"><b>{}</b><br>{}</span>').format(row["status"], why)


def _overview(models: list[str], names: list[str], rows: list[dict[str, Any]]) -> Table:
    from markupsafe import Markup

    def shown(row: dict[str, Any]) -> str:
        if row["status"] != "done":
            return _why(row)
        value = row["headline"][0][1] if row["headline"] else "report"
        return Markup('<a href="{}">{}</a>').format(row["report"], value)

    by = {(row["model"], row["benchmark"]): row for row in rows}
    first = {row["benchmark"]: row["headline"][0][0] for row in rows if row["headline"]}
    header = ["Model", *(f"{name}: {first[name]}" if name in first else name for name in names)]
    note = "The first metric of each benchmark with its 95 % interval; each value leads to the run's own report."
    return Table("Models and benchmarks", header, [[m, *(shown(by[m, name]) for name in names)] for m in models], note)


def _benchmark(name: str, rows: list[dict[str, Any]], pairs: list[dict[str, Any]]) -> list[Table]:
    done = [row for row in rows if row["status"] == "done"]
    columns = list(dict.fromkeys(metric for row in done for metric, _ in row["headline"]))
    cells = [[row["model"], *(dict(row["headline"]).get(column, "–") for column in columns)] for row in done]
    tables = (
        [Table(name, ["Model", *columns], cells, "95 % bootstrap intervals, by patient where known.")] if done else []
    )
    tests = [
        [f"{pair['a']} − {pair['b']}", metric, str(row["n"]), with_interval(row["difference"], 3),
         f"{row['p_value']:.3g}", f"{row['p_adjusted']:.3g}"]
        for pair in pairs
        for metric, row in pair.get("metrics", {}).items()
    ]  # fmt: skip
    if tests:
        note = (
            "Means over the records that both answered; p by sign-flip permutation, by patient where known, adjusted "
            "after Holm over this table. For errors lower is better."
        )
        header = ["Pair", "Metric", "Records", "Difference", "p", "p, Holm"]
        tables.append(Table(f"{name}: paired tests", header, tests, note))
    return tables


def _cost(rows: list[dict[str, Any]]) -> Table:
    def count(value: int | None) -> str:
        return "–" if value is None else f"{value:,}"

    counts = ("answers", "errors", "requests", "tokens")
    shown = [
        [row["model"], row["benchmark"], row["status"], number(row["seconds"]), *(count(row[name]) for name in counts),
         number(row["cost_usd"], 4)]
        for row in rows
    ]  # fmt: skip
    header = ["Model", "Benchmark", "Status", "Seconds", "Answers", "Errors", "Requests", "Tokens", "USD"]
    note = (
        "Seconds of the whole cell with loading and scoring, over all its runs. Requests, tokens and USD are those "
        "paid at endpoints, by judges too; a dash: not known."
    )
    return Table("Cost", header, shown, note)
