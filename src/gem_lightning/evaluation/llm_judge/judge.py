"""LLM judges: calibrated on a panel of planted texts before use, and never averaged with one another.

judge = Judge(ChatClient("gpt-4o-2024-08-06", cache="out/answers.jsonl"), "grounding")
calibration = calibrate(judge)
answers = judge.judge([JudgeCase("40689238", text, reference)]).answers
grounding.score(answers)
"""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import re
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from gem_lightning.errors import DataError, GemError
from gem_lightning.evaluation.llm_judge import grounding, report
from gem_lightning.evaluation.llm_judge.aggregate import aggregate
from gem_lightning.evaluation.llm_judge.parsing import Criterion
from gem_lightning.evaluation.statistics import krippendorff_alpha
from gem_lightning.jobs import write_atomically
from gem_lightning.llm.cache import Answer, ChatRequest, Ledger
from gem_lightning.reporting.evaluation import EvaluationReport, number, with_interval
from gem_lightning.reporting.html import Table

PROMPTS = pathlib.Path(__file__).parent / "prompts"
#: Scheme to (prompt file, criteria, each criterion is a list of entries).
SCHEMES: dict[str, tuple[str, tuple[Criterion, ...], bool]] = {
    "grounding": ("grounding.txt", grounding.V1, True),
    "ptb-test-report": ("report.txt", report.ASPECTS["ptb-test-report"], False),
    "arena": ("arena.txt", report.ASPECTS["arena"], False),
}
#: Names of slots in a prompt, ours and those of the published prompts, which stand in double braces.
_MATERIAL = {
    "reference": "reference", "groundtruth": "reference", "text": "text", "generated": "text", "question": "question",
}  # fmt: skip
_SLOT = re.compile(r"\{\{\s*(\w+)\s*\}\}|\{(reference|text|question)\}")
# Our own limits: wide enough for a judge that is right but not strict, narrow enough to fail one that grades fluency.
MARGIN = 0.25  # a correct text must lead each planted fault by this share of the scale
GOOD = 0.6  # and must itself reach this share
TRUSTED = 0.9  # share of the panel's checks that a judge must pass


class ChatModel(Protocol):
    """Chat model of a judge: :class:`~gem_lightning.llm.client.ChatClient` or a local model."""

    model: str

    @property
    def ledger(self) -> Ledger:
        """Return costs and counts."""
        ...

    def ask(self, requests: Iterable[ChatRequest], on_answer: Callable[[Answer], None] | None = None) -> list[Answer]:
        """Return answers in the order of the requests."""
        ...


@dataclass(frozen=True)
class JudgeCase:
    """One text to score against a reference."""

    id: str
    text: str
    reference: str
    question: str = ""


@dataclass
class JudgeAnswers:
    """Answers of a judge.

    Attributes:
        label: Identity of judge and prompt.
        answers: Raw answers by id; "" where there is none, so that it is counted as unreadable.
        errors: Reason for each missing answer, by id.
        stopped: Reason why the run ended early (the budget), or None: ids without an answer are then absent.
    """

    label: str
    answers: dict[str, str] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    stopped: str | None = None


class Judge:
    """One model with one prompt for one scheme.

    Args:
        client: Chat model.
        scheme: A name of :data:`SCHEMES`.
        prompt_file: Prompt that replaces ours. ``{reference}``, ``{text}`` and ``{question}`` are filled in, and
            ``{{groundtruth}}`` and ``{{generated}}`` of the published prompts; a file without them gets the material
            appended.

    Raises:
        DataError: An unknown scheme, a missing prompt file, or a slot in double braces that is not known.
    """

    def __init__(
        self, client: ChatModel, scheme: str = "grounding", prompt_file: str | os.PathLike[str] | None = None
    ) -> None:
        if scheme not in SCHEMES:
            raise DataError(f"expected scheme {', '.join(SCHEMES)}, got {scheme!r}")
        self.client, self.scheme = client, scheme
        name, self.criteria, self.lists = SCHEMES[scheme]
        path = pathlib.Path(prompt_file) if prompt_file else PROMPTS / name
        if not path.is_file():
            raise DataError(f"expected a prompt file at {path}, found none")
        self.prompt = path.read_text(encoding="utf-8")
        unknown = sorted({slot[1] for slot in _SLOT.finditer(self.prompt) if slot[1]} - _MATERIAL.keys())
        if unknown:
            names = ", ".join(_MATERIAL)
            raise DataError(f"expected slots of {names} in {path.name}, got {', '.join(unknown)}; rename them")
        mark = hashlib.sha256(self.prompt.encode()).hexdigest()[:8]
        self.label = f"{client.model}, {'own' if prompt_file is None else path.name} prompt {mark}"

    @property
    def slug(self) -> str:
        """Return the label as part of a file name."""
        return re.sub(r"[^A-Za-z0-9._-]+", "-", self.label)

    def judge(self, cases: Iterable[JudgeCase], progress: Callable[[int], None] | None = None) -> JudgeAnswers:
        """Request an answer on every case; those in the client's cache are not paid again."""
        result = JudgeAnswers(self.label)

        def keep(answer: Answer) -> None:
            result.answers[answer.tag] = answer.text
            if answer.error is not None:
                result.errors[answer.tag] = answer.error
            if progress:
                progress(len(result.answers))

        self.client.ask((self.request(case) for case in cases), keep)
        result.stopped = self.client.ledger.stopped
        return result

    def request(self, case: JudgeCase) -> ChatRequest:
        """Build the request on one case."""
        parts = {"reference": case.reference, "text": case.text, "question": case.question}
        if any(_MATERIAL.get(slot[1] or slot[2]) == "text" for slot in _SLOT.finditer(self.prompt)):
            # One pass: braces inside the material are not filled in again.
            content = _SLOT.sub(lambda slot: parts[_MATERIAL[slot[1] or slot[2]]], self.prompt)
        else:
            question = f"\n\n[Question]\n{case.question}" if case.question else ""
            content = f"{self.prompt}{question}\n\n[Ground truth]\n{case.reference}\n\n[To be judged]\n{case.text}"
        return ChatRequest([{"role": "user", "content": content}], self.schema(), tag=case.id)

    def schema(self) -> dict[str, Any]:
        """Return the JSON schema of an answer."""
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
        """Compute strict metrics of the answers, with the judge's label."""
        return aggregate(answers, self.criteria, **options) | {"judge": self.label}


@dataclass(frozen=True)
class Calibration:
    """A judge's scores of the planted texts.

    Attributes:
        checks: ``text``, what was ``expected``, ``share`` of the scale, ``passed``, one dict each.
        share: Passed checks over all.
    """

    checks: list[dict[str, Any]]
    share: float

    @property
    def trusted(self) -> bool:
        """Return whether the share reaches :data:`TRUSTED`."""
        return self.share >= TRUSTED


def calibrate(judge: Judge) -> Calibration:
    """Score the planted texts with a judge.

    Every correct text must reach :data:`GOOD` of the scale, and lead each planted fault of the same ECG by
    :data:`MARGIN`; an answer that cannot be parsed fails its check.
    """
    cases: dict[tuple[int, str], JudgeCase] = {}
    for index, item in enumerate(panel()):
        for name, text in [("good", item["good"]), *item["bad"].items()]:
            question = "Interpret this ECG." if judge.scheme == "arena" else ""
            cases[index, name] = JudgeCase(f"panel-{index}-{name}", text, item["reference"], question)
    answers = judge.judge(cases.values()).answers
    closed = [criterion for criterion in judge.criteria if np.isfinite(criterion.maximum)]
    scored = judge.score({case.id: answers.get(case.id, "") for case in cases.values()}, draws=0)["per_id"]
    levels = {}
    for key, case in cases.items():
        shares = [scored[case.id][c.name] / c.maximum for c in closed if c.name in scored[case.id]]
        levels[key] = float(np.mean(shares)) if len(shares) == len(closed) else float("nan")
    checks: list[dict[str, Any]] = []
    for (index, name), level in levels.items():
        limit = GOOD if name == "good" else levels[index, "good"] - MARGIN
        expected = f"at {'least' if name == 'good' else 'most'} {limit:.2f}"
        passed = bool(level >= limit if name == "good" else level <= limit)
        checks.append({"text": f"ECG {index + 1}, {name}", "expected": expected, "share": level, "passed": passed})
    return Calibration(checks, sum(check["passed"] for check in checks) / len(checks))


def panel() -> list[dict[str, Any]]:
    """Return the planted texts."""
    import yaml

    return yaml.safe_load((pathlib.Path(__file__).parent / "panel.yaml").read_text(encoding="utf-8"))


def agreement(results: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Return Krippendorff's alpha (interval) of several judges' scores, by criterion.

    Args:
        results: Output of :meth:`Judge.score` of each judge over the same records.

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


def run_judges(
    clients: Sequence[ChatModel],
    scheme: str,
    cases: Sequence[JudgeCase],
    out: str | os.PathLike[str],
    prompt_files: Mapping[str, str] | None = None,
    groups: Mapping[str, Hashable] | None = None,
    draws: int = 1000,
) -> dict[str, Any]:
    """Score every case by every judge that passes its calibration.

    Args:
        clients: Chat models of the judges.
        scheme: A name of :data:`SCHEMES`.
        cases: Texts with their references.
        out: Folder for ``judgements-*.jsonl``, one file per judge.
        prompt_files: Prompts by scheme that replace ours.
        groups: Patient of each id.
        draws: Number of bootstrap resamples.

    Returns:
        ``judges``: label to metrics, each with ``calibration`` (and without metrics where it failed);
        ``agreement``: Krippendorff's alpha by criterion, with two or more judges.

    Raises:
        GemError: A judge stopped early (its budget); paid answers are kept and a rerun resumes.
    """
    results: dict[str, Any] = {}
    for client in clients:
        judge = Judge(client, scheme, (prompt_files or {}).get(scheme))
        trust = calibrate(judge)
        calibration = {"trusted": trust.trusted, "share": trust.share, "checks": trust.checks}
        results[judge.label] = {"judge": judge.label, "calibration": calibration}
        if not trust.trusted:
            continue
        found = judge.judge(cases)
        _write(pathlib.Path(out) / f"judgements-{scheme}-{judge.slug}.jsonl", found)
        if found.stopped:
            raise GemError(f"{judge.label} stopped early: {found.stopped}; paid answers are kept, rerun to resume")
        answers = {case.id: found.answers.get(case.id, "") for case in cases}
        results[judge.label] |= judge.score(answers, groups=groups, draws=draws)
        results[judge.label]["ledger"] = client.ledger.to_dict()
    scored = [result for result in results.values() if "means" in result]
    return {"judges": results, "agreement": agreement(scored) if len(scored) > 1 else None}


def _write(path: pathlib.Path, found: JudgeAnswers) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [
        {"id": name, "judge": found.label, "answer": text}
        | ({"error": found.errors[name]} if name in found.errors else {})
        for name, text in found.answers.items()
    ]
    write_atomically(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())


def add_judges(report: EvaluationReport, title: str, judged: dict[str, Any], published: Sequence[Table] = ()) -> None:
    """Add one column per judge, never a mean over judges; then their calibration and agreement."""
    judges = {label: found for label, found in judged["judges"].items() if "means" in found}
    names = list(dict.fromkeys(name for found in judges.values() for name in found["means"]))
    rows = [[name, *(with_interval(found["intervals"].get(name)) for found in judges.values())] for name in names]
    rows.append(["complete answers", *(f"{found['complete']} of {found['n']}" for found in judges.values())])
    rows.append(["unreadable answers", *(f"{len(found['unreadable'])} of {found['n']}" for found in judges.values())])
    note = "95 % bootstrap intervals. Scores of different judges or prompts are not comparable."
    report.tables += [Table(title, ["Criterion", *judges], rows, note), *published]
    rows = []
    for label, found in judged["judges"].items():
        checks = found["calibration"]["checks"]
        failed = ", ".join(c["text"] for c in checks if not c["passed"])[:160]
        trusted = "yes" if found["calibration"]["trusted"] else "no: not used"
        rows.append([label, f"{sum(c['passed'] for c in checks)} of {len(checks)}", trusted, failed or "–"])
    header = ["Judge", "Checks passed", "Trusted", "Failed on"]
    report.tables.append(Table(f"{title}: panel of planted texts", header, rows))
    if judged["agreement"]:
        rows = [[name, number(alpha, 2)] for name, alpha in judged["agreement"].items()]
        note = "Krippendorff's alpha, interval level: 1 is perfect agreement, 0 is chance."
        report.tables.append(Table(f"{title}: agreement of the judges", ["Criterion", "Alpha"], rows, note))
