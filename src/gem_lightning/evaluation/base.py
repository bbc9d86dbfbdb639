"""What every benchmark and every model under test have in common.

A *predictor* answers a :class:`Query` (a record, a picture, a question). A *benchmark* is built from plain arguments
and called with a predictor and a folder; it returns a :class:`Result` and writes predictions as they arrive, so that a
killed run goes on where it stopped:

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
from gem_lightning.llm.jsonlines import AppendLog
from gem_lightning.reporting.evaluation import EvaluationReport
from gem_lightning.samples.sample import RecordRef

logger = logging.getLogger(__name__)
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Query:
    """One question to a model.

    Attributes:
        id: Of the sample.
        question: In words; None asks for the model's usual interpretation.
        record: The signal, or None when the sample has none (or it is withheld on purpose).
        image: uint8 (H, W, 3), or None: the predictor draws one from the record if it needs one.
        options: Answers whose likelihoods are wanted, where the model can give them.
        withhold: Modalities that must not be used: ``signal`` or ``image``.
        source: Where ``record`` was read from, for a model that wants it as the original reads it; None for a record
            that is not the file's.
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
    """What a model answered: text, likelihoods of the options where it gives them, or why there is none."""

    text: str
    likelihoods: dict[str, float] | None = None
    error: str | None = None


@runtime_checkable
class Predictor(Protocol):
    """A model under test. ``predict_many(queries, on_prediction)``, where it has one, answers several at once."""

    name: str

    def predict(self, query: Query) -> Prediction:
        """Answer one query."""
        ...


class Benchmark(Protocol):
    """Built from plain arguments, called with a predictor and an output folder."""

    def __call__(self, predictor: Predictor, out: str | os.PathLike[str], progress: Progress | None = None) -> Result:
        """Ask, score and report."""
        ...


@dataclass
class Result:
    """What a benchmark found.

    Attributes:
        benchmark: Its name.
        model: Name of the predictor.
        figures: Every number, nested by name; intervals as dicts with ``value``, ``low``, ``high``.
        per_record: Figure to record id to value, for paired tests between runs.
        report: The same for people; its first table is the headline.
        columns: Identity of each figure that depends on a judge: figures of different identities are never compared.
        groups: Patient of each record id, where known.
        settings: What shapes questions and scores: runs that differ here are not compared.
        data: Record id to :func:`fingerprint` of what was asked about: other content under the same id is another
            record.
    """

    benchmark: str
    model: str
    figures: dict[str, Any]
    report: EvaluationReport
    per_record: dict[str, dict[str, float]] = field(default_factory=dict)
    columns: dict[str, str] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    data: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values; ``table`` is the headline table."""
        tables = [asdict(table) for table in self.report.tables]
        return plain(
            {
                "benchmark": self.benchmark,
                "model": self.model,
                "figures": self.figures,
                "per_record": self.per_record,
                "columns": self.columns,
                "groups": self.groups,
                "settings": self.settings,
                "data": self.data,
                "table": tables[0] if tables else {"title": self.benchmark, "header": [], "rows": [], "note": ""},
                "tables": tables,
            }
        )

    def save(self, out: str | os.PathLike[str]) -> pathlib.Path:
        """Write results.json, report.md and report.html into a folder, each whole or not at all."""
        folder = pathlib.Path(out)
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / "results.json", json.dumps(self.to_dict(), indent=1, ensure_ascii=False).encode())
        write_atomically(folder / "report.md", self.report.to_markdown().encode())
        write_atomically(folder / "report.html", self.report.to_html().encode())
        return folder / "report.html"


def fingerprint(content: EcgRecord | str) -> str:
    """Short digest of a record's signal, leads and rate, or of a text."""
    digest = hashlib.blake2b(digest_size=8)
    if isinstance(content, str):
        digest.update(content.encode())
    else:
        digest.update(f"{content.leads} {content.fs}".encode())
        digest.update(np.ascontiguousarray(content.signal).tobytes())
    return digest.hexdigest()


def answer_all(
    predictor: Predictor,
    names: Sequence[str],
    make: Callable[[str], Query],
    path: str | os.PathLike[str],
    progress: Progress | None = None,
    settings: dict[str, Any] | None = None,
) -> dict[str, Prediction]:
    """Answers to every query, written to ``path`` as they arrive; those there without an error are not asked again.

    Args:
        predictor: The model under test; its name must be the one that began the file.
        names: Ids of the queries, in order.
        make: Builds a query; called only when it is needed. A GemError there (an unreadable record) or in the predictor
            becomes a prediction with ``error``.
        path: JSON lines: ``question_id``, ``text``, ``prompt``, ``model_id``, ``settings`` (a fingerprint) and
            ``likelihoods`` or ``error``.
        progress: Called with (done, all).
        settings: What shapes the queries beside their ids.

    Raises:
        DataError: The file holds another model's answers or answers under other settings, or a model could not answer
            one single query.
    """
    asked = fingerprint(json.dumps(plain(settings or {}), sort_keys=True))
    done = {name: said for name, said in read_predictions(path, predictor.name, asked).items() if said.error is None}
    todo = [name for name in names if name not in done]
    if len(todo) < len(names):
        logger.info("%d of %d answers are there already", len(names) - len(todo), len(names))

    with AppendLog(path) as log:

        def keep(query: Query, prediction: Prediction) -> None:
            row: dict[str, Any] = {"question_id": query.id, "prompt": query.question, "text": prediction.text}
            row |= {"model_id": predictor.name, "settings": asked}
            if prediction.likelihoods is not None:
                row["likelihoods"] = prediction.likelihoods
            if prediction.error is not None:
                row["error"] = prediction.error
            log.append(row)
            done[query.id] = prediction
            if progress:
                progress(len(done), len(names))

        many = getattr(predictor, "predict_many", None)
        asks = getattr(predictor, "needs_input", True)  # a file of answers needs no record, only the id
        queries = _queries(todo, make if asks else Query, keep)
        if many is not None:
            many(queries, keep)
        else:
            for query in queries:
                keep(query, _predict(predictor, query))
    answers = {name: done[name] for name in names if name in done}
    _tell_failures(answers, path, asks)
    return answers


def _tell_failures(answers: dict[str, Prediction], path: str | os.PathLike[str], asks: bool) -> None:
    failed = {name: said.error for name, said in answers.items() if said.error is not None}
    if not failed:
        return
    name, reason = next(iter(failed.items()))
    if asks and len(failed) == len(answers):
        raise DataError(f"none of {len(answers)} queries could be answered; the first ({name}): {reason}")
    logger.warning(
        "%d of %d queries could not be answered; the first (%s): %s (all in %s)",
        len(failed), len(answers), name, reason, path,
    )  # fmt: skip


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
    path: str | os.PathLike[str], model: str | None = None, asked: str | None = None
) -> dict[str, Prediction]:
    """Predictions of an append-only file, by id: the last of each; a torn last line is skipped.

    Raises:
        DataError: They are not of ``model``, or of other settings than those of fingerprint ``asked``.
    """
    found: dict[str, Prediction] = {}
    for row in AppendLog(path).rows():
        other = row.get("model_id")
        if model is not None and other is not None and other != model:
            raise DataError(f"expected answers of {model!r} in {path}, got some of {other!r}; use another out folder")
        if asked is not None and row.get("settings", asked) != asked:
            raise DataError(
                f"expected answers under the same settings in {path}, got some to another question or of another "
                "simulation; use another out folder"
            )
        found[row["question_id"]] = Prediction(row["text"], row.get("likelihoods"), row.get("error"))
    return found
