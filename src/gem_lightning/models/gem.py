"""High-level interface: a record in, a verified interpretation out."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from gem_lightning.composition.instrument import instrument_reading, with_instrument
from gem_lightning.ecg.record import EcgRecord
from gem_lightning.errors import DataError
from gem_lightning.models.compat import load_gem
from gem_lightning.models.inference.generation import (
    encode_example,
    generate_texts,
    option_likelihoods,
    record_seed,
)
from gem_lightning.models.processing_gem import GemProcessor
from gem_lightning.reporting.interpretation import Interpretation
from gem_lightning.revision.options import VerifyOptions
from gem_lightning.samples.sample import DEFAULT_QUESTION

if TYPE_CHECKING:
    from gem_lightning.features.schema import EcgFeatures
    from gem_lightning.models.configuration_gem import GemConfig
    from gem_lightning.models.inference.conversation import Conversation, Piece

RecordLike = EcgRecord | str | os.PathLike | bytes
_MARKERS = re.compile(r"<(ecg|image)>")  # in a question they are text, not places for data


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


class Prepared(NamedTuple):
    """One record: for measuring, as the model takes it, and its image where the model looks at one."""

    clean: EcgRecord
    seen: EcgRecord
    image: np.ndarray | None


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
            path: Folder, hub id, or ``gem_small``, which comes with the package.
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
        verify: str = "report",
        tries: int = 0,
        on_fail: str = "restate",
        complete: bool = False,
        instrument: bool | EcgFeatures = False,
        on_missing: str = "measure",
        **settings: Any,
    ) -> Interpretation:
        """Interpret one record or answer a question about it.

        Args:
            record: A record, or a file that :func:`gem_lightning.ecg.read_ecg` reads.
            question: None requests an interpretation. Markers such as ``<ecg>`` in it are text.
            image: A photograph or scan in place of the drawn page, uint8 (H, W, 3).
            max_new_tokens: Longest answer.
            reading: What a file does not state itself, for ``read_ecg``: ``fs``, ``units``, ``lead_names``.
            verify: ``report``, ``guide``, ``revise`` or ``rerank``: how the text is held to the measurements, see
                :class:`~gem_lightning.revision.options.VerifyOptions`, as for the next three.
            tries: Sentences or texts that are sampled in place of a contradicted one.
            on_fail: ``restate``, ``drop`` or ``flag`` a contradicted sentence.
            complete: Add measured abnormal and urgent findings that the text leaves out.
            instrument: Show the model an instrument's reading of rate, PR, QRS and QT, marked as such: True takes the
                library's own measurement. ``gem_small`` is trained on it, and not to follow a reading that its signal
                contradicts; other models may follow anything.
            on_missing: ``measure`` or ``model``: who writes about a digitised page, or leads of which much is missing.
            **settings: ``seed``, and those of ``generate``, such as ``do_sample=True``.

        Raises:
            EcgReadError: The file cannot be read.
            DataError: The model has no trained tower, or the question does not fit into its context.
            GemError: An option of verification is unknown.
        """
        images = None if image is None else [image]
        settings |= {"verify": verify, "tries": tries, "on_fail": on_fail, "complete": complete}
        readings = instrument if isinstance(instrument, bool) else [instrument]
        settings["on_missing"] = on_missing
        (found,) = self.interpret_many(
            [record], question, images, max_new_tokens, reading=reading, instrument=readings, **settings
        )
        if isinstance(found, Exception):
            raise found
        return found

    def interpret_many(
        self,
        records: Sequence[RecordLike],
        question: str | Sequence[str] | None = None,
        images: Sequence[np.ndarray] | None = None,
        max_new_tokens: int = 512,
        batch_size: int = 8,
        reading: Mapping[str, Any] | None = None,
        seed: int | None = None,
        questions: Sequence[str] | None = None,
        instrument: bool | Sequence[EcgFeatures] = False,
        **settings: Any,
    ) -> list[Interpretation | Exception]:
        """Interpret several records in batches; each gets the answer that it would get alone.

        Args:
            records: Records or files.
            question: For all records; ``questions`` may be given here too.
            images: Photographs or scans, one per record, in place of the drawn pages.
            max_new_tokens: Longest answer.
            batch_size: Records at a time.
            reading: What the files do not state themselves, for ``read_ecg``.
            seed: Of sampled answers: each depends on it and on the record alone. None takes torch's initial seed.
            questions: One per record.
            instrument: See :meth:`interpret`; readings are one per record.
            **settings: As of :meth:`interpret`; verified answers are written one after the other.

        Returns:
            In the order of ``records``: an interpretation, or the exception of a record that could not be read or
            measured.

        Raises:
            DataError: The numbers of records, questions and images differ, or the model has no trained tower.
        """
        readings = [instrument] * len(records) if isinstance(instrument, bool) else list(instrument)
        each = _one_each(records, question if questions is None else questions, images, readings)
        found: list[Interpretation | Exception] = []
        examples: dict[int, dict[str, Any]] = {}  # of the records that the model answers
        options, settings = VerifyOptions.split(settings)
        for i, record in enumerate(records):
            try:
                prepared = self.prepare(record, None if images is None else images[i], reading or {})
                draft = self.draft(prepared, each[i])
                own = draft.without_model(options)
                if own is None:
                    examples[i] = self.example(prepared, each[i], readings[i])
                found.append(own or draft)
            except Exception as error:  # any record can be broken in any way; the rest go on
                found.append(error)
        base = torch.initial_seed() if seed is None else seed
        seeds = [record_seed(base, _name(records[i])) for i in examples]
        asked = list(examples.values())
        if options.active:
            drafts: Any = [found[i] for i in examples]
            written = self._verified(asked, drafts, options, max_new_tokens, seeds, **settings)
        else:
            written = generate_texts(self.model, self.processor, asked, max_new_tokens, batch_size, seeds, **settings)
        for i, text in zip(examples, written, strict=True):
            found[i] = text if isinstance(text, Exception) else found[i].written(text, options)  # type: ignore
        return found

    def draft(self, prepared: Prepared, question: str | None = None) -> Interpretation:
        """Measure a prepared record: its interpretation before the text, which ``with_text`` adds."""
        return Interpretation.of("", prepared.clean, question or "", self.provenance, prepared.image)

    def _verified(
        self,
        examples: Sequence[Mapping[str, Any]],
        drafts: Sequence[Interpretation],
        options: VerifyOptions,
        max_new_tokens: int,
        seeds: Sequence[int],
        **settings: Any,
    ) -> list[Any]:
        """Answer under verification, one record after the other: a revision of each, or why there is none."""
        from gem_lightning.models.verified.verified import verified_answers

        written: list[Any] = []
        for example, draft, seed in zip(examples, drafts, seeds, strict=True):
            measured = [(draft.features, draft.findings)]
            try:
                item = encode_example(self.processor, example)
                asked = {"seeds": [seed], "questions": [example["question"]], **settings}
                written += verified_answers(
                    self.model, self.processor, [item], measured, options, max_new_tokens, **asked
                )
            except DataError:
                raise  # a setting that cannot hold, for all records
            except Exception as error:  # one record's fault must not cost the others their texts
                written.append(error)
        return written

    def chat(
        self,
        record: RecordLike,
        image: np.ndarray | None = None,
        reading: Mapping[str, Any] | None = None,
        tools: bool = False,
    ) -> Conversation:
        """Start a conversation about a record: ``ask`` or ``stream`` question after question.

        Args:
            record: A record or file.
            image: A photograph or scan in place of the drawn page, uint8 (H, W, 3).
            reading: What a file does not state itself, for ``read_ecg``.
            tools: Let the model call ``measure(quantity, lead, beat)``, ``criterion(code)`` and ``zoom(lead, t0, t1)``
                on the record: a call on the last line of what it writes is run, and it goes on from the result.

        Raises:
            EcgReadError: The file cannot be read.
        """
        from gem_lightning.models.inference.conversation import Conversation

        return Conversation(self, record, image, reading, tools)

    def stream(
        self,
        record: RecordLike,
        question: str | None = None,
        image: np.ndarray | None = None,
        max_new_tokens: int = 512,
        reading: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> Iterator[Piece]:
        """Interpret a record piece by piece, with verdicts when a sentence ends; arguments as :meth:`interpret`.

        Under verification a piece is a sentence that has its verdict.
        """
        return self.chat(record, image, reading).stream(question, max_new_tokens=max_new_tokens, **settings)

    def score_options(
        self,
        record: RecordLike,
        question: str,
        options: Sequence[str],
        image: np.ndarray | None = None,
        reading: Mapping[str, Any] | None = None,
    ) -> dict[str, float]:
        """Compute the probability of each option as the complete answer to a question.

        Args:
            record: A record or file.
            question: The question.
            options: Answers to choose from.
            image: A photograph or scan in place of the drawn page, uint8 (H, W, 3).
            reading: What a file does not state itself, for ``read_ecg``.

        Returns:
            Option → probability; they need not add up to 1, for other answers are possible.

        Raises:
            EcgReadError: The file cannot be read.
            DataError: There is no option.
        """
        example = self.example(self.prepare(record, image, reading or {}), question)
        return option_likelihoods(self.model, self.processor, example, options)

    @property
    def inputs(self) -> tuple[str, ...]:
        """What the model reads, see :func:`modalities`."""
        return modalities(self.model.config)

    @property
    def provenance(self) -> str:
        """The model as the footer of pages names it."""
        return f"model {self.name}" if self.name else ""

    def prepare(self, record: RecordLike, image: np.ndarray | None, reading: Mapping[str, Any]) -> Prepared:
        """Read and draw one record.

        Raises:
            EcgReadError: The file cannot be read.
        """
        if isinstance(record, EcgRecord):
            return self.drawn([record], image)
        from gem_lightning.ecg.readers import read_contracts

        return self.drawn(read_contracts(record, self.contracts, **reading), image)

    @property
    def contracts(self) -> tuple[str, ...]:
        """Contracts under which a file is read: for measuring and drawing, then as the model takes it if it differs."""
        return tuple(dict.fromkeys(("clean", self.processor.contract)))

    def drawn(self, read: Sequence[EcgRecord], image: np.ndarray | None = None) -> Prepared:
        """Draw a record that has been read under :attr:`contracts`, if the model looks at an image and has none."""
        if image is None and "image" in self.inputs:
            image = self.renderer(read[0]).image
        return Prepared(read[0], read[-1], image)

    @staticmethod
    def question_text(question: str | None) -> str:
        """The question as a prompt holds it; None is the usual one."""
        return DEFAULT_QUESTION if question is None else _MARKERS.sub(r"< \1 >", question)

    def example(self, prepared: Any, question: str | None, instrument: bool | EcgFeatures = False) -> dict[str, Any]:
        """Return what ``generate_texts`` takes of a :class:`Prepared` record: question, signal and image."""
        clean, record, image = prepared
        data = {"ecg": {"record": record}, "image": {"image": image}}
        text = self.question_text(question)
        if instrument is not False:
            text = with_instrument(text, instrument_reading(clean) if instrument is True else instrument)
        return {"question": text} | {k: v for i in self.inputs for k, v in data[i].items()}

    def save_pretrained(self, folder: str | os.PathLike) -> None:
        """Write model, processor, generation settings and a model card."""
        self.model.save_pretrained(folder)
        self.processor.save_pretrained(folder)

    def push_to_hub(self, repo_id: str, **options: Any) -> None:
        """Upload what :meth:`save_pretrained` writes."""
        self.model.push_to_hub(repo_id, **options)
        self.processor.push_to_hub(repo_id, **options)


def _one_each(
    records: Sequence[Any], question: Any, images: Sequence[Any] | None, readings: Sequence[Any]
) -> Sequence[str | None]:
    """A question for each record.

    Raises:
        DataError: The numbers of records, questions, images and readings differ.
    """
    questions = [question] * len(records) if question is None or isinstance(question, str) else list(question)
    for what, values in (("questions", questions), ("images", images), ("readings", readings)):
        if values is not None and len(values) != len(records):
            raise DataError(f"expected {len(records)} {what}, one per record, got {len(values)}")
    return questions


def _name(record: RecordLike) -> str:
    """What identifies a record across runs: its path, or a hash of its signal."""
    if isinstance(record, EcgRecord):
        return hashlib.sha256(record.signal.tobytes()).hexdigest()
    return hashlib.sha256(record).hexdigest() if isinstance(record, bytes) else os.fspath(record)
