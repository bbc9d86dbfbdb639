"""What the stages between items and claims pass on: heads (quantities) and mentions (claims in the making)."""

from __future__ import annotations

from dataclasses import dataclass, field

from gem_lightning.claims.parser.units import Canonical

#: Items that join two things of one kind.
JOINS = frozenset((",", "and", "or", "/", "-"))


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
