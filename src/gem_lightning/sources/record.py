"""Records of a data set, before their signals are read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from gem_lightning.ecg.record import EcgRecord
from gem_lightning.samples.sample import InstructionSample
from gem_lightning.sources.tables import age_or_none, normalise_sex, normalise_split

__all__ = ["Missing", "SourceRecord"]


@dataclass(frozen=True)
class SourceRecord:
    """One record of a data set, before its signal is read.

    Args:
        id: Unique id within the source.
        ecg: Portable reference: the data set's folder name and the path below it, as the original's ``ecg`` field.
        format: Format name of the reader, where it cannot be recognised from the file.
        patient: Patient id of the data set, for splits; None counts the record as a patient of its own.
        age: Years.
        sex: ``female`` or ``male``.
        report: Report of a clinician, or the data set's labels as text.
        codes: Labels of the data set, unchanged.
        split: ``train``, ``val`` or ``test`` where the data set defines it.
        recorded: Date as ISO text, which orders the records of one patient.
        earlier: ``ecg`` of the same patient's previous record.
        sample: JSON object of an instruction sample, where the source is a sample file; without ``image`` where the
            file contains the image itself.
    """

    id: str
    ecg: str | None
    format: str | None = None
    patient: str | None = None
    age: float | None = None
    sex: str | None = None
    report: str | None = None
    codes: tuple[str, ...] = ()
    split: str | None = None
    recorded: str | None = None
    earlier: str | None = None
    sample: dict[str, Any] | None = None

    def to_item(self) -> dict[str, Any]:
        """Return a JSON-ready dict without absent values."""
        return {name: value for name, value in asdict(self).items() if value not in (None, ())}

    def completed(self, meta: Mapping[str, Any]) -> SourceRecord:
        """Fill in age (years) and sex from the recording's ``meta`` where the data set has none."""
        age = self.age if self.age is not None else meta.get("age")
        return replace(self, age=age, sex=self.sex or normalise_sex(meta.get("sex")))

    def with_patient(self, record: EcgRecord) -> EcgRecord:
        """Put the data set's age (years) and sex into the record's ``meta``, where measurements read them."""
        known = {name: value for name in ("age", "sex") if (value := getattr(self, name)) is not None}
        return replace(record, meta={**record.meta, **known})

    @classmethod
    def from_sample(cls, sample: InstructionSample) -> SourceRecord:
        """Return the record of an instruction sample, with the facts in its ``metadata``."""
        facts = sample.metadata
        return cls(
            str(sample.id),
            sample.ecg,
            sample.ecg_format,
            patient=str(facts["patient"]) if facts.get("patient") else _patient_in(sample.ecg),
            age=age_or_none(facts.get("age")),
            sex=normalise_sex(facts.get("sex")),
            report=sample.report,
            split=normalise_split(facts.get("split")),
        )

    @classmethod
    def from_item(cls, item: Mapping[str, Any]) -> SourceRecord:
        """Return the record of a dict made by :meth:`to_item`."""
        return cls(**({"ecg": None} | dict(item) | {"codes": tuple(item.get("codes", ()))}))


@dataclass(frozen=True)
class Missing:
    """A missing part of a data set: the file or folder, and where it was expected."""

    what: str
    place: str

    def __str__(self) -> str:
        return f"{self.what} (looked for {self.place})"


def _patient_in(ecg: str | None) -> str | None:
    """Return the patient of a path in MIMIC-IV-ECG's tree, else the recording itself."""
    found = re.search(r"(?:^|/)p(\d{8})/s\d+/", ecg or "")
    return f"mimic-{found[1]}" if found else ecg
