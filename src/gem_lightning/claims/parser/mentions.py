"""Items to mentions: properties of quantities, findings by name, infarcts with their territory."""

from __future__ import annotations

from operator import attrgetter
from typing import NamedTuple

from gem_lightning.claims.parser.lexicon import Lexicon
from gem_lightning.claims.parser.locations import GROUPS, Leads
from gem_lightning.claims.parser.measures import find_measures, lead_series, without_implied
from gem_lightning.claims.parser.tokenize import Item
from gem_lightning.claims.parser.units import JOINS, Head, Mention, has_own_rate

_NAMES = frozenset(("F", "I"))  # kinds that are mentions by themselves
_FIRM = frozenset(("elevation", "depression", "deviation"))

#: Abbreviations that name wave and property at once; other properties of ST and T need a lead next to them.
_NAMES_ITS_WAVE = frozenset(("ste", "std", "twi"))


class Found(NamedTuple):
    """What a sentence mentions.

    Attributes:
        mentions: In order.
        used: Indices of lead items that name an infarct's territory or belong to one number each.
        uncoded: (start, end) of properties of a wave that no code stands for.
    """

    mentions: list[Mention]
    used: set[int]
    uncoded: list[tuple[int, int]]


def find_mentions(items: list[Item], kinds: set[str], words: Lexicon) -> Found:
    """Find the mentions of one sentence.

    Args:
        items: The sentence.
        kinds: Kinds of the items.
        words: Lexicon.
    """
    heads = _heads(items, words)
    mentions, used = _named(items, words) if not kinds.isdisjoint(_NAMES) else ([], set())
    uncoded: list[tuple[int, int]] = []
    if "A" in kinds:
        mentions += _properties(items, heads, words, uncoded)
    if "M" in kinds:
        series = lead_series(items) if "L" in kinds and "+" not in kinds else {}  # "SV1 + RV5 = 38 mm" is a sum
        measures = find_measures(items, heads, series)
        mentions = without_implied(mentions, items, series) + measures
        used |= set(series.values())
    mentions += _bare(items, heads)
    if len(mentions) > 1:
        mentions.sort(key=_span)
    return Found(mentions, used, uncoded)


_span = attrgetter("i0", "i1")


def _heads(items: list[Item], words: Lexicon) -> list[Head]:
    heads: list[Head] = []
    for i, item in enumerate(items):
        if item.kind == "Q":
            if item.data == "voltage" and heads and heads[-1].i1 == i - 1 and heads[-1].q in "pqrst":
                heads[-1].i1, heads[-1].dim = i, "amplitude"
                continue
            if item.data in _AXIS_OF and any(h.q == "axes" for h in heads) and _bare_number(items, i + 1):
                heads.append(Head(_AXIS_OF[item.data], i, i))
                continue
            dim = items[i - 2].data if i > 1 and items[i - 1].kind == "of" and items[i - 2].kind == "D" else None
            heads.append(Head(item.data, i, i, dim))
        elif item.kind == "D" and heads and heads[-1].i1 == i - 1 and not heads[-1].implied:
            heads[-1].i1, heads[-1].dim = i, item.data
        elif item.kind == "F" and not has_own_rate(item):
            q = next((words.implied[code] for code in item.data if code in words.implied), None)
            if q == "qrs" and item.text.endswith(_RHYTHMS) and not _has_unit(items, i + 1):
                q = "rate"  # "narrow-complex rhythm at 150"
            if q is not None:
                heads.append(Head(q, i, i, implied=True))
    return heads


_RHYTHMS = ("rhythm", "tachycardia", "bradycardia")


def _has_unit(items: list[Item], i: int) -> bool:
    number = next((item for item in items[i : i + 3] if item.kind == "M"), None)
    return number is not None and number.data[0].unit is not None


_AXIS_OF = {"p": "axis_p", "qrs": "axis_qrs", "t": "axis_t"}  # "axes P 45 QRS 12 T 30"


def _bare_number(items: list[Item], i: int) -> bool:
    return i < len(items) and items[i].kind == "M" and items[i].data[0].unit in (None, "deg")


def _named(items: list[Item], words: Lexicon) -> tuple[list[Mention], set[int]]:
    """Complete findings, and infarcts with the territory that stands next to them."""
    mentions: list[Mention] = []
    used: set[int] = set()
    for i, item in enumerate(items):
        if item.kind == "F":
            mentions.append(Mention(i, i, codes=item.data))
            if item.data == ("ischaemia",) and (place := _territory(items, i)) is not None:
                used.add(place)
                mentions[-1] = Mention(min(place, i), max(place, i), codes=item.data, leads=items[place].data.leads)
            if "pvc" in item.data and any(other.kind == "alternate" for other in items):
                mentions.append(Mention(i, i, codes=("bigeminy",)))
        elif item.kind == "I":
            place = _territory(items, i)
            if place is None:
                mentions.append(Mention(i, i, codes=("mi",)))
                continue
            used.add(place)
            codes = [code for group in _groups(items[place].data) for code in words.territories.get(group, ())]
            if codes:
                mentions.append(Mention(min(place, i), max(place, i), codes=tuple(dict.fromkeys(codes))))
    return mentions, used


def _territory(items: list[Item], i: int) -> int | None:
    """Index of the lead item that names the territory of the infarct at ``i``."""
    j = i - 1
    while j >= 0 and items[j].kind in ("old", "A", "may_pre", "-", "lead"):
        j -= 1
    if j >= 0 and items[j].kind == "L" and items[j].data.groups and items[i].gap < 2:
        return j
    j = i + 1
    while j < len(items) and items[j].kind in ("in", "of", ",", "(", "old", "-", "is", "equals"):
        j += 1
    if j < len(items) and items[j].kind == "L" and _groups(items[j].data):
        return j
    return None


def _groups(leads: Leads) -> tuple[str, ...]:
    if leads.groups:
        return leads.groups
    same = [name for name, group in GROUPS.items() if set(group) == set(leads.leads)]
    return tuple(same[:1])


def _properties(items: list[Item], heads: list[Head], words: Lexicon, uncoded: list[tuple[int, int]]) -> list[Mention]:
    mentions: list[Mention] = []
    for a, item in enumerate(items):
        if item.kind != "A":
            continue
        if _is_dimension(items, a):
            continue
        target = _target(items, heads, a, words)
        if target is None or _otherwise(items, a) or _of_finding(items, a):
            continue
        targets, near = target
        if item.data[0] in _FIRM and len(targets) == 1 and not near and targets[0].props:
            targets = [Head(targets[0].q, a, a)]  # "ST elevation in II and depression in aVL"
            heads.append(targets[0])
            heads.sort(key=lambda h: h.i0)
        for head in targets:
            if head.q == "axis" and any(items[k].kind == "change" for k in range(head.i1 + 1, a)):
                continue  # "the axis has shifted to the right": a change, no value
            word = next(w for w in item.data if w in words.meanings[head.q])
            following = items[a + 1] if a + 1 < len(items) else None
            if following is not None and _is_said_later(head, word, following):
                continue
            head.props.append((word, a))
            codes = tuple(words.meanings[head.q][word])
            if not codes and word in words.uncoded.get(head.q, ()):
                uncoded.append((items[min(head.i0, a)].start, items[max(head.i1, a)].end))
            if codes:
                whole = near or word == "present"  # "no P waves are seen": the denial stands before the wave
                i0, i1 = (min(head.i0, a), max(head.i1, a)) if whole else (a, a)
                mentions.append(Mention(i0, i1, codes=codes, head=head))
    return mentions


def _is_dimension(items: list[Item], a: int) -> bool:
    """ "120 ms wide", "3 mm deep": the word names what was measured and judges nothing."""
    sizes = {"wide", "prolonged", "peaked", "pathological"}
    if not a or items[a - 1].kind != "M" or items[a].gap or not sizes & set(items[a].data):
        return False
    return not (a + 1 < len(items) and items[a + 1].kind == "Q")


def _otherwise(items: list[Item], a: int) -> bool:
    """ "..., otherwise unremarkable": of everything else, which names no quantity."""
    ends = a + 1 == len(items) or items[a + 1].kind in (",", ")", "but")
    return ends and a > 0 and items[a - 1].text == "otherwise" and "normal" in items[a].data


def _of_finding(items: list[Item], a: int) -> bool:
    """ "... and atrial fibrillation is present" speaks of no wave."""
    return "present" in items[a].data and a > 1 and items[a - 1].kind == "is" and items[a - 2].kind in ("F", "I")


def _is_said_later(head: Head, word: str, following: Item) -> bool:
    """What follows says it: "deviated to the left", "RR intervals vary between 780 and 820 ms"."""
    if head.q == "axis" and word == "deviation":
        return following.kind == "A" and following.data[0] in ("left", "right")
    return word == "varying" and following.kind == "M"


def _suits(head: Head, item: Item, words: Lexicon) -> bool:
    table = words.meanings.get(head.q)
    return table is not None and not head.implied and head.dim != "form" and any(w in table for w in item.data)


def _target(items: list[Item], heads: list[Head], a: int, words: Lexicon) -> tuple[list[Head], bool] | None:
    """The heads that the property at ``a`` speaks of, and whether it stands next to them."""
    item = items[a]
    before = [h for h in heads if h.i1 < a]
    nearest = next((h for h in reversed(before) if not h.implied), None)
    prev = nearest if nearest is not None and _suits(nearest, item, words) else None
    follow = _following(items, heads, a, words)
    linked = prev is not None and _copula(items, prev, a)
    touching = prev is not None and prev.i1 == a - 1 and item.gap < 2
    if linked or (touching and (follow is None or item.data[0] in _FIRM or _predicated(items, follow))):
        assert prev is not None
        return _with_partners(items, heads, prev, a, words), touching
    if follow is not None:
        return _with_followers(items, heads, follow, a, words), True
    if prev is None:
        prev = next(
            (h for h in reversed(before) if _suits(h, item, words) and (h.props or item.data[0] not in _FIRM)), None
        )
        if prev is not None and any(items[k].kind in ("F", "A", "M") for k in range(prev.i1 + 1, a)) and not prev.props:
            prev = None
    if prev is not None:
        return ([prev] if prev.props else _with_partners(items, heads, prev, a, words)), touching
    return _standing_alone(items, heads, a, words)


def _standing_alone(items: list[Item], heads: list[Head], a: int, words: Lexicon) -> tuple[list[Head], bool] | None:
    q = next((words.defaults[w] for w in items[a].data if w in words.defaults), None)
    following = items[a + 1].kind if a + 1 < len(items) else None
    if q is None or (following == "Q" and not items[a + 1].gap):
        return None
    if q in ("st", "t") and not any(h.q == q for h in heads) and items[a].text not in _NAMES_ITS_WAVE:
        lead_beside = following in ("in", "L") or (a and items[a - 1].kind == "L")
        if not lead_beside or items[a].data[0] == "elevation":
            return None
    head = Head(q, a, a)
    heads.append(head)
    return [head], True


def _copula(items: list[Item], head: Head, a: int) -> bool:
    """Between head and property stands nothing but a verb, a colon, a denial or a hedge (with a place, perhaps)."""
    between = [items[k].kind for k in range(head.i1 + 1, a)]
    if not between or not ("is" in between or "equals" in between):
        return False
    allowed = (
        "both",
        "is",
        "equals",
        "no_pre",
        "may_pre",
        "in",
        "L",
        "A",
        "or",
        "and",
        ",",
        "B",
        "M",
        "of",
        "(",
        ")",
        "/",
    )
    return all(kind in allowed for kind in between)


def _following(items: list[Item], heads: list[Head], a: int, words: Lexicon) -> Head | None:
    """The head right after the property, over further properties ("inverted or flat T waves")."""
    j = a + 1
    if not a and j < len(items) and items[j].kind == "is":  # "depressed are the ST segments in V5"
        j += 1
    while j < len(items) and items[j].kind in ("A", "or", "and", ",", "/", "of", "L") and j < a + 5:
        if items[j].kind == "L" and not items[j].data.pure:
            return None
        if items[j].kind in ("and", ",", "or", "/") and not (j + 1 < len(items) and items[j + 1].kind == "A"):
            return None
        j += 1
    if j < len(items) and items[j].kind == "Q" and items[j].gap < 3:
        head = next((h for h in heads if h.i0 == j), None)
        if head is not None and _suits(head, items[a], words):
            return head
    return None


def _predicated(items: list[Item], head: Head) -> bool:
    """The head is followed by something of its own, so that it needs no property from before."""
    after = head.i1 + 1
    return after < len(items) and items[after].kind in ("A", "M", "is", "equals")


def _with_partners(items: list[Item], heads: list[Head], head: Head, a: int, words: Lexicon) -> list[Head]:
    """Heads joined before this one that have no property or number of their own ("PR and QRS are normal")."""
    found = [head]
    if a and items[a - 1].kind == "both":  # "PR 160 ms and QRS 90 ms, both normal"
        table = words.meanings
        named = [h for h in heads if h.i1 < a and _suits(h, items[a], words) and table[h.q][items[a].data[0]]]
        return named[-2:]
    k = heads.index(head)
    while k > 0:
        other, last = heads[k - 1], found[0]
        between = [items[i].kind for i in range(other.i1 + 1, last.i0)]
        nor = last.i0 > 0 and items[last.i0 - 1].text == "nor"  # "neither the PR nor the QTc is prolonged"
        if between[:1] == ["("] and ")" in between:  # "PR (162 ms) and QRS (94 ms) are normal"
            between = between[between.index(")") + 1 :]
        if (
            not between
            or any(kind not in JOINS and not (kind == "no_pre" and nor) for kind in between)
            or other.props
            or not _suits(other, items[a], words)
            or not words.meanings[other.q][next(w for w in items[a].data if w in words.meanings[other.q])]
        ):
            break
        found.insert(0, other)
        k -= 1
    return found


def _with_followers(items: list[Item], heads: list[Head], head: Head, a: int, words: Lexicon) -> list[Head]:
    found = [head]
    for other in heads[heads.index(head) + 1 :]:
        between = [items[i].kind for i in range(found[-1].i1 + 1, other.i0)]
        if not between or any(kind not in JOINS for kind in between) or _predicated(items, other):
            break
        if not _suits(other, items[a], words) or not words.meanings[other.q][items[a].data[0]]:
            break
        found.append(other)
    return found


def _bare(items: list[Item], heads: list[Head]) -> list[Mention]:
    """P waves and Q waves without a property or number: their denial, or a pathological Q."""
    found = []
    for head in heads:
        if head.props or head.measured is not None or head.implied or head.dim is not None:
            continue
        named = items[head.i0].text not in ("p", "q")  # a lone letter may be anything but a Q "in III"
        spelled_out = named or (head.q == "q" and [item.kind for item in items[head.i1 + 1 :][:2]] == ["in", "L"])
        if head.q == "p" and spelled_out:
            found.append(Mention(head.i0, head.i1, codes=("~p_absent",), head=head, bare=True))
        elif head.q == "q" and spelled_out:
            found.append(Mention(head.i0, head.i1, codes=("pathological_q",), head=head, bare=True))
    return found
