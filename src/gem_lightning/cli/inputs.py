"""Recordings that the command line names: files, folders, patterns, standard input."""

from __future__ import annotations

import argparse
import glob
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gem_lightning.cli.outcome import Failures, busy, warn, watched
from gem_lightning.errors import EcgReadError

if TYPE_CHECKING:
    from gem_lightning.ecg.record import EcgRecord

STDIN = "-"  # as an argument; also the ``file`` of JSON objects
_LISTED = 5  # skipped files named one by one; a folder of thousands would bury the results


@dataclass(frozen=True)
class Input:
    """One recording to read.

    Attributes:
        name: As results and messages name it.
        source: Its file, or the content of standard input.
    """

    name: str
    source: Path | bytes

    @property
    def stem(self) -> str:
        """A name for output files."""
        return "stdin" if self.name == STDIN else Path(self.name).name


def find_inputs(arguments: Sequence[str]) -> list[Input]:
    """Find the recordings; files of folders that are none are named on standard error.

    Args:
        arguments: Files, folders (searched with their subfolders), patterns such as ``*.dcm`` and ``**/*.xml``, ``-``.

    Returns:
        In order, each once; of a WFDB record with several files the first that is named.

    Raises:
        EcgReadError: A folder or pattern without a recording.
    """
    found: dict[Any, Input] = {}
    skipped: list[str] = []
    for argument in arguments:
        for one in _expanded(argument, skipped):
            found.setdefault(STDIN if one.name == STDIN else _record_key(Path(one.name)), one)
    skipped = list(dict.fromkeys(skipped))
    if skipped:
        more = f" and {len(skipped) - _LISTED} more" if len(skipped) > _LISTED else ""
        warn(f"skipped, not known as recordings: {', '.join(skipped[:_LISTED])}{more}")
    return list(found.values())


def _expanded(argument: str, skipped: list[str]) -> Iterator[Input]:
    if argument == STDIN:
        yield Input(STDIN, sys.stdin.buffer.read())
        return
    path = Path(argument)
    if path.is_dir():
        yield from _in_folder(path, skipped)
        return
    pattern = not path.exists() and glob.has_magic(argument)
    if not pattern:
        yield Input(argument, path)
        return
    matches = sorted(glob.glob(argument, recursive=True))
    if not matches:
        raise EcgReadError(f"expected files that match {argument!r}, got none; check the pattern")
    for match in matches:
        yield from _expanded(match, skipped)


def _in_folder(folder: Path, skipped: list[str]) -> Iterator[Input]:
    """The recordings of a folder; files that belong to a WFDB header are neither read nor reported."""
    from gem_lightning.ecg.listing import ECG_SUFFIXES, list_records

    found = [path for _, path in list_records(folder)]
    known, stems = set(found), {path.with_suffix("") for path in found if path.suffix == ".hea"}
    others = (path for path in folder.rglob("*") if path not in known and path.with_suffix("") not in stems)
    skipped += sorted(str(path) for path in others if path.is_file() and not path.name.startswith("."))
    if not found:
        raise EcgReadError(
            f"expected recordings in {folder}, got none; files of a folder are known by {' '.join(ECG_SUFFIXES)}: "
            "name others one by one"
        )
    yield from (Input(str(path), path) for path in found)


def _record_key(path: Path) -> Path:
    """What is the same for all files of one record: ``r.hea``, ``r.dat``, its annotations and ``r`` are one."""
    from gem_lightning.ecg.listing import ECG_SUFFIXES

    header = path.with_suffix(".hea")
    # `r.xml` next to `r.hea` is a recording of its own; `r.mat` is the CinC Challenge's signal file
    if path.suffix and header.is_file() and (path.suffix == ".mat" or path.suffix.lower() not in ECG_SUFFIXES):
        return header
    return path if path.is_file() else path.with_name(f"{path.name}.hea")


def reading(args: argparse.Namespace) -> dict[str, Any]:
    """Collect what the user states about a file, for ``read_ecg``; ``--leads`` takes names, or any, or 12.

    Fewer names than give twelve leads state that there are no others.
    """
    from gem_lightning.ecg.leads import twelve_follow

    names = None if args.leads in (None, "any", "12") else args.leads.split(",")
    few = args.leads == "any" or (names is not None and len(names) < 12 and not twelve_follow(names))
    return {
        "fs": args.fs,
        "units": args.units,
        "gain": args.gain,
        "format": args.format,
        "index": args.index,
        "lead_names": names,
        "leads": "any" if few else "12",
    }


def read(one: Input, args: argparse.Namespace) -> EcgRecord:
    """Read a recording; what the reader assumed is reported on standard error.

    Raises:
        EcgReadError: It cannot be read.
    """
    from gem_lightning.ecg import read_ecg

    with warnings.catch_warnings(record=True) as caught, busy(one.name):
        warnings.simplefilter("always")
        record = read_ecg(one.source, **reading(args))
    for warning in caught:
        warn(f"{one.name}: {warning.message}")
    return record


@contextmanager
def stated_assumptions() -> Iterator[None]:
    """Report what readers assume about several recordings, each assumption once."""
    from gem_lightning.ecg.readers import ReadWarning

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ReadWarning)
        yield
    for text in dict.fromkeys(str(one.message) for one in caught if issubclass(one.category, ReadWarning)):
        warn(text)


def for_each(
    args: argparse.Namespace,
    inputs: Sequence[Input],
    failures: Failures,
    work: Callable[[Input, EcgRecord], None],
) -> None:
    """Read every recording and work on it, with progress; those that fail are counted and named."""
    for one in watched(inputs, len(inputs)):
        with failures.of(one.name):
            work(one, read(one, args))
