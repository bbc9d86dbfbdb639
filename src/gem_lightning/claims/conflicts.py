"""Conflicts: statements of one text that cannot both be true, whatever the record shows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations, product
from typing import NamedTuple

from gem_lightning.claims.claim import Claim
from gem_lightning.claims.tolerance import default_tolerance
from gem_lightning.features.criteria import limits

#: Findings that exclude each other.
_EXCLUSIVE: tuple[frozenset[str], ...] = (
    frozenset(("normal_axis", "left_axis_deviation", "right_axis_deviation")),
    frozenset(("normal_axis", "extreme_axis_deviation")),
    frozenset(("narrow_qrs", "wide_qrs")),
    frozenset(("normal_pr", "prolonged_pr")),
    frozenset(("normal_pr", "av_block_1")),
    frozenset(("normal_qtc", "long_qtc", "short_qtc")),
    frozenset(("regular_rhythm", "irregular_rhythm")),
    frozenset(("sinus_rhythm", "atrial_fibrillation", "atrial_flutter")),
    frozenset(("sinus_bradycardia", "sinus_tachycardia", "atrial_fibrillation", "atrial_flutter")),
)


def _ranges() -> dict[str, tuple[str, float, float]]:
    """Return kind, lowest and highest value that go with a finding, from the limits of its criterion.

    Where the limit depends on sex the wider range counts, since a text need not name the sex.
    """
    wide, narrow = limits("wide_qrs")["qrs"], limits("narrow_qrs")["qrs"]
    pr, qtc = limits("normal_pr"), limits("normal_qtc")
    axes = {code: ("axis_qrs", limits(code)["low"], limits(code)["high"]) for code in _AXES}
    return axes | {
        "narrow_qrs": ("qrs", 0, narrow),
        "wide_qrs": ("qrs", wide, math.inf),
        "normal_pr": ("pr", pr["low"], pr["high"]),
        "prolonged_pr": ("pr", pr["high"], math.inf),
        "av_block_1": ("pr", limits("av_block_1")["pr"], math.inf),
        "normal_qtc": ("qtc", qtc["low"], qtc["f"]),
        "long_qtc": ("qtc", limits("long_qtc")["m"], math.inf),
        "short_qtc": ("qtc", 0, limits("short_qtc")["high"]),
        "sinus_bradycardia": ("heart_rate", 0, limits("sinus_bradycardia")["rate"]),
        "sinus_tachycardia": ("heart_rate", limits("sinus_tachycardia")["rate"], math.inf),
    }


_AXES = ("normal_axis", "left_axis_deviation", "right_axis_deviation", "extreme_axis_deviation")
_RANGES = _ranges()
_ONE_VALUE = frozenset(("heart_rate", "pr", "qrs", "qt", "qtc", "axis_qrs"))  # a record has one of each
_KINDS = _ONE_VALUE | {"finding", "rr"} | {kind for kind, _, _ in _RANGES.values()}


class Conflict(NamedTuple):
    """Two claims of one text that exclude each other."""

    first: Claim
    second: Claim
    reason: str


def conflicts(claims: Sequence[Claim]) -> list[Conflict]:
    """Find contradictions inside a text: exclusive findings, finding and number, rate and RR, finding and denial.

    Args:
        claims: As ``extract`` returns them; hedged claims conflict with nothing.
    """
    firm = [claim for claim in claims if claim.kind in _KINDS and not claim.uncertain]
    found: list[Conflict] = []
    for i, j in sorted(_pairs(firm)):
        reason = _reason(firm[i], firm[j]) or _reason(firm[j], firm[i])
        if reason:
            found.append(Conflict(firm[i], firm[j], reason))
    return found


def _pairs(firm: Sequence[Claim]) -> set[tuple[int, int]]:
    """Return the indices of claims that could exclude each other: of one kind, finding and number, rate and RR."""
    places: dict[str, list[int]] = {}
    for i, claim in enumerate(firm):
        places.setdefault(claim.kind, []).append(i)
    pairs = {pair for kind, own in places.items() if kind != "rr" for pair in combinations(own, 2)}
    findings = ((i, _RANGES.get(firm[i].finding or "")) for i in places.get("finding", ()))
    mixed = [(i, j) for i, limits in findings if limits for j in places.get(limits[0], ())]
    mixed += product(places.get("heart_rate", ()), places.get("rr", ()))
    return pairs | {(min(pair), max(pair)) for pair in mixed}


def _reason(one: Claim, two: Claim) -> str | None:
    if one.kind == two.kind == "finding":
        return _findings(one, two)
    if one.kind == "finding" and not one.negated and one.beat is None and one.finding in _RANGES:
        kind, low, high = _RANGES[one.finding]
        if two.kind == kind and two.value is not None and not two.leads and two.beat is None:
            margin = default_tolerance(kind, two.value).value / 2
            if not low - margin <= two.value <= high + margin:
                span = f"of at least {low:g}" if math.isinf(high) else f"from {low:g} to {high:g}"
                return f"{one.finding} means {kind} {span}, but the text states {two.value:g} {two.unit}"
    if one.kind == "heart_rate" and two.kind == "rr" and one.value and two.value and one.beat is two.beat is None:
        implied = 60000.0 / two.value
        if abs(implied - one.value) > default_tolerance("heart_rate", one.value).value + 0.05 * one.value:
            return f"an RR of {two.value:g} ms is a rate of {implied:.0f} bpm, but the text states {one.value:g} bpm"
    same = one.kind == two.kind and one.kind in _ONE_VALUE
    if same and one.value is not None and two.value is not None and (one.leads, one.beat) == (two.leads, two.beat):
        gap = abs(one.value - two.value)
        if gap > 2 * default_tolerance(one.kind, one.value).value:
            return f"{one.kind} is stated as {one.value:g} and as {two.value:g} {one.unit}"
    return None


def _findings(one: Claim, two: Claim) -> str | None:
    if one.beat != two.beat:
        return None
    if one.finding == two.finding:
        shared = not one.leads or not two.leads or set(one.leads) & set(two.leads)
        whole = bool(one.leads) == bool(two.leads) or (one.negated and not one.leads) or (two.negated and not two.leads)
        if one.negated != two.negated and shared and whole:
            return f"{one.finding} is both stated and denied"
        return None
    if one.negated or two.negated or one.leads or two.leads:
        return None
    if any({one.finding, two.finding} <= group for group in _EXCLUSIVE):
        return f"{one.finding} and {two.finding} exclude each other"
    return None
