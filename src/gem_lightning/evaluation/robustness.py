"""The robustness benchmark: what becomes of the text when the ECG, the picture or the question gets worse.

Everything is held against the *undisturbed* record: what was measured there, and what the model said about it.
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
from gem_lightning.evaluation.base import Prediction, Predictor, Progress, Query, Result, answer_all, fingerprint
from gem_lightning.evaluation.perturbations import HISTORIES, PERTURBATIONS, Perturbation, perturb
from gem_lightning.evaluation.records import RecordSet
from gem_lightning.evaluation.statistics import bootstrap_sums, mean_interval, ratio
from gem_lightning.evaluation.text import kept, read_text
from gem_lightning.features import measure
from gem_lightning.reporting.evaluation import Curve, EvaluationReport, Series, with_interval
from gem_lightning.reporting.html import Table

CLEAN = "clean"
#: Words by which a text says that signal and picture do not belong together.
NOTICED = re.compile(
    r"\b(?:mismatch\w*|inconsisten\w*|discrepan\w*|conflict\w*|contradict\w*|different (?:patient|recording|ecg)s?|"
    r"do(?:es)? not (?:match|correspond|agree))\b",
    re.IGNORECASE,
)


class RobustnessBenchmark:
    """Asks about each record undisturbed, and again at every step of every perturbation.

    Args:
        source: Records (see :class:`~gem_lightning.evaluation.records.RecordSet`).
        perturbations: Names of :data:`~gem_lightning.evaluation.perturbations.PERTURBATIONS`; None takes all.
        question: What is asked; None is the model's usual interpretation.
        limit: At most so many records.
        seed: Of the perturbations.
        draws: Bootstrap draws.

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
            raise DataError("expected at least two records: a conflict needs another patient's picture")
        self.question, self.seed, self.draws = question, seed, draws

    def __call__(self, predictor: Predictor, out: str | os.PathLike[str], progress: Progress | None = None) -> Result:
        """Ask, compare and report."""
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
        """The query of an id ``KIND/STEP/RECORD``."""
        kind, step, record = name.split("/", 2)
        query = Query(name, self.question, self.records.read(record))
        if kind == CLEAN:
            return query
        # Randomness belongs to the record, not to the step's id.
        made = perturb(
            replace(query, id=record), kind, int(step), self.records.read(self.records.another(record)), self.seed
        )
        return replace(made, id=name)

    def score(self, answers: Mapping[str, Prediction], model: str = "model") -> Result:
        """Compare the texts; ids as in :meth:`query`."""
        features, data = {}, {}
        for name in self.records.names:
            record = self.records.read(name)
            features[name], data[name] = measure(record), fingerprint(record)
        clean = {name: read_text(_text(answers, f"{CLEAN}/0/{name}")) for name in features}
        rows = {name: (clean[name], verify(_text(answers, f"{CLEAN}/0/{name}"), features[name])) for name in features}
        precision = {name: checked.precision for name, (_, checked) in rows.items()}
        figures: dict[str, Any] = {CLEAN: self._figures(rows, clean, features, {})}
        for kind in self.chosen:
            figures[kind] = {}
            for step, (label, _) in enumerate(PERTURBATIONS[kind].steps):
                given = {name: answers.get(f"{kind}/{step}/{name}") for name in features}
                texts = {name: said.text if said else "" for name, said in given.items()}
                rows = {name: (read_text(texts[name]), verify(texts[name], features[name])) for name in features}
                row = self._figures(rows, clean, features, given)
                row |= self._special(kind, label, texts, clean, features)
                figures[kind][label] = row
        per_record = {"clean claim precision": {name: p for name, p in precision.items() if p is not None}}
        facts: dict[str, Any] = {
            "groups": dict(self.records.groups),
            "settings": {"question": self.question},
            "data": data,
        }
        return Result(self.name, model, figures, self._report(figures, model), per_record, **facts)

    def _figures(self, rows: dict[str, Any], clean: dict[str, Any], features: Any, given: Any) -> dict[str, Any]:
        counts = [(r.count("supported"), r.count("supported") + r.count("contradicted")) for _, r in rows.values()]
        errors = [
            abs(said.values["rate"] - rate)
            if "rate" in said.values and (rate := features[name].heart_rate_bpm) is not None
            else math.nan
            for name, (said, _) in rows.items()
        ]
        same = [kept(clean[name], said) for name, (said, _) in rows.items()]
        groups = self.records.patients(list(rows)) if self.records.groups else None
        options: dict[str, Any] = {"groups": groups, "draws": self.draws}
        return {
            "precision": bootstrap_sums(np.array(counts, float), ratio, **options)[0].to_dict(),
            "claims_kept": mean_interval(same, **options).to_dict(),
            "rate_error": mean_interval(errors, **options).to_dict(),
            "failed": sum(said is not None and said.error is not None for said in given.values()),
            "missing": sum(said is None for said in given.values()),
        }

    def _special(
        self, kind: str, label: str, texts: dict[str, str], clean: dict[str, Any], features: Any
    ) -> dict[str, Any]:
        """What only this perturbation asks: was the conflict noticed, was the false history adopted?"""
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

    def _report(self, figures: dict[str, Any], model: str) -> EvaluationReport:
        clean = figures[CLEAN]
        report = EvaluationReport(
            f"Robustness: {model}",
            f"{len(self.records.names)} records, each asked about undisturbed and at every step",
            [("undisturbed claim precision", with_interval(clean["precision"], 2))],
        )
        header = ["Step", "Claim precision", "Claims kept", "Error of rate, bpm", "Failed", "Besides"]
        rows = [_row(CLEAN, clean)]
        for kind in self.chosen:
            rows += [_row(f"{kind}: {label}", row) for label, row in figures[kind].items()]
            report.curves.append(_curve(PERTURBATIONS[kind], figures[kind], clean))
        note = (
            "Against the undisturbed record: precision of the claims, share of claims in common with the undisturbed "
            "text (numbers may differ by the tolerance of docs/claims.md), error of the quoted rate. 95 % intervals."
        )
        report.tables.append(Table("Every step", header, rows, note))
        report.notes = [
            "A model that ignores the signal keeps all its claims at every step: read claims kept with the precision.",
            "Conflict: the picture is another patient's; noticed means that the text says so. False history: adopted "
            "means that the text states the injected finding, of records that do not have it.",
            "Failed: the model refused or could not leave the modality out; such texts count as without claims.",
        ]
        return report


def _text(answers: Mapping[str, Prediction], name: str) -> str:
    return answers[name].text if name in answers else ""


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
    """Precision and claims kept, from the undisturbed text on."""
    rows = [clean, *steps.values()]
    series = []
    for name, key in (("claim precision", "precision"), ("claims kept", "claims_kept")):
        columns = [[_number(row[key][part]) for row in rows] for part in ("value", "low", "high")]
        series.append(Series(name, list(range(len(rows))), *columns))
    return Curve(kind.name.capitalize(), kind.x_label, "share", series, ["none", *steps], kind.ordered)


def _number(value: float | None) -> float:
    return math.nan if value is None else value
