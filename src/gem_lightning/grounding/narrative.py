"""Which statements a text makes, in a clinician's sequence, by style."""

from __future__ import annotations

from gem_lightning.grounding.facts import Facts, Statement, point, says
from gem_lightning.grounding.phrases import Phrases, join, sentence

_LEAD_CODES = ("st_elevation", "st_depression", "t_inversion")
_OTHERS = (
    "av_block_1",
    "av_block_2_mobitz_1",
    "av_block_2_mobitz_2",
    "av_block_3",
    "pre_excitation",
    "rbbb",
    "incomplete_rbbb",
    "lbbb",
    "incomplete_lbbb",
    "lafb",
    "lpfb",
    "ivcd",
    "lvh",
    "rvh",
    "left_atrial_enlargement",
    "right_atrial_enlargement",
    "pathological_q",
    "mi_inferior",
    "mi_anterior",
    "mi_lateral",
    "mi_septal",
    "poor_r_progression",
    "rsr_prime",
    "t_peaked",
    "t_flat",
    "long_qtc",
    "short_qtc",
    "low_voltage",
    "pac",
    "pvc",
    "bigeminy",
    "sinus_arrhythmia",
    "early_repolarization",
    "pericarditis",
)


def tell(facts: Facts, seed: int | None, style: str) -> list[Statement]:
    """The statements of one text."""
    return brief(facts, Phrases(seed=None))


def brief(facts: Facts, phrases: Phrases) -> list[Statement]:
    """About 40 words, always the same phrasing and order, whole numbers only."""
    if facts.features.heart_rate_bpm is None:
        return [Statement("The rhythm cannot be measured.")]
    told = [_rhythm(facts, phrases), *_p_absent(facts), _intervals(facts), *_axis(facts, phrases)]
    told += _territories(facts, phrases)
    for code in _OTHERS:
        if code in facts:
            stated = facts.stated[code]
            leads = () if code.startswith("mi_") else stated.leads
            words = ("possible " if stated.uncertain else "") + phrases.first(code)
            place = f" in {join(leads)}" if leads else ""
            told.append(Statement(sentence(words + place), (says(code, leads, uncertain=stated.uncertain),)))
    return [statement for statement in told if statement is not None]


def _rhythm(facts: Facts, phrases: Phrases) -> Statement:
    rate = facts.number("heart_rate")
    claims = (point("heart_rate", rate),)
    if facts.rhythm is None:
        return Statement(f"Rate {rate} bpm.", claims)
    hedged = facts.stated[facts.rhythm].uncertain
    words = ("possible " if hedged else "") + phrases.first(facts.rhythm)
    return Statement(sentence(f"{words} at {rate} bpm"), (says(facts.rhythm, uncertain=hedged), *claims))


def _p_absent(facts: Facts) -> list[Statement]:
    return [Statement("No P waves.", (says("p_absent"),))] if facts.holds("p_absent") else []


def _intervals(facts: Facts) -> Statement | None:
    names = {"pr": "PR", "qrs": "QRS", "qt": "QT", "qtc": "QTc"}
    values = {kind: value for kind in names if (value := facts.number(kind)) is not None}
    if not values:
        return None
    text = ", ".join(f"{names[kind]} {value} ms" for kind, value in values.items()) + "."
    return Statement(text, tuple(point(kind, value) for kind, value in values.items()))


def _axis(facts: Facts, phrases: Phrases) -> list[Statement]:
    for code in ("left_axis_deviation", "right_axis_deviation", "normal_axis"):
        if code in facts or facts.holds(code):
            return [Statement(sentence(phrases.first(code)), (says(code),))]
    return []


def _territories(facts: Facts, phrases: Phrases) -> list[Statement]:
    told = []
    clear = [code for code in _LEAD_CODES if facts.missing(code)]
    for code in _LEAD_CODES:
        if code in facts:
            stated = facts.stated[code]
            place = f" in {join(stated.leads)}" if stated.leads else ""
            hedge = "possible " if stated.uncertain else ""
            text = sentence(hedge + phrases.first(code) + place)
            told.append(Statement(text, (says(code, stated.leads, uncertain=stated.uncertain),)))
        elif code in clear:
            told.append(Statement(f"No {phrases.first(code)}.", (says(code, negated=True),)))
    return told
