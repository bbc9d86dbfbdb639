"""Types and functions shared by all benchmarks and predictors.

A *predictor* answers a :class:`Query` (a record, an image, a question). A *benchmark* is built from plain arguments
and called with a predictor and a folder; it returns a :class:`Result` and writes predictions as they arrive, so that a
killed run resumes where it stopped:

    result = SimulatorBenchmark(n=200)(as_predictor(gem), out="outputs/simulator")
    result.save("outputs/simulator")
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np

from gem_lightning.ecg.record import EcgRecord
from gem_lightning.errors import DataError, GemError
from gem_lightning.features.schema import plain
from gem_lightning.jobs import write_atomically
from gem_lightning.llm.cache import AppendLog
from gem_lightning.reporting.evaluation import EvaluationReport
from gem_lightning.samples.sample import RecordRef
from gem_lightning.sources.base import RecordFiles, Source
from gem_lightning.sources.record import SourceRecord

__all__ = [
    "Benchmark",
    "NotApplicableError",
    "Prediction",
    "Predictor",
    "Query",
    "RecordSet",
    "Result",
    "answer_all",
    "fingerprint",
    "read_predictions",
]

logger = logging.getLogger(__name__)
NO_ROW = "no row in the file"  # error of an answer that a file of predictions lacks
Progress = Callable[[int, int], None]


class NotApplicableError(DataError):
    """A model that cannot do a benchmark, such as a file of answers to another one."""


@dataclass(frozen=True)
class Query:
    """One question to a model.

    Attributes:
        id: Sample id.
        question: Question text; None requests the model's usual interpretation.
        record: Signal, or None when the sample has none or it is withheld on purpose.
        image: uint8 (H, W, 3), or None: the predictor renders the record if it needs an image.
        options: Answers whose likelihoods are requested, where the model supports it.
        withhold: Modalities that must not be used: ``signal`` or ``image``.
        source: File of ``record``, for a model that reads it under the original's contract; None for a record that
            differs from its file.
    """

    id: str
    question: str | None = None
    record: EcgRecord | None = None
    image: np.ndarray | None = None
    options: tuple[str, ...] = ()
    withhold: tuple[str, ...] = ()
    source: RecordRef | None = None


@dataclass(frozen=True)
class Prediction:
    """A model's answer: its text, the likelihoods of the options where available, or the error.

    Attributes:
        text: The answer.
        likelihoods: Of the options.
        error: Why there is no answer.
        draft: The model's own sentences where verification may have changed them.
        kept: Share of these that stand unchanged.
        tokens: Tokens that the model wrote.
    """

    text: str
    likelihoods: dict[str, float] | None = None
    error: str | None = None
    draft: str | None = None
    kept: float | None = None
    tokens: int | None = None


@runtime_checkable
class Predictor(Protocol):
    """Model under test. An optional ``predict_many(queries, on_prediction)`` answers several queries at once."""

    name: str

    def predict(self, query: Query) -> Prediction:
        """Answer one query."""
        ...


class Benchmark(Protocol):
    """Benchmark: built from plain arguments, called with a predictor and an output folder."""

    def __call__(self, predictor: Predictor, out: str | os.PathLike[str], progress: Progress | None = None) -> Result:
        """Query the model, score its answers and build the report."""
        ...


@dataclass
class Result:
    """Output of a benchmark.

    Attributes:
        benchmark: Name of the benchmark.
        model: Name of the predictor.
        metrics: All values, nested by name; intervals as dicts with ``value``, ``low``, ``high``.
        report: The same as a readable report; its first table is the headline.
        per_record: Metric to record id to value, for paired tests between runs.
        columns: Judge of each metric that depends on one: metrics of different judges are never compared.
        groups: Patient of each record id, where known.
        settings: Settings that change questions and scores: runs that differ here are not compared.
        data: Record id to :func:`fingerprint` of its content: the same id with other content is another record.
    """

    benchmark: str
    model: str
    metrics: dict[str, Any]
    report: EvaluationReport
    per_record: dict[str, dict[str, float]] = field(default_factory=dict)
    columns: dict[str, str] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    data: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values; ``summary`` is the headline as text, ``table`` the headline table."""
        tables = [asdict(table) for table in self.report.tables]
        values = {name: value for name, value in vars(self).items() if name != "report"}
        empty = {"title": self.benchmark, "header": [], "rows": [], "note": ""}
        shown = {"summary": self.report.summary, "table": tables[0] if tables else empty, "tables": tables}
        return plain({**values, **shown})

    def save(self, out: str | os.PathLike[str]) -> pathlib.Path:
        """Write results.json, report.md and report.html to a folder, each atomically."""
        folder = pathlib.Path(out)
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / "results.json", json.dumps(self.to_dict(), indent=1, ensure_ascii=False).encode())
        write_atomically(folder / "report.md", self.report.to_markdown().encode())
        write_atomically(folder / "report.html", self.report.to_html().encode())
        return folder / "report.html"


def fingerprint(content: EcgRecord | str) -> str:
    """Return a short digest of a text, or of a record's signal, leads and rate."""
    digest = hashlib.blake2b(digest_size=8)
    if isinstance(content, str):
        digest.update(content.encode())
    else:
        digest.update(f"{content.leads} {content.fs}".encode())
        digest.update(np.ascontiguousarray(content.signal).tobytes())
    return digest.hexdigest()


@dataclass
class RecordSet:
    """The records of a source, read on demand.

    Args:
        source: A :class:`~gem_lightning.sources.base.Source`, or the path of a file, folder, list or table of records.
        limit: Maximum number of records, from the first; None takes all.

    Attributes:
        names: Record ids, in the source's order.
        groups: Patient of each id that has one.

    Raises:
        DataError: There are no records, or two have one id.
    """

    source: Source | str | os.PathLike[str]
    limit: int | None = None
    names: list[str] = field(init=False, default_factory=list)
    groups: dict[str, str] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        source = self.source if isinstance(self.source, Source) else RecordFiles(root=os.fspath(self.source))
        self._records: dict[str, SourceRecord] = {}
        self._paths = source.paths
        for record in source.records():
            if self.limit is not None and len(self.names) >= self.limit:
                break
            if record.ecg is None:
                continue
            if record.id in self._records:
                raise DataError(f"expected unique record ids in {source.name}, got {record.id!r} twice")
            self.names.append(record.id)
            self._records[record.id] = record
            if record.patient is not None:
                self.groups[record.id] = record.patient
        if not self.names:
            raise DataError(f"expected records in {source.name} ({source.root or 'no folder'}), got none")

    def read(self, name: str) -> EcgRecord:
        """Read the record of an id, with the age and sex that the source knows in its ``meta``.

        Raises:
            EcgReadError: It cannot be read.
        """
        return self._records[name].with_patient(self.reference(name).read())

    def reference(self, name: str) -> RecordRef:
        """Return the location of the record of an id."""
        record = self._records[name]
        return RecordRef.parse(record.ecg or "", record.format).mapped(self._paths)

    def another(self, name: str) -> str:
        """Return the next record that is not known to be of the same patient; the next one where all are."""
        at, count, patient = self.names.index(name), len(self.names), self.groups.get(name)
        others = (self.names[(at + step) % count] for step in range(1, count))
        following = self.names[(at + 1) % count]
        return next((other for other in others if patient is None or self.groups.get(other) != patient), following)

    def patients(self, names: list[str]) -> list[str | None] | None:
        """Return the patient of each name, None where unknown; None when no patient is known."""
        return [self.groups.get(name) for name in names] if self.groups else None


def answer_all(
    predictor: Predictor,
    names: Sequence[str],
    make: Callable[[str], Query],
    path: str | os.PathLike[str],
    progress: Progress | None = None,
    settings: dict[str, Any] | None = None,
) -> dict[str, Prediction]:
    """Answer every query and append each answer to ``path``; answers that are there without an error are reused.

    Args:
        predictor: Model under test; its name must match that of the answers in the file.
        names: Ids of the queries, in order.
        make: Builds a query; called on demand. A GemError raised by it (an unreadable record) or by the predictor
            becomes a prediction with ``error``.
        path: JSON lines: ``question_id``, ``text``, ``prompt``, ``model_id``, ``settings`` (a fingerprint) and
            ``likelihoods``, ``draft``, ``kept``, ``tokens`` or ``error``.
        progress: Called with (done, total).
        settings: Everything except the ids that changes the queries.

    Raises:
        DataError: The file holds answers of another model or of other settings, or every query failed.
    """
    mark = fingerprint(json.dumps(plain(settings or {}), sort_keys=True))
    stored = read_predictions(path, predictor.name, mark)
    done = {name: prediction for name, prediction in stored.items() if prediction.error is None}
    todo = [name for name in names if name not in done]
    if len(todo) < len(names):
        logger.info("reusing %d of %d answers", len(names) - len(todo), len(names))

    with AppendLog(path) as log:

        def keep(query: Query, prediction: Prediction) -> None:
            row: dict[str, Any] = {"question_id": query.id, "prompt": query.question, "text": prediction.text}
            row |= {"model_id": predictor.name, "settings": mark}
            for name in ("likelihoods", "draft", "kept", "tokens"):
                if getattr(prediction, name) is not None:
                    row[name] = getattr(prediction, name)
            if prediction.error is not None:
                row["error"] = prediction.error
            log.append(row)
            done[query.id] = prediction
            if progress:
                progress(len(done), len(names))

        needs_input = getattr(predictor, "needs_input", True)  # a file of answers needs the id alone
        queries = _queries(todo, make if needs_input else Query, keep)
        if hasattr(predictor, "predict_many"):
            predictor.predict_many(queries, keep)
        else:
            for query in queries:
                keep(query, _predict(predictor, query))
    answers = {name: done[name] for name in names if name in done}
    _report_failures(answers, path, needs_input)
    return answers


def _report_failures(answers: dict[str, Prediction], path: str | os.PathLike[str], needs_input: bool) -> None:
    failed = {name: prediction.error for name, prediction in answers.items() if prediction.error is not None}
    if not failed:
        return
    name, reason = next(iter(failed.items()))
    if needs_input and len(failed) == len(answers):
        raise DataError(f"expected answers, got errors for all {len(answers)} queries; the first ({name}): {reason}")
    message = "%d of %d queries failed; the first (%s): %s (all in %s)"
    logger.warning(message, len(failed), len(answers), name, reason, path)


def _queries(names: Iterable[str], make: Callable[[str], Query], keep: Callable[..., None]) -> Iterator[Query]:
    for name in names:
        try:
            query = make(name)
        except GemError as error:
            keep(Query(name), Prediction("", error=str(error)))
            continue
        yield query


def _predict(predictor: Predictor, query: Query) -> Prediction:
    try:
        return predictor.predict(query)
    except GemError as error:
        return Prediction("", error=str(error))


def read_predictions(
    path: str | os.PathLike[str], model: str | None = None, mark: str | None = None
) -> dict[str, Prediction]:
    """Read the predictions of an append-only file by id; the last of each id counts, a torn last line is skipped.

    Raises:
        DataError: They are not of ``model``, or of settings with another fingerprint than ``mark``.
    """
    found: dict[str, Prediction] = {}
    for row in AppendLog(path).rows():
        other = row.get("model_id")
        if model is not None and other is not None and other != model:
            raise DataError(f"expected answers of {model!r} in {path}, got some of {other!r}; use another out folder")
        if mark is not None and row.get("settings", mark) != mark:
            raise DataError(
                f"expected answers under the same settings in {path}, got some to another question or of another "
                "simulation; use another out folder"
            )
        more = {name: row.get(name) for name in ("likelihoods", "error", "draft", "kept", "tokens")}
        found[row["question_id"]] = Prediction(row["text"], **more)
    return found
