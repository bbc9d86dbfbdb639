"""Our rules for ECG-Bench: stated answers count, unreadable ones are wrong, and no record is dropped.

A record whose answer is missing or unreadable counts as wrong in every metric: for label tasks as the complement of its
gold answer.
"""

from __future__ import annotations

from functools import partial
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
from gem_lightning.evaluation.statistics import Interval, bootstrap_sums, bootstrap_weights, macro_auc, nanmean, ratio

CODE15_WHOLE = ("NORM", "ABNORMAL")


def score(
    task: Task, predictions: list[dict[str, Any]], gold: list[dict[str, Any]], draws: int, seed: int
) -> dict[str, Any]:
    """Compute metrics with 95 % intervals (see :func:`gem_lightning.evaluation.ecgbench.score`).

    Raises:
        DataError: Duplicate ids, ids without a gold row, unreadable gold, or a judged task.
    """
    if task.kind == "judged":
        raise DataError(f"{task.name} needs a judge: score its answers with gem_lightning.evaluation.report.score")
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
    """Return 1 or 0 per gold id: answered exactly right (all labels); for paired tests and worst cases."""
    rows = match(predictions, gold)
    if task.kind == "labels":
        space = label_space(task)
        true, stated, _ = label_matrices(task, rows, gold, space)
        right = (true == stated).all(1)
    else:
        right = np.array([hit(task, row, answer)[0] for row, answer in zip(rows, gold)])
    return {prediction_id(row): float(hit) for row, hit in zip(gold, right)}


# -- choice and set tasks ------------------------------------------------------------------------------------------


def hit(task: Task, row: dict[str, Any] | None, gold: dict[str, Any]) -> tuple[bool, bool, str | None, str]:
    """Score one record of a choice or set task: right, parsed, stated answer, true answer."""
    question = question_text(gold) or (question_text(row) if row else "")
    if task.kind == "choice":
        options = parsing.lettered_options(question)
        true = parsing.choice(gold_text(gold), task.letters, options)
        if true is None:
            raise DataError(f"gold of {prediction_id(gold)} states no letter of {task.letters}: {gold_text(gold)!r}")
        stated = parsing.choice(prediction_text(row), task.letters, options) if row else None
        return stated == true, stated is not None, stated, true
    options_of = parsing.listed_options(question) or (parsing.listed_options(question_text(row)) if row else [])
    right = parsing.joined_options(gold_text(gold), options_of)
    picked = parsing.options_in(prediction_text(row), options_of) if row else None
    stated = None if not picked else "; ".join(sorted(picked))
    return picked == right, bool(picked), stated, "; ".join(sorted(right))


def _accuracy(right: list[bool], groups: Any, draws: int, seed: int) -> tuple[float, dict[str, Any]]:
    parts = np.stack([np.array(right, float), np.ones(len(right))], 1)
    interval = bootstrap_sums(parts, ratio, groups, draws, seed)[0]
    return interval.value, {"accuracy": interval.to_dict()}


def _unparsed(rows: list, hits: list[tuple[bool, bool, str | None, str]]) -> int:
    """Count the answers that state nothing; missing ones are counted apart."""
    return sum(row is not None and stated is None for row, (_, _, stated, _) in zip(rows, hits))


def _choice(task: Task, rows: list, gold: list, groups: Any, draws: int, seed: int) -> dict[str, Any]:
    hits = [hit(task, row, answer) for row, answer in zip(rows, gold)]
    value, intervals = _accuracy([h[0] for h in hits], groups, draws, seed)
    columns = [*task.letters, "unparsed"]
    table = np.zeros((len(task.letters), len(columns)), int)
    for _, _, stated, true in hits:
        table[task.letters.index(true), columns.index(stated or "unparsed")] += 1
    return {
        "accuracy": value,
        "intervals": intervals,
        "chance": 1 / len(task.letters),
        "unparsed": _unparsed(rows, hits),
        "confusion": {"rows": list(task.letters), "columns": columns, "counts": table.tolist()},
    }


def _sets(task: Task, rows: list, gold: list, groups: Any, draws: int, seed: int) -> dict[str, Any]:
    hits = [hit(task, row, answer) for row, answer in zip(rows, gold)]
    value, intervals = _accuracy([h[0] for h in hits], groups, draws, seed)
    return {"accuracy": value, "intervals": intervals, "unparsed": _unparsed(rows, hits)}


# -- label tasks ---------------------------------------------------------------------------------------------------


def label_space(task: Task) -> tuple[str, ...]:
    """Return the labels of a task; CODE-15 also has NORM and ABNORMAL."""
    return task.labels + (CODE15_WHOLE if task.name == "code15-test" else ())


def label_matrices(
    task: Task, rows: list, gold: list, space: tuple[str, ...]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return gold and stated labels (n, labels), and which answers were parsed (n,); others negate gold."""
    true = np.zeros((len(gold), len(space)), bool)
    stated = np.zeros_like(true)
    read = np.zeros(len(gold), bool)
    for i, (row, answer) in enumerate(zip(rows, gold)):
        true[i] = _labelled(gold_text(answer), space) or [False] * len(space)
        labels = _labelled(prediction_text(row), space) if row is not None else None
        read[i] = labels is not None
        stated[i] = ~true[i] if labels is None else labels
    return true, stated, read


def _labelled(text: str, space: tuple[str, ...]) -> list[bool] | None:
    stated = parsing.labels(text, space)
    if stated is None:
        return None
    if "ABNORMAL" in stated and len(stated) > 1:  # next to a specific label the general term adds nothing
        stated = stated - {"ABNORMAL"}
    return [label in stated for label in space]


def _labels(task: Task, rows: list, gold: list, groups: Any, draws: int, seed: int) -> dict[str, Any]:
    space = label_space(task)
    true, stated, read = label_matrices(task, rows, gold, space)
    # A label without a gold case has no sensitivity: excluded from macro averages and reported.
    kept = np.asarray(true.any(0))
    cells, parts = _parts(true, stated, kept)
    intervals = dict(zip(LABEL_METRICS, bootstrap_sums(parts, _macro, groups, draws, seed)))
    auc = _auc(rows, true, space, kept, groups, draws, seed)
    if auc is not None:
        intervals["auc"] = auc
    return {
        **{name: interval.value for name, interval in intervals.items()},
        "intervals": {name: interval.to_dict() for name, interval in intervals.items()},
        "per_label": _per_label(cells, space),
        "labels_without_cases": [label for label, keep in zip(space, kept) if not keep],
        "unparsed": int(sum(row is not None and not ok for row, ok in zip(rows, read))),
    }


LABEL_METRICS = ("f1", "balanced_accuracy", "hamming", "exact")


def label_metrics(true: np.ndarray, stated: np.ndarray) -> dict[str, float]:
    """Compute macro averages of gold and stated labels (n, labels), over labels that have a gold case."""
    _, parts = _parts(true, stated, np.asarray(true.any(0)))
    return dict(zip(LABEL_METRICS, _macro(parts.sum(0, keepdims=True))[0].tolist()))


def _parts(true: np.ndarray, stated: np.ndarray, kept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return TP, FP, FN, TN per record and label (n, labels, 4), and the summands of :func:`_macro`."""
    cells = np.stack([true & stated, ~true & stated, true & ~stated, ~true & ~stated], 2)
    wrong = np.stack([(true != stated).mean(1), (true == stated).all(1), np.ones(len(true))], 1)
    counted = cells[:, kept].reshape(len(true), 4 * int(kept.sum()))
    return cells, np.concatenate([counted, wrong], 1).astype(float)


def _macro(sums: np.ndarray) -> np.ndarray:
    """Map sums (draws, 4·labels + 3) to macro F1, balanced accuracy, Hamming loss, exact share (draws, 4)."""
    tp, fp, fn, tn = np.moveaxis(sums[:, :-3].reshape(len(sums), sums.shape[1] // 4, 4), 2, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        f1 = 2 * tp / (2 * tp + fp + fn)  # NaN, and left out of the mean, where nothing has or states the label
        balanced = (tp / (tp + fn) + tn / (tn + fp)) / 2
        macro = [np.nanmean(f1, 1), nanmean(balanced)]
        return np.stack([*macro, sums[:, -3] / sums[:, -1], sums[:, -2] / sums[:, -1]], 1)


def _per_label(cells: np.ndarray, space: tuple[str, ...]) -> dict[str, Any]:
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
    """Return the macro AUC of the model's likelihoods; None unless every answer has them for every label."""
    likelihoods: list[Any] = [row.get("likelihoods") if row else None for row in rows]
    wanted = [label for label, keep in zip(space, kept) if keep]
    if not all(isinstance(given, dict) and all(label in given for label in wanted) for given in likelihoods):
        return None
    table = np.array([[float(given[label]) for label in wanted] for given in likelihoods])  # (n, labels)
    statistic = partial(macro_auc, table, true[:, kept])
    return bootstrap_weights(statistic, len(rows), groups, draws, seed)[0]
