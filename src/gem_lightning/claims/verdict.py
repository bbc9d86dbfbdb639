"""One claim to one verdict: supported, contradicted or unverifiable, and why."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gem_lightning.claims.claim import Claim
from gem_lightning.claims.measured_values import Reading, readings
from gem_lightning.claims.parser.locations import GROUPS
from gem_lightning.claims.tolerance import Tolerance, default_tolerance
from gem_lightning.features.criteria.margins import Margin, lead_margin, record_margin

if TYPE_CHECKING:
    from gem_lightning.features.schema import EcgFeatures, Finding

SUPPORTED, CONTRADICTED, UNVERIFIABLE = "supported", "contradicted", "unverifiable"
#: A stated finding also bears out these.
ENTAILED: dict[str, tuple[str, ...]] = {
    "sinus_rhythm": ("sinus_bradycardia", "sinus_tachycardia", "sinus_arrhythmia"),
    "prolonged_pr": ("av_block_1",),
    "av_block_1": ("prolonged_pr",),
    "wide_qrs": ("rbbb", "lbbb", "ivcd"),
    "st_depression": ("reciprocal_change",),
}
_TERRITORY_LEADS = {f"mi_{name}": set(GROUPS[name]) for name in ("inferior", "lateral", "septal", "anterior")}
_BEAT_CLASSES = {"pvc": "premature_ventricular", "pac": "premature_supraventricular", "paced_rhythm": "paced"}


@dataclass(frozen=True)
class Verdict:
    """What became of one claim.

    Attributes:
        claim: The claim.
        verdict: ``supported``, ``contradicted`` or ``unverifiable``.
        measured: The measured value (or word) it was held against; None where there is none.
        tolerance: Allowed distance in the claim's unit; None for findings that no number decides.
        reason: In words.
        tolerance_source: Where the tolerance comes from.
    """

    claim: Claim
    verdict: str
    measured: Any = None
    tolerance: float | None = None
    reason: str = ""
    tolerance_source: str = ""


class Judge:
    """Holds one record's features and findings and judges claims about it.

    Args:
        features: Measurements.
        found: Findings of the same record.
        tolerance: Absolute tolerances by kind that replace the defaults, or one factor that scales all of them.
    """

    def __init__(
        self, features: EcgFeatures, found: Sequence[Finding], tolerance: Mapping[str, float] | float | None = None
    ) -> None:
        self.features = features
        self.found = list(found)
        self.tolerance = tolerance
        self.codes: dict[str, list[Finding]] = {}
        for finding in found:
            self.codes.setdefault(finding.code, []).append(finding)

    def judge(self, claim: Claim) -> Verdict:
        """The verdict on one claim."""
        if self.features.reason is not None or not len(self.features.beats):
            return Verdict(claim, UNVERIFIABLE, reason=self.features.reason or "no beats were found in this record")
        return self._finding(claim) if claim.kind == "finding" else self._quantity(claim)

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
            if claim.kind in ("pr", "p_duration", "p_amplitude", "axis_p") and self._no_p():
                return Verdict(claim, CONTRADICTED, "absent", None, "no P waves in this record")
            return Verdict(claim, UNVERIFIABLE, reason=found[0].reason if found else "not measured")
        distances = [(self._distance(claim, r), r) for r in known]
        any_will_do = not claim.leads  # formulas, neighbouring RR intervals, an amplitude without a lead
        gap, reading = (min if any_will_do else max)(distances, key=lambda pair: pair[0])
        value = float(reading.value or 0.0)
        tolerance = self._tolerance(claim.kind, value)
        verdict = SUPPORTED if gap <= tolerance.value + 1e-9 else CONTRADICTED
        where = f" ({reading.where})" if reading.where else ""
        reason = f"measured {value:.4g} {claim.unit}{where}, tolerance {tolerance.value:g} {claim.unit}"
        return Verdict(claim, verdict, round(value, 4), tolerance.value, reason, tolerance.source)

    def _distance(self, claim: Claim, reading: Reading) -> float:
        """How far the measured value lies outside what the claim allows; 0 inside."""
        value = float(reading.value or 0.0)
        if claim.value is not None:
            gap = abs(claim.value - value)
            return min(gap, 360.0 - gap) if claim.unit == "deg" else gap
        below = claim.low - value if claim.low is not None else -math.inf
        above = value - claim.high if claim.high is not None else -math.inf
        return max(below, above, 0.0)

    def _no_p(self) -> bool:
        share = self.features.rhythm.p_per_qrs
        return "p_absent" in self.codes or (share is not None and share < 0.2)

    def _finding(self, claim: Claim) -> Verdict:
        code = str(claim.finding)
        if claim.beat is not None and code in _BEAT_CLASSES:
            return self._beat_class(claim, code)
        if claim.leads:
            judged = self._by_lead(claim, code)
            if judged is not None:
                return judged
        if code in _TERRITORY_LEADS:
            return self._infarct(claim, code)
        if code == "normal_ecg":
            return self._normal(claim)
        if code not in stateable() and record_margin(self.features, code) is None:
            return Verdict(claim, UNVERIFIABLE, reason="no criterion for this finding")
        stated = self._stated(code)
        margin = record_margin(self.features, code)
        if stated is not None:
            weak = stated.certainty == "possible"
            verdict = SUPPORTED if not claim.negated else UNVERIFIABLE if weak else CONTRADICTED
            measured = margin.measured if margin else next(iter(stated.evidence.values()), stated.statement)
            reason = f"found{' as possible' if weak else ''}: {stated.statement} ({stated.threshold})"
            return Verdict(claim, verdict, _short(measured), None, reason, stated.source)
        return self._unstated(claim, margin)

    def _stated(self, code: str) -> Finding | None:
        for name in (code, *ENTAILED.get(code, ())):
            if name in self.codes:
                return self.codes[name][0]
        return None

    def _unstated(self, claim: Claim, margin: Margin | None) -> Verdict:
        if margin is None:
            verdict = SUPPORTED if claim.negated else CONTRADICTED
            return Verdict(claim, verdict, None, None, "its criteria are not met in this record")
        verdict = _by_margin(margin.value, claim.negated)
        return Verdict(
            claim, verdict, _short(margin.measured), None, _explain(margin), "features/criteria/criteria.yaml"
        )

    def _by_lead(self, claim: Claim, code: str) -> Verdict | None:
        """Lead by lead: one clear miss contradicts, one doubtful lead leaves the claim open."""
        named = {lead for finding in self.codes.get(code, ()) for lead in finding.leads}
        margins = [(lead, lead_margin(self.features, code, lead)) for lead in claim.leads]
        if all(margin is None for _, margin in margins):
            if record_margin(self.features, code) is not None or code in self.codes:
                return None
            return Verdict(claim, UNVERIFIABLE, reason="these leads cannot be judged for this finding")
        worst: tuple[int, str, Margin, str] | None = None
        rank = {SUPPORTED: 0, UNVERIFIABLE: 1, CONTRADICTED: 2}
        for lead, margin in margins:
            if margin is None:
                continue
            value = max(margin.value, 0.0) if lead in named else margin.value
            verdict = _by_margin(value, claim.negated)
            if worst is None or rank[verdict] > worst[0]:
                worst = (rank[verdict], lead, margin, verdict)
        assert worst is not None
        _, lead, margin, verdict = worst
        return Verdict(
            claim,
            verdict,
            _short(margin.measured),
            None,
            f"lead {lead}: {_explain(margin)}",
            "features/criteria/criteria.yaml",
        )

    def _beat_class(self, claim: Claim, code: str) -> Verdict:
        classes = self.features.beats.beat_class
        assert claim.beat is not None
        index = claim.beat - 1 if claim.beat > 0 else len(classes) + claim.beat
        if not 0 <= index < len(classes):
            return Verdict(claim, UNVERIFIABLE, reason=f"the record has {len(classes)} beats")
        same = str(classes[index]) == _BEAT_CLASSES[code]
        verdict = SUPPORTED if same != claim.negated else CONTRADICTED
        return Verdict(claim, verdict, str(classes[index]), None, f"beat {claim.beat} is {classes[index]}")

    def _infarct(self, claim: Claim, code: str) -> Verdict:
        """Stated, or Q waves in two leads of the territory; ST elevation there leaves it open."""
        if code in self.codes:
            stated = self.codes[code][0]
            weak = stated.certainty == "possible"
            verdict = SUPPORTED if not claim.negated else UNVERIFIABLE if weak else CONTRADICTED
            return Verdict(claim, verdict, stated.statement, None, f"found: {stated.statement}", stated.source)
        leads = _TERRITORY_LEADS[code]
        signs = [
            f for name in ("pathological_q", "st_elevation") for f in self.codes.get(name, ()) if leads & set(f.leads)
        ]
        if signs:
            reason = f"{signs[0].statement} there; the ECG alone does not decide"
            return Verdict(claim, UNVERIFIABLE, signs[0].statement, None, reason)
        verdict = SUPPORTED if claim.negated else CONTRADICTED
        return Verdict(claim, verdict, None, None, "neither pathological Q waves nor ST elevation in this territory")

    def _normal(self, claim: Claim) -> Verdict:
        abnormal = [f.statement for f in self.found if f.abnormal]
        if "normal_ecg" in self.codes:
            verdict, measured = (CONTRADICTED if claim.negated else SUPPORTED), "no abnormal finding"
        elif abnormal:
            verdict, measured = (SUPPORTED if claim.negated else CONTRADICTED), "; ".join(abnormal[:3])
        else:
            verdict, measured = UNVERIFIABLE, "no abnormal finding, but not all criteria of a normal ECG"
        return Verdict(claim, verdict, measured, None, measured)


def stateable() -> frozenset[str]:
    """Codes that :func:`gem_lightning.features.findings` can state, so that their absence means something."""
    from gem_lightning.features.criteria.base import criteria

    return frozenset(criteria()["findings"])


def _by_margin(value: float, negated: bool) -> str:
    if value >= 0:
        if negated:
            return CONTRADICTED if value >= 1 else UNVERIFIABLE
        return SUPPORTED
    if negated:
        return SUPPORTED
    return CONTRADICTED if value <= -1 else UNVERIFIABLE


def _explain(margin: Margin) -> str:
    measured = f"{margin.measured:.4g} {margin.unit}".strip() if isinstance(margin.measured, float) else margin.measured
    close = ", too near to say" if -1 < margin.value < 0 else ""
    return f"measured {measured}; criterion: {margin.criterion}{close}"


def _short(value: Any) -> Any:
    return round(value, 4) if isinstance(value, float) else value
