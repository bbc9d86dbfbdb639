"""Tables of the ECG-Bench and ECG-Grounding reports."""

from __future__ import annotations

from typing import Any

from gem_lightning.evaluation.ecgbench.baselines import ECG_BENCH, ECG_GROUNDING, GEM, PULSE
from gem_lightning.evaluation.ecgbench.tasks import TASKS
from gem_lightning.evaluation.llm_judge import grounding
from gem_lightning.reporting.evaluation import number, with_interval
from gem_lightning.reporting.html import Table

#: Strict figure to what legacy calls it.
LEGACY_NAMES = {"accuracy": "accuracy", "auc": "", "balanced_accuracy": "auc", "f1": "f1", "hamming": "hamming"}


def headline(figures: dict[str, Any]) -> Table:
    """Strict and legacy side by side."""
    rows = []
    for name, found in figures.items():
        task = TASKS[name]
        if not found or "strict" not in found:
            rows.append([task.title, "judged", "–" if found else "no judge was given", "", "", ""])
            continue
        ours, old = found["strict"], found["legacy"] or {}
        for key, old_key in LEGACY_NAMES.items():
            if key in ours:
                values = [with_interval(ours["intervals"][key], 1, 100), number(old.get(old_key), 1, 100)]
                unread = f"{number(ours['unparsed_rate'], 1, 100)} %"
                rows.append([task.title, key.replace("_", " "), *values, unread, f"{ours['n']} of {task.n}"])
    note = (
        "Per cent, with 95 % bootstrap intervals, by patient where patients are known. Missing and unread answers are "
        "wrong in every figure."
    )
    header = ["Task", "Figure", "Strict", "Legacy", "Unread or missing", "Samples"]
    return Table("Figures", header, rows, note)


def per_label(title: str, table: dict[str, Any]) -> Table:
    """One row a label."""
    shares = ("sensitivity", "specificity", "precision", "f1")
    rows = [
        [label, str(row["cases"]), str(row["stated"]), *(number(row[key], 2) for key in shares)]
        for label, row in table.items()
    ]
    return Table(
        f"{title} by label", ["Label", "Cases", "Stated", "Sensitivity", "Specificity", "Precision", "F1"], rows
    )


def published(figures: dict[str, Any]) -> Table:
    """The published figures of the same tasks."""
    systems = ("random", "GPT-4o", "PULSE", "GEM (LLaVA)", "GEM (PULSE)")
    rows = []
    for name in figures:
        known = ECG_BENCH.get(name, {})
        cells = ["/".join(f"{v:g}" for v in known[s]) if s in known else "–" for s in systems]
        rows.append([TASKS[name].title, *cells])
    note = f"Label tasks: AUC/F1/Hamming loss. Sources: {GEM}; {PULSE}."
    return Table("Published, under the legacy rules", ["Task", *systems], rows, note)


def published_grounding() -> Table:
    """The published figures, by judge and test set."""
    names = [criterion.name for criterion in grounding.V1]
    columns = [(where, system) for where, systems in ECG_GROUNDING.items() for system in systems]
    rows = [[name, *(f"{ECG_GROUNDING[w][s][i]:g}" for w, s in columns)] for i, name in enumerate(names)]
    note = f"Source: {GEM}. Judge gpt-4o-2024-08-06 with the authors' prompt, legacy rules."
    return Table("Published", ["Criterion", *(f"{s} ({w})" for w, s in columns)], rows, note)
