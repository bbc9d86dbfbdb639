"""ECG-Grounding as a benchmark: interpretations of any model, judged by criteria."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping, Sequence

from gem_lightning.errors import DataError
from gem_lightning.evaluation.base import Predictor, Progress, Result, answer_all, fingerprint
from gem_lightning.evaluation.ecgbench.benchmark import SampleQueries, beside, judge_cases
from gem_lightning.evaluation.ecgbench.report import published_grounding
from gem_lightning.evaluation.llm_judge import grounding
from gem_lightning.evaluation.llm_judge.judge import Asks
from gem_lightning.evaluation.llm_judge.panel import add_judges, run_judges
from gem_lightning.evaluation.predictions import patient_of, read_rows
from gem_lightning.evaluation.text import pick_cases
from gem_lightning.reporting.evaluation import EvaluationReport, number, with_interval
from gem_lightning.reporting.html import Table
from gem_lightning.samples.io import read_samples
from gem_lightning.samples.sample import InstructionSample


class GroundingBenchmark:
    """ECG-Grounding: interpretations, judged by criteria.

    Args:
        samples: File of test samples (``report`` or the reference answer is what the judges know); None with
            ``judgements``.
        judges: The judges' models.
        judgements: File of ready judgements (id to answer, as the original keeps them) instead of judges.
        prompt_file: The judges' prompt instead of ours.
        folders: Leading folders in the samples' paths to folders here.
        question: Asked instead of each sample's own.
        limit: At most so many samples.
        draws: Bootstrap draws.
        cases: Worst and typical cases to show.
        root: Folder that other relative paths start at; None takes that of ``samples``.

    Raises:
        DataError: Neither judges nor judgements, or no samples for the judges.
    """

    name = "grounding"

    def __init__(
        self,
        samples: str | os.PathLike[str] | None = None,
        judges: Sequence[Asks] = (),
        judgements: str | os.PathLike[str] | None = None,
        prompt_file: str | None = None,
        folders: Mapping[str, str] | None = None,
        question: str | None = None,
        limit: int | None = None,
        draws: int = 1000,
        cases: int = 4,
        root: str | os.PathLike[str] | None = None,
    ) -> None:
        self.cases = cases
        if not judges and judgements is None:
            raise DataError("expected judges or a file of judgements, got neither; name one: benchmark.judges=[...]")
        if judges and samples is None:
            raise DataError("expected samples for the judges, got none; name the test file: benchmark.samples=FILE")
        self.samples = list(read_samples(samples, beside(samples, folders, root)))[:limit] if samples else []
        self.judges, self.prompt_file, self.question, self.draws = list(judges), prompt_file, question, draws
        self.judgements = judgements

    def __call__(self, predictor: Predictor, out: str | os.PathLike[str], progress: Progress | None = None) -> Result:
        """Ask, have judged, score and report."""
        report = EvaluationReport(f"ECG-Grounding: {predictor.name}", "Interpretations judged by criteria")
        result = Result(self.name, predictor.name, {}, report)
        if self.judgements is not None:
            self._ready(result)
        else:
            self._ask(predictor, pathlib.Path(out), progress, result)
        report.notes.append(
            "A judge's figures depend on the judge and its prompt: the same texts score 12 to 15 points apart under "
            "different judges. Compare only within a column."
        )
        return result

    def _ask(self, predictor: Predictor, out: pathlib.Path, progress: Progress | None, result: Result) -> None:
        queries = SampleQueries(self.samples)
        answers = answer_all(
            predictor,
            list(queries.samples),
            lambda name: queries.query(name, self.question),
            out / "predictions.jsonl",
            progress,
            {"question": self.question},
        )
        cases = judge_cases(self.samples, answers, reference_of)
        if len(cases) < len(self.samples):
            result.report.notes.append(
                f"{len(self.samples) - len(cases)} of {len(self.samples)} ECGs were not answered (reasons in "
                "predictions.jsonl): they are not in the means."
            )
        groups = {str(s.id): patient_of(s.to_dict()) for s in self.samples}
        prompts = {"grounding": self.prompt_file} if self.prompt_file else None
        judged = run_judges(self.judges, "grounding", cases, out, prompts, groups, self.draws)
        result.figures |= judged
        result.groups |= {name: p for name, p in groups.items() if p is not None}
        result.settings |= {"question": self.question}
        result.data |= {case.id: fingerprint(case.reference) for case in cases}
        for label, found in judged["judges"].items():
            for criterion in found.get("means", {}):
                column = f"{criterion}, {label}"
                result.columns[column] = label
                result.per_record[column] = {
                    name: figures[criterion] for name, figures in found["per_id"].items() if criterion in figures
                }
        add_judges(result.report, "Criteria", judged, [published_grounding()])
        columns = [column for column in result.per_record if column.startswith("DiagnosisAccuracy")]
        for column in columns[:1]:
            shares = result.per_record[column]
            for kind, name in pick_cases(shares, self.cases):
                note = f"{column}: {shares[name]:.2f}. {reference_of(queries.samples[name])}"
                result.report.cases.append(queries.case(kind, name, answers[name].text, note))

    def _ready(self, result: Result) -> None:
        rows = read_rows(self.judgements) if self.judgements else []
        answers = {str(row["id"]): row.get("results", row.get("answer", row.get("text", ""))) for row in rows}
        ours, old = grounding.score(answers, draws=self.draws), grounding.score(answers, rules="legacy")
        result.figures |= {"strict": ours, "legacy": old}
        names = [c.name for c in grounding.VERSIONS[ours["version"]]]
        gaps = {name: str(sum(reasons.values())) for name, reasons in ours["missing"].items()}
        table = [
            [name, with_interval(ours["intervals"].get(name)), number(old["means"].get(name), 2), gaps.get(name, "0")]
            for name in names
        ]
        note = f"{ours['n']} judgements, {ours['complete']} complete, {len(ours['unreadable'])} unreadable."
        result.report.tables += [
            Table("Criteria", ["Criterion", "Strict", "Legacy", "Missing"], table, note),
            published_grounding(),
        ]


def reference_of(sample: InstructionSample) -> str:
    """What a judge is told of an ECG: the report, and the reference interpretation where there is one."""
    parts = [f"Report: {sample.report}"] if sample.report else []
    parts += [f"Reference interpretation: {sample.answer}"] if sample.answer else []
    if not parts:
        raise DataError(f"sample {sample.id}: expected a report or a reference answer for the judges, got neither")
    return "\n".join(parts)
