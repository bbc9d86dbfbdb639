"""What an instruction sample is: a conversation about one ECG, in the original's JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qsl

from gem_lightning.ecg.record import EcgRecord
from gem_lightning.errors import DataError, EcgReadError
from gem_lightning.samples.code15 import SUFFIXES, exam_row

_KNOWN = ("id", "image", "ecg", "ecg_format", "conversations", "machine_measurements", "report", "features")
_ID_NAMES = ("id", "question_id", "No")
_INDEX_MARK = "::"
DEFAULT_QUESTION = "Interpret this ECG."
"""What is asked where nobody says otherwise: in training on simulated ECGs, of a model, by a benchmark."""
CHARACTERS_PER_TOKEN = 4


@dataclass(frozen=True)
class RecordRef:
    """Where a record's signal lies.

    Args:
        path: File, as in the data set or on this machine; a pack (``.ecgpack``); or ``simulate:DIAGNOSIS``.
        format: Format name of :func:`gem_lightning.ecg.read_ecg`; None lets it look. What the file does not hold may
            follow: ``csv?fs=500&units=uV&leads=I,II``, or without a name ``?fs=500&units=uV``.
        index: Record inside a file of many (HDF5 exam id, row, the simulator's seed), written ``path::index`` in text.
    """

    path: str
    format: str | None = None
    index: str | None = None

    @classmethod
    def parse(cls, text: str, format: str | None = None) -> RecordRef:
        """The reference behind ``path`` or ``path::index``."""
        path, mark, index = text.partition(_INDEX_MARK)
        return cls(path, format, index if mark else None)

    def __str__(self) -> str:
        return self.path if self.index is None else f"{self.path}{_INDEX_MARK}{self.index}"

    def mapped(self, paths: Mapping[str, str] | None) -> RecordRef:
        """The same record below this machine's folders (see :func:`map_path`)."""
        if self.simulated:
            return self
        return replace(self, path=map_path(self.path, paths))

    @property
    def simulated(self) -> bool:
        """Whether it lies in no file."""
        return self.path.startswith("simulate:")

    @property
    def exists(self) -> bool:
        """Whether its file is there; what is simulated always is."""
        if self.simulated:
            return True
        return any(os.path.exists(self.path + suffix) for suffix in ("", ".hea", ".dat", ".mat"))

    def read(self, **options: Any) -> EcgRecord:
        """The record itself; options go to :func:`gem_lightning.ecg.read_ecg`.

        Raises:
            EcgReadError: The file is missing or is no ECG.
        """
        if self.simulated:
            return _simulated(self)
        if self.path.endswith(".ecgpack"):
            from gem_lightning.ecg.pack import read_pack

            return read_pack(self.path, self.index or 0)
        from gem_lightning.ecg import read_ecg

        if self.index is not None:
            numbered = self.path.endswith(SUFFIXES)
            options["index"] = exam_row(self.path, self.index) if numbered else _whole(self.index)
        name, told = _format_and_facts(self.format)
        return read_ecg(self.path, format=name, **told, **options)


def _format_and_facts(text: str | None) -> tuple[str | None, dict[str, Any]]:
    """What ``csv?fs=500&units=uV`` says, as :func:`gem_lightning.ecg.read_ecg` takes it."""
    name, _, query = (text or "").partition("?")
    told: dict[str, Any] = dict(parse_qsl(query))
    unknown = sorted(set(told) - {"fs", "units", "leads"})
    if unknown:
        raise EcgReadError(f"expected fs, units and leads after the format, got {', '.join(unknown)} in {text!r}")
    if "leads" in told:
        told["lead_names"] = tuple(told.pop("leads").split(","))
    if "fs" in told:
        try:
            told["fs"] = float(told["fs"])
        except ValueError:
            raise EcgReadError(f"expected a sampling rate in Hz as fs, got {told['fs']!r}") from None
    return name or None, told


def _whole(index: str) -> int:
    if not index.isdecimal():
        raise EcgReadError(f"expected the number of a record after {_INDEX_MARK}, got {index!r}")
    return int(index)


def _simulated(ref: RecordRef) -> EcgRecord:
    """The record of ``simulate:diagnosis?parameter=number::seed``."""
    from gem_lightning.ecg import simulate

    diagnosis, _, query = ref.path.removeprefix("simulate:").partition("?")
    parameters = {name: float(value) for name, value in parse_qsl(query)}
    return simulate(diagnosis, seed=int(ref.index or 0), **parameters).record


@dataclass(frozen=True)
class InstructionSample:
    """A conversation about one ECG, as the original's data files hold it.

    Args:
        id: Unique within its data set (text or number, kept as it was).
        conversations: Turns ``{"from": "human" | "gpt", "value": text}``; ``<image>`` marks the ECG's place.
        ecg: Record reference as text: ``path`` or ``path::index``.
        image: Picture file (or a list of them).
        machine_measurements: Per-lead, per-beat measurements (see ``EcgFeatures.to_measurements``).
        report: The clinician's report: ground truth that never shows in a conversation.
        features: Summary features, where they were computed.
        ecg_format: Format name where the file's look is not enough.
        metadata: Every other key of the JSON object, kept.
        image_bytes: Encoded picture, where the file carries it (Parquet, shards); not part of the JSON.
        ecg_record: The record itself, where the file carries it (shards); not part of the JSON.
    """

    id: Any
    conversations: list[dict[str, str]]
    ecg: str | None = None
    image: Any = None
    machine_measurements: Any = None
    report: str | None = None
    features: Any = None
    ecg_format: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    image_bytes: bytes | None = field(default=None, repr=False, compare=False)
    ecg_record: EcgRecord | None = field(default=None, repr=False, compare=False)

    @property
    def record(self) -> RecordRef | None:
        """Where the signal lies, or None for a sample without one."""
        return None if self.ecg is None else RecordRef.parse(self.ecg, self.ecg_format)

    @property
    def pictures(self) -> list[str | bytes]:
        """The encoded picture that the file carries, else the picture files that the sample names."""
        if self.image_bytes is not None:
            return [self.image_bytes]
        if self.image is None:
            return []
        return [str(image) for image in (self.image if isinstance(self.image, list) else [self.image])]

    @property
    def missing_pictures(self) -> list[str]:
        """Picture files that it needs and that are not there."""
        return [name for name in self.pictures if isinstance(name, str) and not os.path.isfile(name)]

    @property
    def question(self) -> str:
        """First human turn without its ``<image>`` marker."""
        turn = next((t["value"] for t in self.conversations if t["from"] == "human"), "")
        return turn.replace("<image>", "").strip()

    @property
    def answer(self) -> str:
        """First answer, or empty text."""
        return next((t["value"] for t in self.conversations if t["from"] == "gpt"), "")

    @property
    def rough_tokens(self) -> int:
        """About as many tokens as its turns have; only the order of lengths matters where it is used."""
        return sum(len(turn["value"]) for turn in self.conversations) // CHARACTERS_PER_TOKEN

    def read_record(self, **options: Any) -> EcgRecord | None:
        """The record that the file carries, else the one that ``ecg`` names; None for a sample without a signal.

        Raises:
            EcgReadError: See :meth:`RecordRef.read`.
        """
        if self.ecg_record is not None or self.record is None:
            return self.ecg_record
        return self.record.read(**options)

    def to_dict(self) -> dict[str, Any]:
        """The original's JSON object; what is absent has no key."""
        values = {name: getattr(self, name) for name in _KNOWN}
        return {name: v for name, v in values.items() if v is not None} | self.metadata

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> InstructionSample:
        """A sample from the original's JSON object; unknown keys go to ``metadata``.

        Raises:
            DataError: No id, or conversations that are not a list of from/value turns.
        """
        known = {name: row[name] for name in _KNOWN if row.get(name) is not None}
        metadata = {name: value for name, value in row.items() if name not in known}
        if "id" not in known:
            known["id"] = next((metadata[n] for n in _ID_NAMES if metadata.get(n) is not None), None)
            if known["id"] is None:
                raise DataError(f"expected a sample with one of the keys {_ID_NAMES}, got keys {sorted(row)}")
            # The id came from another key, which to_dict() writes back as metadata under its own name.
        if not isinstance(known.get("ecg", ""), str):
            raise DataError(f"sample {known['id']!r}: expected ecg as the path of a record, got {known['ecg']!r}")
        known["conversations"] = _turns(known.get("conversations", []), known["id"])
        return cls(**known, metadata=metadata)

    def mapped(self, paths: Mapping[str, str] | None) -> InstructionSample:
        """The same sample with its record and pictures below this machine's folders."""
        if not paths:
            return self
        ecg = None if self.record is None else str(self.record.mapped(paths))
        image = [map_path(i, paths) for i in self.image] if isinstance(self.image, list) else self.image
        if isinstance(image, str):
            image = map_path(image, paths)
        return replace(self, ecg=ecg, image=image)


def _turns(value: Any, sample_id: Any) -> list[dict[str, str]]:
    if isinstance(value, str):
        with suppress(ValueError):  # what is no JSON is told below
            value = json.loads(value)
    if not isinstance(value, list | tuple) or not all(map(_is_turn, value)):
        raise DataError(
            f'sample {sample_id!r}: expected conversations as a list of {{"from": "human" | "gpt", "value": text}}, '
            f"got {str(value)[:80]!r}"
        )
    return [dict(turn) for turn in value]


def _is_turn(turn: Any) -> bool:
    return isinstance(turn, Mapping) and isinstance(turn.get("from"), str) and isinstance(turn.get("value"), str)


def map_path(name: str, paths: Mapping[str, str] | None) -> str:
    """Replace the longest leading folder of ``name`` that ``paths`` names; the empty key is the root of all others.

    Example: ``map_path("mimic-iv/files/1", {"mimic-iv": "/data/mimic"})`` is ``/data/mimic/files/1``.
    """
    parts = name.split("/")
    for n in range(len(parts), 0, -1):
        head = "/".join(parts[:n])
        if paths and head and head in paths:
            return "/".join([str(paths[head]).rstrip("/"), *parts[n:]])
    if paths and "" in paths and not name.startswith("/"):
        return f"{str(paths['']).rstrip('/')}/{name}"
    return name
