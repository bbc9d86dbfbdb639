"""Robustness benchmark: texts under perturbed ECGs, images and questions.

References are the measurements of the *unperturbed* record and the model's text about it.
"""

from __future__ import annotations

import math
import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from gem_lightning.claims.verify import verify
from gem_lightning.errors import DataError
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
from gem_lightning.evaluation.perturbations import HISTORIES, PERTURBATIONS, Perturbation, perturb
from gem_lightning.evaluation.statistics import bootstrap_sums, mean_interval, ratio
from gem_lightning.evaluation.text import TextContent, claims_kept, read_text
from gem_lightning.features import measure
from gem_lightning.reporting.evaluation import Curve, EvaluationReport, Series, with_interval
from gem_lightning.reporting.html import Table

Contents = dict[str, TextContent]

CLEAN = "clean"
#: Terms of a text that reports a mismatch of signal and image.
NOTICED = re.compile(
    r"\b(?:mismatch\w*|inconsisten\w*|discrepan\w*|conflict\w*|contradict\w*|different (?:patient|recording|ecg)s?|"
    r"do(?:es)? not (?:match|correspond|agree))\b",
    re.IGNORECASE,
)


class RobustnessBenchmark:
    """Queries the model on each record unperturbed, and again at every step of every perturbation.

    Args:
        source: Records (see :class:`~gem_lightning.evaluation.base.RecordSet`).
        perturbations: Names of :data:`~gem_lightning.evaluation.perturbations.PERTURBATIONS`; None takes all.
        question: Question text; None is the model's usual interpretation.
        limit: Maximum number of records.
        seed: Seed of the perturbations.
        draws: Number of bootstrap resamples.

    Raises:
        DataError: An unknown perturbation, or a single record (conflicts need another).
    """

    name = "robustness"

    def __init__(
        self,
        source: Any,
        perturbations: Sequence[str] | None = None,
        question: str | None = None,
        limit: int | None = 50,
        seed: int = 0,
        draws: int = 1000,
    ) -> None:
        self.chosen = list(perturbations or PERTURBATIONS)
        unknown = [name for name in self.chosen if name not in PERTURBATIONS]
        if unknown:
            raise DataError(f"expected perturbations among {', '.join(PERTURBATIONS)}, got {', '.join(unknown)}")
        self.records = RecordSet(source, limit)
        if len(self.records.names) < 2:
            raise DataError("expected at least two records, got one: a conflict needs another patient's image")
        self.question, self.seed, self.draws = question, seed, draws

    def __call__(self, predictor: Predictor, out: str | os.PathLike[str], progress: Progress | None = None) -> Result:
        """Query the model, compare its texts and build the report."""
        names = [f"{CLEAN}/0/{name}" for name in self.records.names]
        names += [
            f"{kind}/{step}/{name}"
            for kind in self.chosen
            for step in range(len(PERTURBATIONS[kind].steps))
            for name in self.records.names
        ]
        path, settings = pathlib.Path(out) / "predictions.jsonl", {"question": self.question, "seed": self.seed}
        answers = answer_all(predictor, names, self.query, path, progress, settings)
        return self.score(answers, predictor.name)

    def query(self, name: str) -> Query:
        """Build the query of an id ``KIND/STEP/RECORD``."""
        kind, step, record = name.split("/", 2)
        query = Query(name, self.question, self.records.read(record))
        if kind == CLEAN:
            return query
        other = self.records.read(self.records.another(record))
        # The seed depends on the record, not on the step, so that steps differ in strength alone.
        return replace(perturb(replace(query, id=record), kind, int(step), other, self.seed), id=name)

    def score(self, answers: Mapping[str, Prediction], model: str = "model") -> Result:
        """Compare the texts; ids as in :meth:`query`."""
        features, data = {}, {}
        for name in self.records.names:
            record = self.records.read(name)
            features[name], data[name] = measure(record), fingerprint(record)
        texts = {name: _text(answers.get(f"{CLEAN}/0/{name}")) for name in features}
        clean = {name: read_text(text) for name, text in texts.items()}
        reports = {name: verify(text, features[name]) for name, text in texts.items()}
        precision = {name: report.precision for name, report in reports.items() if report.precision is not None}
        metrics: dict[str, Any] = {CLEAN: self._metrics(texts, clean, features)}
        for kind in self.chosen:
            metrics[kind] = {}
            for step, (label, _) in enumerate(PERTURBATIONS[kind].steps):
                given = {name: answers.get(f"{kind}/{step}/{name}") for name in features}
                texts = {name: _text(answer) for name, answer in given.items()}
                row = self._metrics(texts, clean, features)
                row["failed"] = sum(answer is not None and answer.error is not None for answer in given.values())
                row["missing"] = sum(answer is None for answer in given.values())
                metrics[kind][label] = row | self._special(kind, label, texts, clean, features)
        facts: dict[str, Any] = {
            "groups": dict(self.records.groups),
            "settings": {"question": self.question},
            "data": data,
        }
        per_record = {"clean claim precision": precision}
        return Result(self.name, model, metrics, self._report(metrics, model), per_record, **facts)

    def _metrics(self, texts: dict[str, str], clean: Contents, features: dict[str, Any]) -> dict[str, Any]:
        """Score the texts of one step."""
        counts, errors, same = [], [], []
        for name, text in texts.items():
            report, content = verify(text, features[name]), read_text(text)
            supported, contradicted = report.count("supported"), report.count("contradicted")
            counts.append((supported, supported + contradicted))
            rate = features[name].heart_rate_bpm
            quoted = content.values.get("rate")
            errors.append(math.nan if rate is None or quoted is None else abs(quoted - rate))
            same.append(claims_kept(clean[name], content))
        options: dict[str, Any] = {"groups": self.records.patients(list(texts)), "draws": self.draws}
        return {
            "precision": bootstrap_sums(np.array(counts, float), ratio, **options)[0].to_dict(),
            "claims_kept": mean_interval(same, **options).to_dict(),
            "rate_error": mean_interval(errors, **options).to_dict(),
            "failed": 0,
            "missing": 0,
        }

    def _special(
        self, kind: str, label: str, texts: dict[str, str], clean: Contents, features: dict[str, Any]
    ) -> dict[str, Any]:
        """Score what is specific to a perturbation: a conflict noticed, a false history adopted."""
        if kind == "conflict":
            noticed = [float(bool(NOTICED.search(text))) for text in texts.values()]
            return {"noticed": mean_interval(noticed, draws=self.draws).to_dict()}
        if kind == "false history":
            from gem_lightning.features import findings

            code = HISTORIES[label][0]
            adopted = [
                float(code in read_text(text).findings)
                for name, text in texts.items()
                if code not in {f.code for f in findings(features[name])} and code not in clean[name].findings
            ]
            return {"adopted": mean_interval(adopted, draws=self.draws).to_dict() if adopted else None}
        return {}

    def _report(self, metrics: dict[str, Any], model: str) -> EvaluationReport:
        clean = metrics[CLEAN]
        report = EvaluationReport(
            f"Robustness: {model}",
            f"{len(self.records.names)} records, each queried unperturbed and at every step",
            [("unperturbed claim precision", with_interval(clean["precision"], 2))],
        )
        header = ["Step", "Claim precision", "Claims kept", "Error of rate, bpm", "Failed", "Specific"]
        rows = [_row(CLEAN, clean)]
        for kind in self.chosen:
            rows += [_row(f"{kind}: {label}", row) for label, row in metrics[kind].items()]
            report.curves.append(_curve(PERTURBATIONS[kind], metrics[kind], clean))
        note = (
            "Against the unperturbed record: precision of the claims, share of claims in common with the unperturbed "
            "text (numbers may differ by the tolerance of docs/claims.md), error of the quoted rate. 95 % intervals."
        )
        report.tables.append(Table("Every step", header, rows, note))
        report.notes = [
            "A model that ignores the signal keeps all its claims at every step: read claims kept with the precision.",
            "Conflict: the image is another patient's; noticed means that the text reports a mismatch. False history: "
            "adopted means that the text states the injected finding, over records that do not have it.",
            "Failed: the model refused or cannot omit the modality; such texts count as without claims.",
        ]
        return report


def _text(answer: Prediction | None) -> str:
    return "" if answer is None else answer.text


def _row(label: str, row: dict[str, Any]) -> list[str]:
    special = next(((name, row[name]) for name in ("noticed", "adopted") if row.get(name)), None)
    return [
        label,
        with_interval(row["precision"], 2),
        with_interval(row["claims_kept"], 2),
        with_interval(row["rate_error"]),
        str(row["failed"] + row["missing"]),
        f"{special[0]} {with_interval(special[1], 2)}" if special else "",
    ]


def _curve(kind: Perturbation, steps: dict[str, Any], clean: dict[str, Any]) -> Curve:
    """Plot precision and claims kept, starting with the unperturbed text."""
    rows = [clean, *steps.values()]
    series = []
    for name, key in (("claim precision", "precision"), ("claims kept", "claims_kept")):
        columns = [[_number(row[key][part]) for row in rows] for part in ("value", "low", "high")]
        series.append(Series(name, list(range(len(rows))), *columns))
    return Curve(kind.name.capitalize(), kind.x_label, "share", series, ["none", *steps], kind.ordered)


def _number(value: float | None) -> float:
    return math.nan if value is None else value
