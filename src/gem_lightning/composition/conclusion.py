"""The safety statement that opens a text, the one conclusion that closes it, and what stays undetermined."""

from __future__ import annotations

import re

from gem_lightning.claims.claim import Claim
from gem_lightning.composition.facts import Facts, Statement, finding_claim, value_claim
from gem_lightning.composition.phrases import Phrases, join, sentence
from gem_lightning.composition.sections import amount, hedged, leads_of, place
from gem_lightning.features.criteria.base import criteria, decide
from gem_lightning.features.criteria.summary import doubt

#: The number that carries a conclusion: its kind, name and unit.
_EVIDENCE = {
    "av_block_1": ("pr", "PR interval"),
    "rbbb": ("qrs", "QRS duration"),
    "lbbb": ("qrs", "QRS duration"),
    "ivcd": ("qrs", "QRS duration"),
    "long_qtc": ("qtc", "QTc"),
    "short_qtc": ("qtc", "QTc"),
    "left_axis_deviation": ("axis_qrs", "QRS axis"),
    "right_axis_deviation": ("axis_qrs", "QRS axis"),
    "extreme_axis_deviation": ("axis_qrs", "QRS axis"),
    "lafb": ("axis_qrs", "QRS axis"),
    "left_atrial_enlargement": ("p_duration", "P wave duration"),
}
#: Findings that another one already states.
_IMPLIED = {
    "wide_qrs": ("rbbb", "lbbb", "ivcd", "wide_complex_tachycardia", "pre_excitation", "escape_rhythm"),
    "p_absent": ("atrial_fibrillation", "junctional_rhythm", "escape_rhythm", "paced_rhythm",
                 "wide_complex_tachycardia"),
    "irregular_rhythm": ("atrial_fibrillation", "sinus_arrhythmia", "pac", "pvc", "av_block_2_mobitz_1",
                         "av_block_2_mobitz_2", "bigeminy", "multifocal_atrial_tachycardia", "sa_block"),
    "ventricular_tachycardia": ("wide_complex_tachycardia",),
    "prolonged_pr": ("av_block_1",),
    "left_axis_deviation": ("lafb",),
    "right_axis_deviation": ("lpfb", "rvh"),
    "reciprocal_change": ("st_elevation",),
}  # fmt: skip


#: Kinds of doubt about urgency, see :func:`gem_lightning.features.criteria.summary.doubt`.
_DOUBTS = {
    "recent": "the recording does not show how recent its changes are",
    "rate": "the rate is extreme",
    "rhythm": "the origin of the rhythm is unclear",
    "scale": "the leads are not to one scale",
    "masked": "abnormal activation can hide an infarct",
    "unreadable": "not every lead can be assessed",
}


def claimed(facts: Facts, code: str) -> Claim:
    """Return the claim that stating a finding of the record makes."""
    stated = facts.stated[code]
    # the Sgarbossa criteria are a reason, what they state is an infarct
    return finding_claim("mi" if code == "sgarbossa" else code, leads_of(stated), uncertain=stated.uncertain)


def urgency(facts: Facts, phrases: Phrases) -> list[Statement]:
    """State whether and why the ECG is urgent, from the findings alone; the same in every text of a record."""
    urgent = [code for code in importance(facts) if facts.stated[code].finding.urgent]
    if urgent:
        code = urgent[0]
        reason = hedged(phrases, facts.stated[code], phrases.first(code))
        text = f"This ECG is urgent because of {reason}."
        return [Statement(text, (finding_claim("urgent"), claimed(facts, code)._replace(leads=())))]
    kind, _, cause = doubt(facts.features)
    if not kind:
        return [Statement("No urgent finding by these criteria.", (finding_claim("not_urgent"),))]
    suspected = next((code for code in importance(facts) if _is_suspected(facts, code)), None)
    if kind == "possible" and suspected is not None:
        reason = hedged(phrases, facts.stated[suspected], phrases.first(suspected))
        text = f"Urgency is undetermined because of {reason}."
        return [Statement(text, (claimed(facts, suspected)._replace(leads=()),))]
    if kind == "recent" and cause in facts and facts.rhythm is not None:
        name = hedged(phrases, facts.stated[cause], phrases.first(cause))
        text = f"Urgency is undetermined: it depends on how recent the {name} is."
        return [Statement(text, (claimed(facts, cause)._replace(leads=()),))]
    what = "the ST segments lie" if cause in ("st_elevation", "ischaemia") else "a measurement lies"
    why = _DOUBTS.get("rhythm" if facts.rhythm is None else kind, f"{what} too near a limit")
    return [Statement(f"Urgency is undetermined, because {why}.")]


def _is_suspected(facts: Facts, code: str) -> bool:
    """Return whether a finding would be urgent and is merely possible."""
    if facts.stated[code].certainty != "possible" or "urgent" not in criteria()["findings"][code]:
        return False
    return decide(code, facts.features).urgent


def importance(facts: Facts, brief: bool = False) -> list[str]:
    """Return the findings that the conclusion names: urgent ones, the rhythm, then as ``concluded`` orders them.

    Signs of an infarct that an earlier section stated are left out, unless ``brief``.
    """
    signs = () if brief else ("st_elevation", "pathological_q")
    infarct = any(code.startswith("mi_") for code in facts.stated)
    order = {code: k for k, code in enumerate(facts.table["concluded"])}
    named = facts.rhythm
    codes = [
        code
        for code, stated in facts.stated.items()
        if (stated.finding.abnormal or code == named)
        and code != "undetermined_rhythm"
        and not any(other in facts for other in _IMPLIED.get(code, ()))
        and not (code == "wide_qrs" and facts.ventricles_paced)
        and not (infarct and code in signs)
    ]

    def rank(code: str) -> tuple[bool, bool, int]:
        return (not facts.stated[code].finding.urgent, code != named, order.get(code, len(order)))

    return sorted(codes, key=rank)


def conclusion(
    facts: Facts, phrases: Phrases, numbers: bool = True, explain: bool = False, teach: bool = False
) -> list[Statement]:
    """State the diagnoses, most important first.

    Args:
        facts: Of the record.
        phrases: Wording.
        numbers: Add the number that a diagnosis rests on.
        explain: Add why a diagnosis follows.
        teach: Add the criterion of each diagnosis.
    """
    lead_in = phrases.pick("Conclusion", "Impression", "Summary") if numbers else "Conclusion"
    name_of = phrases.name if numbers else phrases.first
    codes, statements = importance(facts, brief=not numbers), []
    if "normal_ecg" in facts:
        statements.append(Statement(f"{lead_in}: normal ECG.", (finding_claim("normal_ecg"),)))
        codes = [code for code in codes if facts.stated[code].finding.abnormal]  # benign variants
    for code in codes:
        stated = facts.stated[code]
        leads = leads_of(stated)
        term = hedged(phrases, stated, name_of(facts.named(code))) + (f" in {place(phrases, leads)}" if leads else "")
        claims = [claimed(facts, code)]
        kind, name = _EVIDENCE.get(code, ("", ""))
        value = facts.number(kind) if kind and numbers else None
        if value is not None:
            unit = "°" if kind == "axis_qrs" else " ms"
            link = "with" if stated.uncertain else phrases.pick("with", "shown by")
            term += f", {link} a {name} of {'−' if value < 0 else ''}{abs(value)}{unit}"
            claims.append(value_claim(kind, value))
        text = sentence(term) if statements else f"{lead_in}: {term}."
        statements.append(Statement(text, tuple(claims)))
        if explain:
            statements += _reason(facts, phrases, code)
        if code == "pvc" and "atrial_fibrillation" in facts:
            statements.append(
                Statement("Look for aberrant conduction as the other cause of wide beats in this rhythm.")
            )
        if teach:
            statements.append(Statement(_definition(stated.finding.threshold)))
    if facts.rhythm is None:
        text = "the origin of the rhythm is undetermined."
        statements.append(Statement(f"{lead_in}: {text}" if not statements else text.capitalize()))
    return statements or [Statement(f"{lead_in}: no finding that needs to be named.")]


ALWAYS_PACED = 0.9  # share of beats with a spike; one of ten beats may hide its spike in noise (ours)
_LONGEST_RULE = 160  # characters of a definition; a longer one is a list of alternatives, of which the first ones do


def _definition(threshold: str) -> str:
    """Return the criterion of a finding as a sentence."""
    rule = threshold.replace(";", ",").rstrip(".")
    if len(rule) <= _LONGEST_RULE:
        return f"By definition: {rule}."
    ends = [match.start() for match in re.finditer(", ", rule[:_LONGEST_RULE])]
    ends = [end for end in ends if rule.count("(", 0, end) == rule.count(")", 0, end)] or [rule.index(" (")]
    return f"By definition, among others: {rule[: ends[-1]]}."  # no bracket is cut open


#: Further evidence of left ventricular hypertrophy, in terms that make no claim.
_LVH_SIGNS = {
    "cornell_product_mv_ms": "the Cornell product",
    "peguero_mv": "the Peguero-Lo Presti sum",
    "lewis_mv": "the Lewis index",
    "romhilt_estes_points": "the Romhilt-Estes score",
}


def _reason(facts: Facts, phrases: Phrases, code: str) -> list[Statement]:
    """Return why a finding follows: the waves and leads that an infarct rests on, a voltage, or the form described."""
    decision = decide(code, facts.features)
    for key, sign, name in (
        ("st_elevation_leads", "st_elevation", "ST elevation"),
        ("q_leads", "pathological_q", "pathological Q waves"),
    ):
        leads = tuple(decision.evidence.get(key, ()))
        if leads and not (sign in facts and facts.stated[sign].uncertain):
            return [Statement(f"It rests on {name} in {join(leads)}.", (finding_claim(sign, leads),))]
    for key, sign, name in (
        ("sokolow_lyon_mv", "sokolow_lyon", "Sokolow-Lyon index"),
        ("cornell_mv", "cornell", "Cornell voltage"),
    ):
        value = decision.evidence.get(key)
        if code == "lvh" and value is not None and facts.to_scale:
            text, claim = amount(phrases, "voltage_sum", value, name=sign)
            return [Statement(f"The {name} is {text}.", (claim,))]
    signs = [name for key, name in _LVH_SIGNS.items() if code == "lvh" and key in decision.evidence]
    if signs and decision.certainty != "possible":  # a possible one names them with its hedge
        return [Statement(f"It rests on {join(signs)}.")]
    text = facts.table["reasons"].get(facts.named(code))
    if code == "paced_rhythm" and decision.evidence["paced_share"] < ALWAYS_PACED:
        text = f"Spikes precede some of the {'P waves' if facts.paced_chamber == 'atrium' else 'complexes'} only."
    return [Statement(text)] if text else []


def undetermined(facts: Facts) -> list[Statement]:
    """State what could not be measured or decided."""
    features, statements = facts.features, []
    names = {"qrs": "QRS duration", "qt": "QT interval", "axis_qrs": "QRS axis"}
    if facts.ventricles_paced:
        statements.append(Statement("AV conduction cannot be judged."))
    if "p_absent" not in facts and facts.p_expected:
        names = {"pr": "PR interval"} | names
    lost = [name for kind, name in names.items() if facts.number(kind) is None]
    if lost:
        statements.append(Statement(f"The {join(lost)} could not be measured."))
    if "atrial_flutter" in facts:
        statements.append(Statement("ST segments and T waves could not be measured."))
    if not facts.to_scale:
        text = "The limb leads are not to one scale, so amplitudes and what rests on them are uncertain."
        statements.append(Statement(text))
    if "electrode_misplacement" in facts:
        statements.append(Statement("What rests on the limb leads is uncertain."))
    if features.seconds < 5:
        statements.append(Statement("The recording is too short to show the rhythm reliably."))
    return statements
