"""Predictions and gold answers as plain dicts, in the formats of this library, the original, PULSE and ECG-R1."""

from __future__ import annotations

import json
import os
import pathlib
from collections import Counter
from collections.abc import Iterable
from typing import Any

from gem_lightning.errors import DataError
from gem_lightning.sources.tables import table_rows

ID_KEYS = ("question_id", "id", "No", "custom_id")
TEXT_KEYS = ("text", "response", "answer", "prediction", "output")
REFERENCE_KEY = "GPT4o_generated"  # the reference interpretation in the files of process_gem_outputs
PATIENT_KEYS = ("patient", "patient_id", "subject_id")


def prediction_id(row: dict[str, Any]) -> str:
    """Return the id of a prediction or a gold row.

    Raises:
        DataError: The row has none of :data:`ID_KEYS`.
    """
    for key in ID_KEYS:
        if row.get(key) is not None:
            return str(row[key])
    raise DataError(f"expected an id under one of {', '.join(ID_KEYS)}, got keys {sorted(row)}; name the row's id")


def prediction_text(row: dict[str, Any]) -> str:
    """Return the text of a prediction (batch-API answers are unwrapped); None counts as empty.

    Files of process_gem_outputs name it after the model: ``GEM_generated``, ``Model_generated``.

    Raises:
        DataError: The row has none of :data:`TEXT_KEYS`.
    """
    named = (key for key in row if key.endswith("_generated") and key != REFERENCE_KEY)
    for key in (*named, *TEXT_KEYS):
        if key in row:
            value = row[key]
            if isinstance(value, dict):  # an OpenAI batch answer
                value = value["body"]["choices"][0]["message"]["content"]
            return "".join(map(str, value)) if isinstance(value, list) else str(value or "")
    raise DataError(f"expected a text under one of {', '.join(TEXT_KEYS)}, got keys {sorted(row)}; name the text")


def gold_text(row: dict[str, Any]) -> str:
    """Return the right answer: the second turn of the conversation, or ``answer``.

    Raises:
        DataError: The row has neither.
    """
    if "conversations" in row:
        return str(row["conversations"][1]["value"])
    if "answer" in row:
        return str(row["answer"])
    raise DataError(f"expected 'conversations' or 'answer' in a gold row, got keys {sorted(row)}")


def question_text(row: dict[str, Any]) -> str:
    """Return the question of a gold row or a prediction, empty when it has none."""
    if "conversations" in row:
        return str(row["conversations"][0]["value"])
    prompt = row.get("prompt", row.get("question", ""))
    return str(prompt.get("prompt", "")) if isinstance(prompt, dict) else str(prompt)


def patient_of(row: dict[str, Any]) -> str | None:
    """Return the patient of a gold row, where known."""
    return next((str(row[key]) for key in PATIENT_KEYS if row.get(key) is not None), None)


def match(predictions: list[dict[str, Any]], gold: list[dict[str, Any]]) -> list[dict[str, Any] | None]:
    """Return one prediction (or None: missing) for each gold row, in gold order.

    Raises:
        DataError: An id occurs twice, or a prediction has no gold row.
    """
    by_id = {prediction_id(row): row for row in predictions}
    wanted = [prediction_id(row) for row in gold]
    for what, ids in (("predictions", map(prediction_id, predictions)), ("gold rows", wanted)):
        twice = [name for name, count in Counter(ids).items() if count > 1]
        if twice:
            raise DataError(
                f"expected unique ids of {what}, got several rows for {', '.join(twice[:5])}; remove the rest"
            )
    unknown = sorted(by_id.keys() - set(wanted))
    if unknown:
        raise DataError(
            f"expected predictions for the {len(wanted)} gold ids, got {len(unknown)} others, such as {unknown[0]!r}; "
            "is this another task's file?"
        )
    return [by_id.get(name) for name in wanted]


def read_rows(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Read the rows of a .json (list, or dict by id), .jsonl or .parquet file, or of all such files below a folder.

    In a folder a .json file may hold one row, as the original's judge writes one per record; files without an id are
    other files.

    Raises:
        DataError: A file is not one of these, a line of it is broken, or a folder has no such file.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix in (".json", ".jsonl", ".parquet"))
        rows = [row for file in files for row in _rows_of_part(file)]
        if not rows:
            raise DataError(f"expected .json, .jsonl or .parquet files with ids below {path}, got none")
        return rows
    if path.suffix not in (".json", ".jsonl", ".parquet"):
        raise DataError(f"expected .json, .jsonl or .parquet, got {path.name!r}")
    rows = list(table_rows(path))
    for row in rows:
        if isinstance(row.get("conversations"), str):  # Parquet stores them as JSON text
            row["conversations"] = json.loads(row["conversations"])
    return rows


def _rows_of_part(file: pathlib.Path) -> list[dict[str, Any]]:
    """Read one file of a folder: many rows, or one row by itself."""
    if file.suffix == ".json":
        try:
            whole = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise DataError(f"expected a JSON file at {file}, got: {error}") from error
        if isinstance(whole, dict):
            return [whole] if any(key in whole for key in ID_KEYS) else []
    return [row for row in read_rows(file) if any(key in row for key in ID_KEYS)]


def find_gold(folder: str | os.PathLike[str], task: str) -> pathlib.Path:
    """Find the gold file of a task in a benchmark folder: ``TASK.json``, ``.jsonl``, ``.parquet`` or ``TASK/…``.

    Raises:
        DataError: There is none.
    """
    folder = pathlib.Path(folder)
    places: Iterable[pathlib.Path] = [
        *(folder / f"{task}{ending}" for ending in (".json", ".jsonl", ".parquet")),
        *(folder / task / f"gold{ending}" for ending in (".json", ".jsonl", ".parquet")),
        *sorted((folder / task).glob("*.parquet")),
    ]
    for place in places:
        if place.is_file():
            return place
    raise DataError(f"expected {task}.json (.jsonl, .parquet) in {folder}, found none; download ECG-Bench there")
