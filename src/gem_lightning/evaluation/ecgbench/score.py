"""Entry to the scores of ECG-Bench: the original's rules (``legacy``) or ours (``strict``).

result = score("ptb-test", read_rows("step-final.jsonl"), read_rows("ptb-test.json"), rules="strict")
"""

from __future__ import annotations

from typing import Any

from gem_lightning.errors import DataError
from gem_lightning.evaluation.ecgbench import legacy, strict
from gem_lightning.evaluation.ecgbench.tasks import TASKS, Task, find_task

__all__ = ["TASKS", "Task", "find_task", "score"]


def score(
    task: str,
    predictions: list[dict[str, Any]],
    gold: list[dict[str, Any]],
    rules: str = "strict",
    draws: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Score one task.

    Args:
        task: Name of the task (:data:`TASKS`; folder names such as ``csn-test`` are accepted).
        predictions: Rows with an id and a text (:mod:`~gem_lightning.evaluation.predictions`); ``likelihoods``, a dict
            of label to probability, gives a true AUC under ``strict``.
        gold: Rows of the published file; ``patient_id`` or ``subject_id`` makes the intervals by patient.
        rules: ``strict``, or ``legacy``: the original's numbers with the original's faults.
        draws: Number of bootstrap resamples for the 95 % intervals of ``strict``; 0 for none.
        seed: Seed of the bootstrap.

    Returns:
        ``legacy``: ``accuracy`` or ``f1``, ``auc``, ``hamming``. ``strict``: the same names where they fit the values,
        with ``intervals``, ``per_label``, ``unparsed``, ``missing`` and more (docs/evaluation.md).

    Raises:
        DataError: Unknown task or rules, duplicates (strict), ids without a gold row.
    """
    known = find_task(task)
    if rules == "legacy":
        return legacy.score(known, predictions, gold)
    if rules == "strict":
        return strict.score(known, predictions, gold, draws, seed)
    raise DataError(f"expected rules 'strict' or 'legacy', got {rules!r}")
