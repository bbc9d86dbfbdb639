"""Uploaded files of one recording, on disk for as long as a reader needs them."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import BinaryIO, NamedTuple

from gem_lightning.ecg.listing import list_records
from gem_lightning.errors import EcgReadError


class Upload(NamedTuple):
    """A file as a client sent it: its name there, and its content."""

    name: str
    file: BinaryIO


@contextmanager
def stored(uploads: Sequence[Upload]) -> Iterator[Path]:
    """Write the files of one recording to a temporary folder; give the one to read (of WFDB the header).

    Raises:
        EcgReadError: Several recordings, or a name that no file can have.
    """
    with tempfile.TemporaryDirectory(prefix="gem-lightning-") as place:
        folder = Path(place)
        for upload in uploads:
            name = _file_name(upload.name)
            upload.file.seek(0)
            with open(folder / name, "wb") as target:
                shutil.copyfileobj(upload.file, target)
        paths = [path for _, path in list_records(folder)] or sorted(folder.iterdir())[:1]
        if len(paths) != 1:
            names = ", ".join(path.name for path in paths) or "none"
            raise EcgReadError(f"expected one recording, got {names}; send them one by one")
        yield paths[0]


def _file_name(given: str) -> str:
    """The last part of a client's path.

    Raises:
        EcgReadError: No file can have that name.
    """
    name = PureWindowsPath(PurePosixPath(given or "upload").name).name
    # 200 bytes: file systems allow 255, and readers add endings
    if name in ("", ".", "..") or not name.isprintable() or len(name.encode("utf-8", "replace")) > 200:
        raise EcgReadError(f"expected a file's name, got {given[:80]!r}; rename the file")
    return name
