"""Compose text from measurements, offline: equal features and seed give equal text, every number is measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from gem_lightning.claims.claim import Claim
from gem_lightning.composition import conclusion, sections
from gem_lightning.composition.facts import Facts, Statement, finding_claim, value_claim
from gem_lightning.composition.phrases import Phrases, sentence
from gem_lightning.composition.reported import Diagnosis
from gem_lightning.errors import GemError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gem_lightning.features.schema import EcgFeatures, Finding

STYLES = ("interpretation", "report", "brief", "teaching")
_TERRITORIAL = ("st_elevation", "st_depression", "t_inversion")
_INTERVALS = {"pr": "PR", "qrs": "QRS", "qt": "QT", "qtc": "QTc"}


#: What cannot be measured may be chaotic or a flat line, so it is never passed over in silence.
_UNMEASURED = "Urgency is undetermined, because a dangerous rhythm may look like this. See to the patient first."


@dataclass(frozen=True)
class Composition:
    """A composed text and its claims.

    Attributes:
        text: The text.
        claims: Every claim that the text makes, in order, without spans.
        style: One of :data:`STYLES`.
    """

    text: str
    claims: tuple[Claim, ...]
    style: str


def compose(
    features: EcgFeatures,
    findings: Sequence[Finding] | None = None,
    seed: int | None = 0,
    style: str = "interpretation",
    diagnosis: Sequence[str] = (),
) -> str:
    """Compose a text about one record.

    Args:
        features: Measurements of the record.
        findings: Findings of the same record; None decides them.
        seed: Chooses phrasing and order; None draws a new one each time.
        style: ``brief`` (about 40 words long, regular phrasing, int values), ``report`` (a device-like list of
            statements), ``interpretation`` (a cardiologist's paragraph) or ``teaching`` (each conclusion with its
            criterion).
        diagnosis: Statements of a clinician's report. They take the place of the conclusion and of urgency; measured
            statements that exclude them are left out.

    Returns:
        The text. A statement whose measurement lies too near its criterion is left out rather than guessed.

    Raises:
        GemError: The style is unknown.
    """
    return compose_with_claims(features, findings, seed, style, diagnosis).text


def compose_with_claims(
    features: EcgFeatures,
    findings: Sequence[Finding] | None = None,
    seed: int | None = 0,
    style: str = "interpretation",
    diagnosis: Sequence[str] = (),
) -> Composition:
    """Compose as :func:`compose`, with the claims of the text (those that ``extract`` has to find in it)."""
    if style not in STYLES:
        raise GemError(f"expected a style of {', '.join(STYLES)}, got {style!r}; choose one of them")
    statements = statements_of(Facts.of(features, findings), seed, style, diagnosis)
    claims = tuple(claim for statement in statements for claim in statement.claims)
    return Composition(" ".join(statement.text for statement in statements if statement.text), claims, style)


class Summary(NamedTuple):
    """What a reader acts on, from the measurements alone: the same on every page, in every file and from every model.

    Attributes:
        urgency: ``urgent``; ``not_urgent`` where the absence of urgent findings is established; else ``undetermined``.
        statement: The urgency and why, as text.
        conclusions: The diagnoses, most important first, one sentence each.
    """

    urgency: str
    statement: str
    conclusions: tuple[str, ...] = ()


def summarise(features: EcgFeatures, findings: Sequence[Finding] | None = None, readable: bool = True) -> Summary:
    """Return urgency and conclusions of a record.

    Args:
        features: Measurements of the record.
        findings: Findings of the same record; None decides them.
        readable: False for a recording of unusable quality: urgency is undetermined, and nothing is concluded.
    """
    if not readable or features.heart_rate_bpm is None or features.reason is not None:
        return Summary("undetermined", _UNMEASURED)
    facts, phrases = Facts.of(features, findings), Phrases(0)
    (opening,) = conclusion.urgency(facts, phrases)
    stated = {claim.finding for claim in opening.claims}
    urgency = next((code for code in ("urgent", "not_urgent") if code in stated), "undetermined")
    texts = [statement.text for statement in conclusion.conclusion(facts, phrases, numbers=False)]
    texts[0] = sentence(texts[0].removeprefix("Conclusion: ").removesuffix("."))
    return Summary(urgency, opening.text, tuple(texts))


def statements_of(facts: Facts, seed: int | None, style: str, diagnosis: Sequence[str] = ()) -> list[Statement]:
    """Return the statements of one text in a clinician's sequence; arguments as :func:`compose`."""
    if facts.features.heart_rate_bpm is None or facts.features.reason is not None:
        return [Statement("This recording does not allow a measurement."), Statement(_UNMEASURED)]
    brief = style == "brief"
    phrases = Phrases(0 if brief else seed)  # one phrasing of the brief style for all seeds
    if diagnosis:
        given = Diagnosis(diagnosis)
        given.into(facts)
        evidence = _brief(facts, phrases) if brief else _arranged(_evidence(facts, phrases, style), phrases, style)
        return given.conclude(evidence, phrases.pick("Conclusion", "Impression", "Summary"))
    opening = conclusion.urgency(facts, phrases)
    if brief:
        closing = conclusion.undetermined(facts) + conclusion.conclusion(facts, phrases, numbers=False)
        return [*opening, *_brief(facts, phrases), *closing]
    parts = _evidence(facts, phrases, style)
    closing = conclusion.conclusion(facts, phrases, explain=style != "report", teach=style == "teaching")
    return [*opening, *_arranged(parts, phrases, style), *conclusion.undetermined(facts), *closing]


def _evidence(facts: Facts, phrases: Phrases, style: str) -> list[list[Statement]]:
    """Return what was measured, section by section."""
    lean = style == "interpretation"  # a paragraph names what bears on the conclusion, a report all that was measured
    parts = [
        sections.quality(facts, phrases),
        sections.rhythm(facts, phrases, lean),
        sections.axis(facts, phrases),
        sections.intervals(facts, phrases),
        sections.p_wave(facts, phrases, lean),
        sections.qrs(facts, phrases, lean),
        sections.st_t(facts, phrases),
    ]
    if style == "teaching":
        parts.insert(5, sections.beats(facts, phrases))
    return parts


def _arranged(parts: list[list[Statement]], phrases: Phrases, style: str) -> list[Statement]:
    """Put the axis before or after the intervals, as clinicians do both; a report keeps one order."""
    if style != "report" and phrases.random.random() < 0.5:
        parts[2], parts[3] = parts[3], parts[2]
    return [statement for part in parts for statement in part]


# -- the brief style: always the same phrasing and order, int values only ---------------------------------------------


def _brief(facts: Facts, phrases: Phrases) -> list[Statement]:
    statements = [_brief_rhythm(facts, phrases)]
    if "p_absent" in facts:
        statements.append(Statement("No P waves.", (finding_claim("p_absent"),)))
    values = {kind: value for kind in _INTERVALS if (value := facts.number(kind)) is not None}
    if values:
        text = ", ".join(f"{_INTERVALS[kind]} {value} ms" for kind, value in values.items()) + "."
        statements.append(Statement(text, tuple(value_claim(kind, value) for kind, value in values.items())))
    axis = sections.axis_code(facts)
    if axis:
        statements.append(Statement(sentence(phrases.first(axis)), (finding_claim(axis),)))
    absent = (code for code in _TERRITORIAL if facts.missing(code))
    return statements + [Statement(f"No {phrases.first(c)}.", (finding_claim(c, negated=True),)) for c in absent]


def _brief_rhythm(facts: Facts, phrases: Phrases) -> Statement:
    rate, code = facts.number("heart_rate"), facts.rhythm
    assert rate is not None
    claims = (value_claim("heart_rate", rate),)
    if code is None:
        return Statement(f"Rhythm undetermined, rate {rate} bpm.", claims)
    text = sections.hedged(phrases, facts.stated[code], phrases.first(facts.named(code)))
    claim = finding_claim(code, uncertain=facts.stated[code].uncertain)
    joined = f"{sentence(text)} Rate {rate} bpm." if facts.stated[code].uncertain else sentence(f"{text} at {rate} bpm")
    return Statement(joined, (claim, *claims))
