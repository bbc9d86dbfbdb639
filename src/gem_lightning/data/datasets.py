"""Instruction samples as network inputs: read, drawn and tokenised one by one."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch.utils.data import Dataset

from gem_lightning.data.batching import generator_for
from gem_lightning.errors import DataError
from gem_lightning.grounding.sample import InstructionSample, SampleFile, read_samples

if TYPE_CHECKING:
    from gem_lightning.ecg.record import EcgRecord
    from gem_lightning.render import EcgRenderer

_CHARACTERS_PER_TOKEN = 4  # only the order of lengths matters where it is used


def open_samples(source: Any, paths: Mapping[str, str] | None = None) -> Sequence[InstructionSample]:
    """Samples by index from a file, a list or an object with ``samples()``.

    Args:
        source: ``.json``/``.jsonl``/``.parquet`` file, a sequence of samples, or for example a ``SimulatedCohort``.
        paths: Leading folders in the samples to folders here.

    Raises:
        DataError: The file is missing, empty or holds no samples.
    """
    if hasattr(source, "samples"):
        return source.samples()
    if isinstance(source, (str, os.PathLike)):
        name = os.fspath(source)
        samples: Sequence[InstructionSample]
        samples = list(read_samples(name, paths)) if name.endswith(".parquet") else SampleFile(name, paths)
    else:
        samples = list(source)
    if len(samples) == 0:
        raise DataError(f"expected at least one sample, got an empty split: {source}; check its path and filters")
    return samples


class InstructionDataset(Dataset[dict[str, Any]]):
    """One training item per sample, with the signal read and the picture drawn on the way.

    Items are asked for by ``(epoch, index)``, so that a picture's random flaws are a function of (seed, epoch, index)
    and of nothing else.

    Args:
        samples: Instruction samples by index.
        processor: A ``GemProcessor``.
        renderer: Draws the record; None takes the sample's stored picture.
        contract: Signal contract of :func:`gem_lightning.ecg.read_ecg`.
        max_length: Longest sample in tokens; the end of a longer one is cut and ``cut`` says so. None keeps all.
        seed: Of the pictures.
    """

    def __init__(
        self,
        samples: Sequence[InstructionSample],
        processor: Any,
        renderer: EcgRenderer | None = None,
        contract: str = "clean",
        max_length: int | None = None,
        seed: int = 0,
    ) -> None:
        self.samples, self.processor, self.renderer = samples, processor, renderer
        self.contract, self.max_length, self.seed = contract, max_length, seed

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def lengths(self) -> np.ndarray:
        """(samples,) approximate length of each text, for batching only."""
        if isinstance(self.samples, SampleFile):
            return np.diff(self.samples.spans, axis=1)[:, 0] // _CHARACTERS_PER_TOKEN
        texts = (sum(len(turn["value"]) for turn in s.conversations) for s in self.samples)
        return np.array([n // _CHARACTERS_PER_TOKEN for n in texts])

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Any]:
        """Tokens and labels of one sample, with its signal and picture where it has them.

        Raises:
            DataError: The sample's record or picture cannot be read; the message names the sample.
        """
        epoch, index = key if isinstance(key, tuple) else (0, key)
        sample = self.samples[index]
        try:
            record = self.record(sample)
            image = self.image(sample, record, epoch, index)
            item = self.processor.encode(
                sample.conversations,
                ecgs=[] if record is None else [record],
                images=[] if image is None else [image],
                max_length=self.max_length,
            )
        except ValueError as error:
            raise DataError(f"sample {sample.id!r}: {error}") from error
        return {"id": sample.id, **item}

    def example(self, index: int) -> dict[str, Any]:
        """One sample for people: ``id, sample, record, image, question, answer``."""
        sample = self.samples[index]
        record = self.record(sample)
        return {
            "id": str(sample.id),
            "sample": sample,
            "record": record,
            "image": self.image(sample, record, 0, index),
            "question": sample.question,
            "answer": sample.answer,
        }

    def record(self, sample: InstructionSample) -> EcgRecord | None:
        """The sample's signal under this data set's contract."""
        return None if sample.record is None else sample.record.read(contract=self.contract)

    def image(self, sample: InstructionSample, record: EcgRecord | None, epoch: int, index: int) -> np.ndarray | None:
        """uint8 (H, W, 3): drawn from the record, or the stored picture."""
        if self.renderer is not None and record is not None:
            seed = int(generator_for(self.seed, epoch, index).integers(2**31))
            return self.renderer(record, seed=seed).image
        if sample.image_bytes is None and sample.image is None:
            return None
        from gem_lightning.render import load_ecg_image

        return load_ecg_image(sample.image_bytes if sample.image_bytes is not None else sample.image)
