"""Rhythm: origin, rate, regularity, AV conduction, premature and paced beats."""

from __future__ import annotations

import numpy as np

from gem_lightning.features.criteria.base import Case, limits


def rhythm_rules(case: Case) -> None:
    """State what the rhythm is; later rules build on it."""
    paced(case)
    atrial(case, own_rr(case))
    block = av_block(case)
    if not case.has("atrial_fibrillation", "atrial_flutter", "av_block_3"):
        sinus(case, block)
    regularity(case)
    premature(case)
    pr_interval(case)


def own_rr(case: Case) -> np.ndarray:
    """(n,) RR intervals without ventricular ectopy, ms; none where fewer than three are left."""
    beats = case.features.beats
    own = ~np.isin(beats.beat_class, ("premature_ventricular", "unknown"))
    rr = beats.whole["rr_ms"][1:][own[1:] & own[:-1]]
    rr = rr[np.isfinite(rr)]
    return rr if len(rr) >= 3 else rr[:0]


def rr_change(rr: np.ndarray) -> float | None:
    """Root mean square of the change from one RR to the next, as a share of the mean."""
    return float(np.sqrt(np.mean(np.diff(rr) ** 2)) / np.mean(rr)) if len(rr) else None


def irregularly_irregular(rr: np.ndarray) -> bool:
    """Whether RR intervals (n,) change like those of fibrillation; a few early beats in an even rhythm do not."""
    limit = limits("atrial_fibrillation")
    if (rr_change(rr) or 0) <= limit["rr_change"]:
        return False
    return bool((np.abs(rr / np.median(rr) - 1) < limit["even"]).mean() < limit["most"])


def p_share(case: Case) -> float | None:
    """Share of beats with a P wave, not counting ventricular and paced ones, where others are left."""
    beats = case.features.beats
    own = ~np.isin(beats.beat_class, ("premature_ventricular", "paced"))
    if own.mean() < 0.25:
        return case.features.rhythm.p_per_qrs
    return float(np.isfinite(beats.whole["pr_ms"][own]).mean())


def paced(case: Case) -> None:
    """Pacemaker rhythm."""
    share = float((case.features.beats.beat_class == "paced").mean())
    if share >= limits("paced_rhythm")["share"]:
        case.state("paced_rhythm", {"paced_share": share})


def atrial(case: Case, rr: np.ndarray) -> None:
    """Atrial flutter and fibrillation, absent P waves, from the RR intervals (n,) without ventricular ectopy, ms."""
    rhythm = case.features.rhythm
    share, irregular = p_share(case), rr_change(rr)
    if "flutter_waves" in rhythm.notes:
        case.state("atrial_flutter", {"p_per_qrs": share, "rr_change": irregular}, "probable")
        return
    fibrillation = limits("atrial_fibrillation")
    if share is None:
        return
    free = "p_free_of_qrs" in rhythm.notes
    if irregularly_irregular(rr) and share < fibrillation["p_share"] and not free:
        case.state("atrial_fibrillation", {"p_per_qrs": share, "rr_change": irregular, "rr_cv": rhythm.rr_cv})
    if share < limits("p_absent")["p_share"] and not free:
        case.state("p_absent", {"p_per_qrs": share})


def av_block(case: Case) -> bool:
    """Second- and third-degree AV block; whether there is one."""
    rhythm, whole = case.features.rhythm, case.features.beats.whole
    if "p_free_of_qrs" not in rhythm.notes or case.has("paced_rhythm", "atrial_fibrillation", "atrial_flutter"):
        return False
    pr = whole["pr_ms"][np.isfinite(whole["pr_ms"])]
    spread = float(np.ptp(pr)) if len(pr) else None
    evidence = {"pr_range_ms": spread, "p_per_qrs": rhythm.p_per_qrs, "heart_rate_bpm": case.features.heart_rate_bpm}
    third = limits("av_block_3")
    if rhythm.regular and (spread is None or spread > third["spread"]):
        case.state("av_block_3", evidence)
        return True
    rr = whole["rr_ms"]
    if not np.isfinite(rr).any():
        return False
    usual = np.nanmedian(rr)
    pauses = np.flatnonzero(rr > 1.3 * usual)
    growth = [whole["pr_ms"][i - 1] - whole["pr_ms"][i] for i in pauses if i >= 1]
    growth = [g for g in growth if np.isfinite(g)]
    typical = float(np.median(growth)) if growth else 0.0
    rule = limits("av_block_2_mobitz_1")
    short = bool(len(pauses)) and not growth and np.median(rr[pauses]) < rule["pause"] * np.nanmin(rr)
    code = "av_block_2_mobitz_1" if short or typical > rule["growth"] else "av_block_2_mobitz_2"
    case.state(code, evidence | {"pr_growth_ms": typical}, "probable")
    return True


def sinus(case: Case, block: bool) -> None:
    """Sinus rhythm, too slow, too fast or uneven."""
    features, rule = case.features, limits("sinus_rhythm")
    share, axis, rate = p_share(case), features.axis_deg.get("P"), features.heart_rate_bpm
    if share is None or rate is None or share < rule["p_share"]:
        return
    evidence = {"heart_rate_bpm": rate, "p_per_qrs": share, "p_axis_deg": axis, "pr_ms": features.pr_ms}
    if block and features.rr_ms:  # the sinus node's rate is that of the usual RR, without the pauses
        rate = 60_000 / features.rr_ms
        evidence["sinus_rate_bpm"] = rate
    seen = [form for name in ("I", "II") if (form := case.lead(name).p_form) not in (None, "absent")]
    if "inverted" in seen:
        return
    certainty = "definite" if seen and not block else "probable"
    if rate < limits("sinus_bradycardia")["rate"]:
        case.state("sinus_bradycardia", evidence, certainty)
    elif rate > limits("sinus_tachycardia")["rate"]:
        case.state("sinus_tachycardia", evidence, certainty)
    else:
        case.state("sinus_rhythm", evidence, certainty)
    normal = features.beats.beat_class == "normal"
    rr = features.beats.whole["rr_ms"][1:][normal[1:] & normal[:-1]]
    rr = rr[np.isfinite(rr)]
    if len(rr) >= 3 and not block and np.ptp(rr) > limits("sinus_arrhythmia")["spread"]:
        case.state("sinus_arrhythmia", {"rr_spread_ms": float(np.ptp(rr))})


def regularity(case: Case) -> None:
    """Regular or irregular ventricular rhythm."""
    cv = case.features.rhythm.rr_cv
    if cv is None or case.features.beats.time_s.size < 4:
        return
    if cv < limits("regular_rhythm")["cv"]:
        case.state("regular_rhythm", {"rr_cv": cv})
    elif cv > limits("irregular_rhythm")["cv"]:
        case.state("irregular_rhythm", {"rr_cv": cv})


def premature(case: Case) -> None:
    """Premature beats and bigeminy."""
    beats = case.features.beats
    for code, name in (("pac", "premature_supraventricular"), ("pvc", "premature_ventricular")):
        here = beats.beat_class == name
        if here.any() and not (code == "pac" and case.has("atrial_fibrillation", "atrial_flutter")):
            case.state(code, {"count": int(here.sum()), "times_s": [round(float(t), 2) for t in beats.time_s[here]]})
    if case.features.rhythm.pattern == "bigeminy":
        case.state("bigeminy", {"count": int((beats.beat_class != "normal").sum())})


def pr_interval(case: Case) -> None:
    """PR interval, where every P wave leads a QRS complex."""
    pr = case.features.pr_ms
    conducted = case.has("sinus_rhythm", "sinus_bradycardia", "sinus_tachycardia")
    if pr is None or not conducted or case.has("av_block_2_mobitz_1", "av_block_2_mobitz_2", "av_block_3"):
        return
    if pr > limits("av_block_1")["pr"]:
        case.state("av_block_1", {"pr_ms": pr})
        case.state("prolonged_pr", {"pr_ms": pr})
    elif pr >= limits("normal_pr")["low"]:
        case.state("normal_pr", {"pr_ms": pr})
