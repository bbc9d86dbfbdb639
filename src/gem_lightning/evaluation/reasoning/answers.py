"""Parse free answers to questions with options: a letter, an option's text, yes or no, lead names. No judge."""

from __future__ import annotations

import re
from itertools import combinations
from typing import Any

from gem_lightning.composition.chains.chain import LETTERS, Question

LETTERS_ONLY = 20  # characters: five letters with commas and "and"; a longer text is prose, whose "a" is an article
_NAME = r"(?:iii|ii|i|avr|avl|avf|v[1-6])"
_LEAD = re.compile(rf"\b{_NAME}\b")
# "I" is also a word: leads count in a list that "lead" opens, or where the answer is nothing but a list
_LIST = rf"{_NAME}\b(?:(?:\s*[,;/&+]\s*|\s+and\s+|\s*,\s*and\s+|\s+)(?:leads?\s+)?{_NAME}\b)*"
_LEADS = re.compile(rf"\bleads?:?\s+({_LIST})")
_LETTER = re.compile(
    r"^\(?([a-z])\)?(?:[).:,]|\s*$|\s+[-–])|\b(?:answer|option)(?: is)?:?\s*\(?([a-z])\)?(?:[).:,\s]|$)"
)
# Words after which an option begins; anything else in front of it makes another term of it ("progressive ...").
_OPENING = re.compile(r"(?:^|[.:;,(\"'\n*]|\b(?:is|are|be|the|a|an|of|to|option|answer|select|choose|and|include))\s*$")


def chosen(question: Question, answer: Any) -> frozenset[str]:
    """Return the options that an answer chooses; empty where it cannot be read or names several.

    Args:
        question: The question.
        answer: Text, an option, a list of options (leads), or the index of an option.
    """
    if isinstance(answer, bool) or answer is None:
        return frozenset()
    if isinstance(answer, int):
        return frozenset(question.options[answer : answer + 1] if answer >= 0 else ())
    if isinstance(answer, (list, tuple)):
        parts = [chosen(question, part) for part in answer]
        return frozenset().union(*parts) if all(parts) else frozenset()
    text = _plain(str(answer))
    for option in question.options:
        if text in (_plain(option), _plain(option).removeprefix("presence of ")):
            return frozenset({option})
    if question.multiple:
        return _leads(question, text)
    lettered = _lettered(question, text)
    if lettered is not None:
        return frozenset({lettered})
    if {_plain(option) for option in question.options} >= {"yes", "no"}:
        polar = _polar(question, text)
        if polar:
            return polar
    return _contained(question, text)


def right(question: Question, answer: Any) -> bool:
    """Return whether an answer chooses the right options, all of them and no other."""
    return chosen(question, answer) == frozenset(question.answers)


def candidates(question: Question) -> tuple[str, ...]:
    """Return the complete answers to a question: its options, or every set of them where several may apply."""
    if not question.multiple:
        return question.options
    sizes = range(1, len(question.options) + 1)
    return tuple(", ".join(some) for size in sizes for some in combinations(question.options, size))


def _plain(text: str) -> str:
    """Fold case, white space, emphasis and marks at the ends."""
    text = re.sub(r"[*_`]+", "", text.strip().lower())
    text = re.sub(r"\s+", " ", text.replace("–", "-").replace("−", "-").replace("’", "'"))
    return text.strip(" .:-\"'")


def _lettered(question: Question, text: str) -> str | None:
    found = {a or b for a, b in _LETTER.findall(text)}
    places = [LETTERS.index(letter) for letter in found]
    if len(places) != 1 or places[0] >= len(question.options):
        return None
    return question.options[places[0]]


def _polar(question: Question, text: str) -> frozenset[str]:
    """Return yes or no by the first word, else by the last."""
    words = re.findall(r"[a-z]+", text)
    for word in (words[:1] + words[-1:]) if words else []:
        if word in ("yes", "no"):
            return frozenset(option for option in question.options if _plain(option) == word)
    return frozenset()


def _leads(question: Question, text: str) -> frozenset[str]:
    """Return the options whose lead an answer names; a lead that is no option makes it another answer."""
    lists = _LEADS.findall(text) or ([text] if re.fullmatch(_LIST, text) else [])
    named = {name for some in lists for name in _LEAD.findall(some)}
    by_lead = {_LEAD.findall(_plain(option))[-1]: option for option in question.options if _LEAD.search(_plain(option))}
    if named:
        return frozenset(by_lead[name] for name in named) if named <= set(by_lead) else frozenset()
    letters = re.findall(r"\(([a-z])\)", text) or (re.findall(r"\b[a-z]\b", text) if len(text) <= LETTERS_ONLY else [])
    places = [LETTERS.index(letter) for letter in letters]
    return (
        frozenset(question.options[i] for i in places)
        if all(i < len(question.options) for i in places)
        else frozenset()
    )


def _contained(question: Question, text: str) -> frozenset[str]:
    """Return the one option that a longer answer quotes; an option inside another one that is quoted does not count."""
    quoted = []
    for option in question.options:
        plain = _plain(option)
        for form in {plain, plain.removeprefix("presence of "), plain.strip("[]")}:
            at = text.find(form) if form else -1
            end = at + len(form)
            marked = form.startswith("[") or _OPENING.search(text[:at].rstrip("["))  # a bracket opens a range
            if at >= 0 and marked and not text[end : end + 1].isalnum():
                quoted.append(option)
                break
    longest = [o for o in quoted if not any(_plain(o) in _plain(other) for other in quoted if other != o)]
    return frozenset(longest) if len(longest) == 1 else frozenset()
