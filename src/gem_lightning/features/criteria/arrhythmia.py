"""Arrhythmia: ectopic rhythms, tachycardias, pauses, 2:1 block, and the rhythm that stays undetermined."""

from __future__ import annotations

import numpy as np

from gem_lightning.features.criteria.base import (
    FORM,
    TINY,
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
    error,
    form,
    lead_of,
    limits,
    met,
    negated,
    reached,
    remembered,
    without,
)
from gem_lightning.features.criteria.pacing import led, suspended
from gem_lightning.features.criteria.rhythm import (
    PAUSE,
    free_p,
    irregularly_irregular,
    own_rr,
    p_share,
    pr_spread,
    unjudged,
    visible_p,
)
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
    "multifocal_atrial_tachycardia",
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
    open_ = led(features) or suspended(features, "av_block_3")
    return open_ or decided(all_of(_atrial(features), slow), _evidence(features), certainty="probable")


@criterion("atrial_tachycardia")
def atrial_tachycardia(features: EcgFeatures) -> Decision:
    """Decide on a fast rhythm of an atrial focus."""
    fast = above(features.heart_rate_bpm, limits("atrial_tachycardia")["rate"], error("bpm"))
    open_ = led(features) or suspended(features, "av_block_3")
    return open_ or decided(all_of(_atrial(features), fast), _evidence(features), certainty="probable")


def p_forms(features: EcgFeatures) -> list[int]:
    """Return in how many beats each form of P wave occurs, by its direction over the trusted leads; largest first."""
    table, alike = features.beats, limits("multifocal_atrial_tachycardia")["alike"]
    if "p_mv" not in table.by_lead:
        return []
    trusted = np.array([lead_of(features, name).trust > 0 for name in table.leads], dtype=bool)
    rows = table.by_lead["p_mv"][trusted].T
    forms: list[list[np.ndarray]] = []
    for row in np.nan_to_num(rows[np.isfinite(rows).any(axis=1)]):
        direction = row / max(float(np.linalg.norm(row)), TINY)
        same = next((form for form in forms if float(direction @ form[0]) >= alike), None)
        if same is None:
            forms.append([direction])
        else:
            same.append(direction)
    return sorted((len(form) for form in forms), reverse=True)


@criterion("multifocal_atrial_tachycardia")
def multifocal_atrial_tachycardia(features: EcgFeatures) -> Decision:
    """Decide on a fast uneven rhythm that P waves of at least three forms lead, none of them in most beats."""
    rule = limits("multifocal_atrial_tachycardia")
    fast = above(features.heart_rate_bpm, rule["rate"], error("bpm"))
    counts = p_forms(features) if reached(fast) else []  # of no interest in a slow rhythm
    repeated = [count for count in counts if count >= rule["repeats"]]
    margin = all_of(
        fast,
        at_least(p_share(features), limits("sinus_rhythm")["p_share"], error("share")),
        form(len(repeated) >= rule["forms"] and repeated[0] <= rule["most"] * sum(counts)),
        irregularly_irregular(own_rr(features)),
        # the form of a P wave in noise of more than an amplitude's error is the noise's
        at_most(features.rhythm.noise_mv, error("mv"), error("mv")),
    )
    evidence = _evidence(features) | {"p_forms": len(repeated)}
    return led(features) or decided(margin, evidence, certainty="possible")


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
    return led(features) or suspended(features, "av_block_3") or decided(margin, _evidence(features), certainty=sure)


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
    return led(features) or decided(margin, _evidence(features), certainty="possible")


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
        if runs and table.beat_class[i - 1] == name and table.whole["rr_ms"][i] < longest:
            runs[-1] += 1
        else:
            runs.append(1)
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
    """Decide on a pause between two beats, or before the first or after the last beat of the recording."""
    rr, times = features.beats.whole["rr_ms"], features.beats.time_s
    between = float(np.nanmax(rr)) if np.isfinite(rr).any() else None
    edge = 1000.0 * float(max(times[0], features.seconds - times[-1]))
    inside, outside = (above(length, limits("pause")["ms"], error("ms")) for length in (between, edge))
    if reached(outside) and not reached(inside):
        # a lost contact silences the leads as well
        return decided(outside, {"longest_edge_ms": edge}, certainty="probable")
    return decided(inside, {"longest_rr_ms": between})


@criterion("sa_block")
def sa_block(features: EcgFeatures) -> Decision:
    """Decide on a pause of two or three cycles of an otherwise even sinus rhythm, without a P wave in it."""
    rule, table = limits("sa_block"), features.beats
    normal = table.beat_class == "normal"
    rr = np.where(np.append(False, normal[1:] & normal[:-1]), table.whole["rr_ms"], np.nan)
    cycle = float(np.nanmedian(rr)) if np.isfinite(rr).any() else None
    evidence: dict[str, float | None] = {"cycle_ms": cycle}
    if cycle is None:
        return decided(None, evidence, reason="no two normal beats follow each other")
    pauses, usual = rr[rr > PAUSE * cycle], rr[rr <= PAUSE * cycle]
    # rounded to the whole multiple that lies nearest
    away = [abs(length / cycle - max(round(length / cycle), 2)) for length in pauses.tolist()]
    margin = all_of(
        form(len(usual) >= rule["cycles"] and float(np.ptp(usual)) <= rule["spread"] * cycle),
        at_most(max(away, default=1.0), rule["miss"], error("share")),
        form(not free_p(features)),
        without(features, "av_block_3"),
        decide("sinus_rhythm", features).margin,
    )
    evidence |= {"pause_ms": float(max(pauses))} if len(pauses) else {}
    # the pause after a premature beat that was not seen measures two cycles as well
    sure = "possible" if met(features, "pvc", "pac") else "probable"
    return led(features) or decided(margin, evidence, certainty=sure)


@criterion("av_block_2_1")
def av_block_2_1(features: EcgFeatures) -> Decision:
    """Decide on a P wave between every two conducted ones: even RR and PR; type I and II cannot be distinguished."""
    spread = pr_spread(features)
    even = None if spread is None else at_most(spread, limits("av_block_2_1")["spread"], error("ms"))
    margin = all_of(form(free_p(features)), form(bool(features.rhythm.regular)), even)
    evidence = {"pr_range_ms": spread, "heart_rate_bpm": features.heart_rate_bpm}
    return unjudged(features) or decided(margin, evidence, certainty="probable")


@criterion("undetermined_rhythm")
def undetermined_rhythm(features: EcgFeatures) -> Decision:
    """Decide whether no criterion of a rhythm is met; the evidence gives the reason."""
    if met(features, *RHYTHMS):
        return decided(-FORM, {})
    share = p_share(features)
    if not reached(at_least(share, limits("sinus_rhythm")["p_share"], error("share"))):
        uneven = met(features, "irregular_rhythm")
        why = f"P waves not identified{', irregular RR intervals' if uneven else ''}"
    else:
        why = "P waves of unclear origin"
    return decided(FORM, {"why": why, "p_per_qrs": share})
