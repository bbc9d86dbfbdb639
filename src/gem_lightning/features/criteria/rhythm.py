"""Rhythm: origin, rate, regularity, AV conduction and premature beats."""

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
    criterion,
    decide,
    decided,
    error,
    form,
    lead_of,
    limits,
    met,
    missed,
    negated,
    reached,
    remembered,
    undecided,
    without,
)
from gem_lightning.features.criteria.pacing import active, atria_paced, led, suspended
from gem_lightning.features.schema import EcgFeatures

PAUSE = 1.3  # an RR above this multiple of the usual one holds a P wave that was not conducted (ours)


@remembered
def own_rr(features: EcgFeatures) -> np.ndarray:
    """Return RR intervals (n,) without ventricular ectopy, ms; none where fewer than three are left."""
    beats = features.beats
    own = ~np.isin(beats.beat_class, ("premature_ventricular", "unknown"))
    rr = beats.whole["rr_ms"][1:][own[1:] & own[:-1]]
    rr = rr[np.isfinite(rr)]
    return rr if len(rr) >= 3 else rr[:0]


def rr_change(rr: np.ndarray) -> float | None:
    """Return the root mean square of the change from one RR to the next, as a share of the mean."""
    return float(np.sqrt(np.mean(np.diff(rr) ** 2)) / np.mean(rr)) if len(rr) else None


def irregularly_irregular(rr: np.ndarray) -> Margin:
    """Decide whether RR intervals (n,) change like those of fibrillation; a few early beats do not."""
    rule = limits("atrial_fibrillation")
    if not len(rr):
        return None
    even = float((np.abs(rr / np.median(rr) - 1) < rule["even"]).mean())
    return all_of(above(rr_change(rr), rule["rr_change"], error("cv")), below(even, rule["most"], error("share")))


def grouped(rr: np.ndarray) -> bool:
    """Return whether RR intervals (n,) are of two lengths, as in grouped beats, which fibrillation hardly makes."""
    rule, ordered = limits("atrial_fibrillation"), np.sort(rr)
    cut = int(np.argmax(np.diff(ordered))) + 1
    short, long = ordered[:cut], ordered[cut:]
    if min(len(short), len(long)) < rule["group"]:
        return False
    within = np.sqrt((short.var() * len(short) + long.var() * len(long)) / len(rr))
    return bool(long.mean() - short.mean() > rule["apart"] * within)


def f_waves(features: EcgFeatures) -> bool:
    """Return whether what oscillates between the beats stands out from the noise."""
    atrial, noise = features.rhythm.atrial_mv, features.rhythm.noise_mv
    return atrial is not None and noise is not None and atrial >= limits("atrial_fibrillation")["f_waves"] * noise


@remembered
def p_share(features: EcgFeatures) -> float | None:
    """Return the share of beats with a P wave, without ventricular and paced ones where others are left."""
    beats = features.beats
    own = ~np.isin(beats.beat_class, ("premature_ventricular", "paced"))
    if own.mean() < 0.25:  # too few of the heart's own beats to stand for the rhythm (ours)
        return features.rhythm.p_per_qrs
    return float(np.isfinite(beats.whole["pr_ms"][own]).mean())


def free_p(features: EcgFeatures) -> bool:
    """Return whether P waves without a QRS complex were found."""
    return "p_free_of_qrs" in features.rhythm.notes


@remembered
def visible_p(features: EcgFeatures) -> bool:
    """Return whether the recording is clean enough for a P wave to be seen, if there were one."""
    trust = [lead.trust for lead in features.leads.values() if lead.trust > 0]
    return bool(trust) and float(np.median(trust)) >= limits("atrial_fibrillation")["trust"]


def repeated_p(features: EcgFeatures) -> float:
    """Return the largest share of beats, over trusted leads, that have a P wave in one lead."""
    table = features.beats
    shares = np.isfinite(table.by_lead["p_mv"]).mean(axis=1) if "p_mv" in table.by_lead else np.zeros(0)
    trusted = [lead_of(features, name).trust > 0 for name in table.leads]
    return float(max(shares[np.array(trusted, dtype=bool)], default=0.0)) if len(shares) else 0.0


# -- atria ---------------------------------------------------------------------------------------------------------


@criterion("atrial_flutter")
def atrial_flutter(features: EcgFeatures) -> Decision:
    """Decide on atrial waves of one form that fill the pauses (found with the P waves, ``delineation/atrial.py``)."""
    evidence = {"p_per_qrs": p_share(features), "rr_change": rr_change(own_rr(features))}
    return decided(form("flutter_waves" in features.rhythm.notes), evidence, certainty="probable")


@criterion("atrial_fibrillation")
def atrial_fibrillation(features: EcgFeatures) -> Decision:
    """Decide on an irregularly irregular rhythm without P waves, where the recording would show them."""
    rr, share, rule = own_rr(features), p_share(features), limits("atrial_fibrillation")
    evidence = {"p_per_qrs": share, "rr_change": rr_change(rr), "rr_cv": features.rhythm.rr_cv}
    uneven, few = irregularly_irregular(rr), below(share, rule["p_share"], error("share"))
    margin = all_of(
        uneven,
        few,
        below(repeated_p(features), rule["p_share"], error("share")),
        form(not free_p(features)),
        form("grouped_rr" not in features.rhythm.notes),
        without(features, "atrial_flutter"),
    )
    if reached(margin) and (len(rr) < rule["beats"] or not visible_p(features)):
        return undecided("irregular rhythm, P waves not identified: too few beats or too much noise", evidence)
    if reached(margin) and grouped(rr):
        return undecided("irregular rhythm, P waves not identified: the beats come in groups", evidence)
    if reached(few) and not reached(uneven):
        # a pacemaker or a complete AV block makes the ventricles of a fibrillating heart beat evenly
        open_ = led(features)
        if open_ is not None:
            return open_
    return decided(margin, evidence, certainty="definite" if f_waves(features) else "probable")


@criterion("p_absent")
def p_absent(features: EcgFeatures) -> Decision:
    """Decide whether P waves are missing; flutter waves take their place, and pacing hides what leads the beats."""
    share = p_share(features)
    margin = all_of(below(share, limits("p_absent")["p_share"], error("share")), form(not free_p(features)))
    decision = decided(margin, {"p_per_qrs": share})
    open_ = suspended(features, "atrial_flutter", "paced_rhythm")
    # stimuli of the atria that no P wave is seen to follow: unseen, or without capture
    return open_ or (led(features) if decision.met else None) or decision


# -- sinus node ----------------------------------------------------------------------------------------------------


def block_of(features: EcgFeatures) -> bool:
    """Return whether there is a second-degree AV block, whose pauses are not the sinus node's."""
    return met(features, "av_block_2_mobitz_1", "av_block_2_mobitz_2")


@criterion("sinus_rhythm")
def sinus_rhythm(features: EcgFeatures) -> Decision:
    """Decide whether P waves lead the QRS and are inverted neither in I nor in II, at whatever rate.

    P waves that a pacemaker starts are not the sinus node's.
    """
    share, rate = p_share(features), features.heart_rate_bpm
    evidence = {"heart_rate_bpm": rate, "p_per_qrs": share, "p_axis_deg": features.axis_deg.get("P"),
                "pr_ms": features.pr_ms}  # fmt: skip
    block, exchanged = block_of(features), met(features, "electrode_misplacement", "dextrocardia")
    if block and features.rr_ms:  # the sinus node's rate is that of the usual RR, without the pauses
        evidence["sinus_rate_bpm"] = 60_000 / features.rr_ms
    seen = [p for name in ("I", "II") if (p := lead_of(features, name).p_form) not in (None, "absent")]
    margin = all_of(
        at_least(share, limits("sinus_rhythm")["p_share"], error("share")),
        form("inverted" not in seen or exchanged),
        without(features, "atrial_fibrillation", "atrial_flutter", "multifocal_atrial_tachycardia"),
        None if rate is None else FORM,
        form(not atria_paced(features)),
    )
    certainty = "definite" if seen and not block and not exchanged else "probable"
    # atria and ventricles beat on their own: "sinus rhythm" would describe the atria, the rate the ventricles
    open_ = suspended(features, "av_block_3")
    if open_ is None and missed(margin) and not atria_paced(features):
        open_ = suspended(features, "paced_rhythm")  # the atria may beat on their own under ventricular pacing
    return open_ or decided(margin, evidence, certainty=certainty)


def _with_rate(features: EcgFeatures, rate_margin: Margin) -> Decision:
    sinus = decide("sinus_rhythm", features)
    margin = all_of(sinus.margin, rate_margin)
    return decided(margin, sinus.evidence, certainty=sinus.certainty, reason=sinus.reason)


def sinus_rate(features: EcgFeatures) -> float | None:
    """Return the rate of the sinus node, bpm."""
    evidence = decide("sinus_rhythm", features).evidence
    return evidence.get("sinus_rate_bpm", features.heart_rate_bpm)


@criterion("sinus_bradycardia")
def sinus_bradycardia(features: EcgFeatures) -> Decision:
    """Decide on a slow sinus rhythm."""
    return _with_rate(features, below(sinus_rate(features), limits("sinus_bradycardia")["rate"], error("bpm")))


@criterion("sinus_tachycardia")
def sinus_tachycardia(features: EcgFeatures) -> Decision:
    """Decide on a fast sinus rhythm."""
    return _with_rate(features, above(sinus_rate(features), limits("sinus_tachycardia")["rate"], error("bpm")))


@criterion("sinus_arrhythmia")
def sinus_arrhythmia(features: EcgFeatures) -> Decision:
    """Decide on sinus rhythm of uneven RR."""
    normal = features.beats.beat_class == "normal"
    rr = features.beats.whole["rr_ms"][1:][normal[1:] & normal[:-1]]
    rr = rr[np.isfinite(rr)]
    spread = float(np.ptp(rr)) if len(rr) >= 3 else None  # fewer intervals show no rhythm (ours)
    uneven = above(spread, limits("sinus_arrhythmia")["spread"], error("ms"))
    # the pauses of an AV block make RR uneven as well
    open_ = suspended(features, "av_block_2_mobitz_1", "av_block_2_mobitz_2")
    return open_ or decided(all_of(decide("sinus_rhythm", features).margin, uneven), {"rr_spread_ms": spread})


# -- regularity ----------------------------------------------------------------------------------------------------


def variation(features: EcgFeatures) -> float | None:
    """Return the coefficient of variation of RR; None below four beats, too few to show regularity (ours)."""
    return features.rhythm.rr_cv if features.beats.time_s.size >= 4 else None


@criterion("regular_rhythm")
def regular_rhythm(features: EcgFeatures) -> Decision:
    """Decide whether RR is even."""
    cv = variation(features)
    even = below(cv, limits("regular_rhythm")["cv"], error("cv"))
    # an uneven sinus rhythm may vary little for its slow rate
    return decided(all_of(even, without(features, "sinus_arrhythmia")), {"rr_cv": cv})


@criterion("irregular_rhythm")
def irregular_rhythm(features: EcgFeatures) -> Decision:
    """Decide whether RR is uneven."""
    cv = variation(features)
    return decided(above(cv, limits("irregular_rhythm")["cv"], error("cv")), {"rr_cv": cv})


# -- premature beats -----------------------------------------------------------------------------------------------


def _counted(features: EcgFeatures, name: str) -> Decision:
    here = features.beats.beat_class == name
    times = [round(float(t), 2) for t in features.beats.time_s[here]]
    return decided(form(bool(times)), {"count": len(times), "times_s": times})


@criterion("pac")
def pac(features: EcgFeatures) -> Decision:
    """Decide on premature supraventricular beats; where the atria fibrillate or flutter, no beat is premature."""
    open_ = suspended(features, "atrial_fibrillation", "atrial_flutter")
    return open_ or _counted(features, "premature_supraventricular")


@criterion("pvc")
def pvc(features: EcgFeatures) -> Decision:
    """Decide on premature ventricular beats, which wide paced beats may hide."""
    decision = _counted(features, "premature_ventricular")
    return (None if decision.met else suspended(features, "paced_rhythm")) or decision


@criterion("bigeminy")
def bigeminy(features: EcgFeatures) -> Decision:
    """Decide whether every second beat is premature."""
    early = int((features.beats.beat_class != "normal").sum())
    return decided(form(features.rhythm.pattern == "bigeminy"), {"count": early})


# -- AV conduction -------------------------------------------------------------------------------------------------

NO_CONDUCTION = ("paced_rhythm", "atrial_fibrillation", "atrial_flutter")  # P waves do not show what the node conducts


def unjudged(features: EcgFeatures) -> Decision | None:
    """Return an open decision on AV conduction where the atria or a pacemaker hide it, else None."""
    open_ = suspended(features, *NO_CONDUCTION)
    return open_ and open_._replace(reason=f"AV conduction cannot be judged: {open_.reason}")


def pr_spread(features: EcgFeatures) -> float | None:
    """Return the range of PR over beats, ms."""
    pr = features.beats.whole["pr_ms"]
    pr = pr[np.isfinite(pr)]
    return float(np.ptp(pr)) if len(pr) else None


def _block_evidence(features: EcgFeatures) -> dict[str, float | None]:
    rhythm = features.rhythm
    return {"pr_range_ms": pr_spread(features), "p_per_qrs": rhythm.p_per_qrs,
            "heart_rate_bpm": features.heart_rate_bpm}  # fmt: skip


@criterion("av_block_3")
def av_block_3(features: EcgFeatures) -> Decision:
    """Decide on P waves and a regular ventricular rhythm without relation."""
    spread = pr_spread(features)
    apart = FORM if spread is None else above(spread, limits("av_block_3")["spread"], error("ms"))
    margin = all_of(form(free_p(features)), form(bool(features.rhythm.regular)), apart)
    fibrillation = decide("atrial_fibrillation", features)
    if fibrillation.met:  # complete block would make the ventricles of a fibrillating heart beat evenly
        return decided(negated(max(fibrillation.margin or 0.0, FORM)), _block_evidence(features))
    return unjudged(features) or decided(margin, _block_evidence(features))


@remembered
def _wenckebach(features: EcgFeatures) -> tuple[Margin, float]:
    """Return the margin of Mobitz type I against type II, and by how much PR grows before the pauses, ms."""
    if not free_p(features):
        return None, 0.0
    rr, pr, rule = features.beats.whole["rr_ms"], features.beats.whole["pr_ms"], limits("av_block_2_mobitz_1")
    if not np.isfinite(rr).any():
        return None, 0.0
    pauses = np.flatnonzero(rr > PAUSE * np.nanmedian(rr))
    growth = [pr[i - 1] - pr[i] for i in pauses]  # the first RR is unknown, so there is a beat before
    growth = [g for g in growth if np.isfinite(g)]
    typical = float(np.median(growth)) if growth else 0.0
    # a pause that holds a prolonged PR is shorter than two cycles
    short = bool(len(pauses)) and not growth and np.median(rr[pauses]) < rule["pause"] * np.nanmin(rr)
    return any_of(above(typical, rule["growth"], error("ms")), form(bool(short))), typical


def _second_degree(features: EcgFeatures, type_1: bool) -> Decision:
    grows, typical = _wenckebach(features)
    kind = grows if type_1 else negated(grows)
    margin = all_of(form(free_p(features)), without(features, "av_block_3", "av_block_2_1"), kind)
    evidence = _block_evidence(features) | {"pr_growth_ms": typical}
    return unjudged(features) or decided(margin, evidence, certainty="probable")


@criterion("av_block_2_mobitz_1")
def mobitz_1(features: EcgFeatures) -> Decision:
    """Decide on P waves that are not conducted after a growing PR."""
    return _second_degree(features, type_1=True)


@criterion("av_block_2_mobitz_2")
def mobitz_2(features: EcgFeatures) -> Decision:
    """Decide on P waves that are not conducted at a constant PR."""
    return _second_degree(features, type_1=False)


def _pr(features: EcgFeatures, margin: Margin) -> Decision:
    """Decide on PR where every P wave leads a QRS complex; without P waves there is no PR to be normal or long."""
    evidence = {"pr_ms": features.pr_ms}
    if met(features, "p_absent", "atrial_fibrillation", "atrial_flutter"):
        return Decision(False, -FORM, {"p_per_qrs": p_share(features)})
    open_ = suspended(features, "av_block_2_mobitz_1", "av_block_2_mobitz_2", "av_block_3")
    if open_ is None and active(features, "paced_rhythm"):
        open_ = unjudged(features)
    if open_ is None and not (met(features, "sinus_rhythm") or atria_paced(features)):
        return undecided("PR is decided in sinus rhythm and atrial pacing only", evidence)
    return open_ or decided(margin, evidence)


@criterion("av_block_1", "prolonged_pr")
def av_block_1(features: EcgFeatures) -> Decision:
    """Decide on a long PR."""
    return _pr(features, above(features.pr_ms, limits("av_block_1")["pr"], error("ms")))


@criterion("normal_pr")
def normal_pr(features: EcgFeatures) -> Decision:
    """Decide on a PR that is neither short nor long."""
    rule, pr = limits("normal_pr"), features.pr_ms
    return _pr(features, all_of(at_least(pr, rule["low"], error("ms")), at_most(pr, rule["high"], error("ms"))))
