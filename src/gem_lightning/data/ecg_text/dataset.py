"""ECGs paired with texts: tables from files, public data sets or the simulator, and the data set over them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from torch.utils.data import Dataset

from gem_lightning.data.ecg_text.augment import fit_signal
from gem_lightning.data.ecg_text.labels import LabelSet
from gem_lightning.errors import DataError
from gem_lightning.samples.io import RecordRef
from gem_lightning.sources.base import SourceRecord, table_rows
from gem_lightning.sources.public import MimicIvEcg, PtbXl

SPLITS = ("train", "val", "test")
_NAMES = {
    "ecg": ("ecg", "path", "file", "record"),
    "text": ("text", "report"),
    "patient": ("patient", "patient_id", "subject_id"),
    "codes": ("codes", "labels"),
    "split": ("split", "fold"),
    "id": ("id",),
}


@dataclass(frozen=True)
class EcgText:
    """One pair.

    Attributes:
        id: Unique within its table.
        ecg: Record reference, ``path`` or ``path::index``.
        text: Its report.
        patient: Who it was recorded from; splits and intervals go by patient.
        codes: Labels of the data set, as they are.
        split: ``train``, ``val`` or ``test``.
    """

    id: str
    ecg: str
    text: str
    patient: str
    codes: tuple[str, ...]
    split: str


class EcgTextTable(Sequence[EcgText]):
    """Pairs in Arrow columns: a million of them cost their text and little more.

    Args:
        pairs: The pairs, or an Arrow table with the columns of :class:`EcgText`.
    """

    def __init__(self, pairs: Iterable[EcgText] | pa.Table) -> None:
        self.table = pairs if isinstance(pairs, pa.Table) else _arrow(pairs)

    def __len__(self) -> int:
        return self.table.num_rows

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return EcgTextTable(self.table.take(np.arange(*index.indices(len(self)))))
        row = {name: self.table.column(name)[index].as_py() for name in EcgText.__dataclass_fields__}
        return EcgText(**(row | {"codes": tuple(row["codes"])}))

    def column(self, name: str) -> list[Any]:
        """Return one field of all pairs."""
        return self.table.column(name).to_pylist()

    def split(self, name: str | None) -> EcgTextTable:
        """Return the pairs of ``train``, ``val`` or ``test``; None keeps all.

        Raises:
            DataError: No pair has it.
        """
        if name is None:
            return self
        kept = self.table.filter(pa.compute.equal(self.table.column("split"), name))
        if kept.num_rows == 0:
            raise DataError(f"expected pairs in the split {name!r}, got none among {len(self)}; name another split")
        return EcgTextTable(kept)


def open_pairs(
    source: Any,
    split: str | None = None,
    columns: Mapping[str, str] | None = None,
    limit: int | None = None,
    need_text: bool = True,
) -> EcgTextTable:
    """Pairs of ECG and text from whatever holds them.

    Args:
        source: A ``.csv``, ``.jsonl`` or ``.parquet`` table (paths in it are relative to its folder); a folder in the
            layout of PTB-XL or MIMIC-IV-ECG, which is recognised; a data set of ``gem_lightning.sources``; a
            ``SimulatedCohort``; or an ``EcgTextTable``.
        split: Keep only this one; see :func:`split_of` for data sets without official splits.
        columns: Field of :class:`EcgText` to column name, where the usual names do not fit.
        limit: Keep only the first so many.
        need_text: Leave out records without a text; False keeps them, for their codes.

    Raises:
        DataError: The layout is unknown, columns are missing, or nothing is left.
    """
    if isinstance(source, EcgTextTable):
        table = source
    elif hasattr(source, "samples"):
        source.prepare()
        table = EcgTextTable(_from_samples(source))
    elif hasattr(source, "records"):
        table = EcgTextTable(_from_records(source.records(), source.paths))
    else:
        table = EcgTextTable(_from_path(Path(source), columns or {}))
    if need_text:
        spoken = pa.compute.greater(pa.compute.utf8_length(table.table.column("text")), 0)
        table = EcgTextTable(table.table.filter(spoken))
    if not len(table):
        raise DataError(f"expected pairs of ECG and text, got none from {source}; records without a text do not count")
    table = table.split(split)
    return table if limit is None else table[:limit]


def split_of(patient: str, seed: int = 0, val: float = 0.05, test: float = 0.1) -> str:
    """Return the split of a patient where the data set names none: a hash, so that it never changes.

    Args:
        patient: Name of the patient.
        seed: Of the division.
        val: Share for validation.
        test: Share for the test.
    """
    place = int.from_bytes(hashlib.sha256(f"{seed}:{patient}".encode()).digest()[:8], "big") / 2**64
    return "test" if place < test else "val" if place < test + val else "train"


def _arrow(pairs: Iterable[EcgText]) -> pa.Table:
    schema = pa.schema([(name, pa.string()) for name in ("id", "ecg", "text", "patient", "split")])
    schema = schema.append(pa.field("codes", pa.list_(pa.string())))
    batches = []
    rows: list[dict[str, Any]] = []
    for pair in pairs:
        rows.append(vars(pair) | {"codes": list(pair.codes)})
        if len(rows) == 10_000:  # rows per write: some megabytes in memory, a row group that Parquet readers like
            batches.append(pa.RecordBatch.from_pylist(rows, schema))
            rows = []
    return pa.Table.from_batches([*batches, pa.RecordBatch.from_pylist(rows, schema)], schema)


def _from_samples(cohort: Any) -> Iterator[EcgText]:
    """Pairs of a simulated cohort; what is true of a record are its codes."""
    for sample in cohort.samples():
        codes = tuple(sample.metadata.get("truth", {}).get("diagnoses", ()))
        yield EcgText(str(sample.id), sample.ecg, sample.answer, str(sample.id), codes, split_of(str(sample.id)))


def _from_records(records: Iterable[SourceRecord], paths: Mapping[str, str]) -> Iterator[EcgText]:
    for record in records:
        if record.ecg is None:
            continue
        patient = record.patient or record.id
        place = str(RecordRef.parse(record.ecg).mapped(paths))
        split = record.split or split_of(patient)
        yield EcgText(record.id, place, (record.report or "").strip(), patient, tuple(record.codes), split)


def _from_path(path: Path, columns: Mapping[str, str]) -> Iterator[EcgText]:
    if (path / "ptbxl_database.csv").is_file():
        source: Any = PtbXl(root=str(path))
        return _from_records(source.records(), source.paths)
    if (path / "machine_measurements.csv").is_file():
        source = MimicIvEcg(root=str(path))
        return _from_records(source.records(), source.paths)
    if path.suffix in (".csv", ".parquet", ".jsonl", ".ndjson") and path.is_file():
        return _from_table(path, columns)
    raise DataError(
        f"expected a .csv, .jsonl or .parquet table or a folder of PTB-XL or MIMIC-IV-ECG, got {path}; "
        "for other data sets give a source of gem_lightning.sources.public"
    )


def _from_table(path: Path, columns: Mapping[str, str]) -> Iterator[EcgText]:
    found: dict[str, str | None] | None = None
    for number, row in enumerate(_rows(path)):
        if found is None:
            found = {
                field: columns.get(field) or next((n for n in names if n in row), None)
                for field, names in _NAMES.items()
            }
            missing = [field for field in ("ecg", "text") if found[field] not in row]
            if missing:
                raise DataError(
                    f"{path}: expected a column for {' and '.join(missing)}, got {', '.join(row)}; "
                    "name it: columns={ecg: NAME, text: NAME}"
                )
        values = {field: row.get(name) for field, name in found.items() if name is not None}
        ecg = str(values["ecg"])
        if not ecg.startswith("simulate:"):
            ecg = os.path.join(path.parent, ecg)
        name = str(values.get("id") or number)
        patient = str(values.get("patient") or name)
        split = str(values.get("split") or "")
        yield EcgText(
            id=name,
            ecg=ecg,
            text=str(values["text"] or "").strip(),
            patient=patient,
            codes=_codes(values.get("codes")),
            split=split if split in SPLITS else split_of(patient),
        )


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    if path.suffix not in (".jsonl", ".ndjson"):
        yield from table_rows(path)
        return
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                row = json.loads(line) if line.strip() else None
            except ValueError as error:
                raise DataError(f"{path}, line {number}: expected a JSON object, got {error}") from None
            if row is not None:
                yield row


def _codes(value: Any) -> tuple[str, ...]:
    """Codes from a list, a JSON list or text separated by ``;`` or ``|``."""
    if value is None:
        return ()
    if isinstance(value, str):
        if value.strip().startswith("["):
            return tuple(str(code) for code in json.loads(value))
        return tuple(code.strip() for code in value.replace("|", ";").split(";") if code.strip())
    return tuple(str(code) for code in value)


class EcgTextDataset(Dataset[dict[str, Any]]):
    """Signals and texts of a table, read one by one; indexed by number or ``(epoch, index)``.

    Args:
        table: The pairs.
        samples: Samples a lead, T.
        fs: Sampling rate of the encoder, Hz; other records are resampled under the ``clean`` contract.
        contract: ``clean`` (leads by name, mV, resampled) or ``gem`` (as the original read files).
        mean: Per lead, mV; None subtracts nothing.
        std: Per lead, mV; None divides by nothing.
        label_set: Turns codes into targets; None omits targets.
    """

    def __init__(
        self,
        table: EcgTextTable,
        samples: int = 5000,
        fs: float = 500,
        contract: str = "clean",
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        label_set: LabelSet | None = None,
    ) -> None:
        self.table, self.samples, self.fs, self.contract = table, samples, fs, contract
        self.mean, self.std, self.label_set = mean, std, label_set

    def __len__(self) -> int:
        return len(self.table)

    @property
    def lengths(self) -> np.ndarray:
        """(pairs,) characters of each text, for batching."""
        return pa.compute.utf8_length(self.table.table.column("text")).to_numpy()

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Any]:
        """``ecg`` float32 (12, T) mV, ``text``, ``index``, ``epoch`` and, with labels, ``targets`` (L,).

        Raises:
            DataError: The record cannot be read; the message names the pair.
        """
        epoch, index = key if isinstance(key, tuple) else (0, key)
        pair = self.table[index]
        item = {"ecg": self.signal(pair), "text": pair.text, "index": index, "epoch": epoch}
        if self.label_set is not None:
            item["targets"] = self.label_set.matrix([pair.codes])[0]
        return item

    def signal(self, pair: EcgText) -> np.ndarray:
        """Return the pair's ECG as the encoder reads it, float32 (12, T)."""
        try:
            record = RecordRef.parse(pair.ecg).read(contract=self.contract)
            if self.contract == "clean" and record.fs != self.fs:
                from gem_lightning.ecg.preprocess import clean

                record = clean(record, self.fs)
        except ValueError as error:
            raise DataError(f"pair {pair.id!r}: {error}") from error
        return fit_signal(record.signal, self.samples, self.mean, self.std)
