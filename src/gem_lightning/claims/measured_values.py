"""What was measured where a claim points: the record, leads or one beat."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from gem_lightning.claims.claim import Claim
from gem_lightning.ecg.record import LEADS

if TYPE_CHECKING:
    from gem_lightning.features.schema import EcgFeatures

_WHOLE = {"rr": "rr_ms", "pr": "pr_ms", "qrs": "qrs_ms", "qt": "qt_ms", "jt": "jt_ms", "p_duration": "p_ms"}
_LEAD = {
    "pr": "pr_ms",
    "qrs": "qrs_ms",
    "qt": "qt_ms",
    "p_duration": "p_ms",
    "p_amplitude": "p_mv",
    "q_duration": "q_ms",
    "q_amplitude": "q_mv",
    "r_duration": "r_ms",
    "r_amplitude": "r_mv",
    "s_duration": "s_ms",
    "s_amplitude": "s_mv",
    "t_duration": "t_ms",
    "t_amplitude": "t_mv",
}
_QRS_WAVES = ("q_amplitude", "r_amplitude", "s_amplitude")
_AXES = {"axis_p": "P", "axis_qrs": "QRS", "axis_t": "T"}


class Reading(NamedTuple):
    """One measured value.

    Attributes:
        value: In the claim's unit, or None with the reason why there is none.
        where: Lead name, formula or empty.
        reason: Why there is no value.
    """

    value: float | None
    where: str = ""
    reason: str = ""


def readings(features: EcgFeatures, claim: Claim) -> list[Reading]:
    """Every measured value that the claim speaks of; with several leads one each."""
    if claim.beat is not None:
        return _of_beat(features, claim)
    if claim.leads and (claim.kind in _LEAD or claim.kind == "st_level"):
        return [_of_lead(features, claim.kind, lead) for lead in claim.leads]
    if claim.kind in _AXES:
        return [_plain(features.axis_deg.get(_AXES[claim.kind]))]
    if claim.kind == "heart_rate":
        return [_plain(features.heart_rate_bpm)]
    if claim.kind == "qtc":
        return [Reading(_finite(value), name) for name, value in features.qtc_ms.items()] or [_plain(None)]
    if claim.kind == "voltage_sum":
        return [_plain(features.voltages_mv.get(claim.finding or ""))]
    if claim.kind in _WHOLE:
        return [_plain(getattr(features, _WHOLE[claim.kind]))]
    return [_of_lead(features, claim.kind, lead) for lead in LEADS if lead in features.leads]


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def _plain(value: float | None) -> Reading:
    value = _finite(value)
    return Reading(value, "", "" if value is not None else "not measured in this record")


def _of_lead(features: EcgFeatures, kind: str, lead: str) -> Reading:
    row = features.leads.get(lead)
    if row is None or row.trust <= 0:
        return Reading(None, lead, f"lead {lead} cannot be trusted")
    if kind == "st_level":
        value = _finite(features.st_mv.get(lead, {}).get("J"))
        return Reading(value, lead, "" if value is not None else f"ST level not measured in {lead}")
    value = _finite(getattr(row, _LEAD[kind]))
    if value is None and kind in _QRS_WAVES and row.qrs_form is not None:
        return Reading(0.0, lead)  # the complex is measured and lacks this wave
    if kind == "s_amplitude" and row.qrs_form == "QS":
        value = max(value or 0.0, row.q_mv or 0.0)
    return Reading(value, lead, "" if value is not None else f"not measured in lead {lead}")


def _of_beat(features: EcgFeatures, claim: Claim) -> list[Reading]:
    beats = features.beats
    assert claim.beat is not None
    index = claim.beat - 1 if claim.beat > 0 else len(beats) + claim.beat
    if not 0 <= index < len(beats):
        return [Reading(None, "", f"the record has {len(beats)} beats")]
    if claim.leads:
        column = {"st_level": "st_j_mv"}.get(claim.kind, _LEAD.get(claim.kind, ""))
        if column not in beats.by_lead:
            return [Reading(None, "", "not measured beat by beat")]
        rows = [(lead, beats.leads.index(lead)) for lead in claim.leads if lead in beats.leads]
        values = [(lead, _finite(beats.by_lead[column][row, index])) for lead, row in rows]
        return [Reading(v, lead, "" if v is not None else f"not measured in lead {lead}") for lead, v in values]
    if claim.kind in ("rr", "heart_rate"):
        rr = beats.whole["rr_ms"]
        near = [_finite(rr[k]) for k in (index, index + 1) if k < len(rr)]  # to the beat before or to the next
        values_near = [v if claim.kind == "rr" else 60000.0 / v for v in near if v]
        return [Reading(v, "") for v in values_near] or [Reading(None, "", "no RR interval at this beat")]
    column = _WHOLE.get(claim.kind, "")
    if column not in beats.whole:
        return [Reading(None, "", "not measured beat by beat")]
    return [_plain(beats.whole[column][index])]
