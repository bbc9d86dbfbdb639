"""Paced rhythm, and what abnormal ventricular activation leaves undecided."""

from __future__ import annotations

from typing import Any

import numpy as np

from gem_lightning.features.criteria.base import (
    Decision,
    Part,
    at_least,
    criteria,
    criterion,
    decide,
    decided,
    error,
    limits,
    undecided,
)
from gem_lightning.features.schema import STIMULI, EcgFeatures

# Activation that does not start in the His bundle or misses its left branch: voltages, Q waves and R progression then
# do not mean what the criteria of normal conduction take them for (AHA/ACCF/HRS part V, part III).
ABNORMAL_ACTIVATION = ("paced_rhythm", "lbbb", "pre_excitation")
# ST-T changes follow from the QRS complex in these (secondary changes, AHA/ACCF/HRS part IV).
SECONDARY = (*ABNORMAL_ACTIVATION, "rbbb")


def _stimulated(features: EcgFeatures, column: str) -> np.ndarray:
    """Return which beats (beats,) have such a stimulus; none where the table has no such column."""
    return np.isfinite(features.beats.whole.get(column, np.full(len(features.beats), np.nan)))


def paced_beats(features: EcgFeatures) -> np.ndarray:
    """Return which beats (beats,) follow a stimulus; one of the atria alone leaves a beat the class of its form."""
    return _stimulated(features, "atrial_stimulus_ms") | (features.beats.beat_class == "paced")


def _chamber(features: EcgFeatures, atria: np.ndarray, ventricles: np.ndarray) -> str:
    """Return the chamber that is paced, from the beats (beats,) with a stimulus of each.

    A chamber counts with enough beats of its own; where no beat stands out by its stimulus, a wide QRS complex decides.
    """
    rule = limits("paced_rhythm")
    if not (atria.any() or _stimulated(features, "ventricular_stimulus_ms").any()):
        wide = features.qrs_ms is not None and features.qrs_ms >= rule["qrs"]
        return "ventricle" if ventricles.any() and wide else "not determined"
    shares = {"atrium": float(atria.mean()), "ventricle": float(ventricles.mean())}
    least = min(rule["share"], max(shares.values()))
    return " and ".join(chamber for chamber, share in shares.items() if share >= least)


@criterion("paced_rhythm")
def paced_rhythm(features: EcgFeatures) -> Decision:
    """Decide whether a pacemaker starts beats, and in which chamber.

    Pacing of the ventricles, of some beats even, suspends what the form of the QRS complex would mean.
    """
    rule, statements = limits("paced_rhythm"), criteria()["findings"]["paced_rhythm"]["chambers"]
    atria, ventricles = _stimulated(features, "atrial_stimulus_ms"), features.beats.beat_class == "paced"
    share = float(paced_beats(features).mean())
    evidence: dict[str, Any] = {"paced_share": share, "paced_chamber": _chamber(features, atria, ventricles)}
    for name in STIMULI:
        beats = _stimulated(features, name)
        evidence |= {name: float(np.median(features.beats.whole[name][beats]))} if beats.any() else {}
    statement = statements.get(evidence["paced_chamber"])
    parts = (Part(statement, (), evidence),) if statement else ()
    return decided(at_least(share, rule["share"], error("share")), evidence, parts=parts)


def atria_paced(features: EcgFeatures) -> bool:
    """Return whether a pacemaker, not the sinus node, starts the atria."""
    decision = decide("paced_rhythm", features)
    return bool(decision.met) and "atrium" in decision.evidence["paced_chamber"]


def active(features: EcgFeatures, *codes: str) -> str:
    """Return the first of these findings that is met and changes how the ventricles are activated, else empty.

    Pacing of the atrium alone does not: conduction and the QRS complex are the patient's own.
    """
    for code in codes:
        decision = decide(code, features)
        if decision.met and decision.evidence.get("paced_chamber") != "atrium":
            return code
    return ""


def suspended(features: EcgFeatures, *codes: str) -> Decision | None:
    """Return an open decision where one of these findings makes a criterion meaningless, else None.

    Pacing of the atrium alone does so to criteria of where the rhythm comes from only, see :func:`led`.
    """
    code = active(features, *codes)
    return _in_presence(code) if code else None


def led(features: EcgFeatures) -> Decision | None:
    """Return an open decision on the origin of a rhythm that a pacemaker leads in whatever chamber, else None."""
    return _in_presence("paced_rhythm") if decide("paced_rhythm", features).met else None


def _in_presence(code: str) -> Decision:
    return undecided(f"not decided in the presence of {criteria()['findings'][code]['statement']}")
