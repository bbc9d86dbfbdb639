"""Items to measures: a number with its unit, range, bound, list, sign, decimal comma or fraction."""

from __future__ import annotations

from typing import NamedTuple

from gem_lightning.claims.parser.tokenize import Item

_PREFIX = ("approx", "equals")
_EITHER = {"either_low": "low", "either_high": "high"}  # before or after the number
_JOINS = (",", "and", "/", "or")
_LENGTHS = ("mm", "mV", "cm", "s")


class Value(NamedTuple):
    """One number as written: a point, or a range or bound, with its raw unit (None where none is written)."""

    value: float | None
    low: float | None
    high: float | None
    unit: str | None
    start: int
    end: int


def merge_numbers(items: list[Item]) -> list[Item]:
    """Replace every number by a measure ``M`` whose data is a list of :class:`Value`; ratios and counts disappear."""
    out: list[Item] = []
    i = 0
    while i < len(items):
        kind = items[i].kind
        if kind in _STARTS and (kind != "A" or items[i].data == ("inverted",)):  # "negative 60 degrees"
            found = _measure(items, i, out)
            if found is not None:
                item, i = found
                if item is not None:
                    out.append(item)
                continue
        if kind in ("low", "high", "from", "between") or kind in _EITHER:  # "over V1-V4": no number follows
            out.append(items[i]._replace(kind="in"))
        elif kind not in ("approx", "U", "numeral", "half", "N", "minus", "plusminus", "after_low", "after_high"):
            out.append(items[i])
        i += 1
    return out


#: Kinds that numbers are made of, or that mean nothing without one.
NUMERIC = frozenset(
    ("N", "numeral", "half", "low", "high", "from", "between", *_EITHER, "approx", "U", "minus", "plusminus")
) | {"after_low", "after_high"}
_STARTS = frozenset(
    ("N", "numeral", "half", "low", "high", *_EITHER, "approx", "between", "from", "minus", "-", "+", "equals", "A")
)


def _measure(items: list[Item], i: int, out: list[Item]) -> tuple[Item | None, int] | None:
    """The measure that starts here (None for a number that is no measure) and the index after it."""
    opener, gap = items[i], items[i].gap
    bound, pair, i = _prefix(items, i)
    first = _number(items, i, out)
    if first is None:
        return None
    value, i = first
    if i < len(items) and items[i].kind == "equals" and items[i].start == value.end and _number(items, i + 1, out):
        return None, i + 2  # a ratio such as 2:1
    if i < len(items) and items[i].kind in ("lead", "beat", "ordinal") and value.unit is None:
        return None, i
    values = [value]
    if any(item.kind == "Q" and item.data == "axes" for item in out[-2:]):
        return _three(items, i, value)
    ranged = _range(items, i, value, pair)
    if ranged is not None:
        changed = pair == "from" and bool(out) and out[-1].kind == "change"
        values, i = [ranged[0]], ranged[1]
        if changed:  # "increased from 160 to 200": only the second is the present value
            values = [values[0]._replace(value=ranged[2], low=None, high=None)]
    elif bound is None:
        values, i = _list(items, i, values)
    bound, i = _suffix(items, i, bound)
    if bound is not None and values[0].value is not None:
        last = values[0]
        values = [
            last._replace(
                value=None, low=last.value if bound == "low" else None, high=last.value if bound == "high" else None
            )
        ]
    if values[0].unit == "-":
        return None, i
    named = "=" if opener.kind == "equals" else ""  # "V2: 3 mm": the number belongs to what stands before the colon
    start = opener.start if opener.kind in ("low", "high", "between", "from", *_EITHER) else value.start
    return Item("M", values, start, values[-1].end, gap, named), i


def _three(items: list[Item], i: int, first: Value) -> tuple[Item, int]:
    """The P, QRS and T axes: numbers in a row, with or without commas."""
    values = [first]
    while len(values) < 3:
        j = i + 1 if i < len(items) and items[i].kind in (*_JOINS, "-") and not _signed(items, i) else i
        other = _number(items, j, [])
        if other is None:
            break
        values.append(other[0])
        i = other[1]
    return Item("M", values, first.start, values[-1].end), i


def _signed(items: list[Item], i: int) -> bool:
    return (
        items[i].kind == "-"
        and i + 1 < len(items)
        and items[i + 1].start == items[i].end
        and items[i].start > items[i - 1].end
    )


def _prefix(items: list[Item], i: int) -> tuple[str | None, str | None, int]:
    """Bound, range opener and index before a number."""
    bound = pair = None
    while i < len(items):
        kind = items[i].kind
        if kind in ("low", "high") or kind in _EITHER:
            bound = _EITHER.get(kind, kind)
            if i + 1 < len(items) and items[i + 1].kind == "equals":
                i += 1
        elif kind in ("between", "from"):
            pair = kind
        elif kind not in _PREFIX:
            break
        i += 1
    return bound, pair, i


def _number(items: list[Item], i: int, out: list[Item]) -> tuple[Value, int] | None:
    """One number with sign and unit, and the index after it."""
    if i >= len(items):
        return None
    sign, start = 1.0, items[i].start
    kind = items[i].kind
    if kind in ("-", "+", "minus") or (kind == "A" and items[i].data == ("inverted",)):
        if i + 1 >= len(items) or items[i + 1].kind != "N":
            return None
        touching = items[i + 1].start == items[i].end
        if kind in ("-", "+") and not touching:
            return None
        if kind == "-" and out and out[-1].kind in ("N", "L") and out[-1].end == start:
            return None
        sign = 1.0 if kind == "+" else -1.0
        i += 1
    if items[i].kind == "numeral" or items[i].kind == "half":
        return _worded(items, i)
    if items[i].kind != "N":
        return None
    number, end, i = _digits(items, i)
    unit, end, i = _unit(items, i, end)
    if kind == "A" and unit != "deg":  # "negative 60 degrees" has a sign, "negative, 0.3 mV" a polarity
        return None
    return Value(sign * number, None, None, unit, start, end), i


def _digits(items: list[Item], i: int) -> tuple[float, int, int]:
    """A number with a decimal comma, a thousands comma, a fraction or a half sign after it."""
    number, end = items[i].data, items[i].end
    i += 1
    if i + 1 < len(items) and items[i].start == end and items[i + 1].kind == "N" and items[i + 1].start == items[i].end:
        nxt, digits = items[i + 1], len(items[i + 1].text)  # decimal or thousands: by the number of places
        after = items[i + 2] if i + 2 < len(items) else None
        if items[i].kind == "," and number == int(number) and nxt.data == int(nxt.data):
            if number < 10 and digits == 3 and number > 0:
                return number * 1000 + nxt.data, nxt.end, i + 2
            length = after is not None and after.kind == "U" and after.data in _LENGTHS
            if number == 0 or (digits <= 2 and number < 100 and length):
                return number + nxt.data / 10**digits, nxt.end, i + 2
        if items[i].kind == "/" and number == 1 and nxt.data in (2, 4) and after is not None and after.kind == "U":
            return number / nxt.data, nxt.end, i + 2
    if i < len(items) and items[i].kind == "numeral" and items[i].data < 1:
        return number + items[i].data, items[i].end, i + 1
    return number, end, i


def _worded(items: list[Item], i: int) -> tuple[Value, int] | None:
    """``two small boxes``, ``half a millimetre``, ``one and a half mm``: only with a unit."""
    start, number = items[i].start, 0.5 if items[i].kind == "half" else items[i].data
    i += 1
    if i + 1 < len(items) and items[i].kind == "and" and items[i + 1].kind in ("half", "numeral"):
        number += 0.5 if items[i + 1].kind == "half" else items[i + 1].data
        i += 2
    unit, end, i = _unit(items, i, start)
    if unit is None and i < len(items) and items[i].kind == "to":
        return Value(number, None, None, None, start, start), i
    return None if unit in (None, "-") else (Value(number, None, None, unit, start, end), i)


def _unit(items: list[Item], i: int, end: int) -> tuple[str | None, int, int]:
    if i + 1 < len(items) and items[i].kind == "-" and items[i].start == end and items[i + 1].kind in ("U", "lead"):
        i += 1
        if items[i].kind == "lead":
            return "-", items[i].end, i + 1
    if i >= len(items) or items[i].gap:
        return None, end, i
    item = items[i]
    if item.kind == "U":
        return item.data, item.end, i + 1
    if (item.kind == "Q" and item.data == "s" and item.text == "s") or (item.kind == "ordinal" and item.data == 2):
        return "s", item.end, i + 1
    return None, end, i


def _range(items: list[Item], i: int, first: Value, pair: str | None) -> tuple[Value, int, float] | None:
    """``a-b``, ``a to b``, ``between a and b``; ``a ± b`` is the point a."""
    if i + 1 >= len(items):
        return None
    kind = items[i].kind
    if kind == "plusminus" or (kind == "+" and items[i + 1].kind == "/"):
        skip = 1 if kind == "plusminus" else 3
        other = _number(items, i + skip, [])
        if other is None:
            return None
        return first._replace(unit=first.unit or other[0].unit, end=other[0].end), other[1], 0.0
    if not (kind in ("-", "to") or (kind == "and" and pair == "between")):
        return None
    other = _number(items, i + 1, [])
    last = other[0] if other is not None else None
    if other is None or last is None or first.value is None or last.value is None:
        return None
    unit = first.unit or last.unit
    if first.unit and last.unit and first.unit != last.unit:
        return None
    low, high = sorted((first.value, last.value))
    return Value(None, low, high, unit, first.start, last.end), other[1], last.value


def _list(items: list[Item], i: int, values: list[Value]) -> tuple[list[Value], int]:
    """``96, 98 and 97 ms``: more values of the same unit, unless the next number opens something of its own."""
    while i + 1 < len(items):
        join = i
        while join < len(items) and items[join].kind in _JOINS and join < i + 2:
            join += 1
        if join == i or items[i].gap or join >= len(items) or items[join].gap:
            break
        other = _number(items, join, [])
        tight = join == i + 1 and items[i].kind == "/"
        if other is None or not _continues(items, other[1], values[-1], other[0], tight):
            break
        values.append(other[0])
        i = other[1]
    units = [v.unit for v in values if v.unit] if len(values) > 1 else []
    if units:
        values = [v._replace(unit=v.unit or units[-1]) for v in values]
    return values, i


def _continues(items: list[Item], i: int, before: Value, value: Value, tight: bool) -> bool:
    if before.unit is not None and value.unit is not None and before.unit != value.unit:
        return False
    if before.unit is not None and value.unit is None:
        return False
    if i < len(items) and items[i].kind in ("-", "to") and i + 1 < len(items) and items[i + 1].kind == "N":
        return False
    if i < len(items) and items[i].kind in ("lead", "beat"):
        return False
    # "160 ms, 92 ms QRS": the second number belongs to what follows it
    return tight or not (i < len(items) and items[i].kind in ("Q", "A", "F") and not items[i].gap)


def _suffix(items: list[Item], i: int, bound: str | None) -> tuple[str | None, int]:
    """``or more``, ``at most`` after the number."""
    if i < len(items) and items[i].kind in ("after_low", "after_high"):
        return items[i].kind[6:], i + 1
    if i < len(items) and items[i].kind in _EITHER and bound is None and not items[i].gap:
        after = items[i + 1].kind if i + 1 < len(items) else None
        if after not in ("N", "numeral", "approx", "-"):
            return _EITHER[items[i].kind], i + 1
    return bound, i
