"""One object: a record in, a checked interpretation out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from gem_lightning.ecg.record import EcgRecord
from gem_lightning.errors import DataError
from gem_lightning.models.compat import load_gem
from gem_lightning.models.generation import generate_texts
from gem_lightning.models.processing_gem import GemProcessor
from gem_lightning.samples.sample import DEFAULT_QUESTION

if TYPE_CHECKING:
    from gem_lightning.claims.report import ClaimReport
    from gem_lightning.features import EcgFeatures
    from gem_lightning.models.configuration_gem import GemConfig

RecordLike = EcgRecord | str | os.PathLike | bytes


def modalities(config: GemConfig) -> tuple[str, ...]:
    """What a model can look at: ``ecg``, ``image``; a part that was drawn at random does not count.

    Raises:
        DataError: Nothing.
    """
    fresh = set(config.fresh_parts or ())
    able = []
    if config.ecg_config is not None and not fresh & {"ecg_tower", "ecg_projector", "multi_modal_projector"}:
        able.append("ecg")
    if config.vision_config is not None and not fresh & {"vision_tower", "multi_modal_projector"}:
        able.append("image")
    if not able:
        raise DataError(
            f"expected a model with a trained tower, got one whose {sorted(fresh)} were drawn at random; "
            "train it first, or pass ecg_tower= and vision_tower="
        )
    return tuple(able)


@dataclass(frozen=True)
class Interpretation:
    """What the model says about a record, and what the record says about that.

    Attributes:
        text: The answer.
        claims: Every claim in the answer, checked against the record's own measurements.
        features: The measurements.
        image: uint8 (H, W, 3): the picture that the model saw, or would have seen.
    """

    text: str
    claims: ClaimReport
    features: EcgFeatures
    image: np.ndarray

    def __repr__(self) -> str:
        return f"Interpretation({self.text!r}, {len(self.claims.verdicts)} claims checked)"


class Gem:
    """A network, its processor and a renderer. Research software, not a medical device.

    Args:
        model: A ``GemForConditionalGeneration``.
        processor: Its processor.
        renderer: Draws records (an ``EcgRenderer``); None draws the standard page.
    """

    def __init__(self, model: Any, processor: GemProcessor, renderer: Any = None) -> None:
        if renderer is None:
            from gem_lightning.render import EcgRenderer

            renderer = EcgRenderer()
        self.model, self.processor, self.renderer = model, processor, renderer

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
        return cls(*loaded, renderer=renderer)

    def interpret(
        self,
        record: RecordLike,
        question: str | None = None,
        image: np.ndarray | None = None,
        max_new_tokens: int = 512,
        reading: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> Interpretation:
        """Ask about one record.

        Args:
            record: A record, or a file that :func:`gem_lightning.ecg.read_ecg` reads.
            question: What to ask; None asks for an interpretation.
            image: A photograph or scan in place of the drawn page, uint8 (H, W, 3).
            max_new_tokens: Longest answer.
            reading: What a file does not say itself, for ``read_ecg``: ``fs``, ``units``, ``lead_names``.
            **settings: For ``generate``, such as ``do_sample=True``.

        Raises:
            EcgReadError: The file cannot be read.
            DataError: The model has no trained part that could look at a record.
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
        """:meth:`interpret` for several records at a time; each gets the answer it would get alone."""
        from gem_lightning.claims.verify import verify
        from gem_lightning.features.measure import measure

        told = reading or {}
        clean = [_read(record, "clean", told) for record in records]
        seen = clean if self.processor.contract == "clean" else [_read(record, "gem", told) for record in records]
        pictures = list(images) if images is not None else [self.renderer(record).image for record in clean]
        looks_at = modalities(self.model.config)
        examples = [
            {"question": question or DEFAULT_QUESTION}
            | ({"record": record} if "ecg" in looks_at else {})
            | ({"image": picture} if "image" in looks_at else {})
            for record, picture in zip(seen, pictures, strict=True)
        ]
        texts = generate_texts(self.model, self.processor, examples, max_new_tokens, batch_size, **settings)
        features = [measure(record) for record in clean]
        return [
            Interpretation(text, verify(text, measured), measured, picture)
            for text, measured, picture in zip(texts, features, pictures, strict=True)
        ]

    def save_pretrained(self, folder: str | os.PathLike) -> None:
        """Write model, processor, generation settings and a model card."""
        self.model.save_pretrained(folder)
        self.processor.save_pretrained(folder)

    def push_to_hub(self, repo_id: str, **options: Any) -> None:
        """Upload what :meth:`save_pretrained` writes."""
        self.model.push_to_hub(repo_id, **options)
        self.processor.push_to_hub(repo_id, **options)


def _read(record: RecordLike, contract: str, reading: Mapping[str, Any]) -> EcgRecord:
    if isinstance(record, EcgRecord):
        return record
    from gem_lightning.ecg import read_ecg

    place = Path(record) if isinstance(record, (str, os.PathLike)) else record
    return read_ecg(place, contract=contract, **reading)
