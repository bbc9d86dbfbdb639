"""Findings that follow from all others: normal and abnormal ECG, infarction anywhere, urgency."""

from __future__ import annotations

from typing import NamedTuple

from gem_lightning.features.criteria.base import (
    CHEST,
    FORM,
    TO_SCALE,
    Decision,
    criteria,
    criterion,
    decide,
    decided,
    form,
    just_missed,
    met,
    negated,
    undecided,
    value,
)
from gem_lightning.features.criteria.pacing import active
from gem_lightning.features.schema import EcgFeatures

NEAR = 0.5  # measurement errors below a limit within which a repeated measurement would often reach it (ours)
#: Rates beyond which no ECG is called free of urgent findings. 150: from there a tachyarrhythmia is taken for the
#: cause of symptoms (Panchal et al., AHA guidelines, Circulation 2020;142:S366, adult tachycardia algorithm). 40 is
#: ours: the bradycardia algorithm there begins at 50, which trained hearts reach at rest.
SLOW_BPM, FAST_BPM = 40.0, 150.0
#: A single ECG does not date these: an infarct, or ST deviation without one, may be hours or years old.
RECENT = ("st_elevation", "st_depression")
ST_T = (*RECENT, "t_inversion")
ANTERIOR = ("V2", "V3", "V4")  # inverted T waves there may be a narrowed left anterior descending artery (Wellens)
#: Activation behind which an acute infarct need not show; with symptoms it is managed as one (ESC 2023, acute coronary
#: syndromes, section on bundle branch block and pacing).
MASKING = ("lbbb", "paced_rhythm")
#: Trust below which a lead is not read: its usual slope is 70 % of its steepest, so that no QRS stands out (ours).
READABLE = 0.3
BENIGN = ("rsr_prime", "sinus_arrhythmia")  # variants that alone do not make an ECG abnormal


def abnormal(features: EcgFeatures) -> list[str]:
    """Return the codes of the abnormal findings of a record."""
    entries = criteria()["findings"].items()
    return [code for code, entry in entries if entry.get("abnormal", True) and decide(code, features).met]


def urgent(features: EcgFeatures) -> list[str]:
    """Return the codes of the findings of a record that need attention at once."""
    entries = criteria()["findings"].items()
    return [code for code, entry in entries if "urgent" in entry and is_urgent(code, decide(code, features))]


def is_urgent(code: str, decision: Decision) -> bool:
    """Return whether a decision states an urgent finding; a mere possibility is none."""
    known = "urgent" in criteria()["findings"].get(code, {})
    return bool(known and decision.met and decision.urgent and decision.certainty != "possible")


def borderline(features: EcgFeatures, codes: tuple[str, ...]) -> str:
    """Return the first of these findings that is open or misses its limit by less than its error, else empty."""
    for code in codes:
        decision = decide(code, features)
        if decision.met is None or just_missed(decision.margin, 1.0):
            return code
    return ""


@criterion("normal_ecg")
def normal_ecg(features: EcgFeatures) -> Decision:
    """Decide on a normal ECG: sinus rhythm at a normal rate and no abnormal finding but benign variants.

    A borderline ST segment or T wave leaves it open, and voltage of a thick ventricle in the young.
    """
    wrong = [code for code in abnormal(features) if code not in BENIGN]
    if wrong:
        # as clear as the clearest abnormal finding
        margins = [m for code in wrong if (m := decide(code, features).margin) is not None]
        return decided(negated(max(margins)), {"abnormal": wrong[:3]})
    if not met(features, "sinus_rhythm"):
        return undecided("no abnormal finding, but the rhythm is not decided")
    near = borderline(features, ST_T)
    if near:
        return undecided(f"no abnormal finding, but {criteria()['findings'][near]['statement']} is borderline")
    voltage = decide("lvh", features)
    if voltage.met is None and voltage.evidence:
        return undecided("no abnormal finding, but tall QRS complexes", voltage.evidence)
    return decided(FORM, {"heart_rate_bpm": features.heart_rate_bpm})


@criterion("abnormal_ecg")
def abnormal_ecg(features: EcgFeatures) -> Decision:
    """Decide on an abnormal ECG, the opposite of a normal one."""
    normal = decide("normal_ecg", features)
    margin = negated(normal.margin)
    return decided(margin, normal.evidence, reason=normal.reason)


@criterion("mi")
def infarction(features: EcgFeatures) -> Decision:
    """Decide on an infarct in any territory."""
    decisions = [
        decide(code, features) for code in criteria()["findings"] if code.startswith("mi_") or code == "sgarbossa"
    ]
    for decision in decisions:
        if decision.met:
            return decision
    open_ = next((decision for decision in decisions if decision.met is None), None)
    return open_ or decided(form(False), {})


class Doubt(NamedTuple):
    """Why the absence of an urgent finding proves nothing: its kind, the reason, and the finding concerned, if any."""

    kind: str = ""
    reason: str = ""
    code: str = ""


def doubt(features: EcgFeatures) -> Doubt:
    """Return why the absence of an urgent finding proves nothing here; empty where it is established.

    Kinds: ``possible`` of an urgent finding, ``borderline`` of one or of ST elevation, ``recent`` of a
    finding whose age an ECG does not show,
    ``rate``, ``rhythm``, ``scale``, ``masked`` by abnormal activation, and ``unreadable`` leads.
    """
    flutter = met(features, "atrial_flutter")  # its waves run through the ST segments
    for code, entry in criteria()["findings"].items():
        if "urgent" in entry:
            decision = decide(code, features)
            if not decision.urgent:
                continue
            if decision.met and decision.certainty == "possible":
                return Doubt("possible", f"{entry['statement']} is possible", code)
            if just_missed(decision.margin, NEAR) and not flutter:
                return Doubt("borderline", f"{entry['statement']} is borderline", code)
    rate = features.heart_rate_bpm
    if rate is not None and not SLOW_BPM <= rate <= FAST_BPM:
        return Doubt("rate", f"the rate is {rate:.0f} bpm")
    if met(features, "undetermined_rhythm"):
        return Doubt("rhythm", "the rhythm is undetermined")
    if active(features, *MASKING):
        return Doubt("masked", "an infarct may be hidden by abnormal activation")
    for code in (*RECENT, *(code for code in criteria()["findings"] if code.startswith("mi_"))):
        if met(features, code):
            return Doubt("recent", f"{criteria()['findings'][code]['statement']} may be recent", code)
    if borderline(features, ("st_elevation",)) and not flutter:
        return Doubt("borderline", "ST elevation is borderline", "st_elevation")
    if len(set(decide("t_inversion", features).leads) & set(ANTERIOR)) > 1:
        return Doubt("recent", "anterior T wave inversion may be recent", "t_inversion")
    unread = [lead for lead in CHEST if (row := features.leads.get(lead)) is not None and row.trust < READABLE]
    if value(features.scale_error) > TO_SCALE:
        return Doubt("scale", "the limb leads are not to one scale")
    if flutter or unread:
        return Doubt("unreadable", "the ST segments cannot be assessed in every lead")
    return Doubt()


@criterion("urgent")
def urgency(features: EcgFeatures) -> Decision:
    """Decide on urgency: whether an urgent finding is stated; a possible or borderline one leaves it open."""
    found, reason = urgent(features), doubt(features).reason
    if not found and reason:
        return undecided(f"no urgent finding, but {reason}")
    return decided(form(bool(found)), {"urgent": found} if found else {})


@criterion("not_urgent")
def no_urgency(features: EcgFeatures) -> Decision:
    """Decide on the absence of urgent findings, the opposite of urgency."""
    decision = decide("urgent", features)
    return decided(negated(decision.margin), decision.evidence, reason=decision.reason)
