"""Items that state nothing: footnotes, changes, glosses and limits; number names and keys' units put in order."""

from __future__ import annotations

from itertools import pairwise

from gem_lightning.claims.parser.lexicon import Lexicon
from gem_lightning.claims.parser.tokenize import Item, Scan

_VESSELS = frozenset(("lad", "rad"))

#: Larger bare numbers are values ("sinus tachycardia (124)"); footnotes and citations are small.
_LARGEST_NOTE = 30
_LARGEST_CITATION = 99
_SPENT = frozenset(
    ("was_from", "by", "delta", "delta_in", "comparative", "hundred", "point", "up", "down", "sum", "range")
)
#: Kinds without one of which no unit stands in a key, and no number measures a change.
_KEYS = frozenset(("equals", "("))
_CHANGES = frozenset(("by", "delta", "was_from", "from", "comparative", "low", "high", "with", "delta_in"))
_DEVIATIONS = frozenset(("elevation", "depression"))
_TRENDS = frozenset(("prolonged", "short", "wide", "narrow", "varying"))
_LENGTHENED = ("prolonged", "lengthened", "shortened")  # "QTc prolonged by 60 ms" is no long QTc
_NUMERIC = frozenset(("numeral", "hundred"))


def without_arteries(scanned: Scan, words: Lexicon) -> Scan:
    """``LAD`` and ``RAD`` among words of coronary arteries, or behind an article, name no axis but a vessel."""
    tokens = scanned.tokens
    if "lad" not in tokens and "rad" not in tokens:
        return scanned
    named = [item for item in scanned.items if item.kind == "F" and item.text in _VESSELS]
    if not named:
        return scanned
    articled = any(a == "the" and b in _VESSELS for a, b in pairwise(tokens))
    if not articled and words.arterial.isdisjoint(tokens):
        return scanned
    items = [item for item in scanned.items if item not in named]
    return scanned._replace(items=items, clinical=[*scanned.clinical, *((item.start, item.end) for item in named)])


def clean(items: list[Item], kinds: set[str]) -> list[Item]:
    """Return the items without what states nothing, in order.

    Args:
        items: The sentence.
        kinds: Kinds of its items; ``N`` is added where number names become numbers.
    """
    if kinds & _NUMERIC:
        items = _number_names(items)
        kinds.add("N")
    if "sum" in kinds:
        items = _sums(items)
    if not kinds.isdisjoint(("up", "down")):
        items = _directions(items)
    if "N" in kinds:
        if ")" in kinds:
            items = _without_numbering(items)
        if any(item.kind == "N" and len(item.text) == 4 for item in items):
            items = _years(items)
        if any(item.kind == "N" and item.data <= _LARGEST_CITATION for item in items):
            items = _without_notes(items)
        if "U" in kinds and not kinds.isdisjoint(_KEYS):
            items = _key_units(items)
        if not kinds.isdisjoint(_CHANGES) or ("is" in kinds and "(" in kinds):
            items = _without_changes(items)
    if "(" in kinds:
        items = _without_glosses(items)
    if "equals" in kinds and ("N" in kinds or "answer_yes" in kinds):
        items = [_flag(items, k) for k in range(len(items))]
    return _forget(items) if kinds & _SPENT else items


def _flag(items: list[Item], k: int) -> Item:
    """Read ``rbbb = 0`` and ``rbbb: 1`` as answers, and ``P waves: yes`` as what is present."""
    item = items[k]
    if item.kind == "answer_yes" and k > 1 and items[k - 1].kind == "equals" and items[k - 2].kind == "Q":
        return item._replace(kind="A", data=("present",))
    alone = k > 1 and item.kind == "N" and item.text in ("0", "1") and (k + 1 == len(items) or items[k + 1].kind == ",")
    if alone and items[k - 1].kind == "equals" and items[k - 2].kind == "F":
        return item._replace(kind="answer_yes" if item.data else "answer_no", data=None)
    return item


def _forget(items: list[Item]) -> list[Item]:
    """Turn number words that measured nothing back into unknown words."""
    out: list[Item] = []
    gap = 0
    for item in items:
        if item.kind in _SPENT:
            gap += item.gap + 1
        else:
            out.append(item._replace(gap=item.gap + gap) if gap else item)
            gap = 0
    return out


def _number_names(items: list[Item]) -> list[Item]:
    """``one hundred and twelve`` and ``two point five`` as numbers; a lone small one may count beats or boxes."""
    out: list[Item] = []
    i = 0
    while i < len(items):
        if items[i].kind not in _NUMERIC or (items[i].kind == "numeral" and items[i].data < 1):
            out.append(items[i])
            i += 1
            continue
        value, after = _name(items, i)
        if after - i > 1 or value > 12:
            first, last = items[i], items[after - 1]
            out.append(Item("N", value, first.start, last.end, first.gap, f"{value:g}"))
        else:
            out.append(items[i])
        i = after
    return out


def _name(items: list[Item], i: int) -> tuple[float, int]:
    """Value of the number name that starts here, and the index after it."""
    total, after, j = 0.0, i, i
    while j < len(items) and (j == i or not items[j].gap):
        kind, value = items[j].kind, items[j].data
        if kind == "hundred":
            total = max(total, 1.0) * 100
        elif kind == "numeral" and value >= 10 and 1 <= total < 10:
            total = total * 100 + value  # "one sixty"
        elif kind == "numeral" and value >= 1 and (total % 100 == 0 or (value < 10 and total % 10 == 0)):
            total += value
        elif (kind == "and" and total >= 100 and total % 100 == 0) or (kind == "-" and total % 10 == 0):
            j += 1
            continue
        else:
            break
        j += 1
        after = j
    if after + 1 < len(items) and items[after].kind == "point" and items[after + 1].kind == "numeral":
        return total + items[after + 1].data / 10, after + 2
    return total, after


def _sums(items: list[Item]) -> list[Item]:
    """``the sum of SV1 and RV5`` as ``SV1 + RV5``."""
    first = next(k for k, item in enumerate(items) if item.kind == "sum")
    join = next((k for k in range(first, len(items)) if items[k].kind in ("and", "/", ",")), None)
    return [item._replace(kind="+", data=None) if k == join else item for k, item in enumerate(items)]


def _directions(items: list[Item]) -> list[Item]:
    """``ST up in V2, down in V5``: elevation and depression, next to the ST segment or to leads."""
    out = list(items)
    for k, item in enumerate(items):
        if item.kind in ("up", "down") and any(before.kind == "Q" and before.data == "st" for before in items[:k]):
            beside = items[k - 1].kind in ("Q", "is", ",", "and", "but") and not item.gap
            if beside and (k + 1 == len(items) or items[k + 1].kind in ("in", "L", ",", "and")):
                word = "elevation" if item.kind == "up" else "depression"
                out[k] = item._replace(kind="A", data=(word,))
    return out


def _without_numbering(items: list[Item]) -> list[Item]:
    """Drop ``1)`` and ``2)`` of a list that runs on in one line."""
    out: list[Item] = []
    depth = 0
    for item in items:
        depth += item.kind == "("
        if item.kind == ")":
            numbered = not depth and out and out[-1].kind == "N" and out[-1].end == item.start and out[-1].data < 20
            depth = max(0, depth - 1)
            if numbered:
                out[-1] = out[-1]._replace(kind=",", data=None)
                continue
        out.append(item)
    return out


def _without_notes(items: list[Item]) -> list[Item]:
    """Drop footnote marks and citations: ``480 ms (3)``, ``LBBB [7]``, ``418 ms 2, 5``."""
    out: list[Item] = []
    i = 0
    while i < len(items):
        if (out and items[i].kind == "(" and (after := _citation(items, i)) and _is_note(out, items, i, after)) or (
            out and items[i].kind == "N" and (after := _bare_note(items, i, out[-1]))
        ):
            i = after
        else:
            out.append(items[i])
            i += 1
    return out


def _years(items: list[Item]) -> list[Item]:
    """``the tracing of 2019`` and ``compared to 3/2021``: a date is a look back, not a value."""
    out: list[Item] = []
    i = 0
    while i < len(items):
        after = _date(items, i)
        if not after:
            out.append(items[i])
            i += 1
            continue
        if after - i > 1 and out and out[-1].kind == "off_comparison":
            out.pop()  # what is compared with is named whole: the statement follows
        elif out and out[-1].kind in ("in", "of", "from"):
            out.append(items[i]._replace(kind="off_history", data=None))
        i = after
    return out


def _date(items: list[Item], i: int) -> int:
    """Index after a year, or a date of numbers that begins or ends with one; 0 where there is none."""
    j = i
    while j < min(i + 5, len(items)) and items[j].kind == ("N", "/")[(j - i) % 2]:
        j += 1
    j -= (j - i) % 2 == 0
    if j - i > 1 and (_is_year(items[i]) or _is_year(items[j - 1])):
        return j
    alone = i < len(items) and _is_year(items[i]) and not (i + 1 < len(items) and items[i + 1].kind == "U")
    return i + 1 if alone else 0


def _is_year(item: Item) -> bool:
    return item.kind == "N" and len(item.text) == 4 and item.text.isdecimal() and 1900 <= item.data <= 2100


def _citation(items: list[Item], i: int) -> int:
    """Index after a bracket that holds nothing but small whole numbers; 0 for another bracket."""
    j = i + 1
    while j < len(items) and items[j].kind in ("N", ",", "-") and not items[j].gap:
        if items[j].kind == "N" and ("." in items[j].text or items[j].data > _LARGEST_CITATION):
            return 0
        j += 1
    return j + 1 if j > i + 1 and j < len(items) and items[j].kind == ")" and not items[j].gap else 0


def _is_note(out: list[Item], items: list[Item], i: int, after: int) -> bool:
    """In square brackets, or small and behind what has its value or needs none."""
    if out[-1].kind in ("Q", "L", "D"):
        return False
    square = items[i].text == "["
    return square or (
        out[-1].kind in ("U", "N", "F", "A", "I")
        and all(k.data < _LARGEST_NOTE for k in items[i:after] if k.kind == "N")
    )


def _bare_note(items: list[Item], i: int, before: Item) -> int:
    """Index after small bare numbers that close a statement behind a unit or property; 0 where they are values."""
    if before.kind not in ("U", "A") or items[i].gap or items[i].start == before.end:
        return 0
    j = i
    while j < len(items) and items[j].kind == "N" and not items[j].gap:
        if "." in items[j].text or items[j].data >= _LARGEST_NOTE or items[j].data < 1:
            return 0
        j += 1
        if j + 1 < len(items) and items[j].kind == "," and items[j + 1].kind == "N":
            j += 1
    if before.kind == "A" and j == i + 1 and j < len(items):  # "normal, 1 mm" has a unit
        return 0
    ends = j >= len(items) or items[j].kind in (",", ")")
    return j if ends and not any(item.kind == "Q" and item.data == "axes" for item in items[:i]) else 0


def _key_units(items: list[Item]) -> list[Item]:
    """``pr_ms: 160`` and ``PR (ms) = 160``: the unit of the key moves behind the number."""
    out = list(items)
    i = 1
    while i < len(out):
        j = i + 1
        if out[i].kind == "U" and out[i - 1].kind in ("Q", "D", "(", "F", "A"):
            opened = out[i - 1].kind == "("
            if opened and j < len(out) and out[j].kind == ")":
                j += 1
            direct = opened and j < len(out) and out[j].kind == "N" and not out[j].gap
            if j < len(out) and (out[j].kind == "equals" or direct):
                k = j if direct else j + 1
                if opened and k < len(out) and out[k].kind == "L":
                    return _spread_unit(out[: i - 1] + out[j:], out[i])
                if k < len(out) and out[k].kind == "N" and not (k + 1 < len(out) and out[k + 1].kind == "U"):
                    unit = out[i]._replace(start=out[k].end, end=out[k].end, gap=0)
                    first = i - 1 if opened else i
                    out[k + 1 : k + 1] = [unit]
                    del out[first:j]
        i += 1
    return out


def _spread_unit(items: list[Item], unit: Item) -> list[Item]:
    """``ST (mm): II 1.5, III 2``: every number without a unit gets that of the heading."""
    out: list[Item] = []
    for k, item in enumerate(items):
        out.append(item)
        if item.kind == "N" and not (k + 1 < len(items) and items[k + 1].kind == "U"):
            out.append(unit._replace(start=item.end, end=item.end, gap=0))
    return out


def _without_changes(items: list[Item]) -> list[Item]:
    """Drop numbers that measure a change: ``fell by 40 bpm``, ``30 ms longer``, ``an increase of 20 ms``."""
    out: list[Item] = []
    i = 0
    while i < len(items):
        if items[i].kind in ("by", "delta"):
            j = i + 1
            while j < len(items) and items[j].kind in ("of", "by", "approx", "in"):
                j += 1
            after = _amount(items, j)
            deviation = any(k.kind == "A" and not _DEVIATIONS.isdisjoint(k.data) for k in out)
            if after and not (deviation and items[i].kind == "by"):  # "elevated by 2 mm" is the level itself
                _mark_change(out)
                i = after
                continue
            if items[i].kind == "by" and j + 2 < len(items) and items[j].kind == "N" and items[j + 1].kind == "to":
                i = j + 1  # "slowed by 10 to 60 bpm"
                continue
        if items[i].kind == "was_from" and i + 1 < len(items) and items[i + 1].kind == "N" and not _spans(items, i):
            i += 3 if _amount(items, i + 1) else 2  # "QTc 440 ms, down from 480 ms"
            continue
        if items[i].kind == "is" and out and out[-1].kind == "(" and items[i].text == "was":  # "72 bpm (was 90 bpm)"
            out.append(items[i]._replace(kind="off_history", data=None))
            i += 1
            continue
        varies = bool(out) and out[-1].kind == "A" and "varying" in out[-1].data
        if items[i].kind == "from" and not varies and _spans(items, i):
            _mark_change(out)
            if items[i].gap and out and out[-1].kind == "Q":  # "doubled from 60 to 120 bpm", not "ranges from"
                out.append(items[i]._replace(kind="change"))
        placed = items[i].kind == "with" and out and out[-1].kind == "L" and not items[i].gap
        if placed and _amount(items, i + 1):  # "most in V3 with 4 mm"
            out.append(items[i]._replace(kind="of"))
            i += 1
            continue
        if out and items[i].kind == "of" and _falls(out) and (after := _amount(items, i + 1)):  # "a fall in rate of 20"
            i = after
            continue
        after = _amount(items, i)
        if after and after < len(items) and _compares(items, after):
            i = after + (1 if items[after].kind == "comparative" or items[after].text.endswith("than") else 2)
            continue
        out.append(items[i])
        i += 1
    return out


def _mark_change(out: list[Item]) -> None:
    """Turn a property before an amount of change into that change: "widened from 96 to 142 ms"."""
    trend = out and out[-1].kind == "A" and not _TRENDS.isdisjoint(out[-1].data)
    if trend or (out and out[-1].kind == "F" and out[-1].text.endswith(_LENGTHENED)):
        out[-1] = out[-1]._replace(kind="change", data=None)


def _spans(items: list[Item], i: int) -> bool:
    """``from 96 (ms) to 142``."""
    j = i + 2
    if j < len(items) and items[j].kind == "U":
        j += 1
    return j + 1 < len(items) and items[i + 1].kind == items[j + 1].kind == "N" and items[j].kind == "to"


def _falls(out: list[Item]) -> bool:
    return any(item.kind == "delta_in" for item in out[-4:])


def _compares(items: list[Item], i: int) -> bool:
    """A comparative right behind a number that no other number follows: "30 ms longer (than before)"."""
    item = items[i]
    beyond = i + 1 < len(items) and item.text in ("above", "below", "over", "under", "beyond")
    if beyond and (items[i + 1].kind == "off_limit" or items[i + 1].data == ("normal",)):  # "40 ms above normal"
        return not item.gap
    if item.gap or not (item.kind == "comparative" or (item.kind in ("low", "high") and item.text.endswith("than"))):
        return False
    return not (i + 1 < len(items) and items[i + 1].kind in ("N", "numeral"))


def _amount(items: list[Item], i: int) -> int:
    """Index after a number with its unit that starts here; 0 where none does."""
    if i + 1 < len(items) and items[i].kind in ("N", "numeral") and items[i + 1].kind in ("U", "ordinal"):
        return i + 2 if not items[i + 1].gap else 0
    return 0


def _without_glosses(items: list[Item]) -> list[Item]:
    """``right ventricular hypertrophy (RVH)``: the same finding or quantity in brackets is one with its term."""
    out: list[Item] = []
    i = 0
    while i < len(items):
        if items[i].kind == "(" and out and i + 2 < len(items) and items[i + 2].kind == ")":
            term, gloss = out[-1], items[i + 1]
            same = gloss.kind == term.kind and (
                term.kind == "I" or (term.kind in ("F", "Q") and gloss.data == term.data)
            )
            if same and not items[i].gap and not gloss.gap and not items[i + 2].gap:
                out[-1] = term._replace(end=items[i + 2].end)
                i += 3
                continue
        out.append(items[i])
        i += 1
    return out
