"""Models under test as predictors: an object with ``interpret``, any function, a file of answers, an API."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable
from typing import Any

from gem_lightning.errors import DataError, GemError
from gem_lightning.evaluation.base import Prediction, Predictor, Query
from gem_lightning.evaluation.predictions import prediction_id, prediction_text, read_rows
from gem_lightning.llm.client import ChatClient, ChatRequest
from gem_lightning.samples.sample import DEFAULT_QUESTION


def as_predictor(model: Any, name: str | None = None) -> Predictor:
    """A predictor from what there is.

    Args:
        model: A predictor; an object with ``interpret(record, question=None)`` (such as ``Gem``); a function of the
            same form, or of a :class:`Query`; the path of a file of predictions; or a :class:`ChatClient`.
        name: For reports; default the object's own.

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
        return FunctionPredictor(function, name or getattr(model, "name", None) or type(model).__name__)
    raise DataError(
        f"expected a predictor, interpret(record, question), a file or a client, got {type(model).__name__}"
    )


class FunctionPredictor:
    """Calls ``interpret(record, question=None)``; what it returns is a text, or has ``text``.

    Keyword arguments ``image``, ``options`` and ``withhold`` are passed on when the function takes them.

    Args:
        interpret: The function.
        name: For reports.
    """

    def __init__(self, interpret: Callable[..., Any], name: str = "function") -> None:
        self.interpret, self.name = interpret, name
        parameters = inspect.signature(interpret).parameters
        anything = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
        self._takes = {key for key in ("image", "options", "withhold") if anything or key in parameters}
        self._takes_query = next(iter(parameters), None) == "query"

    def predict(self, query: Query) -> Prediction:
        """Answer one query.

        Raises:
            DataError: The query withholds a modality and the function cannot.
        """
        if self._takes_query:
            return _prediction(self.interpret(query))
        if query.withhold and "withhold" not in self._takes:
            raise DataError(
                f"{self.name} cannot leave out {', '.join(query.withhold)}: its function takes no 'withhold'"
            )
        given = {"image": query.image, "options": query.options, "withhold": query.withhold}
        more = {key: given[key] for key in self._takes if given[key] is not None and len(given[key])}  # type: ignore[arg-type]
        return _prediction(self.interpret(query.record, query.question, **more))


def _prediction(answer: Any) -> Prediction:
    if isinstance(answer, Prediction):
        return answer
    if isinstance(answer, str):
        return Prediction(answer)
    return Prediction(str(answer.text), getattr(answer, "likelihoods", None))


class FilePredictor:
    """Answers from a file: this library's predictions, the original's, PULSE's, ECG-R1's, a batch API's.

    Args:
        path: .jsonl, .json or .parquet; rows as :mod:`~gem_lightning.evaluation.predictions` reads them.
        name: For reports; default the rows' ``model_id`` or the file's name.

    Raises:
        DataError: Two rows have one id.
    """

    needs_input = False

    def __init__(self, path: str | os.PathLike[str], name: str | None = None) -> None:
        rows = read_rows(path)
        self.rows = {prediction_id(row): row for row in rows}
        if len(self.rows) < len(rows):
            raise DataError(f"expected one row an id in {path}, got {len(rows)} rows of {len(self.rows)} ids")
        named = rows[0].get("model_id") if rows else None
        self.name = name or named or os.path.splitext(os.path.basename(path))[0]

    def predict(self, query: Query) -> Prediction:
        """The row's answer; a missing one is an error of its own, so that it is counted."""
        row = self.rows.get(query.id)
        if row is None:
            return Prediction("", error="no row in the file")
        return Prediction(prediction_text(row), row.get("likelihoods"), row.get("error"))


class ApiPredictor:
    """A model behind an OpenAI-compatible endpoint; it sees the picture (drawn from the record) and the question.

    Args:
        client: How to reach it.
        renderer: Draws records, ``renderer(record).image``; None: the library's default page, 1100 px wide.
        system: System prompt, or None.
        name: For reports; default the client's model.
    """

    def __init__(
        self, client: ChatClient, renderer: Any = None, system: str | None = None, name: str | None = None
    ) -> None:
        self.client, self.renderer, self.system = client, renderer, system
        self.name = name or client.model

    def predict(self, query: Query) -> Prediction:
        """Answer one query."""
        found: list[Prediction] = []
        self.predict_many([query], lambda _, prediction: found.append(prediction))
        return found[0]

    def predict_many(self, queries: Iterable[Query], on_prediction: Callable[[Query, Prediction], None]) -> None:
        """Answer several, as many at once as the client allows.

        Raises:
            GemError: The budget is used up; what was answered is kept.
        """
        asked: dict[str, Query] = {}

        def requests() -> Iterable[ChatRequest]:
            for query in queries:
                asked[query.id] = query
                yield self._request(query)

        self.client.ask(
            requests(), lambda answer: on_prediction(asked[answer.tag], Prediction(answer.text, error=answer.error))
        )
        if self.client.ledger.stopped:
            raise GemError(f"stopped early: {self.client.ledger.stopped}; answers so far are kept, run again to go on")

    def _request(self, query: Query) -> ChatRequest:
        messages = [{"role": "system", "content": self.system}] if self.system else []
        messages.append({"role": "user", "content": query.question or DEFAULT_QUESTION})
        image = query.image
        if image is None and query.record is not None and "image" not in query.withhold:
            image = self._draw(query.record)
        return ChatRequest(messages, images=() if image is None else (image,), tag=query.id)

    def _draw(self, record: Any) -> Any:
        if self.renderer is None:
            from gem_lightning.render import EcgRenderer

            self.renderer = EcgRenderer(size=(850, 1100))
        return self.renderer(record).image
