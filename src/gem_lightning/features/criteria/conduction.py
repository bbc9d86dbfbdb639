"""Intraventricular conduction, frontal axis and QRS duration."""

from __future__ import annotations

from typing import Any

from gem_lightning.features.criteria.base import (
    Decision,
    Margin,
    above,
    all_of,
    any_of,
    at_least,
    at_most,
    below,
    criterion,
    decide,
    decided,
    downward,
    error,
    form,
    lead_criterion,
    lead_of,
    limits,
    met,
    missed,
    negated,
    reached,
    remembered,
    undecided,
    upward,
    value,
    without,
)
from gem_lightning.features.criteria.pacing import suspended
from gem_lightning.features.schema import EcgFeatures, LeadFeatures

# -- frontal axis --------------------------------------------------------------------------------------------------


def _axis(features: EcgFeatures, margin: Margin) -> Decision:
    # the axis of paced complexes depends on where the electrode lies
    return suspended(features, "paced_rhythm") or decided(margin, {"qrs_axis_deg": features.axis_deg.get("QRS")})


def _turned(features: EcgFeatures) -> float | None:
    """Return the QRS axis in [0, 360), where right and extreme deviation adjoin at 180 degrees."""
    angle = features.axis_deg.get("QRS")
    return None if angle is None else angle % 360


@criterion("normal_axis")
def normal_axis(features: EcgFeatures) -> Decision:
    """Decide on an axis within the limits."""
    rule, angle, scale = limits("normal_axis"), features.axis_deg.get("QRS"), error("deg")
    return _axis(features, all_of(at_least(angle, rule["low"], scale), at_most(angle, rule["high"], scale)))


@criterion("left_axis_deviation")
def left_axis_deviation(features: EcgFeatures) -> Decision:
    """Decide on an axis to the left of the limits."""
    rule, angle, scale = limits("left_axis_deviation"), features.axis_deg.get("QRS"), error("deg")
    return _axis(features, all_of(at_least(angle, rule["low"], scale), below(angle, rule["high"], scale)))


@criterion("right_axis_deviation")
def right_axis_deviation(features: EcgFeatures) -> Decision:
    """Decide on an axis to the right of the limits."""
    rule, angle, scale = limits("right_axis_deviation"), _turned(features), error("deg")
    return _axis(features, all_of(above(angle, rule["low"], scale), at_most(angle, rule["high"], scale)))


@criterion("extreme_axis_deviation")
def extreme_axis_deviation(features: EcgFeatures) -> Decision:
    """Decide on an axis in the upper right quadrant."""
    rule, angle, scale = limits("extreme_axis_deviation"), _turned(features), error("deg")
    return _axis(features, all_of(above(angle, rule["low"] % 360, scale), below(angle, rule["high"] % 360, scale)))


# -- QRS duration --------------------------------------------------------------------------------------------------


@criterion("wide_qrs")
def wide_qrs(features: EcgFeatures) -> Decision:
    """Decide on a wide QRS complex."""
    return decided(at_least(features.qrs_ms, limits("wide_qrs")["qrs"], error("ms")), {"qrs_ms": features.qrs_ms})


@criterion("narrow_qrs")
def narrow_qrs(features: EcgFeatures) -> Decision:
    """Decide on a narrow QRS complex."""
    return decided(at_most(features.qrs_ms, limits("narrow_qrs")["qrs"], error("ms")), {"qrs_ms": features.qrs_ms})


@criterion("pre_excitation")
def pre_excitation(features: EcgFeatures) -> Decision:
    """Decide on a short PR with a delta wave."""
    rule = limits("pre_excitation")
    slurred = tuple(name for name, lead in features.leads.items() if "delta" in lead.qrs_notes)
    margin = all_of(
        below(features.pr_ms, rule["pr"], error("ms")),
        above(features.qrs_ms, rule["qrs"], error("ms")),
        form(len(slurred) >= rule["leads"]),
    )
    evidence = {"pr_ms": features.pr_ms, "qrs_ms": features.qrs_ms}
    return suspended(features, "paced_rhythm") or decided(margin, evidence, leads=slurred, certainty="probable")


# -- forms ---------------------------------------------------------------------------------------------------------


@remembered
def right_form(features: EcgFeatures) -> tuple[str, ...]:
    """Return V1 or V2 where the QRS ends with an R wave as in right bundle branch block."""
    if not all(late_s(lead_of(features, name)) for name in ("I", "V6")):
        return ()
    return tuple(name for name in ("V1", "V2") if terminal_r(lead_of(features, name)))


def late_s(lead: LeadFeatures) -> bool:
    """Return whether the S wave is as long as in right bundle branch block."""
    return value(lead.s_ms) >= limits("rbbb")["s"] or value(lead.s_ms) > value(lead.r_ms)


def terminal_r(lead: LeadFeatures) -> bool:
    """Return whether the complex of V1 or V2 ends with an R wave."""
    # R' at least as tall as R, a small R counting as 0.1 mV and a tall one as 0.3; or one broad notched R
    broad_r = upward(lead) > 2 * downward(lead) and "notched" in lead.qrs_notes
    return value(lead.r2_mv) >= min(max(value(lead.r_mv), 0.1), 0.3) or broad_r


def minnesota_form(features: EcgFeatures) -> tuple[str, ...]:
    """Return V1 or V2 where R' is taller than R, as in the Minnesota code's incomplete right bundle branch block."""
    least = limits("incomplete_rbbb")["r_prime"]
    leads = ((name, lead_of(features, name)) for name in ("V1", "V2"))
    return tuple(n for n, lead in leads if value(lead.r2_mv) >= least and value(lead.r2_mv) > value(lead.r_mv))


def split(lead: LeadFeatures) -> bool:
    """Return whether an upright complex has two peaks."""
    return upward(lead) > downward(lead) and ("notched" in lead.qrs_notes or value(lead.r2_mv) > 0)


def strauss(features: EcgFeatures) -> Margin:
    """Decide on Strauss' left bundle branch block: long, rS or QS in V1 and V2, notched in two leads; Q may remain."""
    rule, strict = limits("lbbb"), {"M": "strict_m", "F": "strict_f"}
    notched = [split(lead_of(features, n)) for n in ("I", "aVL", "V1", "V2", "V5", "V6")]
    septal = all(downward(lead_of(features, n)) > 2 * upward(lead_of(features, n)) for n in ("V1", "V2"))
    both = None if features.sex else (rule["strict_f"], rule["strict_m"])
    long = at_least(features.qrs_ms, rule[strict[features.sex or "M"]], error("ms"), both)
    return all_of(form(septal), form(sum(notched) >= rule["leads"]), long)


@remembered
def left_form(features: EcgFeatures) -> bool:
    """Return the form of left bundle branch block: upright in I and V6 with minimal Q, late R peak, little R in V1."""
    no_q = all(upright_without_q(lead_of(features, name)) for name in ("I", "V6"))
    late = any(late_r_peak(lead_of(features, name)) for name in ("I", "V5", "V6"))
    return no_q and late and deep_s(lead_of(features, "V1"))


def upright_without_q(lead: LeadFeatures) -> bool:
    """Return whether the complex is upright with a minimal Q wave, as laterally in left bundle branch block."""
    return value(lead.q_mv) < limits("lbbb")["q"] and upward(lead) > downward(lead)


def late_r_peak(lead: LeadFeatures) -> bool:
    """Return whether an upright complex peaks as late as in left bundle branch block."""
    return upward(lead) > downward(lead) and value(lead.r_peak_ms) > limits("lbbb")["r_peak"]


def deep_s(lead: LeadFeatures) -> bool:
    """Return whether the complex is rS or QS, as in V1 in left bundle branch block."""
    return downward(lead) > 2 * upward(lead)


# -- bundle branches -----------------------------------------------------------------------------------------------


def _branch(features: EcgFeatures, margin: Margin, **more: Any) -> Decision:
    """Build a decision on a bundle branch, which pacing and pre-excitation leave open."""
    open_ = suspended(features, "paced_rhythm", "pre_excitation")
    return open_ or decided(margin, {"qrs_ms": features.qrs_ms}, **more)


def _long(features: EcgFeatures, code: str, limit: str) -> Margin:
    return at_least(features.qrs_ms, limits(code)[limit], error("ms"))


@criterion("lbbb")
def lbbb(features: EcgFeatures) -> Decision:
    """Decide on complete left bundle branch block, by the AHA's form or by Strauss' where there is no right form."""
    usual = all_of(_long(features, "lbbb", "qrs"), form(left_form(features)))
    return _branch(features, any_of(usual, all_of(strauss(features), form(not right_form(features)))))


@criterion("rbbb")
def rbbb(features: EcgFeatures) -> Decision:
    """Decide on complete right bundle branch block."""
    right = right_form(features)
    margin = all_of(_long(features, "rbbb", "qrs"), form(bool(right)), without(features, "lbbb"))
    return _branch(features, margin, leads=right)


def _partial_right(features: EcgFeatures) -> Margin:
    """Decide on the AHA's incomplete right bundle branch block: the form at 110 to 120 ms."""
    long = _long(features, "incomplete_rbbb", "low")
    return all_of(long, form(bool(right_form(features))), without(features, "lbbb", "rbbb"))


@criterion("incomplete_lbbb")
def incomplete_lbbb(features: EcgFeatures) -> Decision:
    """Decide on incomplete left bundle branch block."""
    last = lead_of(features, "V6")
    margin = all_of(
        _long(features, "incomplete_lbbb", "low"),
        form(left_form(features) and upward(last) > downward(last)),
        without(features, "lbbb", "rbbb"),
        negated(_partial_right(features)),
    )
    return _branch(features, margin, certainty="possible")


@criterion("ivcd")
def ivcd(features: EcgFeatures) -> Decision:
    """Decide on a delay without the form of a bundle branch block."""
    margin = all_of(
        _long(features, "ivcd", "qrs"),
        without(features, "lbbb", "rbbb", "incomplete_lbbb"),
        negated(_partial_right(features)),
    )
    return _branch(features, margin)


@criterion("incomplete_rbbb")
def incomplete_rbbb(features: EcgFeatures) -> Decision:
    """Decide on incomplete right bundle branch block; by the Minnesota code's form it is possible only."""
    usual, narrow = _partial_right(features), minnesota_form(features)
    others = without(features, "lbbb", "rbbb", "incomplete_lbbb", "ivcd")
    known = None if features.qrs_ms is None else form(bool(narrow))
    firm = reached(usual)
    leads = right_form(features) if firm else narrow
    margin = any_of(usual, all_of(known, others))
    second = max(value(lead_of(features, name).r2_mv) for name in ("V1", "V2"))
    if missed(margin) and second >= limits("incomplete_rbbb")["open"]:
        # experts name it from a small R' at any width (8 of 14 in LUDB), the AHA does not
        return _branch(features, None, reason="an R' in V1 or V2 without the width or the S waves of the block")
    return _branch(features, margin, leads=leads, certainty="definite" if firm else "possible")


@lead_criterion("rsr_prime")
def rsr_prime_in(features: EcgFeatures, name: str) -> Decision:
    """Decide on a second R wave in one lead."""
    shape = lead_of(features, name).qrs_form
    if shape is None:
        return undecided(f"the QRS form of lead {name} was not measured")
    return decided(form(value(lead_of(features, name).r2_mv) > 0 or "'" in shape), {f"qrs_form_{name}": shape})


@criterion("rsr_prime")
def rsr_prime(features: EcgFeatures) -> Decision:
    """Decide on an R' without the width of a block; as part of a block or without a late S wave it is left open."""
    right = right_form(features)
    known = None if features.qrs_ms is None else form(bool(right))
    blocks = ("lbbb", "rbbb", "incomplete_rbbb", "incomplete_lbbb", "ivcd")
    margin = all_of(known, without(features, *blocks))
    second = any(value(lead_of(features, name).r2_mv) > 0 for name in ("V1", "V2"))
    if second and missed(margin):
        return undecided("there is an R' in V1 or V2, but not of a pattern on its own")
    return _branch(features, margin, leads=right)


# -- fascicles -----------------------------------------------------------------------------------------------------


def q_then_r(lead: LeadFeatures) -> bool:
    """Return whether a complex is qR: a Q wave and a taller R wave, which also exceeds what follows it."""
    return 0 < value(lead.q_mv) < value(lead.r_mv) and value(lead.r_mv) > value(lead.s_mv)


def r_then_s(lead: LeadFeatures) -> bool:
    """Return whether a complex is rS: an R wave and a deeper S wave."""
    return 0 < value(lead.r_mv) < value(lead.s_mv)


def _fascicle(features: EcgFeatures, margin: Margin, evidence: dict, **more: Any) -> Decision:
    """Build a decision on a fascicle, for complexes that are narrow or those of right bundle branch block."""
    narrow = below(features.qrs_ms, limits("lafb")["qrs"], error("ms"))
    if met(features, "rbbb"):
        narrow = form(True)
    open_ = suspended(features, "paced_rhythm", "pre_excitation", "lbbb")
    return open_ or decided(all_of(narrow, margin), evidence, **more)


@criterion("lafb")
def lafb(features: EcgFeatures) -> Decision:
    """Decide on left anterior fascicular block."""
    rule, angle, high = limits("lafb"), features.axis_deg.get("QRS"), lead_of(features, "aVL")
    within = all_of(at_least(angle, rule["axis_low"], error("deg")), at_most(angle, rule["axis_high"], error("deg")))
    late = at_least(value(high.r_peak_ms), rule["r_peak"], error("ms"))
    evidence = {"qrs_axis_deg": angle, "qrs_ms": features.qrs_ms, "r_peak_aVL_ms": high.r_peak_ms}
    return _fascicle(features, all_of(within, form(q_then_r(high)), late), evidence)


@criterion("lpfb")
def lpfb(features: EcgFeatures) -> Decision:
    """Decide on left posterior fascicular block."""
    rule, angle, first = limits("lpfb"), features.axis_deg.get("QRS"), lead_of(features, "V1")
    within = all_of(above(angle, rule["axis_low"], error("deg")), at_most(angle, rule["axis_high"], error("deg")))
    small = all(r_then_s(lead_of(features, n)) for n in ("I", "aVL"))
    shape = small and all(q_then_r(lead_of(features, n)) for n in ("III", "aVF"))
    dominant = upward(first) > downward(first) and not met(features, "rbbb")  # right ventricular hypertrophy
    evidence = {"qrs_axis_deg": angle, "qrs_ms": features.qrs_ms}
    return _fascicle(features, all_of(within, form(shape and not dominant)), evidence, certainty="possible")


@criterion("bifascicular_block")
def bifascicular_block(features: EcgFeatures) -> Decision:
    """Decide on right bundle branch block with block of one left fascicle."""
    left = [decide(code, features) for code in ("lafb", "lpfb")]
    margin = all_of(decide("rbbb", features).margin, any_of(*(d.margin for d in left)))
    sure = "definite" if left[0].met else "possible"  # as sure as the fascicle
    return _branch(features, margin, certainty=sure, reason="a bundle branch or fascicle is not decided")


@criterion("trifascicular_block")
def trifascicular_block(features: EcgFeatures) -> Decision:
    """Decide on a bifascicular block with a long PR, which the AV node explains as well as the third fascicle."""
    two, long = decide("bifascicular_block", features), decide("av_block_1", features)
    margin = all_of(two.margin, long.margin)
    evidence = {**two.evidence, **long.evidence}
    return decided(margin, evidence, certainty="possible", reason=two.reason if two.met is None else long.reason)
