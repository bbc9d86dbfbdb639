"""Repolarisation: QTc, T waves, early repolarization and pericarditis."""

from __future__ import annotations

from functools import partial

import numpy as np

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
    criteria,
    criterion,
    decided,
    downward,
    error,
    form,
    lead_criterion,
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
from gem_lightning.features.criteria.ischaemia import (
    TERRITORIES,
    by_territory,
    contiguous,
    in_flutter,
    pathological_q_in,
    secondary,
    st_depression_in,
    st_elevation_in,
)
from gem_lightning.features.criteria.pacing import ABNORMAL_ACTIVATION, SECONDARY, suspended
from gem_lightning.features.schema import EcgFeatures

# -- QTc by Fridericia's formula; AHA part IV advises against Bazett's at other rates than 60 --------------------------


def _qtc_evidence(features: EcgFeatures) -> dict[str, float | None]:
    names = {"qtc_fridericia_ms": "fridericia", "qtc_bazett_ms": "bazett"}
    return {key: features.qtc_ms.get(formula) for key, formula in names.items()} | {"qt_ms": features.qt_ms}


HIDES_T_END = ("atrial_flutter",)  # its waves run through the T wave


def _long(features: EcgFeatures) -> Margin:
    """Decide whether QTc reaches the limit of the patient's sex, of an unknown one that of women."""
    rule = limits("long_qtc")
    possible = None if features.sex else (rule["m"], rule["f"])
    high = rule["m"] if features.sex == "M" else rule["f"]
    return at_least(features.qtc_ms.get("fridericia"), high, error("qt_ms"), possible)


def _short(features: EcgFeatures) -> Margin:
    return at_most(features.qtc_ms.get("fridericia"), limits("short_qtc")["high"], error("qt_ms"))


@criterion("long_qtc")
def long_qtc(features: EcgFeatures) -> Decision:
    """Decide on a long QTc; a wide QRS complex prolongs it by itself."""
    narrow = features.qrs_ms is not None and features.qrs_ms < limits("wide_qrs")["qrs"]
    urgent = value(features.qtc_ms.get("fridericia")) >= limits("long_qtc")["urgent"]
    certainty = "definite" if narrow else "possible"
    decision = decided(_long(features), _qtc_evidence(features), certainty=certainty, urgent=urgent)
    return suspended(features, *HIDES_T_END) or decision


@criterion("short_qtc")
def short_qtc(features: EcgFeatures) -> Decision:
    """Decide on a short QTc."""
    return suspended(features, *HIDES_T_END) or decided(_short(features), _qtc_evidence(features))


@criterion("normal_qtc")
def normal_qtc(features: EcgFeatures) -> Decision:
    """Decide on a QTc that is neither long nor short."""
    decision = decided(all_of(negated(_long(features)), negated(_short(features))), _qtc_evidence(features))
    return suspended(features, *HIDES_T_END) or decision


# -- T waves -------------------------------------------------------------------------------------------------------


@lead_criterion("t_inversion")
@in_flutter
def t_inversion_in(features: EcgFeatures, name: str) -> Decision:
    """Decide on an inverted T wave in one lead; a biphasic one is half inverted and left open."""
    lead = lead_of(features, name)
    margin = below(lead.t_mv, -limits("t_inversion")["level"], error("t_mv"))
    evidence = {f"t_{name}_mv": lead.t_mv}
    if lead.t_form == "biphasic" and missed(margin):
        return undecided(f"the T wave of lead {name} is biphasic", evidence)
    return decided(margin, evidence, reason=f"the T wave of lead {name} was not measured")


@criterion("t_inversion")
def t_inversion(features: EcgFeatures) -> Decision:
    """Decide on T inversion in contiguous leads whose T wave is expected to be upright.

    That is with a prominent R wave, with a Q wave that took its place, or in a lead where every adult's is.
    """
    rule = limits("t_inversion")
    adult = features.age is None or features.age >= rule["adult"]
    always = ("I", "II", "V3", "V4", "V5", "V6") if adult else ()

    def shows(name: str) -> Margin:
        if name in ("aVR", "V1"):  # inverted in health
            return -FORM
        return t_inversion_in(features, name).margin

    def prominent(name: str) -> Margin:
        lead = lead_of(features, name)
        tall = any_of(at_least(upward(lead), rule["r"], error("mv")), above(upward(lead), downward(lead), error("mv")))
        lost = pathological_q_in(features, name).met is True
        return shows(name) if lost or name in always else all_of(shows(name), tall)

    margin, found = contiguous(prominent, rule["leads"])
    anywhere = contiguous(shows, rule["leads"])[0]
    if missed(margin) and reached(anywhere):
        return undecided("T waves are inverted in leads without a prominent R wave only")
    return by_territory(
        features, margin, found, partial(t_inversion_in, features), "T wave inversion", certainty=secondary(features)
    )


@lead_criterion("t_flat")
def t_flat_in(features: EcgFeatures, name: str) -> Decision:
    """Decide on a flat T wave in one lead."""
    height = lead_of(features, name).t_mv
    flat = below(None if height is None else abs(height), limits("t_flat")["level"], error("mv"))
    return decided(flat, {f"t_{name}_mv": height}, reason=f"the T wave of lead {name} was not measured")


@criterion("t_flat")
def t_flat(features: EcgFeatures) -> Decision:
    """Decide on flat T waves in several leads with a tall R wave."""
    rule, names = limits("t_flat"), ("I", "II", "V3", "V4", "V5", "V6")
    margins = {
        n: all_of(t_flat_in(features, n).margin, at_least(upward(lead_of(features, n)), rule["r"], error("mv")))
        for n in names
    }
    flat = tuple(n for n, margin in margins.items() if reached(margin))
    evidence = {f"t_{n}_mv": lead_of(features, n).t_mv for n in flat or names}
    return decided(count_of(margins.values(), rule["leads"]), evidence, leads=flat)


@lead_criterion("t_peaked")
def t_peaked_in(features: EcgFeatures, name: str) -> Decision:
    """Decide on a tall T wave in one lead."""
    height, rule = lead_of(features, name).t_mv, limits("t_peaked")
    tall = above(height, rule["limb" if name in LIMB else "chest"], error("t_mv"))
    return decided(tall, {f"t_{name}_mv": height}, reason=f"the T wave of lead {name} was not measured")


@criterion("t_peaked")
def t_peaked(features: EcgFeatures) -> Decision:
    """Decide on tall T waves, which a wide QRS complex has by itself."""
    decisions = {name: t_peaked_in(features, name) for name in (*LIMB, *CHEST)}
    # a T wave too small to be measured in a readable lead is not tall
    margins = [
        -FORM if d.margin is None and lead_of(features, name).trust > 0 else d.margin for name, d in decisions.items()
    ]
    margin = count_of(margins, limits("t_peaked")["leads"])
    tall = tuple(name for name, decision in decisions.items() if decision.met)
    evidence = {key: number for name in tall for key, number in decisions[name].evidence.items()}
    return suspended(features, *SECONDARY) or decided(margin, evidence, leads=tall, certainty="possible")


@criterion("t_alternans")
def t_alternans(features: EcgFeatures) -> Decision:
    """Decide on T waves that are taller in every second beat of one class, in contiguous leads."""
    rule, table = limits("t_alternans"), features.beats
    heights = table.by_lead.get("t_mv")
    if heights is None or len(table) < rule["beats"]:
        return undecided(f"T waves of fewer than {rule['beats']} beats were measured")
    steps = np.diff(heights, axis=1)
    steps[:, 1::2] *= -1.0  # of one sign where T alternates
    smallest = np.maximum(steps.min(axis=1), -steps.max(axis=1)).tolist()

    def alternates(name: str) -> Margin:
        if name not in table.leads or lead_of(features, name).trust == 0:
            return None
        margin = at_least(smallest[table.leads.index(name)], rule["mv"], error("t_mv"))
        return -FORM if margin is None else margin  # NaN: a T wave too small to be measured

    margin, found = contiguous(alternates, rule["leads"])
    shown = tuple(name for names in found.values() for name in names)
    one_class = form(bool((table.beat_class == table.beat_class[0]).all()))
    evidence = {f"smallest_t_step_{n}_mv": smallest[table.leads.index(n)] for n in shown}
    return suspended(features, "atrial_fibrillation", "atrial_flutter") or decided(
        all_of(margin, one_class), evidence, leads=shown, certainty="probable"
    )


# -- U waves: apart from P only where a P wave is seen, so that fibrillation and flutter leave them unknown -----------


@lead_criterion("abnormal_u")
def abnormal_u_in(features: EcgFeatures, name: str) -> Decision:
    """Decide on a U wave in one lead that is tall for itself or for its T wave, or inverted under an upright one."""
    lead = lead_of(features, name)
    margin = any_of(_tall_u(features, name), _against_t(features, name))
    evidence = {f"u_{name}_mv": lead.u_mv, f"t_{name}_mv": lead.t_mv}
    return decided(margin, evidence, reason=f"no U wave can be distinguished from T and P in lead {name}")


def _tall_u(features: EcgFeatures, name: str) -> Margin:
    """Decide whether the U wave is tall for itself, which only V2 and V3 have a limit for."""
    if name not in ("V2", "V3"):
        return -FORM
    return above(lead_of(features, name).u_mv, limits("abnormal_u")["tall"], error("mv"))


def _against_t(features: EcgFeatures, name: str) -> Margin:
    """Decide whether the U wave is taller than the T wave, or inverted under an upright one."""
    rule, lead = limits("abnormal_u"), lead_of(features, name)
    if lead.u_mv is None or lead.t_mv is None:
        return None
    taller = all_of(at_least(lead.u_mv, rule["over_t"], error("mv")), above(lead.u_mv, abs(lead.t_mv), error("t_mv")))
    return any_of(taller, all_of(below(lead.u_mv, -rule["inverted"], error("mv")), form(lead.t_form == "upright")))


@criterion("abnormal_u")
def abnormal_u(features: EcgFeatures) -> Decision:
    """Decide on abnormal U waves in the leads where U waves are seen best."""
    decisions = {name: abnormal_u_in(features, name) for name in ("V2", "V3", "V4", "V5")}
    apart, _ = contiguous(
        lambda name: _against_t(features, name) if name in decisions else -FORM, limits("abnormal_u")["leads"]
    )
    margin = any_of(_tall_u(features, "V2"), _tall_u(features, "V3"), apart)
    shown = tuple(name for name, decision in decisions.items() if decision.met)
    evidence = {key: number for name in shown or decisions for key, number in decisions[name].evidence.items()}
    return decided(
        margin,
        evidence,
        leads=shown,
        certainty="possible",  # what follows T may also be a late T wave or an atrial wave
        reason="no U wave can be distinguished from T and P: the rate is fast, or no P wave is seen",
    )


# -- ST elevation without a mirror image ---------------------------------------------------------------------------

_INFARCTS = tuple(f"mi_{territory}" for territory in TERRITORIES)


@criterion("pericarditis")
def pericarditis(features: EcgFeatures) -> Decision:
    """Decide on ST elevation all over without ST depression but in aVR and V1."""
    rule = limits("pericarditis")
    margins = {name: st_elevation_in(features, name).margin for name in features.st_mv if name not in ("aVR", "V1")}
    raised = tuple(name for name, margin in margins.items() if reached(margin))
    groups = [g for g in ("inferior", "lateral", "anterior") if set(criteria()["territories"][g]) & set(raised)]
    down = any(st_depression_in(features, name).met for name in margins)
    margin = all_of(
        count_of(margins.values(), rule["leads"]),
        form(len(groups) >= 3),
        form(not down),
        without(features, "reciprocal_change", *_INFARCTS),
    )
    evidence = {f"st_j_{name}_mv": level_of(features, name) for name in raised}
    open_ = suspended(features, *ABNORMAL_ACTIVATION)
    return open_ or decided(margin, evidence, leads=raised, certainty="possible")


@criterion("early_repolarization")
def early_repolarization(features: EcgFeatures) -> Decision:
    """Decide on a raised J point at the end of an R wave without S."""
    rule = limits("early_repolarization")

    def lifted(name: str) -> Margin:
        lead = lead_of(features, name)
        shape = not value(lead.s_mv) and lead.st_form in ("concave", "upsloping")
        if name in ("aVR", "V1", "V2", "V3"):  # left out by the source
            return -FORM
        return all_of(at_least(level_of(features, name), rule["level"], error("mv")), form(shape))

    margin, found = contiguous(lifted, rule["leads"])
    shown = tuple(name for leads in found.values() for name in leads)
    margin = all_of(
        margin,
        below(features.qrs_ms, rule["qrs"], error("ms")),
        without(features, "reciprocal_change", "t_inversion", *_INFARCTS),
    )
    evidence = {f"st_j_{name}_mv": level_of(features, name) for name in shown}
    open_ = suspended(features, *ABNORMAL_ACTIVATION)
    return open_ or decided(margin, evidence, leads=shown, certainty="possible")
