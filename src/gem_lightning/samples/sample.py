"""Instruction samples: conversations about one ECG in the original's JSON form, and record references."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from gem_lightning.ecg.record import EcgRecord
from gem_lightning.errors import DataError, EcgReadError, MissingExtraError

if TYPE_CHECKING:
    from gem_lightning.ecg import SimulatedEcg

_KNOWN = ("id", "image", "ecg", "ecg_format", "conversations", "machine_measurements", "report", "features")
_ID_NAMES = ("id", "question_id", "No")
_INDEX_MARK = "::"
_HDF5_SUFFIXES = (".hdf5", ".h5")
ECG_ROOT, IMAGE_ROOT = "ecg:", "image:"  # keys of a map of folders; no folder of a data set ends in a colon
_ROOTS = {"ecg": ECG_ROOT, "image": IMAGE_ROOT}
DEFAULT_QUESTION = "Interpret this ECG."
"""Default question: in training on simulated ECGs, of a model, in a benchmark."""
CHARACTERS_PER_TOKEN = 4  # of English clinical text, roughly


@dataclass(frozen=True)
class RecordRef:
    """Location of a record's signal.

    Args:
        path: File, as in the data set or on this machine; a pack (``.ecgpack``); or ``simulate:DIAGNOSIS``.
        format: Format name of :func:`gem_lightning.ecg.read_ecg`; None recognises it. Facts that the file lacks may
            follow: ``csv?fs=500&units=uV&leads=I,II``, or without a name ``?fs=500&units=uV``.
        index: Record inside a file of many (CODE-15 ``exam_id``, row, the simulator's seed), as text ``path::index``.
    """

    path: str
    format: str | None = None
    index: str | None = None

    @classmethod
    def parse(cls, text: str, format: str | None = None) -> RecordRef:
        """Parse ``path`` or ``path::index``."""
        path, mark, index = text.partition(_INDEX_MARK)
        return cls(path, format, index if mark else None)

    def __str__(self) -> str:
        return self.path if self.index is None else f"{self.path}{_INDEX_MARK}{self.index}"

    def mapped(self, paths: Mapping[str, str] | None) -> RecordRef:
        """Return the same record below this machine's folders (see :func:`map_path`)."""
        if self.simulated:
            return self
        return replace(self, path=map_path(self.path, paths, ECG_ROOT))

    @property
    def simulated(self) -> bool:
        """Return whether the record is simulated, without a file."""
        return self.path.startswith("simulate:")

    @property
    def exists(self) -> bool:
        """Return whether its file exists; True for a simulated record."""
        if self.simulated:
            return True
        return any(os.path.exists(self.path + suffix) for suffix in ("", ".hea", ".dat", ".mat"))

    def read(self, **options: Any) -> EcgRecord:
        """Read the record; options go to :func:`gem_lightning.ecg.read_ecg`.

        Raises:
            EcgReadError: The file is missing or not an ECG.
        """
        return self.read_contracts((options.pop("contract", "clean"),), **options)[0]

    def read_contracts(self, contracts: Sequence[str], **options: Any) -> list[EcgRecord]:
        """Read the record once and return it under each of several signal contracts, ``clean`` or ``gem``.

        Raises:
            EcgReadError: The file is missing or not an ECG.
        """
        from gem_lightning.ecg import preprocess, readers

        if self.simulated or self.path.endswith(".ecgpack"):
            from gem_lightning.ecg.pack import read_pack

            record = simulated_ecg(self).record if self.simulated else read_pack(self.path, self.index or 0)
            return [preprocess.gem(record) if contract == "gem" else record for contract in contracts]
        if self.index is not None:
            by_id = self.path.endswith(_HDF5_SUFFIXES)
            options["index"] = code15_row(self.path, self.index) if by_id else _record_number(self.index)
        name, facts = _format_and_facts(self.format)
        return readers.read_contracts(self.path, contracts, format=name, **{**facts, **options})


def code15_row(path: str, recording: str) -> int:
    """Return the row of a CODE-15 recording in an HDF5 part, by its ``exam_id`` in ``exams.csv``.

    Raises:
        EcgReadError: The part cannot be opened, or does not contain the recording.
    """
    if not os.path.isfile(path):
        raise EcgReadError(f"expected a file, got {path!r}, which does not exist; check the path")
    rows = _code15_rows(path, os.stat(path).st_mtime_ns)
    number = int(recording) if recording.isdecimal() else -1
    if number not in rows:
        raise EcgReadError(
            f"expected an exam_id of {os.path.basename(path)}, got {recording}, not one of {len(rows):,}; use the part "
            "that exams.csv names for it"
        )
    return rows[number]


@lru_cache(maxsize=32)
def _code15_rows(path: str, changed: int) -> dict[int, int]:
    """Map ``exam_id`` to row, read once per process and file; padding rows at a part's end have the id 0."""
    try:
        import h5py
    except ImportError as error:
        raise MissingExtraError("h5py", "formats") from error
    try:
        with h5py.File(path, "r") as file:
            numbers = file["exam_id"][()].tolist()
    except (OSError, KeyError) as error:
        raise EcgReadError(
            f"expected an HDF5 part of CODE-15 (exam_id, tracings) at {path}, got {str(error)[:120]}; download it again"
        ) from error
    return {int(number): row for row, number in reversed(list(enumerate(numbers)))}


def _format_and_facts(text: str | None) -> tuple[str | None, dict[str, Any]]:
    """Parse ``csv?fs=500&units=uV`` into a format name and arguments of :func:`gem_lightning.ecg.read_ecg`."""
    name, _, query = (text or "").partition("?")
    facts: dict[str, Any] = dict(parse_qsl(query))
    unknown = sorted(set(facts) - {"fs", "units", "leads"})
    if unknown:
        raise EcgReadError(f"expected fs, units and leads after the format, got {', '.join(unknown)} in {text!r}")
    if "leads" in facts:
        facts["lead_names"] = tuple(facts.pop("leads").split(","))
    if "fs" in facts:
        try:
            facts["fs"] = float(facts["fs"])
        except ValueError:
            raise EcgReadError(f"expected a sampling rate in Hz as fs, got {facts['fs']!r}") from None
    return name or None, facts


def _record_number(index: str) -> int:
    if not index.isdecimal():
        raise EcgReadError(f"expected the number of a record after {_INDEX_MARK}, got {index!r}")
    return int(index)


def simulated_ecg(ref: RecordRef) -> SimulatedEcg:
    """Simulate the record of ``simulate:diagnosis?parameter=number::seed``, with the truth about it."""
    from gem_lightning.ecg import simulate

    diagnosis, _, query = ref.path.removeprefix("simulate:").partition("?")
    parameters = {name: float(value) for name, value in parse_qsl(query)}
    return simulate(diagnosis, seed=int(ref.index or 0), **parameters)


@dataclass(frozen=True)
class InstructionSample:
    """A conversation about one ECG, in the form of the original's data files.

    Args:
        id: Unique within its data set (str or int, unchanged).
        conversations: Turns ``{"from": "human" | "gpt", "value": text}``; ``<image>`` marks the position of the ECG.
        ecg: Record reference as text: ``path`` or ``path::index``.
        image: Image file (or a list of them).
        machine_measurements: Per-lead, per-beat measurements (see ``EcgFeatures.to_measurements``).
        report: The clinician's report: ground truth that never appears in a conversation.
        features: Summary features, where computed.
        ecg_format: Format name where it cannot be recognised from the file.
        metadata: All other keys of the JSON object.
        image_bytes: Encoded image, where the file contains it (Parquet, shards); not part of the JSON.
        ecg_record: The record itself, where the file contains it (shards); not part of the JSON.
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
        """Return the location of the signal, or None for a sample without one."""
        return None if self.ecg is None else RecordRef.parse(self.ecg, self.ecg_format)

    @property
    def images(self) -> list[str | bytes]:
        """Return the encoded image that the file contains, else the paths of the sample's image files."""
        if self.image_bytes is not None:
            return [self.image_bytes]
        if self.image is None:
            return []
        return [str(image) for image in (self.image if isinstance(self.image, list) else [self.image])]

    @property
    def missing_images(self) -> list[str]:
        """Return the image files that do not exist."""
        return [name for name in self.images if isinstance(name, str) and not os.path.isfile(name)]

    @property
    def question(self) -> str:
        """Return the first human turn without its ``<image>`` marker."""
        turn = next((t["value"] for t in self.conversations if t["from"] == "human"), "")
        return turn.replace("<image>", "").strip()

    @property
    def answer(self) -> str:
        """Return the first answer, or an empty text."""
        return next((t["value"] for t in self.conversations if t["from"] == "gpt"), "")

    @property
    def rough_tokens(self) -> int:
        """Estimate the number of tokens of its turns; only the order of lengths matters where it is used."""
        return sum(len(turn["value"]) for turn in self.conversations) // CHARACTERS_PER_TOKEN

    def read_record(self, **options: Any) -> EcgRecord | None:
        """Return the record that the file contains, else read ``ecg``; None for a sample without a signal.

        Raises:
            EcgReadError: See :meth:`RecordRef.read`.
        """
        if self.ecg_record is not None or self.record is None:
            return self.ecg_record
        return self.record.read(**options)

    def to_dict(self) -> dict[str, Any]:
        """Return the original's JSON object, without absent values."""
        values = {name: getattr(self, name) for name in _KNOWN}
        return {name: v for name, v in values.items() if v is not None} | self.metadata

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> InstructionSample:
        """Build a sample from the original's JSON object; unknown keys go to ``metadata``.

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
        """Return the same sample with its record and images below this machine's folders."""
        if not paths:
            return self
        ecg = None if self.record is None else str(self.record.mapped(paths))
        image = [map_path(i, paths, IMAGE_ROOT) for i in self.image] if isinstance(self.image, list) else self.image
        if isinstance(image, str):
            image = map_path(image, paths, IMAGE_ROOT)
        return replace(self, ecg=ecg, image=image)


def _turns(value: Any, sample_id: Any) -> list[dict[str, str]]:
    if isinstance(value, str):
        with suppress(ValueError):  # reported below
            value = json.loads(value)
    if not isinstance(value, list | tuple) or not all(map(_is_turn, value)):
        raise DataError(
            f'sample {sample_id!r}: expected conversations as a list of {{"from": "human" | "gpt", "value": text}}, '
            f"got {str(value)[:80]!r}"
        )
    return [dict(turn) for turn in value]


def _is_turn(turn: Any) -> bool:
    return isinstance(turn, Mapping) and isinstance(turn.get("from"), str) and isinstance(turn.get("value"), str)


def map_path(name: str, paths: Mapping[str, str] | None, root: str = "") -> str:
    """Replace the longest leading folder of ``name`` that is a key of ``paths``.

    Example: ``map_path("mimic-iv/files/1", {"mimic-iv": "/data/mimic"})`` is ``/data/mimic/files/1``.

    Args:
        name: Path as in the data set.
        paths: Leading folders to folders here. The key ``root``, else the empty one, matches all other relative paths.
        root: :data:`ECG_ROOT` of a record, :data:`IMAGE_ROOT` of an image.
    """
    if not paths:
        return name
    parts = name.split("/")
    for n in range(len(parts), 0, -1):
        head = "/".join(parts[:n])
        if head and head in paths:
            return "/".join([str(paths[head]).rstrip("/"), *parts[n:]])
    start = paths.get(root, paths.get(""))
    return name if start is None or name.startswith("/") else f"{str(start).rstrip('/')}/{name}"


def with_root(
    root: str | os.PathLike[str] | Mapping[str, str] | None, paths: Mapping[str, str] | None
) -> dict[str, str]:
    """Return a map of leading folders in which all other relative paths start at ``root``.

    Args:
        root: One folder for ECGs and images, or ``{"ecg": FOLDER, "image": FOLDER}``; None leaves them as they are.
        paths: Leading folders to folders here; they take precedence.

    Raises:
        DataError: A root of something else than ``ecg`` and ``image``.
    """
    roots: dict[str, str] = {}
    if isinstance(root, Mapping):
        unknown = sorted(set(root) - _ROOTS.keys())
        if unknown:
            raise DataError(f"expected root as a folder, or folders of {', '.join(_ROOTS)}, got {', '.join(unknown)}")
        roots = {_ROOTS[kind]: str(folder) for kind, folder in root.items()}
    elif root is not None:
        roots = {"": str(root)}
    return roots | dict(paths or {})
