"""Interpret many records: worker processes read, measure, draw and encode ahead of the model."""

from __future__ import annotations

import asyncio
import json
import logging
import pickle
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gem_lightning.ecg.record import EcgRecord
from gem_lightning.errors import DataError
from gem_lightning.jobs import Item, NoRoomError, Row, Workers, failure, file_name, write_atomically
from gem_lightning.models.gem import Gem
from gem_lightning.models.inference.generation import encode_example, record_seed
from gem_lightning.reporting.interpretation import Interpretation
from gem_lightning.reporting.measured import facts
from gem_lightning.revision.edit import Revision
from gem_lightning.samples.sample import InstructionSample, RecordRef
from gem_lightning.sources.record import SourceRecord

logger = logging.getLogger(__name__)

AUTO_BATCH = {"cuda": 64, "cpu": 32}
"""Records at a time where the batch size is ``auto``; halved for good whenever memory runs out. Ours."""

_DATA = ("ecg_values", "pixel_values")  # the tensors of an encoded example
_ENDINGS = {"html": "html", "fhir": "json"}


@dataclass(frozen=True)
class Prepared:
    """A record ready for the model and for verification; crosses process borders.

    Attributes:
        encoded: Input of the model; arrays in place of tensors.
        interpretation: All but the text and its claims.
        timings: Milliseconds of reading, measuring, and drawing with encoding.
    """

    encoded: dict[str, Any]
    interpretation: Interpretation
    timings: dict[str, float]


@dataclass(frozen=True)
class Preparer:
    """Reads, measures, draws and encodes one record; picklable.

    Args:
        processor: Of the model.
        renderer: Draws records whose item names no image.
        inputs: What the model reads, ``ecg`` and ``image``.
        question: In place of the items' own; None leaves them, and asks the usual one where an item has none.
        paths: Leading folders in references → folders here.
        reading: What the files do not state themselves, for ``read_ecg``.
        provenance: Which model.
    """

    processor: Any
    renderer: Any
    inputs: tuple[str, ...]
    question: str | None = None
    paths: Mapping[str, str] = field(default_factory=dict)
    reading: Mapping[str, Any] = field(default_factory=dict)
    provenance: str = ""

    def __call__(self, item: Item) -> Prepared:
        """Prepare the record of an item of :func:`cohort_item`.

        Raises:
            EcgReadError: The file cannot be read.
            DataError: The item names no ECG.
        """
        torch.set_num_threads(1)  # the processes already use all cores
        clock = [time.perf_counter()]
        clean, seen = self._read(SourceRecord.from_item(item["source"]))
        clock.append(time.perf_counter())
        draft = Interpretation.of("", clean, provenance=self.provenance)
        clock.append(time.perf_counter())
        question = item.get("question") if self.question is None else self.question
        image = self._image(item, clean) if "image" in self.inputs else None
        example = {"question": Gem.question_text(question)} | ({"record": seen} if "ecg" in self.inputs else {})
        encoded = encode_example(self.processor, example | ({} if image is None else {"image": image}))
        clock.append(time.perf_counter())
        spent = dict(zip(("read_ms", "measure_ms", "encode_ms"), np.diff(clock) * 1e3))
        draft = replace(draft, question=question or "")
        return Prepared(_plain(encoded), draft, {k: round(v, 2) for k, v in spent.items()})

    def _read(self, source: SourceRecord) -> tuple[EcgRecord, EcgRecord]:
        """The record for measuring, with age and sex, and as the model takes it."""
        if source.ecg is None:
            raise DataError(f"expected an ECG to verify the text against, got none for {source.id}; leave it out")
        own = self.processor.contract
        contracts = ("clean",) if own == "clean" else ("clean", own)
        ref = RecordRef.parse(source.ecg, source.format).mapped(self.paths)
        clean, *other = ref.read_contracts(contracts, **self.reading)
        return source.with_patient(clean), (other[0] if other else clean)

    def _image(self, item: Item, record: EcgRecord) -> np.ndarray:
        if item.get("image") is None:
            return self.renderer(record).image
        from gem_lightning.render.load import load_ecg_image

        if not Path(item["image"]).is_file():
            raise DataError(
                f"expected the image {item['image']}, got no such file; name its folder (source.root, source.folders), "
                "or have it drawn from the signal (render_missing=true)"
            )
        return np.asarray(load_ecg_image(item["image"]))


def cohort_item(record: SourceRecord, paths: Mapping[str, str], render_missing: bool = False) -> Item:
    """The JSON-ready item of a source's record: its reference, and the question and image of an instruction sample.

    Args:
        record: Of the source.
        paths: Leading folders to folders here.
        render_missing: An image whose file is missing is drawn from the signal.
    """
    item: Item = {"id": record.id, "source": {**record.to_item(), "sample": None}}
    if record.sample is not None:
        sample = InstructionSample.from_dict(record.sample).mapped(paths)
        if sample.question:
            item["question"] = sample.question
        if sample.image and (not render_missing or Path(str(sample.image)).is_file()):
            item["image"] = str(sample.image)
    return item


def _prepare(place: str, item: Item) -> Prepared:
    return _load_preparer(place)(item)


@lru_cache(maxsize=1)
def _load_preparer(place: str) -> Preparer:
    """Load it once a process: with its tokenizer it is megabytes, too much for every call."""
    with open(place, "rb") as file:
        preparer: Preparer = pickle.load(file)
    return preparer


class CohortRunner:
    """Interprets blocks of items: prepared by worker processes, answered by the model one block at a time.

    Args:
        write: ``generate_encoded`` of the model, or another that answers like it, such as a ``VllmWriter``.
        preparer: Prepares the records.
        workers: Worker processes; closed with this object.
        max_new_tokens: Longest answer.
        batch_size: Records at a time, or ``auto``.
        seed: Of sampled answers; each depends on it and on its record's id alone.
        folders: ``html`` and ``fhir`` → folder for a file per record; what is not named is not written.
        verified: ``verified_answers`` of the model with its options; in place of ``write`` where texts are verified
            while they are written.

    Attributes:
        waited_s: Time that the model waited for records.
        busy_s: Time that the model wrote.
    """

    def __init__(
        self,
        write: Callable[..., list[str]],
        preparer: Preparer,
        workers: Workers,
        max_new_tokens: int,
        batch_size: int | str,
        seed: int,
        folders: Mapping[str, Path] | None = None,
        verified: Callable[..., Iterable[Revision]] | None = None,
    ) -> None:
        self.write, self.workers, self.verified = write, workers, verified
        self.max_new_tokens, self.seed, self.folders = max_new_tokens, seed, folders or {}
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.batch_size = AUTO_BATCH[device] if batch_size == "auto" else int(batch_size)
        self.waited_s = self.busy_s = 0.0
        self._idle_since: float | None = None
        self._model = asyncio.Lock()
        self._thread = ThreadPoolExecutor(1)  # one thread: each of several would keep memory of its own
        handle, self._place = tempfile.mkstemp(suffix=".pickle")
        with open(handle, "wb") as file:
            pickle.dump(preparer, file)

    def close(self) -> None:
        """Shut down the workers."""
        self.workers.close()
        self._thread.shutdown(wait=False)
        Path(self._place).unlink(missing_ok=True)

    async def __call__(self, items: list[Item]) -> tuple[list[Row], list[Row]]:
        """Interpret the items of one block; return their rows and the broken ones."""
        outcomes = await asyncio.gather(*(self._prepare(item) for item in items), return_exceptions=True)
        fatal = next((o for o in outcomes if isinstance(o, BaseException) and not isinstance(o, Exception)), None)
        if fatal is not None:
            raise fatal
        prepared = [(item, o) for item, o in zip(items, outcomes, strict=True) if isinstance(o, Prepared)]
        good = [(item, o) for item, o in prepared if o.interpretation.without_model() is None]
        async with self._model:
            if self._idle_since is not None:
                self.waited_s += time.perf_counter() - self._idle_since
            start = time.perf_counter()
            answers = await asyncio.get_running_loop().run_in_executor(self._thread, self._answers, good)
            self._idle_since = time.perf_counter()
            self.busy_s += self._idle_since - start
        texts = dict(zip((item["id"] for item, _ in good), answers, strict=True))
        rows: list[Row] = []
        broken: list[Row] = []
        for item, outcome in zip(items, outcomes, strict=True):
            answer = texts.get(item["id"], "" if isinstance(outcome, Prepared) else outcome)
            if isinstance(answer, BaseException) or not isinstance(outcome, Prepared):
                broken.append(failure(item, answer))  # type: ignore[arg-type]
                continue
            try:
                rows.append(self._row(item, outcome, answer))
            except NoRoomError:
                raise
            except Exception as error:  # one record's text must not cost the others theirs
                broken.append(failure(item, error))
        return rows, broken

    async def _prepare(self, item: Item) -> Prepared:
        prepared: Prepared = await self.workers(_prepare, self._place, item)
        return prepared

    def _answers(self, good: Sequence[tuple[Item, Prepared]]) -> list[str | Revision | Exception]:
        """Texts in order; a batch that fails is repeated in halves, down to the record whose fault it is."""
        if not good:
            return []
        seeds = [record_seed(self.seed, item["id"]) for item, _ in good]
        encoded = [_tensors(prepared.encoded) for _, prepared in good]
        limits = {"max_new_tokens": self.max_new_tokens, "batch_size": self.batch_size}
        try:
            if self.verified is None:
                return list(self.write(encoded, seeds=seeds, **limits))
            known = [(p.interpretation.features, p.interpretation.findings) for _, p in good]
            return list(self.verified(encoded, known, max_new_tokens=self.max_new_tokens, seeds=seeds))
        except NoRoomError:
            raise
        except torch.OutOfMemoryError as error:
            torch.cuda.empty_cache()
            if self.batch_size == 1:
                return self._halves(good) if len(good) > 1 else [error]
            self.batch_size = max(1, min(self.batch_size, len(good)) // 2)
            logger.warning("memory ran out: batches of %d from here on", self.batch_size)
            return self._answers(good)
        except Exception as error:  # one record's fault is its own
            if len(good) == 1:
                return [error]
            logger.warning("a batch of %d failed (%s); it is repeated in halves", len(good), error)
            return self._halves(good)

    def _halves(self, good: Sequence[tuple[Item, Prepared]]) -> list[str | Revision | Exception]:
        half = len(good) // 2
        return self._answers(good[:half]) + self._answers(good[half:])

    def _row(self, item: Item, prepared: Prepared, text: str | Revision) -> Row:
        start = time.perf_counter()
        done = prepared.interpretation.without_model() or prepared.interpretation.written(text)
        timings = prepared.timings | {"verify_ms": round(1e3 * (time.perf_counter() - start), 2)}
        for kind, folder in self.folders.items():
            content = done.to_html() if kind == "html" else json.dumps(done.to_fhir(item["id"]), ensure_ascii=False)
            folder.mkdir(parents=True, exist_ok=True)
            write_atomically(folder / f"{file_name(item['id'])}.{_ENDINGS[kind]}", content.encode())
        file = item["source"].get("ecg")
        known = {"id": item["id"], "record": file, **facts(str(file), done)}
        return {**known, **done.to_dict(), "timings": timings, "error": None}


def _plain(encoded: Mapping[str, Any]) -> dict[str, Any]:
    """Arrays in place of tensors: tensors cross process borders through files that a killed process leaves behind."""
    return {name: _convert(value, torch.Tensor.numpy) if name in _DATA else value for name, value in encoded.items()}


def _tensors(encoded: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _convert(value, torch.from_numpy) if name in _DATA else value for name, value in encoded.items()}


def _convert(value: Any, function: Callable[[Any], Any]) -> Any:
    return [function(one) for one in value] if isinstance(value, list) else function(value)
