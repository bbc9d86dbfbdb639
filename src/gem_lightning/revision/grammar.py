"""A grammar check of single sentences: what no careful writer leaves in a text, found without a model of language."""

from __future__ import annotations

import re

#: From the name of a quantity to the unit of its number.
_SAYS = (
    r"(?: (?:interval|duration|complex|segment|elevation|depression|is|was|of|at|measures))*:?\s*[−-]?\d+(?:\.\d+)?\s?"
)
#: Faults by name. Each pattern is a fault wherever it matches a sentence; ours, checked against composed texts, which
#: show none, and against texts of small models.
_FAULTS: dict[str, re.Pattern[str]] = {
    "a number glued to a word": re.compile(r"(?i:[a-z]{2,}\.\d|\d(?:ms|bpm|mV|mm)[a-z])|[a-z]{3,}\d"),
    "a repeated word": re.compile(r"\b([^\W\d_]{2,})[ ,]+\1\b", re.IGNORECASE),
    "a repeated phrase": re.compile(r"\b([^\W\d]+ \w+(?: \w+)?)\b[ ,;.]+\1\b", re.IGNORECASE),
    "a number without its subject": re.compile(r"^\W*(?:the|an?) [−-]?\d|\b(?:no|without) [−-]?\d", re.IGNORECASE),
    "a unit of another quantity": re.compile(
        rf"\b(?:PR|QRS|QTc?|RR|ST){_SAYS}bpm|\brate{_SAYS}(?:ms|mV|mm)\b|\bST{_SAYS}ms\b", re.IGNORECASE
    ),
    "an article before a heading": re.compile(r"^\W*(?:the|an?) \w+\s*:\s*$|^\W*The (?:Conclusion|Impression)\s*:"),
    "a gap": re.compile(r"[^\W_][,;]? {2,}[^\W_]"),
    "two units": re.compile(r"\b(?:ms|bpm|mV|mm|degrees)[ ,]+(?:ms|bpm|mV|mm|degrees)\b"),
    "an unfinished ending": re.compile(
        r"\b(?:a|an|the|of|in|at|with|and|or|to|by|from|than|V|aV)\s*[.!?;]?\s*$", re.IGNORECASE
    ),
    "a wrong article": re.compile(r"\ba (?:[aeio]\w+|(?:ST|RR|LBBB|R |S )(?=\W|\b))|\ban [bcdgjkptvwyz]\w*"),
    "an unreadable character": re.compile("�|[\x00-\x08\x0b-\x1f]"),
    "two marks": re.compile(r"[,;:][.,;:]|\.\.(?!\.)(?<!\.\.\.)|\(\s*\)"),
    "a number without its place": re.compile(r"\d\.\d+\.\d|\d\s+\d+\.\d+\s*ms"),
}
#: Quantities that need a unit: "PR 16." says nothing.
_NO_UNIT = re.compile(r"\b(?:PR|QRS|QTc?|RR)(?: interval| duration)?(?: is| of)? \d+\s*[.,;]?\s*$")
_ENDED = re.compile(r"[.!?:;)\]\"'°%|*]\s*$|\n\s*$")


def faults(sentence: str, last: bool = True) -> list[str]:
    """Return the names of the faults of a sentence; empty for a sound one.

    Args:
        sentence: One sentence, or a line of a list.
        last: It ends the text, so that it needs an end mark.
    """
    body = sentence.strip()
    if not body:
        return []
    found = [name for name, pattern in _FAULTS.items() if pattern.search(body)]
    if body.count("(") != body.count(")"):
        found.append("an open bracket")
    if _NO_UNIT.search(body):
        found.append("a number without unit")
    if last and not _ENDED.search(sentence):
        found.append("no end")
    return found
