"""Mentions to places: which leads and which beats each mention speaks of."""

from __future__ import annotations

from typing import Any

from gem_lightning.claims.parser.tokenize import Item
from gem_lightning.claims.parser.units import Mention

#: Findings that may hold in a lead; others are of the whole record.
LEAD_CODES = frozenset(
    (
        "st_elevation",
        "st_depression",
        "t_inversion",
        "t_flat",
        "t_peaked",
        "pathological_q",
        "rsr_prime",
        "poor_r_progression",
        "low_voltage",
        "pre_excitation",
        "early_repolarization",
        "p_absent",
        "wide_qrs",
        "narrow_qrs",
        "pericarditis",
        "ischaemia",
        "brugada",
        "u_wave",
        "abnormal_u",
        "nonspecific_st_t",
        "reciprocal_change",
    )
)
_WHOLE = frozenset(("heart_rate", "axis_p", "axis_qrs", "axis_t", "voltage_sum"))
_INTERVALS = frozenset(("rr", "pr", "qrs", "qt", "qtc", "jt"))
_LINKS = frozenset((",", "and", "or", "with", "/", "no_pre", "may_pre", "may_pre_far", "is", "no_post", "-", "of"))
_SO = frozenset(("but", "may_pre_far", "may_pre"))
_BREAKS = frozenset(("but",))


def attach_places(items: list[Item], mentions: list[Mention], used: set[int]) -> None:
    """Give every mention its leads and beats, in place.

    Args:
        items: The sentence.
        mentions: Its mentions in order.
        used: Lead items that name the territory of an infarct.
    """
    for place, item in enumerate(items):
        if item.kind == "L" and item.data.foreign and place not in used:
            _mark_foreign(items, mentions, place)
    for kind in ("L", "B"):
        places = [i for i, item in enumerate(items) if item.kind == kind and i not in used and not _left_out(items, i)]
        topics: list[tuple[int, tuple[Any, ...]]] = []
        ahead: list[tuple[int, tuple[Any, ...]]] = []
        for place in places:
            names = items[place].data.leads if kind == "L" else items[place].data
            backward, lasting, target = _direction(items, mentions, place, kind)
            if target is None:
                continue
            if backward:
                _give_back(items, mentions, target, names, kind, place)
            else:
                ahead.append((target, names))
                if lasting:
                    topics.append((place, names))
        for target, names in ahead:  # after all that points back: "lateral changes with ST depression in V5"
            if not _has(mentions[target], kind):
                _give(mentions[target], names, kind)
                _give_forward(items, mentions, target, names, kind)
        for index, (place, names) in enumerate(topics):
            stop = topics[index + 1][0] if index + 1 < len(topics) else len(items)
            for mention in mentions:
                if place < mention.i0 < stop and not _has(mention, kind) and _takes(mention, kind):
                    _give(mention, names, kind)
    if any(item.kind == "except" for item in items):
        _take_out(items, mentions)


def _take_out(items: list[Item], mentions: list[Mention]) -> None:
    """Leave out leads that an exception names after the statement: "all leads show low voltage, except V2"."""
    for i, item in enumerate(items):
        if item.kind == "L" and _left_out(items, i) and items[i - 1].kind != "off_comparison":
            before = next((m for m in reversed(mentions) if m.i1 < i and m.leads), None)
            if before is not None:
                before.leads = tuple(lead for lead in before.leads if lead not in item.data.leads)


def _left_out(items: list[Item], i: int) -> bool:
    """The place is compared with or excepted: "unlike V1", "but not in V1"."""
    before = [items[k].kind for k in range(max(0, i - 2), i)]
    return before[-1:] in (["off_comparison"], ["except"]) or before == ["except", "in"]


def _mark_foreign(items: list[Item], mentions: list[Mention], place: int) -> None:
    """What is stated of leads beyond the twelve alone is not read."""
    if items[place].data.leads:
        return
    _, _, target = _direction(items, mentions, place, "L")
    if target is not None:
        mentions[target].foreign = True
        for other in mentions:
            if other.head is not None and other.head is mentions[target].head:
                other.foreign = True


def _takes(mention: Mention, kind: str) -> bool:
    if kind == "B":
        return not (mention.values and mention.values[0][0].startswith("axis"))
    if mention.values:
        return mention.values[0][0] not in _WHOLE
    return any(code.lstrip("!=~") in LEAD_CODES for code in mention.codes)


def _strong(mention: Mention) -> bool:
    """Speaks of a wave in a lead, rather than of an interval of the record."""
    if mention.values:
        return mention.values[0][0] not in _INTERVALS
    return not {"wide_qrs", "narrow_qrs", "p_absent", "~p_absent"} & set(mention.codes)


def _has(mention: Mention, kind: str) -> bool:
    return bool(mention.leads if kind == "L" else mention.beats)


def _give(mention: Mention, names: tuple[Any, ...], kind: str) -> None:
    if kind == "L":
        mention.leads = tuple(dict.fromkeys(mention.leads + names))
    else:
        mention.beats += names


def _direction(items: list[Item], mentions: list[Mention], place: int, kind: str) -> tuple[bool, bool, int | None]:
    """(backward, lasting, mention index) of one place."""
    inside = next((k for k, m in enumerate(mentions) if _first(mentions, m) < place < m.i1 and _takes(m, kind)), None)
    if inside is not None:
        return True, False, inside
    if _taken(items, mentions, place):
        return True, False, None
    prev = next(
        (k for k in range(len(mentions) - 1, -1, -1) if mentions[k].i1 < place and _takes(mentions[k], kind)), None
    )
    following = next((k for k, m in enumerate(mentions) if m.i0 > place and _takes(m, kind)), None)
    if prev is None and following is None:
        return True, False, None
    before = [items[k].kind for k in range(mentions[prev].i1 + 1, place)] if prev is not None else []
    if kind == "L" and following is None and (_interprets(items, before, place) or _contrasts(before)):
        return True, False, None
    after = [items[k].kind for k in range(place + 1, mentions[following].i0)] if following is not None else []
    loose = items[place].gap + (items[place - 1].gap if place and items[place - 1].kind == "in" else 0)
    if loose and {",", "with"} & set(before) and following is None:
        return True, False, None  # "P waves are absent, with fibrillatory waves in V1": of unknown terms
    lasting = bool({"is", "equals", ",", "with", "(", "-"} & set(after)) or (
        place > 0 and items[place - 1].kind == "in"
    )
    if prev is None:
        return False, lasting or not _joined_adjective(after), following
    if following is None or _BREAKS & set(after[:1]):
        return True, False, prev
    if _points_forward(items, place, before, after, items[mentions[following].i0]):
        return False, lasting, following
    return True, False, prev


def _interprets(items: list[Item], before: list[str], place: int) -> bool:
    """The territory of an interpretation ("..., so the inferior wall is at risk"), or what is compared with."""
    suspected = before[-1:] in (["may_pre_far"], ["may_pre"]) and items[place].data.pure
    return suspected or "off_comparison" in before or (items[place].data.wall and bool(_SO & set(before)))


def _contrasts(before: list[str]) -> bool:
    """ "Low voltage in the limb leads but normal in the chest leads" says nothing abnormal of the latter."""
    return "but" in before and "A" in before[before.index("but") :]


def _first(mentions: list[Mention], mention: Mention) -> int:
    """Where the mention's quantity stands, unless an earlier mention has it."""
    head = mention.head
    if head is None or any(m is not mention and m.head is head and m.i0 < mention.i0 for m in mentions):
        return mention.i0
    return min(mention.i0, head.i0)


def _taken(items: list[Item], mentions: list[Mention], place: int) -> bool:
    """The place belongs to something that makes no claim ("P waves upright in II", "transition in V4")."""
    if place and items[place - 1].kind in (",", "but") and _describes(items, mentions, place + 1):
        return True
    if not place or items[place - 1].kind not in ("in", "of", "A", "Q"):
        return False
    k = place - 1
    named, empty = items[k].kind == "Q", False
    while k >= 0 and items[k].kind in ("in", "of", "A", "is", "or", "and", "no_pre"):
        if items[k].kind == "A" and any(m.i0 <= k <= m.i1 for m in mentions):
            return False
        empty = empty or items[k].kind == "A"
        k -= 1
    if k < 0 or items[k].kind != "Q":
        return False
    if empty:
        return True
    if not named and place + 1 < len(items) and items[place + 1].kind == "is":
        return False  # "QRS complexes in V1 show rsR'"
    return not any(m.i0 <= k <= m.i1 or (m.head is not None and m.head.i0 <= k <= m.head.i1) for m in mentions)


def _describes(items: list[Item], mentions: list[Mention], i: int) -> bool:
    """A wave that makes no claim follows its lead: "..., V6 a broad S"."""
    j = i
    while j < len(items) and items[j].kind in ("is", "A"):
        j += 1
    ends = j + 1 >= len(items) or items[j + 1].kind in (",", "but")
    return (
        j < len(items) and items[j].kind == "Q" and ends and not any(i <= m.i0 <= j or i <= m.i1 <= j for m in mentions)
    )


def _joined_adjective(after: list[str]) -> bool:
    return not after


def _points_forward(items: list[Item], place: int, before: list[str], after: list[str], following: Item) -> bool:
    """Between two mentions: the place opens the second rather than closes the first."""
    separated = bool({",", "and", "but", "with", "/", ")", "-"} & set(before))
    adjacent = not after and following.gap < 2
    if before and before[-1] == "in":
        outer = before[:-1]
        opened = bool(outer) and (outer[-1] in (",", "and", "but", "with", "-") or "but" in outer)
        return opened and (
            adjacent or after[:1] in (["is"], ["equals"], [","]) or after[:1] == ["M"] or after == ["in"]
        )
    if not separated:
        return (
            items[place].data.__class__ is not tuple
            and items[place].data.pure
            and adjacent
            and bool(before)
            and before[-1] == "or"
        )
    if adjacent:
        return True
    if after[:1] in (["is"], ["equals"], ["with"]):
        return True
    return after[:1] in (["no_pre"], ["may_pre"], ["("]) and before[-1:] in (["and"], ["but"])


def _give_back(
    items: list[Item], mentions: list[Mention], target: int, names: tuple[Any, ...], kind: str, place: int
) -> None:
    """To the mention before the place, and to those joined with it that have no place of their own."""
    mention = mentions[target]
    _give(mention, names, kind)
    mention.own_place = True
    for other in mentions:  # the word and its number: "T waves in V1 to V3 are negative, -0.2 mV"
        paired = other.head is not None and other.head is mention.head and bool(other.values) != bool(mention.values)
        if paired and not _has(other, kind) and _first(mentions, other) < place:
            _give(other, names, kind)
    if kind == "B" or mention.codes == ("reciprocal_change",):  # its leads lie opposite to those of the elevation
        return
    if place < mention.i1 and mention.head is not None:  # "the Q wave in III is 40 ms wide and 3 mm deep"
        for other in mentions[target + 1 :]:
            near = [items[i].kind for i in range(mention.i1 + 1, min(other.i1 + 3, len(items)))]
            if other.head is mention.head and not other.leads and kind not in near:
                _give(other, names, kind)
    k = target
    while k > 0:
        other, last = mentions[k - 1], mentions[k]
        between = {items[i].kind for i in range(other.i1 + 1, last.i0)}
        same = _twins(other, last)
        if not same and (not between <= _LINKS or not (_strong(other) and _strong(last))):
            break
        if _has(other, kind) or not _takes(other, kind):
            break
        if not same and not between:
            break
        _give(other, names, kind)
        k -= 1


def _twins(one: Mention, two: Mention) -> bool:
    """A word and its number, or two codes of one phrase."""
    return (one.head is not None and one.head is two.head) or (one.i0, one.i1) == (two.i0, two.i1)


def _give_forward(items: list[Item], mentions: list[Mention], target: int, names: tuple[Any, ...], kind: str) -> None:
    """From an adjective group ("inferior ST depression and T inversion") to what is joined without another place."""
    for k in range(target + 1, len(mentions)):
        other, last = mentions[k], mentions[k - 1]
        between = {items[i].kind for i in range(last.i1 + 1, other.i0)}
        same = _twins(other, last)
        if not same and (not between or not between <= {"and", "or", "/", ","} or not _strong(other) or "," in between):
            return
        if same and kind in between:
            return
        after = [items[i].kind for i in range(other.i1 + 1, min(other.i1 + 4, len(items)))]
        if kind in after[:3] or not _takes(other, kind) or _has(other, kind):
            return
        _give(other, names, kind)
