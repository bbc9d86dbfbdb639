"""Clauses that leave out their topic: "T inversion in V1, none in V2" states the T inversion of both leads."""

from __future__ import annotations

from gem_lightning.claims.parser.lexicon import Lexicon
from gem_lightning.claims.parser.tokenize import Item

_BOUNDARIES = frozenset((",", "but", "and", "with"))
#: Kinds of items that deny; a sentence without one or a property has nothing to complete.
DENIALS = frozenset(("no_pre", "no_post", "no_pre_one", "A"))
_FILLERS = frozenset(("in", "is", "of"))
#: Findings and waves that have leads; a topic without them ("sinus rhythm, not in V2") is no topic of a lead.
_TOPICS = frozenset(("q", "r", "s", "t", "p", "st"))
_STEADY = frozenset(("absent", "present"))


def complete_clauses(items: list[Item], lead_codes: frozenset[str], words: Lexicon) -> list[Item]:
    """Repeat the topic in clauses that only deny or affirm it for other leads, in order.

    Args:
        items: The sentence, with merged places and numbers.
        lead_codes: Findings that may hold in a lead.
        words: Says which property a quantity can have.
    """
    if sum(item.kind == "L" for item in items) < 2 and not _opens_with_place(items):
        return items
    out: list[Item] = []
    i = 0
    while i < len(items):
        end = _clause_end(items, i + 1)
        if items[i].kind in _BOUNDARIES and (topic := _topic(out, lead_codes, words)):
            clause = items[i + 1 : end]
            denied = _polarity(clause)
            if denied is not None:
                out += _completed(items[i], clause, topic, denied)
                i = end
                continue
        out.append(items[i])
        i += 1
    return out


def _opens_with_place(items: list[Item]) -> bool:
    return bool(items) and items[0].kind == "L"


def _clause_end(items: list[Item], i: int) -> int:
    while i < len(items) and items[i].kind not in (",", "but", "(", ")", "with"):
        i += 1
    return i


def _polarity(clause: list[Item]) -> bool | None:
    """Whether a clause of leads, verbs and one word of polarity denies; None for any other clause."""
    words = [k for k in clause if k.kind not in _FILLERS and k.kind != "L"]
    if sum(k.kind == "L" for k in clause) != 1 or len(words) > 1 or clause[0].gap > 2:
        return None
    if not words:  # "and also present in V2"
        return False if any(k.text.startswith("present") for k in clause) else None
    word = words[0]
    if word.kind in DENIALS and word.kind != "A":
        return True
    if word.kind == "A" and not _STEADY.isdisjoint(word.data):
        return "absent" in word.data
    return None


def _topic(before: list[Item], lead_codes: frozenset[str], words: Lexicon) -> list[Item]:
    """The last quantity with its property, or the last finding, that may hold in a lead."""
    closed = False
    for k in range(len(before) - 1, -1, -1):
        item = before[k]
        if item.kind == ")":
            closed = True
        if closed:  # what brackets add is no topic
            closed = item.kind != "("
            continue
        if item.kind == "M":
            return []
        if item.kind == "F":
            return [item] if any(code.lstrip("=!~") in lead_codes for code in item.data) else []
        if item.kind == "A" and item.data[0] not in _STEADY:
            head = next((q for q in reversed(before[:k]) if q.kind == "Q"), None)
            if head is None:
                head = next((q for q in before[k + 1 : k + 2] if q.kind == "Q"), None)
            if head is not None and words.meanings.get(head.data, {}).keys().isdisjoint(item.data):
                continue  # "ST elevation is most prominent in V3"
            return [head, item] if head is not None and head.data in _TOPICS else [item]
        if item.kind == "Q":
            if item.data not in _TOPICS:
                return []
            word = before[k - 1 : k] if k and before[k - 1].kind == "A" else []
            return [*word, item]
    return []


def _completed(boundary: Item, clause: list[Item], topic: list[Item], denied: bool) -> list[Item]:
    """``but`` (no) topic in leads, all of it at the place of the clause."""
    start, end = clause[0].start, clause[-1].end
    place = next(k for k in clause if k.kind == "L")
    found = [boundary._replace(kind="but", data=None)]
    if denied:
        found.append(Item("no_pre", None, start, start))
    copies = [item._replace(start=start, end=end, gap=0) for item in topic]
    return [*found, *copies, Item("in", None, start, start, 0, "in"), place._replace(gap=0)]
