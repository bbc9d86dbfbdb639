"""Acute patterns: infarcts that hide, their early and late T waves, right strain, potassium, Brugada."""

from __future__ import annotations

from collections.abc import Iterable

from gem_lightning.features.criteria.base import (
    CHEST,
    FORM,
    LIMB,
    Decision,
    Margin,
    above,
    all_of,
    any_of,
    at_least,
    at_most,
    below,
    count_of,
    criterion,
    decide,
    decided,
    downward,
    error,
    form,
    lead_of,
    level_of,
    limits,
    missed,
    negated,
    reached,
    undecided,
    upward,
    value,
    without,
)
from gem_lightning.features.criteria.ischaemia import TERRITORIES, contiguous, pathological_q_in, st_depression_in
from gem_lightning.features.criteria.pacing import ABNORMAL_ACTIVATION, SECONDARY, active, suspended
from gem_lightning.features.criteria.repolarisation import t_inversion_in
from gem_lightning.features.schema import EcgFeatures


def _shown(margins: dict[str, Margin]) -> tuple[str, ...]:
    return tuple(name for name, margin in margins.items() if reached(margin))


def _levels(features: EcgFeatures, names: tuple[str, ...]) -> dict[str, float | None]:
    return {f"st_j_{name}_mv": level_of(features, name) for name in names}


@criterion("ischaemia")
def ischaemia(features: EcgFeatures) -> Decision:
    """Decide on diffuse ischaemia: ST depression in six leads with elevation in aVR or V1; less is left open."""
    rule, mv = limits("ischaemia"), error("mv")
    names = tuple(name for name in (*LIMB, *CHEST) if name not in ("aVR", "V1"))
    down = {name: all_of(at_most(level_of(features, name), -rule["level"], mv), st_depression_in(features, name).margin)
            for name in names}  # fmt: skip
    up = {name: at_least(level_of(features, name), rule["level"], mv) for name in ("aVR", "V1")}
    margin = all_of(count_of(down.values(), rule["leads"]), any_of(*up.values()))
    signs = ("st_depression", "st_elevation", "t_inversion", "reciprocal_change")
    open_ = suspended(features, *SECONDARY, "atrial_flutter")
    if open_ is None and not reached(margin) and any(decide(c, features).met is not False for c in signs):
        open_ = undecided("ST-T changes may or may not be ischaemic")
    leads = (*_shown(up), *_shown(down))
    return open_ or decided(margin, _levels(features, leads or ("aVR",)), leads=leads, certainty="probable")


@criterion("mi_posterior")
def posterior(features: EcgFeatures) -> Decision:
    """Decide on the mirror image of a posterior infarct in V1-V3; a tall R with an upright T makes it probable."""
    names = ("V1", "V2", "V3")
    down = {name: st_depression_in(features, name).margin for name in names}
    shown = _shown(down)
    margin = all_of(count_of(down.values(), limits("mi_posterior")["leads"]), without(features, "ischaemia", "rvh"))
    if missed(margin) and shown:
        return undecided("ST depression in V1-V3 alone does not decide it", _levels(features, shown))
    mirror = any(upward(lead_of(features, n)) > downward(lead_of(features, n)) and value(lead_of(features, n).t_mv) > 0
                 for n in ("V1", "V2"))  # fmt: skip
    evidence = _levels(features, shown or names) | {"look_for": "ST elevation in V7-V9"}
    open_ = suspended(features, *SECONDARY, "atrial_flutter")
    return open_ or decided(margin, evidence, leads=shown, certainty="probable" if mirror else "possible")


@criterion("sgarbossa")
def sgarbossa(features: EcgFeatures) -> Decision:
    """Decide on ST deviation out of proportion to the QRS complex of left bundle branch block or pacing.

    Concordant elevation, concordant depression in V1-V3, or elevation beyond a quarter of the S wave (Smith).
    """
    if not active(features, "lbbb", "paced_rhythm"):
        return decided(-FORM, {}) if decide("lbbb", features).met is False else undecided("QRS form not decided")
    rule, mv = limits("sgarbossa"), error("mv")
    margins: dict[str, Margin] = {}
    for name in (*LIMB, *CHEST):
        lead, level = lead_of(features, name), level_of(features, name)
        raised = at_least(level, rule["level"], mv)
        upright = upward(lead) > downward(lead)
        share = None if level is None or not downward(lead) else level / downward(lead)
        beyond = all_of(raised, above(share, rule["share"], rule["share"] / 2), form(not upright))
        concordant = all_of(raised, form(upright))
        septal = all_of(at_most(level, -rule["level"], mv), form(not upright and name in ("V1", "V2", "V3")))
        margins[name] = any_of(concordant, septal, beyond)
    leads = _shown(margins)
    # the end of a paced complex is hard to find, and the J level with it (ours)
    sure = "possible" if active(features, "paced_rhythm") else "probable"
    return decided(any_of(*margins.values()), _levels(features, leads), leads=leads, certainty=sure)


# -- T waves of a narrowed or just occluded artery -------------------------------------------------------------------


def _t_heights(features: EcgFeatures, names: Iterable[str]) -> dict[str, float | None]:
    return {f"t_{name}_mv": lead_of(features, name).t_mv for name in names}


@criterion("wellens")
def wellens(features: EcgFeatures) -> Decision:
    """Decide on inverted or biphasic T waves in V2 and V3 without ST elevation and with R waves kept."""
    rule, names = limits("wellens"), ("V2", "V3")
    late = [
        any_of(below(lead.t_mv, -rule["t"], error("t_mv")), form(lead.t_form == "biphasic"))
        for lead in (lead_of(features, n) for n in names)
    ]
    margin = all_of(
        *late,
        *(below(level_of(features, n), rule["level"], error("mv")) for n in names),
        form(not any(pathological_q_in(features, n).met for n in (*names, "V4"))),
        without(features, "poor_r_progression", "rv_strain", "lvh", "rvh", *(f"mi_{t}" for t in TERRITORIES)),
    )
    open_ = suspended(features, *SECONDARY, "atrial_flutter")
    return open_ or decided(margin, _t_heights(features, names), leads=names, certainty="possible")


@criterion("de_winter")
def de_winter(features: EcgFeatures) -> Decision:
    """Decide on a depressed J point from which ST rises into a tall T wave in the chest leads; not in tachycardia."""
    rule, mv = limits("de_winter"), error("mv")
    margins: dict[str, Margin] = {}
    for name in CHEST:
        j, late = level_of(features, name), level_of(features, name, "J80")
        rises = None if j is None or late is None else above(late - j, 0.0, mv)
        tall = at_least(lead_of(features, name).t_mv, rule["t"], error("t_mv"))
        margins[name] = all_of(at_most(j, -rule["level"], mv), rises, tall)
    shown = _shown(margins)
    margin = all_of(
        count_of(margins.values(), rule["leads"]), at_most(features.heart_rate_bpm, rule["rate"], error("bpm"))
    )
    evidence = _levels(features, shown or CHEST) | _t_heights(features, shown)
    open_ = suspended(features, *SECONDARY, "atrial_flutter")
    return open_ or decided(margin, evidence, leads=shown, certainty="probable")


@criterion("hyperacute_t")
def hyperacute_t(features: EcgFeatures) -> Decision:
    """Decide on T waves as tall as the whole QRS complex in contiguous leads, which may precede ST elevation."""
    rule = limits("hyperacute_t")

    def tall(name: str) -> Margin:
        lead = lead_of(features, name)
        if lead.t_mv is None or lead.qrs_mv is None:
            return None if lead.trust == 0 else -FORM  # a T wave too small to be measured
        return all_of(
            at_least(lead.t_mv, rule["t"], error("t_mv")), at_least(lead.t_mv, lead.qrs_mv, error("t_mv") + error("mv"))
        )

    margin, found = contiguous(tall, rule["leads"])
    shown = tuple(name for names in found.values() for name in names)
    open_ = suspended(features, *SECONDARY, "atrial_flutter", "hyperkalaemia")
    return open_ or decided(margin, _t_heights(features, shown), leads=shown, certainty="possible")


@criterion("rv_strain")
def rv_strain(features: EcgFeatures) -> Decision:
    """Decide on T inversion in V1-V3 with a sign of right ventricular load; urgent without hypertrophy."""
    rule, one, three = limits("rv_strain"), lead_of(features, "I"), lead_of(features, "III")
    names = ("V1", "V2", "V3")
    mv = error("mv")
    s1q3t3 = all_of(
        at_least(value(one.s_mv), rule["s1"], mv),
        at_least(value(three.q_mv), rule["q3"], mv),
        t_inversion_in(features, "III").margin,
    )
    thick = decide("rvh", features)
    load = any_of(thick.margin, decide("right_axis_deviation", features).margin, s1q3t3)
    margin = all_of(*(t_inversion_in(features, n).margin for n in names), load)
    evidence = _t_heights(features, names) | {"s_I_mv": one.s_mv, "q_III_mv": three.q_mv}
    open_ = suspended(features, *SECONDARY, "atrial_flutter")
    sure = "probable" if thick.met else "possible"
    return open_ or decided(margin, evidence, leads=names, certainty=sure, urgent=not thick.met)


# -- potassium and sodium channels -----------------------------------------------------------------------------------


@criterion("hyperkalaemia")
def hyperkalaemia(features: EcgFeatures) -> Decision:
    """Decide on peaked T waves with delayed conduction or lost P waves; urgent with two of these."""
    signs = (
        at_least(features.qrs_ms, limits("wide_qrs")["qrs"], error("ms")),
        above(features.pr_ms, limits("av_block_1")["pr"], error("ms")),
        decide("p_absent", features).margin,
    )
    margin = all_of(decide("t_peaked", features).margin, any_of(*(s for s in signs if s is not None)))
    count = sum(reached(sign) for sign in signs)
    evidence = {"qrs_ms": features.qrs_ms, "pr_ms": features.pr_ms, "p_per_qrs": features.rhythm.p_per_qrs}
    sure = "probable" if count >= limits("hyperkalaemia")["signs"] else "possible"
    open_ = suspended(features, *SECONDARY)
    return open_ or decided(margin, evidence, leads=decide("t_peaked", features).leads, certainty=sure)


@criterion("brugada")
def brugada(features: EcgFeatures) -> Decision:
    """Decide on the coved type 1 pattern: a high J point in V1 or V2, ST falling from it, T inverted."""
    rule, mv = limits("brugada"), error("mv")
    margins: dict[str, Margin] = {}
    for name in ("V1", "V2"):
        j, late = level_of(features, name), level_of(features, name, "J80")
        falls = None if j is None or late is None else above(j - late, 0.0, mv)
        margins[name] = all_of(at_least(j, rule["level"], mv), falls, below(lead_of(features, name).t_mv, 0.0, mv))
    shown = _shown(margins)
    margin = all_of(any_of(*margins.values()), negated(decide("rbbb", features).margin))
    open_ = suspended(features, *ABNORMAL_ACTIVATION, "atrial_flutter")
    return open_ or decided(margin, _levels(features, shown or ("V1", "V2")), leads=shown, certainty="probable")
