"""Make reasoning chains of a record: true answers, and wrong options that are close to them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from gem_lightning.composition.chains.chain import INITIAL, Chain, Question, Step
from gem_lightning.composition.chains.pathways import (
    Criterion,
    Pathway,
    following,
    judge,
    lead_margin,
    number,
    outcome,
    pathway,
    pathways,
)
from gem_lightning.composition.chains.view import View
from gem_lightning.ecg.record import LEADS
from gem_lightning.features.criteria.base import error

MORE = "Further findings are needed"
DECISIONS = ("Yes", "No", MORE)
OPTIONS = 5  # of a criterion or a lead question, as in the published chains
RANGES = 4  # time ranges and measured ranges to choose from
CLEAR = 1.0  # margin, in measurement errors, from which repeating the measurement would not change the answer
GAP_S = 0.08  # a time range without the wave keeps this distance from one: two small boxes, so that no reading is torn
EDGE_S = 0.4  # a wave that is asked for has half a beat around it: what the recording cuts is hard to read
#: Quantity → its kind in claims, unit, digits, width of a range and unit of its error. A range is twice what careful
#: readings differ by (claims/tolerance.py), in round numbers; the truth keeps the measurement's error from its edges.
QUANTITIES = {
    "pr": ("PR interval", "ms", 0, 40.0, "ms"),
    "qrs": ("QRS duration", "ms", 0, 40.0, "ms"),
    "axis": ("QRS axis", "degrees", 0, 30.0, "deg"),
    "heart_rate": ("ventricular rate", "bpm", 0, 10.0, "bpm"),
    "r_avl": ("R amplitude in aVL", "mV", 1, 0.4, "mv"),
    "sokolow": ("sum of S in V1 and the taller R of V5 and V6", "mV", 1, 0.8, "mv"),
    "cornell": ("sum of R in aVL and S in V3", "mV", 1, 0.8, "mv"),
    "r_v1": ("R amplitude in V1", "mV", 1, 0.4, "mv"),
}
LOWEST, HIGHEST = {"axis": -180.0}, {"axis": 180.0}  # bounds of a quantity; others begin at 0
WAVES = {
    "P": "a P wave",
    "QRS": "a QRS complex",
    "T": "a T wave",
    "pause": "the long RR interval, from R to R,",
    "free_p": "a P wave that no QRS complex follows",
    "premature": "a QRS complex that comes early",
    "premature_narrow": "an early QRS complex of the usual form",
    "premature_wide": "an early QRS complex that is wider than the others",
}


def make_chains(
    view: View,
    id: str,
    source: str,
    record: str,
    seed: int = 0,
    diagnoses: Sequence[str] | None = None,
    **facts: object,
) -> list[Chain]:
    """Make every chain that a record answers clearly.

    Args:
        view: What is known of the record.
        id: Prefix of the chains' ids.
        source: Data set.
        record: Id of the record in it.
        seed: Chooses wording, order and wrong options.
        diagnoses: Targets; None takes all of ``pathways.yaml``.
        **facts: Further metadata, such as ``ecg``, ``age``, ``sex`` and ``patient``.

    Returns:
        Chains in the order of the diagnoses. A diagnosis is left out where the label and the criteria disagree, or
        where a criterion on the way lies within the measurement's own error of its limit.
    """
    found = []
    for name in pathways() if diagnoses is None else diagnoses:
        one = pathway(name)
        rng = random.Random(f"{seed}/{id}/{name}")
        present = view.present(one)
        if present is None:
            continue
        steps = _Maker(view, one, rng).steps(present)
        if steps:
            initial = _polar(INITIAL, f"Is there {one.name} on this ECG?", present)
            more = {"truth": view.truth, **facts}
            found.append(Chain(f"{id}-{name}", source, record, name, present, initial, tuple(steps), 0, more))
    return found


def mixed(chains: Sequence[Chain], seed: int = 0) -> list[Chain]:
    """Return the chains of a record in a random order in which diagnoses that it has and has not take turns."""
    rng = random.Random(seed)
    there, absent = ([c for c in chains if c.present is present] for present in (True, False))
    rng.shuffle(there)
    rng.shuffle(absent)
    found: list[Chain] = []
    while there or absent:
        found += [group.pop() for group in (there, absent) if group]
    return found


def chain_turns(chain: Chain) -> list[tuple[str, str]]:
    """Return a chain as turns of a conversation: every question with its options, and the right answer."""
    return [(question.prompt, question.answer) for question in chain.questions]


class _Maker:
    """Asks one pathway, criterion by criterion."""

    def __init__(self, view: View, pathway: Pathway, rng: random.Random) -> None:
        self.view, self.pathway, self.random = view, pathway, rng

    def steps(self, present: bool) -> list[Step] | None:
        """Return the steps up to the diagnosis; None where a criterion on the way is not clear."""
        known: dict[str, bool | None] = {}
        steps: list[Step] = []
        while (name := following(self.pathway.rule, known)) is not None:
            criterion = self.pathway.criteria[name]
            decision = judge(criterion, self.view.features)
            if decision.met is None or abs(decision.margin or 0) < CLEAR:
                return None
            grounding = self.grounding(criterion, decision.met)
            if grounding is None:
                return None
            known[name] = decision.met
            state = outcome(self.pathway.rule, known)
            steps.append(
                Step(
                    self.selection(criterion, first=not steps),
                    _polar("finding_identification", criterion.ask, decision.met),
                    tuple(grounding),
                    self.decision(state),
                )
            )
        return steps if outcome(self.pathway.rule, known) is present else None

    def selection(self, criterion: Criterion, first: bool) -> Question:
        """Ask which criterion comes next; no wrong option is a criterion of this diagnosis."""
        own = {other.text for other in self.pathway.criteria.values()}
        near = [text for text in criterion.near if text not in own]
        wrong = self.random.sample(near, min(len(near), OPTIONS - 2))
        every = (c for other in pathways().values() for c in other.criteria.values())
        others = {c.text for c in every if c.id not in self.pathway.criteria}
        rest = [text for text in sorted(others - own - set(wrong)) if not criterion.match.search(text)]
        options = [criterion.text, *wrong, *self.random.sample(rest, OPTIONS - 1 - len(wrong))]
        self.random.shuffle(options)
        text = f"Which criterion has to be checked {'first' if first else 'next'} for {self.pathway.name}?"
        return Question("criterion_selection", text, tuple(options), (criterion.text,))

    def decision(self, state: bool | None) -> Question:
        """Ask what follows for the diagnosis."""
        text = f"With the findings so far, is there {self.pathway.name} on this ECG?"
        answer = MORE if state is None else DECISIONS[0] if state else DECISIONS[1]
        return Question("diagnostic_decision", text, DECISIONS, (answer,))

    def grounding(self, criterion: Criterion, met: bool) -> list[Question] | None:
        """Ask for the leads, the wave and the number behind a finding; None where the truth is not clear."""
        questions = []
        if met and len(criterion.leads) > 1:
            questions.append(self.leads(criterion))
        if criterion.wave:
            found = self.view.spans(criterion.wave)
            wanted = met or criterion.wave in ("P", "QRS", "T")
            if wanted:
                questions.append(self.wave(criterion, met) if len(found) else None)
        if criterion.quantity:
            questions.append(self.range(criterion.quantity))
        return None if None in questions else [question for question in questions if question is not None]

    def leads(self, criterion: Criterion) -> Question | None:
        """Ask which leads show a sign; leads that are near the limit are no options."""
        margins = {lead: lead_margin(criterion.id, self.view.features, lead) for lead in LEADS}
        shown = [lead for lead in criterion.leads if (m := margins[lead]) is not None and m >= CLEAR]
        unclear = [lead for lead in criterion.leads if margins[lead] is None or abs(margins[lead] or 0) < CLEAR]
        absent = [lead for lead in LEADS if (m := margins[lead]) is not None and m <= -CLEAR]
        others = [lead for lead in absent if lead not in criterion.leads]
        near = [lead for lead in absent if lead in criterion.leads]
        wrong = [*near, *self.random.sample(others, max(0, min(len(others), OPTIONS - len(shown) - len(near))))]
        if unclear or not shown or not wrong:
            return None
        options = tuple(f"Lead {lead}" for lead in LEADS if lead in (*shown, *wrong))
        answers = tuple(f"Lead {lead}" for lead in LEADS if lead in shown)
        return Question("lead_grounding", f"Which of these leads show {criterion.sign}?", options, answers)

    def wave(self, criterion: Criterion, met: bool) -> Question | None:
        """Ask which time range holds a wave; the others hold other waves, or none."""
        wave = criterion.wave or "QRS"
        right = self.view.spans(wave)
        usual = self.view.spans("other_qrs") if wave == "QRS" else right  # early beats show nothing of the usual ones
        usual = usual[(usual[:, 0] > EDGE_S) & (usual[:, 1] < self.view.features.seconds - EDGE_S)]
        if not len(usual):
            return None
        chosen = usual[self.random.randrange(len(usual))]
        wrong = self.distractors(wave, float(np.ptp(chosen)))
        if len(wrong) < RANGES - 1:
            return None
        spans = sorted([tuple(chosen), *self.random.sample(wrong, RANGES - 1)])
        options = tuple(f"[{start:.2f}s - {end:.2f}s]" for start, end in spans)
        if len(set(options)) < RANGES:
            return None
        where = f" in {' and '.join(criterion.leads[:2])}" if criterion.leads and wave in ("QRS", "T") else ""
        goal = "shows this" if met else "lets this be checked"
        text = f"Which of these time ranges, in seconds, holds {WAVES[wave]}{where} that {goal}?"
        return Question("wave_grounding", text, options, (options[spans.index(tuple(chosen))],))

    def distractors(self, wave: str, length: float) -> list[tuple[float, float]]:
        """Return time ranges without the wave: waves of other kinds first, then stretches between them."""
        view = self.view
        taken = view.spans("QRS") if wave == "QRS" else view.spans(wave)
        if wave == "P":
            taken = np.concatenate([taken, view.spans("free_p")])
        between = np.zeros((0, 2))
        if wave.startswith("premature"):
            pool = view.spans("other_qrs")
        elif wave == "pause":
            beats = view.marks.global_marks["R"] / view.marks.fs
            pool = np.stack([beats[:-1], beats[1:]], 1)
        else:
            pool = np.concatenate([view.spans(other) for other in ("P", "QRS", "T") if other != wave])
            beats = view.spans("QRS")  # outside of them waves may be there without a mark
            first, last = max(EDGE_S, beats[0, 0]), min(view.features.seconds - EDGE_S, beats[-1, 1])
            starts = np.arange(first, last - length, 0.25)
            between = np.stack([starts, starts + length], 1)
        free = [(start, end) for start, end in pool.tolist() if _apart((start, end), taken, 0.0)]
        free += [(start, end) for start, end in between.tolist() if _apart((start, end), taken, GAP_S)]
        return _spread(free, self.random)

    def range(self, quantity: str) -> Question | None:
        """Ask for the range of a number; its edges keep the measurement's error from the truth."""
        true = number(quantity, self.view.features)
        if true is None:
            return None
        name, unit, digits, width, kind = QUANTITIES[quantity]
        room = error(kind) / width
        low = round(true - self.random.uniform(room, 1 - room) * width, digits)
        if not room / 2 <= (true - low) / width <= 1 - room / 2:  # rounding has moved an edge onto the truth
            return None
        at, first = self.random.randrange(RANGES), LOWEST.get(quantity, 0.0)
        while low - at * width < first and at:
            at -= 1
        if low < first or low + (RANGES - at) * width > HIGHEST.get(quantity, float("inf")):
            return None
        edges = [low + (i - at) * width for i in range(RANGES + 1)]
        options = [f"[{a:.{digits}f}{_spaced(unit)} - {b:.{digits}f}{_spaced(unit)}]" for a, b in pairwise(edges)]
        return Question("measurement_grounding", f"In which range does the {name} lie?", tuple(options), (options[at],))


def _spaced(unit: str) -> str:
    """Return a unit as the published options write it."""
    return unit if unit in ("ms", "mV") else f" {unit}"


def _polar(kind: str, text: str, yes: bool) -> Question:
    return Question(kind, text, ("Yes", "No"), ("Yes" if yes else "No",))


def _apart(span: Sequence[float], others: np.ndarray, gap: float) -> bool:
    """Return whether a time range keeps a distance from all others (n, 2)."""
    return not bool(((others[:, 0] < span[1] + gap) & (others[:, 1] > span[0] - gap)).any())


def _spread(spans: list[tuple[float, float]], rng: random.Random) -> list[tuple[float, float]]:
    """Return time ranges that do not overlap one another, in a random order."""
    found: list[tuple[float, float]] = []
    for span in rng.sample(spans, len(spans)):
        if _apart(span, np.array(found).reshape(-1, 2), 0.0):
            found.append(span)
    return found
