"""ECG-Bench: tasks, answer parsing, strict and legacy scores."""

from typing import Any

# Bound eagerly: the submodule score would hide the function of that name.
from gem_lightning.evaluation.ecgbench.score import TASKS, Task, find_task, score

__all__ = ["TASKS", "Task", "find_task", "score"]


def __getattr__(name: str) -> Any:
    from gem_lightning.renamed import resolve

    return resolve(__name__, name)
