"""A GEM network in a chain of questions: one conversation, whose cache grows from turn to turn."""

from __future__ import annotations

from typing import Any

from gem_lightning.composition.chains.chain import Question
from gem_lightning.evaluation.base import Query
from gem_lightning.evaluation.reasoning.answers import candidates
from gem_lightning.models.gem import Gem
from gem_lightning.models.inference.conversation import Conversation


class GemDialogue:
    """Asks a network in one conversation about a record; the ECG and earlier turns are read once.

    Args:
        predictor: A ``GemPredictor``.
        query: The record.
        choose: ``likelihood`` scores the options, ``text`` generates an answer.
    """

    def __init__(self, predictor: Any, query: Query, choose: str = "likelihood") -> None:
        gem = Gem(predictor.model, predictor.processor, predictor.renderer)
        self.talk = Conversation(gem, predictor.prepared(query))
        self.choose, self.longest = choose, predictor.max_new_tokens

    def ask(self, question: Question) -> str:
        """Answer a question without putting it behind the conversation.

        Raises:
            DataError: The conversation does not fit into the model's context.
        """
        if self.choose == "likelihood":
            scores = self.talk.score_options(question.prompt, candidates(question))
            return max(scores, key=scores.__getitem__)
        return self.talk.answer(question.prompt, self.longest)

    def note(self, question: Question, answer: str) -> None:
        """Put a question without its options, which would fill the context, and its right answer behind the talk."""
        self.talk.note(question.text, answer)
