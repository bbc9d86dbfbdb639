"""A doctor for instruction data: what is missing, corrupt, mismatched, doubled, leaking or contradicted."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from gem_lightning.errors import DataError, EcgReadError
from gem_lightning.generation.duplicates import between, signature
from gem_lightning.generation.validate_images import picture_shows, read_picture
from gem_lightning.jobs import JobFolder, Progress, run
from gem_lightning.samples.io import known_paths, read_item, sample_items
from gem_lightning.samples.sample import InstructionSample, RecordRef
from gem_lightning.sources.record import SourceRecord
from gem_lightning.sources.tables import age_or_none, sex_in_words

SEVERITY = {
    "malformed": "error",
    "missing_record": "error",
    "missing_image": "error",
    "corrupt_record": "error",
    "corrupt_image": "error",
    "image_mismatch": "error",
    "contradicted": "error",
    "duplicate_id": "error",
    "leak_patient": "error",
    "leak_record": "error",
    "duplicate": "error",
    "duplicate_signal": "warning",
    "near_duplicate": "warning",
    "names_sources": "warning",
    "quality": "warning",
}
MEANING = {
    "malformed": "no conversation that a model can learn from",
    "missing_record": "the signal's file is not there",
    "missing_image": "the picture's file is not there",
    "corrupt_record": "the signal cannot be read",
    "corrupt_image": "the picture cannot be decoded",
    "image_mismatch": "the picture does not show the signal",
    "contradicted": "the text says what the signal does not show",
    "duplicate_id": "one id, several samples",
    "leak_patient": "one patient in several splits",
    "leak_record": "one recording in several splits",
    "duplicate": "the same record and the same words",
    "duplicate_signal": "the same signal under several names",
    "near_duplicate": "nearly the same signal under several names",
    "names_sources": "the text says that it was written from a report or a list",
    "quality": "the signal cannot be measured",
}


@dataclass(frozen=True)
class Examination:
    """What the doctor found.

    Attributes:
        samples: Number of samples looked at.
        faults: ``{"id", "file", "kind", "severity", "words"}`` each.
        labels: Findings that the answers state → samples.
        kinds: Kind of sample → samples.
        splits: Split → samples.
        lengths: Words of each answer.
        turns: Turns of each conversation.
    """

    samples: int
    faults: list[dict[str, Any]]
    labels: dict[str, int]
    kinds: dict[str, int]
    splits: dict[str, int]
    lengths: list[int]
    turns: list[int]

    def fails(self, fail_on: str = "error") -> bool:
        """Whether there is a fault of this severity (``error``, ``warning``; ``never`` is never)."""
        wanted = {"error": ("error",), "warning": ("error", "warning"), "never": ()}
        if fail_on not in wanted:
            raise DataError(f"expected fail_on error, warning or never, got {fail_on!r}")
        return any(fault["severity"] in wanted[fail_on] for fault in self.faults)

    def counts(self) -> dict[str, int]:
        """Faults by kind."""
        return dict(Counter(fault["kind"] for fault in self.faults).most_common())

    def text(self) -> str:
        """A summary for a terminal."""
        lines = [f"{self.samples} samples, {len(self.faults)} faults"]
        lines += [f"{SEVERITY[k]:8} {n:6}  {k}: {MEANING[k]}" for k, n in self.counts().items()]
        return "\n".join(lines)

    def write(self, folder: str | os.PathLike[str]) -> None:
        """``doctor.html``, ``doctor.json`` (figures) and ``doctor.jsonl`` (one line a fault) in ``folder``."""
        from gem_lightning.generation.validation_report import page
        from gem_lightning.jobs import write_atomically

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        facts = {"samples": self.samples, "faults": self.counts(), "kinds": self.kinds, "splits": self.splits}
        facts |= {"labels": self.labels, "words": describe(self.lengths), "turns": describe(self.turns)}
        lines = "".join(json.dumps(fault, ensure_ascii=False, default=str) + "\n" for fault in self.faults)
        write_atomically(folder / "doctor.jsonl", lines.encode())
        write_atomically(folder / "doctor.json", json.dumps(facts, indent=2).encode())
        write_atomically(folder / "doctor.html", page(self, facts).encode())


def describe(values: list[int]) -> dict[str, float]:
    """Count, mean, and the 0, 5, 50, 95 and 100 % points."""
    import numpy as np

    if not values:
        return {}
    points = np.percentile(values, [0, 5, 50, 95, 100])
    names = ("min", "p5", "median", "p95", "max")
    found = {"n": len(values), "mean": round(float(np.mean(values)), 1)}
    return found | {name: float(v) for name, v in zip(names, points)}


@dataclass(frozen=True)
class CheckSample:
    """Everything that one sample shows by itself; picklable.

    Args:
        paths: Leading folders in the samples → folders here.
        renderer: What drew the pictures, or None to try the usual layouts.
        threshold: Least agreement of a picture with its signal.
        contract: Signal contract of the reader.
        texts: Compare the answers' claims with the signal.
    """

    paths: Mapping[str, str] = field(default_factory=dict)
    renderer: Any = None
    threshold: float = 0.5
    contract: str = "clean"
    texts: bool = True

    def __call__(self, item: Mapping[str, Any]) -> dict[str, Any]:
        """One row: what the sample is, and its faults."""
        row: dict[str, Any] = {"id": item["name"], "file": Path(item["file"]).name, "faults": [], "words": ""}
        row["split"] = item["split"]
        try:
            original = read_item(item)
        except (DataError, ValueError) as error:
            return row | {"faults": [("malformed", str(error))]}
        sample = original.mapped(self.paths)
        faults = list(_form(sample))
        answers = "\n".join(turn["value"] for turn in sample.conversations if turn["from"] == "gpt")
        said = "\n".join(turn["value"] for turn in sample.conversations)
        facts = original.metadata
        row |= {
            "id": sample.id,
            "record": original.ecg,
            "patient": facts.get("patient"),
            "split": item["split"] or facts.get("split") or "train",
            "kind": facts.get("kind") or "unknown",
            "words": hashlib.blake2b(" ".join(said.split()).encode(), digest_size=12).hexdigest(),
            "n_words": len(answers.split()),
            "turns": len(sample.conversations) // 2,
            "labels": _labels(answers),
        }
        measured, found = self._signal(sample.record)
        faults += found
        if measured is not None:
            row |= {"signal": measured.digest, "signature": measured.signature}
            faults += self._picture(sample, measured)
            faults += self._text(answers, measured, sample)
        else:
            faults += [("missing_image", name) for name in sample.missing_pictures]
        return row | {"faults": faults}

    def _signal(self, ref: RecordRef | None) -> tuple[_Measured | None, list[tuple[str, str]]]:
        if ref is None:
            return None, []
        try:
            return _measured(ref, self.contract, self.texts), []
        except FileNotFoundError as error:
            return None, [("missing_record", str(error))]
        except (EcgReadError, ValueError, OSError) as error:
            return None, [("corrupt_record" if ref.exists else "missing_record", str(error))]

    def _picture(self, sample: InstructionSample, measured: _Measured) -> Iterator[tuple[str, str]]:
        missing = sample.missing_pictures
        yield from (("missing_image", name) for name in missing)
        for picture in sample.pictures:
            if picture in missing:
                continue
            try:
                image = read_picture(picture)
            except DataError as error:
                yield "corrupt_image", str(error)
                continue
            seed = sample.metadata.get("image_seed")
            shown, score = picture_shows(image, measured.record, self.renderer, seed, self.threshold)
            if not shown:
                name = "the stored picture" if isinstance(picture, bytes) else Path(picture).name
                yield "image_mismatch", f"{name}: its traces agree with the signal by {score:.2f} only"

    def _text(self, answers: str, measured: _Measured, sample: InstructionSample) -> Iterator[tuple[str, str]]:
        from gem_lightning.features import findings
        from gem_lightning.generation.gate import Gate

        if not self.texts or measured.features is None:
            return
        if measured.features.reason is not None:
            yield "quality", measured.features.reason
            return
        said = {name: sample.metadata.get(name) for name in ("age", "sex")}  # criteria differ by them
        known = SourceRecord("", sample.ecg, age=age_or_none(said["age"]), sex=sex_in_words(said["sex"]))
        known = known.completed(measured.record.meta)
        features = measured.features.of_patient(known.age, known.sex)
        found = findings(features)
        gate = Gate(max_words=10**6, min_claims=0, all_numbers=False)
        judged = gate.judge(answers, features, found, sample.report)
        for problem in judged.problems:
            if problem.category.startswith("contradicted"):
                yield "contradicted", problem.words
            elif problem.category == "names its sources":
                yield "names_sources", problem.words


@dataclass(frozen=True)
class _Measured:
    record: Any
    features: Any
    digest: str
    signature: str


@lru_cache(maxsize=16)
def _measured(ref: RecordRef, contract: str, texts: bool) -> _Measured:
    """A record, measured once for all its samples that follow each other."""
    from gem_lightning.features import measure

    record = ref.read(contract=contract)
    digest = hashlib.blake2b(record.signal.tobytes(), digest_size=12).hexdigest()
    return _Measured(record, measure(record) if texts else None, digest, signature(record))


def _form(sample: InstructionSample) -> Iterator[tuple[str, str]]:
    turns = sample.conversations
    if not turns or len(turns) % 2:
        yield "malformed", f"{len(turns)} turns; questions and answers come in pairs"
        return
    wrong = [t["from"] for i, t in enumerate(turns) if t["from"] != ("human", "gpt")[i % 2]]
    if wrong:
        yield "malformed", f"turns of {', '.join(wrong)} out of order; human and gpt take turns"
    if any(not str(turn["value"]).strip() for turn in turns):
        yield "malformed", "an empty turn"
    markers = sum(str(turn["value"]).count("<image>") for turn in turns)
    if markers != (1 if sample.ecg or sample.image else 0):
        yield "malformed", f"{markers} <image> markers; one is wanted where there is a signal or picture"


def _labels(answers: str) -> list[str]:
    from gem_lightning.claims.extract import extract

    claims = extract(answers)
    return sorted(
        {c.finding for c in claims if c.kind == "finding" and c.finding and not c.negated and not c.uncertain}
    )


class Doctor:
    """Examines files of instruction samples.

    Args:
        data: A file of samples, or split → file. In one file the samples' own ``split`` counts.
        paths: Leading folders in the samples → folders here.
        renderer: What drew the pictures (an ``EcgRenderer``), or None to try the usual layouts.
        threshold: Least agreement of a picture with its signal.
        near: Similarity from which two signals are near-duplicates.
        contract: Signal contract of the reader.
        texts: Compare the answers' claims with the signal.
    """

    def __init__(
        self,
        data: Any,
        paths: Mapping[str, str] | None = None,
        renderer: Any = None,
        threshold: float = 0.5,
        near: float = 0.985,
        contract: str = "clean",
        texts: bool = True,
    ) -> None:
        if not data:
            raise DataError("expected data=FILE with instruction samples, got none")
        self.files = {None: str(data)} if isinstance(data, str | os.PathLike) else {k: str(v) for k, v in data.items()}
        self.near = near
        folders: dict[str, str] = {}
        for file in self.files.values():
            folders |= known_paths(file)
        folders |= dict(paths or {})
        self.check = CheckSample(folders, renderer, threshold, contract, texts)

    def examine(self, workers: int | None = None, show: Callable[[Progress], None] | None = None) -> Examination:
        """Look at every sample, then between them.

        Args:
            workers: Processes; None takes all cores, 0 works in this one.
            show: Called with the progress.
        """
        with tempfile.TemporaryDirectory(prefix="doctor") as scratch:
            folder = JobFolder(scratch, self._items(), suffix=".jsonl", block=64)
            run(folder, self.check, workers, show=show)
            rows = [json.loads(line) for b in range(len(folder.spans)) for line in folder.shard(b).open("rb")]
            broken = list(folder.broken())
        faults = [self._fault(row, *fault) for row in rows for fault in row["faults"]]
        faults += [{**b, "file": "", "kind": "corrupt_record", "words": b["reason"]} for b in broken]
        faults += between(rows, self.near)
        faults = [{"severity": SEVERITY[fault["kind"]]} | fault for fault in faults]
        whole = [row for row in rows if "kind" in row]
        return Examination(
            samples=len(rows) + len(broken),
            faults=faults,
            labels=dict(Counter(label for row in whole for label in row["labels"]).most_common()),
            kinds=dict(Counter(row["kind"] for row in whole).most_common()),
            splits=dict(Counter(row["split"] or "unknown" for row in rows).most_common()),
            lengths=[row["n_words"] for row in whole],
            turns=[row["turns"] for row in whole],
        )

    def _items(self) -> Iterator[dict[str, Any]]:
        for split, file in self.files.items():
            for item in sample_items(file):
                name = f"item {item['id']} of {Path(file).name}"
                yield item | {"id": name if split is None else f"{split}: {name}", "name": name, "split": split}

    @staticmethod
    def _fault(row: Mapping[str, Any], kind: str, words: str) -> dict[str, Any]:
        return {"id": row["id"], "file": row["file"], "kind": kind, "words": words}
