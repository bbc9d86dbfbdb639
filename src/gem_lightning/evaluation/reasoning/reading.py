"""Read the questions of chains, of this library and of the published benchmark: spans, ranges, limits, waves."""

from __future__ import annotations

import re

from gem_lightning.composition.chains.chain import Question
from gem_lightning.composition.chains.make import QUANTITIES, WAVES
from gem_lightning.composition.chains.pathways import Criterion, Pathway, pathways

_NUMBER = r"[-+]?\d+(?:\.\d+)?"
_SPAN = re.compile(rf"({_NUMBER})\s*s\s*-\s*({_NUMBER})\s*s")
_RANGE = re.compile(rf"({_NUMBER})\s*(?:ms|mv|degrees|bpm)\s*-\s*({_NUMBER})\s*(?:ms|mv|degrees|bpm)", re.IGNORECASE)
_BOUND = re.compile(rf"(above|below|over|under|more than|less than)\s*({_NUMBER})", re.IGNORECASE)
_LIMIT = re.compile(
    rf"(?:greater|longer|larger|taller|more|above|less|lower|below|at least)(?: than)?\s*({_NUMBER})\s*"
    r"(?:ms|milliseconds|mv|degrees|bpm|beats)",
    re.IGNORECASE,
)
_LEAD = re.compile(r"\b(?:III|II|I|aVR|aVL|aVF|V[1-6])\b")
_BETWEEN = re.compile(r"(\d+)\w\w qrs wave\s*-\s*(\d+)\w\w qrs wave", re.IGNORECASE)
#: Wave → how others name it; the first that fits counts.
_WAVE_TERMS = (
    ("free_p", r"non-?conducted p|p wave that no qrs"),
    ("premature_narrow", r"early qrs complex of the usual"),
    ("premature_wide", r"early qrs complex that is wider"),
    ("premature", r"premature|comes early"),
    ("pause", r"rr interval|longer interval"),
    ("P", r"\bp wave"),
    ("T", r"\bt wave"),
    ("QRS", r"\bqrs|\bst\b|\br wave|\bs wave"),
)
_QUANTITY_TERMS = (
    ("pr", r"\bpr interval"),
    ("qrs", r"\bqrs duration"),
    ("axis", r"\baxis"),
    ("atrial_rate", r"atrial rate"),
    ("heart_rate", r"(?:heart|ventricular) rate"),
    ("r", r"\br (?:wave )?amplitude"),
    ("s", r"\bs (?:wave )?amplitude"),
)


def span(option: str) -> tuple[float, float] | None:
    """Return the start and end of a time range, s."""
    found = _SPAN.search(option)
    return (float(found[1]), float(found[2])) if found else None


def bounds(option: str) -> tuple[float, float] | None:
    """Return the low and high end of a range of numbers; open ends are infinite."""
    found = _RANGE.search(option)
    if found:
        return float(found[1]), float(found[2])
    open_ = _BOUND.search(option)
    if open_ is None:
        return None
    number = float(open_[2])
    return (number, float("inf")) if open_[1].lower() in ("above", "over", "more than") else (-float("inf"), number)


def beats_between(option: str) -> tuple[int, int] | None:
    """Return the numbers of two QRS complexes, counted from 1, of an option that names the interval between them."""
    found = _BETWEEN.search(option)
    return (int(found[1]), int(found[2])) if found else None


def limit(question: str) -> float | None:
    """Return the limit that a question states, in its unit; None where it states none or several."""
    found = {float(number) for number in _LIMIT.findall(question)}
    return found.pop() if len(found) == 1 else None


def wave(question: str) -> str:
    """Return the wave that a question asks to be located; QRS where it names none."""
    own = [name for name, phrase in WAVES.items() if f"holds {phrase}" in question]
    if own:
        return max(own, key=lambda name: len(WAVES[name]))  # "a P wave that no QRS complex follows" is also "a P wave"
    return next((name for name, term in _WAVE_TERMS if re.search(term, question, re.IGNORECASE)), "QRS")


def quantity(question: str) -> str | None:
    """Return the quantity that a question asks the range of: of ``QUANTITIES``, or ``r``, ``s``, ``atrial_rate``."""
    for name, (text, *_) in QUANTITIES.items():
        if question.startswith(f"In which range does the {text} lie"):
            return name
    return next((name for name, term in _QUANTITY_TERMS if re.search(term, question, re.IGNORECASE)), None)


def leads(text: str) -> list[str]:
    """Return the leads that a text names, in order."""
    return _LEAD.findall(text)


def diagnosis(question: str) -> Pathway | None:
    """Return the pathway of the diagnosis that a question asks for."""
    return next((one for one in pathways().values() if one.name in question or one.match.search(question)), None)


def criterion(text: str, pathway: Pathway) -> Criterion | None:
    """Return the criterion of a pathway that a text states: by its own text, else by its pattern."""
    own = next((one for one in pathway.criteria.values() if one.text == text), None)
    return own or next((one for one in pathway.criteria.values() if one.match.search(text)), None)


def further(question: Question) -> str:
    """Return the option of a decision that is neither yes nor no; the last one where there is none."""
    return next((option for option in question.options if option not in ("Yes", "No")), question.options[-1])
