"""ECG-Reasoning-Benchmark: any model through chains of questions, scored without a judge."""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from gem_lightning.composition.chains.chain import read_chains
from gem_lightning.errors import DataError
from gem_lightning.evaluation.base import (
    NotApplicableError,
    Predictor,
    Progress,
    Query,
    Result,
    answer_all,
    fingerprint,
)
from gem_lightning.evaluation.predictions import prediction_id
from gem_lightning.evaluation.predictors import FilePredictor
from gem_lightning.evaluation.reasoning.dialogue import ChainPredictor
from gem_lightning.evaluation.reasoning.score import Marked, mark, predicted_answers, reasoning_metrics
from gem_lightning.evaluation.reasoning.signals import Signals
from gem_lightning.reporting.evaluation import Case, EvaluationReport, number, with_interval
from gem_lightning.reporting.html import Table

CHOICES = ("likelihood", "text")


class ReasoningBenchmark:
    """Takes a model through the chains of a file and scores each answer.

    Args:
        file: Chains: ``.jsonl``, ``.json``, or a folder of them (the published ``data/``).
        root: Folder of the data set's signals, where all chains are of one data set.
        folders: Data set or leading folder of references → folder here.
        skip_missing: Leave out chains whose signals are not there (they are counted) instead of refusing the file.
        choose: ``likelihood``: the likeliest option of a model that gives likelihoods; ``text``: parse what it writes.
        limit: Maximum number of chains.
        draws: Number of bootstrap resamples.
        cases: Number of chains shown in the report.

    Raises:
        DataError: The file cannot be used.
    """

    name = "reasoning"

    def __init__(
        self,
        file: str,
        root: str | None = None,
        folders: Mapping[str, str] | None = None,
        skip_missing: bool = False,
        choose: str = "likelihood",
        limit: int | None = None,
        draws: int = 1000,
        cases: int = 4,
    ) -> None:
        if choose not in CHOICES:
            raise DataError(f"expected choose among {', '.join(CHOICES)}, got {choose!r}")
        self.file, self.choose, self.draws, self.cases = os.fspath(file), choose, draws, cases
        chains = read_chains(file)
        self.chains = chains[:limit]
        self.settings = {"choose": choose, "chains": fingerprint(json.dumps([chain.to_row() for chain in chains]))}
        self.signals = Signals(self.file, root, folders)
        self.skip_missing = skip_missing

    def __call__(self, predictor: Predictor, out: str | os.PathLike[str], progress: Progress | None = None) -> Result:
        """Answer every chain, score the answers and build the report.

        Raises:
            DataError: Signals are missing, or the predictor's file does not fit the chains.
        """
        if isinstance(predictor, FilePredictor):
            ids = {chain.id for chain in self.chains}
            others = [name for name in predictor.rows if name not in ids]
            if others and len(others) == len(predictor.rows):
                raise NotApplicableError(
                    f"expected ids of the {len(self.chains)} chains of {self.file}, got {len(others)} others, such as "
                    f"{others[0]!r}; are these answers to another file?"
                )
            rows = {name: _answers(row) for name, row in predictor.rows.items()}
            return self.score(predicted_answers(self.chains, rows, predictor.name), predictor.name)
        missing = self.signals.missing(self.chains)
        absent = {name for ids in missing.values() for name in ids}
        asked = [chain for chain in self.chains if chain.id not in absent]
        if missing and not (self.skip_missing and asked):
            hint = "" if self.skip_missing else "; benchmark.skip_missing=true leaves them out"
            raise DataError(self.signals.message(self.chains, missing) + hint)
        chains = {chain.id: chain for chain in asked}

        def make(name: str) -> Query:
            chain = chains[name]
            return Query(name, record=self.signals.read(chain), source=self.signals.reference(chain))

        answers = answer_all(
            ChainPredictor(predictor, chains, self.choose),
            list(chains),
            make,
            pathlib.Path(out) / "predictions.jsonl",
            progress,
            self.settings,
        )
        read = {name: json.loads(answer.text) for name, answer in answers.items() if answer.error is None}
        return self.score(read, predictor.name, missing)

    def score(
        self,
        answers: Mapping[str, list[Any]],
        model: str = "model",
        missing: Mapping[str, list[str]] | None = None,
    ) -> Result:
        """Score answers by chain id, one for each question in order; a chain without answers is wrong throughout.

        Args:
            answers: Id → answers, as texts or options.
            model: Name in the report.
            missing: Ids of chains that were left out for want of signals, by data set.
        """
        absent = {name for ids in (missing or {}).values() for name in ids}
        marked = [mark(chain, answers.get(chain.id)) for chain in self.chains if chain.id not in absent]
        metrics = reasoning_metrics(marked, self.draws)
        metrics["without_signal"] = {source: len(ids) for source, ids in (missing or {}).items()}
        per_record = {
            "completion": {m.chain.id: float(m.complete) for m in marked},
            "depth": {m.chain.id: float(m.depth) for m in marked},
            "accuracy": {m.chain.id: sum(m.right[1:]) / (len(m.right) - 1) for m in marked},
        }
        report = _report(metrics, model, marked, answers, self.cases)
        groups = {m.chain.id: m.chain.patient or f"{m.chain.source}/{m.chain.record}" for m in marked}
        data = {m.chain.id: fingerprint(json.dumps(m.chain.to_row())) for m in marked}
        facts: dict[str, Any] = {"groups": groups, "settings": {"choose": self.choose}, "data": data}
        return Result(self.name, model, metrics, report, per_record, **facts)


def _answers(row: Mapping[str, Any]) -> Any:
    """Return the answers of a row: the list under ``answers``, or in the text of this library's own predictions."""
    if "answers" in row:
        return row["answers"]
    try:
        return json.loads(row.get("text") or "null")
    except ValueError:
        raise DataError(
            f"expected answers in the row of chain {prediction_id(dict(row))}: {{id, answers: [one text or option a "
            f"question, in order]}}, got keys {sorted(row)}"
        ) from None


def _report(
    metrics: dict[str, Any], model: str, marked: list[Marked], answers: Mapping[str, list[Any]], cases: int
) -> EvaluationReport:
    report = EvaluationReport(
        f"Diagnostic reasoning in chains: {model}",
        f"{metrics['chains']} chains, {metrics['questions']} questions",
        [
            ("chains completed", with_interval(metrics["completion"], 3)),
            ("loops passed", with_interval(metrics["depth"], 2)),
            ("questions right", with_interval(metrics["accuracy"], 3)),
        ],
    )
    report.tables = [_headline(metrics), _diagnoses(metrics["by_diagnosis"])]
    failed = [m for m in marked if m.answered and not m.complete]
    report.cases = [_case(m, answers[m.chain.id]) for m in failed[:cases]]
    report.notes = [
        "Each question is asked after the right answers to the earlier ones. A chain counts as completed when every "
        "question of its reasoning is right; depth counts the loops before the first wrong answer. The initial "
        "question is reported by itself.",
        f"Answers are parsed by rules, without a judge; unreadable ones are wrong: {metrics['unreadable']}. "
        f"Chains without answers: {metrics['chains'] - metrics['answered']}; left out for want of signals: "
        f"{sum(metrics['without_signal'].values())}. Random answers complete {100 * metrics['chance']:.2g} %.",
    ]
    if metrics["first_errors"]:
        kinds = ", ".join(f"{name.replace('_', ' ')} {n}" for name, n in metrics["first_errors"].items())
        report.notes.append(f"First wrong answer of the chains that end early: {kinds}.")
    return report


def _headline(metrics: dict[str, Any]) -> Table:
    names = {"completion": "chains completed", "depth": "loops passed, mean", "depth_share": "loops passed, share"}
    rows = [[text, with_interval(metrics[name], 3)] for name, text in names.items()]
    rows += [
        ["initial question", with_interval(metrics["initial"], 3)],
        ["last decision", with_interval(metrics["final"], 3)],
    ]
    accuracy = metrics["accuracy"]
    rows += [
        [kind.replace("_", " "), with_interval(accuracy[kind], 3)]
        for kind in accuracy
        if isinstance(accuracy[kind], dict)
    ]
    note = "95 % bootstrap intervals, by patient where known, else by record."
    return Table("Reasoning in chains", ["Metric", "Value"], rows, note)


def _diagnoses(table: Mapping[str, Mapping[str, Any]]) -> Table:
    rows = [
        [
            name.replace("_", " "),
            f"{row['chains']} ({row['present']})",
            number(row["initial"], 2),
            number(row["depth"], 2),
            number(row["completion"], 2),
        ]
        for name, row in table.items()
    ]
    return Table("By diagnosis", ["Diagnosis", "Chains (present)", "Initial", "Depth", "Completed"], rows)


def _case(m: Marked, answers: list[Any]) -> Case:
    """Show the first wrong answer of a chain."""
    at = next(i for i, good in enumerate(m.right) if i and not good)
    question = m.chain.questions[at]
    given = answers[at] if isinstance(answers[at], str) else json.dumps(answers[at])
    note = f"Options: {'; '.join(question.options)}. Right: {question.answer}. Given: {given[:200]}."
    title = (
        f"{m.chain.diagnosis.replace('_', ' ')}, {m.chain.source} {m.chain.record}: {question.kind.replace('_', ' ')}"
    )
    return Case(title, question.text, note=note)
