"""Records to be asked about, read when they are needed."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

from gem_lightning.ecg.record import EcgRecord
from gem_lightning.errors import DataError
from gem_lightning.samples.sample import RecordRef
from gem_lightning.sources.base import RecordFiles, Source


@dataclass
class RecordSet:
    """The records of a source.

    Args:
        source: A :class:`~gem_lightning.sources.base.Source`, or the path of a file, folder, list or table of
            records.
        limit: At most so many, from the first; None takes all.

    Attributes:
        names: Ids, in the source's order.
        groups: Patient of each id that has one.

    Raises:
        DataError: There are no records, or two have one id.
    """

    source: Source | str | os.PathLike[str]
    limit: int | None = None
    names: list[str] = field(init=False, default_factory=list)
    groups: dict[str, str] = field(init=False, default_factory=dict)
    _found: dict[str, Any] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.source, Source):
            self.source = RecordFiles(root=os.fspath(self.source))
        for record in self.source.records():
            if self.limit is not None and len(self.names) >= self.limit:
                break
            if record.ecg is None:
                continue
            if record.id in self._found:
                raise DataError(f"expected one record an id in {self.source.name}, got {record.id!r} twice")
            self.names.append(record.id)
            self._found[record.id] = record
            if record.patient is not None:
                self.groups[record.id] = record.patient
        if not self.names:
            raise DataError(f"expected records in {self.source.name} ({self.source.root or 'no folder'}), got none")

    def read(self, name: str) -> EcgRecord:
        """The record of an id.

        Raises:
            EcgReadError: It cannot be read.
        """
        return self.reference(name).read()

    def reference(self, name: str) -> RecordRef:
        """Where the record of an id lies."""
        assert isinstance(self.source, Source)
        found = self._found[name]
        return RecordRef.parse(found.ecg, found.format).mapped(self.source.paths)

    def another(self, name: str) -> str:
        """The next record that is not known to be the same patient's; the next one where all are."""
        at, count, patient = self.names.index(name), len(self.names), self.groups.get(name)
        others = (self.names[(at + step) % count] for step in range(1, count))
        following = self.names[(at + 1) % count]
        return next((other for other in others if patient is None or self.groups.get(other) != patient), following)

    def patients(self, names: list[str]) -> list[str | None]:
        """Patient of each name, None where unknown."""
        return [self.groups.get(name) for name in names]
