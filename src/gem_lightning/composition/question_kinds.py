"""Kinds of samples, and their questions."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from gem_lightning.features.schema import EcgFeatures, Finding

Turns = list[tuple[str, str]]

ASKED = ("interpretation", "report", "dialogue")  # written by the teacher; the rest follow from the measurements
KINDS = (*ASKED, "value", "localisation", "normal", "choice", "comparison")

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
    """A human turn; the first carries the marker of the tracing."""
    return f"<image>\n{question}" if turn == 0 else question


def make_turns(
    kind: str,
    features: EcgFeatures,
    findings: Sequence[Finding],
    seed: int,
    style: str = "interpretation",
    earlier: EcgFeatures | None = None,
) -> list[tuple[str, str]]:
    """Questions and answers that follow from the measurements alone.

    Args:
        kind: One of :data:`KINDS`.
        features, findings: Of the record.
        seed: Chooses question and words.
        style: Of composed interpretations.
        earlier: The same patient's earlier record; a comparison needs it.
    """
    from gem_lightning.composition.compose import compose
    from gem_lightning.composition.questions import ask, conversation

    seed %= 2**31
    if kind in QUESTIONS:
        text = compose(features, findings, seed, "report" if kind == "report" else style)
        return [(make_question(kind, seed), text)]
    if kind == "dialogue":
        talk = [turn["value"] for turn in conversation(features, findings, seed, turns=4)]
        return list(zip(talk[::2], talk[1::2], strict=True))
    if kind == "comparison":
        return _compared(features, findings, seed, earlier)
    asked = ask(features, findings, seed, (kind,))
    return [(qa.question, qa.answer) for qa in asked[:1]]


def _compared(features: EcgFeatures, findings: Sequence[Finding], seed: int, earlier: EcgFeatures | None) -> Turns:
    """What changed since the earlier record, which the first question tells in words: a sample shows one tracing."""
    from gem_lightning.composition.compose import compose
    from gem_lightning.composition.questions import compare

    if earlier is None or earlier.reason is not None:
        return []
    told = compare(earlier, features, None, findings, seed)
    start = seed % max(len(told), 1)
    picked = [told[(start + i) % len(told)] for i in range(min(3, len(told)))]
    turns = [(qa.question, qa.answer) for qa in picked]
    if turns:
        before = compose(earlier, None, seed, "brief")
        turns[0] = (f"The patient's first ECG read: {before} This is the second ECG. {turns[0][0]}", turns[0][1])
    return turns


def parse_turns(kind: str, text: str, seed: int) -> Turns:
    """A teacher's text as (question, answer) pairs.

    Raises:
        ValueError: A dialogue that is not the JSON asked for.
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
    """The question that a free text answers."""
    return QUESTIONS[kind][seed % len(QUESTIONS[kind])]
