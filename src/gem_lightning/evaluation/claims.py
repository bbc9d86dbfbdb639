"""Claims benchmark: every checkable statement of a text against its own record, without a judge."""

from __future__ import annotations

import math
import os
import pathlib
from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np

from gem_lightning.claims.verify import verify
from gem_lightning.ecg.record import LEADS
from gem_lightning.errors import DataError, GemError
from gem_lightning.evaluation.base import (
    Prediction,
    Predictor,
    Progress,
    Query,
    RecordSet,
    Result,
    answer_all,
    fingerprint,
)
from gem_lightning.evaluation.statistics import Interval, bootstrap_sums
from gem_lightning.evaluation.text import draw_page, pick_cases
from gem_lightning.evaluation.truth import truth_of_marks
from gem_lightning.evaluation.verified import side_by_side, verified_table
from gem_lightning.features import measure
from gem_lightning.reporting.evaluation import Case, EvaluationReport, number, with_interval
from gem_lightning.reporting.html import Table

VERDICTS = ("supported", "contradicted", "unverifiable")
#: After revision the verifier's own precision is 1 by construction, so it is never reported of a final text.
_OF_DRAFTS = (
    "These texts were revised by the verifier that scores them: all metrics of this page but draft and final are of "
    "the model's own sentences. Final texts are scored against truth alone: marks=wfdb, or benchmark=simulator."
)
METRICS = ("precision", "hallucination_rate", "coverage", "leads_covered", "claims")


class ClaimsBenchmark:
    """Verifies any model's texts over any readable records.

    The same texts are also verified against *another* patient's record: the precision of statements that hold for most
    ECGs.

    Args:
        source: Records (see :class:`~gem_lightning.evaluation.base.RecordSet`).
        question: Question text; None is the model's usual interpretation.
        limit: Maximum number of records.
        tolerance: Tolerance of numbers, as in :func:`gem_lightning.grounding.verify`.
        draws: Number of bootstrap resamples.
        cases: Number of worst and typical cases in the report.
        marks: ``wfdb``: experts' marks lie next to the records (:func:`~gem_lightning.evaluation.truth.expert_marks`);
            texts that verification may have changed are scored against measurements at these marks, before and after.
    """

    name = "claims"

    def __init__(
        self,
        source: Any,
        question: str | None = None,
        limit: int | None = None,
        tolerance: Mapping[str, float] | float | None = None,
        draws: int = 1000,
        cases: int = 4,
        marks: str | None = None,
    ) -> None:
        if marks not in (None, "wfdb"):
            raise DataError(f"expected marks to be null or wfdb, got {marks!r}")
        self.marks = marks
        self.records = RecordSet(source, limit)
        self.question, self.tolerance, self.draws, self.cases = question, tolerance, draws, cases

    def __call__(self, predictor: Predictor, out: str | os.PathLike[str], progress: Progress | None = None) -> Result:
        """Query the model, verify its texts and build the report."""
        answers = answer_all(
            predictor,
            self.records.names,
            lambda name: Query(name, self.question, self.records.read(name), source=self.records.reference(name)),
            pathlib.Path(out) / "predictions.jsonl",
            progress,
            {"question": self.question},
        )
        return self.score(answers, predictor.name)

    def score(self, answers: Mapping[str, Prediction], model: str = "model") -> Result:
        """Verify texts by record id; a record without a text counts as one without claims."""
        texts = {name: _own_text(answers.get(name)) for name in self.records.names}
        measured: dict[str, Any] = {}
        unreadable: dict[str, str] = {}
        data: dict[str, str] = {}
        for name in self.records.names:
            try:
                record = self.records.read(name)
                measured[name], data[name] = measure(record), fingerprint(record)
            except GemError as error:
                unreadable[name] = str(error)
        reports = {name: verify(texts[name], features, self.tolerance) for name, features in measured.items()}
        elsewhere = {name: self.records.another(name) for name in reports} if len(reports) > 1 else {}
        shuffled = [
            verify(texts[name], measured[other], self.tolerance)
            for name, other in elsewhere.items()
            if other in measured
        ]
        metrics = claim_metrics(list(reports.values()), self.records.patients(list(reports)), self.draws)
        chance = claim_metrics(shuffled, None, 0) if shuffled else {}
        metrics["precision_on_another_record"] = chance.get("precision", {}).get("value")
        metrics |= {
            "by_kind": _by_kind(reports.values()),
            "by_diagnosis": _by_diagnosis(reports, self.draws),
            "records": len(reports),
            "unreadable": unreadable,
            "without_claims": sum(not report.verdicts for report in reports.values()),
            "missing": sum(name not in answers or answers[name].error is not None for name in reports),
        }
        per_record: dict[str, Any] = {
            "precision": {n: r.precision for n, r in reports.items() if r.precision is not None},
            "hallucination rate": {n: r.hallucination_rate for n, r in reports.items() if r.verdicts},
            "coverage": {n: r.coverage for n, r in reports.items() if r.coverage is not None},
        }
        report = self._report(metrics, model, reports, per_record["precision"])
        if any(answers[name].draft is not None for name in reports if name in answers):
            self._add_verified(metrics, report, {name: answers[name] for name in reports if name in answers})
        settings = {"question": self.question, "tolerance": self.tolerance}
        facts: dict[str, Any] = {"groups": dict(self.records.groups), "settings": settings, "data": data}
        return Result(self.name, model, metrics, report, per_record, **facts)

    def _add_verified(
        self, metrics: dict[str, Any], report: EvaluationReport, answers: Mapping[str, Prediction]
    ) -> None:
        """Add draft and final text against the experts' marks, and what the other metrics are of."""
        report.notes.insert(0, _OF_DRAFTS)
        if self.marks is None:
            return
        truths = {}
        for name in answers:
            path = os.path.splitext(self.records.reference(name).path)[0]
            truths[name] = truth_of_marks(self.records.read(name), path)
        metrics["verified"] = side_by_side(answers, truths, self.draws)
        report.tables.insert(0, verified_table(metrics["verified"]))

    def _report(
        self, metrics: dict[str, Any], model: str, reports: dict[str, Any], precision: dict[str, float]
    ) -> EvaluationReport:
        report = EvaluationReport(
            f"Claims checked against the signal: {model}",
            f"{metrics['records']} records, {sum(len(r.verdicts) for r in reports.values())} checkable statements",
            [
                ("claim precision", with_interval(metrics["precision"], 2)),
                ("hallucination rate", with_interval(metrics["hallucination_rate"], 2)),
                ("abnormal findings mentioned", with_interval(metrics["coverage"], 2)),
                ("leads covered of 12", with_interval(metrics["leads_covered"])),
            ],
        )
        report.tables = [_headline(metrics), _kinds(metrics["by_kind"]), _diagnoses(metrics["by_diagnosis"])]
        for kind, name in pick_cases(precision, self.cases):
            found = reports[name]
            counts = Counter(v.verdict for v in found.verdicts)
            missed = ", ".join(sorted(set(found.abnormal) - set(found.mentioned))).replace("_", " ")
            note = f"{', '.join(f'{counts[v]} {v}' for v in VERDICTS)}. Not mentioned: {missed or 'nothing abnormal'}."
            image = draw_page(self.records.read(name))
            report.cases.append(Case(f"{kind}: {name}", found.text, image, found.to_html(), note))
        report.notes = [
            "Truth is this library's own measurement, with the errors stated in docs/features.md; a claim is "
            "contradicted when it lies outside the tolerance of docs/claims.md.",
            "Precision counts decided claims only; the hallucination rate counts contradicted ones of all claims.",
            f"Texts without a claim: {metrics['without_claims']}; missing texts: {metrics['missing']}; "
            f"records that could not be read: {len(metrics['unreadable'])}.",
        ]
        return report


def _own_text(answer: Prediction | None) -> str:
    """The model's own sentences of an answer."""
    if answer is None:
        return ""
    return answer.text if answer.draft is None else answer.draft


def claim_metrics(reports: list[Any], groups: list[str | None] | None = None, draws: int = 1000) -> dict[str, Any]:
    """Pool claim reports into metrics with intervals.

    Returns:
        ``precision`` (supported of decided claims), ``hallucination_rate`` (contradicted of all), ``coverage``
        (abnormal findings mentioned, of all present), ``leads_covered`` (mean, of 12), ``claims`` (mean per text).
    """
    if not reports:
        return {}
    parts = np.array([_parts(report) for report in reports], float)
    intervals: list[Interval] = bootstrap_sums(parts, _ratios, groups, draws)
    return {name: interval.to_dict() for name, interval in zip(METRICS, intervals)}


def _parts(report: Any) -> list[float]:
    counts = Counter(verdict.verdict for verdict in report.verdicts)
    abnormal, mentioned = len(report.abnormal), len(report.mentioned)
    return [*(counts[v] for v in VERDICTS), mentioned, abnormal, len(set(report.leads_covered) & set(LEADS)), 1]


def _ratios(sums: np.ndarray) -> np.ndarray:
    """Map sums (draws, 7) to the five metrics (draws, 5)."""
    yes, no, open_, mentioned, abnormal, leads, n = sums.T
    with np.errstate(invalid="ignore", divide="ignore"):
        claims = yes + no + open_
        return np.stack([yes / (yes + no), no / claims, mentioned / abnormal, leads / n, claims / n], 1)


def _by_kind(reports: Any) -> dict[str, dict[str, Any]]:
    table: dict[str, Counter[str]] = defaultdict(Counter)
    for report in reports:
        for verdict in report.verdicts:
            table[verdict.claim.kind][verdict.verdict] += 1
    return {
        kind: {**{v: counts[v] for v in VERDICTS}, "precision": _share(counts)}
        for kind, counts in sorted(table.items(), key=lambda item: -sum(item[1].values()))
    }


def _share(counts: Counter[str]) -> float | None:
    decided = counts["supported"] + counts["contradicted"]
    return counts["supported"] / decided if decided else None


def _by_diagnosis(reports: dict[str, Any], draws: int) -> dict[str, Any]:
    """Score the records that have each abnormal finding, and count how often the text mentions it."""
    having: dict[str, list[Any]] = defaultdict(list)
    for report in reports.values():
        for code in report.abnormal or ("none",):
            having[code].append(report)
    table = {}
    for code, some in sorted(having.items(), key=lambda item: (-len(item[1]), item[0])):
        metrics = claim_metrics(some, draws=draws)
        mentioned = sum(code in report.mentioned for report in some)
        table[code] = {
            "records": len(some),
            "mentioned": None if code == "none" else mentioned / len(some),
            "precision": metrics["precision"],
        }
    return table


def _headline(metrics: dict[str, Any]) -> Table:
    other = metrics["precision_on_another_record"]
    rows = [
        ["claim precision", with_interval(metrics["precision"], 3), number(other, 3)],
        ["hallucination rate", with_interval(metrics["hallucination_rate"], 3), ""],
        ["coverage of abnormal findings", with_interval(metrics["coverage"], 3), ""],
        ["leads covered, of 12", with_interval(metrics["leads_covered"], 2), ""],
        ["claims per text", with_interval(metrics["claims"], 1), ""],
    ]
    note = (
        "95 % bootstrap intervals, by patient where patients are known. The last column is the same texts against "
        "another patient's record: the precision of statements that hold for most ECGs."
    )
    return Table("Claims against the signal", ["Metric", "Value", "Against another record"], rows, note)


def _kinds(by_kind: dict[str, Any]) -> Table:
    rows = [
        [kind.replace("_", " "), *(str(row[v]) for v in VERDICTS), number(row["precision"], 2)]
        for kind, row in by_kind.items()
    ]
    return Table("By kind of claim", ["Kind", "Supported", "Contradicted", "Unverifiable", "Precision"], rows)


def _diagnoses(by_diagnosis: dict[str, Any]) -> Table:
    rows = [
        [
            code.replace("_", " "),
            str(row["records"]),
            number(math.nan if row["mentioned"] is None else row["mentioned"], 2),
            with_interval(row["precision"], 2),
        ]
        for code, row in by_diagnosis.items()
    ]
    note = "Records that have the finding by our measurement; a record may be in several rows."
    return Table("By finding of the record", ["Finding", "Records", "Mentioned in", "Claim precision"], rows, note)
