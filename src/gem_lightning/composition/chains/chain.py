"""Reasoning chains as data, in the JSON form of ECG-Reasoning-Benchmark (arXiv:2603.14326)."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gem_lightning.errors import DataError

INITIAL = "initial_diagnostic_question"
#: Kinds of question, in the order of a step.
KINDS = (
    INITIAL,
    "criterion_selection",
    "finding_identification",
    "lead_grounding",
    "wave_grounding",
    "measurement_grounding",
    "diagnostic_decision",
)
LETTERS = "abcdefghijklmnopqrstuvwxyz"
_STEP = ("criterion_selection", "finding_identification", "diagnostic_decision")
_FORM = '{"metadata": {...}, "data": {"initial_diagnostic_question": {...}, "reasoning": [...]}}'


@dataclass(frozen=True)
class Question:
    """One question with its options.

    Attributes:
        kind: One of :data:`KINDS`.
        text: Question text.
        options: Answers to choose from.
        answers: Right options; several where ``multiple``.
    """

    kind: str
    text: str
    options: tuple[str, ...]
    answers: tuple[str, ...]

    @property
    def multiple(self) -> bool:
        """Return whether every option that applies is wanted."""
        return self.kind == "lead_grounding"

    @property
    def answer(self) -> str:
        """Return the right answer as text."""
        return ", ".join(self.answers)

    @property
    def prompt(self) -> str:
        """Return the question with its options and how to answer."""
        listed = "\n".join(f"({LETTERS[i]}) {option}" for i, option in enumerate(self.options))
        how = (
            "Answer with every option that applies, as text, separated by commas."
            if self.multiple
            else "Answer with the text of one option and nothing else."
        )
        return f"{self.text}\n\nOptions:\n{listed}\n\n{how}"

    def to_row(self) -> dict[str, Any]:
        """Return the JSON form; groundings hold lists, as in the published files."""
        row: dict[str, Any] = {"question": self.text, "options": list(self.options)}
        places = [self.options.index(answer) for answer in self.answers]
        listed = self.kind.endswith("grounding")
        row["answer"] = list(self.answers) if listed else self.answers[0]
        if self.kind != INITIAL:
            row["answer_idx"] = places if listed else places[0]
        return row | {"question_type": self.kind}

    @classmethod
    def from_row(cls, row: Any, place: str, kind: str | None = None) -> Question:
        """Build a question from its JSON form.

        Raises:
            DataError: A field is missing, or an answer is not among the options.
        """
        if not isinstance(row, Mapping) or not {"question", "options", "answer"} <= set(row):
            got = f"keys {sorted(row)}" if isinstance(row, Mapping) else type(row).__name__
            raise DataError(f"{place}: expected question, options and answer, got {got}; see docs/evaluation.md")
        named = row.get("question_type") or kind
        if named not in KINDS or (kind is not None and named != kind):
            raise DataError(f"{place}: expected question_type {kind or ' or '.join(KINDS[3:6])}, got {named!r}")
        options = tuple(map(str, row["options"]))
        given = row["answer"] if isinstance(row["answer"], list) else [row["answer"]]
        wrong = [answer for answer in map(str, given) if answer not in options]
        if wrong or not given:
            raise DataError(
                f"{place}: expected an answer among {list(options)}, got {wrong or given}; correct the file"
            )
        return cls(named, str(row["question"]), options, tuple(map(str, given)))


@dataclass(frozen=True)
class Step:
    """One loop: a criterion is chosen, decided, located in the signal, and its consequence drawn."""

    criterion: Question
    finding: Question
    grounding: tuple[Question, ...]
    decision: Question

    @property
    def questions(self) -> tuple[Question, ...]:
        """Return the questions in order."""
        return (self.criterion, self.finding, *self.grounding, self.decision)


@dataclass(frozen=True)
class Chain:
    """The questions from a record to one diagnosis.

    Attributes:
        id: Unique id within the file.
        source: Data set, such as ``ptbxl`` or ``mimic_iv_ecg``.
        record: Id of the ECG in the data set.
        diagnosis: Target, such as ``first_degree_av_block``.
        present: Whether the record has it.
        initial: The diagnosis asked for at once.
        steps: The reasoning.
        path: Number of the reasoning path.
        facts: Further entries of ``metadata``, such as ``subject_id``, ``ecg`` (a portable reference) or ``truth``.
    """

    id: str
    source: str
    record: str
    diagnosis: str
    present: bool
    initial: Question
    steps: tuple[Step, ...]
    path: int = 0
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def questions(self) -> tuple[Question, ...]:
        """Return every question in order, the initial one first."""
        return (self.initial, *(question for step in self.steps for question in step.questions))

    @property
    def patient(self) -> str | None:
        """Return the patient, where the file names one."""
        found = self.facts.get("subject_id", self.facts.get("patient"))
        return None if found is None else str(found)

    def to_row(self) -> dict[str, Any]:
        """Return the JSON form."""
        known: dict[str, Any] = {
            "id": self.id,
            "data_source": self.source,
            "ecg_id": self.record,
            "target_dx": self.diagnosis,
        }
        known |= {"dx_label": self.present, "path_idx": self.path}
        reasoning = [
            {
                "criterion_selection": step.criterion.to_row(),
                "finding_identification": step.finding.to_row(),
                "ecg_grounding": [question.to_row() for question in step.grounding],
                "diagnostic_decision": step.decision.to_row(),
            }
            for step in self.steps
        ]
        return {"metadata": known | self.facts, "data": {INITIAL: self.initial.to_row(), "reasoning": reasoning}}

    @classmethod
    def from_row(cls, row: Any, place: str = "chain", id: str | None = None) -> Chain:
        """Build a chain from its JSON form; ``id`` is taken where the metadata hold none.

        Raises:
            DataError: A field is missing or contradicts another; the message names the place in the file.
        """
        if not isinstance(row, Mapping) or not {"metadata", "data"} <= set(row):
            got = f"keys {sorted(row)}" if isinstance(row, Mapping) else type(row).__name__
            raise DataError(f"{place}: expected a chain {_FORM}, got {got}; is this a file of predictions?")
        meta, data = dict(row["metadata"]), row["data"]
        missing = [name for name in ("data_source", "ecg_id", "target_dx", "dx_label") if name not in meta]
        if missing or not isinstance(data.get("reasoning"), list) or INITIAL not in data:
            what = f"metadata without {', '.join(missing)}" if missing else f"data with keys {sorted(data)}"
            raise DataError(f"{place}: expected a chain {_FORM}, got {what}")
        steps = tuple(_step(step, f"{place}, reasoning[{i}]") for i, step in enumerate(data["reasoning"]))
        name = meta.pop("id", id)
        return cls(
            id=str(name),
            source=str(meta.pop("data_source")),
            record=str(meta.pop("ecg_id")),
            diagnosis=str(meta.pop("target_dx")),
            present=bool(meta.pop("dx_label")),
            initial=Question.from_row(data[INITIAL], f"{place}, {INITIAL}", INITIAL),
            steps=steps,
            path=int(meta.pop("path_idx", 0)),
            facts=meta,
        )


def _step(row: Any, place: str) -> Step:
    if not isinstance(row, Mapping) or not set(_STEP) <= set(row):
        got = f"keys {sorted(row)}" if isinstance(row, Mapping) else type(row).__name__
        raise DataError(f"{place}: expected {', '.join(_STEP)} and ecg_grounding, got {got}")
    grounding = row.get("ecg_grounding") or []
    found = tuple(Question.from_row(g, f"{place}, ecg_grounding[{i}]") for i, g in enumerate(grounding))
    if any(not question.kind.endswith("grounding") for question in found):
        raise DataError(f"{place}: expected groundings in ecg_grounding, got {[q.kind for q in found]}")
    chosen, decided, drawn = (Question.from_row(row[name], f"{place}, {name}", name) for name in _STEP)
    return Step(chosen, decided, found, drawn)


def read_chains(path: str | os.PathLike[str]) -> list[Chain]:
    """Read chains of a ``.jsonl`` or ``.json`` file, or of a folder with such files (the published tree).

    Chains of several data sets may repeat an id: then every id gets its data set in front.

    Raises:
        DataError: Nothing is there, a row is no chain, or two chains of one data set have one id.
    """
    place = Path(path)
    files = sorted([*place.rglob("*.jsonl"), *place.rglob("*.json")]) if place.is_dir() else [place]
    if not place.exists() or not files:
        raise DataError(
            f"expected chains of ECG-Reasoning-Benchmark (.jsonl, .json, or a folder of them), got nothing at {place}; "
            "download its data/ folder (github.com/Jwoo5/ecg-reasoning-benchmark), or make chains with "
            "gem_lightning.generate kinds=[reasoning_chain]"
        )
    chains = [
        Chain.from_row(row, f"{file}, {at}", id=file.stem) for file in files for at, row in _rows(file)
    ]  # fmt: skip
    if not chains:
        raise DataError(f"expected chains in {place}, got an empty file")
    if len({chain.id for chain in chains}) < len(chains):
        chains = [replace(chain, id=f"{chain.source}-{chain.id}") for chain in chains]
    twice = [name for name, count in Counter(chain.id for chain in chains).items() if count > 1]
    if twice:
        raise DataError(f"expected one chain per id in {place}, got several of {', '.join(twice[:5])}; remove the rest")
    return chains


def _rows(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield (place, row) of a JSON or JSON Lines file."""
    text, at = path.read_text(encoding="utf-8-sig"), ""
    try:
        if path.suffix == ".json":
            whole = json.loads(text)
            yield from ((f"item {i + 1}", row) for i, row in enumerate(whole if isinstance(whole, list) else [whole]))
            return
        for number, line in enumerate(text.splitlines(), 1):
            if line.strip():
                at = f"line {number}"
                yield at, json.loads(line)
    except ValueError as error:
        where = f", {at}" if at else ""
        raise DataError(f"{path}{where}: expected JSON, got {error}; the file may be cut off, get it again") from None
