"""A GEM under test: batches of answers, withheld modalities, likelihoods of given options."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np

from gem_lightning.ecg.preprocess import gem
from gem_lightning.ecg.record import EcgRecord
from gem_lightning.errors import GemError
from gem_lightning.evaluation.base import Prediction, Query
from gem_lightning.models.gem import modalities
from gem_lightning.samples.sample import DEFAULT_QUESTION


class GemPredictor:
    """Answers queries with a network, several at a time.

    Args:
        model: A ``GemForConditionalGeneration`` or a peft wrapper of it.
        processor: Its ``GemProcessor``.
        renderer: Draws a record whose query brings no picture; None leaves the picture out.
        name: For reports.
        question: Asked where a query has none.
        batch_size: Queries at a time.
        max_new_tokens: Longest answer.

    Raises:
        DataError: No part of the network that could look at a record was trained.
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
    ) -> None:
        self.model, self.processor, self.renderer, self.name = model, processor, renderer, name
        self.looks_at = modalities(model.config)
        self.question, self.batch_size, self.max_new_tokens = question, batch_size, max_new_tokens

    def predict(self, query: Query) -> Prediction:
        """Answer one query."""
        found: list[Prediction] = []
        self.predict_many([query], lambda _, prediction: found.append(prediction))
        return found[0]

    def predict_many(self, queries: Iterable[Query], on_prediction: Callable[[Query, Prediction], None]) -> None:
        """Answer several; a query that cannot be answered becomes a prediction with its error."""
        for batch in _batches(queries, self.batch_size):
            examples, askable = [], []
            for query in batch:
                try:
                    examples.append(self._example(query))
                    askable.append(query)
                except GemError as error:
                    on_prediction(query, Prediction("", error=str(error)))
            for query, prediction in zip(askable, self._answers(askable, examples), strict=True):
                on_prediction(query, prediction)

    def _answers(self, queries: list[Query], examples: list[dict[str, Any]]) -> list[Prediction]:
        """Predictions of a batch; where one of it cannot be answered, each is asked alone."""
        from gem_lightning.models.generation import generate_texts

        limits = {"max_new_tokens": self.max_new_tokens, "batch_size": self.batch_size}
        try:
            texts = generate_texts(self.model, self.processor, examples, **limits)
            return [
                Prediction(text, self._likelihoods(example, query.options) if query.options else None)
                for query, example, text in zip(queries, examples, texts, strict=True)
            ]
        except GemError as error:
            if len(queries) == 1:
                return [Prediction("", error=str(error))]
        return [self._answers([query], [example])[0] for query, example in zip(queries, examples)]

    def _example(self, query: Query) -> dict[str, Any]:
        record = self._as_trained(query) if "ecg" in self.looks_at and "signal" not in query.withhold else None
        image: np.ndarray | None = None
        if "image" in self.looks_at and "image" not in query.withhold:
            image = query.image
            if image is None and query.record is not None and self.renderer is not None:
                image = self.renderer(query.record).image
        return {"question": query.question or self.question, "record": record, "image": image}

    def _as_trained(self, query: Query) -> EcgRecord | None:
        """The record under the network's contract; one that is not a file's any more keeps the standard lead order."""
        if query.record is None or self.processor.contract == "clean":
            return query.record
        return gem(query.record) if query.source is None else query.source.read(contract=self.processor.contract)

    def _likelihoods(self, example: dict[str, Any], options: tuple[str, ...]) -> dict[str, float]:
        """Probability of each option as the whole answer, exp of the sum over its tokens."""
        import torch

        from gem_lightning.models.configuration_gem import IGNORE_INDEX
        from gem_lightning.models.processing_gem import as_device

        ecgs = [] if example["record"] is None else [example["record"]]
        images = [] if example["image"] is None else [example["image"]]
        marker = "<image>\n" if ecgs or images else ""
        turn = {"from": "human", "value": f"{marker}{example['question']}"}
        parameter = next(p for p in self.model.parameters() if p.dtype.is_floating_point)
        found = {}
        for option in options:
            item = self.processor.encode([turn, {"from": "gpt", "value": option}], ecgs=ecgs, images=images)
            batch = as_device(self.processor.pad([item]), parameter.device, parameter.dtype)
            with torch.inference_mode():
                loss = self.model(**batch, return_logits=False).loss
            found[option] = math.exp(-float(loss) * int((batch["labels"] != IGNORE_INDEX).sum()))
        return found


def _batches(queries: Iterable[Query], size: int) -> Iterator[list[Query]]:
    source = iter(queries)
    while batch := list(islice(source, size)):
        yield batch
