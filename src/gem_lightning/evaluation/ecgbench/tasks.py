"""Tasks of ECG-Bench: kind, size and label space."""

from __future__ import annotations

from dataclasses import dataclass

from gem_lightning.errors import DataError

LETTERS = "ABCDEFGH"


@dataclass(frozen=True)
class Task:
    """One task.

    Attributes:
        name: Name of its file in the published benchmark.
        kind: ``labels`` (any number of labels), ``choice`` (one letter), ``set`` (options of a question) or
            ``judged`` (free text that a judge scores).
        n: Published number of samples.
        labels: Label space of a ``labels`` task, in the published order.
        letters: Letters of a ``choice`` task.
        title: Name in tables.
    """

    name: str
    kind: str
    n: int
    title: str
    labels: tuple[str, ...] = ()
    letters: str = ""


TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task("ptb-test", "labels", 2082, "PTB-XL superclasses", ("NORM", "MI", "STTC", "CD", "HYP")),
        Task("code15-test", "labels", 1400, "CODE-15", ("1dAVb", "RBBB", "LBBB", "SB", "ST", "AF")),
        Task(
            "cpsc-test",
            "labels",
            2061,
            "CPSC-2018",
            ("NORM", "AF", "I-AVB", "LBBB", "RBBB", "PAC", "PVC", "STD", "STE"),
        ),
        Task("csn-test-no-cot", "choice", 1611, "CSN", letters=LETTERS),
        Task("g12-test-no-cot", "choice", 2026, "G12EC", letters=LETTERS),
        Task("ecgqa-test", "set", 1317, "ECG-QA"),
        Task("mmmu-ecg", "choice", 200, "MMMU ECG", letters=LETTERS[:4]),
        Task("ptb-test-report", "judged", 500, "PTB-XL report"),
        Task("arena", "judged", 50, "ECG arena"),
    )
}


def find_task(name: str) -> Task:
    """Return the task of a folder or file name: ``csn-test`` is ``csn-test-no-cot``, ``mmmu`` is ``mmmu-ecg``.

    Raises:
        DataError: No task has such a name.
    """
    if name in TASKS:
        return TASKS[name]
    longest_first = sorted(TASKS.values(), key=lambda task: -len(task.name))
    for task in longest_first:
        if name.startswith(task.name) or task.name.startswith(name + "-"):
            return task
    raise DataError(f"expected a task of ECG-Bench ({', '.join(TASKS)}), got {name!r}; use one of these names")
