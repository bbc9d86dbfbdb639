"""The claim: one checkable statement found in a text."""

from __future__ import annotations

from typing import Any, NamedTuple

#: Kinds of measured claims and their canonical unit; every other claim is a ``finding``.
UNITS: dict[str, str] = {
    "heart_rate": "bpm",
    "rr": "ms",
    "pr": "ms",
    "qrs": "ms",
    "qt": "ms",
    "qtc": "ms",
    "jt": "ms",
    "p_duration": "ms",
    "p_amplitude": "mV",
    "q_duration": "ms",
    "q_amplitude": "mV",
    "r_duration": "ms",
    "r_amplitude": "mV",
    "s_duration": "ms",
    "s_amplitude": "mV",
    "qrs_amplitude": "mV",
    "t_duration": "ms",
    "t_amplitude": "mV",
    "st_level": "mV",
    "axis_p": "deg",
    "axis_qrs": "deg",
    "axis_t": "deg",
    "voltage_sum": "mV",
}


class Claim(NamedTuple):
    """One checkable statement.

    A tuple, because a corpus holds hundreds of millions of them and each must cost well under a microsecond.

    Attributes:
        kind: A key of :data:`UNITS`, or ``finding``.
        value: The value of a point claim, in ``unit``.
        low: Lower end of a range, or a lower bound.
        high: Upper end of a range, or an upper bound.
        unit: ``bpm``, ``ms``, ``mV`` or ``deg``; None for findings.
        leads: Standard lead names of the claim, in the order named; empty for the whole record.
        beat: Beat number from 1, -1 for the last beat, None for all beats.
        finding: Finding code, or the name of a voltage sum; None otherwise.
        negated: The finding is stated to be absent.
        uncertain: The finding or value is hedged.
        span: (start, end) in characters of the text.
    """

    kind: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    unit: str | None = None
    leads: tuple[str, ...] = ()
    beat: int | None = None
    finding: str | None = None
    negated: bool = False
    uncertain: bool = False
    span: tuple[int, int] = (0, 0)

    @property
    def meaning(self) -> tuple[Any, ...]:
        """Return the claim without its place in the text; numbers rounded to a thousandth."""
        numbers = tuple(None if v is None else round(v, 3) for v in self[1:4])
        return (self.kind, *numbers, *self[4:10])

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return self._asdict() | {"leads": list(self.leads), "span": list(self.span)}
