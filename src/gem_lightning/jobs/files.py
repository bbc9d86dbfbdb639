"""Atomic writes of files and folders."""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from gem_lightning.errors import GemError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # disk full, quota exceeded, file size limit


class NoRoomError(GemError):
    """The disk is full; finished files are intact."""


@contextmanager
def room_for(path: str | os.PathLike[str]) -> Iterator[None]:
    """Translate a full disk into a NoRoomError, around code that writes a file.

    Raises:
        NoRoomError: The disk or the quota is full.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise NoRoomError(
            f"expected room for {path}, got: {error.strerror}; free some and run the same again: what was "
            "finished is kept"
        ) from error


def write_atomically(path: Path, content: bytes | Callable[[Path], None]) -> None:
    """Write under a temporary name in the same folder, flush to disk, rename: a reader sees all of it or none.

    Raises:
        NoRoomError: The disk is full.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with room_for(path):
            if callable(content):
                content(temporary)
            else:
                temporary.write_bytes(content)
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def open_weights(folder: Path) -> None:
    """Let others read weights as they may read their folder: safetensors writes files for their owner alone."""
    for weights in folder.glob("*.safetensors"):
        weights.chmod(folder.stat().st_mode & 0o666)


def replace_folder(new: Path, old: Path) -> None:
    """Replace the folder ``old`` by the finished ``new``; ``old`` is deleted after the replacement."""
    retired = old.with_name(f".{old.name}.{os.getpid()}.retired")
    if old.exists():
        old.rename(retired)
    new.rename(old)
    shutil.rmtree(retired, ignore_errors=True)
