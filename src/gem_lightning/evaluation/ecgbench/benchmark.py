"""ECG-Bench as a benchmark: a folder as published, any predictor, both rules side by side."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from gem_lightning.errors import DataError, GemError
from gem_lightning.evaluation.base import Prediction, Predictor, Progress, Query, Result, answer_all, fingerprint
from gem_lightning.evaluation.ecgbench import report as suite_report
from gem_lightning.evaluation.ecgbench import strict
from gem_lightning.evaluation.ecgbench.score import score
from gem_lightning.evaluation.ecgbench.tasks import TASKS, Task, find_task
from gem_lightning.evaluation.llm_judge.judge import Asks, JudgeCase
from gem_lightning.evaluation.llm_judge.panel import add_judges, run_judges
from gem_lightning.evaluation.predictions import find_gold, patient_of
from gem_lightning.evaluation.text import draw_page, marked_text, pick_cases
from gem_lightning.reporting.evaluation import Case, EvaluationReport, Matrix
from gem_lightning.samples.io import read_samples
from gem_lightning.samples.sample import InstructionSample


class SampleQueries:
    """Queries from published samples: record and picture below this machine's folders.

    Args:
        samples: The samples.
        prefix: Before each id.
    """

    def __init__(self, samples: Sequence[InstructionSample], prefix: str = "") -> None:
        self.samples = {f"{prefix}{sample.id}": sample for sample in samples}
        if len(self.samples) < len(samples):
            raise DataError(f"expected one sample an id, got {len(samples)} samples of {len(self.samples)} ids")

    def query(self, name: str, question: str | None = None, options: tuple[str, ...] = ()) -> Query:
        """The query of one sample.

        Raises:
            GemError: Its record cannot be read, or its picture is missing and there is no record to draw.
        """
        sample = self.samples[name]
        record = sample.record.read() if sample.record is not None else None
        picture = _picture(sample)
        if sample.image and picture is None and record is None:
            raise DataError(
                f"expected the picture {sample.image}, got no such file; say where the samples' folders lie: "
                "benchmark.folders={FOLDER: PATH}"
            )
        return Query(name, question or sample.question, record, picture, options, source=sample.record)

    def case(self, kind: str, name: str, text: str, note: str) -> Case:
        """A case for a report: the picture and coloured claims where the record is here."""
        try:
            query = self.query(name)
        except GemError:
            query = Query(name)
        image = query.image
        if image is None and query.record is not None:
            image = draw_page(query.record)
        marked = marked_text(text, query.record) if query.record is not None else None
        return Case(f"{kind}: {name}", text, image, marked, note)


def _picture(sample: InstructionSample) -> np.ndarray | None:
    """The sample's picture where its file is here; a record can be drawn instead."""
    import cv2

    image = sample.image[0] if isinstance(sample.image, list) and sample.image else sample.image
    if sample.image_bytes is not None:
        pixels = cv2.imdecode(np.frombuffer(sample.image_bytes, np.uint8), cv2.IMREAD_COLOR)
    elif isinstance(image, str) and pathlib.Path(image).is_file():
        pixels = cv2.imread(image, cv2.IMREAD_COLOR)
    else:
        return None
    if pixels is None:
        raise DataError(f"expected a picture in {image}, got something that cannot be decoded; fetch it again")
    return pixels[..., ::-1].copy()


def beside(
    path: str | os.PathLike[str], folders: Mapping[str, str] | None, root: str | os.PathLike[str] | None = None
) -> dict[str, str]:
    """Complete the map of folders: other relative paths start at ``root``, or at the samples' own folder."""
    return {"": str(root or pathlib.Path(path).parent), **(folders or {})}


def judge_cases(
    samples: Sequence[InstructionSample],
    answers: Mapping[str, Prediction],
    reference: Callable[[InstructionSample], str],
) -> list[JudgeCase]:
    """What judges are asked: the answers that there are; a query that failed is not paid for."""
    answered = [(s, a) for s in samples if (a := answers.get(str(s.id))) is not None and a.error is None]
    return [JudgeCase(str(s.id), a.text, reference(s), s.question) for s, a in answered]


class EcgBench:
    """The tasks of ECG-Bench.

    Args:
        folder: Where the published files are (``ptb-test.json``, …; also .jsonl and .parquet).
        tasks: Names; None takes those whose file is there.
        folders: Leading folders in the samples' paths to folders here.
        judges: Models that judge the report and arena tasks; without any these tasks are answered but not scored.
        prompt_files: Judges' prompt by task instead of ours.
        likelihoods: Ask label tasks for the likelihood of each label, for a true AUC (one pass a label).
        limit: At most so many samples a task.
        draws: Bootstrap draws.
        cases: Worst and typical cases of a task to show.
        root: Folder that other relative paths start at; None takes ``folder``.
    """

    name = "ecgbench"

    def __init__(
        self,
        folder: str | os.PathLike[str],
        tasks: Sequence[str] | None = None,
        folders: Mapping[str, str] | None = None,
        judges: Sequence[Asks] = (),
        prompt_files: Mapping[str, str] | None = None,
        likelihoods: bool = False,
        limit: int | None = None,
        draws: int = 1000,
        cases: int = 2,
        root: str | os.PathLike[str] | None = None,
    ) -> None:
        self.cases = cases
        self.likelihoods = likelihoods
        chosen = [find_task(name) for name in tasks] if tasks else list(TASKS.values())
        self.tasks: dict[str, tuple[Task, list[InstructionSample]]] = {}
        for task in chosen:
            try:
                path = find_gold(folder, task.name)
            except DataError:
                if tasks:
                    raise
                continue
            self.tasks[task.name] = (task, list(read_samples(path, beside(path, folders, root)))[:limit])
        if not self.tasks:
            raise DataError(
                f"expected files of ECG-Bench in {folder}, such as ptb-test.json, found none; download them"
            )
        self.judges, self.prompt_files, self.draws = list(judges), dict(prompt_files or {}), draws

    def __call__(self, predictor: Predictor, out: str | os.PathLike[str], progress: Progress | None = None) -> Result:
        """Ask, score and report."""
        figures: dict[str, Any] = {}
        report = EvaluationReport(f"ECG-Bench: {predictor.name}", "Strict and legacy rules side by side")
        result = Result(self.name, predictor.name, figures, report)
        judged: dict[str, Any] = {}
        for name, (task, samples) in self.tasks.items():
            queries = SampleQueries(samples)
            options = strict.label_space(task) if self.likelihoods and task.kind == "labels" else ()
            answers = answer_all(
                predictor,
                list(queries.samples),
                partial(queries.query, options=options),
                pathlib.Path(out) / name / "predictions.jsonl",
                progress,
                {"likelihoods": bool(options)},
            )
            gold = [sample.to_dict() for sample in samples]
            result.data |= {str(s.id): fingerprint(f"{s.question}\n{s.answer}") for s in samples}
            result.groups |= {str(g["id"]): p for g in gold if (p := patient_of(g)) is not None}
            if task.kind == "judged":
                judged[name] = self._judged(task, samples, answers, pathlib.Path(out) / name)
                figures[name] = judged[name]
                continue
            rows = prediction_rows(answers)
            figures[name] = {"strict": score(name, rows, gold, "strict", self.draws)}
            figures[name]["legacy"] = score(name, rows, gold, "legacy") if rows else None
            right = result.per_record[name] = strict.per_record(task, rows, gold)
            truth = {str(sample.id): sample.answer for sample in samples}
            for kind, sample in pick_cases({s: v for s, v in right.items() if s in answers}, self.cases):
                note = f"{task.title}: {'right' if right[sample] else 'wrong'}. True answer: {truth[sample]}"
                report.cases.append(queries.case(kind, sample, answers[sample].text, note))
        self._fill(report, figures, judged, result)
        return result

    def _judged(
        self, task: Task, samples: list[InstructionSample], answers: dict[str, Prediction], out: pathlib.Path
    ) -> dict[str, Any] | None:
        if not self.judges:
            return None
        cases = judge_cases(samples, answers, lambda sample: sample.answer)
        groups = {str(s.id): patient_of(s.to_dict()) for s in samples}
        return run_judges(self.judges, task.name, cases, out, self.prompt_files, groups, self.draws)

    def _fill(self, report: EvaluationReport, figures: dict[str, Any], judged: dict[str, Any], result: Result) -> None:
        report.tables.append(suite_report.headline(figures))
        labels = {
            name: f["strict"]["per_label"] for name, f in figures.items() if f and "per_label" in f.get("strict", {})
        }
        report.tables += [suite_report.per_label(TASKS[name].title, table) for name, table in labels.items()]
        report.tables.append(suite_report.published(figures))
        for name, found in figures.items():
            if found and "confusion" in found.get("strict", {}):
                table = found["strict"]["confusion"]
                report.matrices.append(Matrix(TASKS[name].title, table["rows"], table["columns"], table["counts"]))
        for name, found in judged.items():
            if found:
                add_judges(report, TASKS[name].title, found)
                result.columns |= {f"{name}, {label}": label for label in found["judges"]}
        report.notes = [
            "Strict: labels as words of their own and not denied, the stated option, exact sets; answers that are "
            "missing or cannot be read are wrong in every figure.",
            "Legacy: the original's numbers, faults included (docs/evaluation.md lists them). What it calls AUC is the "
            "balanced accuracy of hard labels; strict gives an AUC only from likelihoods.",
            "Published figures were made under the legacy rules; compare them with that column only.",
        ]


def prediction_rows(answers: Mapping[str, Prediction]) -> list[dict[str, Any]]:
    """Predictions as rows for scoring; failed ones are left out and so counted as missing."""
    rows = []
    for name, answer in answers.items():
        if answer.error is None:
            row: dict[str, Any] = {"question_id": name, "text": answer.text}
            rows.append(row | ({"likelihoods": answer.likelihoods} if answer.likelihoods is not None else {}))
    return rows
