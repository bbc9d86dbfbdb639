"""An append-only JSON-lines file that survives ``kill -9``."""

from __future__ import annotations

import json
import logging
import os
import pathlib
from collections.abc import Iterator
from typing import Any

from gem_lightning.jobs import room_for

logger = logging.getLogger(__name__)


class AppendLog:
    """Rows on disk, each written by one ``write`` call on a file opened for appending.

    A killed process leaves at most one torn last line: reading skips it, the next row starts on a fresh line, and
    nothing that is written is ever rewritten.

    Args:
        path: The file; its folder is made when the first row is written.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = pathlib.Path(path)
        self._file: int | None = None
        self._torn = False

    def rows(self) -> Iterator[dict[str, Any]]:
        """The whole rows so far."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            for line in file:
                if not line.strip():
                    continue
                try:
                    row = json.loads(line)
                except ValueError:
                    logger.warning("%s: skipped a line that a killed process left unfinished", self.path)
                    continue
                yield row

    def append(self, row: dict[str, Any]) -> None:
        """Write one row.

        Raises:
            NoRoomError: The disk is full.
        """
        with room_for(self.path):
            if self._file is None:
                self._open()
            assert self._file is not None
            line = json.dumps(row, ensure_ascii=False).encode() + b"\n"
            if self._torn:
                line = b"\n" + line
            self._torn = True  # until it is whole
            while line:
                line = line[os.write(self._file, line) :]
            self._torn = False

    def _open(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        size = os.fstat(self._file).st_size
        self._torn = size > 0 and os.pread(self._file, 1, size - 1) != b"\n"

    def close(self) -> None:
        """Flush to the disk and close; a later row opens the file again."""
        if self._file is not None:
            os.fsync(self._file)
            os.close(self._file)
            self._file = None

    def __enter__(self) -> AppendLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
