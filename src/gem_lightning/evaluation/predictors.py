"""Predictors: a GEM network, an object with ``interpret``, any function, a file of answers, an API."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any

import numpy as np

from gem_lightning.ecg.record import EcgRecord
from gem_lightning.errors import DataError, GemError
from gem_lightning.evaluation.base import NO_ROW, Prediction, Predictor, Query
from gem_lightning.evaluation.predictions import prediction_id, prediction_text, read_rows
from gem_lightning.llm.client import ChatClient, ChatRequest
from gem_lightning.revision import Revision, VerifyOptions, revise
from gem_lightning.samples.sample import DEFAULT_QUESTION


def as_predictor(model: Any, name: str | None = None) -> Predictor:
    """Wrap a model as a predictor.

    Args:
        model: A predictor; an object with ``interpret(record, question=None)`` (such as ``Gem``); a function with
            the same arguments, or of a :class:`Query`; the path of a file of predictions; or a :class:`ChatClient`.
        name: Name in reports; default the object's own.

    Raises:
        DataError: None of these.
    """
    if isinstance(model, (str, os.PathLike)):
        return FilePredictor(model, name)
    if isinstance(model, ChatClient):
        return ApiPredictor(model, name=name)
    if isinstance(model, Predictor):
        return model
    function = getattr(model, "interpret", model)
    if callable(function):
        name = name or getattr(model, "name", None) or type(model).__name__
        if "on_missing" in inspect.signature(function).parameters:
            function = partial(function, on_missing="model")  # what is judged is what the model itself writes
        return FunctionPredictor(function, name)
    raise DataError(
        f"expected a predictor, interpret(record, question), a file or a client, got {type(model).__name__}"
    )


class FunctionPredictor:
    """Calls ``interpret(record, question=None)``, which returns a text or an object with ``text``.

    Keyword arguments ``image``, ``options`` and ``withhold`` are passed on when the function accepts them.

    Args:
        interpret: The function.
        name: Name in reports.
    """

    def __init__(self, interpret: Callable[..., Any], name: str = "function") -> None:
        self.interpret, self.name = interpret, name
        parameters = inspect.signature(interpret).parameters
        anything = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
        self._accepts = {key for key in ("image", "options", "withhold") if anything or key in parameters}
        self._accepts_query = next(iter(parameters), None) == "query"

    def predict(self, query: Query) -> Prediction:
        """Answer one query.

        Raises:
            DataError: The query withholds a modality and the function has no ``withhold``.
        """
        if self._accepts_query:
            return _prediction(self.interpret(query))
        if query.withhold and "withhold" not in self._accepts:
            raise DataError(
                f"{self.name} cannot leave out {', '.join(query.withhold)}: its function takes no 'withhold'"
            )
        given = {"image": query.image, "options": query.options, "withhold": query.withhold}
        more = {key: given[key] for key in self._accepts if given[key] is not None and len(given[key])}  # type: ignore[arg-type]
        return _prediction(self.interpret(query.record, query.question, **more))


def _prediction(answer: Any) -> Prediction:
    if isinstance(answer, Prediction):
        return answer
    if isinstance(answer, str):
        return Prediction(answer)
    return Prediction(str(answer.text), getattr(answer, "likelihoods", None))


def _predict_one(predictor: Any, query: Query) -> Prediction:
    found: list[Prediction] = []
    predictor.predict_many([query], lambda _, prediction: found.append(prediction))
    return found[0]


class FilePredictor:
    """Answers from a file: predictions of this library, of the original, PULSE, ECG-R1, or of a batch API.

    Args:
        path: .jsonl, .json or .parquet, or a folder of such files (one per GPU, as the original writes them); rows as
            in :mod:`~gem_lightning.evaluation.predictions`.
        name: Name in reports; default the rows' ``model_id`` or the file's name.

    Raises:
        DataError: Two rows have one id.
    """

    needs_input = False

    def __init__(self, path: str | os.PathLike[str], name: str | None = None) -> None:
        rows = read_rows(path)
        self.rows = {prediction_id(row): row for row in rows}
        if len(self.rows) < len(rows):
            raise DataError(f"expected one row per id in {path}, got {len(rows)} rows of {len(self.rows)} ids")
        named = rows[0].get("model_id") if rows else None
        self.name = name or named or os.path.splitext(os.path.basename(path))[0]

    def predict(self, query: Query) -> Prediction:
        """Return the row's answer; a missing row is a prediction with an error, so that it is counted."""
        row = self.rows.get(query.id)
        if row is None:
            return Prediction("", error=NO_ROW)
        return Prediction(prediction_text(row), row.get("likelihoods"), row.get("error"))


class ApiPredictor:
    """A model behind an OpenAI-compatible endpoint; it receives the image (rendered from the record) and the question.

    Args:
        client: Client of the endpoint.
        renderer: Renders records, ``renderer(record).image``; None: the default page, 1100 px wide.
        system: System prompt, or None.
        name: Name in reports; default the client's model.
        images: Send the rendered page; False for a model that reads text alone.
        tools: In chains of questions, let the model call measure, criterion and zoom on the record.
    """

    def __init__(
        self,
        client: ChatClient,
        renderer: Any = None,
        system: str | None = None,
        name: str | None = None,
        images: bool = True,
        tools: bool = False,
    ) -> None:
        self.client, self.renderer, self.system = client, renderer, system
        self.images, self.tools = images, tools
        self.name = name or client.model

    def predict(self, query: Query) -> Prediction:
        """Answer one query."""
        return _predict_one(self, query)

    def predict_many(self, queries: Iterable[Query], on_prediction: Callable[[Query, Prediction], None]) -> None:
        """Answer several, with the client's concurrency.

        Raises:
            GemError: The budget is exhausted; answers so far are kept.
        """
        sent: dict[str, Query] = {}

        def requests() -> Iterable[ChatRequest]:
            for query in queries:
                sent[query.id] = query
                yield self._request(query)

        self.client.ask(
            requests(), lambda answer: on_prediction(sent[answer.tag], Prediction(answer.text, error=answer.error))
        )
        if self.client.ledger.stopped:
            raise GemError(f"stopped early: {self.client.ledger.stopped}; answers so far are kept, rerun to resume")

    def dialogues(self, pairs: Iterable[tuple[Query, Any]], keep: Callable[..., None]) -> None:
        """Answer chains of questions, with the client's concurrency; see ``evaluation/reasoning/chat_dialogue.py``."""
        from gem_lightning.evaluation.reasoning.chat_dialogue import run_chains

        run_chains(self.client, pairs, keep, self.tools, self._render if self.images else None, self.system)

    def _request(self, query: Query) -> ChatRequest:
        messages = [{"role": "system", "content": self.system}] if self.system else []
        messages.append({"role": "user", "content": query.question or DEFAULT_QUESTION})
        image = query.image
        if image is None and query.record is not None and "image" not in query.withhold and self.images:
            image = self._render(query.record)
        return ChatRequest(messages, images=() if image is None else (image,), tag=query.id)

    def _render(self, record: EcgRecord) -> np.ndarray:
        if self.renderer is None:
            from gem_lightning.render import EcgRenderer

            # letter paper at 100 dpi: what chat models accept without shrinking
            self.renderer = EcgRenderer(size=(850, 1100))
        return self.renderer(record).image


class RevisedPredictor:
    """Revises the answers of any predictor after they are written, such as those of a model behind an endpoint.

    Args:
        predictor: Whose answers.
        options: ``verify`` must be ``revise``, or ``report`` with ``complete``: an endpoint's numbers cannot be guided.

    Raises:
        DataError: Another mode.
    """

    def __init__(self, predictor: Predictor, options: VerifyOptions) -> None:
        if options.verify not in ("report", "revise") or options.tries:
            raise DataError(
                f"expected verify=revise without tries for {predictor.name}, got {options}; guide, rerank and tries "
                "need the network itself"
            )
        self.predictor, self.options = predictor, options
        self.name = f"{predictor.name}{options.label}"

    def predict(self, query: Query) -> Prediction:
        """Answer one query."""
        return self._revise(query, self.predictor.predict(query))

    def predict_many(self, queries: Iterable[Query], on_prediction: Callable[[Query, Prediction], None]) -> None:
        """Answer several; with the predictor's own concurrency where it has one."""

        def revised(query: Query, prediction: Prediction) -> None:
            on_prediction(query, self._revise(query, prediction))

        if hasattr(self.predictor, "predict_many"):
            self.predictor.predict_many(queries, revised)
            return
        for query in queries:
            try:
                revised(query, self.predictor.predict(query))
            except GemError as error:
                on_prediction(query, Prediction("", error=str(error)))

    def _revise(self, query: Query, prediction: Prediction) -> Prediction:
        if prediction.error is not None or query.record is None:
            return prediction
        features, found = _measured(query)
        on_fail = self.options.on_fail if self.options.verify == "revise" else "flag"
        done = revise(prediction.text, features, found, on_fail, self.options.complete)
        return replace(_revised(done), likelihoods=prediction.likelihoods, tokens=None)


def _measured(query: Query) -> tuple[Any, Any]:
    """Measurements and findings of a query's record.

    Raises:
        DataError: The query has none.
    """
    from gem_lightning.features import findings, measure

    if query.record is None:
        raise DataError(f"expected a record to verify the answer to {query.id} against, got none; use verify=report")
    features = measure(query.record)
    return features, findings(features)


def _revised(revision: Revision) -> Prediction:
    return Prediction(revision.text, draft=revision.draft, kept=revision.kept_share, tokens=revision.tokens or None)


class GemPredictor:
    """Answers queries with a GEM network, in batches.

    Args:
        model: A ``GemForConditionalGeneration`` or a peft wrapper of it.
        processor: Its ``GemProcessor``.
        renderer: Renders a record whose query has no image; None omits the image.
        name: Name in reports.
        question: Question of a query that has none.
        batch_size: Queries per batch.
        max_new_tokens: Maximum answer length, tokens.
        options: How answers are held to the record's measurements.

    Raises:
        DataError: Neither the ECG nor the image branch of the network was trained.
    """

    def __init__(
        self,
        model: Any,
        processor: Any,
        renderer: Callable[..., Any] | None = None,
        name: str = "gem",
        question: str = DEFAULT_QUESTION,
        batch_size: int = 16,
        max_new_tokens: int = 512,
        options: VerifyOptions | None = None,
    ) -> None:
        from gem_lightning.models.gem import modalities

        self.options = options or VerifyOptions()
        name = f"{name}{self.options.label}"

        self.model, self.processor, self.renderer, self.name = model, processor, renderer, name
        self.inputs = modalities(model.config)
        self.question, self.batch_size, self.max_new_tokens = question, batch_size, max_new_tokens

    def predict(self, query: Query) -> Prediction:
        """Answer one query."""
        return _predict_one(self, query)

    def dialogue(self, query: Query, choose: str = "likelihood") -> Any:
        """Start a conversation about a record, for a chain of questions."""
        from gem_lightning.evaluation.reasoning.gem_dialogue import GemDialogue

        return GemDialogue(self, query, choose)

    def prepared(self, query: Query) -> Any:
        """Return a query's record as the network takes it, with its image where the network reads one."""
        from gem_lightning.models.gem import Prepared

        if query.record is None:
            raise DataError(f"expected a record for query {query.id}, got none")
        example = self._example(query)
        return Prepared(query.record, example["record"] or query.record, example["image"])

    def predict_many(self, queries: Iterable[Query], on_prediction: Callable[[Query, Prediction], None]) -> None:
        """Answer several; a query that fails becomes a prediction with its error."""
        for batch in _batches(queries, self.batch_size):
            examples, valid = [], []
            for query in batch:
                try:
                    examples.append(self._example(query))
                    valid.append(query)
                except GemError as error:
                    on_prediction(query, Prediction("", error=str(error)))
            for query, prediction in zip(valid, self._answers(valid, examples), strict=True):
                on_prediction(query, prediction)

    def _answers(self, queries: list[Query], examples: list[dict[str, Any]]) -> list[Prediction]:
        """Answer a batch; if a query in it fails, answer each query alone."""
        from gem_lightning.models.fusion import keep_tower_outputs
        from gem_lightning.models.inference.generation import generate_texts, option_likelihoods

        def likelihoods(query: Query, example: dict[str, Any]) -> dict[str, float] | None:
            return option_likelihoods(self.model, self.processor, example, query.options) if query.options else None

        limits: dict[str, Any] = {"max_new_tokens": self.max_new_tokens, "batch_size": self.batch_size}
        try:
            with keep_tower_outputs():
                if self.options.active:
                    return self._verified(queries, examples)
                texts = generate_texts(self.model, self.processor, examples, **limits)
                return [
                    Prediction(text, likelihoods(query, example))
                    for query, example, text in zip(queries, examples, texts, strict=True)
                ]
        except GemError as error:
            if len(queries) == 1:
                return [Prediction("", error=str(error))]
        return [self._answers([query], [example])[0] for query, example in zip(queries, examples)]

    def _verified(self, queries: list[Query], examples: list[dict[str, Any]]) -> list[Prediction]:
        from gem_lightning.models.inference.generation import encode_example
        from gem_lightning.models.verified.verified import verified_answers

        items = [encode_example(self.processor, example) for example in examples]
        measured = [_measured(query) for query in queries]
        answers = verified_answers(self.model, self.processor, items, measured, self.options, self.max_new_tokens)
        return [_revised(revision) for revision in answers]

    def _example(self, query: Query) -> dict[str, Any]:
        record = self._as_trained(query) if "ecg" in self.inputs and "signal" not in query.withhold else None
        image: np.ndarray | None = None
        if "image" in self.inputs and "image" not in query.withhold:
            image = query.image
            if image is None and query.record is not None and self.renderer is not None:
                image = self.renderer(query.record).image
        return {"question": query.question or self.question, "record": record, "image": image}

    def _as_trained(self, query: Query) -> EcgRecord | None:
        """Return the record under the network's contract; without a source it keeps the standard lead order."""
        from gem_lightning.ecg.preprocess import gem

        if query.record is None or self.processor.contract == "clean":
            return query.record
        return gem(query.record) if query.source is None else query.source.read(contract=self.processor.contract)


def _batches(queries: Iterable[Query], size: int) -> Iterator[list[Query]]:
    source = iter(queries)
    while batch := list(islice(source, size)):
        yield batch
