"""Conflicts: statements of one text that cannot both be true, whatever the record shows.

Every firm claim becomes facts: itself, what it implies ("LBBB" has a wide QRS, "PR 160 ms" has P waves, an abnormal
finding leaves no normal ECG) and what it excludes. Two claims conflict where one states a fact that the other denies.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import combinations
from typing import NamedTuple

from gem_lightning.claims.claim import Claim
from gem_lightning.claims.tolerance import default_tolerance
from gem_lightning.features.criteria import criteria, limits
from gem_lightning.features.criteria.summary import BENIGN

#: Findings of which a record has one.
_EXCLUSIVE: tuple[frozenset[str], ...] = (
    frozenset(("normal_axis", "left_axis_deviation", "right_axis_deviation")),
    frozenset(("normal_axis", "extreme_axis_deviation")),
    frozenset(("narrow_qrs", "wide_qrs")),
    frozenset(("lbbb", "rbbb")),
    frozenset(("lbbb", "incomplete_lbbb")),
    frozenset(("rbbb", "incomplete_rbbb")),
    frozenset(("normal_pr", "prolonged_pr")),
    frozenset(("av_block_1", "av_block_3")),
    frozenset(("normal_qtc", "long_qtc", "short_qtc")),
    frozenset(("regular_rhythm", "irregular_rhythm")),
    frozenset(("sinus_bradycardia", "sinus_tachycardia")),
    frozenset(("atrial_fibrillation", "atrial_flutter")),
    frozenset(("normal_ecg", "abnormal_ecg")),
    frozenset(("urgent", "not_urgent")),
)
_SINUS = ("sinus_rhythm", "sinus_bradycardia", "sinus_tachycardia", "sinus_arrhythmia")
#: Rhythms that leave no room for a sinus rhythm; runs of tachycardia and escape beats do.
_LASTING = ("atrial_fibrillation", "atrial_flutter", "junctional_rhythm", "ectopic_atrial_rhythm",
            "ventricular_fibrillation", "asystole")  # fmt: skip
#: Findings that need P waves, and quantities that are measured on them.
_ON_P_WAVES = (*_SINUS, "ectopic_atrial_rhythm", "normal_pr", "prolonged_pr", "av_block_1", "av_block_2_mobitz_1",
               "av_block_2_mobitz_2", "left_atrial_enlargement", "right_atrial_enlargement")  # fmt: skip
_P_QUANTITIES = frozenset(("pr", "p_duration", "p_amplitude", "axis_p"))
#: Findings with their own code that normal ECGs may have; those of lead III, aVR or V1 alone are no findings.
_VARIANTS = frozenset((*BENIGN, "early_repolarization", "irregular_rhythm"))
_NORMAL_LEADS = frozenset(("III", "aVR", "V1"))
#: Findings that are urgent whenever they are stated; others only with more than a text says (age, QTc beyond 500 ms).
ALWAYS_URGENT = ("ventricular_tachycardia", "ventricular_fibrillation", "torsades", "asystole", "pause",
                 "av_block_2_mobitz_2", "av_block_3")  # fmt: skip
_WIDE = ("rbbb", "lbbb", "ivcd")
_MI = ("mi_inferior", "mi_anterior", "mi_lateral", "mi_septal", "mi_posterior")


class Range(NamedTuple):
    """Values that go with a finding.

    Attributes:
        kind: Quantity.
        low: Lowest value.
        high: Highest value.
        sure: Lowest and highest value that alone make the finding, for any sex; None where more belongs to it.
    """

    kind: str
    low: float
    high: float
    sure: tuple[float, float] | None = None


def _defining(kind: str, low: float, high: float) -> Range:
    """Return the range of a finding that is nothing but its quantity."""
    return Range(kind, low, high, (low, high))


@cache
def ranges() -> dict[str, Range]:
    """Return the values that go with each finding, from the limits of its criterion.

    Where the limit depends on sex the wider range counts, since a text need not name the sex.
    """
    wide, narrow = limits("wide_qrs")["qrs"], limits("narrow_qrs")["qrs"]
    pr, qtc = limits("normal_pr"), limits("normal_qtc")
    slow, fast = limits("sinus_bradycardia")["rate"], limits("sinus_tachycardia")["rate"]
    long, short = limits("long_qtc"), limits("short_qtc")["high"]
    axes = {code: _defining("axis_qrs", limits(code)["low"], limits(code)["high"]) for code in _AXES}
    fascicles = {
        code: Range("axis_qrs", limits(code)["axis_low"], limits(code)["axis_high"]) for code in ("lafb", "lpfb")
    }
    rapid = ("supraventricular_tachycardia", "ventricular_tachycardia", "atrial_tachycardia")
    return {
        **axes,
        **fascicles,
        **{code: Range("heart_rate", fast, math.inf) for code in rapid},
        "narrow_qrs": _defining("qrs", 0, narrow),
        "wide_qrs": _defining("qrs", wide, math.inf),
        "normal_pr": _defining("pr", pr["low"], pr["high"]),
        "prolonged_pr": _defining("pr", pr["high"], math.inf),
        "av_block_1": Range("pr", limits("av_block_1")["pr"], math.inf),
        "normal_qtc": Range("qtc", qtc["low"], qtc["f"], (qtc["low"], qtc["m"])),
        "long_qtc": Range("qtc", long["m"], math.inf, (long["f"], math.inf)),
        "short_qtc": _defining("qtc", 0, short),
        "sinus_bradycardia": Range("heart_rate", 0, slow),
        "sinus_tachycardia": Range("heart_rate", fast, math.inf),
        "normal_ecg": Range("heart_rate", slow, fast),
        "asystole": Range("heart_rate", 0, 0),
    }


_AXES = ("normal_axis", "left_axis_deviation", "right_axis_deviation", "extreme_axis_deviation")
_ONE_VALUE = frozenset(("heart_rate", "pr", "qrs", "qt", "qtc", "axis_qrs", "st_level", "t_amplitude"))


class Conflict(NamedTuple):
    """Two claims of one text that exclude each other."""

    first: Claim
    second: Claim
    reason: str


class Fact(NamedTuple):
    """What a claim states or implies.

    Attributes:
        code: Finding.
        denied: It is absent.
        leads: Where; empty for the whole record.
    """

    code: str
    denied: bool = False
    leads: tuple[str, ...] = ()


def conflicts(claims: Sequence[Claim]) -> list[Conflict]:
    """Find contradictions inside a text: between findings, between finding and number, and between numbers.

    Args:
        claims: As ``extract`` returns them; hedged claims conflict with nothing.
    """
    firm = [claim for claim in claims if not claim.uncertain]
    found: dict[tuple[int, int], str] = {}
    stated: dict[tuple[str, int | None], list[tuple[int, Fact]]] = {}
    for i, claim in enumerate(firm):
        for fact in _facts(claim):
            stated.setdefault((fact.code, claim.beat), []).append((i, fact))
    for (code, _), entries in stated.items():
        for i, one in entries:
            for j, two in entries:
                if i != j and not one.denied and two.denied and _meet(one, two):
                    found.setdefault((min(i, j), max(i, j)), _reason(firm[min(i, j)], firm[max(i, j)], code))
    for pair, reason in _numbers(firm):
        found.setdefault(pair, reason)
    return [Conflict(firm[i], firm[j], reason) for (i, j), reason in sorted(found.items())]


def _meet(stated: Fact, denied: Fact) -> bool:
    """A denial of the record denies each lead; a denial of leads meets what is stated of one of them."""
    return not denied.leads or not set(denied.leads).isdisjoint(stated.leads)


def _reason(one: Claim, two: Claim, code: str) -> str:
    if one.finding == two.finding == code:
        return f"{code} is both stated and denied"
    return f"{_named(one)} and {_named(two)} exclude each other ({code})"


def _named(claim: Claim) -> str:
    """Return a claim as a short phrase."""
    where = f" in {', '.join(claim.leads)}" if claim.leads else ""
    if claim.kind == "finding":
        return f"{'no ' if claim.negated else ''}{claim.finding}{where}"
    numbers = [f"{value:g}" for value in (claim.value, claim.low, claim.high) if value is not None]
    return f"{claim.kind} {' to '.join(numbers)} {claim.unit}{where}"


# -- facts ---------------------------------------------------------------------------------------------------------


def _facts(claim: Claim) -> list[Fact]:
    """Return what a claim states, implies and excludes."""
    if claim.kind == "finding":
        code = str(claim.finding)
        if claim.negated:
            return [Fact(code, True, claim.leads)]
        return _closed([Fact(code, False, claim.leads)])
    if claim.negated:
        return []
    return _closed(_of_number(claim))


def _closed(facts: list[Fact]) -> list[Fact]:
    """Add what each stated fact implies and excludes."""
    closed = list(facts)
    for fact in closed:  # grows while it is read: a number implies a finding, which implies others
        if not fact.denied:
            normal = fact.code in _VARIANTS or (fact.leads and set(fact.leads) <= _NORMAL_LEADS)
            found = (Fact(name.lstrip("!"), name[0] == "!") for name in implied(fact.code))
            closed += [f for f in found if f not in closed and not (normal and f.code == "normal_ecg")]
    return closed


@cache
def implied(code: str) -> tuple[str, ...]:
    """Return the findings that one implies, and with ``!`` those that it excludes."""
    names = [f"!{other}" for group in _EXCLUSIVE if code in group for other in sorted(group - {code})]
    if code in _SINUS:
        names += [f"!{other}" for other in _LASTING]
    if code in _LASTING:
        names += [f"!{other}" for other in _SINUS]
    if code == "asystole":
        names += [f"!{other}" for other in _LASTING if other != code]
    if code in _ON_P_WAVES:
        names.append("!p_absent")
    if code == "atrial_fibrillation":
        names += ["p_absent", "!regular_rhythm"]
    if code in _WIDE:
        names.append("wide_qrs")
    if code in _MI:
        names.append("mi")
    if code in ALWAYS_URGENT:
        names.append("!not_urgent")
    if criteria()["findings"].get(code, {"abnormal": code not in _STATES}).get("abnormal", True):
        names.append("!normal_ecg")
    return tuple(names)


_STATES = frozenset(("urgent", "not_urgent", "normal_ecg"))  # statements about the whole, not findings


def _of_number(claim: Claim) -> list[Fact]:
    """Return the findings that a number means or excludes, beyond half its tolerance."""
    low = claim.value if claim.value is not None else claim.low if claim.low is not None else -math.inf
    high = claim.value if claim.value is not None else claim.high if claim.high is not None else math.inf
    facts = [Fact("p_absent", True)] if claim.kind in _P_QUANTITIES else []
    if claim.kind == "st_level":
        raised = limits("st_elevation")
        limit = raised["young_m"] if set(claim.leads) & {"V2", "V3"} else raised["other"]  # the highest for age and sex
        facts += [Fact("st_elevation", False, claim.leads)] if low >= limit else []
        facts += [Fact("st_depression", False, claim.leads)] if high <= -2 * limits("st_depression")["level"] else []
    elif claim.kind == "t_amplitude" and claim.leads and high <= -limits("t_inversion")["level"]:
        facts.append(Fact("t_inversion", False, claim.leads))
    if claim.leads or claim.beat is not None:
        return facts
    for code, known in ranges().items():
        if known.kind == claim.kind:
            near = low if math.isfinite(low) else high
            margin = default_tolerance(claim.kind, near).value / 2
            if high < known.low - margin or low > known.high + margin:
                facts.append(Fact(code, True))
            elif known.sure and low >= known.sure[0] + margin and high <= known.sure[1] - margin:
                facts.append(Fact(code))
    return facts


# -- numbers against numbers ---------------------------------------------------------------------------------------


def _numbers(firm: Sequence[Claim]) -> Iterable[tuple[tuple[int, int], str]]:
    """Find numbers of a text that exclude each other: two values of one, rate and RR, QT and QTc, QT and JT."""
    points = [(i, claim) for i, claim in enumerate(firm) if claim.value is not None]
    for (i, one), (j, two) in combinations(points, 2):
        if one.kind == two.kind:
            reason = _twice(one, two)
        elif {one.kind, two.kind} == {"heart_rate", "rr"} and one.beat is two.beat is None:
            rate, rr = (one, two) if one.kind == "heart_rate" else (two, one)
            reason = _rate_and_rr(float(rate.value or 0), float(rr.value or 0))
        else:
            continue
        if reason:
            yield (i, j), reason
    whole = {claim.kind: (i, float(claim.value or 0)) for i, claim in points if not claim.leads and claim.beat is None}
    for pair, reason in (_corrected(whole), _from_j(whole)):
        if reason:
            yield pair, reason


def _twice(one: Claim, two: Claim) -> str | None:
    if one.kind not in _ONE_VALUE or (set(one.leads), one.beat) != (set(two.leads), two.beat):
        return None
    gap = abs(float(one.value or 0) - float(two.value or 0))
    tolerance = default_tolerance(one.kind, float(one.value or 0)).value
    if one.negated != two.negated:
        return f"{_named(two)} is both stated and denied" if gap <= tolerance / 2 else None
    if gap > 2 * tolerance and not one.negated:
        return f"{one.kind} is stated as {one.value:g} and as {two.value:g} {one.unit}"
    return None


def _rate_and_rr(rate: float, rr: float) -> str | None:
    if not rate or not rr:
        return None
    rate_of_rr = 60000.0 / rr
    allowed = default_tolerance("heart_rate", rate).value + _RATE_SPREAD * rate
    if abs(rate_of_rr - rate) <= allowed:
        return None
    return f"an RR of {rr:g} ms is a rate of {rate_of_rr:.0f} bpm, but the text states {rate:g} bpm"


_RATE_SPREAD = 0.05  # a mean rate and one RR interval differ by the beat-to-beat variation of a regular rhythm
Found = tuple[tuple[int, int], str | None]


def _corrected(whole: dict[str, tuple[int, float]]) -> Found:
    """QTc against QT and rate: outside what any usual formula gives."""
    if not {"qt", "qtc"} <= whole.keys() or not {"heart_rate", "rr"} & whole.keys():
        return (0, 0), None
    (i, qt), (j, qtc) = whole["qt"], whole["qtc"]
    rate = whole["heart_rate"][1] if "heart_rate" in whole else 60000.0 / max(whole["rr"][1], 1.0)
    rr = 60.0 / max(rate, 1.0)
    formulas = (qt / rr**0.5, qt / rr ** (1 / 3), qt + 154 * (1 - rr), qt + 1.75 * (rate - 60))
    allowed = 2 * default_tolerance("qtc", qtc, 1000 * rr).value
    if min(formulas) - allowed <= qtc <= max(formulas) + allowed:
        return (min(i, j), max(i, j)), None
    return (min(i, j), max(i, j)), f"a QT of {qt:g} ms at {rate:.0f} bpm gives no QTc of {qtc:g} ms"


def _from_j(whole: dict[str, tuple[int, float]]) -> Found:
    """JT against QT less QRS."""
    if not {"qt", "qrs", "jt"} <= whole.keys():
        return (0, 0), None
    (i, qt), (j, jt) = whole["qt"], whole["jt"]
    wrong = abs(qt - whole["qrs"][1] - jt) > 2 * default_tolerance("jt", jt).value
    return (min(i, j), max(i, j)), f"QT less QRS is no JT of {jt:g} ms" if wrong else None
