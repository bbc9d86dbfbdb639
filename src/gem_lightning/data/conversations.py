"""Conversations about one record whose truth is known: several kinds, composed, with varied questions."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from gem_lightning.composition.chains.make import chain_turns, make_chains, mixed
from gem_lightning.composition.chains.view import View
from gem_lightning.composition.compose import compose
from gem_lightning.composition.instrument import disagreement, drawn_reading, with_instrument
from gem_lightning.composition.questions import (
    CHAIN_KIND,
    FREE_KINDS,
    QUESTION_KINDS,
    Turns,
    ask,
    make_turns,
    opening,
    value_question,
)
from gem_lightning.data.cohort import Cohort, Made, Row
from gem_lightning.data.truths import FS, KnownRecords
from gem_lightning.ecg.record import EcgRecord
from gem_lightning.errors import DataError
from gem_lightning.features import findings
from gem_lightning.samples.io import InstructionSample
from gem_lightning.samples.sample import DEFAULT_QUESTION

BRIEF, QUESTIONS = "brief", "questions"
_WHOLE = (BRIEF, "interpretation", "report")  # texts about all of an ECG
WITH_INSTRUMENT = "_with_instrument"  # behind the kind of a sample whose question holds an instrument's reading
CONVERSATION_KINDS = (BRIEF, QUESTIONS, *FREE_KINDS, CHAIN_KIND)
#: Shares of kinds: half of the samples train the default answer, and the longest texts are the rarest, because a
#: sample costs as much time as it has tokens; ours.
SHARES = {BRIEF: 4.0, QUESTIONS: 3.0, "dialogue": 1.5, "report": 0.7, "interpretation": 0.5, CHAIN_KIND: 0.3}


@dataclass(frozen=True)
class ConversationPlan:
    """Which conversations are made of a record.

    Attributes:
        kinds: Kind of :data:`CONVERSATION_KINDS` to its weight: ``brief`` is the brief text after ``question``,
            ``questions`` are single questions in a row, the others are those of ``generate``.
        per_record: Conversations of each record.
        max_turns: Most questions of one conversation.
        question: Question of the kind ``brief``; ``data.samples.question`` may vary it.
        instrument: Share of conversations whose first question comes with an instrument's reading
            (:func:`~gem_lightning.composition.instrument.with_instrument`); reasoning chains never do.
        wrong: Share of all conversations in which one value of that reading is far off: the answer follows the signal,
            and a whole interpretation says so.

    Raises:
        DataError: A kind is unknown, or none has a weight.
    """

    kinds: Mapping[str, float] = field(default_factory=lambda: dict(SHARES))
    per_record: int = 4
    max_turns: int = 4
    question: str = DEFAULT_QUESTION
    instrument: float = 0.0
    wrong: float = 0.0

    def __post_init__(self) -> None:
        unknown = sorted(set(self.kinds) - set(CONVERSATION_KINDS))
        if unknown:
            raise DataError(f"expected kinds of {', '.join(CONVERSATION_KINDS)}, got {', '.join(unknown)}")
        if not sum(self.kinds.values()) > 0 or self.per_record < 1:
            raise DataError("expected a kind with a weight and at least one conversation of each record, got neither")
        if not 0 <= self.wrong <= self.instrument <= 1:
            raise DataError(f"expected 0 <= wrong <= instrument <= 1, got {self.wrong} and {self.instrument}")

    def rows(self, view: View, name: str, seed: int) -> list[dict[str, Any]]:
        """Return the conversations as rows of instruction samples, without their ``ecg``.

        Args:
            view: The record's truth.
            name: Prefix of the samples' ids.
            seed: Chooses kinds, questions and wording.
        """
        draw = np.random.default_rng(seed)
        weights = np.array(list(self.kinds.values()), float)
        rows = []
        for number in range(self.per_record):
            kind = str(draw.choice(list(self.kinds), p=weights / weights.sum()))
            label, turns = self.asked(kind, view, name, draw)
            if not turns:  # a record that answers no such question clearly still has its brief text
                kind = BRIEF
                label, turns = self.asked(kind, view, name, draw)
            rows.append({"id": f"{name}-{number}-{kind}", "kind": label, "conversations": _conversation(turns)})
        return rows

    def asked(self, kind: str, view: View, name: str, draw: np.random.Generator) -> tuple[str, Turns]:
        """Return the samples' kind and :meth:`turns`; some begin with an instrument's reading."""
        seed = int(draw.integers(2**31))
        place = float(draw.random()) if self.instrument else 1.0  # below wrong, below instrument, or without a reading
        if place >= self.instrument or kind == CHAIN_KIND or view.features.reason is not None:
            return kind, self.turns(kind, view, name, seed)
        reading, quoted, wrong = drawn_reading(view.features, place < self.wrong, draw)
        turns = self.turns(kind, replace(view, features=quoted), name, seed)
        said = disagreement(wrong) if kind in _WHOLE else ""
        turns = [(with_instrument(q, reading), answer + said) for q, answer in turns[:1]] + turns[1:]
        return f"{kind}{WITH_INSTRUMENT}", turns  # a kind of its own: other wordings of its question would lose it

    def turns(self, kind: str, view: View, name: str, seed: int) -> Turns:
        """Return questions and answers of one kind; empty where the record answers none clearly."""
        features = view.features
        found = findings(features)
        if features.reason is not None and kind in (QUESTIONS, CHAIN_KIND):  # nothing can be measured: say so
            return [(value_question(seed), compose(features, found, seed, BRIEF))]
        if kind == CHAIN_KIND:
            chains = mixed(make_chains(view, name, "composed", name, seed), seed)
            return chain_turns(chains[0])[: self.max_turns] if chains else []
        if kind == BRIEF:
            return [(self.question, compose(features, found, seed, BRIEF))]
        if kind == QUESTIONS:
            asked = ask(features, found, seed, QUESTION_KINDS[:4])
            return [(one.question, one.answer) for one in asked[: self.max_turns]]
        return make_turns(kind, features, found, seed)[: self.max_turns]


def _conversation(turns: Turns) -> list[dict[str, str]]:
    return [
        turn
        for place, (question, answer) in enumerate(turns)
        for turn in ({"from": "human", "value": opening(question, place)}, {"from": "gpt", "value": answer})
    ]


class ConversationCohort(Cohort):
    """Conversations about records whose truth is known, several of each record, with the marks of its waves.

    Args:
        folder: Where the cohort is kept.
        records: Makes record and truth from (index, seed), such as :class:`SimulatedRecords`.
        n: Number of records; each has ``plan.per_record`` samples.
        seed: Of the cohort; a validation split is a cohort of another seed.
        plan: Which conversations are made; None takes :class:`ConversationPlan`'s own.
        workers: Processes; 0 uses all cores.
    """

    verb = "making"

    def __init__(
        self,
        folder: str | os.PathLike[str],
        records: KnownRecords,
        n: int,
        seed: int,
        plan: ConversationPlan | None = None,
        workers: int = 0,
    ) -> None:
        super().__init__(folder, n, seed, workers=workers)
        self.records, self.plan = records, plan or ConversationPlan()

    @property
    def kind(self) -> str:  # type: ignore[override]
        """Name of the records."""
        return type(self.records).__name__

    def content(self) -> tuple[Any, ...]:
        """Return what the cohort's conversations depend on."""
        return (self.kind, sorted(vars(self.records).items()), self.n, self.seed, self.plan)

    def job(self) -> Callable[[int], Made]:
        """Return what makes one record and its conversations."""
        return partial(known_rows, records=self.records, seed=self.seed, plan=self.plan)


def known_rows(index: int, records: KnownRecords, seed: int, plan: ConversationPlan) -> tuple[EcgRecord, list[Row]]:
    """Make one record of a cohort and its rows: conversations, and the marks of its waves for supervision."""
    known = records(index, seed)
    rows = plan.rows(known.view, f"{type(records).__name__}-{seed}-{index}", _seed(seed, index))
    return known.record, [row | known.supervision for row in rows]


def encoder_targets(sample: InstructionSample, signal: np.ndarray) -> dict[str, np.ndarray] | None:
    """Make the dense encoder's targets of a sample that holds marks, as those of :class:`ConversationCohort` do.

    Args:
        sample: With ``marks beat_class af pvc span``; None is returned without them.
        signal: (12, samples) mV at 500 Hz, as the encoder reads it.
    """
    from gem_lightning.models.encoder.dense_waves import targets_of

    facts = sample.metadata
    if "marks" not in facts:
        return None
    marks = {name: np.array(at, float) for name, at in facts["marks"].items()}  # None becomes NaN
    span = None if facts["span"] is None else tuple(facts["span"])
    waves, values = targets_of(marks, facts["beat_class"], signal, FS, facts["af"], facts["pvc"], span)
    return {"waves": waves, "values": values}


def _seed(seed: int, index: int) -> int:
    return int(np.random.default_rng([seed, index, 1]).integers(2**31))  # the third number: apart from the record's own
