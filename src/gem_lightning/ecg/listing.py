"""Which files of a folder are recordings."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

ECG_SUFFIXES = (".hea", ".dcm", ".xml", ".scp", ".edf", ".ecg", ".csv", ".npy", ".npz", ".mat")


def list_records(root: str | os.PathLike[str], suffixes: Sequence[str] = ECG_SUFFIXES) -> list[tuple[str, Path]]:
    """(name, file) of every recording below ``root``, sorted; of a WFDB record the header alone.

    The name is the path below ``root`` without its suffix, or with it where another recording would share the name.
    """
    root = Path(root)
    files = sorted(p for p in root.rglob("*") if p.suffix.lower() in suffixes and not p.name.startswith("."))
    headers = {p.with_suffix("") for p in files if p.suffix == ".hea"}
    below = [p.relative_to(root) for p in files if p.suffix == ".hea" or p.with_suffix("") not in headers]
    short = [p.with_suffix("").as_posix() for p in below]
    return [(s if short.count(s) == 1 else p.as_posix(), root / p) for s, p in zip(short, below)]
