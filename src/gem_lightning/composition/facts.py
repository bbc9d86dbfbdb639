"""Facts of a record that a text may state: rounded numbers, and findings merged by code."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from gem_lightning.claims.claim import UNITS, Claim
from gem_lightning.composition.phrases import table
from gem_lightning.ecg.record import LEADS
from gem_lightning.features.criteria import arrhythmia
from gem_lightning.features.criteria.base import TO_SCALE, decide, refresh

if TYPE_CHECKING:
    from gem_lightning.features.schema import EcgFeatures, Finding

#: Rhythms that a multiple-choice question offers; :attr:`Facts.rhythm` knows more.
RHYTHMS = (
    "paced_rhythm",
    "atrial_fibrillation",
    "atrial_flutter",
    "sinus_bradycardia",
    "sinus_tachycardia",
    "sinus_rhythm",
)


_PACED = {"atrium": "paced_atrium", "atrium and ventricle": "paced_both"}  # keys of the phrase table
_CERTAINTIES = ("definite", "probable", "possible")


class Statement(NamedTuple):
    """A sentence and its claims."""

    text: str
    claims: tuple[Claim, ...] = ()


class Stated(NamedTuple):
    """All findings of one code: leads and certainty."""

    code: str
    leads: tuple[str, ...]
    certainty: str
    finding: Finding

    @property
    def uncertain(self) -> bool:
        """Return whether a text has to hedge it."""
        return self.certainty != "definite"


class Facts:
    """Numbers and findings of one record, ready to be phrased.

    Args:
        features: Measurements.
        findings: Findings of the same record.
    """

    def __init__(self, features: EcgFeatures, findings: Sequence[Finding]) -> None:
        self.features = features
        refresh(features)
        self.stated: dict[str, Stated] = {}
        for finding in findings:
            known = self.stated.get(finding.code)
            leads = {*finding.leads, *(known.leads if known else ())}
            ordered = tuple(lead for lead in LEADS if lead in leads)
            surest = min((finding.certainty, known.certainty if known else "possible"), key=_CERTAINTIES.index)
            self.stated[finding.code] = Stated(finding.code, ordered, surest, known.finding if known else finding)

    @classmethod
    def of(cls, features: EcgFeatures, findings: Sequence[Finding] | None) -> Facts:
        """Gather the facts of a record; its findings are decided where they are not given."""
        if findings is None:
            from gem_lightning.features import findings as find

            findings = find(features)
        return cls(features, findings)

    def __contains__(self, code: str) -> bool:
        return code in self.stated

    @property
    def rhythm(self) -> str | None:
        """Return the code that names the rhythm."""
        return next((code for code in arrhythmia.RHYTHMS if code in self.stated), None)

    @property
    def paced_chamber(self) -> str:
        """Return what a pacemaker stimulates, as in the evidence of ``paced_rhythm``; empty without a paced rhythm."""
        paced = self.stated.get("paced_rhythm")
        return "" if paced is None else str(paced.finding.evidence.get("paced_chamber", "not determined"))

    @property
    def ventricles_paced(self) -> bool:
        """Return whether pacing changes the QRS complexes; that of the atrium alone does not."""
        return self.paced_chamber not in ("", "atrium")

    def named(self, code: str) -> str:
        """Return the key of the phrase table under which a finding is named; a paced rhythm is, by its chamber."""
        return _PACED.get(self.paced_chamber, code) if code == "paced_rhythm" else code

    @property
    def table(self) -> dict:
        """Return the phrase table."""
        return table("en")

    @property
    def to_scale(self) -> bool:
        """Return whether the limb leads agree on one scale, so that amplitudes mean something."""
        return (self.features.scale_error or 0.0) <= TO_SCALE

    @property
    def p_expected(self) -> bool:
        """Return whether the rhythm lets one expect a PR interval."""
        none = {"atrial_fibrillation", "atrial_flutter", "av_block_3", "wide_complex_tachycardia"}
        return not (self.ventricles_paced or none & self.stated.keys())

    @property
    def p_waves(self) -> bool:
        """Return whether P waves lead the QRS, so that a PR interval means something."""
        apart = {"p_absent", "atrial_fibrillation", "atrial_flutter", "av_block_3"}
        return self.features.p_ms is not None and not apart & self.stated.keys()

    def number(self, kind: str) -> int | None:
        """Return a measured value of the whole record, rounded to 1 ms, bpm or degree; None where there is none."""
        f = self.features
        if kind == "pr" and not self.p_waves:
            return None
        if kind in ("qt", "qtc", "jt") and "atrial_flutter" in self.stated:
            return None  # flutter waves hide where T ends
        values = {
            "heart_rate": f.heart_rate_bpm,
            "rr": f.rr_ms,
            "pr": f.pr_ms,
            "qrs": f.qrs_ms,
            "qt": f.qt_ms,
            "qtc": f.qtc_ms.get("fridericia"),
            "jt": f.jt_ms,
            "p_duration": f.p_ms if self.p_waves else None,
            "axis_qrs": f.axis_deg.get("QRS"),
            "axis_p": f.axis_deg.get("P") if self.p_waves else None,
            "axis_t": f.axis_deg.get("T"),
        }
        value = values[kind]
        if value is None or not math.isfinite(value):
            return None
        if kind == "heart_rate" and "sinus_bradycardia" in self.stated:
            return math.floor(value)  # "sinus bradycardia at 60 bpm" would contradict itself
        if kind == "heart_rate" and "sinus_tachycardia" in self.stated:
            return math.ceil(value)
        return round(value)

    def missing(self, code: str, lead: str | None = None) -> bool:
        """Return whether a finding is not stated and its criterion clearly missed, so that the text may deny it."""
        if code in self.stated and (lead is None or lead in self.stated[code].leads or not self.stated[code].leads):
            return False
        decision = decide(code, self.features, (lead,) if lead else None)
        return decision.met is False and decision.clear

    def holds(self, code: str) -> bool:
        """Return whether the criterion of a descriptive term (narrow QRS, normal axis, ...) is clearly met."""
        decision = decide(code, self.features)
        return decision.met is True and decision.clear


def value_claim(
    kind: str, value: float, leads: tuple[str, ...] = (), beat: int | None = None, name: str | None = None
) -> Claim:
    """Build a claim of one value."""
    return Claim(kind, float(value), unit=UNITS[kind], leads=leads, beat=beat, finding=name)


def finding_claim(code: str, leads: tuple[str, ...] = (), negated: bool = False, uncertain: bool = False) -> Claim:
    """Build a claim of a finding."""
    return Claim("finding", leads=leads, finding=code, negated=negated, uncertain=uncertain)
