"""Items to places: leads, spans of leads, groups with exceptions, and beats."""

from __future__ import annotations

from typing import NamedTuple

from gem_lightning.claims.parser.tokenize import Item
from gem_lightning.ecg.record import LEADS

GROUPS: dict[str, tuple[str, ...]] = {
    "inferior": ("II", "III", "aVF"),
    "lateral": ("I", "aVL", "V5", "V6"),
    "high_lateral": ("I", "aVL"),
    "septal": ("V1", "V2"),
    "anterior": ("V3", "V4"),
    "anteroseptal": ("V1", "V2", "V3", "V4"),
    "anterolateral": ("I", "aVL", "V3", "V4", "V5", "V6"),
    "inferolateral": ("II", "III", "aVF", "I", "aVL", "V5", "V6"),
    "posterior": (),  # V7 to V9, none of the twelve
    "right_precordial": ("V1", "V2", "V3"),
    "left_precordial": ("V4", "V5", "V6"),
    "precordial": ("V1", "V2", "V3", "V4", "V5", "V6"),
    "limb": ("I", "II", "III", "aVR", "aVL", "aVF"),
    "all": LEADS,
}
_LETTERS = {"l": "aVL", "f": "aVF"}  # after another lead: "III and F"
_LIMB_SPAN = ("I", "II", "III")
_CHEST_DIGITS, _LIMB_DIGITS = ("1", "2", "3", "4", "5", "6"), ("1", "2", "3")  # as typed: "1.0" counts no lead
_JOINS = (",", "and", "or", "/", "+", "-")


class Leads(NamedTuple):
    """Leads named together.

    Attributes:
        leads: Lead names in the order named.
        groups: Names of the groups among them (an infarct takes its territory from these).
        pure: Nothing but groups.
        wall: The text names a wall or territory of the heart, not its leads.
        foreign: Leads beyond the twelve stand among them.
    """

    leads: tuple[str, ...]
    groups: tuple[str, ...]
    pure: bool
    wall: bool = False
    foreign: bool = False


#: Kinds that places are made of; a sentence without one has none.
PLACES = frozenset(("L", "foreign_lead", "lead_letter", "wall", "lead", "beat", "ordinal", "last", "every"))


def merge_places(items: list[Item]) -> list[Item]:
    """Replace leads by ``L`` items (data :class:`Leads`) and beats by ``B`` items (data: beat numbers)."""
    out: list[Item] = []
    i = 0
    while i < len(items):
        kind = items[i].kind
        found = None
        if kind == "L" or kind == "foreign_lead":
            found = _leads(items, i)
        elif kind == "except" and i + 1 < len(items) and _is_lead(items[i + 1]):
            found = _leading_exception(items, i)
        elif kind in ("lead_letter", "wall"):  # alone they are unknown words
            if i + 1 < len(items):
                items[i + 1] = items[i + 1]._replace(gap=items[i + 1].gap + items[i].gap + 1)
            i += 1
            continue
        elif kind == "lead":
            found = _numbered_leads(items, i)
            if found is None:
                i += 1
                continue
        elif kind in ("beat", "ordinal", "last", "every"):
            found = _beats(items, i, any(item.kind == "B" for item in out))
        if found is None:
            out.append(items[i])
            i += 1
        else:
            item, i = found
            if item.kind == "L":
                item, i = _with_gloss(items, item, i)
            out.append(item)
    return out


def _with_gloss(items: list[Item], item: Item, i: int) -> tuple[Item, int]:
    """``V1–V3 (anteroseptal)`` and ``anteroseptal (V1–V3)``: leads count, their territory adds none."""
    if i + 2 >= len(items) or items[i].kind != "(" or items[i + 1].kind != "L":
        return item, i
    gloss, after = _leads(items, i + 1)
    if after >= len(items) or items[after].kind != ")" or gloss.data.pure == item.data.pure:
        return item, i
    leads = item.data.leads if gloss.data.pure else gloss.data.leads
    both = item.data.groups + gloss.data.groups
    merged = Leads(leads, both, False, item.data.wall or gloss.data.wall, not leads)
    return item._replace(data=merged, end=items[after].end), after + 1


def _leads(items: list[Item], i: int) -> tuple[Item, int]:
    names: list[str] = []
    groups: list[str] = []
    start, end, gap = items[i].start, items[i].end, items[i].gap
    span = wall = foreign = False
    start_of_comparison = i > 0 and items[i - 1].kind == "off_comparison"  # "unlike V1, V2 shows ..."
    while True:
        data = items[i].data
        if items[i].kind == "foreign_lead":
            foreign = True
            end = items[i].end
            i += 1
        elif data in GROUPS:
            groups.append(data)
            names += GROUPS[data]
            i += 1
            end = items[i - 1].end
            wall = wall or items[i - 1].text.endswith("wall")
            while (
                i < len(items) and items[i].kind in ("lead", "wall") and not (items[i].gap and items[i].kind == "wall")
            ):
                wall = wall or items[i].kind == "wall"
                end = items[i].end
                i += 1
        else:
            data = data or _LETTERS[items[i].text]
            names += _between(names[-1], data) if span and names else (data,)
            end = items[i].end
            i += 1
        i, end = _span_digits(items, i, end, names)
        step = _next_lead(items, i, groups, len(names))
        if step is None or (start_of_comparison and items[i].kind == ","):
            break
        if (
            groups and step[0] == i and items[i].data not in GROUPS and items[i].kind == "L"
        ):  # "in the inferior leads II and III"
            names, groups = [], []
        following = items[step[0]].data
        if items[i].kind == "," and not groups and names and set(names) <= set(GROUPS.get(following, ())):
            i = step[0] + 1  # "V5, V6 and I, the lateral leads": the group names what was listed
            while i < len(items) and items[i].kind in ("lead", "wall"):
                i += 1
            end = items[i - 1].end
            break
        i, span = step
    excluded, after = _exception(items, i)
    if excluded:
        names = [name for name in names if name not in excluded]
        end, i = items[after - 1].end, after
    unique = tuple(dict.fromkeys(names))
    pure = bool(groups) and set(unique) == {lead for g in groups for lead in GROUPS[g]} - set(excluded)
    return Item("L", Leads(unique, tuple(groups), pure, wall, foreign or not unique), start, end, gap), i


def _between(first: str, last: str) -> tuple[str, ...]:
    """Leads after ``first`` up to ``last``; leads of two families make a list, not a span."""
    for family in (GROUPS["precordial"], _LIMB_SPAN):
        if first in family and last in family:
            a, b = family.index(first), family.index(last)
            return family[a + 1 : b + 1] if a < b else tuple(reversed(family[b:a]))
    return (last,)


def _span_digits(items: list[Item], i: int, end: int, names: list[str]) -> tuple[int, int]:
    """``V1-4``, ``V1 to 4`` and ``V1, 2, 3``: bare digits after a chest lead."""
    while i + 1 < len(items) and names and names[-1][0] == "V":
        number = items[i + 1]
        if number.kind != "N" or number.text not in _CHEST_DIGITS:
            break
        if i + 2 < len(items) and not items[i + 2].gap and _is_amount(items, i + 2):
            break
        tight = items[i].end == number.start or items[i].kind in ("and", "to")
        if items[i].kind in ("-", "to") and tight:
            names += _between(names[-1], f"V{number.data:.0f}")
        elif items[i].kind in (",", "/", "and") and (tight or items[i].kind == ","):
            names.append(f"V{number.data:.0f}")
        else:
            break
        i, end = i + 2, number.end
    return i, end


def _is_amount(items: list[Item], i: int) -> bool:
    """What stands here makes the number before it a measurement."""
    kind = items[i].kind
    if kind == "U" or (kind == "-" and i + 2 < len(items) and items[i + 1].kind == "N" and items[i + 2].kind == "U"):
        return True
    return kind == "to" and i + 2 < len(items) and items[i + 1].kind == "N" and items[i + 2].kind == "U"


def _next_lead(items: list[Item], i: int, groups: list[str], count: int) -> tuple[int, bool] | None:
    """Index of the next lead of this list and whether it closes a span; None where the list ends."""
    j = i
    if j < len(items) and items[j].kind == "to" and not items[j].gap:
        if j + 1 < len(items) and items[j + 1].kind == "lead":
            j += 1
        if j + 1 < len(items) and _is_lead(items[j + 1]) and items[j + 1].data not in GROUPS:
            return j + 1, True
        return None
    if j + 1 < len(items) and items[j].text == "nor":  # "neither in V1 nor in V2"
        j += 2 if items[j + 1].kind == "in" else 1
    dash = j < len(items) and items[j].kind == "-"
    while j < len(items) and j < i + 2 and items[j].kind in _JOINS and not items[j].gap and items[j].text != ";":
        j += 1
    while j < len(items) and items[j].kind == "lead":
        j += 1
    if j >= len(items) or items[j].gap or not (_is_lead(items[j]) or (items[j].kind == "lead_letter" and j > i)):
        return None
    if j == i and groups and items[j].data not in GROUPS:
        return j, False
    new_group = items[j].data in GROUPS
    if new_group != bool(groups) and j > i and items[i].kind in (",", "and"):
        # "in III and anterior T inversion": a group that leads into something else opens a new place
        after = j + 1
        while after < len(items) and items[after].kind == "lead":
            after += 1
        if new_group and after == j + 1 and after < len(items) and items[after].kind in ("Q", "A", "F", "I", "M"):
            return None
    return j, dash and items[j].data not in GROUPS


def _is_lead(item: Item) -> bool:
    return item.kind in ("L", "foreign_lead")


def _exception(items: list[Item], i: int) -> tuple[tuple[str, ...], int]:
    """``all leads but aVR``: the leads taken out and the index after them."""
    if i < len(items) and items[i].kind == ",":
        i += 1
    if i + 2 < len(items) and items[i].kind == "(" and items[i + 1].kind == "except":  # "all leads (except aVR)"
        i += 1
    if i + 1 >= len(items) or items[i].kind not in ("except", "but", "no_pre_one", "no_pre"):
        return (), i
    j = i + 1
    while j < len(items) and items[j].kind in ("lead", "in", "of"):
        j += 1
    if j >= len(items) or items[j].kind != "L" or items[j].gap:
        return (), i
    inner, after = _leads(items, j)
    whole = items[i - 1].kind in ("L", "lead") and items[i - 1].end + 1 >= items[i].start  # "every lead but aVR"
    if items[i].kind == "but" and not whole and after < len(items) and items[after].kind in ("Q", "is", "M"):
        return (), i
    if after < len(items) and items[after].kind == ")" and items[i - 1].kind == "(":
        after += 1
    return inner.data.leads, after


def _leading_exception(items: list[Item], i: int) -> tuple[Item, int] | None:
    """``except for V6 all precordial leads``; None where no leads follow."""
    inner, after = _leads(items, i + 1)
    if after < len(items) and items[after].kind == ",":
        after += 1
    if after >= len(items) or items[after].kind != "L":
        return None
    outer, end = _leads(items, after)
    kept = tuple(lead for lead in outer.data.leads if lead not in inner.data.leads)
    return outer._replace(data=outer.data._replace(leads=kept, pure=False), start=items[i].start, gap=items[i].gap), end


def _numbered_leads(items: list[Item], i: int) -> tuple[Item, int] | None:
    """``lead 2``, ``leads 2, 3 and aVF``; None where "lead" only announces a lead or means the word."""
    if i + 1 >= len(items) or items[i + 1].kind != "N" or items[i + 1].data not in (1, 2, 3):
        return None
    names: list[str] = []
    j, end = i + 1, items[i].end
    while j < len(items):
        item = items[j]
        if item.kind == "N" and item.text in _LIMB_DIGITS:
            names.append(_LIMB_SPAN[int(item.data) - 1])
        elif item.kind == "L" and names and item.data not in GROUPS:
            names.append(item.data)
        elif item.kind == "lead_letter" and names:
            names.append(_LETTERS[item.text])
        elif not (names and item.kind in _JOINS):
            break
        if item.kind not in _JOINS:
            end = item.end
        j += 1
    while j > i + 1 and items[j - 1].kind in _JOINS:
        j -= 1
    return Item("L", Leads(tuple(names), (), False), items[i].start, end, items[i].gap), j


def _beats(items: list[Item], i: int, counting: bool) -> tuple[Item, int] | None:
    """``the third beat``, ``beats 2 and 4``, ``the first three beats``, ``the last beat``, ``every second beat``."""
    kind, start, gap = items[i].kind, items[i].start, items[i].gap
    if kind == "beat":
        j = i + 1
        if j < len(items) and items[j].kind == "number":
            j += 1
        numbers, j = _beat_numbers(items, j)
        return (Item("B", tuple(numbers), start, items[j - 1].end, gap), j) if numbers else None
    if kind == "every":
        if i + 2 < len(items) and items[i + 1].kind in ("ordinal", "other") and items[i + 2].kind == "beat":
            if items[i + 1].data in (None, 2):
                return Item("alternate", None, start, items[i + 2].end, gap), i + 3
            return Item("skip", None, start, items[i + 2].end, gap), i + 3
        return None
    return _ordinal_beats(items, i, counting)


def _beat_numbers(items: list[Item], j: int) -> tuple[list[int], int]:
    numbers: list[int] = []
    while j < len(items) and items[j].kind in ("N", "numeral") and items[j].data in range(1, 300):
        if j + 1 < len(items) and items[j + 1].kind == "U":
            break
        number = int(items[j].data)
        if numbers and items[j - 1].kind in ("-", "to"):
            numbers += range(numbers[-1] + 1, number + 1)
        else:
            numbers.append(number)
        j += 1
        if j + 1 < len(items) and items[j].kind in (",", "and", "-", "to", "/", "or"):
            skip = 2 if items[j].kind == "," and items[j + 1].kind in ("and", "or") else 1
            if j + skip < len(items) and items[j + skip].kind in ("N", "numeral") and not items[j + skip].gap:
                j += skip
                continue
        break
    while numbers and items[j - 1].kind not in ("N", "numeral"):
        j -= 1
    return numbers, j


def _ordinal_beats(items: list[Item], i: int, counting: bool) -> tuple[Item, int] | None:
    start, gap = items[i].start, items[i].gap
    numbers: list[int] = []
    j = i
    while j < len(items) and items[j].kind in ("ordinal", "last"):
        numbers.append(items[j].data if items[j].kind == "ordinal" else -1)
        j += 1
        if j + 1 < len(items) and items[j].kind in (",", "and", "or"):
            k = j + 2 if items[j].kind == "," and items[j + 1].kind in ("and", "or") else j + 1
            if k < len(items) and items[k].kind in ("ordinal", "last"):
                j = k
                continue
        if j < len(items) and items[j].kind == "to" and j + 1 < len(items) and items[j + 1].kind == "ordinal":
            numbers += range(numbers[-1] + 1, items[j + 1].data)
            j += 1
            continue
        break
    if len(numbers) == 1 and j < len(items) and items[j].kind in ("N", "numeral") and items[j].data in range(2, 40):
        count = int(items[j].data)
        if numbers[0] in (1, -1) and j + 1 < len(items) and _is_beat(items[j + 1]):
            many = range(1, count + 1) if numbers[0] == 1 else range(-count, 0)
            return Item("B", tuple(many), start, items[j + 1].end, gap), j + 2
    ends = j >= len(items) or items[j].kind in (",", "and", ")")
    if counting and ends and items[i].kind == "ordinal" and i and items[i - 1].kind == "in":
        return Item(
            "B", tuple(numbers), start, items[j - 1].end, gap
        ), j  # "... in the second beat and 162 ms in the third"
    if j < len(items) and _is_beat(items[j]) and not items[j].gap:
        return Item("B", tuple(numbers), start, items[j].end, gap), j + 1
    return None


def _is_beat(item: Item) -> bool:
    """A beat, or a QRS complex that an ordinal counts."""
    return item.kind == "beat" or (item.kind == "Q" and item.data == "qrs" and "complex" in item.text)
