"""Simulator benchmark: numbers and findings of a text against ECGs whose truth is known exactly."""

from __future__ import annotations

import math
import os
import pathlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from gem_lightning.claims.tolerance import default_tolerance
from gem_lightning.ecg import DIAGNOSES, SimulatedEcg, simulate
from gem_lightning.errors import DataError
from gem_lightning.evaluation.base import Prediction, Predictor, Progress, Query, Result, answer_all, fingerprint
from gem_lightning.evaluation.statistics import bootstrap_sums, mean_interval, ratio
from gem_lightning.evaluation.text import (
    QUANTITIES,
    TextContent,
    claims_kept,
    draw_page,
    marked_text,
    pick_cases,
    read_text,
)
from gem_lightning.evaluation.truth import decidable, truth_of_simulation
from gem_lightning.evaluation.verified import side_by_side, verified_table
from gem_lightning.reporting.evaluation import Case, Curve, EvaluationReport, Series, number, with_interval
from gem_lightning.reporting.html import Table

Truth = dict[str, SimulatedEcg]
Contents = dict[str, TextContent]

TRUTH = {"rate": "heart_rate", "PR": "pr_ms", "QRS": "qrs_ms", "QT": "qt_ms"}
RATE_STEP = 10.0  # bpm: larger than the tolerance of a rate below 170 bpm, so a text that follows must change
SIMULATION = 1_000_000  # seeds per cohort, as in gem_lightning.ecg.simulate_cohort
BINS = 6  # points of a curve: enough for a trend, each with a dozen patients in the default cohort


class SimulatorBenchmark:
    """Scores texts about simulated ECGs against the truth.

    Patients are queried a second time with another diagnosis, which exposes a text that does not follow the signal.

    Args:
        n: Number of patients.
        seed: Cohort; no patient is shared with a cohort of another seed.
        diagnoses: Names to cycle through; None takes all that the simulator knows.
        question: Question text; None is the model's usual interpretation.
        pairs: Number of patients that are queried a second time.
        fs: Sampling rate, Hz.
        seconds: Duration, s.
        parameters: Further arguments of :func:`gem_lightning.ecg.simulate`, such as ``snr_db``.
        draws: Number of bootstrap resamples.
        cases: Number of worst and typical cases in the report.
    """

    name = "simulator"

    def __init__(
        self,
        n: int = 200,
        seed: int = 7919,
        diagnoses: Sequence[str | Sequence[str]] | None = None,
        question: str | None = None,
        pairs: int | None = None,
        fs: float = 500,
        seconds: float = 10,
        parameters: dict[str, Any] | None = None,
        draws: int = 1000,
        cases: int = 4,
    ) -> None:
        if n < 1:
            raise DataError(f"expected at least 1 patient, got n={n}")
        self.n, self.seed, self.question = n, seed, question
        self.diagnoses = [d if isinstance(d, str) else tuple(d) for d in (diagnoses or DIAGNOSES)]
        self.pairs = min(n, n // 2 if pairs is None else pairs)
        self.options = {"fs": fs, "seconds": seconds, **(parameters or {})}
        self.settings = {"seed": seed, "diagnoses": self.diagnoses, "question": question, **self.options}
        self.draws, self.cases = draws, cases
        self.names = [f"sim-{seed}-{i:05d}" for i in range(n)]

    def ecg(self, name: str) -> SimulatedEcg:
        """Simulate the patient ``sim-SEED-NUMBER``, or with ``-b`` the same patient with the next diagnosis."""
        patient = int(name.split("-")[2])
        turn = patient + name.endswith("-b")
        options = dict(self.options)
        if turn != patient and len(self.diagnoses) == 1:  # there is no next diagnosis: change the rate instead
            options["heart_rate"] = 60.0 if patient % 2 else 100.0
        return simulate(self.diagnoses[turn % len(self.diagnoses)], self.seed * SIMULATION + patient, **options)

    def __call__(self, predictor: Predictor, out: str | os.PathLike[str], progress: Progress | None = None) -> Result:
        """Query the model, score its answers and build the report."""
        answers = answer_all(
            predictor,
            [*self.names, *(f"{name}-b" for name in self.names[: self.pairs])],
            lambda name: Query(name, self.question, self.ecg(name).record),
            pathlib.Path(out) / "predictions.jsonl",
            progress,
            self.settings,
        )
        return self.score(answers, predictor.name)

    def score(self, answers: dict[str, Prediction], model: str = "model") -> Result:
        """Score texts by id; missing ones count as empty."""
        truth = {name: self.ecg(name) for name in self.names}
        texts = {name: answers[name].text if name in answers else "" for name in self.names}
        contents = {name: read_text(text) for name, text in texts.items()}
        numbers, errors = _score_numbers(truth, contents, self.draws)
        findings, f1 = _score_findings(truth, contents, self.draws)
        metrics: dict[str, Any] = {
            "n": self.n,
            "numbers": numbers,
            "findings": findings,
            "uncertainty": _score_uncertainty(truth, contents, self.draws),
            "change": self._score_change(answers, truth, contents),
            "empty": sum(not content.claims for content in contents.values()),
            "failed": sum(answers[name].error is not None for name in self.names if name in answers),
            "missing": sum(name not in answers for name in self.names),
        }
        report = _report(metrics, model)
        if any(answers[name].draft is not None for name in self.names if name in answers):
            truths = {name: truth_of_simulation(ecg) for name, ecg in truth.items()}
            metrics["verified"] = side_by_side(answers, truths, self.draws)
            report.tables.insert(0, verified_table(metrics["verified"]))
        for kind, name in pick_cases(f1, self.cases):
            report.cases.append(_case(f"{kind}: {name}", truth[name], contents[name], texts[name], f1[name]))
        data = {name: fingerprint(ecg.record) for name, ecg in truth.items()}
        per_record = {**errors, "finding F1": f1}
        return Result(self.name, model, metrics, report, per_record, settings=self.settings, data=data)

    def _score_change(self, answers: dict[str, Prediction], truth: Truth, contents: Contents) -> dict[str, Any]:
        """Measure whether the text changes when the same patient's signal changes."""
        same_text, same_claims, followed = [], [], []
        for name in self.names[: self.pairs]:
            other = answers.get(f"{name}-b")
            if other is None or name not in answers:
                continue
            after, changed = read_text(other.text), self.ecg(f"{name}-b")
            same_text.append(float(other.text == answers[name].text))
            same_claims.append(claims_kept(contents[name], after))
            step = changed.parameters["heart_rate"] - truth[name].parameters["heart_rate"]
            if abs(step) > RATE_STEP:
                quoted = [content.values.get("rate", math.nan) for content in (contents[name], after)]
                followed.append(float((quoted[1] - quoted[0]) * step > 0))  # False where a rate is missing
        columns = {"identical_text": same_text, "claims_kept": same_claims, "rate_followed": followed}
        intervals = {
            name: mean_interval(values, draws=self.draws).to_dict() if values else None
            for name, values in columns.items()
        }
        return {"pairs": len(same_text), **intervals}


def _score_numbers(truth: Truth, contents: Contents, draws: int) -> tuple[dict[str, Any], dict[str, dict[str, float]]]:
    """Return the errors of quoted values, and for comparison the error of always quoting the cohort's median."""
    table: dict[str, Any] = {}
    errors: dict[str, dict[str, float]] = {}
    for quantity, (kind, unit) in QUANTITIES.items():
        values = [ecg.parameters.get(TRUTH[quantity]) for ecg in truth.values()]
        true = np.array([math.nan if value is None else float(value) for value in values])
        quoted = np.array([content.values.get(quantity, math.nan) for content in contents.values()])
        exists = ~np.isnan(true)
        error = quoted - true
        column = np.abs(error)
        allowed = np.array([default_tolerance(kind, value).value if value == value else 0.0 for value in true])
        errors[f"{quantity} error, {unit}"] = {name: float(e) for name, e in zip(truth, column) if not math.isnan(e)}
        table[quantity] = {
            "unit": unit,
            "mae": mean_interval(column, draws=draws).to_dict(),
            "bias": mean_interval(error, draws=draws).to_dict(),
            "median_answer_mae": float(np.nanmean(np.abs(true - np.nanmedian(true)))) if exists.any() else None,
            "within": mean_interval(np.where(exists, (column <= allowed) * 1.0, math.nan), draws=draws).to_dict(),
            "quoted": mean_interval(np.where(exists, ~np.isnan(quoted) * 1.0, math.nan), draws=draws).to_dict(),
            "invented": int((~exists & ~np.isnan(quoted)).sum()),
            "points": [[float(t), float(q)] for t, q in zip(true, quoted) if not math.isnan(t + q)],
        }
    return table, errors


def _score_findings(truth: Truth, contents: Contents, draws: int) -> tuple[dict[str, Any], dict[str, float]]:
    """Return the F1 of asserted findings over the codes that the simulator decides; others count as undecided."""
    codes = sorted(decidable() | {code for ecg in truth.values() for code in ecg.diagnoses})
    place = {code: i for i, code in enumerate(codes)}
    true = np.zeros((len(truth), len(codes)), bool)
    stated = np.zeros_like(true)
    undecided: Counter[str] = Counter()
    false_denials = 0
    for row, (name, ecg) in enumerate(truth.items()):
        true[row, [place[code] for code in ecg.diagnoses]] = True
        for code in contents[name].findings:
            if code in place:
                stated[row, place[code]] = True
            else:
                undecided[code] += 1
        false_denials += len(contents[name].denied & set(ecg.diagnoses))
    cells = np.stack([true & stated, ~true & stated, true & ~stated], 2).astype(float)  # (n, codes, 3): TP FP FN
    with_cases = true.any(0)

    def micro_macro(sums: np.ndarray) -> np.ndarray:
        tp, fp, fn = np.moveaxis(sums.reshape(len(sums), -1, 3), 2, 0)
        with np.errstate(invalid="ignore", divide="ignore"):
            each = 2 * tp / (2 * tp + fp + fn)
            micro = 2 * tp.sum(1) / (2 * tp + fp + fn).sum(1)
            precision, recall = tp.sum(1) / (tp + fp).sum(1), tp.sum(1) / (tp + fn).sum(1)
        macro = np.nanmean(each[:, with_cases], 1)
        return np.stack([micro, macro, precision, recall], 1)

    intervals = bootstrap_sums(cells.reshape(len(cells), -1), micro_macro, draws=draws)
    per_code = {
        code: {"cases": int(tp + fn), "stated": int(tp + fp), "right": int(tp), "f1": _f1(tp, fp, fn)}
        for code, (tp, fp, fn) in zip(codes, cells.sum(0))
        if tp + fp + fn
    }
    metrics: dict[str, Any] = {
        name: interval.to_dict() for name, interval in zip(("f1", "macro_f1", "precision", "recall"), intervals)
    }
    metrics |= {"per_code": per_code, "undecided": dict(undecided), "false_denials": false_denials}
    return metrics, {name: _f1(*row) or 0.0 for name, row in zip(truth, cells.sum(1))}


def _f1(tp: float, fp: float, fn: float) -> float | None:
    return float(2 * tp / (2 * tp + fp + fn)) if tp + fp + fn else None


def _score_uncertainty(truth: Truth, contents: Contents, draws: int) -> dict[str, Any]:
    """Return the share of true findings among those stated with certainty and among those hedged."""
    known = decidable()
    table: dict[str, Any] = {}
    for label, wanted in (("stated plainly", True), ("hedged", False)):
        parts = np.zeros((len(truth), 2))
        for row, (name, ecg) in enumerate(truth.items()):
            codes = [code for code, certain in contents[name].findings.items() if certain is wanted and code in known]
            parts[row] = sum(code in ecg.diagnoses for code in codes), len(codes)
        share = bootstrap_sums(parts, ratio, draws=draws)[0].to_dict()
        table[label] = {"findings": int(parts[:, 1].sum()), "true": share}
    return table


# -- report ----------------------------------------------------------------------------------------------------------


def _report(metrics: dict[str, Any], model: str) -> EvaluationReport:
    """Build the tables, curves and notes."""
    found = metrics["findings"]
    report = EvaluationReport(
        f"Simulated ECGs: {model}",
        f"{metrics['n']} patients whose every interval and diagnosis is known exactly",
        [("finding F1", with_interval(found["f1"], 2)), ("finding precision", with_interval(found["precision"], 2))],
    )
    for quantity, row in metrics["numbers"].items():
        report.summary.append((f"mean error of {quantity}, {row['unit']}", number(row["mae"]["value"])))
    rows = [
        [label, str(row["findings"]), with_interval(row["true"], 2)] for label, row in metrics["uncertainty"].items()
    ]
    note = "A model whose hedging is informative is right more often when it does not hedge."
    hedging = Table("Is stated uncertainty informative?", ["Finding is", "How often", "Share true"], rows, note)
    report.tables = [_numbers_table(metrics), _findings_table(found), hedging, _change_table(metrics["change"])]
    report.curves = [curve for name, row in metrics["numbers"].items() if (curve := _curve(name, row))]
    undecided = sorted(found["undecided"].items(), key=lambda item: -item[1])[:8]
    report.notes = [
        "Truth is by construction: the simulator draws each wave with exact onsets and offsets. Artefacts and "
        "pathologies that it does not draw are not covered.",
        "Errors are over quoted values only; read them with the share that is quoted. The median answer quotes the "
        "cohort's median each time: a model that does not beat it does not read the signal.",
        "Findings outside the simulator's own codes are not scored: "
        f"{', '.join(f'{code} {n}' for code, n in undecided) or 'none'}.",
        f"Without any claim: {metrics['empty']}; failed: {metrics['failed']}; missing: {metrics['missing']}.",
    ]
    return report


def _numbers_table(metrics: dict[str, Any]) -> Table:
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
        for name, row in metrics["numbers"].items()
    ]
    header = ["Quoted", "Mean error", "Median answer's", "Bias", "Right", "Quoted in", "Invented"]
    note = (
        f"{metrics['n']} held-out simulated ECGs; 95 % bootstrap intervals. Right: within the tolerance of "
        "docs/claims.md, of all records that have the quantity; invented: quoted although it does not exist, such as "
        "PR in atrial fibrillation."
    )
    return Table("Numbers in the text against the truth", header, rows, note)


def _findings_table(found: dict[str, Any]) -> Table:
    order = sorted(found["per_code"].items(), key=lambda item: (-item[1]["cases"], item[0]))
    rows = [
        ["all, micro", "", "", "", with_interval(found["f1"], 2)],
        ["all, macro", "", "", "", with_interval(found["macro_f1"], 2)],
    ]
    for code, r in order:
        counts = [str(r["cases"]), str(r["stated"]), str(r["right"])]
        rows.append([code.replace("_", " "), *counts, number(r["f1"], 2)])
    note = f"Findings stated as absent that are present: {found['false_denials']}."
    return Table("Findings", ["Finding", "Cases", "Stated", "Right", "F1"], rows, note)


def _change_table(change: dict[str, Any]) -> Table:
    names = {"identical_text": "identical text", "claims_kept": "claims kept"}
    names["rate_followed"] = "quoted rate changes in the right direction"
    rows = [[label, with_interval(change[name], 2)] for name, label in names.items()]
    note = f"{change['pairs']} patients queried twice, the second time with another diagnosis."
    return Table("Does the text change when the signal does?", ["Pair of texts", "Share"], rows, note)


def _curve(name: str, row: dict[str, Any]) -> Curve | None:
    """Plot quoted against true values in bins of equal count, with the diagonal."""
    points = np.array(row["points"])
    if len(points) < 2 * BINS:
        return None
    bins = np.array_split(points[np.argsort(points[:, 0])], BINS)
    x, y = ([float(b[:, i].mean()) for b in bins] for i in (0, 1))
    # 95 % interval of a mean: 1.96 standard errors
    spread = [float(1.96 * b[:, 1].std() / np.sqrt(len(b))) for b in bins]
    lines = [
        Series("quoted", x, y, [a - s for a, s in zip(y, spread)], [a + s for a, s in zip(y, spread)]),
        Series("exact", x, x),
    ]
    unit = QUANTITIES[name][1]
    return Curve(f"{name}: quoted against true", f"true {name}, {unit}", f"mean quoted {name}, {unit}", lines)


def _case(title: str, ecg: SimulatedEcg, content: TextContent, text: str, f1: float) -> Case:
    facts = {key: ecg.parameters[key] for key in ("heart_rate", "pr_ms", "qrs_ms", "qt_ms")}
    true = ", ".join(f"{key.split('_')[0]} {number(value, 0)}" for key, value in facts.items())
    quoted = ", ".join(f"{key} {value:.0f}" for key, value in content.values.items()) or "nothing"
    note = f"Truth: {', '.join(ecg.diagnoses).replace('_', ' ')}; {true}. Quoted: {quoted}. Finding F1 {f1:.2f}."
    return Case(title, text, draw_page(ecg.record), marked_text(text, ecg.record), note)
