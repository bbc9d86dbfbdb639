"""Decisions on clinical criteria: the criteria file, margins and their logic, and the lookup of every criterion.

A margin is the distance of a measurement from its limit in units of the measurement's own error (``errors`` of
``criteria.yaml``). It is 0 or more where the criterion is met, and of at least 1 on either side where repeating the
measurement would not change the decision. None stands for "not decidable", and combines by Kleene's three-valued logic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache, wraps
from importlib import resources
from typing import Any, NamedTuple

from gem_lightning.features.schema import STIMULI, EcgFeatures, LeadFeatures

LIMB = ("I", "II", "III", "aVR", "aVL", "aVF")
CHEST = ("V1", "V2", "V3", "V4", "V5", "V6")
# A form read off the deflections (QS, a delta wave) has no distance; it counts as just clear, so that a number that is
# nearer to its limit decides how sure a criterion of both is.
FORM = 1.0
TINY = 1e-9  # margin of a value that lies on a limit which it has to exceed
UNTRUSTED = LeadFeatures(trust=0.0)

Margin = float | None


class Part(NamedTuple):
    """One place where a finding was found; each becomes a finding of its own.

    Attributes:
        statement: Text for this place; empty where the criterion's own statement fits.
        leads: Leads concerned.
        evidence: Measured values by name, with units in the names.
    """

    statement: str
    leads: tuple[str, ...]
    evidence: Mapping[str, Any]


class Decision(NamedTuple):
    """The outcome of one criterion on one record.

    Attributes:
        met: True or False; None where it cannot be decided.
        margin: Distance from the limit in units of the measurement's error, 0 or more where met; None where undecided.
        evidence: Measured values by name, with units in the names.
        leads: Leads concerned; empty for the whole record.
        certainty: ``definite``, ``probable`` or ``possible``, of a criterion that is met.
        parts: One entry per territory; empty where the decision is one finding.
        reason: Why it is undecided.
        urgent: Meets what ``criteria.yaml`` demands of an urgent finding, where the criterion has such an entry.
    """

    met: bool | None
    margin: Margin = None
    evidence: Mapping[str, Any] = {}
    leads: tuple[str, ...] = ()
    certainty: str = "definite"
    parts: tuple[Part, ...] = ()
    reason: str = ""
    urgent: bool = True

    @property
    def clear(self) -> bool:
        """Whether the measurement lies at least its error away from the limit, and the criterion is no mere hint."""
        return self.margin is not None and abs(self.margin) >= 1.0 and self.certainty != "possible"


# -- the criteria file ---------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def criteria() -> dict[str, Any]:
    """Load ``criteria.yaml`` once: ``sources``, ``errors``, ``territories``, ``reciprocal`` and ``findings``."""
    import yaml

    text = resources.files("gem_lightning.features.criteria").joinpath("criteria.yaml").read_text(encoding="utf-8")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.load(text, Loader=loader)


def limits(code: str) -> dict[str, Any]:
    """Return the numbers of one criterion."""
    return criteria()["findings"][code]["limits"]


def error(quantity: str) -> float:
    """Return the measurement error of a quantity, in its unit."""
    return criteria()["errors"][quantity]


@lru_cache(maxsize=256)
def wording(code: str) -> tuple[str, str]:
    """Return the criterion of a finding with its numbers, and its sources with the limits that this library set."""
    entry = criteria()["findings"][code]
    keys = entry["source"] if isinstance(entry["source"], list) else [entry["source"]]
    text = "; ".join(criteria()["sources"][key] for key in keys)
    own = f"; set by this library: {', '.join(entry['ours'])}" if "ours" in entry else ""
    return entry["threshold"].format(**entry["limits"]), text + own


# -- margins -------------------------------------------------------------------------------------------------------


def at_least(value: Margin, limit: float, scale: float, possible: tuple[float, float] | None = None) -> Margin:
    """Return the margin of a value that has to reach a limit.

    Args:
        value: Measured value; None or NaN where there is none.
        limit: In the unit of the value.
        scale: Measurement error in the same unit.
        possible: Lowest and highest limit for any age and sex that the patient may have, where these are unknown and
            the limit depends on them; what another limit would decide otherwise keeps a margin below 1.
    """
    if value is None or value != value:
        return None
    if possible is None:
        return (value - limit) / scale
    if value >= limit:
        return max((value - possible[1]) / scale, 0.0)
    return min((value - possible[0]) / scale, -TINY)


def above(value: Margin, limit: float, scale: float, possible: tuple[float, float] | None = None) -> Margin:
    """Return the margin of a value that has to exceed a limit; arguments as :func:`at_least`."""
    return -TINY if value == limit else at_least(value, limit, scale, possible)


def at_most(value: Margin, limit: float, scale: float) -> Margin:
    """Return the margin of a value that must not exceed a limit."""
    return None if value is None else at_least(-value, -limit, scale)


def below(value: Margin, limit: float, scale: float) -> Margin:
    """Return the margin of a value that has to stay below a limit."""
    return None if value is None else above(-value, -limit, scale)


def form(shown: bool) -> Margin:
    """Return the margin of a form that is there or not."""
    return FORM if shown else -FORM


def reached(margin: Margin) -> bool:
    """Return whether a margin is that of a criterion that is met."""
    return margin is not None and margin >= 0


def missed(margin: Margin) -> bool:
    """Return whether a margin is that of a criterion that is not met; neither holds of an undecided one."""
    return margin is not None and margin < 0


def just_missed(margin: Margin, within: float) -> bool:
    """Return whether a margin misses by less than so many measurement errors."""
    return margin is not None and -within < margin < 0


def negated(margin: Margin) -> Margin:
    """Return the margin of the opposite; a value on the limit stays on one side only."""
    return None if margin is None else -margin if margin else -TINY


def all_of(*margins: Margin) -> Margin:
    """Return the margin of a conjunction: missed if any is missed, else undecided if any is."""
    known = [m for m in margins if m is not None]
    least = min(known, default=None)
    return least if len(known) == len(margins) or missed(least) else None


def any_of(*margins: Margin) -> Margin:
    """Return the margin of a disjunction: met if any is met, else undecided if any is."""
    known = [m for m in margins if m is not None]
    most = max(known, default=None)
    return most if len(known) == len(margins) or reached(most) else None


def count_of(margins: Iterable[Margin], count: int) -> Margin:
    """Return the margin of "at least ``count`` of these"."""
    every = list(margins)
    known = sorted((m for m in every if m is not None), reverse=True)
    if len(every) < count:
        return -FORM
    if len(known) >= count and known[count - 1] >= 0:
        return known[count - 1]
    needed = count - (len(every) - len(known))  # of the known ones, should every undecided one be met
    return known[needed - 1] if needed > 0 and known[needed - 1] < 0 else None


# -- one record ----------------------------------------------------------------------------------------------------


def value(number: float | None) -> float:
    """Return a number for arithmetic: 0 where absent."""
    return number or 0.0


def lead_of(features: EcgFeatures, name: str) -> LeadFeatures:
    """Return one lead's summary; an empty one where the record lacks the lead or it cannot be trusted."""
    lead = features.leads.get(name)
    return lead if lead is not None and lead.trust > 0 else UNTRUSTED


def level_of(features: EcgFeatures, name: str, point: str = "J") -> float | None:
    """Return the ST level of a lead at J, J40, J60 or J80, mV; None where it was not measured or cannot be trusted."""
    return features.st_mv.get(name, {}).get(point) if lead_of(features, name).trust > 0 else None


def upward(lead: LeadFeatures) -> float:
    """Return the tallest upward deflection of the QRS, mV."""
    return max(value(lead.r_mv), value(lead.r2_mv))


def downward(lead: LeadFeatures) -> float:
    """Return the deepest downward deflection of the QRS, mV."""
    return max(value(lead.s_mv), value(lead.q_mv))


def decided(margin: Margin, evidence: Mapping[str, Any], certainty: str = "definite", **more: Any) -> Decision:
    """Build a decision from a margin; ``certainty`` is that of a criterion that is met, ``more`` are further fields."""
    met = None if margin is None else reached(margin)
    return Decision(met, margin, evidence, certainty=certainty if met else "definite", **more)


def undecided(reason: str, evidence: Mapping[str, Any] | None = None) -> Decision:
    """Build a decision that is open for a reason."""
    return Decision(None, None, evidence or {}, reason=reason)


# -- lookup --------------------------------------------------------------------------------------------------------

Criterion = Callable[[EcgFeatures], Decision]
LeadCriterion = Callable[[EcgFeatures, str], Decision]
_CRITERIA: dict[str, Criterion] = {}
_LEAD_CRITERIA: dict[str, LeadCriterion] = {}
TO_SCALE = 0.05  # limb leads whose QRS complexes miss each other's sums by more (features.scale_error) are not to scale


def criterion(*codes: str) -> Callable[[Criterion], Criterion]:
    """Register the function that decides a finding in the whole record."""

    def register(function: Criterion) -> Criterion:
        _CRITERIA.update(dict.fromkeys(codes, function))
        return function

    return register


def lead_criterion(code: str) -> Callable[[LeadCriterion], LeadCriterion]:
    """Register the function that decides a finding in one lead."""

    def register(function: LeadCriterion) -> LeadCriterion:
        _LEAD_CRITERIA[code] = function
        return function

    return register


def codes() -> tuple[str, ...]:
    """Return every code that has a criterion, in the order of the criteria file, derived ones last."""
    listed = [code for code in criteria()["findings"] if code in _CRITERIA]
    return (*listed, *(code for code in _CRITERIA if code not in listed))


def by_lead(code: str) -> bool:
    """Return whether a finding can be decided lead by lead."""
    return code in _LEAD_CRITERIA


def decide(code: str, features: EcgFeatures, leads: Iterable[str] | None = None) -> Decision:
    """Decide one criterion; decisions on the whole record are kept with the features.

    Args:
        code: Finding code.
        features: Measurements, with age and sex; :func:`refresh` has seen them since they were changed last.
        leads: Decide in each of these leads instead, where the criterion allows it; all have to meet it.

    Returns:
        The decision; undecided for a code without a criterion and for a record without beats.
    """
    kept = features.__dict__.get("_decisions")
    if kept is None:
        kept = refresh(features)
    if leads and code in _LEAD_CRITERIA and len(features.beats):
        return _in_leads(code, features, tuple(leads))
    decision = kept.get(code)
    if decision is None:
        kept[code] = decision = _decide(code, features)
    return decision


def _decide(code: str, features: EcgFeatures) -> Decision:
    if not len(features.beats):
        return undecided(features.reason or "no beats were found in this record")
    function = _CRITERIA.get(code)
    return _in_doubt(code, features, function(features)) if function else undecided("no criterion for this finding")


def refresh(features: EcgFeatures) -> dict[str, Decision]:
    """Drop the decisions kept with the features if a measurement was changed in place; return those that hold."""
    beats = features.beats
    state = (
        [tuple(levels.values()) for levels in features.st_mv.values()],
        [*features.qtc_ms.values(), *features.axis_deg.values(), *features.voltages_mv.values()],
        [*features.leads.values()],
        beats.beat_class.tolist(),
        [beats.whole[name].tobytes() for name in ("rr_ms", "pr_ms", *STIMULI) if name in beats.whole],
        [column.tobytes() for name, column in beats.by_lead.items() if name in ("p_mv", "t_mv")],
    )
    if features.__dict__.get("_decided_on") != state:
        for name, content in (("_decided_on", state), ("_decisions", {})):
            object.__setattr__(features, name, content)  # the class is frozen; these are no fields of it
    return features.__dict__["_decisions"]


def remembered(function: Callable[[EcgFeatures], Any]) -> Callable[[EcgFeatures], Any]:
    """Keep what several criteria need with the decisions of the features, so that it is computed once."""

    @wraps(function)
    def once(features: EcgFeatures) -> Any:
        kept: dict[Any, Any] = features.__dict__.get("_decisions")  # type: ignore[assignment]
        if kept is None:
            kept = refresh(features)
        if function not in kept:
            kept[function] = function(features)
        return kept[function]

    return once


def met(features: EcgFeatures, *codes: str) -> bool:
    """Return whether any of these criteria is met."""
    return any(decide(code, features).met for code in codes)


def without(features: EcgFeatures, *codes: str) -> Margin:
    """Return the margin of none of these being stated; an undecided one is not stated."""
    margins = [d.margin for code in codes if (d := decide(code, features)).margin is not None]
    return negated(max(margins)) if margins else FORM


def _in_leads(code: str, features: EcgFeatures, leads: tuple[str, ...]) -> Decision:
    decisions = [
        _LEAD_CRITERIA[code](features, name)
        if lead_of(features, name).trust > 0
        else undecided(f"lead {name} cannot be measured for this finding")
        for name in leads
    ]
    if len(decisions) == 1:
        return decisions[0]._replace(leads=leads)
    margin = all_of(*(decision.margin for decision in decisions))
    evidence = {name: number for decision in decisions for name, number in decision.evidence.items()}
    reason = "" if margin is not None else next(d.reason for d in decisions if d.met is None)
    return decided(margin, evidence, leads=leads, reason=reason)


#: Findings that put in doubt what the leads' voltages mean.
_DOUBTFUL = {
    "electrode_misplacement": "arm electrodes seem exchanged",
    "dextrocardia": "the leads look at a heart on the right from the left",
}


def _in_doubt(code: str, features: EcgFeatures, decision: Decision) -> Decision:
    """Lower the certainty of what amplitudes decide where leads are not to scale or not in their usual places."""
    entry = criteria()["findings"].get(code, {})
    if not entry.get("voltage") or not decision.met:
        return decision
    doubt: dict[str, Any] = {}
    if value(features.scale_error) > TO_SCALE:
        doubt["limb_leads_scale_error"] = features.scale_error
    for code, reason in _DOUBTFUL.items():
        if met(features, code):
            doubt["electrodes"] = reason
    if not doubt:
        return decision
    parts = tuple(part._replace(evidence={**part.evidence, **doubt}) for part in decision.parts)
    return decision._replace(certainty="possible", evidence={**decision.evidence, **doubt}, parts=parts)
