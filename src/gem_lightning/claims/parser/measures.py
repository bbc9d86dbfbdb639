"""Numbers to mentions: which quantity each number measures."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from gem_lightning.claims.parser.tokenize import Item
from gem_lightning.claims.parser.units import JOINS, Head, Mention, canonical, fits, has_own_rate


def find_measures(items: list[Item], heads: list[Head], series: dict[int, int]) -> list[Mention]:
    """Every number with the quantity that it measures."""
    found: list[Mention] = []
    for m, item in enumerate(items):
        if item.kind != "M":
            continue
        if m in series:
            _measure_in_series(found, items, heads, m, series)
            continue
        unit = item.data[0].unit
        paired = _paired(items, heads, m)
        if paired:
            for one, value in zip(paired, item.data):
                _measure(found, items, [one], m, (value,))
            continue
        head = _owner(items, heads, m)
        if head is None:
            if unit == "bpm" and not _is_atrial(items, m):
                rates = (canonical("rate", None, v, 0) for v in item.data)
                found.append(Mention(m, m, values=tuple(rate for rate in rates if rate is not None)))
            continue
        _measure(found, items, _shared(items, heads, head, m), m, item.data)
    return found


def lead_series(items: list[Item]) -> dict[int, int]:
    """Numbers that each follow their own lead, with the index of that lead: ``V1 0.5, V2 2 mm`` and ``V2: 3 mm``.

    A lone pair counts only with a colon between; "in V2 3 mm" may close one statement and open the next.
    """
    pairs: list[tuple[int, int, int]] = []  # lead, number, index after
    for i, item in enumerate(items):
        if item.kind != "L" or item.data.foreign:
            continue
        m = i + 1
        bracketed = m < len(items) and items[m].kind in ("(", "of")
        if i and items[i - 1].kind == "in" and not bracketed:
            continue
        if m < len(items) and bracketed and not items[m].gap:
            m += 1
        if m < len(items) and items[m].kind == "M" and not items[m].gap and len(items[m].data) == 1:
            after = m + 1
            if items[m - 1].kind == "(" and after < len(items) and items[after].kind == ")":
                after += 1
            pairs.append((i, m, after))
    series: dict[int, int] = {}
    for k, (lead, m, after) in enumerate(pairs):
        bracketed = items[m - 1].kind in ("(", "of")
        joined = k + 1 < len(pairs) and _joins(items, after, pairs[k + 1][0])
        follows = k > 0 and _joins(items, pairs[k - 1][2], lead)
        if joined or follows or items[m].text == "=" or (bracketed and _has_place(items, lead)):
            series[m] = lead
    return series


def _has_place(items: list[Item], lead: int) -> bool:
    """Other leads were named before: "anterior ST elevation, most marked in V3 (4 mm)"."""
    earlier = [k for k in range(lead) if items[k].kind == "L"]
    return bool(earlier) and any(items[k].kind in (",", "with", "(") for k in range(earlier[-1], lead))


def _joins(items: list[Item], start: int, end: int) -> bool:
    """Between two pairs stand marks only, or the quantity of the first: "V2: 3 mm ST elevation, V3: 4 mm"."""
    between = [items[k].kind for k in range(start, end)]
    return 0 < len(between) < 5 and all(kind in (",", "and", "/", "Q", "A", "of", "in") for kind in between)


def _measure_in_series(
    found: list[Mention], items: list[Item], heads: list[Head], m: int, series: dict[int, int]
) -> None:
    """One number of a series: its unit may stand with a later one, its quantity before or behind the first."""
    value = items[m].data[0]
    if value.unit is None:
        unit = next((items[k].data[0].unit for k in sorted(series) if k > m and items[k].data[0].unit), None)
        value = value._replace(unit=unit)
    suits = [h for h in heads if fits(h.q, h.dim, value)]
    before = [h for h in suits if h.i1 < m]
    last = max(series)
    head = before[-1] if before else next((h for h in suits if _adjoins(items, m, h) or _adjoins(items, last, h)), None)
    if head is None:
        return
    head.measured = m if head.measured is None else head.measured
    done = canonical(head.q, head.dim, value, _direction(head, m))
    if done is not None:
        place = items[series[m]].data
        found.append(Mention(m, m, values=(done,), head=head, leads=place.leads, own_place=True))


def _is_atrial(items: list[Item], m: int) -> bool:
    """The rate is that of P, flutter or fibrillatory waves."""
    before = next((items[k] for k in range(m - 1, -1, -1) if items[k].kind in ("Q", "F")), None)
    if before is None:
        return False
    return before.data in ("p", "-") if before.kind == "Q" else has_own_rate(before)


def _measure(found: list[Mention], items: list[Item], heads: list[Head], m: int, values: tuple[Any, ...]) -> None:
    for head in heads:
        fresh = head.measured is None
        head.measured = m if fresh else head.measured
        if head.q == "axes":
            names = ("axis_p", "axis_qrs", "axis_t")
            done = [canonical(name, None, v, 0) for name, v in zip(names, values)]
        else:
            total = _sum_of(items, head, m)
            q = total if total is not None and all(fits(total, None, v) for v in values) else head.q
            done = [canonical(q, head.dim, v, _direction(head, m)) for v in values]
        kept = tuple(value for value in done if value is not None)
        if kept:
            i0 = head.i0 if fresh and not _elsewhere(items, head, m) else m
            i1 = max([head.i1, *(a for _, a in head.props)]) if head.i0 > m else m
            found.append(Mention(min(i0, m), i1, values=kept, head=head))


def _own_lead(items: list[Item], m: int) -> bool:
    after = [items[k].kind for k in range(m + 1, min(m + 3, len(items)))]
    return after[:1] == ["L"] or after == ["in", "L"]


def _elsewhere(items: list[Item], head: Head, m: int) -> bool:
    """The number has a place of its own: "ST elevation in V1-V4, maximal in V2 at 3 mm"."""
    leads = [k for k in range(head.i1 + 1, m) if items[k].kind == "L"]
    if leads and _own_lead(items, m):  # "ST elevation in V2-V4 (2 mm in V2, 3 mm in V3)"
        return True
    if len(leads) < 2 or m - leads[-1] > 2:
        return False
    return any(items[k].kind in (",", "with", "(") for k in range(leads[-2] + 1, leads[-1]))


_SIGNS = {"elevation": 1, "depression": -1, "inverted": -1, "upright": 1}


def _direction(head: Head, m: int) -> int:
    """Return the sign that the properties give: +1 elevation or upright, -1 depression or inversion, 0 none."""
    if not head.props:
        return 0
    near = sorted((abs(a - m), _SIGNS[word]) for word, a in head.props if word in _SIGNS)
    return near[0][1] if near else 0


def _owner(items: list[Item], heads: list[Head], m: int) -> Head | None:
    value = items[m].data[0]
    suits = [h for h in heads if fits(h.q, h.dim, value)]
    prev = follow = None
    for head in suits:
        if head.i1 < m:
            prev = head
        elif follow is None and head.i0 > m and _adjoins(items, m, head):
            follow = head
    if prev is None or follow is None:
        return prev or follow
    anchor = max([prev.i1, *(a for _, a in prev.props if a < m)])
    between = [items[k].kind for k in range(anchor + 1, m)]
    if prev.measured is not None or any(
        kind in (",", "and", "with", "but", "L", "/", "or", "F", "to") for kind in between
    ):
        return follow
    return prev


def _adjoins(items: list[Item], m: int, head: Head) -> bool:
    """The head follows the number directly: "160 ms PR", "2 mm ST elevation", "3 mm of ST depression"."""
    between = [items[k] for k in range(m + 1, head.i0)]
    return (
        all(item.kind in ("of", "A", "L", "in") for item in between if item.kind)
        and len(between) < 3
        and (sum(item.gap for item in between) + items[head.i0].gap < 2)
        and not any(item.kind == "L" and not item.data.pure for item in between)
    )


def _paired(items: list[Item], heads: list[Head], m: int) -> list[Head]:
    """As many joined heads before a list of numbers as it has values ("QT/QTc 400/425 ms")."""
    count = len(items[m].data)
    if count < 2:
        return []
    before = [h for h in heads if h.i1 < m and not h.implied]
    last = before[-count:]
    if len(last) < count or len({h.q for h in last}) < count:
        return []
    for one, two in pairwise(last):
        between = [items[k].kind for k in range(one.i1 + 1, two.i0)]
        if not between or any(kind not in JOINS for kind in between):
            return []
    tail = [items[k].kind for k in range(last[-1].i1 + 1, m)]
    if any(kind not in ("is", "of", "equals", ",", "(", "A", "D", "may_pre") for kind in tail):
        return []
    return last if all(fits(h.q, h.dim, v) for h, v in zip(last, items[m].data)) else []


def _shared(items: list[Item], heads: list[Head], head: Head, m: int) -> list[Head]:
    """ST elevation *or* depression of one number: both."""
    if head.q == "st" and head.i0 < m:
        k = heads.index(head)
        if k and heads[k - 1].q == "st" and heads[k - 1].props and heads[k - 1].measured is None and head.props:
            between = {items[i].kind for i in range(heads[k - 1].props[-1][1] + 1, head.i0)}
            if between <= {"or", "and", "/"} and between:
                return [heads[k - 1], head]
    return [head]


def _sum_of(items: list[Item], head: Head, m: int) -> str | None:
    """Name of the voltage sum when two waves are added before the number."""
    if head.q not in ("r", "s") or not any(items[k].kind == "+" for k in range(m)):
        return None
    lead_items = [items[k] for k in range(m) if items[k].kind == "L"]
    if len(lead_items) < 2:
        return None
    leads = {lead for item in lead_items for lead in item.data.leads}
    return "cornell" if "aVL" in leads else "sokolow_lyon"


def without_implied(mentions: list[Mention], items: list[Item], series: dict[int, int]) -> list[Mention]:
    """An ST deviation that has its number is an ST level, unless the number stands in a lead of its own."""
    kept = []
    for mention in mentions:
        head = mention.head
        if head is not None and head.q == "st" and head.measured is not None and len(head.props) < 2:
            if head.measured in series and not _has_place(items, series[head.measured]):
                continue
            lead_between = any(items[k].kind == "L" for k in range(mention.i1 + 1, head.measured))
            if head.measured not in series and not (
                lead_between and (_own_lead(items, head.measured) or _elsewhere(items, head, head.measured))
            ):
                continue
        kept.append(mention)
    return kept
