"""Records whose waves are marked: LUDB by its cardiologists, and any source by confident delineation."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gem_lightning.ecg.recombination.marked import MarkedRecord, fuse_leads, read_lead_marks, wide_and_early
from gem_lightning.ecg.record import LEADS, EcgRecord
from gem_lightning.errors import DataError

FOLDS = 5
_FEWEST_BEATS = 4  # a delineation of fewer beats says too little of its own consistency
_STEADY = 0.12  # largest spread of QRS duration over beats, as a share of its median, that counts as confident; ours


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
