"""ECG-Bench: a folder of the published files, any predictor, strict and legacy rules."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any

import numpy as np

from gem_lightning.errors import DataError, GemError
from gem_lightning.evaluation.base import Prediction, Predictor, Progress, Query, Result, answer_all, fingerprint
from gem_lightning.evaluation.ecgbench import strict
from gem_lightning.evaluation.ecgbench.score import score
from gem_lightning.evaluation.ecgbench.tasks import TASKS, Task, find_task
from gem_lightning.evaluation.llm_judge import grounding
from gem_lightning.evaluation.llm_judge.judge import ChatModel, JudgeCase, add_judges, run_judges
from gem_lightning.evaluation.predictions import find_gold, patient_of
from gem_lightning.evaluation.text import draw_page, marked_text, pick_cases
from gem_lightning.reporting.evaluation import Case, EvaluationReport, Matrix, number, with_interval
from gem_lightning.reporting.html import Table
from gem_lightning.samples.io import read_samples
from gem_lightning.samples.sample import InstructionSample, with_root
from gem_lightning.sources.record import SourceRecord

#: Strict metric to its name under the legacy rules.
LEGACY_NAMES = {"accuracy": "accuracy", "auc": "", "balanced_accuracy": "auc", "f1": "f1", "hamming": "hamming"}


class SampleQueries:
    """Queries from published samples.

    Args:
        samples: Samples with record and image paths of this machine.
    """

    def __init__(self, samples: Sequence[InstructionSample]) -> None:
        self.samples = {str(sample.id): sample for sample in samples}
        if len(self.samples) < len(samples):
            raise DataError(f"expected unique sample ids, got {len(samples)} samples of {len(self.samples)} ids")

    def query(self, name: str, question: str | None = None, options: tuple[str, ...] = ()) -> Query:
        """Build the query of one sample.

        Raises:
            GemError: Its record cannot be read, or its image is missing and there is no record to render.
        """
        sample = self.samples[name]
        record = sample.read_record()
        if record is not None:
            record = SourceRecord.from_sample(sample).with_patient(record)  # criteria depend on age and sex
        image = _image(sample)
        if sample.image and image is None and record is None:
            raise DataError(
                f"expected the image {sample.image}, got no such file; name the folders of the samples: "
                "benchmark.folders={FOLDER: PATH}"
            )
        return Query(name, question or sample.question, record, image, options, source=sample.record)

    def case(self, kind: str, name: str, text: str, note: str) -> Case:
        """Build a report case, with image and verified claims where the record is available."""
        try:
            query = self.query(name)
        except GemError:
            query = Query(name)
        image = query.image
        if image is None and query.record is not None:
            image = draw_page(query.record)
        marked = marked_text(text, query.record) if query.record is not None else None
        return Case(f"{kind}: {name}", text, image, marked, note)


def _image(sample: InstructionSample) -> np.ndarray | None:
    """Decode the sample's image where its file exists; without it the record can be rendered."""
    import cv2

    source = next(iter(sample.images), None)
    if isinstance(source, bytes):
        pixels = cv2.imdecode(np.frombuffer(source, np.uint8), cv2.IMREAD_COLOR)
    elif source is not None and pathlib.Path(source).is_file():
        pixels = cv2.imread(source, cv2.IMREAD_COLOR)
    else:
        return None
    if pixels is None:
        raise DataError(f"expected an image in {sample.image}, got a file that cannot be decoded; download it again")
    return pixels[..., ::-1].copy()


Root = str | os.PathLike[str] | Mapping[str, str] | None


def sample_folders(
    path: str | os.PathLike[str], folders: Mapping[str, str] | None, root: Root = None
) -> dict[str, str]:
    """Complete the user's map of folders: other relative paths start at ``root``, or at the sample file's folder."""
    return {"": str(pathlib.Path(path).parent)} | with_root(root, folders)


def judge_cases(
    samples: Sequence[InstructionSample],
    answers: Mapping[str, Prediction],
    reference: Callable[[InstructionSample], str],
) -> list[JudgeCase]:
    """Return the cases for a judge: only existing answers, so that a failed query costs nothing."""
    answered = [(s, a) for s in samples if (a := answers.get(str(s.id))) is not None and a.error is None]
    return [JudgeCase(str(s.id), a.text, reference(s), s.question) for s, a in answered]


def note_on_images(samples: Sequence[InstructionSample], predictor: Predictor, render_missing: bool) -> str:
    """Return a note on the images that are drawn because their files are missing; empty where none is.

    Raises:
        DataError: Files are missing, the predictor looks at them, and they are not to be drawn.
    """
    lost = [sample for sample in samples if sample.missing_images]
    if not lost or not getattr(predictor, "needs_input", True):
        return ""
    if not render_missing:
        raise DataError(
            f"expected the images of {len(samples)} samples, got no file for {len(lost)}, such as "
            f"{lost[0].missing_images[0]}; name their folder (benchmark.folders={{FOLDER: PATH}}), or have them drawn "
            "from the signals (benchmark.render_missing=true)"
        )
    return f"{len(lost)} of {len(samples)} images were not at hand and were drawn from the signals."


class EcgBench:
    """The tasks of ECG-Bench.

    Args:
        folder: Folder of the published files (``ptb-test.json``, …; also .jsonl and .parquet).
        tasks: Names; None takes those whose file exists.
        folders: Leading folders in the samples' paths to folders here.
        judges: Chat models that judge the report and arena tasks; without any these tasks are answered but not scored.
        prompt_files: Judge prompts by task that replace ours.
        likelihoods: Compute the likelihood of each label in label tasks, for a true AUC (one pass per label).
        limit: Maximum number of samples per task.
        draws: Number of bootstrap resamples.
        cases: Number of worst and typical cases per task in the report.
        root: Folder that other relative paths start at, or one for each of ``ecg`` and ``image``; None
            takes ``folder``.
        render_missing: Draw images whose files are missing from their signals, and count them in the report.
    """

    name = "ecgbench"

    def __init__(
        self,
        folder: str | os.PathLike[str],
        tasks: Sequence[str] | None = None,
        folders: Mapping[str, str] | None = None,
        judges: Sequence[ChatModel] = (),
        prompt_files: Mapping[str, str] | None = None,
        likelihoods: bool = False,
        limit: int | None = None,
        draws: int = 1000,
        cases: int = 2,
        root: Root = None,
        render_missing: bool = False,
    ) -> None:
        self.cases, self.likelihoods, self.render_missing = cases, likelihoods, render_missing
        self.judges, self.prompt_files, self.draws = list(judges), dict(prompt_files or {}), draws
        self.tasks: dict[str, tuple[Task, list[InstructionSample]]] = {}
        for task in [find_task(name) for name in tasks] if tasks else list(TASKS.values()):
            try:
                path = find_gold(folder, task.name)
            except DataError:
                if tasks:
                    raise
                continue
            self.tasks[task.name] = (task, list(read_samples(path, sample_folders(path, folders, root)))[:limit])
        if not self.tasks:
            raise DataError(
                f"expected files of ECG-Bench in {folder}, such as ptb-test.json, found none; download them"
            )

    def __call__(self, predictor: Predictor, out: str | os.PathLike[str], progress: Progress | None = None) -> Result:
        """Query the model, score its answers and build the report."""
        report = EvaluationReport(f"ECG-Bench: {predictor.name}", "Strict and legacy rules")
        result = Result(self.name, predictor.name, {}, report)
        drawn: list[str] = []
        for name, (task, samples) in self.tasks.items():
            queries, note = SampleQueries(samples), note_on_images(samples, predictor, self.render_missing)
            drawn += [f"{task.title}: {note}"] if note else []
            options = strict.label_space(task) if self.likelihoods and task.kind == "labels" else ()
            answers = answer_all(
                predictor,
                list(queries.samples),
                partial(queries.query, options=options),
                pathlib.Path(out) / name / "predictions.jsonl",
                progress,
                {"likelihoods": bool(options)},
            )
            patients = {str(s.id): patient_of(s.to_dict()) for s in samples}
            result.data |= {str(s.id): fingerprint(f"{s.question}\n{s.answer}") for s in samples}
            result.groups |= {i: patient for i, patient in patients.items() if patient is not None}
            if task.kind != "judged":
                result.metrics[name] = self._scored(task, queries, answers, result)
                continue
            result.metrics[name] = None
            if self.judges:
                cases = judge_cases(samples, answers, lambda sample: sample.answer)
                folder = pathlib.Path(out) / name
                result.metrics[name] = run_judges(
                    self.judges, name, cases, folder, self.prompt_files, patients, self.draws
                )
        _fill(result)
        report.notes += drawn
        return result

    def _scored(
        self, task: Task, queries: SampleQueries, answers: dict[str, Prediction], result: Result
    ) -> dict[str, Any]:
        """Score one task without a judge under both rules, and add its worst and typical cases to the report."""
        gold = [sample.to_dict() for sample in queries.samples.values()]
        rows = prediction_rows(answers)
        right = result.per_record[task.name] = strict.per_record(task, rows, gold)
        for kind, sample in pick_cases({s: v for s, v in right.items() if s in answers}, self.cases):
            truth = queries.samples[sample].answer
            note = f"{task.title}: {'right' if right[sample] else 'wrong'}. True answer: {truth}"
            result.report.cases.append(queries.case(kind, sample, answers[sample].text, note))
        return {
            "strict": score(task.name, rows, gold, "strict", self.draws),
            "legacy": score(task.name, rows, gold, "legacy") if rows else None,
        }


def prediction_rows(answers: Mapping[str, Prediction]) -> list[dict[str, Any]]:
    """Return predictions as rows for scoring; failed ones are excluded and so counted as missing."""
    rows = []
    for name, answer in answers.items():
        if answer.error is None:
            row: dict[str, Any] = {"question_id": name, "text": answer.text}
            rows.append(row | ({"likelihoods": answer.likelihoods} if answer.likelihoods is not None else {}))
    return rows


# -- report ----------------------------------------------------------------------------------------------------------


def _fill(result: Result) -> None:
    """Add tables, matrices and notes to the report."""
    report = result.report
    report.tables.append(_headline(result.metrics))
    scored = {name: found["strict"] for name, found in result.metrics.items() if found and "strict" in found}
    report.tables += [_per_label(TASKS[n].title, found["per_label"]) for n, found in scored.items() if "f1" in found]
    report.tables.append(_published(result.metrics))
    for name, found in scored.items():
        if "confusion" in found:
            table = found["confusion"]
            report.matrices.append(Matrix(TASKS[name].title, table["rows"], table["columns"], table["counts"]))
    for name, found in result.metrics.items():
        if found and "judges" in found:
            add_judges(report, TASKS[name].title, found)
            result.columns |= {f"{name}, {label}": label for label in found["judges"]}
    report.notes = [
        "Strict: labels as separate terms that are not negated, the stated option, exact sets; missing and unreadable "
        "answers are wrong in every metric.",
        "Legacy: the original's numbers, faults included (docs/evaluation.md lists them). Its AUC is the balanced "
        "accuracy of hard labels; strict gives an AUC only from likelihoods.",
        "Published results were obtained under the legacy rules; compare them with that column only.",
    ]


def _headline(metrics: Mapping[str, Any]) -> Table:
    """Put strict and legacy results in adjacent columns."""
    rows = []
    for name, found in metrics.items():
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
        "Per cent, with 95 % bootstrap intervals, by patient where patients are known. Missing and unreadable answers "
        "are wrong in every metric."
    )
    header = ["Task", "Metric", "Strict", "Legacy", "Unreadable or missing", "Samples"]
    return Table("Results", header, rows, note)


def _per_label(title: str, table: dict[str, Any]) -> Table:
    """Build a table with one row per label."""
    shares = ("sensitivity", "specificity", "precision", "f1")
    rows = [
        [label, str(row["cases"]), str(row["stated"]), *(number(row[key], 2) for key in shares)]
        for label, row in table.items()
    ]
    header = ["Label", "Cases", "Stated", "Sensitivity", "Specificity", "Precision", "F1"]
    return Table(f"{title} by label", header, rows)


@cache
def baselines() -> dict[str, Any]:
    """Return published results of other systems, each with its source (``baselines.yaml``)."""
    import yaml

    return yaml.safe_load((pathlib.Path(__file__).parent / "baselines.yaml").read_text(encoding="utf-8"))


def _published(names: Mapping[str, Any]) -> Table:
    """Build the table of published results of the same tasks."""
    systems = ("random", "GPT-4o", "PULSE", "GEM (LLaVA)", "GEM (PULSE)")
    rows = []
    for name in names:
        known = baselines()["ecgbench"].get(name, {})
        cells = ["/".join(f"{v:g}" for v in known[s]) if s in known else "–" for s in systems]
        rows.append([TASKS[name].title, *cells])
    note = f"Label tasks: AUC/F1/Hamming loss. Sources: {'; '.join(baselines()['sources'].values())}."
    return Table("Published, under the legacy rules", ["Task", *systems], rows, note)


def published_grounding() -> Table:
    """Build the table of published ECG-Grounding results, by judge and test set."""
    known = baselines()["grounding"]
    columns = [(where, system) for where, systems in known.items() for system in systems]
    rows = [[c.name, *(f"{known[w][s][i]:g}" for w, s in columns)] for i, c in enumerate(grounding.V1)]
    note = f"Source: {baselines()['sources']['GEM']}. Judge gpt-4o-2024-08-06 with the authors' prompt, legacy rules."
    return Table("Published", ["Criterion", *(f"{s} ({w})" for w, s in columns)], rows, note)
