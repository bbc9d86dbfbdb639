"""Arrhythmia: ectopic rhythms, tachycardias, pauses, 2:1 block, and the rhythm that stays undetermined."""

from __future__ import annotations

import numpy as np

from gem_lightning.features.criteria.base import (
    FORM,
    Decision,
    Margin,
    above,
    all_of,
    any_of,
    at_least,
    at_most,
    below,
    criteria,
    criterion,
    decide,
    decided,
    error,
    form,
    lead_of,
    limits,
    met,
    negated,
    remembered,
    without,
)
from gem_lightning.features.criteria.pacing import suspended
from gem_lightning.features.criteria.rhythm import NO_CONDUCTION, free_p, p_share, pr_spread, visible_p
from gem_lightning.features.schema import EcgFeatures

#: Findings that name the rhythm, the first that is met first.
RHYTHMS = (
    "paced_rhythm",
    "wide_complex_tachycardia",
    "av_block_3",
    "av_block_2_mobitz_1",
    "av_block_2_mobitz_2",
    "av_block_2_1",
    "atrial_fibrillation",
    "atrial_flutter",
    "sinus_bradycardia",
    "sinus_tachycardia",
    "sinus_rhythm",
    "ectopic_atrial_rhythm",
    "atrial_tachycardia",
    "supraventricular_tachycardia",
    "junctional_rhythm",
    "escape_rhythm",
)


def _even(features: EcgFeatures) -> Margin:
    return decide("regular_rhythm", features).margin


def _narrow(features: EcgFeatures) -> Margin:
    return below(features.qrs_ms, limits("wide_qrs")["qrs"], error("ms"))


def _retrograde(features: EcgFeatures) -> bool:
    """Return whether the P wave is inverted in lead II, that is, not of the sinus node."""
    return lead_of(features, "II").p_form == "inverted"


def _evidence(features: EcgFeatures) -> dict[str, float | None]:
    return {"heart_rate_bpm": features.heart_rate_bpm, "p_per_qrs": p_share(features), "qrs_ms": features.qrs_ms}


@remembered
def _atrial(features: EcgFeatures) -> Margin:
    """Decide on P waves before the QRS complexes that come from elsewhere than the sinus node."""
    return all_of(
        at_least(p_share(features), limits("sinus_rhythm")["p_share"], error("share")),
        form(_retrograde(features)),
        at_least(features.pr_ms, limits("ectopic_atrial_rhythm")["pr"], error("ms")),
        without(features, "sinus_rhythm", "atrial_fibrillation", "atrial_flutter", "electrode_misplacement"),
    )


@criterion("ectopic_atrial_rhythm")
def ectopic_atrial_rhythm(features: EcgFeatures) -> Decision:
    """Decide on a slow rhythm of an atrial focus low in the atrium."""
    slow = at_most(features.heart_rate_bpm, limits("ectopic_atrial_rhythm")["rate"], error("bpm"))
    open_ = suspended(features, "paced_rhythm", "av_block_3")
    return open_ or decided(all_of(_atrial(features), slow), _evidence(features), certainty="probable")


@criterion("atrial_tachycardia")
def atrial_tachycardia(features: EcgFeatures) -> Decision:
    """Decide on a fast rhythm of an atrial focus."""
    fast = above(features.heart_rate_bpm, limits("atrial_tachycardia")["rate"], error("bpm"))
    open_ = suspended(features, "paced_rhythm", "av_block_3")
    return open_ or decided(all_of(_atrial(features), fast), _evidence(features), certainty="probable")


@criterion("junctional_rhythm")
def junctional_rhythm(features: EcgFeatures) -> Decision:
    """Decide on an even narrow rhythm with no P wave, or with an inverted one close to the QRS complex."""
    rule, rate = limits("junctional_rhythm"), features.heart_rate_bpm
    close = all_of(form(_retrograde(features)), below(features.pr_ms, rule["pr"], error("ms")))
    absent = all_of(decide("p_absent", features).margin, form(visible_p(features)))
    margin = all_of(
        any_of(absent, close),
        _even(features),
        _narrow(features),
        at_most(rate, rule["rate"], error("bpm")),
        without(features, "sinus_rhythm", "atrial_fibrillation", "atrial_flutter", "electrode_misplacement"),
    )
    # a P wave too small for this recording is likelier than an accelerated junction
    sure = "probable" if rate is not None and rate <= rule["escape"] else "possible"
    return suspended(features, "paced_rhythm", "av_block_3") or decided(margin, _evidence(features), certainty=sure)


@criterion("escape_rhythm")
def escape_rhythm(features: EcgFeatures) -> Decision:
    """Decide on an even slow rhythm of wide complexes without P waves."""
    margin = all_of(
        decide("p_absent", features).margin,
        _even(features),
        negated(_narrow(features)),
        at_most(features.heart_rate_bpm, limits("escape_rhythm")["rate"], error("bpm")),
    )
    return suspended(features, "paced_rhythm") or decided(margin, _evidence(features), certainty="probable")


@criterion("supraventricular_tachycardia")
def supraventricular_tachycardia(features: EcgFeatures) -> Decision:
    """Decide on a fast, even, narrow rhythm without P waves of the sinus node, which the T wave may hide."""
    margin = all_of(
        above(features.heart_rate_bpm, limits("supraventricular_tachycardia")["rate"], error("bpm")),
        _even(features),
        _narrow(features),
        without(features, "sinus_rhythm", "atrial_fibrillation", "atrial_flutter"),
    )
    return suspended(features, "paced_rhythm") or decided(margin, _evidence(features), certainty="possible")


# -- ventricles ----------------------------------------------------------------------------------------------------


@criterion("wide_complex_tachycardia")
def wide_complex_tachycardia(features: EcgFeatures) -> Decision:
    """Decide on a fast rhythm of wide complexes that no P waves lead; fibrillation with a bundle block is none."""
    margin = all_of(
        above(features.heart_rate_bpm, limits("wide_complex_tachycardia")["rate"], error("bpm")),
        negated(_narrow(features)),
        below(p_share(features), limits("atrial_fibrillation")["p_share"], error("share")),
        without(features, "sinus_rhythm", "atrial_fibrillation", "atrial_flutter"),
    )
    return suspended(features, "paced_rhythm") or decided(margin, _evidence(features), certainty="probable")


@remembered
def _ventricular_runs(features: EcgFeatures) -> list[int]:
    """Return the length of each row of adjacent premature ventricular beats that follow at a tachycardia's rate."""
    table, longest = features.beats, 60_000.0 / limits("ventricular_tachycardia")["rate"]
    runs: list[int] = []
    for i, name in enumerate(table.beat_class):
        if name != "premature_ventricular":
            continue
        follows = i > 0 and table.beat_class[i - 1] == name and table.whole["rr_ms"][i] < longest
        runs[-1:] = [runs[-1] + 1] if follows else [*runs[-1:], 1]
    return runs


@criterion("ventricular_tachycardia")
def ventricular_tachycardia(features: EcgFeatures) -> Decision:
    """Decide on three ventricular beats in a row; a wide-complex tachycardia without a bundle's form is possible."""
    longest = max(_ventricular_runs(features), default=0)
    beats = at_least(longest, limits("ventricular_tachycardia")["beats"], 1.0)
    wide = all_of(decide("wide_complex_tachycardia", features).margin, without(features, "lbbb", "rbbb"))
    sure = "probable" if longest >= limits("ventricular_tachycardia")["beats"] else "possible"
    evidence = {"ventricular_run_beats": longest} | _evidence(features)
    return suspended(features, "paced_rhythm") or decided(any_of(beats, wide), evidence, certainty=sure)


@criterion("couplet")
def couplet(features: EcgFeatures) -> Decision:
    """Decide on two premature ventricular beats in a row."""
    pairs = sum(run == 2 for run in _ventricular_runs(features))
    return decided(form(pairs > 0), {"count": pairs})


@criterion("trigeminy")
def trigeminy(features: EcgFeatures) -> Decision:
    """Decide whether every third beat is premature."""
    early = int((features.beats.beat_class != "normal").sum())
    return decided(form(features.rhythm.pattern == "trigeminy"), {"count": early})


# -- pauses and block ----------------------------------------------------------------------------------------------


@criterion("pause")
def pause(features: EcgFeatures) -> Decision:
    """Decide on a pause between two beats."""
    rr = features.beats.whole["rr_ms"]
    longest = float(np.nanmax(rr)) if np.isfinite(rr).any() else None
    return decided(above(longest, limits("pause")["ms"], error("ms")), {"longest_rr_ms": longest})


@criterion("av_block_2_1")
def av_block_2_1(features: EcgFeatures) -> Decision:
    """Decide on a P wave between every two conducted ones: even RR and PR; type I and II cannot be distinguished."""
    spread = pr_spread(features)
    even = None if spread is None else at_most(spread, limits("av_block_2_1")["spread"], error("ms"))
    margin = all_of(form(free_p(features)), form(bool(features.rhythm.regular)), even)
    evidence = {"pr_range_ms": spread, "heart_rate_bpm": features.heart_rate_bpm}
    return suspended(features, *NO_CONDUCTION) or decided(margin, evidence, certainty="probable")


@criterion("undetermined_rhythm")
def undetermined_rhythm(features: EcgFeatures) -> Decision:
    """Decide whether no criterion of a rhythm is met; the evidence gives the reason."""
    if met(features, *RHYTHMS):
        return decided(-FORM, {})
    share = p_share(features)
    if share is None or share < criteria()["findings"]["sinus_rhythm"]["limits"]["p_share"]:
        uneven = met(features, "irregular_rhythm")
        why = f"P waves not identified{', irregular RR intervals' if uneven else ''}"
    else:
        why = "P waves of unclear origin"
    return decided(FORM, {"why": why, "p_per_qrs": share})
