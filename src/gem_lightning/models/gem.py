"""High-level interface: a record in, a verified interpretation out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from gem_lightning.ecg.record import EcgRecord
from gem_lightning.errors import DataError
from gem_lightning.models.compat import load_gem
from gem_lightning.models.generation import generate_texts
from gem_lightning.models.processing_gem import GemProcessor
from gem_lightning.reporting.interpretation import Interpretation
from gem_lightning.samples.sample import DEFAULT_QUESTION

if TYPE_CHECKING:
    from gem_lightning.models.configuration_gem import GemConfig

RecordLike = EcgRecord | str | os.PathLike | bytes


def modalities(config: GemConfig) -> tuple[str, ...]:
    """List a model's inputs, ``ecg`` and ``image``; a randomly initialised part does not count.

    Raises:
        DataError: Every tower or projector is randomly initialised.
    """
    untrained = set(config.fresh_parts or ())
    able = []
    if config.ecg_config is not None and not untrained & {"ecg_tower", "ecg_projector", "multi_modal_projector"}:
        able.append("ecg")
    if config.vision_config is not None and not untrained & {"vision_tower", "multi_modal_projector"}:
        able.append("image")
    if not able:
        raise DataError(
            f"expected a model with a trained tower, got one whose {sorted(untrained)} are randomly initialised; "
            "train it first, or pass ecg_tower= and vision_tower="
        )
    return tuple(able)


class Gem:
    """A network, its processor and a renderer. Research software, not a medical device.

    Args:
        model: A ``GemForConditionalGeneration``.
        processor: Its processor.
        renderer: Draws records (an ``EcgRenderer``); None draws the standard page.
        name: Of the model, for the provenance of interpretations.
    """

    def __init__(self, model: Any, processor: GemProcessor, renderer: Any = None, name: str = "") -> None:
        if renderer is None:
            from gem_lightning.render import EcgRenderer

            renderer = EcgRenderer()
        self.model, self.processor, self.renderer, self.name = model, processor, renderer, name

    @classmethod
    def from_pretrained(
        cls,
        path: str | os.PathLike,
        ecg_tower: str | os.PathLike | None = None,
        vision_tower: str | os.PathLike | None = None,
        quantization_config: Any = None,
        dtype: torch.dtype | None = None,
        device: Any = None,
        renderer: Any = None,
        **options: Any,
    ) -> Gem:
        """Load a model of any known layout; see :func:`gem_lightning.models.compat.load.load_gem` for the arguments.

        Args:
            path: Folder or hub id.
            ecg_tower: ECG-CoCa's checkpoint, where the model has no ECG weights.
            vision_tower: Folder or hub id of the image tower, where the model does not hold it.
            quantization_config: ``nf4``, ``int8`` or a ``BitsAndBytesConfig``.
            dtype: Of the weights in memory.
            device: None means the GPU if there is one.
            renderer: Draws records; None draws the standard page.
            **options: ``base``, ``ecg_config``, ``attention`` and settings of the processor.

        Raises:
            CheckpointError: There is no such model, or its files do not fit.
        """
        device = device or ("cuda" if torch.cuda.is_available() else None)
        loaded = load_gem(path, ecg_tower, vision_tower, quantization_config, dtype, device, **options)
        return cls(*loaded, renderer=renderer, name=os.fspath(path))

    def interpret(
        self,
        record: RecordLike,
        question: str | None = None,
        image: np.ndarray | None = None,
        max_new_tokens: int = 512,
        reading: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> Interpretation:
        """Interpret one record or answer a question about it.

        Args:
            record: A record, or a file that :func:`gem_lightning.ecg.read_ecg` reads.
            question: None requests an interpretation.
            image: A photograph or scan in place of the drawn page, uint8 (H, W, 3).
            max_new_tokens: Longest answer.
            reading: What a file does not state itself, for ``read_ecg``: ``fs``, ``units``, ``lead_names``.
            **settings: For ``generate``, such as ``do_sample=True``.

        Raises:
            EcgReadError: The file cannot be read.
            DataError: The model has no trained tower.
        """
        images = None if image is None else [image]
        return self.interpret_many([record], question, images, max_new_tokens, reading=reading, **settings)[0]

    def interpret_many(
        self,
        records: Sequence[RecordLike],
        question: str | None = None,
        images: Sequence[np.ndarray] | None = None,
        max_new_tokens: int = 512,
        batch_size: int = 8,
        reading: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> list[Interpretation]:
        """Interpret several records in batches; each gets the answer that it would get alone."""
        contract = self.processor.contract
        read = [_read(record, contract, reading or {}) for record in records]
        looks_at = modalities(self.model.config)
        if images is None and "image" in looks_at:
            images = [self.renderer(clean).image for clean, _ in read]
        seen = [None] * len(read) if images is None else list(images)
        examples = [
            {"question": question or DEFAULT_QUESTION}
            | ({"record": record} if "ecg" in looks_at else {})
            | ({"image": image} if "image" in looks_at else {})
            for (_, record), image in zip(read, seen, strict=True)
        ]
        texts = generate_texts(self.model, self.processor, examples, max_new_tokens, batch_size, **settings)
        model = f"model {self.name}" if self.name else ""
        return [
            Interpretation.of(text, clean, question or "", model, image)
            for text, (clean, _), image in zip(texts, read, seen, strict=True)
        ]

    def save_pretrained(self, folder: str | os.PathLike) -> None:
        """Write model, processor, generation settings and a model card."""
        self.model.save_pretrained(folder)
        self.processor.save_pretrained(folder)

    def push_to_hub(self, repo_id: str, **options: Any) -> None:
        """Upload what :meth:`save_pretrained` writes."""
        self.model.push_to_hub(repo_id, **options)
        self.processor.push_to_hub(repo_id, **options)


def _read(record: RecordLike, contract: str, reading: Mapping[str, Any]) -> tuple[EcgRecord, EcgRecord]:
    """The record for measuring and drawing, and as the model takes it; a file is read once."""
    if isinstance(record, EcgRecord):
        return record, record
    from gem_lightning.ecg.readers import read_contracts

    clean, *other = read_contracts(record, ("clean",) if contract == "clean" else ("clean", contract), **reading)
    return clean, (other[0] if other else clean)
