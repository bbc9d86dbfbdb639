"""Tolerances: how far a number in a text may lie from the measurement, and why."""

from __future__ import annotations

import math
from typing import NamedTuple

#: Standard deviation of our boundaries against those of the cardiologists of LUDB (Kalyakulina et al., LUDB: a new
#: open-access validation tool for electrocardiogram delineation algorithms, IEEE Access 2020;8:186181), ms: the bars of
#: the delineation (docs/features.md). LUDB holds one reading a record, so they stand for the disagreement of experts.
LUDB_SD_MS = {"P_on": 16.0, "P_off": 18.0, "QRS_on": 11.0, "QRS_off": 13.0, "T_on": 28.0, "T_off": 23.0}
#: Half a small box at 25 mm/s and 10 mm/mV: the reading precision on paper.
PAPER_MS, PAPER_MV = 20.0, 0.05

_BOUNDARIES = {
    "pr": ("P_on", "QRS_on"),
    "qrs": ("QRS_on", "QRS_off"),
    "qt": ("QRS_on", "T_off"),
    "jt": ("QRS_off", "T_off"),
    "p_duration": ("P_on", "P_off"),
    "t_duration": ("T_on", "T_off"),
    "q_duration": (),
    "r_duration": (),
    "s_duration": (),
    "rr": (),
}
_PAPER = "reading precision on paper: half a small box, {} {}"

#: Tolerances within which a number is left open: two standard deviations hold 95 % of careful readings.
BORDERLINE = 2.0


class Tolerance(NamedTuple):
    """A tolerance with its source.

    Attributes:
        value: In the claim's unit.
        source: Why this much.
    """

    value: float
    source: str


def default_tolerance(kind: str, measured: float, rr_ms: float | None = None) -> Tolerance:
    """Return one standard deviation of expert disagreement, known from LUDB, or the reading precision on paper.

    A number is supported within one tolerance, borderline within :data:`BORDERLINE` of them and contradicted beyond.

    Args:
        kind: A measured kind of :data:`gem_lightning.claims.claim.UNITS`.
        measured: The measured value, in the kind's unit.
        rr_ms: Mean RR interval, ms (for QTc).
    """
    if kind in _BOUNDARIES:
        error = math.hypot(*(LUDB_SD_MS[mark] for mark in _BOUNDARIES[kind]))
        if error:
            return Tolerance(round(error, 1), f"LUDB: SD of {' and '.join(_BOUNDARIES[kind])} combined, {error:.1f} ms")
        return Tolerance(PAPER_MS, _PAPER.format(20, "ms"))
    if kind == "qtc":
        qt = default_tolerance("qt", measured)
        scale = max(1.0, (1000.0 / rr_ms) ** 0.5) if rr_ms else 1.0
        return Tolerance(round(qt.value * scale, 1), f"{qt.source}, corrected for rate")
    if kind == "heart_rate":
        reading = PAPER_MS * measured * measured / 60000.0
        if reading > 3.0:
            return Tolerance(round(reading, 1), "reading precision on paper: half a small box of the RR interval")
        return Tolerance(3.0, "counting on a 10 s strip: half a beat times six")
    if kind.startswith("axis"):
        return Tolerance(10.0, "0.05 mV read in leads I and aVF at a net deflection of 0.4 mV")
    if kind == "voltage_sum":
        return Tolerance(2 * PAPER_MV, "two readings on paper of half a small box, 0.05 mV each")
    return Tolerance(PAPER_MV, _PAPER.format(0.05, "mV"))
