"""Electrode exchange and dextrocardia, as the leads themselves show them, and which findings they put in doubt."""

from __future__ import annotations

from gem_lightning.features.criteria.base import (
    CHEST,
    Decision,
    Margin,
    all_of,
    criterion,
    decided,
    downward,
    form,
    lead_of,
    undecided,
    upward,
)
from gem_lightning.features.schema import EcgFeatures


@criterion("electrode_misplacement")
def electrode_misplacement(features: EcgFeatures) -> Decision:
    """Decide on exchanged arm electrodes: P and QRS upside down in I while V6 is upright, unlike in dextrocardia.

    Exchanges of LA and LL or of neighbouring chest electrodes leave a plausible ECG and are not decided.
    """
    six = lead_of(features, "V6")
    return _inverted_one(features, form(upward(six) > downward(six)), ("I", "aVR", "aVL", "II", "III"))


@criterion("dextrocardia")
def dextrocardia(features: EcgFeatures) -> Decision:
    """Decide on a heart on the right: P and QRS upside down in I, and a QRS that shrinks from V2 to a negative V6."""
    two, six = lead_of(features, "V2"), lead_of(features, "V6")
    smaller = two.qrs_mv is not None and six.qrs_mv is not None and six.qrs_mv < two.qrs_mv
    away = all_of(form(downward(six) > upward(six)), form(smaller))
    return _inverted_one(features, away, ("I", "aVR", "aVL", *CHEST))


def _inverted_one(features: EcgFeatures, chest: Margin, leads: tuple[str, ...]) -> Decision:
    """Decide on P and QRS upside down in I together with what the chest leads show."""
    one, six = lead_of(features, "I"), lead_of(features, "V6")
    if one.qrs_mv is None or six.qrs_mv is None:
        return undecided("lead I or V6 was not measured")
    margin = all_of(form(one.p_form == "inverted"), form(downward(one) > upward(one)), chest)
    evidence = {"p_I_mv": one.p_mv, "qrs_form_I": one.qrs_form, "qrs_form_V6": six.qrs_form}
    return decided(margin, evidence, leads=leads, certainty="probable")
