"""Records whose waves are marked: LUDB by its cardiologists, and any source by confident delineation."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gem_lightning.ecg.preprocess import clean
from gem_lightning.ecg.quality import quality
from gem_lightning.ecg.recombination.marked import MarkedRecord, fuse_leads, read_lead_marks, wide_and_early
from gem_lightning.ecg.record import LEADS, EcgRecord
from gem_lightning.errors import DataError
from gem_lightning.features import Delineation, delineate, findings, measure

FOLDS = 5
_FEWEST_BEATS = 4  # a delineation of fewer beats says too little of its own consistency
_STEADY_MS = {"QRS": 12.0, "PR": 15.0, "QT": 20.0}  # largest spread over beats that counts as confident; ours
_INTERVALS = {"QRS": ("QRS_on", "QRS_off"), "PR": ("P_on", "QRS_on"), "QT": ("QRS_on", "T_off")}


def is_held_out(number: int, fold: int = 0) -> bool:
    """Return whether LUDB record ``number`` is kept from training: every fifth patient of the odd and of the even."""
    return number // 2 % FOLDS == fold


@dataclass(frozen=True)
class LudbMarks:
    """LUDB 1.0.1 (Kalyakulina et al. 2020, ODC-By 1.0) with its experts' marks; any part of the records.

    Args:
        root: Folder with ``ludb.csv`` and ``data/``.
        split: ``train``, ``held_out`` or ``all``; see :func:`is_held_out`.
        fold: Which fifth is held out.
    """

    root: str
    split: str = "all"
    fold: int = 0

    def __iter__(self) -> Iterator[MarkedRecord]:
        """Yield the split's records in the order of their numbers.

        Raises:
            DataError: The files are not there, or the split has another name.
        """
        if self.split not in ("train", "held_out", "all"):
            raise DataError(f"expected split train, held_out or all, got {self.split!r}")
        table = Path(self.root) / "ludb.csv"
        if not table.is_file():
            raise DataError(f"expected LUDB's ludb.csv and data/ in {self.root}, got none; download LUDB 1.0.1")
        with table.open(encoding="utf-8-sig", newline="") as lines:
            rows = {int(row["ID"]): row for row in csv.DictReader(lines)}
        for number, row in sorted(rows.items()):
            if self.split == "all" or is_held_out(number, self.fold) == (self.split == "held_out"):
                yield self._read(number, row)

    def _read(self, number: int, row: dict[str, str]) -> MarkedRecord:
        import wfdb

        path = Path(self.root) / "data" / str(number)
        raw = wfdb.rdrecord(str(path), physical=False)
        names = [name.lower() for name in raw.sig_name]
        # the header's gains are normalised by lead; raw counts are microvolts
        signal = np.stack([raw.d_signal[:, names.index(lead.lower())] for lead in LEADS]) / 1000
        marks = fuse_leads(read_lead_marks(path, [lead.lower() for lead in LEADS]), float(raw.fs))
        edges = np.concatenate([marks[name] for name in ("P_on", "QRS_on", "QRS_off", "T_off")])
        return MarkedRecord(
            record=EcgRecord(signal, float(raw.fs), LEADS, {"format": "wfdb", "sex": row["Sex"].strip()}),
            marks=marks,
            beat_class=wide_and_early(marks),
            patient=f"ludb/{number}",
            af="fibrillation" in row["Rhythms"].lower(),
            pvc="ventricular extra" in row["Extrasystolies"].lower(),
            origin="LUDB 1.0.1",
            licence="ODC-By 1.0",
            span=(float(np.nanmin(edges)), float(np.nanmax(edges))),  # first and last beats are not marked
        )


@dataclass(frozen=True)
class DelineatedMarks:
    """Records of any kind that the native delineation marks with confidence, as donors where experts marked none.

    A record counts where it is technically usable and QRS, PR and QT vary little over its normal beats; what the
    delineator gets wrong in every beat alike is learned from it, so experts' marks come first.

    Args:
        records: 12-lead records by patient name.
        origin: Name of the database.
        licence: Of the recordings.
    """

    records: Iterable[tuple[str, EcgRecord]]
    origin: str = "not stated"
    licence: str = "not stated"

    def __iter__(self) -> Iterator[MarkedRecord]:
        """Yield the confident ones, at 500 Hz."""
        for patient, record in self.records:
            read = clean(record)
            marks = delineate(read)
            if quality(read).verdict != "usable" or not is_confident(marks):
                continue
            codes = {finding.code for finding in findings(measure(read, marks))}
            yield MarkedRecord(
                record=read,
                marks=marks.global_marks,
                beat_class=marks.beat_class,
                patient=patient,
                af="atrial_fibrillation" in codes,
                pvc="premature_ventricular" in marks.beat_class,
                origin=self.origin,
                licence=self.licence,
            )


def is_confident(marks: Delineation) -> bool:
    """Return whether a delineation has four normal beats and its intervals vary little over them."""
    normal, whole = marks.beat_class == "normal", marks.global_marks
    if np.count_nonzero(normal) < _FEWEST_BEATS:
        return False
    for name, (onset, offset) in _INTERVALS.items():
        length = (whole[offset] - whole[onset])[normal] * 1000 / marks.fs
        length = length[np.isfinite(length)]
        if name != "PR" and len(length) < _FEWEST_BEATS:  # P waves may be absent
            return False
        if len(length) > 1 and np.std(length) > _STEADY_MS[name]:
            return False
    return True
