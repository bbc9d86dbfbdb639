"""Ischaemia and infarction: ST deviation, reciprocal change, Q waves and infarcts by territory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial, wraps
from typing import Any

from gem_lightning.features.criteria.base import (
    CHEST,
    FORM,
    LIMB,
    Decision,
    Margin,
    Part,
    all_of,
    any_of,
    at_least,
    at_most,
    count_of,
    criteria,
    criterion,
    decide,
    decided,
    error,
    form,
    lead_criterion,
    lead_of,
    level_of,
    limits,
    met,
    missed,
    reached,
    remembered,
    undecided,
    upward,
)
from gem_lightning.features.criteria.pacing import ABNORMAL_ACTIVATION, SECONDARY, active, suspended
from gem_lightning.features.schema import EcgFeatures

# Neighbours on the chest that belong to two territories; on their own they count as anterior.
BORDERS = {("V2", "V3"): {"septal", "anterior"}, ("V4", "V5"): {"anterior", "lateral"}}
TERRITORIES = tuple(criteria()["territories"])


def contiguous(margin_of: Callable[[str], Margin], count: int) -> tuple[Margin, dict[str, tuple[str, ...]]]:
    """Decide in how many neighbouring leads something shows; chest leads also count across a border.

    Args:
        margin_of: Margin in one lead by its name.
        count: Leads of one territory that are needed.

    Returns:
        The margin of the clearest territory, and every territory that qualifies with its leads.
    """
    margins = {name: margin_of(name) for names in criteria()["territories"].values() for name in names}
    shows = {name for name, margin in margins.items() if reached(margin)}
    found, every = {}, []
    for territory, names in criteria()["territories"].items():
        every.append(count_of((margins[n] for n in names), count))
        leads = tuple(n for n in names if n in shows)
        if len(leads) >= count:
            found[territory] = leads
    for pair, sides in BORDERS.items():
        every.append(all_of(*(margins[n] for n in pair)))
        if not sides & set(found) and shows.issuperset(pair):
            found["anterior"] = pair
    return any_of(*every), _with_neighbours(found, shows)


def _with_neighbours(found: dict[str, tuple[str, ...]], shows: set[str]) -> dict[str, tuple[str, ...]]:
    """Add to each territory the chest leads next to its own that show the same and belong to no territory found."""
    free = [name for name in CHEST if name in shows and not any(name in leads for leads in found.values())]
    grown = dict(found)
    for name in (*free, *reversed(free)):  # both ways, so that a row of leads grows from either end
        at = CHEST.index(name)
        beside = set(CHEST[max(0, at - 1) : at + 2])
        home = next((territory for territory, leads in grown.items() if beside & set(leads)), None)
        if home is not None and name not in grown[home]:
            grown[home] = tuple(lead for lead in (*LIMB, *CHEST) if lead in (*grown[home], name))
    return grown


def by_territory(
    features: EcgFeatures,
    margin: Margin,
    found: Mapping[str, tuple[str, ...]],
    in_lead: Callable[[str], Decision],
    statement: str,
    **more: Any,
) -> Decision:
    """Build a decision with one part for each territory that :func:`contiguous` returned, with its leads' evidence.

    The evidence names what abnormal activation or hypertrophy the change may be secondary to.
    """
    cause = active(features, *SECONDARY, "lvh")
    named = {"secondary_to": criteria()["findings"][cause]["statement"]} if cause else {}
    parts = tuple(
        Part(f"{statement} in {territory} leads {', '.join(leads)}", leads, merged(in_lead, leads) | named)
        for territory, leads in found.items()
    )
    leads = tuple(lead for part in parts for lead in part.leads)
    return decided(margin, merged(in_lead, leads), leads=leads, parts=parts, **more)


def merged(in_lead: Callable[[str], Decision], leads: tuple[str, ...]) -> dict[str, Any]:
    """Return the evidence of several leads, their first values first; all leads have as many."""
    return dict(pair for column in zip(*(in_lead(lead).evidence.items() for lead in leads)) for pair in column)


def secondary(features: EcgFeatures) -> str:
    """Return the certainty of ST-T findings: abnormal depolarisation alone can cause them."""
    return "possible" if active(features, *SECONDARY) else "definite"


def in_flutter(function: Callable[[EcgFeatures, str], Decision]) -> Callable[[EcgFeatures, str], Decision]:
    """Leave Q, ST and T of a lead open in atrial flutter, whose waves run through all three."""

    @wraps(function)
    def open_in_flutter(features: EcgFeatures, name: str) -> Decision:
        return suspended(features, "atrial_flutter") or function(features, name)

    return open_in_flutter


# -- ST segment ----------------------------------------------------------------------------------------------------


def st_limits(features: EcgFeatures, name: str) -> tuple[float, tuple[float, float] | None]:
    """Return the ST elevation limit of a lead for the patient, mV, and the range of limits where age or sex is unknown.

    Of an unknown patient the limit of a man of 40 or more is used.
    """
    rule = limits("st_elevation")
    if name not in ("V2", "V3"):
        return rule["other"], None
    if features.sex == "F":
        return rule["f"], None
    ages = {None: ("young_m", "old_m"), True: ("young_m",), False: ("old_m",)}
    men = [rule[key] for key in ages[None if features.age is None else features.age < rule["age"]]]
    every = men if features.sex == "M" else [*men, rule["f"]]
    return men[-1], None if len(every) == 1 else (min(every), max(every))


@lead_criterion("st_elevation")
@in_flutter
def st_elevation_in(features: EcgFeatures, name: str) -> Decision:
    """Decide on ST elevation in one lead, at the J point."""
    level, (limit, possible) = level_of(features, name), st_limits(features, name)
    margin = at_least(level, limit, error("mv"), possible)
    return decided(margin, {f"st_j_{name}_mv": level}, reason=f"the ST level of lead {name} was not measured")


@lead_criterion("st_depression")
@in_flutter
def st_depression_in(features: EcgFeatures, name: str) -> Decision:
    """Decide on ST depression in one lead; an upsloping one is left open, since the source leaves it out."""
    limit = -limits("st_depression")["level"]
    level = level_of(features, name)
    margins = [at_most(level_of(features, name, point), limit, error("mv")) for point in ("J", "J80")]
    evidence = {f"st_j_{name}_mv": level}
    margin = all_of(*margins)
    if reached(margins[0]) and not reached(margin):
        return undecided(f"the depressed J point of lead {name} is followed by an upsloping ST segment", evidence)
    return decided(margin, evidence, reason=f"the ST level of lead {name} was not measured")


@remembered
def raised(features: EcgFeatures) -> tuple[Margin, dict[str, tuple[str, ...]]]:
    """Decide in which territories the ST segment is elevated; aVR, opposite to most other leads, does not count."""
    return contiguous(lambda n: st_elevation_in(features, n).margin, limits("st_elevation")["leads"])


@criterion("st_elevation")
def st_elevation(features: EcgFeatures) -> Decision:
    """Decide on ST elevation in contiguous leads."""
    margin, found = raised(features)
    return by_territory(
        features, margin, found, partial(st_elevation_in, features), "ST elevation", certainty=secondary(features)
    )


@criterion("st_depression")
def st_depression(features: EcgFeatures) -> Decision:
    """Decide on ST depression in contiguous leads; one lead opposite to an elevation leaves it open."""
    margin, found = contiguous(lambda n: st_depression_in(features, n).margin, limits("st_depression")["leads"])
    if missed(margin) and met(features, "reciprocal_change"):
        return undecided("ST depression is reciprocal, in less than two contiguous leads")
    return by_territory(
        features, margin, found, partial(st_depression_in, features), "ST depression", certainty=secondary(features)
    )


def _mirrors(features: EcgFeatures) -> dict[str, dict[str, Decision]]:
    """Return the ST depression of the leads opposite to each territory with ST elevation."""
    opposite = criteria()["reciprocal"]
    return {t: {n: st_depression_in(features, n) for n in opposite[t]} for t in raised(features)[1]}


@criterion("reciprocal_change")
def reciprocal_change(features: EcgFeatures) -> Decision:
    """Decide on ST depression opposite to an ST elevation."""
    mirrors = _mirrors(features)
    margins = [decision.margin for leads in mirrors.values() for decision in leads.values()]
    parts = []
    for territory, leads in mirrors.items():
        shown = tuple(name for name, decision in leads.items() if decision.met)
        if shown:
            text = f"reciprocal ST depression in the leads opposite to {territory}: {', '.join(shown)}"
            parts.append(Part(text, shown, {k: v for n in shown for k, v in leads[n].evidence.items()}))
    every = tuple(dict.fromkeys(name for part in parts for name in part.leads))
    evidence = {key: number for part in parts for key, number in part.evidence.items()}
    margin = all_of(decide("st_elevation", features).margin, any_of(*margins) if margins else -FORM)
    return decided(margin, evidence, leads=every, parts=tuple(parts), certainty="probable")


# -- Q waves and infarction ----------------------------------------------------------------------------------------


@lead_criterion("pathological_q")
@in_flutter
def pathological_q_in(features: EcgFeatures, name: str) -> Decision:
    """Decide on a pathological Q wave in one lead; the source's groups of leads leave out aVR.

    A shorter one counts where the T wave of the lead is inverted too, unless it is as small as a healthy septum's.
    """
    rule, lead = limits("pathological_q"), lead_of(features, name)
    evidence = {f"q_{name}_ms": lead.q_ms, f"q_{name}_mv": lead.q_mv}
    if lead.qrs_form is None and lead.qrs_mv is None and not lead.q_mv:
        return undecided(f"the QRS complex of lead {name} was not measured")
    if lead.qrs_form == "QS" and name != "aVR":
        return decided(FORM, evidence)
    if not lead.q_mv or not lead.q_ms:
        return decided(-FORM, evidence)
    if name == "aVR":
        return undecided("the criterion leaves out the Q wave of lead aVR", evidence)
    if name in ("V2", "V3"):
        return decided(at_least(lead.q_ms, rule["v23"], error("ms")), evidence)
    septal = lead.q_mv < rule["share"] * upward(lead)
    shortest = rule["minor"] if decide("t_inversion", features, (name,)).met and not septal else rule["ms"]
    long, deep = at_least(lead.q_ms, shortest, error("ms")), at_least(lead.q_mv, rule["mv"], error("mv"))
    return decided(all_of(long, deep), evidence)


@criterion("pathological_q")
def pathological_q(features: EcgFeatures) -> Decision:
    """Decide on pathological Q waves in contiguous leads."""
    margin, found = contiguous(lambda n: pathological_q_in(features, n).margin, limits("pathological_q")["leads"])
    decision = by_territory(features, margin, found, partial(pathological_q_in, features), "pathological Q waves")
    return suspended(features, *ABNORMAL_ACTIVATION) or decision


def _alone(features: EcgFeatures, leads: tuple[str, ...]) -> Margin:
    """Decide on an anterior ST elevation so high that it needs no mirror image to be an infarct's."""
    rule = limits("mi_anterior")
    return count_of((at_least(level_of(features, n), rule["alone"], error("mv")) for n in leads), rule["leads"])


def _infarct(features: EcgFeatures, territory: str) -> Decision:
    """Decide on an infarct from Q waves, or from ST elevation with the reciprocal change of this territory."""
    open_ = suspended(features, *ABNORMAL_ACTIVATION)
    if open_ is not None:
        return open_
    q, st = decide("pathological_q", features), decide("st_elevation", features)
    named = f" in {territory} leads"
    mirror = any_of(*(d.margin for d in _mirrors(features).get(territory, {}).values()))
    mirrored = reached(mirror)
    q_leads = next((part.leads for part in q.parts if named in part.statement), ())
    st_leads = next((part.leads for part in st.parts if named in part.statement), ())
    alone = _alone(features, ("V2", "V3", "V4")) if territory == "anterior" and st_leads else None
    high = reached(alone)
    if q_leads:
        # likelier where ST or T is abnormal in the same leads (universal definition, prior infarction)
        changed = [n for n in q_leads if decide("t_inversion", features, (n,)).met or st_elevation_in(features, n).met]
        thick = decide("lvh", features)  # has Q waves and ST-T changes of its own
        strain = thick.met and thick.certainty != "possible"
        enough = len(changed) >= limits("pathological_q")["leads"] and not strain
        certainty = "probable" if st_leads or enough else "possible"
        acute = bool(st_leads) and (mirrored or high)
        return decided(q.margin, {"q_leads": list(q_leads)}, leads=q_leads, certainty=certainty, urgent=acute)
    if st_leads and (mirrored or high):
        margin = all_of(st.margin, any_of(mirror, alone))
        # the voltage of a thick ventricle raises ST in proportion (Hancock, part V)
        sure = "possible" if met(features, "lvh") and not mirrored else "probable"
        return decided(margin, {"st_elevation_leads": list(st_leads)}, leads=st_leads, certainty=sure)
    signs = {*q.leads, *st.leads} & set(criteria()["territories"][territory])
    if signs or q.met is None or st.met is None:
        return undecided(
            f"Q waves or ST elevation in {territory} leads do not decide it" if signs else q.reason or st.reason
        )
    return decided(form(False), {})


def _register(territory: str) -> None:
    @criterion(f"mi_{territory}")
    def infarct(features: EcgFeatures) -> Decision:
        return _infarct(features, territory)


for _territory in TERRITORIES:
    _register(_territory)
