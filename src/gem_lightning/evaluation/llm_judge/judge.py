"""Language models as judges: asked once, believed only after a panel of planted texts, never mixed with one another.

judge = Judge(ChatClient("gpt-4o-2024-08-06", cache="out/answers.jsonl"), "grounding")
calibration = calibrate(judge)
answers = judge.judge([JudgeCase("40689238", text, reference)]).answers
grounding.score(answers)
"""

from __future__ import annotations

import hashlib
import os
import pathlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from gem_lightning.errors import DataError, GemError
from gem_lightning.evaluation.llm_judge import aggregate as judged
from gem_lightning.evaluation.llm_judge import grounding, report
from gem_lightning.evaluation.llm_judge.parsing import Criterion
from gem_lightning.evaluation.statistics import krippendorff_alpha
from gem_lightning.llm.cache import Answer, ChatRequest, Ledger

PROMPTS = pathlib.Path(__file__).parent / "prompts"
#: Scheme to (prompt file, criteria, each criterion is a list of entries).
SCHEMES: dict[str, tuple[str, tuple[Criterion, ...], bool]] = {
    "grounding": ("grounding.txt", grounding.V1, True),
    "ptb-test-report": ("report.txt", report.ASPECTS["ptb-test-report"], False),
    "arena": ("arena.txt", report.ASPECTS["arena"], False),
}
MARGIN = 0.25  # a good text must lead a planted fault by this share of the scale
GOOD = 0.6  # and reach this share itself
BELIEVED = 0.9  # share of the panel's checks that a judge must pass


class Asks(Protocol):
    """What a judge asks: :class:`~gem_lightning.llm.client.ChatClient` or a local model."""

    model: str

    @property
    def ledger(self) -> Ledger:
        """What was paid."""
        ...

    def ask(self, requests: Iterable[ChatRequest], on_answer: Callable[[Answer], None] | None = None) -> list[Answer]:
        """Answers in order."""
        ...


@dataclass(frozen=True)
class JudgeCase:
    """One text to be judged against what is known."""

    id: str
    text: str
    reference: str
    question: str = ""


@dataclass
class Judgements:
    """A judge's answers.

    Attributes:
        label: Which judge with which prompt.
        answers: Raw answers by id; "" where there is none, so that it is counted as unreadable.
        errors: Why there is none, by id.
        stopped: Why the run ended early (the budget), or None: ids without an answer are then absent.
    """

    label: str
    answers: dict[str, str] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    stopped: str | None = None


class Judge:
    """One model with one prompt for one scheme.

    Args:
        client: The model.
        scheme: A name of :data:`SCHEMES`.
        prompt_file: Instead of our prompt. ``{reference}``, ``{text}`` and ``{question}`` are filled in; a file without
            them (such as the published prompts) gets the material appended.

    Raises:
        DataError: An unknown scheme, or a prompt file that is not there.
    """

    def __init__(
        self, client: Asks, scheme: str = "grounding", prompt_file: str | os.PathLike[str] | None = None
    ) -> None:
        if scheme not in SCHEMES:
            raise DataError(f"expected scheme {', '.join(SCHEMES)}, got {scheme!r}")
        self.client, self.scheme = client, scheme
        name, self.criteria, self.lists = SCHEMES[scheme]
        path = pathlib.Path(prompt_file) if prompt_file else PROMPTS / name
        if not path.is_file():
            raise DataError(f"expected a prompt file at {path}, found none")
        self.prompt = path.read_text(encoding="utf-8")
        mark = hashlib.sha256(self.prompt.encode()).hexdigest()[:8]
        self.label = f"{client.model}, {'own' if prompt_file is None else path.name} prompt {mark}"

    @property
    def slug(self) -> str:
        """The label as part of a file name."""
        return re.sub(r"[^A-Za-z0-9._-]+", "-", self.label)

    def judge(self, cases: Iterable[JudgeCase], progress: Callable[[int], None] | None = None) -> Judgements:
        """Answers on every case; those in the client's store are not paid again."""
        result = Judgements(self.label)
        requests = (self.request(case) for case in cases)

        def keep(answer: Answer) -> None:
            result.answers[answer.tag] = answer.text
            if answer.error is not None:
                result.errors[answer.tag] = answer.error
            if progress:
                progress(len(result.answers))

        self.client.ask(requests, keep)
        result.stopped = self.client.ledger.stopped
        return result

    def request(self, case: JudgeCase) -> ChatRequest:
        """What is asked about one case."""
        parts = {"reference": case.reference, "text": case.text, "question": case.question}
        if "{text}" in self.prompt:
            # One pass: braces inside the material are not filled in again.
            words = re.sub(r"\{(reference|text|question)\}", lambda found: parts[found[1]], self.prompt)
        else:
            asked = f"\n\n[Question]\n{case.question}" if case.question else ""
            words = f"{self.prompt}{asked}\n\n[Ground truth]\n{case.reference}\n\n[To be judged]\n{case.text}"
        return ChatRequest([{"role": "user", "content": words}], self.schema(), tag=case.id)

    def schema(self) -> dict[str, Any]:
        """JSON schema of an answer."""
        entry = {
            "type": "object",
            "properties": {"Score": {"type": "number"}, "Explanation": {"type": "string"}},
            "required": ["Score", "Explanation"],
            "additionalProperties": False,
        }
        value = {"type": "array", "items": entry} if self.lists else entry
        names = [criterion.name for criterion in self.criteria]
        return {
            "title": "judgement",
            "type": "object",
            "properties": dict.fromkeys(names, value),
            "required": names,
            "additionalProperties": False,
        }

    def score(self, answers: dict[str, str], **options: Any) -> dict[str, Any]:
        """Strict figures of the answers, with the judge's label."""
        return judged.aggregate(answers, self.criteria, **options) | {"judge": self.label}


@dataclass(frozen=True)
class Calibration:
    """What a judge made of the planted texts.

    Attributes:
        label: The judge.
        checks: (planted text, what was expected, share of the scale that it got, passed).
        share: Passed checks over all.
        believed: The share reaches :data:`BELIEVED`.
    """

    label: str
    checks: list[tuple[str, str, float, bool]]
    share: float
    believed: bool


def calibrate(judge: Judge) -> Calibration:
    """Let a judge grade the planted texts.

    Every good text must reach :data:`GOOD` of the scale, and lead each planted fault of the same ECG by
    :data:`MARGIN`; an answer that cannot be read fails its check.
    """
    cases, names = [], []
    for number, item in enumerate(panel()):
        for name, text in [("good", item["good"]), *item["bad"].items()]:
            question = "Interpret this ECG." if judge.scheme == "arena" else ""
            cases.append(JudgeCase(f"panel-{number}-{name}", text, item["reference"], question))
            names.append((number, name))
    answers = judge.judge(cases).answers
    closed = [criterion for criterion in judge.criteria if np.isfinite(criterion.most)]
    scored = judge.score({case.id: answers.get(case.id, "") for case in cases}, draws=0)["per_id"]
    levels = {}
    for case, key in zip(cases, names):
        figures = scored[case.id]
        shares = [figures[c.name] / c.most for c in closed if c.name in figures]
        levels[key] = float(np.mean(shares)) if len(shares) == len(closed) else float("nan")
    checks = []
    for (number, name), level in levels.items():
        good = levels[number, "good"]
        expected = f"at least {GOOD:.2f}" if name == "good" else f"at most {good - MARGIN:.2f}"
        passed = level >= GOOD if name == "good" else level <= good - MARGIN
        checks.append((f"ECG {number + 1}, {name}", expected, level, bool(passed)))
    share = sum(check[3] for check in checks) / len(checks)
    return Calibration(judge.label, checks, share, share >= BELIEVED)


def panel() -> list[dict[str, Any]]:
    """The planted texts."""
    import yaml

    return yaml.safe_load((pathlib.Path(__file__).parent / "panel.yaml").read_text(encoding="utf-8"))


def agreement(results: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Krippendorff's alpha (interval) of several judges' figures, by criterion.

    Args:
        results: What :meth:`Judge.score` returned for each judge over the same records.

    Raises:
        GemError: Fewer than two judges.
    """
    if len(results) < 2:
        raise GemError(f"expected at least two judges to compare, got {len(results)}")
    names = sorted(set().union(*(result["per_id"] for result in results)))
    criteria = dict.fromkeys(name for result in results for name in result["means"])
    return {
        criterion: krippendorff_alpha(
            [[result["per_id"].get(name, {}).get(criterion, np.nan) for name in names] for result in results]
        )
        for criterion in criteria
    }
