"""Our rules for ECG-Bench: what was stated counts, what cannot be read is wrong, and nothing drops out silently.

A record whose answer is missing or cannot be read counts as wrong in every figure: for label tasks as the complement of
its gold answer.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gem_lightning.errors import DataError
from gem_lightning.evaluation.ecgbench import parsing
from gem_lightning.evaluation.ecgbench.tasks import Task
from gem_lightning.evaluation.predictions import (
    gold_text,
    match,
    patient_of,
    prediction_id,
    prediction_text,
    question_text,
)
from gem_lightning.evaluation.statistics import Interval, bootstrap_sums, bootstrap_weights, ratio, weighted_auc

CODE15_WHOLE = ("NORM", "ABNORMAL")


def score(
    task: Task, predictions: list[dict[str, Any]], gold: list[dict[str, Any]], draws: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """Figures with 95 % intervals (see :func:`gem_lightning.evaluation.ecgbench.score`).

    Raises:
        DataError: Duplicate ids, ids without a gold row, unreadable gold, or a judged task.
    """
    if task.kind == "judged":
        raise DataError(f"{task.name} is judged: score its judgements with gem_lightning.evaluation.report.score")
    if not gold:
        raise DataError(f"expected gold answers for {task.name}, got none")
    rows = match(predictions, gold)
    known = [patient_of(row) for row in gold]
    groups = known if any(known) else None
    if task.kind == "labels":
        result = _labels(task, rows, gold, groups, draws, seed)
    else:
        result = (_choice if task.kind == "choice" else _sets)(task, rows, gold, groups, draws, seed)
    result["n"] = len(gold)
    result["missing"] = sum(row is None for row in rows)
    result["unparsed_rate"] = (result["unparsed"] + result["missing"]) / len(gold)
    result["by_patient"] = groups is not None
    return result


def per_record(task: Task, predictions: list[dict[str, Any]], gold: list[dict[str, Any]]) -> dict[str, float]:
    """1 or 0 a gold id: answered exactly right (all labels); for paired tests and worst cases."""
    rows = match(predictions, gold)
    if task.kind == "labels":
        space = label_space(task)
        true, said, _ = label_matrices(task, rows, gold, space)
        right = (true == said).all(1)
    else:
        right = np.array([hit(task, row, answer)[0] for row, answer in zip(rows, gold)])
    return {prediction_id(row): float(hit) for row, hit in zip(gold, right)}


# -- choice and set tasks ------------------------------------------------------------------------------------------


def hit(task: Task, row: dict[str, Any] | None, gold: dict[str, Any]) -> tuple[bool, bool, str | None, str]:
    """Of one record of a choice or set task: right, parsed, what was said, what is true."""
    question = question_text(gold) or (question_text(row) if row else "")
    if task.kind == "choice":
        options = parsing.lettered_options(question)
        true = parsing.choice(gold_text(gold), task.letters, options)
        if true is None:
            raise DataError(f"gold of {prediction_id(gold)} states no letter of {task.letters}: {gold_text(gold)!r}")
        said = parsing.choice(prediction_text(row), task.letters, options) if row else None
        return said == true, said is not None, said, true
    options_of = parsing.listed_options(question) or (parsing.listed_options(question_text(row)) if row else [])
    right = parsing.joined_options(gold_text(gold), options_of)
    picked = parsing.options_in(prediction_text(row), options_of) if row else None
    said_set = None if not picked else "; ".join(sorted(picked))
    return picked == right, bool(picked), said_set, "; ".join(sorted(right))


def _accuracy(hits: list[bool], groups: Any, draws: int, seed: int) -> tuple[float, dict[str, Any]]:
    parts = np.stack([np.array(hits, float), np.ones(len(hits))], 1)
    interval = bootstrap_sums(parts, ratio, groups, draws, seed)[0]
    return interval.value, {"accuracy": interval.to_dict()}


def _choice(task: Task, rows: list, gold: list, groups: Any, draws: int, seed: int) -> dict[str, Any]:
    verdicts = [hit(task, row, answer) for row, answer in zip(rows, gold)]
    value, intervals = _accuracy([v[0] for v in verdicts], groups, draws, seed)
    columns = [*task.letters, "unparsed"]
    table = np.zeros((len(task.letters), len(columns)), int)
    for _, _, said, true in verdicts:
        table[task.letters.index(true), columns.index(said or "unparsed")] += 1
    return {
        "accuracy": value,
        "intervals": intervals,
        "chance": 1 / len(task.letters),
        "unparsed": sum(row is not None and not v[1] for row, v in zip(rows, verdicts)),
        "confusion": {"rows": list(task.letters), "columns": columns, "counts": table.tolist()},
    }


def _sets(task: Task, rows: list, gold: list, groups: Any, draws: int, seed: int) -> dict[str, Any]:
    verdicts = [hit(task, row, answer) for row, answer in zip(rows, gold)]
    value, intervals = _accuracy([v[0] for v in verdicts], groups, draws, seed)
    unparsed = sum(row is not None and not v[1] for row, v in zip(rows, verdicts))
    return {"accuracy": value, "intervals": intervals, "unparsed": unparsed}


# -- label tasks ---------------------------------------------------------------------------------------------------


def label_space(task: Task) -> tuple[str, ...]:
    """The labels of a task; CODE-15 has NORM and ABNORMAL besides."""
    return task.labels + (CODE15_WHOLE if task.name == "code15-test" else ())


def label_matrices(
    task: Task, rows: list, gold: list, space: tuple[str, ...]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gold and stated labels (n, labels), and which answers were read (n,); others hold the complement of gold."""
    true = np.zeros((len(gold), len(space)), bool)
    said = np.zeros_like(true)
    read = np.zeros(len(gold), bool)
    for i, (row, answer) in enumerate(zip(rows, gold)):
        true[i] = _labelled(gold_text(answer), space) or [False] * len(space)
        labels = _labelled(prediction_text(row), space) if row is not None else None
        read[i] = labels is not None
        said[i] = ~true[i] if labels is None else labels
    return true, said, read


def _labelled(text: str, space: tuple[str, ...]) -> list[bool] | None:
    stated = parsing.labels(text, space)
    if stated is None:
        return None
    if "ABNORMAL" in stated and len(stated) > 1:  # the general word beside a specific label adds nothing
        stated = stated - {"ABNORMAL"}
    return [label in stated for label in space]


def _labels(task: Task, rows: list, gold: list, groups: Any, draws: int, seed: int) -> dict[str, Any]:
    space = label_space(task)
    true, said, read = label_matrices(task, rows, gold, space)
    kept = np.asarray(
        true.any(0)
    )  # a label without a gold case has no sensitivity: left out of the macro figures, and said so
    cells, parts = _parts(true, said, kept)
    f1, balanced, hamming, exact = bootstrap_sums(parts, _macro, groups, draws, seed)
    result: dict[str, Any] = {
        "f1": f1.value,
        "balanced_accuracy": balanced.value,
        "hamming": hamming.value,
        "exact": exact.value,
        "intervals": {
            name: interval.to_dict() for name, interval in zip(LABEL_FIGURES, (f1, balanced, hamming, exact))
        },
        "per_label": _per_label(cells, true, said, space),
        "labels_without_cases": [label for label, keep in zip(space, kept) if not keep],
        "unparsed": int(sum(row is not None and not ok for row, ok in zip(rows, read))),
    }
    auc = _auc(rows, true, space, kept, groups, draws, seed)
    if auc is not None:
        result["auc"] = auc.value
        result["intervals"]["auc"] = auc.to_dict()
    return result


LABEL_FIGURES = ("f1", "balanced_accuracy", "hamming", "exact")


def label_figures(true: np.ndarray, said: np.ndarray) -> dict[str, float]:
    """Macro figures of gold and stated labels (n, labels), over labels that have a gold case."""
    _, parts = _parts(true, said, np.asarray(true.any(0)))
    return dict(zip(LABEL_FIGURES, _macro(parts.sum(0, keepdims=True))[0].tolist()))


def _parts(true: np.ndarray, said: np.ndarray, kept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """TP, FP, FN, TN of each record and label (n, labels, 4); those of the kept labels, with the shares of the rest."""
    cells = np.stack([true & said, ~true & said, true & ~said, ~true & ~said], 2)
    wrong = np.stack([(true != said).mean(1), (true == said).all(1), np.ones(len(true))], 1)
    return cells, np.concatenate([cells[:, kept].reshape(len(true), -1), wrong], 1).astype(float)


def _macro(sums: np.ndarray) -> np.ndarray:
    """(draws, 4·labels + 3) to macro F1, balanced accuracy, Hamming loss, exact share (draws, 4)."""
    tp, fp, fn, tn = np.moveaxis(sums[:, :-3].reshape(len(sums), -1, 4), 2, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        f1 = 2 * tp / (2 * tp + fp + fn)
        balanced = (tp / (tp + fn) + tn / (tn + fp)) / 2
        figures = [np.nanmean(np.where(2 * tp + fp + fn > 0, f1, np.nan), 1), _nanmean(balanced)]
        return np.stack([*figures, sums[:, -3] / sums[:, -1], sums[:, -2] / sums[:, -1]], 1)


def _nanmean(table: np.ndarray) -> np.ndarray:
    known = ~np.isnan(table)
    with np.errstate(invalid="ignore"):  # a row without any stays NaN
        return np.where(known, table, 0).sum(1) / known.sum(1)


def _per_label(cells: np.ndarray, true: np.ndarray, said: np.ndarray, space: tuple[str, ...]) -> dict[str, Any]:
    def share(top: float, bottom: float) -> float | None:
        return float(top / bottom) if bottom else None

    table = {}
    for (tp, fp, fn, tn), label in zip(cells.sum(0), space):
        table[label] = {
            "cases": int(tp + fn),
            "stated": int(tp + fp),
            "f1": share(2 * tp, 2 * tp + fp + fn),
            "sensitivity": share(tp, tp + fn),
            "specificity": share(tn, tn + fp),
            "precision": share(tp, tp + fp),
            "counts": [int(tp), int(fp), int(fn), int(tn)],
        }
    return table


def _auc(
    rows: list, true: np.ndarray, space: tuple[str, ...], kept: np.ndarray, groups: Any, draws: int, seed: int
) -> Interval | None:
    """Macro AUC from the model's own likelihoods; None unless every answer gives them for every label."""
    likelihoods: list[Any] = [row.get("likelihoods") if row else None for row in rows]
    wanted = [label for label, keep in zip(space, kept) if keep]
    if not all(isinstance(given, dict) and all(label in given for label in wanted) for given in likelihoods):
        return None
    table = np.array([[float(given[label]) for label in wanted] for given in likelihoods])  # (n, labels)
    gold = true[:, kept]

    def macro(weights: np.ndarray) -> np.ndarray:
        columns = [weighted_auc(table[:, i], gold[:, i], weights) for i in range(len(wanted))]
        return _nanmean(np.stack(columns, 1))[:, None]

    return bootstrap_weights(macro, len(rows), groups, draws, seed)[0]
