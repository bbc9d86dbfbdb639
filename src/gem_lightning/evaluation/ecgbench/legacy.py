"""The original's rules for ECG-Bench, faults included, to reproduce published results.

docs/evaluation.md lists the faults; :mod:`gem_lightning.evaluation.ecgbench.strict` corrects them.
"""

from __future__ import annotations

import random
import re
import warnings
from typing import Any

import numpy as np

from gem_lightning.errors import DataError
from gem_lightning.evaluation.ecgbench.tasks import LETTERS, Task
from gem_lightning.evaluation.predictions import gold_text, prediction_id, question_text

SEED = 42
QA_TAIL = "Only answer based on the given Options without any explanation."
CORRECT = "The correct option is "


def letter(text: str) -> str | None:
    """Return the letter that the original reads from an answer, or None: it then draws one at random."""
    if len(text) == 1 and text in LETTERS:
        return text
    for candidate in LETTERS:  # the alphabetically first of "A.", "B.", … wherever it stands: "ECG." is G
        if f"{candidate}." in text:
            return candidate
    if CORRECT in text:
        after = text.rpartition(CORRECT)[2][:1]
        return after if after and after in LETTERS else None
    if "Answer:" in text:
        answer = text.rpartition("Answer:")[2]
        return next((candidate for candidate in LETTERS if candidate in answer), None)
    return None


def labels(text: str, space: tuple[str, ...]) -> list[str]:
    """Return the labels that occur anywhere in the text as a substring, case-sensitive."""
    return [label for label in space if label in text]


def score(task: Task, predictions: list[dict[str, Any]], gold: list[dict[str, Any]]) -> dict[str, Any]:
    """Compute the original's metrics.

    Returns:
        ``accuracy`` for choice and set tasks; ``f1``, ``auc``, ``hamming`` for label tasks (``auc`` may be NaN).

    Raises:
        DataError: No predictions, or one whose id has no gold row.
    """
    if not predictions:
        raise DataError(f"expected predictions for {task.name}, got none")
    answers = {prediction_id(row): gold_text(row) for row in gold}
    questions = {prediction_id(row): question_text(row) for row in gold}
    unknown = [name for name in map(prediction_id, predictions) if name not in answers]
    if unknown:
        raise DataError(f"expected ids of {task.name}, got {unknown[0]!r}, which has no gold row; check the file")
    if task.kind == "choice":
        return _choice(task, predictions, answers)
    if task.kind == "set":
        return _sets(predictions, answers, questions)
    if task.kind == "labels":
        return _labels(task, predictions, answers)
    raise DataError(f"{task.name} needs a judge: score its answers with gem_lightning.evaluation.report.score")


def _text(row: dict[str, Any]) -> str:
    text = row["text"] if "text" in row else row.get("response")
    if text is None:
        raise DataError(f"expected 'text' or 'response' in prediction {prediction_id(row)}, got keys {sorted(row)}")
    return str(text)


def _choice(task: Task, predictions: list[dict[str, Any]], answers: dict[str, str]) -> dict[str, Any]:
    draw = random.Random(SEED)
    hits = 0
    for row in predictions:
        choice = letter(_text(row)) or draw.choice(list(task.letters))
        answer = answers[prediction_id(row)]
        hits += choice == (answer if task.name == "mmmu-ecg" else answer[:1])
    return {"accuracy": hits / len(predictions), "n": len(predictions)}


def _sets(predictions: list[dict[str, Any]], answers: dict[str, str], questions: dict[str, str]) -> dict[str, Any]:
    hits = 0
    for row in predictions:
        question = question_text(row) or questions[prediction_id(row)]
        options = [option.strip() for option in question.split("Options:")[-1].replace(QA_TAIL, "").split(",")]
        text = _text(row).lower()
        # With "response" the options keep their capitals and so never match.
        found = [option for option in options if (option.lower() if "text" in row else option) in text]
        hits += set("".join(found)) == set(answers[prediction_id(row)])  # sets of characters
    return {"accuracy": hits / len(predictions), "n": len(predictions)}


def _labels(task: Task, predictions: list[dict[str, Any]], answers: dict[str, str]) -> dict[str, Any]:
    from sklearn.metrics import f1_score, hamming_loss, roc_auc_score
    from sklearn.preprocessing import MultiLabelBinarizer

    code15 = task.name == "code15-test"
    stated = [
        _labels_code15(_text(row), task.labels) if code15 else labels(_text(row), task.labels) for row in predictions
    ]
    true = [_true(answers[prediction_id(row)], task, code15) for row in predictions]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # unseen and undefined classes: the original's scores have them
        binarise = MultiLabelBinarizer()
        gold = binarise.fit_transform(true)  # classes of the gold answers that were predicted on, and no others
        guess = binarise.transform(stated)
        f1 = f1_score(gold, guess, average=None)
        auc = []
        for column in range(gold.shape[1]):
            try:
                auc.append(roc_auc_score(gold[:, column], guess[:, column]))
            except ValueError:
                auc.append(np.nan)
        return {
            "f1": float(np.mean(f1)),
            "auc": float(np.mean(auc)),
            "hamming": float(hamming_loss(gold, guess)),
            "n": len(predictions),
        }


def _true(answer: str, task: Task, code15: bool) -> list[str]:
    if code15 and answer in ("NORM", "ABNORMAL"):
        return [answer]
    return labels(answer, task.labels)


def _labels_code15(text: str, space: tuple[str, ...]) -> list[str]:
    text = re.split("Answer:", text)[-1]
    whole = ["ABNORMAL"] if "ABNORMAL" in text else ["NORM"] if "NORM" in text else []
    return whole + labels(text, space)
