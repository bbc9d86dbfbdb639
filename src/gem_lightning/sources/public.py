"""Public 12-lead data sets in their published layouts: PTB-XL, MIMIC-IV-ECG, CinC, Chapman, CODE-15, CPSC 2018."""

from __future__ import annotations

import ast
import logging
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import ClassVar

from gem_lightning.errors import DataError
from gem_lightning.sources.base import Missing, Source, SourceRecord
from gem_lightning.sources.tables import age_or_none, normalise_sex, number_or_none, table_rows, xlsx_rows

logger = logging.getLogger(__name__)


@dataclass
class PtbXl(Source):
    """PTB-XL 1.0.3: ``ptbxl_database.csv``, ``scp_statements.csv``, ``records500/`` or ``records100/``.

    Folds as recommended by the data set: 1–8 train, 9 validation, 10 test.

    Args:
        rate: 500 or 100 Hz.
    """

    prefix: str = "ptbxl"
    name: str = "PTB-XL"
    licence: str = "CC BY 4.0"
    home: str = "https://physionet.org/content/ptb-xl/"
    rate: int = 500

    needs: ClassVar[tuple[tuple[str, str], ...]] = (
        ("ptbxl_database.csv", "the table of records"),
        ("scp_statements.csv", "the descriptions of the SCP codes"),
    )

    def required(self) -> tuple[tuple[str, str], ...]:
        """Return (glob, description) of the required files."""
        return (*self.needs, (f"records{self.rate}", f"the signals at {self.rate} Hz"))

    def _records(self) -> Iterator[SourceRecord]:
        root = Path(self.root)
        descriptions = {row[""]: row["description"] for row in table_rows(root / "scp_statements.csv")}
        rows = sorted(table_rows(root / "ptbxl_database.csv"), key=lambda r: (r["patient_id"], r["recording_date"]))
        for row in rows:
            codes = ast.literal_eval(row["scp_codes"] or "{}")
            fold = int(float(row["strat_fold"]))
            age = number_or_none(row["age"])
            report = row.get("report") or "; ".join(descriptions.get(code, code) for code in codes)
            yield SourceRecord(
                id=f"ptbxl-{int(float(row['ecg_id']))}",
                ecg=self.portable(row["filename_hr" if self.rate == 500 else "filename_lr"]),
                patient=f"ptbxl-{int(float(row['patient_id']))}",
                age=None if age is None else min(age, 90),  # 300 stands for "over 89"
                sex={"0": "male", "1": "female"}.get(row["sex"].split(".")[0]),
                report=report,
                codes=tuple(codes),
                # folds as PTB-XL's authors recommend: 9 and 10 have human-validated labels (Wagner 2020)
                split={9: "val", 10: "test"}.get(fold, "train"),
                recorded=row["recording_date"],
            )


@dataclass
class MimicIvEcg(Source):
    """MIMIC-IV-ECG 1.0: ``record_list.csv``, ``machine_measurements.csv``, ``files/``.

    Args:
        patients: ``patients.csv`` of MIMIC-IV (restricted access) for sex and age, or None.
        machine_reports: Use ``report_0``–``report_17`` as the report.
    """

    prefix: str = "mimic-iv"
    name: str = "MIMIC-IV-ECG"
    licence: str = "ODbL 1.0"
    home: str = "https://physionet.org/content/mimic-iv-ecg/"
    patients: str | None = None
    machine_reports: bool = True

    needs: ClassVar[tuple[tuple[str, str], ...]] = (
        ("record_list.csv", "the table of records"),
        ("machine_measurements.csv", "the device's measurements and statements"),
        ("files", "the signals"),
    )

    def _records(self) -> Iterator[SourceRecord]:
        import pandas as pd

        root = Path(self.root)
        table = pd.read_csv(root / "record_list.csv", dtype=str)
        if self.machine_reports:
            measured = pd.read_csv(root / "machine_measurements.csv", dtype=str, low_memory=False)
            # machine_measurements.csv of MIMIC-IV-ECG has report_0 to report_17
            names = [f"report_{i}" for i in range(18) if f"report_{i}" in measured.columns]
            rows = measured[names].fillna("").itertuples(index=False)
            texts = ["; ".join(str(line).strip() for line in row if str(line).strip()) for row in rows]
            table["report"] = table["study_id"].map(dict(zip(measured["study_id"], texts, strict=True)))
        people = {} if self.patients is None else _mimic_people(self.patients)
        table = table.sort_values(["subject_id", "ecg_time"], kind="stable").astype(object)
        for row in table.where(table.notna(), None).to_dict("records"):
            sex, born = people.get(row["subject_id"], (None, None))
            yield SourceRecord(
                id=f"mimic-{row['study_id']}",
                ecg=self.portable(row["path"]),
                patient=f"mimic-{row['subject_id']}",
                age=None if born is None else int(row["ecg_time"][:4]) - born,
                sex=sex,
                report=row.get("report") or None,
                recorded=row["ecg_time"],
            )


def _mimic_people(path: str) -> dict[str, tuple[str | None, int]]:
    rows = table_rows(Path(path))
    return {r["subject_id"]: (normalise_sex(r["gender"]), int(r["anchor_year"]) - int(r["anchor_age"])) for r in rows}


@dataclass
class Cinc(Source):
    """PhysioNet/CinC Challenge 2020 and 2021 folders: ``.hea`` and ``.mat`` with SNOMED CT codes in the header.

    Chapman–Shaoxing–Ningbo (``WFDBRecords``) and Georgia have the same layout. These headers name no patient, so each
    record counts as a patient of its own.

    Args:
        origin: First letters of the wanted records, such as ``HR`` (PTB-XL), ``E`` (Georgia), ``JS`` (Chapman and
            Ningbo), ``A`` (CPSC-2018), ``Q`` (CPSC extra), ``I`` (INCART), ``S`` (PTB); empty takes all.
    """

    prefix: str = "cinc2021"
    name: str = "PhysioNet/CinC Challenge 2021"
    licence: str = "CC BY 4.0"
    home: str = "https://physionet.org/content/challenge-2021/"
    origin: Sequence[str] = ()

    needs: ClassVar[tuple[tuple[str, str], ...]] = (("**/*.hea", "record headers (.hea)"),)

    def check(self) -> list[Missing]:
        """Return the missing parts of the layout; empty when it is complete."""
        missing = super().check()
        if not missing and next(self._headers(), None) is None:
            raise DataError(
                f"{self.name}: expected headers whose names begin with {' or '.join(self.origin)} below {self.root}, "
                "got none; check source.origin"
            )
        return missing

    def _headers(self) -> Iterator[Path]:
        for folder, folders, files in os.walk(self.root):
            folders.sort()
            for name in sorted(files):
                if name.endswith(".hea") and (not self.origin or re.split(r"\d", name)[0] in self.origin):
                    yield Path(folder, name)

    def _records(self) -> Iterator[SourceRecord]:
        for path in self._headers():
            facts = _header_comments(path)
            codes = tuple(c.strip() for c in facts.get("dx", "").split(",") if c.strip())
            yield SourceRecord(
                id=path.stem,
                ecg=self.portable(path.relative_to(self.root)),
                patient=path.stem,
                age=age_or_none(facts.get("age")),
                sex=normalise_sex(facts.get("sex")),
                report="; ".join(snomed_term(code) for code in codes) or None,
                codes=codes,
            )


def _header_comments(path: Path) -> dict[str, str]:
    """Return ``{"age": "74", ...}`` from the ``#Age: 74`` lines of a WFDB header."""
    lines = path.read_text(encoding="latin-1").splitlines()
    pairs = (line.lstrip("# ").partition(":") for line in lines if line.startswith("#"))
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


@cache
def _snomed() -> dict[str, str]:
    import yaml

    text = resources.files("gem_lightning.sources").joinpath("snomed.yaml").read_text(encoding="utf-8")
    return {str(code): term for code, term in yaml.safe_load(text).items()}


def snomed_term(code: str) -> str:
    """Return the term of an SNOMED CT code of the challenges; ``SNOMED CT code`` for an unknown one."""
    return _snomed().get(code, f"SNOMED CT {code}")


@dataclass
class Cpsc2018(Source):
    """CPSC-2018 as first published: ``A0001.mat`` … and ``REFERENCE.csv`` (or ``.mat`` files alone, without labels)."""

    prefix: str = "cpsc2018"
    name: str = "CPSC-2018"
    licence: str = "CC BY 4.0"
    home: str = "http://2018.icbeb.org/Challenge.html"

    needs: ClassVar[tuple[tuple[str, str], ...]] = (("**/A*.mat", "records (A*.mat)"),)
    labels: ClassVar[tuple[str, ...]] = (
        "normal ECG",
        "atrial fibrillation",
        "first-degree AV block",
        "left bundle branch block",
        "right bundle branch block",
        "premature atrial contraction",
        "premature ventricular contraction",
        "ST depression",
        "ST elevation",
    )

    def _records(self) -> Iterator[SourceRecord]:
        root = Path(self.root)
        tables = sorted([*root.rglob("REFERENCE.csv"), *root.rglob("REFERENCE*.csv")])
        named = {row["Recording"]: row for table in tables for row in table_rows(table)}
        for path in sorted(root.rglob("A*.mat")):
            row = named.get(path.stem, {})
            numbers = (row.get(name) for name in ("First_label", "Second_label", "Third_label"))
            labels = [self.labels[int(float(n)) - 1] for n in numbers if n]
            ecg = self.portable(path.relative_to(root))
            yield SourceRecord(path.stem, ecg, patient=path.stem, report="; ".join(labels) or None, codes=tuple(labels))


@dataclass
class Chapman(Source):
    """Chapman–Shaoxing as first published: ``Diagnostics.xlsx`` with the names of its codes, and one CSV per record.

    One record per patient, 500 Hz, microvolts. Its later form with Ningbo (``WFDBRecords``) is read by :class:`Cinc`.
    Source: Zheng et al., Sci Data 7, 48 (2020).

    Args:
        denoised: Read ``ECGDataDenoised`` instead of ``ECGData``.
    """

    prefix: str = "champan-shaoxing"
    name: str = "Chapman-Shaoxing"
    licence: str = "CC BY 4.0"
    home: str = "https://doi.org/10.6084/m9.figshare.c.4560497"
    denoised: bool = False

    needs: ClassVar[tuple[tuple[str, str], ...]] = (
        ("Diagnostics.xlsx", "the table of records"),
        ("RhythmNames.xlsx", "the names of the rhythms"),
        ("ConditionNames.xlsx", "the names of the other codes"),
    )

    def required(self) -> tuple[tuple[str, str], ...]:
        """Return (glob, description) of the required files."""
        return (*self.needs, (self._signals, f"the signals ({self._signals}.zip, unpacked)"))

    @property
    def _signals(self) -> str:
        return "ECGDataDenoised" if self.denoised else "ECGData"

    def _records(self) -> Iterator[SourceRecord]:
        root = Path(self.root)
        tables = ("RhythmNames.xlsx", "ConditionNames.xlsx")
        names = {row["Acronym Name"]: row["Full Name"] for table in tables for row in xlsx_rows(root / table)}
        names.setdefault("SA", names.get("SI", "SA"))  # sinus irregularity has two names in the published tables
        for row in xlsx_rows(root / "Diagnostics.xlsx"):
            codes = tuple(code for code in (row["Rhythm"], *row["Beat"].split()) if code != "NONE")
            yield SourceRecord(
                id=row["FileName"],
                ecg=self.portable(f"{self._signals}/{row['FileName']}.csv"),
                format="chapman",
                patient=row["FileName"],
                age=age_or_none(row["PatientAge"]),
                sex=normalise_sex(row["Gender"]),
                report="; ".join(names.get(code, code).lower() for code in codes) or None,
                codes=codes,
            )


@dataclass
class Code15(Source):
    """CODE-15 %: ``exams.csv`` and ``exams_part*.hdf5`` (400 Hz, zero-padded to 4,096 samples).

    Rows of ``exams.csv`` whose HDF5 part is missing are skipped.
    """

    prefix: str = "code15"
    name: str = "CODE-15 %"
    licence: str = "CC BY 4.0"
    home: str = "https://zenodo.org/records/4916206"

    needs: ClassVar[tuple[tuple[str, str], ...]] = (
        ("exams.csv", "the table of recordings"),
        ("exams_part*.hdf5", "at least one part of the signals"),
    )
    labels: ClassVar[tuple[tuple[str, str], ...]] = (
        ("1dAVb", "first-degree AV block"),
        ("RBBB", "right bundle branch block"),
        ("LBBB", "left bundle branch block"),
        ("SB", "sinus bradycardia"),
        ("ST", "sinus tachycardia"),
        ("AF", "atrial fibrillation"),
    )

    def _records(self) -> Iterator[SourceRecord]:
        root = Path(self.root)
        here = {path.name for path in root.glob("exams_part*.hdf5")}
        absent = Counter(row["trace_file"] for row in table_rows(root / "exams.csv") if row["trace_file"] not in here)
        if absent:
            logger.warning(
                "%s: %d recordings are skipped, these parts are missing in %s: %s; download them from %s",
                self.name, absent.total(), root, ", ".join(sorted(absent)), self.home,
            )  # fmt: skip
        for row in table_rows(root / "exams.csv"):
            if row["trace_file"] not in here:
                continue
            labels = [label for name, label in self.labels if row.get(name) == "True"]
            if row.get("normal_ecg") == "True":
                labels.append("normal ECG")
            yield SourceRecord(
                id=f"code15-{row['exam_id']}",
                ecg=self.portable(f"{row['trace_file']}::{row['exam_id']}"),
                patient=f"code15-{row['patient_id']}",
                age=age_or_none(row.get("age")),
                sex={"True": "male", "False": "female"}.get(row.get("is_male") or ""),
                report="; ".join(labels) or None,
                codes=tuple(labels),
            )
