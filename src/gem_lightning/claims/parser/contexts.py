"""Contexts that claim nothing: look-backs, conditions, norms, advice, and what could not be measured."""

from __future__ import annotations

from gem_lightning.claims.parser.tokenize import Item
from gem_lightning.claims.parser.units import Mention

#: Kinds that end a clause.
CLAUSE = frozenset((",", "but", "(", ")", "with", "off_comparison"))


def apply_contexts(items: list[Item], mentions: list[Mention], kinds: set[str]) -> None:
    """Drop what is recalled, conditional, a norm, advice, unmeasurable or the reason for the test.

    Args:
        items: The sentence.
        mentions: Its mentions; ``dropped`` is set in place.
        kinds: Kinds of the items.
    """
    if any(kind.startswith("off_") for kind in kinds):
        _apply_spoken(items, mentions)
    if "except" in kinds:
        for mention in mentions:  # "normal except for a first-degree AV block"
            exception = items[mention.i1 + 1 : mention.i1 + 2]
            mention.dropped |= mention.codes == ("normal_ecg",) and [item.kind for item in exception] == ["except"]
    if "M" in kinds:
        if "A" in kinds:
            _norms(items, mentions)
        if len(mentions) > 1:
            _compared_bounds(mentions)
    if "F" in kinds and items[0].kind in ("in", "F"):
        _generic(items, mentions)
    if "off_now" in kinds:
        _superseded(items, mentions)


def _apply_spoken(items: list[Item], mentions: list[Mention]) -> None:
    """Apply the phrases that open a context."""
    for i, item in enumerate(items):
        if not item.kind.startswith("off_") or item.kind == "off_now":
            continue
        start, end = _clause(items, i)
        name = item.kind
        if name == "off_history" and (
            _is_gone(items, i, end, mentions) or any(k.kind == "no_replaces" for k in items[:i])
        ):
            continue
        if name == "off_comparison" and item.text.startswith("since"):
            continue  # a time, not what is compared with
        if name == "off_comparison":
            start = i
            end = next((k for k in range(i, len(items)) if items[k].kind in (",", "but", ")", "off_now")), len(items))
        if name == "off_heading":
            reach = (i, len(items)) if i == 0 and len(items) > 1 and items[1].kind == "equals" else None
        elif name == "off_condition":
            reach = (start if items[i].text == "would" else i, len(items))
        elif name == "off_norm":
            reach = (start, end if items[start - 1].kind == "(" and start else len(items))
        elif name == "off_sex":  # "(men < 450 ms)"; a male patient is no norm
            limit = i + 1 < len(items) and items[i + 1].kind in ("M", "equals")
            reach = (i, end) if limit else None
        elif name == "off_limit":
            reach = _limit(items, i, start, end, mentions)
        elif name == "off_advice":
            reach = (i, len(items))
        elif name == "off_relative":
            denied = any(m.i1 < i and m.negated for m in mentions)
            reach = (i, len(items)) if denied or "would" in items[i].text else None
        elif name == "off_unmeasured":
            reach = (start, i)
        else:
            reach = _recalled(items, i, start, end, mentions)
        if reach is not None:
            for mention in mentions:
                if reach[0] <= _place(mention) < reach[1]:
                    mention.dropped = True


def _is_gone(items: list[Item], i: int, end: int, mentions: list[Mention]) -> bool:
    """ "The previously noted ST elevation is no longer present" is about now."""
    first = next((m.i1 for m in mentions if m.i0 > i), end)
    return any(
        items[k].kind in ("no_gone", "no_replaced", "no_post") or (items[k].kind == "A" and "absent" in items[k].data)
        for k in range(first + 1, end)
    )


def _limit(items: list[Item], i: int, start: int, end: int, mentions: list[Mention]) -> tuple[int, int]:
    """Reach of "the upper limit of 200 ms": what follows it, and before it only what is equated with it."""
    if i + 1 < len(items) and items[i + 1].kind == "equals":
        return start, len(items)
    said = i > start and items[i - 1].kind == "is"
    ranged = any(m.values and m.values[0][1] is None and start <= m.i1 < i for m in mentions)
    return (start if said or ranged else i), end


def _place(mention: Mention) -> int:
    """The item that carries the statement: its number, or the end of its words."""
    return mention.i1


def _clause(items: list[Item], i: int) -> tuple[int, int]:
    """First and past-the-last item of the clause around ``i``."""
    start, end = i, i + 1
    while start > 0 and items[start - 1].kind not in CLAUSE and items[start].kind != "off_comparison":
        start -= 1
    while end < len(items) and items[end].kind not in (*CLAUSE, "off_now"):
        end += 1
    return start, end


def _recalled(items: list[Item], i: int, start: int, end: int, mentions: list[Mention]) -> tuple[int, int] | None:
    """Reach of a look back; "prior infarct" is an old infarct, and a comparison leaves what stands before it."""
    if any(m.i0 <= i + 1 <= m.i1 and any(code.startswith("mi") for code in m.codes) for m in mentions):
        return None
    if i == start == 0 and items[i].text.startswith(("history", "past", "known", "h")) and items[i].text.endswith("of"):
        return 0, next((k for k in range(i, len(items)) if items[k].kind in ("but", "off_now")), len(items))
    inside = [m for m in mentions if start <= _place(m) < end]
    after = [m for m in inside if m.i0 > i]
    if after and any(m.i1 < i for m in inside):
        return i, end
    if not inside and start == 0 and end < len(items) and items[0].kind == "in":
        return start, _clause(items, end + 1)[1] if end + 1 < len(items) else len(items)
    return start, end


def _generic(items: list[Item], mentions: list[Mention]) -> None:
    """ "In LBBB the QRS is at least 120 ms" speaks of every LBBB, "In sinus rhythm, PR 160 ms" of this record."""
    bounded = any(m.values and m.values[0][1] is None for m in mentions)
    if bounded and len(items) > 2 and items[0].kind == "F" and items[1].text == "means":
        for mention in mentions:
            mention.dropped = True
    named = len(items) > 2 and items[0].text == "in" and items[1].kind == "F" and not items[1].gap
    if not named or not any(item.kind == "is" or item.text.startswith(("is ", "are ")) for item in items[2:]):
        return
    measured = any(m.values and m.values[0][1] is not None for m in mentions)
    if bounded or (items[2].kind != "," and not measured):
        for mention in mentions:
            mention.dropped = True


def _superseded(items: list[Item], mentions: list[Mention]) -> None:
    """Of "QTc was 510 ms and is 430 ms now" the value that was is recalled."""
    now = next((i for i, item in enumerate(items) if item.kind == "off_now"), None)
    was = next((i for i, item in enumerate(items) if item.kind == "is" and item.text in ("was", "were")), None)
    if now is None or was is None:
        return
    turn = next((i for i in range(now, was, -1) if items[i].kind == "but"), None)
    for mention in mentions:  # "there was LBBB on Monday, but now conduction is normal"
        mention.dropped |= bool(mention.codes) and turn is not None and was < mention.i0 < turn
    valued = [m for m in mentions if m.values]
    for mention in valued:
        later = any(m.i1 > mention.i1 and m.values[0][0] == mention.values[0][0] for m in valued)
        mention.dropped |= later and was < mention.i1


_ONE_NUMBER = frozenset(("heart_rate", "rr", "pr", "qrs", "qt", "qtc", "axis_qrs"))


def _compared_bounds(mentions: list[Mention]) -> None:
    """A range or bound behind the value of the same quantity is what it is compared with: "PR 150 ms (120-200)"."""
    points: set[str] = set()
    for mention in mentions:
        for kind, value, *_ in mention.values:
            if kind not in _ONE_NUMBER or mention.leads or mention.beats:
                continue
            if value is not None:
                points.add(kind)
            elif kind in points:
                mention.dropped = True


def _norms(items: list[Item], mentions: list[Mention]) -> None:
    """``The normal PR is 120-200 ms`` and ``(normal 120-200 ms)`` state a norm, not a finding."""
    for i, item in enumerate(items):
        if item.kind != "A" or item.data[0] != "normal":
            continue
        j = i + 1
        while j < len(items) and items[j].kind in ("Q", "D", "is", "equals", "of", "in"):
            j += 1
        if j >= len(items) or items[j].kind != "M":
            continue
        ranged = items[j].data[0].value is None
        between = [items[k].kind for k in range(i + 1, j)]
        in_brackets = i > 0 and items[i - 1].kind == "(" and "Q" not in between
        defines = ranged and ("is" in between or "equals" in between or not between)
        if in_brackets or defines:
            for mention in mentions:
                if i <= _place(mention) <= j or mention.i0 <= i <= mention.i1:
                    mention.dropped = True
