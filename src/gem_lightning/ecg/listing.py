"""Which files of a folder are recordings."""

from __future__ import annotations

import os
from collections import Counter
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
    return list(zip(short_names(below), (root / p for p in below), strict=True))


def short_names(paths: Sequence[Path]) -> list[str]:
    """Each path without its suffix, or with it where another would share the name."""
    short, whole = [path.with_suffix("").as_posix() for path in paths], [path.as_posix() for path in paths]
    # `a.dcm` next to `a.xml` keeps its suffix, and must then not meet the short name of `a.dcm.dcm`
    count = Counter(short) + Counter(whole)
    return [name if count[name] == 1 else full for name, full in zip(short, whole, strict=True)]
