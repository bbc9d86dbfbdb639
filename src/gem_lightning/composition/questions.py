"""Questions about one or two records with answers from measurements alone, and turns of instruction samples."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gem_lightning.claims.claim import UNITS, Claim
from gem_lightning.claims.tolerance import default_tolerance
from gem_lightning.composition.compose import compose
from gem_lightning.composition.facts import RHYTHMS, Facts, finding_claim, value_claim
from gem_lightning.composition.phrases import Phrases, join
from gem_lightning.composition.reported import agrees
from gem_lightning.composition.sections import leads_of
from gem_lightning.ecg.record import LEADS
from gem_lightning.errors import GemError

if TYPE_CHECKING:
    from gem_lightning.features.schema import EcgFeatures, Finding

QUESTION_KINDS = ("value", "localisation", "normal", "choice", "comparison")
FREE_KINDS = ("interpretation", "report", "dialogue")  # written by a teacher LLM; questions follow from measurements
CHAIN_KIND = "reasoning_chain"  # criterion by criterion to a diagnosis (composition/chains)
KINDS = (*FREE_KINDS, *QUESTION_KINDS, CHAIN_KIND)

Turns = list[tuple[str, str]]
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
#: Quantities that a question takes as normal or not: code when normal, codes when not.
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
    """A question, its answer and the answer's claims.

    Attributes:
        question: The question.
        answer: The answer.
        kind: One of :data:`QUESTION_KINDS`.
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
    kinds: Sequence[str] = QUESTION_KINDS[:4],
) -> list[QuestionAnswer]:
    """Build every question that this record answers clearly.

    Args:
        features: Measurements.
        findings: Of the same record; None decides them.
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
    facts, phrases = Facts.of(features, findings), Phrases(seed)
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
    """Compare two records of one patient: numbers beyond tolerance, and new findings.

    Args:
        before: The first record.
        after: The second record, which the answers are about; they recall the first.
        findings_before: Findings of the first record; None decides them.
        findings_after: Findings of the second record.
        seed: Chooses wording.
    """
    one, two, phrases = Facts.of(before, findings_before), Facts.of(after, findings_after), Phrases(seed)
    if before.heart_rate_bpm is None or after.heart_rate_bpm is None:
        return []
    answers = []
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
        answers.append(QuestionAnswer(question, answer, "comparison", (value_claim(kind, new),)))
    gained = [code for code in two.stated if code not in one.stated and two.stated[code].finding.abnormal]
    named = [code for code in gained if code in phrases.table["findings"] and not two.stated[code].uncertain]
    question = "Which findings are new on the second ECG?"
    if named:
        answer = f"On the second ECG there is now {join([phrases.first(code) for code in named])}."
        answers.append(QuestionAnswer(question, answer, "comparison", tuple(finding_claim(code) for code in named)))
    elif not gained:
        answers.append(QuestionAnswer(question, "None.", "comparison"))
    return answers


def conversation(
    features: EcgFeatures,
    findings: Sequence[Finding] | None = None,
    seed: int | None = 0,
    turns: int = 4,
    diagnosis: Sequence[str] = (),
) -> list[dict[str, str]]:
    """Build a conversation of several turns about one record, from rhythm to conclusion.

    Args:
        features: Measurements.
        findings: Of the same record; None decides them.
        seed: Chooses questions and phrasing.
        turns: Most questions.
        diagnosis: Statements of the record's report: the summary concludes with them, and answers that exclude them
            are left out.

    Returns:
        ``{"from": "human" | "gpt", "value": text}``, alternating; the last answer is a composed summary.
    """
    rng = random.Random(seed)
    asked = [qa for qa in ask(features, findings, seed) if not diagnosis or agrees(qa.claims, diagnosis)]
    asked = asked[: max(0, turns - 1)]
    rank = {"value": 1, "normal": 2, "localisation": 3, "choice": 0}
    asked.sort(key=lambda qa: rank[qa.kind])
    talk = [{"from": who, "value": text} for qa in asked for who, text in (("human", qa.question), ("gpt", qa.answer))]
    if turns > 0:
        closing = rng.choice(("Please sum up this ECG.", "What is your overall reading?", "Give a short summary."))
        talk += [
            {"from": "human", "value": closing},
            {"from": "gpt", "value": compose(features, findings, seed, "brief", diagnosis)},
        ]
    return talk


def _values(facts: Facts, phrases: Phrases) -> list[QuestionAnswer]:
    answers = []
    for kind, name in _NAMES.items():
        value = facts.number(kind)
        if value is None:
            continue
        unit = "degrees" if kind == "axis_qrs" else UNITS[kind]
        question = _value_question(name, phrases)
        answer = phrases.pick(f"The {name} is {value} {unit}.", f"{name[:1].upper()}{name[1:]} {value} {unit}.")
        answers.append(QuestionAnswer(question, answer, "value", (value_claim(kind, value),)))
    return answers


def _value_question(name: str, phrases: Phrases) -> str:
    return phrases.pick(f"What is the {name}?", f"How large is the {name}?", f"Please measure the {name}.")


def value_question(seed: int) -> str:
    """Return a question for a measured value, drawn from the seed, whether or not a record answers it."""
    phrases = Phrases(seed)
    return _value_question(_NAMES[phrases.pick(*_NAMES)], phrases)


def _locations(facts: Facts, phrases: Phrases) -> list[QuestionAnswer]:
    answers = []
    for code in _LOCATED:
        name = phrases.first(code)
        question = phrases.pick(f"Which leads show {name}?", f"Where is there {name}?")
        if code in facts and facts.stated[code].leads and not facts.stated[code].uncertain:
            leads = leads_of(facts.stated[code])
            answer = f"There is {name} in {join(leads)}."
            answers.append(QuestionAnswer(question, answer, "localisation", (finding_claim(code, leads),)))
        elif facts.missing(code) and all(facts.missing(code, lead) for lead in LEADS if lead in ("II", "V2", "V5")):
            answers.append(
                QuestionAnswer(question, f"There is no {name}.", "localisation", (finding_claim(code, negated=True),))
            )
    return answers


def _states(facts: Facts, phrases: Phrases) -> list[QuestionAnswer]:
    answers = []
    for name, (normal, others) in _STATES.items():
        question = phrases.pick(f"Is the {name} normal?", f"Is the {name} normal or abnormal?")
        abnormal = next((code for code in others if code in facts and facts.holds(code)), None)
        if normal in facts and facts.holds(normal):
            answer, claims = f"The {name} is normal.", (finding_claim(normal),)
        elif abnormal is not None:
            names = {
                "prolonged_pr": "prolonged",
                "wide_qrs": "prolonged",
                "long_qtc": "prolonged",
                "short_qtc": "short",
            }
            state = names.get(
                abnormal, "deviated to the left" if abnormal.startswith("left") else "deviated to the right"
            )
            answer, claims = f"The {name} is {state}.", (finding_claim(abnormal),)
        else:
            continue
        answers.append(QuestionAnswer(question, answer, "normal", claims))
    if "normal_ecg" in facts:
        answers.append(QuestionAnswer("Is this ECG normal?", "Normal ECG.", "normal", (finding_claim("normal_ecg"),)))
    return answers


def _choices(facts: Facts, phrases: Phrases) -> list[QuestionAnswer]:
    """Offer one right option among wrong ones of the same family, none of which the record shows."""
    answers = []
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
        answers.append(QuestionAnswer(question, answer, "choice", (finding_claim(right[0]),), names))
    return answers


_MAKERS: dict[str, Callable[[Facts, Phrases], list[QuestionAnswer]]] = {
    "value": _values,
    "localisation": _locations,
    "normal": _states,
    "choice": _choices,
}


# -- turns of instruction samples -----------------------------------------------------------------------------------

QUESTIONS: dict[str, tuple[str, ...]] = {
    "interpretation": (
        "Interpret this ECG step by step, naming the leads and the measured values that your conclusion rests on.",
        "What does this 12-lead ECG show? Explain how the tracing leads you to the diagnosis.",
        "Please read this ECG as you would for a colleague and give the evidence for each conclusion.",
        "Analyse this electrocardiogram: rhythm, conduction, morphology by lead, then your diagnosis.",
    ),
    "report": (
        "Write the clinical report of this ECG.",
        "Please give a short formal report of this 12-lead ECG.",
        "Draft the ECG report for the patient's file.",
    ),
}


def opening(question: str, turn: int) -> str:
    """Build a human turn; the first carries the marker of the tracing."""
    return f"<image>\n{question}" if turn == 0 else question


def make_turns(
    kind: str,
    features: EcgFeatures,
    findings: Sequence[Finding],
    seed: int,
    style: str = "interpretation",
    earlier: EcgFeatures | None = None,
    diagnosis: Sequence[str] = (),
) -> list[tuple[str, str]]:
    """Build questions and answers that follow from the measurements, and from a report's diagnosis where there is one.

    Args:
        kind: One of :data:`KINDS`.
        features, findings: Of the record.
        seed: Chooses question and phrasing.
        style: Of composed interpretations.
        earlier: The same patient's earlier record; a comparison needs it.
        diagnosis: Statements of the record's report, which free texts conclude with.
    """
    seed %= 2**31
    if kind in QUESTIONS:
        text = compose(features, findings, seed, "report" if kind == "report" else style, diagnosis)
        return [(make_question(kind, seed), text)]
    if kind == "dialogue":
        talk = [turn["value"] for turn in conversation(features, findings, seed, turns=4, diagnosis=diagnosis)]
        return list(zip(talk[::2], talk[1::2], strict=True))
    if kind == "comparison":
        return _compared(features, findings, seed, earlier)
    asked = ask(features, findings, seed, (kind,))
    return [(qa.question, qa.answer) for qa in asked[:1]]


def _compared(features: EcgFeatures, findings: Sequence[Finding], seed: int, earlier: EcgFeatures | None) -> Turns:
    """Build a comparison; the first question describes the earlier record, since a sample shows one tracing."""
    if earlier is None or earlier.reason is not None:
        return []
    answers = compare(earlier, features, None, findings, seed)
    start = seed % max(len(answers), 1)
    picked = [answers[(start + i) % len(answers)] for i in range(min(3, len(answers)))]
    turns = [(qa.question, qa.answer) for qa in picked]
    if turns:
        before = compose(earlier, None, seed, "brief")
        turns[0] = (f"The patient's first ECG read: {before} This is the second ECG. {turns[0][0]}", turns[0][1])
    return turns


def parse_turns(kind: str, text: str, seed: int) -> Turns:
    """Split a teacher LLM's text into (question, answer) pairs.

    Raises:
        ValueError: A dialogue is not the requested JSON.
    """
    if kind != "dialogue":
        return [(make_question(kind, seed), text.strip())]
    body = re.sub(r"^```(?:json)?\s*|\s*```$", "", text.strip())
    try:
        turns = json.loads(body)["turns"]
        return [(str(t["question"]).strip(), str(t["answer"]).strip()) for t in turns]
    except (ValueError, KeyError, TypeError):
        raise ValueError('Answer as JSON only: {"turns": [{"question": "...", "answer": "..."}, ...]}') from None


def make_question(kind: str, seed: int) -> str:
    """Return the question that a free text answers."""
    return QUESTIONS[kind][seed % len(QUESTIONS[kind])]
