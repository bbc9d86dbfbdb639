"""Electrode exchange, as the leads themselves show it, and which findings it puts in doubt."""

from __future__ import annotations

from gem_lightning.features.criteria.base import (
    Decision,
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
    one, six = lead_of(features, "I"), lead_of(features, "V6")
    if one.qrs_mv is None or six.qrs_mv is None:
        return undecided("lead I or V6 was not measured")
    inverted = all_of(form(one.p_form == "inverted"), form(downward(one) > upward(one)))
    margin = all_of(inverted, form(upward(six) > downward(six)))
    evidence = {"p_I_mv": one.p_mv, "qrs_form_I": one.qrs_form, "qrs_form_V6": six.qrs_form}
    return decided(margin, evidence, leads=("I", "aVR", "aVL", "II", "III"), certainty="probable")
