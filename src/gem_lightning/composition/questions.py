"""Questions about one or two records and their answers, from measurements alone; each answer carries its claims."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gem_lightning.claims.claim import UNITS, Claim
from gem_lightning.claims.tolerance import default_tolerance
from gem_lightning.composition.facts import RHYTHMS, Facts, point, says
from gem_lightning.composition.phrases import Phrases, join
from gem_lightning.composition.sections import leads_of
from gem_lightning.ecg.record import LEADS
from gem_lightning.errors import GemError

if TYPE_CHECKING:
    from gem_lightning.features.schema import EcgFeatures, Finding

KINDS = ("value", "localisation", "normal", "choice", "comparison")
_NAMES = {
    "heart_rate": "ventricular rate",
    "rr": "RR interval",
    "pr": "PR interval",
    "qrs": "QRS duration",
    "qt": "QT interval",
    "qtc": "corrected QT interval",
    "p_duration": "P wave duration",
    "axis_qrs": "QRS axis",
}
_LOCATED = ("st_elevation", "st_depression", "t_inversion", "pathological_q")
#: What is asked for as normal or not: code when normal, codes when not.
_STATES = {
    "PR interval": ("normal_pr", ("prolonged_pr",)),
    "QRS duration": ("narrow_qrs", ("wide_qrs",)),
    "QRS axis": ("normal_axis", ("left_axis_deviation", "right_axis_deviation", "extreme_axis_deviation")),
    "corrected QT interval": ("normal_qtc", ("long_qtc", "short_qtc")),
}
_CHOICES = (
    (*RHYTHMS[1:],),
    ("rbbb", "lbbb", "incomplete_rbbb", "lafb", "ivcd"),
    ("normal_axis", "left_axis_deviation", "right_axis_deviation", "extreme_axis_deviation"),
    ("av_block_1", "av_block_2_mobitz_1", "av_block_2_mobitz_2", "av_block_3"),
)


@dataclass(frozen=True)
class QuestionAnswer:
    """A question, its answer and what the answer states.

    Attributes:
        question: As asked.
        answer: As answered.
        kind: One of :data:`KINDS`.
        claims: What the answer states about the record (of a comparison: about the second one).
        options: The choices of a multiple-choice question, in order; the answer begins with the letter.
    """

    question: str
    answer: str
    kind: str
    claims: tuple[Claim, ...] = ()
    options: tuple[str, ...] = field(default=())


def ask(
    features: EcgFeatures,
    findings: Sequence[Finding] | None = None,
    seed: int | None = 0,
    kinds: Sequence[str] = KINDS[:4],
) -> list[QuestionAnswer]:
    """Every question that this record answers beyond doubt.

    Args:
        features: Measurements.
        findings: Of the same record; None asks :func:`gem_lightning.features.findings`.
        seed: Chooses wording, order and wrong options.
        kinds: Which kinds to ask (not ``comparison``, see :func:`compare`).

    Returns:
        In an order drawn from the seed; empty where nothing was measured.

    Raises:
        GemError: A kind is unknown.
    """
    unknown = [kind for kind in kinds if kind not in _MAKERS]
    if unknown:
        raise GemError(f"expected kinds of {', '.join(_MAKERS)}, got {unknown[0]!r}; for two records use compare()")
    facts, phrases = _facts(features, findings), Phrases(seed)
    if features.heart_rate_bpm is None:
        return []
    found = [qa for kind in kinds for qa in _MAKERS[kind](facts, phrases)]
    phrases.random.shuffle(found)
    return found


def compare(
    before: EcgFeatures,
    after: EcgFeatures,
    findings_before: Sequence[Finding] | None = None,
    findings_after: Sequence[Finding] | None = None,
    seed: int | None = 0,
) -> list[QuestionAnswer]:
    """What changed between two records of one patient: numbers beyond tolerance, and findings that came or went.

    Args:
        before: The first record.
        after: The second record; answers speak of it, and recall the first.
        findings_before: Findings of the first record; None asks for them.
        findings_after: Findings of the second record.
        seed: Chooses wording.
    """
    one, two, phrases = _facts(before, findings_before), _facts(after, findings_after), Phrases(seed)
    if before.heart_rate_bpm is None or after.heart_rate_bpm is None:
        return []
    told = []
    for kind, name in _NAMES.items():
        old, new = one.number(kind), two.number(kind)
        if old is None or new is None or kind == "axis_qrs":
            continue
        unit = UNITS[kind]
        steady = abs(new - old) <= default_tolerance(kind, float(old)).value
        change = "is unchanged" if steady else "has increased" if new > old else "has decreased"
        question = phrases.pick(
            f"How has the {name} changed from the first to the second ECG?",
            f"Compare the {name} of the two tracings.",
        )
        answer = f"The {name} {change}: it is now {new} {unit}, previously {old} {unit}."
        told.append(QuestionAnswer(question, answer, "comparison", (point(kind, new),)))
    gained = [code for code in two.stated if code not in one.stated and two.stated[code].finding.abnormal]
    named = [code for code in gained if code in phrases.table["findings"] and not two.stated[code].uncertain]
    question = "Which findings are new on the second ECG?"
    if named:
        answer = f"On the second ECG there is now {join([phrases.first(code) for code in named])}."
        told.append(QuestionAnswer(question, answer, "comparison", tuple(says(code) for code in named)))
    elif not gained:
        told.append(QuestionAnswer(question, "None.", "comparison"))
    return told


def conversation(
    features: EcgFeatures, findings: Sequence[Finding] | None = None, seed: int | None = 0, turns: int = 4
) -> list[dict[str, str]]:
    """A talk of several turns about one record, from rhythm to conclusion.

    Args:
        features: Measurements.
        findings: Of the same record; None asks for them.
        seed: Chooses what is asked and how.
        turns: Most questions.

    Returns:
        ``{"from": "human" | "gpt", "value": text}``, alternating; the last answer is a composed summary.
    """
    from gem_lightning.composition.compose import compose

    rng = random.Random(seed)
    asked = ask(features, findings, seed)[: max(0, turns - 1)]
    rank = {"value": 1, "normal": 2, "localisation": 3, "choice": 0}
    asked.sort(key=lambda qa: rank[qa.kind])
    talk = [{"from": who, "value": text} for qa in asked for who, text in (("human", qa.question), ("gpt", qa.answer))]
    if turns > 0:
        closing = rng.choice(("Please sum up this ECG.", "What is your overall reading?", "Give a short summary."))
        talk += [
            {"from": "human", "value": closing},
            {"from": "gpt", "value": compose(features, findings, seed, "brief")},
        ]
    return talk


def _facts(features: EcgFeatures, findings: Sequence[Finding] | None) -> Facts:
    if findings is None:
        from gem_lightning.features import findings as find

        findings = find(features)
    return Facts(features, findings)


def _values(facts: Facts, phrases: Phrases) -> list[QuestionAnswer]:
    told = []
    for kind, name in _NAMES.items():
        value = facts.number(kind)
        if value is None:
            continue
        unit = "degrees" if kind == "axis_qrs" else UNITS[kind]
        question = phrases.pick(f"What is the {name}?", f"How large is the {name}?", f"Please measure the {name}.")
        answer = phrases.pick(f"The {name} is {value} {unit}.", f"{name[:1].upper()}{name[1:]} {value} {unit}.")
        told.append(QuestionAnswer(question, answer, "value", (point(kind, value),)))
    return told


def _locations(facts: Facts, phrases: Phrases) -> list[QuestionAnswer]:
    told = []
    for code in _LOCATED:
        name = phrases.first(code)
        question = phrases.pick(f"Which leads show {name}?", f"Where is there {name}?")
        if code in facts and facts.stated[code].leads and not facts.stated[code].uncertain:
            leads = leads_of(facts.stated[code])
            answer = f"There is {name} in {join(leads)}."
            told.append(QuestionAnswer(question, answer, "localisation", (says(code, leads),)))
        elif facts.missing(code) and all(facts.missing(code, lead) for lead in LEADS if lead in ("II", "V2", "V5")):
            told.append(QuestionAnswer(question, f"There is no {name}.", "localisation", (says(code, negated=True),)))
    return told


def _states(facts: Facts, phrases: Phrases) -> list[QuestionAnswer]:
    told = []
    for name, (normal, others) in _STATES.items():
        question = phrases.pick(f"Is the {name} normal?", f"Is the {name} normal or abnormal?")
        abnormal = next((code for code in others if code in facts and facts.holds(code)), None)
        if normal in facts and facts.holds(normal):
            answer, claims = f"The {name} is normal.", (says(normal),)
        elif abnormal is not None:
            words = {
                "prolonged_pr": "prolonged",
                "wide_qrs": "prolonged",
                "long_qtc": "prolonged",
                "short_qtc": "short",
            }
            state = words.get(
                abnormal, "deviated to the left" if abnormal.startswith("left") else "deviated to the right"
            )
            answer, claims = f"The {name} is {state}.", (says(abnormal),)
        else:
            continue
        told.append(QuestionAnswer(question, answer, "normal", claims))
    if "normal_ecg" in facts:
        told.append(QuestionAnswer("Is this ECG normal?", "Normal ECG.", "normal", (says("normal_ecg"),)))
    return told


def _choices(facts: Facts, phrases: Phrases) -> list[QuestionAnswer]:
    """One right option beside wrong ones of the same family, none of which the record shows."""
    told = []
    for family in _CHOICES:
        right = [code for code in family if code in facts and not facts.stated[code].uncertain]
        if len(right) != 1:
            continue
        wrong = [code for code in family if code not in facts]
        if family[0] == "normal_axis":
            wrong = [code for code in wrong if facts.missing(code)]
        options = [right[0], *phrases.random.sample(wrong, min(3, len(wrong)))]
        if len(options) < 2:
            continue
        phrases.random.shuffle(options)
        names = tuple(phrases.first(code) for code in options)
        listed = " ".join(f"({'ABCD'[i]}) {name}" for i, name in enumerate(names))
        letter = "ABCD"[options.index(right[0])]
        question = (
            f"{phrases.pick('Which of these does the ECG show?', 'Choose the finding that is present.')} {listed}"
        )
        answer = f"{letter}: {phrases.first(right[0])}."
        told.append(QuestionAnswer(question, answer, "choice", (says(right[0]),), names))
    return told


_MAKERS: dict[str, Callable[[Facts, Phrases], list[QuestionAnswer]]] = {
    "value": _values,
    "localisation": _locations,
    "normal": _states,
    "choice": _choices,
}
