"""Which statements a text makes, in a clinician's sequence, by style."""

from __future__ import annotations

from gem_lightning.composition import sections
from gem_lightning.composition.facts import Facts, Statement, point, says
from gem_lightning.composition.phrases import Phrases, join, sentence

_LEAD_CODES = ("st_elevation", "st_depression", "t_inversion")


def tell(facts: Facts, seed: int | None, style: str) -> list[Statement]:
    """The statements of one text."""
    if facts.features.heart_rate_bpm is None or facts.features.reason is not None:
        return [Statement("This recording does not allow a measurement.")]
    if style == "brief":
        return brief(facts, Phrases(seed=None))
    phrases = Phrases(seed)
    parts = [
        sections.quality(facts, phrases),
        sections.rhythm(facts, phrases),
        sections.axis(facts, phrases),
        sections.intervals(facts, phrases),
        sections.p_wave(facts, phrases),
        sections.qrs(facts, phrases),
        sections.st_t(facts, phrases),
        sections.conclusion(facts, phrases, teach=style == "teaching"),
    ]
    if style == "report":
        parts = [part for part in parts if part]
    else:
        if phrases.random.random() < 0.5:  # axis before or after the intervals: clinicians do both
            parts[2], parts[3] = parts[3], parts[2]
        parts.insert(5, sections.beats(facts, phrases))
        parts.append(sections.urgency(facts, phrases))
    return [statement for part in parts for statement in part]


def brief(facts: Facts, phrases: Phrases) -> list[Statement]:
    """About 40 words, always the same phrasing and order, whole numbers only."""
    told = [_rhythm(facts, phrases), *_p_absent(facts), *_intervals(facts), *_axis(facts, phrases)]
    told += _territories(facts, phrases)
    for code in phrases.table["brief"]:
        if code in facts:
            told.append(_plain(facts, phrases, code))
    return told


def _plain(facts: Facts, phrases: Phrases, code: str) -> Statement:
    stated = facts.stated[code]
    leads = sections.leads_of(stated)
    words = ("possible " if stated.uncertain else "") + phrases.first(code)
    place = f" in {join(leads)}" if leads else ""
    return Statement(sentence(words + place), (says(code, leads, uncertain=stated.uncertain),))


def _rhythm(facts: Facts, phrases: Phrases) -> Statement:
    rate = facts.number("heart_rate")
    assert rate is not None
    claims = (point("heart_rate", rate),)
    if facts.rhythm is None:
        return Statement(f"Rate {rate} bpm.", claims)
    hedged = facts.stated[facts.rhythm].uncertain
    words = ("possible " if hedged else "") + phrases.first(facts.rhythm)
    return Statement(sentence(f"{words} at {rate} bpm"), (says(facts.rhythm, uncertain=hedged), *claims))


def _p_absent(facts: Facts) -> list[Statement]:
    return [Statement("No P waves.", (says("p_absent"),))] if "p_absent" in facts else []


def _intervals(facts: Facts) -> list[Statement]:
    names = {"pr": "PR", "qrs": "QRS", "qt": "QT", "qtc": "QTc"}
    values = {kind: value for kind in names if (value := facts.number(kind)) is not None}
    if not values:
        return []
    text = ", ".join(f"{names[kind]} {value} ms" for kind, value in values.items()) + "."
    return [Statement(text, tuple(point(kind, value) for kind, value in values.items()))]


def _axis(facts: Facts, phrases: Phrases) -> list[Statement]:
    code = sections.axis_word(facts)
    return [Statement(sentence(phrases.first(code)), (says(code),))] if code else []


def _territories(facts: Facts, phrases: Phrases) -> list[Statement]:
    told = []
    for code in _LEAD_CODES:
        if code in facts:
            told.append(_plain(facts, phrases, code))
        elif facts.missing(code):
            told.append(Statement(f"No {phrases.first(code)}.", (says(code, negated=True),)))
    return told
