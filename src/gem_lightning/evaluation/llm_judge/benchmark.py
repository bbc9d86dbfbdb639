"""ECG-Grounding: interpretations of any model, scored by criteria."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from gem_lightning.errors import DataError
from gem_lightning.evaluation.base import Predictor, Progress, Result, answer_all, fingerprint
from gem_lightning.evaluation.ecgbench.benchmark import (
    Root,
    SampleQueries,
    judge_cases,
    note_on_images,
    published_grounding,
    sample_folders,
)
from gem_lightning.evaluation.llm_judge import grounding
from gem_lightning.evaluation.llm_judge.judge import ChatModel, add_judges, run_judges
from gem_lightning.evaluation.predictions import REFERENCE_KEY, patient_of, read_rows
from gem_lightning.evaluation.text import pick_cases
from gem_lightning.reporting.evaluation import EvaluationReport, number, with_interval
from gem_lightning.reporting.html import Table
from gem_lightning.samples.io import read_samples
from gem_lightning.samples.sample import InstructionSample


class GroundingBenchmark:
    """ECG-Grounding: interpretations scored by LLM judges.

    Args:
        samples: File of test samples, also of process_gem_outputs (the judges' reference is ``report`` and the
            reference answer); None with ``judgements``.
        judges: Chat models of the judges.
        judgements: Existing judge answers instead of judges: a file (id to answer, as the original stores them, or
            ours), or a folder with a file per record.
        prompt_file: Judge prompt that replaces ours. One with a slot ``groundtruth``, as published, gets the reference
            interpretation alone there.
        folders: Leading folders in the samples' paths to folders here.
        question: Question that replaces each sample's own.
        limit: Maximum number of samples.
        draws: Number of bootstrap resamples.
        cases: Number of worst and typical cases in the report.
        root: Folder that other relative paths start at, or one for each of ``ecg`` and ``image``; None takes that of
            ``samples``.
        render_missing: Draw images whose files are missing from their signals, and count them in the report.

    Raises:
        DataError: Neither judges nor judgements, or no samples for the judges.
    """

    name = "grounding"

    def __init__(
        self,
        samples: str | os.PathLike[str] | None = None,
        judges: Sequence[ChatModel] = (),
        judgements: str | os.PathLike[str] | None = None,
        prompt_file: str | None = None,
        folders: Mapping[str, str] | None = None,
        question: str | None = None,
        limit: int | None = None,
        draws: int = 1000,
        cases: int = 4,
        root: Root = None,
        render_missing: bool = False,
    ) -> None:
        if not judges and judgements is None:
            raise DataError("expected judges or a file of judgements, got neither; name one: benchmark.judges=[...]")
        if judges and samples is None:
            raise DataError("expected samples for the judges, got none; name the test file: benchmark.samples=FILE")
        self.samples = list(read_samples(samples, sample_folders(samples, folders, root)))[:limit] if samples else []
        self.judges, self.prompt_file, self.question, self.draws = list(judges), prompt_file, question, draws
        self.judgements, self.cases, self.render_missing = judgements, cases, render_missing

    def __call__(self, predictor: Predictor, out: str | os.PathLike[str], progress: Progress | None = None) -> Result:
        """Query the model, run the judges, score and report."""
        report = EvaluationReport(f"ECG-Grounding: {predictor.name}", "Interpretations scored by criteria")
        result = Result(self.name, predictor.name, {}, report)
        if self.judgements is not None:
            self._score_file(self.judgements, result)
        else:
            self._run(predictor, pathlib.Path(out), progress, result)
        report.notes.append(
            "Scores depend on the judge and its prompt: the same texts score 12 to 15 points apart under different "
            "judges. Compare only within a column."
        )
        return result

    def _run(self, predictor: Predictor, out: pathlib.Path, progress: Progress | None, result: Result) -> None:
        queries = SampleQueries(self.samples)
        note = note_on_images(self.samples, predictor, self.render_missing)
        result.report.notes += [note] if note else []
        answers = answer_all(
            predictor,
            list(queries.samples),
            lambda name: queries.query(name, self.question),
            out / "predictions.jsonl",
            progress,
            {"question": self.question},
        )
        cases = judge_cases(self.samples, answers, self._reference)
        if len(cases) < len(self.samples):
            result.report.notes.append(
                f"{len(self.samples) - len(cases)} of {len(self.samples)} ECGs were not answered (reasons in "
                "predictions.jsonl): they are not in the means."
            )
        groups = {str(s.id): patient_of(s.to_dict()) for s in self.samples}
        prompts = {"grounding": self.prompt_file} if self.prompt_file else None
        judged = run_judges(self.judges, "grounding", cases, out, prompts, groups, self.draws)
        result.metrics |= judged
        result.groups |= {name: p for name, p in groups.items() if p is not None}
        result.settings |= {"question": self.question}
        result.data |= {case.id: fingerprint(case.reference) for case in cases}
        for label, found in judged["judges"].items():
            for criterion in found.get("means", {}):
                values = {name: row[criterion] for name, row in found["per_id"].items() if criterion in row}
                result.columns[f"{criterion}, {label}"] = label
                result.per_record[f"{criterion}, {label}"] = values
        add_judges(result.report, "Criteria", judged, [published_grounding()])
        column = next((name for name in result.per_record if name.startswith("DiagnosisAccuracy")), None)
        shares = {} if column is None else result.per_record[column]
        for kind, name in pick_cases(shares, self.cases):
            note = f"{column}: {shares[name]:.2f}. {self._reference(queries.samples[name])}"
            result.report.cases.append(queries.case(kind, name, answers[name].text, note))

    def _reference(self, sample: InstructionSample) -> str:
        """Return what the judges compare a text with."""
        given = interpretation_of(sample)
        published = self.prompt_file is not None and "groundtruth" in pathlib.Path(self.prompt_file).read_text("utf-8")
        return given if published and given else reference_of(sample)

    def _score_file(self, path: str | os.PathLike[str], result: Result) -> None:
        answers: dict[str, Any] = {
            str(row["id"]): row.get("results", row.get("answer", row.get("text", ""))) for row in read_rows(path)
        }
        ours, old = grounding.score(answers, draws=self.draws), grounding.score(answers, rules="legacy")
        result.metrics |= {"strict": ours, "legacy": old}
        rows = []
        for criterion in grounding.VERSIONS[ours["version"]]:
            name = criterion.name
            missing = str(sum(ours["missing"].get(name, {}).values()))
            interval = with_interval(ours["intervals"].get(name))
            rows.append([name, interval, number(old["means"].get(name), 2), missing])
        note = f"{ours['n']} answers, {ours['complete']} complete, {len(ours['unreadable'])} unreadable."
        table = Table("Criteria", ["Criterion", "Strict", "Legacy", "Missing"], rows, note)
        result.report.tables += [table, published_grounding()]


def reference_of(sample: InstructionSample) -> str:
    """Return the judges' reference: the report, and the reference interpretation where there is one."""
    given = interpretation_of(sample)
    parts = [f"Report: {sample.report}"] if sample.report else []
    parts += [f"Reference interpretation: {given}"] if given else []
    if not parts:
        raise DataError(f"sample {sample.id}: expected a report or a reference answer for the judges, got neither")
    return "\n".join(parts)


def interpretation_of(sample: InstructionSample) -> str:
    """Return the reference interpretation: the sample's answer, or that of a file of process_gem_outputs."""
    return sample.answer or str(sample.metadata.get(REFERENCE_KEY) or "")
