"""Paired comparison of two runs of one benchmark, record by record."""

from __future__ import annotations

import json
import os
import pathlib
from typing import Any

from gem_lightning.errors import DataError
from gem_lightning.evaluation.base import Result
from gem_lightning.evaluation.statistics import holm, paired_test
from gem_lightning.reporting.evaluation import EvaluationReport, number
from gem_lightning.reporting.html import Table


def compare(run_a: str | os.PathLike[str], run_b: str | os.PathLike[str], seed: int = 0) -> Result:
    """Run paired tests on every metric that both runs have for the same records.

    Args:
        run_a: Folder of a run (or its results.json).
        run_b: Another, of the same benchmark.
        seed: Seed of the permutations.

    Returns:
        Result whose ``metrics`` map each name to its test, with P values also adjusted for multiple testing (Holm).

    Raises:
        DataError: A folder without results, different benchmarks, settings or records, or nothing in common.
    """
    a, b = _results(run_a), _results(run_b)
    if a["benchmark"] != b["benchmark"]:
        raise DataError(f"expected two runs of one benchmark, got {a['benchmark']!r} and {b['benchmark']!r}")
    _check_alike(a, b)
    metrics: dict[str, Any] = {}
    excluded = sorted(set(a["per_record"]) ^ set(b["per_record"]))
    groups = {**b["groups"], **a["groups"]}
    for name in a["per_record"]:
        one, two = a["per_record"][name], b["per_record"].get(name, {})
        ids = [i for i in one if i in two]
        if not ids:
            continue
        known = [groups.get(i) for i in ids] if groups else None
        test = paired_test([one[i] for i in ids], [two[i] for i in ids], known, seed=seed)
        metrics[name] = test.to_dict() | {"n": len(ids), "only_a": len(one) - len(ids), "only_b": len(two) - len(ids)}
    if not metrics:
        raise DataError(
            "expected metrics of the same records in both runs, got none in common; scores of different judges or "
            "prompts are never compared"
        )
    for row, p in zip(metrics.values(), holm([row["p_value"] for row in metrics.values()])):
        row["p_adjusted"] = p
    return Result("compare", f"{a['model']} − {b['model']}", metrics, _report(a, b, metrics, excluded))


def _results(run: str | os.PathLike[str]) -> dict[str, Any]:
    path = pathlib.Path(run)
    path = path / "results.json" if path.is_dir() else path
    if not path.is_file():
        raise DataError(f"expected the results of `evaluate` at {path}, found none; give the folder of a run")
    return json.loads(path.read_text(encoding="utf-8"))


def _check_alike(a: dict[str, Any], b: dict[str, Any]) -> None:
    """Refuse runs that are not comparable; results of older versions lack this information and pass."""
    settings = [run.get("settings", {}) for run in (a, b)]
    unlike = [
        f"{name}: {settings[0][name]!r} and {settings[1][name]!r}"
        for name in settings[0]
        if name in settings[1] and settings[0][name] != settings[1][name]
    ]
    if unlike:
        raise DataError(f"expected two runs with the same settings, got {'; '.join(unlike)}; rerun one of them")
    data = [run.get("data", {}) for run in (a, b)]
    changed = [name for name in data[0] if name in data[1] and data[0][name] != data[1][name]]
    if changed:
        raise DataError(
            f"expected the same records in both runs, got other content under {len(changed)} of "
            f"{len(data[0].keys() & data[1].keys())} ids, such as {changed[0]!r}; rerun both on the same data"
        )


def _report(a: dict[str, Any], b: dict[str, Any], metrics: dict[str, Any], excluded: list[str]) -> EvaluationReport:
    rows = []
    for name, row in metrics.items():
        gap = row["difference"]
        rows.append([
            name, str(row["n"]), f"{number(gap['value'], 3)} [{number(gap['low'], 3)}, {number(gap['high'], 3)}]",
            f"{row['wins']} / {row['ties']} / {row['losses']}", f"{row['p_value']:.3g}", f"{row['p_adjusted']:.3g}",
            "–" if row["mcnemar"] is None else f"{row['mcnemar']:.3g}",
        ])  # fmt: skip
    header = ["Metric", "Records", "Difference", "Higher / equal / lower", "p", "p, Holm", "p, McNemar"]
    note = (
        f"Difference: {a['model']} minus {b['model']}, mean over records with 95 % bootstrap interval; p by sign-flip "
        "permutation, both by patient where patients are known. For errors lower is better."
    )
    report = EvaluationReport(f"{a['model']} against {b['model']}", f"Benchmark {a['benchmark']}, the same records")
    report.tables = [Table("Paired comparison", header, rows, note)]
    if excluded:
        report.notes.append(f"In one of the runs only, hence not compared: {', '.join(excluded)}.")
    return report
