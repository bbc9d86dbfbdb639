"""Run folders and their log table: a new run overwrites nothing of an earlier one of the same name."""

from __future__ import annotations

import csv
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from lightning.pytorch.loggers.logger import rank_zero_experiment

from gem_lightning.jobs import write_atomically
from gem_lightning.lit.checkpointing.io import BEST, in_order

logger = logging.getLogger(__name__)


def set_aside(checkpoints: Path, others: Sequence[Path], resumed_from: Path | None) -> list[Path]:
    """Rename the outputs of an earlier run, such as to ``checkpoints.earlier-1``.

    Args:
        checkpoints: The run's folder of checkpoints.
        others: Its further folders, such as logs.
        resumed_from: The checkpoint that this run starts with. One of its own folder keeps everything but the
            checkpoints after it (damaged ones, or those of an abandoned continuation); a link counts as what it
            points to; if it is a copy under another name, no step stays. None is a new run.

    Returns:
        The new paths.
    """
    number = 1
    while any(_spare(path, number).exists() for path in (checkpoints, *others)):
        number += 1
    steps = in_order(checkpoints)
    start = None if resumed_from is None else _step_of(resumed_from, steps)
    own = start is not None or (resumed_from is not None and resumed_from.parent.resolve() == checkpoints.resolve())
    if own:
        later = [path for path in steps if start is None or path.name > start.name]
        moves = {path: _spare(checkpoints, number) / path.name for path in later}
        best = checkpoints / BEST
        if best.is_file() and any(path.name in best.read_text() for path in later):
            moves[best] = _spare(checkpoints, number) / BEST
    elif steps or any(list(path.rglob("metrics.csv")) for path in others):
        moves = {path: _spare(path, number) for path in (checkpoints, *others) if path.is_dir()}
    else:
        return []
    for path, target in moves.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
    if moves:
        what = "later checkpoints" if own else "an earlier run"
        logger.info("%s held %s: set aside as %s", checkpoints.parent, what, ", ".join(map(str, moves.values())))
    return list(moves.values())


def _step_of(checkpoint: Path, steps: Sequence[Path]) -> Path | None:
    """Return which of a folder's checkpoints this one is, perhaps by a link; None for a file elsewhere."""
    return next((path for path in steps if path.resolve() == checkpoint.resolve()), None)


def _spare(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.earlier-{number}")


class RunCsvLogger(CSVLogger):
    """Lightning's ``metrics.csv``, kept over kills and restarts.

    Every row is written at once, and a resumed run keeps the rows before the step at which it resumes.
    """

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The table."""
        if self._experiment is None:
            os.makedirs(self.root_dir, exist_ok=True)
            self._experiment = _Table(self.log_dir)
        return self._experiment


class _Table(ExperimentWriter):
    _earlier: list[dict[str, str]] | None = None  # rows of before the restart, until the first new one

    def _check_log_dir_exists(self) -> None:
        """Read what is there, which Lightning would delete."""
        file = Path(self.metrics_file_path)
        if file.is_file():
            with file.open(newline="", encoding="utf-8") as lines:
                table = csv.DictReader(lines)
                self._earlier = [row for row in table if (row.get("step") or "").isdigit()]  # a kill may cut the last
                self.metrics_keys = list(table.fieldnames or ())

    def log_metrics(self, metrics_dict: Mapping[str, Any], step: int | None = None) -> None:
        """Add a row and write it."""
        if self._earlier is not None and step is not None:
            self._keep_before(step)
        super().log_metrics(dict(metrics_dict), step)
        self.save()

    def _keep_before(self, step: int) -> None:
        rows, self._earlier = self._earlier or [], None
        self._replace([row for row in rows if int(row["step"]) < step])

    def _rewrite_with_new_header(self, fieldnames: list[str]) -> None:
        """Add columns, where Lightning would first empty the file."""
        with open(self.metrics_file_path, newline="", encoding="utf-8") as file:
            self._replace(list(csv.DictReader(file)))

    def _replace(self, rows: Sequence[Mapping[str, str]]) -> None:
        def write(path: Path) -> None:
            with path.open("w", newline="", encoding="utf-8") as file:
                table = csv.DictWriter(file, self.metrics_keys, extrasaction="ignore")
                table.writeheader()
                table.writerows(rows)

        write_atomically(Path(self.metrics_file_path), write)
