"""Verification of a text against the measurements of its record, claim by claim."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from gem_lightning.claims.claim import Claim
from gem_lightning.claims.conflicts import ALWAYS_URGENT, conflicts
from gem_lightning.claims.extract import TextReading, read_text
from gem_lightning.claims.report import CONTRADICTED, SUPPORTED, UNVERIFIABLE, ClaimReport, Verdict, mentions_of
from gem_lightning.claims.tolerance import BORDERLINE, Tolerance, default_tolerance
from gem_lightning.ecg.record import LEADS
from gem_lightning.features.criteria import Decision, by_lead, criteria, wording
from gem_lightning.features.criteria.base import decide, refresh
from gem_lightning.features.criteria.pacing import paced_beats
from gem_lightning.features.criteria.summary import READABLE
from gem_lightning.features.criteria.summary import abnormal as abnormal_codes
from gem_lightning.features.criteria.summary import urgent as urgent_codes

if TYPE_CHECKING:
    from gem_lightning.features.schema import EcgFeatures, Finding

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
    "qrs_amplitude": "qrs_mv",
}
_QRS_WAVES = ("q_amplitude", "r_amplitude", "s_amplitude")
_P_WAVE = ("pr", "p_duration", "p_amplitude", "axis_p")
#: Quantities that flutter waves distort: they run through ST segment and T wave.
_ST_T = frozenset(("st_level", "t_amplitude", "t_duration", "qt", "qtc", "jt"))
_AXES = {"axis_p": "P", "axis_qrs": "QRS", "axis_t": "T"}
_BEAT_CLASSES = {"pvc": "premature_ventricular", "pac": "premature_supraventricular", "paced_rhythm": "paced"}
_RANK = {SUPPORTED: 0, UNVERIFIABLE: 1, CONTRADICTED: 2}
#: Measurement errors by which a criterion is missed (or met) before a hedged statement of the opposite is contradicted.
#: Hedged numbers are left open up to three deviations of expert disagreement; those are 5 (QRS: 3 times 17 of 10 ms)
#: to 6 (axis: 3 times 10 of 5 degrees) errors of a repeated measurement.
_FIRMLY = 5.0
_FIRMLY_URGENT = 3.0  # of an emergency: suspected without need it does as much harm as stated (ours)
#: Diseases and anatomy that their ECG criteria detect in a part of the cases only (Hancock et al., Circulation
#: 2009;119:e251, on hypertrophy; Thygesen et al., Circulation 2018;138:e618, on infarction and ischaemia): a criterion
#: that is missed does not exclude them, so "possible X" stays open.
_SUGGESTED = frozenset(
    ("lvh", "rvh", "left_atrial_enlargement", "right_atrial_enlargement", "mi", "mi_inferior", "mi_anterior",
     "mi_lateral", "mi_septal", "mi_posterior", "ischaemia", "pericarditis", "hyperkalaemia", "brugada",
     "early_repolarization", "electrode_misplacement", "wellens", "de_winter", "hyperacute_t", "rv_strain",
     "dextrocardia")
)  # fmt: skip
_BAND_OF_HEDGED = 1.5  # "about" and "possibly" widen what is left open to three standard deviations (ours)
_ROUNDING = 1e-9  # a value exactly at its tolerance is within it


def verify(
    text: str | Sequence[Claim],
    features: EcgFeatures,
    tolerance: Mapping[str, float] | float | None = None,
    findings: Sequence[Finding] | None = None,
) -> ClaimReport:
    """Verify every claim of a text.

    Args:
        text: The text, or claims extracted before.
        features: Measurements of the record that the text is about. Criteria take age and sex from them.
        tolerance: Absolute tolerances by claim kind in its unit, or one factor for all; None takes the defaults of
            :mod:`gem_lightning.claims.tolerance`.
        findings: Findings of the record, whose coverage is reported; None decides
            them.  Verdicts do not depend on them.

    Returns:
        A verdict for each claim and the metrics that follow.
    """
    if isinstance(text, str):
        reading, full = read_text(text), text
    else:
        reading, full = TextReading(list(text), [], ()), ""
    claims = reading.claims
    refresh(features)
    verifier = Verifier(features, tolerance)
    verdicts = [verifier(claim) for claim in claims]
    stated = abnormal_codes(features) if findings is None else [f.code for f in findings if f.abnormal]
    abnormal = tuple(dict.fromkeys(stated))
    mentioned, internal = mentions_of(verdicts, abnormal), conflicts(claims)
    urgent = tuple(urgent_codes(features)) if findings is None else tuple(f.code for f in findings if f.urgent)
    return ClaimReport(verdicts, full, abnormal, mentioned, internal, features, *reading[1:], urgent=urgent)


class Verifier:
    """Turns claims about one record into verdicts.

    Args:
        features: Measurements.
        tolerance: Absolute tolerances by kind that replace the defaults, or one factor that scales all of them.
    """

    def __init__(self, features: EcgFeatures, tolerance: Mapping[str, float] | float | None = None) -> None:
        self.features = features
        self.tolerance = tolerance

    def __call__(self, claim: Claim) -> Verdict:
        """Return the verdict on one claim."""
        if self.features.reason is not None or not len(self.features.beats):
            return Verdict(claim, UNVERIFIABLE, reason=self.features.reason or "no beats were found in this record")
        if claim.kind != "finding":
            return self._quantity(claim)
        code = str(claim.finding)
        if claim.beat is not None and code in _BEAT_CLASSES:
            return self._beat_class(claim, code)
        if claim.leads and by_lead(code):
            return self._by_lead(claim, code)
        return _by_decision(claim, code, decide(code, self.features))

    def _tolerance(self, kind: str, measured: float) -> Tolerance:
        default = default_tolerance(kind, measured, self.features.rr_ms)
        if isinstance(self.tolerance, Mapping):
            if kind in self.tolerance:
                return Tolerance(float(self.tolerance[kind]), "given by the caller")
            return default
        if self.tolerance is not None:
            return Tolerance(default.value * float(self.tolerance), f"{default.source}, times {self.tolerance:g}")
        return default

    def _quantity(self, claim: Claim) -> Verdict:
        found = readings(self.features, claim)
        known = [r for r in found if r.value is not None]
        if not known:
            if claim.kind in _P_WAVE and decide("p_absent", self.features).met:
                return Verdict(claim, CONTRADICTED, "absent", None, "no P waves in this record")
            return Verdict(claim, UNVERIFIABLE, reason=found[0].reason if found else "not measured")
        distances = [(_distance(claim, r), r) for r in known]
        any_will_do = not claim.leads  # formulas, neighbouring RR intervals, an amplitude without a lead
        gap, reading = (min if any_will_do else max)(distances, key=lambda pair: pair[0])
        value = float(reading.value or 0.0)
        tolerance = self._tolerance(claim.kind, value)
        allowed = _BAND_OF_HEDGED * tolerance.value if claim.uncertain else tolerance.value
        where = f" ({reading.where})" if reading.where else ""
        reason = f"measured {value:.4g} {claim.unit}{where}, tolerance {tolerance.value:g} {claim.unit}"
        within, beyond = (CONTRADICTED, SUPPORTED) if claim.negated else (SUPPORTED, CONTRADICTED)
        if gap <= tolerance.value + _ROUNDING:
            verdict = within
        elif gap <= BORDERLINE * allowed + _ROUNDING:
            verdict, reason = UNVERIFIABLE, f"borderline: {reason}"
        else:
            verdict = beyond
        doubt = self._doubt(reading.where, claim.kind) if verdict == CONTRADICTED else ""
        if doubt:
            verdict, reason = UNVERIFIABLE, f"borderline: {doubt}, {reason}"
        return Verdict(claim, verdict, round(value, 4), tolerance.value, reason, tolerance.source)

    def _by_lead(self, claim: Claim, code: str) -> Verdict:
        """Verify lead by lead: one clear miss contradicts, one lead in doubt leaves the claim open."""
        verdicts = []
        for lead in claim.leads:
            found = _by_decision(claim, code, decide(code, self.features, (lead,)))
            doubt = self._doubt(lead) if found.verdict == CONTRADICTED else ""
            verdicts.append(replace(found, verdict=UNVERIFIABLE, reason=f"borderline: {doubt}") if doubt else found)
        return max(verdicts, key=lambda verdict: _RANK[verdict.verdict])

    def _doubt(self, lead: str, kind: str = "") -> str:
        """Return why a measurement is too unsure to contradict a text; empty where it is sure."""
        row = self.features.leads.get(lead)
        if row is not None and row.trust < READABLE:
            return f"lead {lead} cannot be read for noise"
        if kind in _ST_T and decide("atrial_flutter", self.features).met:
            return "flutter waves run through ST segment and T wave"
        return ""

    def _beat_class(self, claim: Claim, code: str) -> Verdict:
        classes = self.features.beats.beat_class
        assert claim.beat is not None
        index = claim.beat - 1 if claim.beat > 0 else len(classes) + claim.beat
        if not 0 <= index < len(classes):
            return Verdict(claim, UNVERIFIABLE, reason=f"the record has {len(classes)} beats")
        paced = code == "paced_rhythm" and bool(paced_beats(self.features)[index])
        same = paced or str(classes[index]) == _BEAT_CLASSES[code]
        verdict = SUPPORTED if same != claim.negated else CONTRADICTED
        kind = "paced" if paced else str(classes[index])
        return Verdict(claim, verdict, kind, None, f"beat {claim.beat} is {kind}")


def _by_decision(claim: Claim, code: str, decision: Decision) -> Verdict:
    """Turn the decision on a criterion into a verdict: what it states is supported, the opposite is contradicted.

    The opposite of a decision that the measurement's error could turn over is left open as borderline; so is a hedged
    statement of the opposite that the measurement does not firmly exclude.
    """
    name, measured = next(((k, v) for k, v in decision.evidence.items() if v is not None), ("", None))
    measured = round(measured, 4) if isinstance(measured, float) else measured
    where = f"lead {decision.leads[0]}: " if claim.leads and decision.leads else ""
    if decision.met is None:
        return Verdict(claim, UNVERIFIABLE, measured, None, where + (decision.reason or "not measured"))
    threshold, source = wording(code) if code in criteria()["findings"] else ("", "")
    reason = where + ("criterion met" if decision.met else "criterion not met")
    reason += f" as {decision.certainty}" if decision.met and decision.certainty != "definite" else ""
    reason += f", {name} {measured}" if name else ""
    reason += f" ({threshold})" if threshold else ""
    if decision.met != claim.negated:
        return Verdict(claim, SUPPORTED, measured, None, reason, source)
    if not decision.clear or (claim.uncertain and not _is_firm(claim, code, decision)):
        return Verdict(claim, UNVERIFIABLE, measured, None, f"borderline: {reason}", source)
    return Verdict(claim, CONTRADICTED, measured, None, reason, source)


def _is_firm(claim: Claim, code: str, decision: Decision) -> bool:
    """Whether the measurement firmly excludes what a hedged claim states."""
    if code in _SUGGESTED and not claim.negated:
        return False
    needed = _FIRMLY_URGENT if code in ALWAYS_URGENT else _FIRMLY
    return abs(decision.margin or 0.0) >= needed


def _distance(claim: Claim, reading: Reading) -> float:
    """Return how far the measured value lies outside what the claim allows; 0 inside."""
    value = float(reading.value or 0.0)
    if claim.value is not None:
        gap = abs(claim.value - value)
        return min(gap, 360.0 - gap) if claim.unit == "deg" else gap
    below = claim.low - value if claim.low is not None else -math.inf
    above = value - claim.high if claim.high is not None else -math.inf
    return max(below, above, 0.0)


# -- measured values -----------------------------------------------------------------------------------------------


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
    """Return every measured value that the claim is about; with several leads one each."""
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
