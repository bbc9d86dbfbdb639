"""Chambers: atrial enlargement, ventricular hypertrophy, QRS voltage and R progression."""

from __future__ import annotations

from typing import Any

from gem_lightning.features.criteria.base import (
    CHEST,
    LIMB,
    TO_SCALE,
    Decision,
    Margin,
    Part,
    above,
    all_of,
    any_of,
    at_least,
    at_most,
    below,
    criterion,
    decided,
    downward,
    error,
    form,
    lead_criterion,
    lead_of,
    limits,
    met,
    reached,
    undecided,
    upward,
    value,
)
from gem_lightning.features.criteria.pacing import ABNORMAL_ACTIVATION, suspended
from gem_lightning.features.measurement.axes import s_depth
from gem_lightning.features.schema import EcgFeatures

ADULT = 18  # years; the voltage limits were found in adults


# -- atria ---------------------------------------------------------------------------------------------------------


def _atrium(features: EcgFeatures, margin: Margin, evidence: dict, **more: Any) -> Decision:
    """Build a decision on an atrium, whose P wave means what the criterion takes it for in sinus rhythm only."""
    if not met(features, "sinus_rhythm"):
        return undecided("the atria are decided in sinus rhythm only")
    return decided(margin, evidence, **more)


@criterion("left_atrial_enlargement")
def left_atrial_enlargement(features: EcgFeatures) -> Decision:
    """Decide on a long P wave or a large terminal force in V1; both make it probable."""
    rule, first, force = limits("left_atrial_enlargement"), lead_of(features, "V1"), terminal_force(features)
    long = at_least(features.p_ms, rule["p"], error("ms"))
    scale = error("mv") * value(first.p_ms) + error("ms") * abs(value(first.p_mv))  # errors of both factors
    large = at_least(force, rule["force"], scale) if force else form(False)
    late = first.p_form in ("biphasic", "inverted")
    both = reached(long) and (late or reached(large))
    evidence = {"p_ms": features.p_ms, "p_terminal_force_mv_ms": force or None}
    return _atrium(features, any_of(long, large), evidence, certainty="probable" if both else "possible")


def terminal_force(features: EcgFeatures) -> float:
    """Return depth times duration of the negative part of P in V1, mV ms: of the whole P wave, or half a biphasic one.

    0 where the P wave is not mainly negative.
    """
    first = lead_of(features, "V1")
    share = {"inverted": 1.0, "biphasic": 0.5}.get(first.p_form or "", 0.0)
    return max(-share * value(first.p_mv) * value(first.p_ms), 0.0)


@criterion("right_atrial_enlargement")
def right_atrial_enlargement(features: EcgFeatures) -> Decision:
    """Decide on a tall P wave in an inferior lead or over the right atrium."""
    rule = limits("right_atrial_enlargement")
    limit = dict.fromkeys(("II", "III", "aVF"), rule["p_ii"]) | dict.fromkeys(("V1", "V2"), rule["p_v1"])
    heights = {name: lead_of(features, name).p_mv for name in limit}
    margins = {name: above(heights[name], limit[name], error("mv")) for name in limit}
    tall = tuple(name for name, margin in margins.items() if reached(margin))
    known = {name: height for name, height in heights.items() if height is not None}
    shown = tall or tuple(sorted(known, key=lambda name: known[name], reverse=True)[:1])
    # a lead whose P wave is too small to be measured has no tall one
    margin = any_of(*(m for m in margins.values() if m is not None)) if known else None
    return _atrium(features, margin, {f"p_{n}_mv": known[n] for n in shown}, leads=tall, certainty="probable")


# -- ventricles ----------------------------------------------------------------------------------------------------


def romhilt_estes(features: EcgFeatures) -> tuple[int, bool]:
    """Return Romhilt and Estes' points (1968; 4 are probable hypertrophy), and whether more than voltage gave them.

    Without the point for an intrinsicoid deflection of 50 ms: that limit lies amid healthy values. 0 in a bundle block.
    """
    if met(features, "rbbb"):
        return 0, False
    leads = {name: lead_of(features, name) for name in (*LIMB, *CHEST)}
    voltage = max(max(upward(leads[n]), s_depth(leads[n])) for n in LIMB)
    chest = max(s_depth(leads["V1"]), s_depth(leads["V2"]), upward(leads["V5"]), upward(leads["V6"]))
    strain = any(value(leads[n].t_mv) < -0.1 and upward(leads[n]) >= 0.5 for n in ("V5", "V6"))
    angle = features.axis_deg.get("QRS")
    large = terminal_force(features) >= limits("left_atrial_enlargement")["force"]  # their sign of the atrium
    other = 3 * strain + 3 * large + 2 * (angle is not None and angle <= -30)
    points = 3 * (voltage >= 2.0 or chest >= 3.0) + other + (value(features.qrs_ms) >= 90)
    return points, other > 0


@criterion("lvh")
def lvh(features: EcgFeatures) -> Decision:
    """Decide on left ventricular hypertrophy by voltage (not in the young), its product with QRS, or points."""
    rule, sums, mv = limits("lvh"), features.voltages_mv, error("mv")
    sex = "f" if features.sex == "F" else "m"
    cornell, qrs = sums.get("cornell"), features.qrs_ms
    either = None if features.sex else (rule["cornell_f"], rule["cornell_m"])
    deepest = None if features.sex else (rule["peguero_f"], rule["peguero_m"])
    one, three = lead_of(features, "I"), lead_of(features, "III")
    measured = one.qrs_mv is not None and three.qrs_mv is not None
    lewis = upward(one) + s_depth(three) - s_depth(one) - upward(three) if measured else None
    (points, other), sokolow = romhilt_estes(features), sums.get("sokolow_lyon")
    # one reading an amplitude that goes into a sum
    margins = {
        "sokolow_lyon_mv": (sokolow, at_least(sokolow, rule["sokolow"], 2 * mv)),
        "r_avl_mv": (sums.get("sokolow_lyon_avl"), above(sums.get("sokolow_lyon_avl"), rule["avl"], mv)),
        "cornell_mv": (cornell, above(cornell, rule[f"cornell_{sex}"], 2 * mv, either)),
        "cornell_product_mv_ms": _product(features, cornell, qrs),
        "lewis_mv": (lewis, at_least(lewis, rule["lewis"], 4 * mv)),
        "peguero_mv": (sums.get("peguero"), at_least(sums.get("peguero"), rule[f"peguero_{sex}"], 2 * mv, deepest)),
        "romhilt_estes_points": (float(points), at_least(points, rule["points"], error("points"))),
    }
    over = {name: number for name, (number, margin) in margins.items() if reached(margin)}
    shown = over or {name: margins[name][0] for name in ("sokolow_lyon_mv", "cornell_mv")}
    beyond = other and "romhilt_estes_points" in over  # strain, P waves or the axis, which are not voltage
    margin = any_of(*(margin for _, margin in margins.values()))
    sure = "probable" if beyond and len(over) > 1 else "possible"
    return _lvh_open(features, {} if beyond else over) or decided(margin, shown, certainty=sure)


def _lvh_open(features: EcgFeatures, voltage: dict[str, Any]) -> Decision | None:
    """Return an open decision where the criteria do not hold for the patient; ``voltage`` is all that meets them."""
    suspends = suspended(features, *ABNORMAL_ACTIVATION, "extreme_axis_deviation")
    if suspends is not None:
        return suspends
    if value(features.axis_deg.get("QRS")) > limits("rvh")["axis"] and not met(features, "rbbb"):
        return undecided("the axis points to the right ventricle, whose voltages the criteria would take for the left")
    if features.age is not None and features.age < ADULT:
        return undecided(f"the voltage criteria are made for adults, and the patient is {features.age:g}")
    least = limits("lvh")["age"]
    if voltage and features.age is not None and features.age < least:
        return undecided(f"voltage alone, which below {least} years is common in the healthy", voltage)
    return None


def _product(features: EcgFeatures, cornell: Margin, qrs: Margin) -> tuple[Margin, Margin]:
    """Return the Cornell product, mV ms, and its margin; women have 0.6 mV added (Molloy 1992)."""
    # the product takes a long QRS for muscle, which in a bundle branch block it is not
    if cornell is None or qrs is None or met(features, "rbbb"):
        return None, form(False)
    limit, plus = limits("lvh")["product"], 0.6 * qrs
    scale = 2 * error("mv") * qrs + cornell * error("ms")  # errors of both factors
    product = cornell * qrs + (plus if features.sex == "F" else 0.0)
    either = None if features.sex else (limit - plus, limit)
    return product, above(product, limit, scale, either)


@criterion("rvh")
def rvh(features: EcgFeatures) -> Decision:
    """Decide on right ventricular hypertrophy: a dominant R in V1 or its sum with S laterally, and a right axis."""
    rule, first, angle = limits("rvh"), lead_of(features, "V1"), features.axis_deg.get("QRS")
    height = upward(first) if first.qrs_mv is not None else None
    total = features.voltages_mv.get("rvh")
    dominant = all_of(at_least(height, rule["r_v1"], error("mv")), above(height, s_depth(first), error("mv")))
    tall = any_of(dominant, above(total, rule["sum"], 2 * error("mv")))
    margin = all_of(tall, above(angle, rule["axis"], error("deg")))
    evidence = {"r_v1_mv": height, "rvh_sum_mv": total, "qrs_axis_deg": angle}
    return suspended(features, *ABNORMAL_ACTIVATION, "rbbb") or decided(margin, evidence, certainty="probable")


# -- voltage and progression ---------------------------------------------------------------------------------------


@lead_criterion("low_voltage")
def low_voltage_in(features: EcgFeatures, name: str) -> Decision:
    """Decide on a small QRS complex in one lead."""
    rule, size = limits("low_voltage"), lead_of(features, name).qrs_mv
    small = below(size, rule["limb" if name in LIMB else "chest"], error("mv"))
    return decided(small, {f"qrs_{name}_mv": size}, reason=f"the QRS of lead {name} was not measured")


@criterion("low_voltage")
def low_voltage(features: EcgFeatures) -> Decision:
    """Decide on small QRS complexes in all limb or all precordial leads."""
    if value(features.scale_error) > TO_SCALE:
        return undecided("the limb leads are not to one scale")
    parts, margins = [], []
    largest: dict[str, float | None] = {}
    for group, names in (("limb", LIMB), ("precordial", CHEST)):
        sizes = [lead_of(features, name).qrs_mv for name in names]
        margin = all_of(*(low_voltage_in(features, name).margin for name in names))
        evidence = {f"largest_{group}_mv": max((s for s in sizes if s is not None), default=None)}
        margins.append(margin)
        largest |= evidence
        if reached(margin):
            parts.append(Part(f"low QRS voltage in {group} leads", names, evidence))
    leads = tuple(name for part in parts for name in part.leads)
    decision = decided(any_of(*margins), largest, leads=leads, parts=tuple(parts))
    return (suspended(features, "lvh") if decision.met else None) or decision


@criterion("poor_r_progression")
def poor_r_progression(features: EcgFeatures) -> Decision:
    """Decide on R waves that fail to grow across the chest."""
    third, limit = lead_of(features, "V3"), limits("poor_r_progression")["r_v3"]
    height = None if third.qrs_mv is None else value(third.r_mv)
    margin = all_of(
        at_most(height, limit, error("mv")),
        None if height is None else above(downward(third), upward(third), error("mv")),
    )
    # each of these makes R small in V3 by itself
    open_ = suspended(features, *ABNORMAL_ACTIVATION, "rvh", "lafb", "low_voltage")
    evidence = {"r_v3_mv": height, "transition": features.transition}
    return open_ or decided(margin, evidence, leads=("V1", "V2", "V3"))
