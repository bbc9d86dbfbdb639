"""Exams of CODE-15 by their own number: its table names exams, its HDF5 parts hold them in rows."""

from __future__ import annotations

import os
from functools import lru_cache

from gem_lightning.errors import EcgReadError, MissingExtraError

SUFFIXES = (".hdf5", ".h5")


def exam_row(path: str, exam: str) -> int:
    """Row of an exam in an HDF5 part.

    Args:
        path: The part; its ``exam_id`` has one number a row.
        exam: The exam's number, as ``exams.csv`` names it.

    Raises:
        EcgReadError: The part cannot be opened, or the exam is not in it.
    """
    if not os.path.isfile(path):
        raise EcgReadError(f"expected a file, got {path!r}, which does not exist; check the path")
    rows = _rows(path, os.stat(path).st_mtime_ns)
    number = int(exam) if exam.isdecimal() else -1
    if number not in rows:
        raise EcgReadError(
            f"expected an exam of {os.path.basename(path)}, got {exam}; it holds {len(rows):,} others: take the part "
            "that exams.csv names for it"
        )
    return rows[number]


@lru_cache(maxsize=32)
def _rows(path: str, changed: int) -> dict[int, int]:
    """Exam → row, read once a process and file; the padding at a part's end has the number 0."""
    try:
        import h5py
    except ImportError as error:
        raise MissingExtraError("h5py", "formats") from error
    try:
        with h5py.File(path, "r") as file:
            numbers = file["exam_id"][()].tolist()
    except (OSError, KeyError) as error:
        raise EcgReadError(
            f"expected an HDF5 part of CODE-15 (exam_id, tracings) at {path}, got {str(error)[:120]}; fetch it again"
        ) from error
    return {int(number): row for row, number in reversed(list(enumerate(numbers)))}
