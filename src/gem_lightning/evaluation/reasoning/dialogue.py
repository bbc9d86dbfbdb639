"""Dialogues: how a model of any kind is taken through the questions of a chain."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from gem_lightning.composition.chains.chain import Chain, Question
from gem_lightning.errors import GemError
from gem_lightning.evaluation.base import Prediction, Predictor, Query
from gem_lightning.evaluation.reasoning.answers import candidates

INSTRUCTION = (
    "You read a 12-lead ECG. Questions about it follow, each with options; choose by what the ECG shows. Time ranges "
    "are in seconds from its start."
)


class Dialogue(Protocol):
    """A conversation about one record."""

    def ask(self, question: Question) -> str:
        """Answer a question, as text or option."""
        ...

    def note(self, question: Question, answer: str) -> None:
        """Put a question and its right answer behind the conversation."""
        ...


@dataclass
class TranscriptDialogue:
    """Asks a predictor one question at a time, with the earlier ones and their answers written in front.

    Args:
        predictor: Any predictor.
        query: The record.
        choose: ``likelihood`` takes the likeliest option where the predictor gives likelihoods, ``text`` never does.
    """

    predictor: Predictor
    query: Query
    choose: str = "likelihood"
    turns: list[str] = field(default_factory=list)

    def ask(self, question: Question) -> str:
        """Answer a question.

        Raises:
            GemError: The predictor fails.
        """
        text = "\n\n".join([INSTRUCTION, *self.turns, question.prompt])
        options = candidates(question) if self.choose == "likelihood" else ()
        query = replace(self.query, question=text, options=options)
        found: list[Prediction] = []
        if hasattr(self.predictor, "predict_many"):
            self.predictor.predict_many([query], lambda _, prediction: found.append(prediction))
        else:
            found.append(self.predictor.predict(query))
        if found[0].error is not None:
            raise GemError(found[0].error)
        likelihoods = found[0].likelihoods
        return max(likelihoods, key=likelihoods.__getitem__) if likelihoods else found[0].text

    def note(self, question: Question, answer: str) -> None:
        """Put a question and its right answer behind the conversation."""
        self.turns.append(f"Question: {question.text}\nAnswer: {answer}")


@dataclass
class ChainPredictor:
    """Turns a predictor of single answers into one of whole chains; a chain's answers are one JSON list.

    A predictor with ``dialogue(query, choose)`` is asked in turns that reuse what it has read; others get a transcript.

    Args:
        predictor: The model under test.
        chains: Id → chain.
        choose: As in :class:`TranscriptDialogue`.
    """

    predictor: Any
    chains: dict[str, Chain]
    choose: str = "likelihood"

    def __post_init__(self) -> None:
        self.name = self.predictor.name
        if hasattr(self.predictor, "dialogues"):  # several chains at once, such as an endpoint's
            self.predict_many = self._predict_many

    def predict(self, query: Query) -> Prediction:
        """Answer every question of a chain, each after the right answers to the earlier ones."""
        chain = self.chains[query.id]
        begin = getattr(self.predictor, "dialogue", None)
        dialogue = begin(query, self.choose) if begin else TranscriptDialogue(self.predictor, query, self.choose)
        answers = []
        for question in chain.questions:
            answers.append(dialogue.ask(question))
            dialogue.note(question, question.answer)
        return Prediction(json.dumps(answers, ensure_ascii=False))

    def _predict_many(self, queries: Iterable[Query], on_prediction: Callable[[Query, Prediction], None]) -> None:
        def keep(query: Query, answers: list[str] | None, error: str | None) -> None:
            on_prediction(query, Prediction(json.dumps(answers or [], ensure_ascii=False), error=error))

        self.predictor.dialogues(((query, self.chains[query.id]) for query in queries), keep)
