"""Paced rhythm, and what abnormal ventricular activation leaves undecided."""

from __future__ import annotations

from gem_lightning.features.criteria.base import (
    Decision,
    at_least,
    criteria,
    criterion,
    decide,
    decided,
    error,
    limits,
    undecided,
)
from gem_lightning.features.schema import EcgFeatures

# Activation that does not start in the His bundle or misses its left branch: voltages, Q waves and R progression then
# do not mean what the criteria of normal conduction take them for (AHA/ACCF/HRS part V, part III).
ABNORMAL_ACTIVATION = ("paced_rhythm", "lbbb", "pre_excitation")
# ST-T changes follow from the QRS complex in these (secondary changes, AHA/ACCF/HRS part IV).
SECONDARY = (*ABNORMAL_ACTIVATION, "rbbb")


@criterion("paced_rhythm")
def paced_rhythm(features: EcgFeatures) -> Decision:
    """Decide whether a pacemaker starts beats; pacing of some beats suspends what their form would mean."""
    share, rule = float((features.beats.beat_class == "paced").mean()), limits("paced_rhythm")
    # the stimulus of a narrow complex may have gone to the atrium or the His bundle
    wide = features.qrs_ms is not None and features.qrs_ms >= rule["qrs"]
    evidence = {"paced_share": share, "paced_chamber": "ventricle" if wide else "not determined"}
    return decided(at_least(share, rule["share"], error("share")), evidence)


def suspended(features: EcgFeatures, *codes: str) -> Decision | None:
    """Return an open decision where one of these findings makes a criterion meaningless, else None."""
    for code in codes:
        if decide(code, features).met:
            return undecided(f"not decided in the presence of {criteria()['findings'][code]['statement']}")
    return None
