"""The simulator benchmark's findings as a report."""

from __future__ import annotations

from typing import Any

import numpy as np

from gem_lightning.ecg import SimulatedEcg
from gem_lightning.evaluation.text import QUANTITIES, Said, draw_page, marked_text, pick_cases
from gem_lightning.reporting.evaluation import Case, Curve, EvaluationReport, Series, number, with_interval
from gem_lightning.reporting.html import Table

BINS = 6


def simulator_report(
    figures: dict[str, Any],
    model: str,
    truth: dict[str, SimulatedEcg],
    said: dict[str, Said],
    texts: dict[str, str],
    f1: dict[str, float],
    cases: int,
) -> EvaluationReport:
    """Tables, curves and cases."""
    found = figures["findings"]
    report = EvaluationReport(
        f"Simulated ECGs: {model}",
        f"{figures['n']} patients whose every interval and diagnosis is known exactly",
        [("finding F1", with_interval(found["f1"], 2)), ("finding precision", with_interval(found["precision"], 2))],
    )
    for quantity, row in figures["numbers"].items():
        report.summary.append((f"mean error of {quantity}, {row['unit']}", number(row["mae"]["value"])))
    report.tables = [_numbers(figures), _findings(found), _uncertainty(figures), _change(figures)]
    report.curves = [curve for name, row in figures["numbers"].items() if (curve := _curve(name, row))]
    for kind, name in pick_cases(f1, cases):
        report.cases.append(_case(kind, name, truth[name], said[name], texts[name], f1[name]))
    report.notes = [
        "Truth is by construction: the simulator draws each wave with exact onsets and offsets. It says nothing about "
        "artefacts and pathologies that it does not draw.",
        "Errors are over quoted values only; read them with the share that is quoted. The median answer quotes the "
        "cohort's median each time: a model that does not beat it does not read the signal.",
        f"Findings outside the simulator's own codes are not scored: {_counts(found['undecided'])}.",
        f"Without any claim: {figures['empty']}; failed: {figures['failed']}; missing: {figures['missing']}.",
    ]
    return report


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{code} {n}" for code, n in sorted(counts.items(), key=lambda item: -item[1])[:8]) or "none"


def _numbers(figures: dict[str, Any]) -> Table:
    rows = [
        [
            f"{name}, {row['unit']}",
            with_interval(row["mae"]),
            number(row["median_answer_mae"]),
            with_interval(row["bias"]),
            f"{number(row['within']['value'], 0, 100)} %",
            f"{number(row['quoted']['value'], 0, 100)} %",
            str(row["invented"]),
        ]
        for name, row in figures["numbers"].items()
    ]
    header = ["Quoted", "Mean error", "Median answer's", "Bias", "Right", "Quoted in", "Invented"]
    note = (
        f"{figures['n']} held-out simulated ECGs; 95 % bootstrap intervals. Right: within the tolerance of "
        "docs/claims.md, of all records that have the quantity; invented: quoted although it does not exist, such as "
        "PR in atrial fibrillation."
    )
    return Table("Numbers in the text against the truth", header, rows, note)


def _findings(found: dict[str, Any]) -> Table:
    order = sorted(found["per_code"].items(), key=lambda item: (-item[1]["cases"], item[0]))
    rows = [
        [code.replace("_", " "), str(r["cases"]), str(r["stated"]), str(r["right"]), number(r["f1"], 2)]
        for code, r in order
    ]
    rows.insert(0, ["all, micro", "", "", "", with_interval(found["f1"], 2)])
    rows.insert(1, ["all, macro", "", "", "", with_interval(found["macro_f1"], 2)])
    note = f"Findings said to be absent that are there: {found['false_denials']}."
    return Table("Findings", ["Finding", "Cases", "Stated", "Right", "F1"], rows, note)


def _uncertainty(figures: dict[str, Any]) -> Table:
    rows = [[word, str(row["findings"]), with_interval(row["true"], 2)] for word, row in figures["uncertainty"].items()]
    note = "A model whose hedges mean something is right more often when it does not hedge."
    return Table("Does stated uncertainty mean something?", ["Finding is", "How often", "Share true"], rows, note)


def _change(figures: dict[str, Any]) -> Table:
    change = figures["change"]
    rows = [
        ["identical text", with_interval(change["identical_text"], 2)],
        ["claims kept", with_interval(change["claims_kept"], 2)],
        ["quoted rate moves the right way", with_interval(change["rate_followed"], 2)],
    ]
    note = f"{change['pairs']} patients asked about twice, the second time with another diagnosis."
    return Table("Does the text change when the signal does?", ["Pair of texts", "Share"], rows, note)


def _curve(name: str, row: dict[str, Any]) -> Curve | None:
    """Quoted against true value in bins of equal count, with the diagonal."""
    points = np.array(row["points"])
    if len(points) < 2 * BINS:
        return None
    points = points[np.argsort(points[:, 0])]
    bins = np.array_split(points, BINS)
    x = [float(b[:, 0].mean()) for b in bins]
    y = [float(b[:, 1].mean()) for b in bins]
    spread = [float(1.96 * b[:, 1].std() / np.sqrt(len(b))) for b in bins]
    lines = [
        Series("quoted", x, y, [a - s for a, s in zip(y, spread)], [a + s for a, s in zip(y, spread)]),
        Series("exact", x, x),
    ]
    unit = QUANTITIES[name][1]
    return Curve(f"{name}: quoted against true", f"true {name}, {unit}", f"mean quoted {name}, {unit}", lines)


def _case(kind: str, name: str, ecg: SimulatedEcg, said: Said, text: str, f1: float) -> Case:
    facts = {key: ecg.parameters[key] for key in ("heart_rate", "pr_ms", "qrs_ms", "qt_ms")}
    true = ", ".join(f"{key.split('_')[0]} {number(value, 0)}" for key, value in facts.items())
    quoted = ", ".join(f"{key} {value:.0f}" for key, value in said.values.items()) or "nothing"
    note = f"Truth: {', '.join(ecg.diagnoses).replace('_', ' ')}; {true}. Quoted: {quoted}. Finding F1 {f1:.2f}."
    return Case(f"{kind}: {name}", text, draw_page(ecg.record), marked_text(text, ecg.record), note)
