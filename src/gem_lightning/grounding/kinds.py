"""Kinds of samples, and their questions."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from gem_lightning.features.schema import EcgFeatures, Finding

Turns = list[tuple[str, str]]

ASKED = ("interpretation", "report", "dialogue")  # written by the teacher; the rest follow from the measurements
KINDS = (*ASKED, "value", "localisation", "comparison", "choice")

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
    from gem_lightning.grounding import compose

    if kind in QUESTIONS:
        question = make_question(kind, seed)
        text = compose(features, findings, seed % 2**31, "report" if kind == "report" else style)
        return [(question, text)]
    return _asked(kind, features, findings, seed, earlier)


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
