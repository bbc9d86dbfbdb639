"""The encoder benchmark's figures for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gem_lightning.reporting.evaluation import EvaluationReport
from gem_lightning.reporting.html import Table

_WAYS = {"zero_shot": "Zero-shot, from prompts", "linear_probe": "Linear probe"}


def encoder_report(name: str, figures: Mapping[str, Any]) -> EvaluationReport:
    """Tables of the macro AUC of each way of scoring, and of every label.

    Args:
        name: Of the encoder.
        figures: What ``EncoderBenchmark`` found.
    """
    ways = [way for way in _WAYS if way in figures]
    head = Table("Macro AUC", ["way", "AUC", "95 % interval by patient"])
    for way in ways:
        found = figures[way]
        head.rows.append([_WAYS[way], _number(found["value"]), f"{_number(found['low'])}–{_number(found['high'])}"])
    for shots, found in figures.get("few_shot", {}).items():
        spread = f"± {_number(found['sd'])} over draws"
        head.rows.append([f"Probe on {shots} with and {shots} without", _number(found["value"]), spread])
    each = Table("AUC of each label", ["label", "records", *(_WAYS[way] for way in ways)])
    for label in figures[ways[0]]["labels"] if ways else ():
        rows = [figures[way]["labels"][label] for way in ways]
        each.rows.append([label, str(rows[0]["records"]), *(_number(row["auc"]) for row in rows)])
    records = ", ".join(f"{count} {split}" for split, count in figures["records"].items())
    return EvaluationReport(
        title=f"Encoder: {name}",
        subtitle=f"{figures['task']}; records: {records}",
        summary=[(row[0], row[1]) for row in head.rows],
        tables=[head, each],
        notes=["Intervals come from resampling patients. Labels without both classes in the test set are left out."],
    )


def _number(value: float | None) -> str:
    return "–" if value is None or value != value else f"{value:.3f}"
