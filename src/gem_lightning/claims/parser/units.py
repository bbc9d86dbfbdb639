"""Numbers as written to canonical claims, and what the stages pass on: quantities (heads) and claims in the making."""

from __future__ import annotations

from dataclasses import dataclass, field

from gem_lightning.claims.claim import UNITS
from gem_lightning.claims.parser.quantities import Value
from gem_lightning.claims.parser.tokenize import Item

#: At 25 mm/s and 10 mm/mV.
_TO_MS = {"ms": 1.0, "s": 1000.0, "mm": 40.0, "small_box": 40.0, "large_box": 200.0}
_TO_MV = {"mV": 1.0, "uV": 0.001, "mm": 0.1, "cm": 1.0, "small_box": 0.1, "large_box": 0.5}
_INTERVALS = frozenset(("rr", "pr", "qrs", "qt", "qtc", "jt"))
_WAVES = frozenset("pqrst")
_SUMS = frozenset(("sokolow_lyon", "cornell"))

#: kind, value, low, high, unit, name
Canonical = tuple[str, float | None, float | None, float | None, str, str | None]

#: Items that join two things of one kind.
JOINS = frozenset((",", "and", "or", "/", "-"))


def has_own_rate(item: Item) -> bool:
    """Flutter waves and atria that flutter have another rate than the ventricles."""
    return "wave" in item.text or item.text.startswith(("atria ", "atrium "))


@dataclass(slots=True)
class Head:
    """A quantity in the sentence that properties and numbers may speak of."""

    q: str
    i0: int
    i1: int
    dim: str | None = None
    implied: bool = False
    props: list[tuple[str, int]] = field(default_factory=list)
    measured: int | None = None


@dataclass(slots=True)
class Mention:
    """A claim in the making: its codes or values, not yet where, in which beat and with which polarity."""

    i0: int
    i1: int
    codes: tuple[str, ...] = ()
    values: tuple[Canonical, ...] = ()
    head: Head | None = None
    leads: tuple[str, ...] = ()
    beats: tuple[int, ...] = ()
    own_place: bool = False
    negated: bool = False
    uncertain: bool = False
    dropped: bool = False
    bare: bool = False
    foreign: bool = False


def fits(q: str, dim: str | None, value: Value) -> bool:
    """Whether a number with this unit can measure the quantity."""
    unit = value.unit
    size = abs(next((v for v in (value.value, value.low, value.high) if v is not None), 0.0))
    if q == "qrs" and (unit in ("mV", "uV") or (dim == "amplitude" and unit in _TO_MV)):
        return True  # the amplitude of the complex
    if q in _INTERVALS:
        return unit in _TO_MS if unit is not None else 30 <= size <= 2500 or 0.03 <= size <= 2.5
    if q == "rate":
        return unit == "bpm" or (unit is None and 15 <= size <= 400)
    if q in _WAVES:
        if unit is None:
            return False
        return unit in _TO_MS or unit in _TO_MV
    if q in ("st", "qrs_amplitude") or q in _SUMS:
        return unit in _TO_MV
    if q.startswith("ax"):
        return unit == "deg" or (unit is None and size <= 270)
    return q == "-"


def canonical(q: str, dim: str | None, value: Value, direction: int) -> Canonical | None:
    """The claim's kind, value, range and unit; None where the quantity yields no claim.

    Args:
        q: Quantity of the lexicon.
        dim: ``amplitude`` or ``duration`` if the text says so.
        value: As written.
        direction: -1 turns magnitudes negative (depression, inversion), +1 and 0 leave the sign.
    """
    if q == "-" or dim == "form":
        return None
    measured = _kind(q, dim, value)
    if measured is None:
        return None
    kind, factor = measured
    point, low, high = (None if v is None else round(v * factor, 6) for v in (value.value, value.low, value.high))
    if direction < 0 and kind in ("st_level", "t_amplitude", "p_amplitude"):
        point, low, high = (None if v is None else -abs(v) for v in (point, low, high))
        if value.value is None:
            low, high = high, low
    if kind in ("q_amplitude", "s_amplitude", "r_amplitude") and point is not None:
        point = abs(point)
    name = q if q in _SUMS else None
    return kind, point, low, high, UNITS[kind], name


def _kind(q: str, dim: str | None, value: Value) -> tuple[str, float] | None:
    """Return the claim's kind and the factor from the written unit; None where the unit measures no such kind."""
    unit = value.unit
    if q == "rate":
        return "heart_rate", 1.0
    if q == "qrs" and (unit in ("mV", "uV") or (dim == "amplitude" and unit in _TO_MV)):
        return "qrs_amplitude", _TO_MV[str(unit)]
    if q in _INTERVALS:
        if unit is None:
            size = next(v for v in (value.value, value.low, value.high) if v is not None)
            return q, 1.0 if abs(size) >= 30 else 1000.0
        return q, _TO_MS[unit]
    if q == "axis":
        return "axis_qrs", 1.0
    if q.startswith("axis"):
        return q, 1.0
    if q == "st":
        return "st_level", _TO_MV[str(unit)]
    if q == "qrs_amplitude":
        return q, _TO_MV[str(unit)]
    if q in _SUMS:
        return "voltage_sum", _TO_MV[str(unit)]
    if q in _WAVES:
        long = unit in ("ms", "s") or (dim == "duration" and unit in _TO_MS)
        kind, table = (f"{q}_duration", _TO_MS) if long else (f"{q}_amplitude", _TO_MV)
        return (kind, table[str(unit)]) if str(unit) in table and kind in UNITS else None
    return None
