"""Record sources: files, lists, tables, the simulator and sample files; public data sets are in ``sources.public``."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlencode

from gem_lightning.ecg.listing import ECG_SUFFIXES, list_records
from gem_lightning.errors import DataError, GemError
from gem_lightning.samples.sample import InstructionSample, RecordRef, with_root
from gem_lightning.sources.record import Missing, SourceRecord
from gem_lightning.sources.tables import age_or_none, normalise_sex, normalise_split, number_or_none, table_rows

__all__ = ["RecordFiles", "SampleFiles", "Simulated", "Source"]

BLANK = ("", "none", "nan", "nat")  # cells of a table without a value, as text


@dataclass
class Source:
    """A data set: required files, origin and records.

    Args:
        root: Folder of the data set on this machine.
        prefix: Name of that folder in portable references.
        name: Name in the run card.
        licence: Licence of the records.
        home: Download address.
    """

    root: str
    prefix: str = ""
    name: str = "records"
    licence: str = "not stated"
    home: str = ""

    needs: ClassVar[tuple[tuple[str, str], ...]] = ()  # (glob below root, description)
    in_order: ClassVar[bool] = True  # a patient's records are in chronological order

    @property
    def paths(self) -> dict[str, str]:
        """Return the map of the portable prefix to this machine's folder (see ``map_path``); empty without files."""
        return {self.prefix: str(self.root)} if self.root else {}

    @property
    def _origin(self) -> str:
        return f"; download it from {self.home}" if self.home else ""

    def portable(self, below: str | os.PathLike[str]) -> str:
        """Return the reference of a file below the root; a file elsewhere keeps its absolute path.

        A WFDB record is named without ``.hea``, as wfdb and the original's loader require.
        """
        path = Path(below)
        if path.suffix == ".hea" and not Path(self.root, path).with_suffix("").exists():
            path = path.with_suffix("")
        return path.as_posix() if path.is_absolute() or not self.prefix else f"{self.prefix}/{path.as_posix()}"

    def required(self) -> tuple[tuple[str, str], ...]:
        """Return (glob, description) of the required files."""
        return self.needs

    def check(self) -> list[Missing]:
        """Return the missing parts of the layout; empty when it is complete."""
        root = Path(self.root)
        if not self.root:
            return []
        if not root.is_dir():
            return [Missing(f"the folder of {self.name}", str(root))]
        return [
            Missing(what, str(root / glob)) for glob, what in self.required() if next(root.glob(glob), None) is None
        ]

    def records(self) -> Iterator[SourceRecord]:
        """Yield records in a fixed order.

        Raises:
            DataError: The layout is incomplete; the message names the missing files and their origin.
        """
        missing = self.check()
        if missing:
            raise DataError(f"{self.name} is incomplete: missing {'; '.join(map(str, missing))}{self._origin}")
        return with_earlier(self._checked()) if self.in_order else self._checked()

    def _checked(self) -> Iterator[SourceRecord]:
        try:
            yield from self._records()
        except KeyError as error:
            raise DataError(f"{self.name}: expected a column {error} in its tables, got none{self._origin}") from error
        except (ValueError, TypeError, AttributeError, SyntaxError) as error:
            if isinstance(error, GemError):
                raise
            raise DataError(f"{self.name}: a row of its tables cannot be read ({error}); fix or remove it") from error

    def _records(self) -> Iterator[SourceRecord]:
        raise NotImplementedError


def with_earlier(records: Iterable[SourceRecord]) -> Iterator[SourceRecord]:
    """Add the reference of each patient's previous record; a patient's records must be in chronological order."""
    last: dict[str, str] = {}
    for record in records:
        patient, ecg = record.patient, record.ecg
        if patient is None or ecg is None:
            yield record
            continue
        yield replace(record, earlier=last.get(patient))
        last[patient] = ecg


def missing_files(source: Source, records: Iterable[SourceRecord]) -> Iterator[Missing]:
    """Yield the records and images whose files are missing."""
    paths = source.paths
    for record in records:
        ref = None if record.ecg is None else RecordRef.parse(record.ecg).mapped(paths)
        if ref is not None and not ref.exists:
            yield Missing(f"record {record.id}", ref.path)
        if record.sample is not None:
            sample = InstructionSample.from_dict(record.sample).mapped(paths)
            yield from (Missing(f"image of {record.id}", place) for place in sample.missing_images)


@dataclass
class RecordFiles(Source):
    """A file, a folder, a list (.txt, one path a line) or a table (.csv, .parquet) of records.

    A table has one row per record; ``columns`` names the columns of ``ecg`` and of any other field of
    :class:`SourceRecord`. Paths in lists and tables are relative to the list's folder. A patient's records are ordered
    by ``recorded`` where that column exists, else by row.

    Args:
        prefix: Name of the folder in portable references; empty takes the folder's own.
        columns: Field of :class:`SourceRecord` → column; other fields are taken from columns of the same name.
        format: Format name of the reader, for all records.
        fs, units, leads: Sampling rate in Hz, unit, and lead names, for files that lack them (CSV, NPY).
        suffixes: File name endings of records in a folder; None takes those of all supported formats.
    """

    columns: dict[str, str] | None = None
    format: str | None = None
    suffixes: Sequence[str] | None = None
    fs: float | None = None
    units: str | None = None
    leads: Sequence[str] | None = None

    def __post_init__(self) -> None:
        self.suffixes = tuple(self.suffixes or ECG_SUFFIXES)
        given = {"fs": self.fs, "units": self.units, "leads": ",".join(self.leads or ())}
        query = urlencode({name: value for name, value in given.items() if value}, safe=",")
        self.format = f"{self.format or ''}?{query}" if query else self.format
        self._place, self.columns = Path(self.root), dict(self.columns or {})
        unknown = sorted(set(self.columns) - set(SourceRecord.__dataclass_fields__))
        if unknown:
            known = ", ".join(SourceRecord.__dataclass_fields__)
            raise DataError(f"expected source.columns of {known}, got {', '.join(unknown)}")
        if not self._place.exists() and self._place.with_name(self._place.name + ".hea").is_file():
            self._place = self._place.with_name(self._place.name + ".hea")  # a WFDB record, named without its suffix
        if not self._place.is_dir():
            self.root = str(self._place.parent)
        self.prefix = self.prefix or Path(self.root).resolve().name

    def records(self) -> Iterator[SourceRecord]:
        """Yield records in a fixed order.

        Raises:
            DataError: The path does not exist, holds no recording, or is a table without the columns.
        """
        if not self._place.exists():
            raise DataError(
                f"expected a file, folder, list (.txt) or table (.csv, .parquet) of records, got nothing at "
                f"{self._place}; check source.root"
            )
        if self._place.suffix in (".json", ".jsonl", ".ndjson"):
            raise DataError(
                f"expected records, got a sample file: {self._place}; read its records with "
                f"source=samples source.samples={self._place}"
            )
        return super().records()

    def _records(self) -> Iterator[SourceRecord]:
        if self._place.is_dir():
            suffixes = self.suffixes or ()
            found = list_records(self._place, suffixes)
            if not found:
                raise DataError(
                    f"expected recordings ({', '.join(suffixes)}) in {self._place}, got none; check source.root, or "
                    "name other suffixes: source.suffixes=[.abc]"
                )
            for _, path in found:
                yield self._record(path.relative_to(self._place).as_posix())
        elif self._place.suffix == ".txt":
            lines = (line.strip() for line in self._place.read_text(encoding="utf-8-sig").splitlines())
            yield from (self._record(line) for line in lines if line and not line.startswith("#"))
        elif self._is_table():
            yield from self._rows()
        else:
            yield self._record(self._place.name)

    def _rows(self) -> Iterator[SourceRecord]:
        rows = map(self._row, table_rows(self._place))
        first = next(rows, None)
        if first is None:
            raise DataError(f"expected one row per record in {self._place}, got none")
        every = chain([first], rows)
        yield from every if first.recorded is None else sorted(every, key=lambda r: (r.patient or "", r.recorded or ""))

    def _record(self, name: str) -> SourceRecord:
        return SourceRecord(name.removesuffix(".hea"), self.portable(name), self.format)

    def _is_table(self) -> bool:
        """Return whether the file is a table of records (a CSV with a column of paths or with text), not a signal."""
        if self._place.suffix != ".csv":
            return self._place.suffix == ".parquet"
        first = next(table_rows(self._place), {})
        numbers = all(number_or_none(cell) is not None or cell in ("", "nan", "NaN", None) for cell in first.values())
        return bool(self.columns) or self._ecg_column(first) is not None or not numbers

    def _ecg_column(self, header: Iterable[str]) -> str | None:
        named = (self.columns or {}).get("ecg")
        return next((name for name in header if name == named or (named is None and name in ("ecg", "path"))), None)

    def _row(self, row: Mapping[str, Any]) -> SourceRecord:
        column = self._ecg_column(row)
        named = self.columns or {}
        absent = [f"{name} (for {field})" for field, name in named.items() if name not in row]
        if column is None or absent:
            raise DataError(
                f"{self._place}: expected a column {', '.join(absent) or 'named ecg or path'}, got "
                f"{', '.join(map(str, row))}; name the columns: source.columns={{ecg: NAME, patient: NAME}}"
            )
        names = {name: named.get(name, name) for name in SourceRecord.__dataclass_fields__}
        values = {name: row[c] for name, c in names.items() if str(row.get(c, "")).strip().lower() not in BLANK}
        values |= {name: str(values[name]) for name in ("id", "patient", "report", "recorded") if name in values}
        values |= {"ecg": self.portable(str(row[column])), "sex": normalise_sex(values.get("sex"))}
        values |= {"age": age_or_none(values.get("age")), "split": normalise_split(values.get("split"))}
        codes = values.pop("codes", ())
        codes = tuple(c.strip() for c in codes.split(";")) if isinstance(codes, str) else tuple(codes)
        values.setdefault("id", str(row[column]))
        values.setdefault("format", self.format)
        return SourceRecord(**values, codes=codes)


@dataclass
class SampleFiles(Source):
    """A published or own sample file (JSON, JSON Lines, Parquet).

    A sample's own ``patient`` and ``split`` are kept; without a patient, a path of MIMIC-IV-ECG names it
    (``…/p10000032/s40689238/…``), and any other recording counts as a patient of its own.

    Args:
        samples: File (or folder of files): ECG_Grounding_30k.json, ECGInstruct, ECGBench and ours.
        folders: Leading folders in the samples' ``ecg`` and ``image`` → folders here; they take precedence over the
            ``paths.json`` of the run that wrote the file.
        root: Folder that all other relative paths start at, or one for each of ``ecg`` and ``image``.
    """

    root: Any = ""
    samples: str = ""
    folders: dict[str, str] | None = None

    in_order: ClassVar[bool] = False

    @property
    def paths(self) -> dict[str, str]:
        """Return the map of the samples' leading folders to this machine's."""
        from gem_lightning.samples.io import known_paths

        given = with_root(self.root or None, self.folders)
        return known_paths(self.samples, given) if Path(self.samples).is_file() else given

    def check(self) -> list[Missing]:
        """Return the missing parts of the layout; empty when it is complete."""
        places = [("the sample file", self.samples)]
        places += [(f"the folder for {k or 'all paths'}", v) for k, v in self.paths.items()]
        return [Missing(what, place) for what, place in places if not Path(place).exists()]

    def _records(self) -> Iterator[SourceRecord]:
        from gem_lightning.samples.io import read_samples

        seen: dict[str, int] = {}
        for sample in read_samples(self.samples):
            name = str(sample.id)
            seen[name] = seen.get(name, -1) + 1
            name = f"{name}~{seen[name]}" if seen[name] else name  # published files repeat ids
            row = sample.to_dict()
            if sample.image_bytes is not None:
                row.pop("image", None)
            yield replace(SourceRecord.from_sample(sample), id=name, sample=row)

    def open(self) -> Iterator[InstructionSample]:
        """Yield the samples with their paths on this machine."""
        from gem_lightning.samples.io import read_samples

        return read_samples(self.samples, self.paths)


@dataclass
class Simulated(Source):
    """Simulated records with known truth.

    Args:
        n: Number of records.
        seed: Seed of the first; record ``i`` has seed ``seed + i``.
        diagnoses: Used in turn; None takes all that the simulator knows.
        snr_db: Signal-to-noise ratio, dB; None for the simulator's default.
    """

    root: str = ""
    name: str = "simulator"
    licence: str = "CC0"
    n: int = 100
    seed: int = 0
    diagnoses: Sequence[str] | None = None
    snr_db: float | None = None

    def __post_init__(self) -> None:
        for name in ("n", "seed"):
            if not isinstance(getattr(self, name), int):
                raise DataError(f"expected source.{name} as an int, got {getattr(self, name)!r}")

    def _records(self) -> Iterator[SourceRecord]:
        from gem_lightning.ecg import DIAGNOSES

        names = tuple(self.diagnoses or DIAGNOSES)
        unknown = sorted(set(names) - set(DIAGNOSES))
        if unknown:
            raise DataError(f"expected source.diagnoses among {', '.join(DIAGNOSES)}, got {', '.join(unknown)}")
        query = "" if self.snr_db is None else f"?snr_db={self.snr_db:g}"
        for i in range(self.n):
            name, seed = names[i % len(names)], self.seed + i
            ecg = f"simulate:{name}{query}::{seed}"
            yield SourceRecord(f"simulated-{seed}", ecg, patient=f"simulated-{seed}", codes=(name,))
