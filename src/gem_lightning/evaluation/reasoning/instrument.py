"""The instrument: a baseline that answers chains from criteria and measurements, never from the file's answers."""

from __future__ import annotations

from typing import Any

import numpy as np

from gem_lightning.composition.chains.chain import Question
from gem_lightning.composition.chains.pathways import Criterion, following, judge, lead_margin, names, number, outcome
from gem_lightning.composition.chains.view import View, stated
from gem_lightning.composition.compose import compose
from gem_lightning.evaluation.base import Prediction, Query
from gem_lightning.evaluation.reasoning import reading
from gem_lightning.features.criteria.base import lead_of, reached, value


class Instrument:
    """Delineates and measures a record, and answers what it is asked about it."""

    name = "instrument"

    def predict(self, query: Query) -> Prediction:
        """Compose an interpretation of a record from its measurements."""
        if query.record is None:
            return Prediction("", error="expected a record, got none")
        return Prediction(compose(View.of(query.record).features))

    def dialogue(self, query: Query, choose: str = "likelihood") -> InstrumentDialogue:
        """Start a conversation about a record; it knows the signal, age and sex alone."""
        assert query.record is not None
        return InstrumentDialogue(View.of(query.record))


class InstrumentDialogue:
    """Answers the questions of one chain from a view of its record.

    Args:
        view: The measured record.
    """

    def __init__(self, view: View) -> None:
        self.view, self.features = view, view.features
        self.pathway: Any = None
        self.known: dict[str, bool | None] = {}
        self.criterion: Criterion | None = None
        self.segment: tuple[float, float] | None = None
        self.place = ""  # text of the last question for a wave, which names the lead of what is measured next

    def ask(self, question: Question) -> str:
        """Answer a question."""
        answer: str = getattr(self, f"_{question.kind}")(question)
        return answer

    def note(self, question: Question, answer: str) -> None:
        """Take over the right answer to a question."""
        if question.kind == "criterion_selection":
            self.criterion = reading.criterion(answer, self.pathway) if self.pathway else None
        elif question.kind == "finding_identification" and self.criterion:
            met = answer.startswith("Yes")
            self.known[self.criterion.id] = met != self._reversed(question)
        elif question.kind == "wave_grounding":
            self.segment, self.place = reading.span(answer), question.text

    # -- one kind of question each --------------------------------------------------------------------------------

    def _initial_diagnostic_question(self, question: Question) -> str:
        self.pathway = reading.diagnosis(question.text)
        if self.pathway is None:
            return "No"
        known = {name: judge(one, self.features).met for name, one in self.pathway.criteria.items()}
        found = outcome(self.pathway.rule, known)
        if self.pathway.code is not None and found is None:
            found = stated(self.features, self.pathway.code)
        return "Yes" if found else "No"

    def _criterion_selection(self, question: Question) -> str:
        if self.pathway is None:
            return question.options[0]
        stands = {option: reading.criterion(option, self.pathway) for option in question.options}
        wanted = following(self.pathway.rule, self.known)
        ranked = sorted(stands, key=lambda option: self._rank(stands[option], wanted))
        return ranked[0]

    def _rank(self, one: Criterion | None, wanted: str | None) -> int:
        """Rank the criterion that comes next first, then others of the diagnosis, those decided, and the rest."""
        if one is None:
            return 3
        return 0 if one.id == wanted else 2 if one.id in self.known else 1

    def _finding_identification(self, question: Question) -> str:
        if self.criterion is None:
            return "No"
        met = bool(judge(self.criterion, self.features, reading.limit(question.text)).met)
        return "Yes" if met != self._reversed(question) else "No"

    def _reversed(self, question: Question) -> bool:
        """Return whether a question asks for the opposite of its criterion."""
        return self.criterion is not None and self.criterion.id == "narrow_premature" and "prolonged" in question.text

    def _lead_grounding(self, question: Question) -> str:
        options = {reading.leads(option)[-1]: option for option in question.options}
        if "larger" in question.text or self.criterion is None or not self.criterion.leads:
            return options[max(options, key=lambda lead: value(lead_of(self.features, lead).r_mv))]
        margins = {lead: lead_margin(self.criterion.id, self.features, lead) for lead in options}
        shown = [lead for lead, margin in margins.items() if reached(margin)]
        if not shown:
            shown = [max(margins, key=lambda lead: -np.inf if margins[lead] is None else margins[lead])]  # type: ignore
        return ", ".join(options[lead] for lead in shown)

    def _wave_grounding(self, question: Question) -> str:
        if reading.beats_between(question.options[0]):
            return self._interval(question)
        wave = reading.wave(question.text)
        found = self.view.spans(wave)
        if not len(found) and wave.startswith("premature"):
            found = self.view.spans("premature")
        overlaps = [_overlap(reading.span(option), found) for option in question.options]
        return question.options[int(np.argmax(overlaps))]

    def _interval(self, question: Question) -> str:
        """Choose the longest of the intervals between QRS complexes that are counted from a given one."""
        beats = self.view.marks.global_marks["R"] / self.view.marks.fs
        anchor = reading.span(question.text)
        first = int(np.argmin(np.abs(beats - np.mean(anchor)))) if anchor else 0
        lengths = []
        for option in question.options:
            start, end = (first + n - 1 for n in reading.beats_between(option) or (1, 1))
            lengths.append(beats[end] - beats[start] if 0 <= start < end < len(beats) else -1.0)
        return question.options[int(np.argmax(lengths))]

    def _measurement_grounding(self, question: Question) -> str:
        measured = self._measured(question)
        edges = [reading.bounds(option) or (np.nan, np.nan) for option in question.options]
        if measured is None:
            return question.options[0]
        away = [max(low - measured, measured - high, 0.0) for low, high in edges]
        return question.options[int(np.nanargmin(away))]

    def _measured(self, question: Question) -> float | None:
        quantity = reading.quantity(question.text)
        beats = self.features.beats
        if not len(beats) or quantity is None:
            return None
        if quantity == "atrial_rate":
            return _rate(np.sort(np.concatenate([self.view.spans("P")[:, 0], self.view.spans("free_p")[:, 0]])))
        early = "premature beat" in question.text
        if self.segment is None or not ("selected segment" in question.text or early):
            return number(quantity, self.features)
        beat = int(np.argmin(np.abs(beats.time_s - np.mean(self.segment))))
        if quantity in ("pr", "qrs"):
            found = float(beats.whole[f"{quantity}_ms"][beat])
        elif quantity in ("r", "s"):
            lead = (reading.leads(self.place.partition("?")[0]) or ["V5"])[-1]
            found = float(beats.by_lead[f"{quantity}_mv"][beats.leads.index(lead), beat])
        else:
            return number(quantity, self.features)
        return found if np.isfinite(found) else number(quantity, self.features) if quantity in ("pr", "qrs") else None

    def _diagnostic_decision(self, question: Question) -> str:
        if self.pathway is None:
            return reading.further(question)
        state = outcome(self.pathway.rule, self.known)
        every = [name.removeprefix("not ") for name in names(self.pathway.rule)]
        if "all standard" in question.text and not set(every) <= set(self.known):
            state = None  # a question may demand that every criterion is looked at before a decision
        return reading.further(question) if state is None else "Yes" if state else "No"


def _overlap(wanted: tuple[float, float] | None, found: np.ndarray) -> float:
    """Return the largest share of two time ranges' union that they have in common, over the ranges found (n, 2)."""
    if wanted is None or not len(found):
        return 0.0
    common = np.minimum(found[:, 1], wanted[1]) - np.maximum(found[:, 0], wanted[0])
    union = np.maximum(found[:, 1], wanted[1]) - np.minimum(found[:, 0], wanted[0])
    return float((common / union).max())  # below 0 where they are apart: the nearest is the best guess


def _rate(times: np.ndarray) -> float | None:
    """Return the rate of events at sorted times (n,) s, per minute."""
    return 60.0 / float(np.median(np.diff(times))) if len(times) > 1 else None
