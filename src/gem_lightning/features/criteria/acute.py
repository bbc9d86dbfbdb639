"""Acute patterns: posterior infarct, infarct behind a bundle branch block, diffuse ischaemia, potassium, Brugada."""

from __future__ import annotations

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
    met,
    negated,
    undecided,
    upward,
    value,
    without,
)
from gem_lightning.features.criteria.ischaemia import st_depression_in
from gem_lightning.features.criteria.pacing import ABNORMAL_ACTIVATION, SECONDARY, suspended
from gem_lightning.features.schema import EcgFeatures


def _shown(margins: dict[str, Margin]) -> tuple[str, ...]:
    return tuple(name for name, margin in margins.items() if margin is not None and margin >= 0)


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
    if open_ is None and (margin is None or margin < 0) and any(decide(c, features).met is not False for c in signs):
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
    if margin is not None and margin < 0 and shown:
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
    if not met(features, "lbbb", "paced_rhythm"):
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
    sure = "possible" if met(features, "paced_rhythm") else "probable"
    return decided(any_of(*margins.values()), _levels(features, leads), leads=leads, certainty=sure)


@criterion("hyperkalaemia")
def hyperkalaemia(features: EcgFeatures) -> Decision:
    """Decide on peaked T waves with delayed conduction or lost P waves; urgent with two of these."""
    signs = (
        at_least(features.qrs_ms, limits("wide_qrs")["qrs"], error("ms")),
        above(features.pr_ms, limits("av_block_1")["pr"], error("ms")),
        decide("p_absent", features).margin,
    )
    margin = all_of(decide("t_peaked", features).margin, any_of(*(s for s in signs if s is not None)))
    count = sum(sign is not None and sign >= 0 for sign in signs)
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
