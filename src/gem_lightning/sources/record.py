"""What a data set says of one record, and what it lacks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from gem_lightning.sources.tables import sex_in_words


@dataclass(frozen=True)
class SourceRecord:
    """One record of a data set, before it is read.

    Args:
        id: Unique within the source.
        ecg: Portable reference: the data set's folder name and the path below it, as the original's ``ecg`` field.
        format: Format name of the reader, where the file's look is not enough.
        patient: Who it was recorded from (a number of the data set), for splits; None takes the record itself.
        age: Years.
        sex: ``female`` or ``male``.
        report: What a clinician (or the data set's labels) says of it.
        codes: Labels of the data set, as they are.
        split: ``train``, ``val`` or ``test`` where the data set says so.
        recorded: Order of records of one patient (date as ISO text).
        earlier: ``ecg`` of the same patient's record before this one.
        sample: An instruction sample's JSON object, where the source is a file of samples; without ``image`` where
            the file carries the picture itself.
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
        """A JSON-ready dict without what is absent."""
        return {name: value for name, value in asdict(self).items() if value not in (None, ())}

    def completed(self, meta: Mapping[str, Any]) -> SourceRecord:
        """The record with the age (years) and sex of its recording's ``meta`` where the data set names none."""
        age = self.age if self.age is not None else meta.get("age")
        return replace(self, age=age, sex=self.sex or sex_in_words(meta.get("sex")))

    @classmethod
    def from_item(cls, item: Mapping[str, Any]) -> SourceRecord:
        """The record that :meth:`to_item` described."""
        return cls(**({"ecg": None} | dict(item) | {"codes": tuple(item.get("codes", ()))}))


@dataclass(frozen=True)
class Missing:
    """Something that a data set should have.

    Args:
        what: File or folder, and what it is for.
        place: Where it was looked for.
    """

    what: str
    place: str

    def __str__(self) -> str:
        return f"{self.what} (looked for {self.place})"
