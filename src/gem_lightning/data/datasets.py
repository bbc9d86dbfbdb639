"""Dataset of instruction samples: read, rendered and tokenised one by one."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
from torch.utils.data import Dataset

from gem_lightning.data.batching import generator_for
from gem_lightning.data.lengths import too_long
from gem_lightning.data.mixture import Mixture
from gem_lightning.errors import DataError

if TYPE_CHECKING:
    from gem_lightning.ecg.record import EcgRecord
    from gem_lightning.render import EcgRenderer
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from gem_lightning.samples.sample import InstructionSample

_PAIR = re.compile(r"(<ecg>)(\s*)(<image>)|(<image>)(\s*)(<ecg>)")


@dataclass(frozen=True)
class ModalityDropout:
    """What ECG-R1 (arXiv:2602.04279) calls interleaved modality dropout, with its published values.

    A sample with both modalities loses one of them, either with the same chance; one that keeps both may have the
    image before the ECG. A sample with one modality keeps it.

    Args:
        dropout: Chance that a modality is left out.
        interleave: Chance that the order changes.

    Raises:
        DataError: A chance is not between 0 and 1.
    """

    dropout: float = 0.5
    interleave: float = 0.1

    def __post_init__(self) -> None:
        if not (0 <= self.dropout <= 1 and 0 <= self.interleave <= 1):
            raise DataError(f"expected chances from 0 to 1, got dropout={self.dropout}, interleave={self.interleave}")

    def __call__(self, draw: np.random.Generator) -> tuple[str | None, bool]:
        """(modality to leave out: ``ecg``, ``image`` or None; whether the order changes) of one sample with both."""
        left_out = ("ecg", "image")[int(draw.integers(2))] if draw.random() < self.dropout else None
        return left_out, left_out is None and draw.random() < self.interleave


def swap_markers(turns: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """Swap each pair of ECG and image in a conversation.

    A lone ``<image>`` stands for both, ECG first, and becomes ``<image><ecg>``; ``<ecg><image>`` becomes
    ``<image><ecg>`` and the other way round.
    """

    def other(pair: re.Match[str]) -> str:
        return f"<image>{pair[2]}<ecg>" if pair[1] else f"<ecg>{pair[5]}<image>"

    lone = not any("<ecg>" in turn["value"] for turn in turns)
    return [
        {**turn, "value": turn["value"].replace("<image>", "<image><ecg>") if lone else _PAIR.sub(other, turn["value"])}
        for turn in turns
    ]


Templates = str | Sequence[str] | Mapping[str, str | Sequence[str]]
_MARKER = re.compile(r"<image>|<ecg>")


class QuestionTemplates:
    """Other wordings of each sample's first question, one of several chosen at random each epoch.

    Args:
        templates: A text, several, or kind of sample (its ``kind``) → those; other kinds keep their question.
            ``{question}`` stands for the sample's own, other names in braces for its own facts, such as ``{age}``.
    """

    def __init__(self, templates: Templates) -> None:
        by_kind = templates if isinstance(templates, Mapping) else {None: templates}
        self.templates = {kind: [texts] if isinstance(texts, str) else list(texts) for kind, texts in by_kind.items()}

    def __call__(self, sample: InstructionSample, draw: np.random.Generator) -> list[dict[str, str]]:
        """Return the turns with another wording of the first question; markers of signal and image stay before it.

        Raises:
            DataError: A template names what the sample does not have.
        """
        texts = self.templates.get(None) or self.templates.get(sample.metadata.get("kind"))
        place = next((i for i, turn in enumerate(sample.conversations) if turn["from"] == "human"), None)
        if not texts or place is None:
            return sample.conversations
        old = sample.conversations[place]["value"]
        facts = {"question": _MARKER.sub("", old).strip(), **sample.metadata}
        try:
            text = texts[int(draw.integers(len(texts)))].format_map(facts)
        except KeyError as name:
            raise DataError(f"a question template uses {name}; this sample has: {', '.join(facts)}") from None
        if not _MARKER.search(text):
            text = "\n".join([*_MARKER.findall(old), text])
        turns = list(sample.conversations)
        turns[place] = {"from": "human", "value": text}
        return turns


logger = logging.getLogger(__name__)

Targets = Callable[[InstructionSample, np.ndarray], Mapping[str, np.ndarray] | None]
LONG_SAMPLES = ("cut", "skip", "stop")
_IN_A_ROW = 16  # skipped samples in a row that mean a broken data set rather than a few bad files (our choice)


class InstructionDataset(Dataset[dict[str, Any]]):
    """One training item per sample, with the signal read and the image drawn on the way.

    Items are indexed by ``(epoch, index)``, so that an image's random artifacts and the wording of a question are a
    function of (seed, epoch, index) only.

    Args:
        samples: Instruction samples by index, with their lengths.
        processor: A ``GemProcessor``.
        renderer: Draws records; None takes the samples' stored images.
        draw: Which records the renderer draws: ``always`` all, ``missing`` those without an image file, ``never`` none.
        contract: Signal contract of :func:`gem_lightning.ecg.read_ecg`.
        max_length: Longest sample in tokens; None keeps all.
        long_samples: A longer one: ``cut`` removes its end (``cut`` of the item is then true), ``skip`` warns and
            replaces it by the next one, ``stop`` raises.
        seed: Of images and questions.
        question: Other wordings of the first question, see :class:`QuestionTemplates`; None keeps the samples' own.
        unreadable: A sample that cannot be read: ``stop`` raises, ``skip`` warns and puts the next one in its place.
        modalities: Leaves modalities out and changes their order, see :class:`ModalityDropout`; None keeps them.
        targets: Makes what the ECG encoder is supervised with, name → array, from the sample and its signal
            (leads, samples); None where nothing is known of a sample. None supervises no encoder.

    Raises:
        DataError: ``long_samples`` is none of the three.
    """

    def __init__(
        self,
        samples: Mixture,
        processor: Any,
        renderer: EcgRenderer | None = None,
        contract: str = "clean",
        max_length: int | None = None,
        seed: int = 0,
        question: Templates | None = None,
        unreadable: str = "stop",
        modalities: ModalityDropout | None = None,
        long_samples: str = "cut",
        draw: str = "always",
        targets: Targets | None = None,
    ) -> None:
        if long_samples not in LONG_SAMPLES:
            raise DataError(f"expected long_samples={' or '.join(LONG_SAMPLES)}, got {long_samples!r}")
        self.samples, self.processor = samples, processor
        self.renderer, self.draw = (None if draw == "never" else renderer), draw
        self.contract, self.max_length, self.seed = contract, max_length, seed
        self.question = None if question is None else QuestionTemplates(question)
        self.unreadable, self.modalities, self.long_samples = unreadable, modalities, long_samples
        self.targets = targets

    @property
    def cut_at(self) -> int | None:
        """Tokens after which a sample is cut; None where none is."""
        return self.max_length if self.long_samples == "cut" else None

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Any]:
        """Return tokens and labels of one sample, with its signal and image where it has them.

        ``skipped`` is the number of samples skipped before it.

        Raises:
            DataError: The sample's record or image cannot be read, or it is too long; the message names the sample.
        """
        epoch, index = key if isinstance(key, tuple) else (0, key)
        for place in range(index, index + _IN_A_ROW):
            try:
                item = self._item(epoch, place % len(self))
            except DataError as error:
                if self.unreadable == "stop":
                    raise
                fault = str(error)
            else:
                tokens = len(item["input_ids"])
                if self.max_length is None or tokens <= self.max_length:
                    return item | {"skipped": place - index}
                if self.long_samples == "stop":
                    raise DataError(too_long(item["id"], tokens, self.max_length))
                fault = f"sample {item['id']!r}: {tokens:,} tokens, which is more than {self.max_length:,}"
            logger.warning("%s; the next sample takes its place", fault)
        raise DataError(f"{_IN_A_ROW} samples in a row cannot be used, from index {index} on; see the warnings")

    def _item(self, epoch: int, index: int) -> dict[str, Any]:
        sample = self.samples[index]
        draw = generator_for(self.seed, epoch, index)
        try:
            left_out, swapped = None, False
            if self.modalities is not None and all(self.holds(sample)):
                left_out, swapped = self.modalities(generator_for(self.seed, epoch, index, 1))
            record = self.record(sample)
            look = int(draw.integers(2**31))  # the renderer's seeds are int32
            image = None if left_out == "image" else self.image(sample, record, look)
            turns = sample.conversations if self.question is None else self.question(sample, draw)
            item = self.encode(
                swap_markers(turns) if swapped else turns,
                ecgs=[] if record is None or left_out == "ecg" else [record],
                images=[] if image is None else [image],
            )
            if self.targets is not None and "ecg_values" in item:
                item["targets"] = self.targets(sample, item["ecg_values"][0].numpy())
        except (ValueError, OSError) as error:
            raise DataError(f"sample {sample.id!r}: {error}") from error
        return {"id": sample.id, **item}

    def encode(self, turns: Sequence[dict[str, str]], ecgs: list[Any], images: list[Any]) -> dict[str, Any]:
        """Encode a conversation with its data."""
        return self.processor.encode(turns, ecgs, images, self.cut_at)

    def holds(self, sample: InstructionSample) -> tuple[bool, bool]:
        """Return whether a sample has a signal, and an image (stored, or to be drawn)."""
        signal = sample.ecg_record is not None or sample.record is not None
        stored = sample.image_bytes is not None or sample.image is not None
        return signal, stored or (signal and self.renderer is not None)

    def placeholders(self, index: int, whole: bool = False) -> dict[str, Any]:
        """``input_ids`` and ``labels`` of one sample with all its modalities; neither signal nor image is read.

        Args:
            index: Of the sample.
            whole: Before any cut.

        Raises:
            DataError: The images differ in their numbers of tokens (stored ones cut into tiles).
        """
        sample = self.samples[index]
        has_ecg, has_image = self.holds(sample)
        sizes = None
        if has_image and self.processor.image.image_mode == "anyres":
            if self.renderer is None or self.draw != "always":
                raise DataError(
                    "expected images with one number of tokens, got stored ones in tiles; data.batches.pack_to=null"
                )
            sizes = [self.renderer.size[::-1]] * sum(turn["value"].count("<image>") for turn in sample.conversations)
        return self.processor.tokenize_conversation(
            sample.conversations, has_ecg, has_image, sizes, max_length=None if whole else self.cut_at
        )

    def example(self, index: int) -> dict[str, Any]:
        """Return one sample for display: ``id, sample, record, image, question, answer``."""
        sample = self.samples[index]
        record = self.record(sample)
        return {
            "id": str(sample.id),
            "sample": sample,
            "record": record,
            "image": self.image(sample, record, int(generator_for(self.seed, 0, index).integers(2**31))),
            "question": sample.question,
            "answer": sample.answer,
        }

    def record(self, sample: InstructionSample) -> EcgRecord | None:
        """Return the sample's signal under this data set's contract."""
        return sample.read_record(contract=self.contract)

    def image(self, sample: InstructionSample, record: EcgRecord | None, seed: int) -> np.ndarray | None:
        """uint8 (H, W, 3): drawn from the record with the artifacts of ``seed``, or the stored image."""
        drawn = self.draw == "always" or bool(sample.missing_images) or not sample.images
        if self.renderer is not None and record is not None and drawn:
            return self.renderer(record, seed=seed).image
        if sample.image_bytes is None and sample.image is None:
            return None
        from gem_lightning.render import load_ecg_image

        return load_ecg_image(sample.image_bytes if sample.image_bytes is not None else sample.image)
