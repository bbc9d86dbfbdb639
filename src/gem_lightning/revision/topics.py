"""Topics of claims: which measured statement answers which statement of a text."""

from __future__ import annotations

import re

from gem_lightning.claims.claim import Claim
from gem_lightning.claims.extract import read_text
from gem_lightning.features.criteria.arrhythmia import RHYTHMS

_KINDS = {
    "heart_rate": "rate",
    "rr": "rate",
    "pr": "pr",
    "qrs": "qrs",
    "qt": "qt",
    "qtc": "qt",
    "jt": "qt",
    "p_duration": "p",
    "p_amplitude": "p",
    "axis_p": "axis",
    "axis_qrs": "axis",
    "axis_t": "axis",
    "q_duration": "q",
    "q_amplitude": "q",
    "r_duration": "voltage",
    "r_amplitude": "voltage",
    "s_duration": "voltage",
    "s_amplitude": "voltage",
    "qrs_amplitude": "voltage",
    "voltage_sum": "chambers",
    "t_duration": "t",
    "t_amplitude": "t",
    "st_level": "st",
}
_CODES: dict[str, tuple[str, ...]] = {
    "rhythm": (*RHYTHMS, "ventricular_tachycardia", "ventricular_fibrillation", "torsades", "asystole", "sa_block"),
    "regularity": ("regular_rhythm", "irregular_rhythm", "sinus_arrhythmia"),
    "ectopy": ("pac", "pvc", "bigeminy", "trigeminy", "couplet", "pause"),
    "p": ("p_absent",),
    "atria": ("left_atrial_enlargement", "right_atrial_enlargement"),
    "pr": ("normal_pr", "prolonged_pr", "av_block_1"),
    "qrs": ("narrow_qrs", "wide_qrs"),
    "conduction": ("lbbb", "rbbb", "ivcd", "incomplete_lbbb", "incomplete_rbbb", "lafb", "lpfb", "bifascicular_block",
                   "trifascicular_block", "pre_excitation", "rsr_prime"),
    "axis": ("normal_axis", "left_axis_deviation", "right_axis_deviation", "extreme_axis_deviation"),
    "qt": ("normal_qtc", "long_qtc", "short_qtc"),
    "q": ("pathological_q",),
    "voltage": ("poor_r_progression", "low_voltage"),
    "chambers": ("lvh", "rvh", "rv_strain"),
    "st": ("st_elevation", "st_depression", "reciprocal_change", "early_repolarization", "pericarditis", "brugada"),
    "t": ("t_inversion", "t_flat", "t_peaked", "hyperkalaemia", "hyperacute_t", "wellens", "de_winter",
          "t_alternans", "abnormal_u"),
    "infarct": ("mi", "mi_inferior", "mi_anterior", "mi_lateral", "mi_septal", "mi_posterior", "ischaemia",
                "sgarbossa"),
    "urgency": ("urgent", "not_urgent"),
    "summary": ("normal_ecg", "abnormal_ecg"),
}  # fmt: skip
#: Topics whose findings exclude each other, or whose number answers for all of them: any statement on one is an answer.
_WHOLE = ("rhythm", "regularity", "rate", "pr", "qrs", "qt", "axis", "urgency", "summary")
#: How questions name a topic without a finding or a number in them.
_NAMED = {
    "rate": r"(?:heart|ventricular|pulse) rate|how fast",
    "rhythm": r"which rhythm|what(?: is|'s) the (?:heart |cardiac )?rhythm",
    "pr": r"PR\b",
    "qrs": r"QRS(?! axis)\b",
    "qt": r"QTc?\b",
    "axis": r"axis\b",
    "conduction": r"bundle[- ]branch|conduction",
    "summary": r"(?:it|this|(?:the|this) (?:ECG|EKG|trac(?:e|ing))) (?:\w+ )?(?:normal|abnormal)|wrong|abnormalit",
    "urgency": r"urgen|emergenc|dangerous|immediate",
}
_OF_CODE = {code: topic for topic, codes in _CODES.items() for code in codes}


def topic(claim: Claim) -> str:
    """Return the topic of a claim; a finding of no topic is its own."""
    return _KINDS[claim.kind] if claim.kind in _KINDS else _OF_CODE.get(str(claim.finding), str(claim.finding))


def siblings(code: str) -> tuple[str, ...]:
    """Return the findings of the same topic, or of the topic of this name, in the order in which a text names one."""
    return _CODES.get(_OF_CODE.get(code, code), (code,))


def asked(question: str) -> list[Claim]:
    """What a question asks about: the findings that it names, else a claim without a value on each topic."""
    text = question.strip().rstrip("?")  # a question states nothing; without its mark it is read as a statement
    named = [claim for claim in read_text(text).claims if claim.kind == "finding"]
    if named:
        return named
    found = [name for name, words in _NAMED.items() if re.search(rf"\b(?:{words})", question, re.IGNORECASE)]
    return [Claim("finding", finding=name) for name in found]


def answers(claim: Claim, question: Claim) -> bool:
    """Whether a claim of a text says something about one of a question, see :func:`asked`."""
    subject = topic(question)
    if claim.finding == question.finding or (question.finding == "mi" and str(claim.finding).startswith("mi_")):
        return True
    return topic(claim) == subject and (subject in _WHOLE or question.finding == subject)
