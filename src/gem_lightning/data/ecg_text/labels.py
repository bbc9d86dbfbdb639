"""Label sets of the public 12-lead data sets, and their texts for zero-shot prompts."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from gem_lightning.errors import DataError

PTBXL_TASKS = ("super", "sub", "form", "rhythm", "diagnostic", "all")
# Names of the five superclasses (Wagner et al. 2020, table 6).
PTBXL_SUPER = {
    "NORM": "normal ECG",
    "MI": "myocardial infarction",
    "STTC": "ST/T change",
    "CD": "conduction disturbance",
    "HYP": "hypertrophy",
}


@dataclass(frozen=True)
class LabelSet:
    """Named labels, the codes that mean them, and their prompts.

    Args:
        name: Of the task.
        labels: In the order of the targets' columns.
        prompts: Label to one or more texts; a label's embedding is the mean of theirs.
        codes: Code of the data set to labels; a code without an entry is its own label.
    """

    name: str
    labels: tuple[str, ...]
    prompts: Mapping[str, Sequence[str]]
    codes: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        missing = [label for label in self.labels if not self.prompts.get(label)]
        if missing or not self.labels:
            raise DataError(f"expected a prompt for every label of {self.name}, got none for {missing or 'any'}")

    def matrix(self, codes: Iterable[Iterable[str]]) -> np.ndarray:
        """(records, L) float32, 1 where a record's codes mean the label."""
        column = {label: i for i, label in enumerate(self.labels)}
        rows = list(codes)
        out = np.zeros((len(rows), len(self.labels)), np.float32)
        for i, row in enumerate(rows):
            for label in (label for code in row for label in self.codes.get(code, (code,))):
                if label in column:
                    out[i, column[label]] = 1
        return out


def label_set(
    task: str,
    folder: str | os.PathLike | None = None,
    codes: Iterable[Iterable[str]] = (),
    prompts: Mapping[str, Sequence[str]] | None = None,
    minimum: int = 10,
) -> LabelSet:
    """Return a label set by name.

    Args:
        task: ``ptbxl_super``, ``ptbxl_sub``, ``ptbxl_form``, ``ptbxl_rhythm``, ``ptbxl_diagnostic``, ``ptbxl_all``;
            ``cpsc2018`` (9 labels); ``code15`` (6 and normal); ``csn`` (SNOMED CT codes that occur); ``simulated``;
            ``codes`` (all codes that occur, with underscores as blanks).
        folder: PTB-XL's, for ``scp_statements.csv``.
        codes: The records' codes, for tasks whose labels are those that occur.
        prompts: Own prompts of some labels.
        minimum: Records that must have a code for it to become a label, for ``csn``, ``simulated`` and ``codes``.

    Raises:
        DataError: The task is unknown, or its labels are nowhere to be found.
    """
    if task.startswith("ptbxl_") and task.removeprefix("ptbxl_") in PTBXL_TASKS:
        found = _ptbxl(task.removeprefix("ptbxl_"), folder)
    elif task == "cpsc2018":
        from gem_lightning.sources.public import Cpsc2018

        found = _own_words(task, Cpsc2018.labels)
    elif task == "code15":
        from gem_lightning.sources.public import Code15

        found = _own_words(task, (*(word for _, word in Code15.labels), "normal ECG"))
    elif task in ("csn", "simulated", "codes"):
        found = _occurring(task, codes, minimum)
    else:
        known = [f"ptbxl_{name}" for name in PTBXL_TASKS] + ["cpsc2018", "code15", "csn", "simulated", "codes"]
        raise DataError(f"expected a task of {', '.join(known)}, got {task!r}; use one of them")
    return LabelSet(found.name, found.labels, {**found.prompts, **(prompts or {})}, found.codes)


def _own_words(name: str, labels: Sequence[str]) -> LabelSet:
    return LabelSet(name, tuple(labels), {label: (label,) for label in labels})


def _occurring(task: str, codes: Iterable[Iterable[str]], minimum: int) -> LabelSet:
    counts = Counter(code for row in codes for code in set(row))
    labels = tuple(sorted(code for code, count in counts.items() if count >= minimum))
    if not labels:
        raise DataError(f"expected codes that at least {minimum} records have, got {dict(counts.most_common(5))}")
    return LabelSet(task, labels, {code: (_words(task, code),) for code in labels})


def _words(task: str, code: str) -> str:
    """Return a code in the wording of the data set's reports."""
    if task == "csn":
        from gem_lightning.sources.public import snomed_term

        return snomed_term(code)
    if task == "simulated":
        from gem_lightning.composition.phrases import Phrases

        with contextlib.suppress(KeyError):
            return Phrases().first(code)
    return code.replace("_", " ")


def _ptbxl(task: str, folder: str | os.PathLike | None) -> LabelSet:
    """PTB-XL's tasks from its own table of statements, as its benchmark defines them (Strodthoff et al. 2021)."""
    from gem_lightning.sources.base import table_rows

    path = Path(folder or ".") / "scp_statements.csv"
    if folder is None or not path.is_file():
        raise DataError(f"expected PTB-XL's scp_statements.csv at {path}, got nothing; give folder=PTB-XL's folder")
    rows = {row[""]: row for row in table_rows(path)}
    words = {code: (row["description"],) for code, row in rows.items()}
    if task in ("super", "sub"):
        column = "diagnostic_class" if task == "super" else "diagnostic_subclass"
        classes = {code: (row[column],) for code, row in rows.items() if row[column]}
        labels = tuple(sorted({name for (name,) in classes.values()}))
        # a code that is no diagnosis must not be taken for a class of its own name
        codes = {code: classes.get(code, ()) for code in rows}
        spoken = {label: (PTBXL_SUPER[label],) if task == "super" else _subclass(label, rows) for label in labels}
        return LabelSet(f"ptbxl_{task}", labels, spoken, codes)
    if task == "all":
        labels = tuple(sorted(rows))
    else:
        labels = tuple(sorted(code for code, row in rows.items() if (row[task] or "").strip() in ("1", "1.0")))
    return LabelSet(f"ptbxl_{task}", labels, {label: words[label] for label in labels})


def _subclass(label: str, rows: Mapping[str, Mapping[str, str]]) -> tuple[str, ...]:
    """Return the statements that make up a subclass, all of them: their mean represents it."""
    return tuple(row["description"] for row in rows.values() if row["diagnostic_subclass"] == label)
