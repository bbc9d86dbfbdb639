"""Validate instruction data: missing, corrupt, mismatched, duplicated, leaking and contradicted samples."""

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
from gem_lightning.generation.duplicates import compare_samples, signature
from gem_lightning.generation.validate_images import image_shows, read_image
from gem_lightning.jobs import JobFolder, Progress, run, write_atomically
from gem_lightning.samples.io import known_paths, read_item, sample_items
from gem_lightning.samples.sample import InstructionSample
from gem_lightning.sources.record import SourceRecord

#: Kind of fault to (severity, meaning).
FAULTS = {
    "malformed": ("error", "no conversation that a model can learn from"),
    "missing_record": ("error", "the signal file does not exist"),
    "missing_image": ("error", "the image file does not exist"),
    "corrupt_record": ("error", "the signal cannot be read"),
    "corrupt_image": ("error", "the image cannot be decoded"),
    "image_mismatch": ("error", "the image does not show the signal"),
    "contradicted": ("error", "the text contradicts the signal"),
    "duplicate_id": ("error", "one id, several samples"),
    "leak_patient": ("error", "one patient in several splits"),
    "leak_record": ("error", "one recording in several splits"),
    "duplicate": ("error", "the same record and the same text"),
    "duplicate_signal": ("warning", "the same signal under several names"),
    "near_duplicate": ("warning", "nearly the same signal under several names"),
    "names_sources": ("warning", "the text refers to the report or list that it was written from"),
    "quality": ("warning", "the signal cannot be measured"),
}
Faults = Iterator[tuple[str, str]]  # kind, message


@dataclass(frozen=True)
class ValidationReport:
    """Result of a validation.

    Attributes:
        samples: Number of validated samples.
        faults: Dicts with ``id``, ``file``, ``kind``, ``severity``, ``message``.
        labels: Findings that the answers state → number of samples.
        kinds: Kind of sample → number of samples.
        splits: Split → number of samples.
        lengths: Words per answer.
        turns: Turns per conversation.
    """

    samples: int
    faults: list[dict[str, Any]]
    labels: dict[str, int]
    kinds: dict[str, int]
    splits: dict[str, int]
    lengths: list[int]
    turns: list[int]

    def fails(self, fail_on: str = "error") -> bool:
        """Return whether there is a fault of this severity (``error``, ``warning``; ``never`` is never)."""
        wanted = {"error": ("error",), "warning": ("error", "warning"), "never": ()}
        if fail_on not in wanted:
            raise DataError(f"expected fail_on error, warning or never, got {fail_on!r}")
        return any(fault["severity"] in wanted[fail_on] for fault in self.faults)

    def counts(self) -> dict[str, int]:
        """Count faults by kind: errors first, then by frequency."""
        counts = Counter(fault["kind"] for fault in self.faults).most_common()
        return dict(sorted(counts, key=lambda pair: FAULTS[pair[0]][0]))

    def to_text(self) -> str:
        """Return a summary for a terminal."""
        lines = [f"{self.samples} samples, {len(self.faults)} faults"]
        lines += [f"{FAULTS[kind][0]:8} {n:6}  {kind}: {FAULTS[kind][1]}" for kind, n in self.counts().items()]
        return "\n".join(lines)

    def statistics(self) -> dict[str, Any]:
        """Return counts and distributions."""
        facts = {"samples": self.samples, "faults": self.counts(), "kinds": self.kinds, "splits": self.splits}
        lengths = {"words": _distribution(self.lengths), "turns": _distribution(self.turns)}
        return facts | {"labels": self.labels} | lengths

    def write(self, folder: str | os.PathLike[str]) -> None:
        """Write ``validation.json`` (statistics) and ``validation.jsonl`` (one line per fault)."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        lines = "".join(json.dumps(fault, ensure_ascii=False, default=str) + "\n" for fault in self.faults)
        write_atomically(folder / "validation.jsonl", lines.encode())
        write_atomically(folder / "validation.json", json.dumps(self.statistics(), indent=2).encode())


def _distribution(values: list[int]) -> dict[str, float]:
    """Return count, mean, and the 0, 5, 50, 95 and 100 % points."""
    import numpy as np

    if not values:
        return {}
    points = np.percentile(values, [0, 5, 50, 95, 100])
    names = ("min", "p5", "median", "p95", "max")
    return {"n": len(values), "mean": round(float(np.mean(values)), 1)} | dict(zip(names, map(float, points)))


@dataclass(frozen=True)
class CheckSample:
    """Checks one sample on its own; picklable.

    Args:
        paths: Leading folders in the samples → folders here.
        renderer: Renderer of the images, or None to try the usual layouts.
        threshold: Minimum agreement of an image with its signal.
        contract: Signal contract of the reader.
        texts: Verify the claims of the answers against the signal.
    """

    paths: Mapping[str, str] = field(default_factory=dict)
    renderer: Any = None
    threshold: float = 0.5
    contract: str = "clean"
    texts: bool = True

    def __call__(self, item: Mapping[str, Any]) -> dict[str, Any]:
        """Return one row: facts of the sample, and its faults."""
        row: dict[str, Any] = {"id": item["name"], "file": Path(item["file"]).name, "faults": [], "text": ""}
        row["split"] = item["split"]
        try:
            original = read_item(item)
            known = SourceRecord.from_sample(original)
        except (DataError, ValueError) as error:
            return row | {"faults": [("malformed", str(error))]}
        sample = original.mapped(self.paths)
        answers = "\n".join(turn["value"] for turn in sample.conversations if turn["from"] == "gpt")
        text = " ".join(" ".join(turn["value"] for turn in sample.conversations).split())
        row |= {
            "id": sample.id,
            "record": original.ecg,
            "patient": original.metadata.get("patient"),
            "split": item["split"] or original.metadata.get("split") or "train",
            "kind": original.metadata.get("kind") or "unknown",
            "text": hashlib.blake2b(text.encode(), digest_size=12).hexdigest(),
            "n_words": len(answers.split()),
            "turns": len(sample.conversations) // 2,
            "labels": _labels(answers),
        }
        faults = list(_form_faults(sample))
        measured, found = self._measure(sample, known)
        faults += found
        if measured is not None:
            row |= {"signal": measured.digest, "signature": measured.signature}
            faults += self._image_faults(sample, measured)
            faults += self._text_faults(answers, measured, sample.report)
        else:
            faults += [("missing_image", name) for name in sample.missing_images]
        return row | {"faults": faults}

    def _measure(
        self, sample: InstructionSample, known: SourceRecord
    ) -> tuple[_Measured | None, list[tuple[str, str]]]:
        ref = sample.record
        if ref is None:
            return None, []
        try:
            # age and sex of the sample, since criteria depend on them
            return _measured(ref, known.age, known.sex, self.contract, self.texts), []
        except FileNotFoundError as error:
            return None, [("missing_record", str(error))]
        except (EcgReadError, ValueError, OSError) as error:
            return None, [("corrupt_record" if ref.exists else "missing_record", str(error))]

    def _image_faults(self, sample: InstructionSample, measured: _Measured) -> Faults:
        missing = sample.missing_images
        yield from (("missing_image", name) for name in missing)
        for source in sample.images:
            if source in missing:
                continue
            try:
                image = read_image(source)
            except DataError as error:
                yield "corrupt_image", str(error)
                continue
            seed = sample.metadata.get("image_seed")
            shown, score = image_shows(image, measured.record, self.renderer, seed, self.threshold)
            if not shown:
                name = "the embedded image" if isinstance(source, bytes) else Path(source).name
                yield "image_mismatch", f"{name}: the agreement of its traces with the signal is only {score:.2f}"

    def _text_faults(self, answers: str, measured: _Measured, report: str | None) -> Faults:
        from gem_lightning.generation.gate import Gate

        if not self.texts or measured.features is None:
            return
        if measured.features.reason is not None:
            yield "quality", measured.features.reason
            return
        gate = Gate(max_words=10**6, min_claims=0, all_numbers=False)  # contradictions and sources alone count here
        for problem in gate.check(answers, measured.features, measured.findings, report).problems:
            if problem.category.startswith("contradicted"):
                yield "contradicted", problem.message
            elif problem.category == "names its sources":
                yield "names_sources", problem.message


@dataclass(frozen=True)
class _Measured:
    record: Any
    features: Any
    findings: Any
    digest: str
    signature: str


@lru_cache(maxsize=16)
def _measured(ref: Any, age: float | None, sex: str | None, contract: str, texts: bool) -> _Measured:
    """Measure a record once for consecutive samples of it."""
    from gem_lightning.features import findings, measure

    record = SourceRecord("", None, age=age, sex=sex).with_patient(ref.read(contract=contract))
    digest = hashlib.blake2b(record.signal.tobytes(), digest_size=12).hexdigest()
    features = measure(record) if texts else None
    found = () if features is None else findings(features)
    return _Measured(record, features, found, digest, signature(record))


def _form_faults(sample: InstructionSample) -> Faults:
    turns = sample.conversations
    if not turns or len(turns) % 2:
        yield "malformed", f"{len(turns)} turns; questions and answers come in pairs"
        return
    wrong = [t["from"] for i, t in enumerate(turns) if t["from"] != ("human", "gpt")[i % 2]]
    if wrong:
        yield "malformed", f"turns of {', '.join(wrong)} out of order; human and gpt alternate"
    if any(not str(turn["value"]).strip() for turn in turns):
        yield "malformed", "an empty turn"
    markers = sum(str(turn["value"]).count("<image>") for turn in turns)
    if markers != (1 if sample.ecg or sample.image else 0):
        yield "malformed", f"{markers} <image> markers; expected one with a signal or image, else none"


def _labels(answers: str) -> list[str]:
    from gem_lightning.generation.gate import report_codes

    return sorted(report_codes(answers))


class DataValidator:
    """Validates sample files.

    Args:
        data: A sample file, or split → file. In a single file the samples' own ``split`` counts.
        paths: Leading folders in the samples → folders here.
        renderer: Renderer of the images (an ``EcgRenderer``), or None to try the usual layouts.
        threshold: Minimum agreement of an image with its signal.
        near: Similarity from which two signals are near-duplicates.
        contract: Signal contract of the reader.
        texts: Verify the claims of the answers against the signal.
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
        self.check = CheckSample(folders | dict(paths or {}), renderer, threshold, contract, texts)

    def validate(self, workers: int | None = None, show: Callable[[Progress], None] | None = None) -> ValidationReport:
        """Check every sample on its own, then compare them with each other.

        Args:
            workers: Number of processes; None takes all cores, 0 works in this one.
            show: Called with the progress.
        """
        with tempfile.TemporaryDirectory(prefix="validate") as scratch:
            folder = JobFolder(scratch, self._items(), suffix=".jsonl", block=64)
            run(folder, self.check, workers, show=show)
            rows = [json.loads(line) for b in range(len(folder.spans)) for line in folder.shard(b).open("rb")]
            broken = list(folder.broken())
        faults = [
            {"id": row["id"], "file": row["file"], "kind": kind, "message": message}
            for row in rows
            for kind, message in row["faults"]
        ]
        faults += [{**b, "file": "", "kind": "corrupt_record", "message": b["reason"]} for b in broken]
        faults += compare_samples(rows, self.near)
        parsed = [row for row in rows if "kind" in row]
        return ValidationReport(
            samples=len(rows) + len(broken),
            faults=[{"severity": FAULTS[fault["kind"]][0]} | fault for fault in faults],
            labels=dict(Counter(label for row in parsed for label in row["labels"]).most_common()),
            kinds=dict(Counter(row["kind"] for row in parsed).most_common()),
            splits=dict(Counter(row["split"] or "unknown" for row in rows).most_common()),
            lengths=[row["n_words"] for row in parsed],
            turns=[row["turns"] for row in parsed],
        )

    def _items(self) -> Iterator[dict[str, Any]]:
        for split, file in self.files.items():
            for item in sample_items(file):
                name = f"item {item['id']} of {Path(file).name}"
                yield item | {"id": name if split is None else f"{split}: {name}", "name": name, "split": split}
