"""What the server does with a recording, for every route and page: read, measure, interpret, compare, draw."""

from __future__ import annotations

import io
import os
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from transformers import StoppingCriteriaList

from gem_lightning.ecg.readers import read_contracts, read_ecg
from gem_lightning.ecg.record import EcgRecord
from gem_lightning.ecg.simulation.simulate import simulate
from gem_lightning.ecg.writers import SUFFIXES, write_ecg
from gem_lightning.errors import GemError
from gem_lightning.jobs import DiedError, Workers
from gem_lightning.models.inference.generation import encode_example, generate_encoded, generation_options
from gem_lightning.models.inference.sentences import SentenceChecker
from gem_lightning.render import EcgRenderer
from gem_lightning.reporting.interpretation import Interpretation
from gem_lightning.revision import Reviser, Revision, StreamWriter, VerifyOptions, collect, revise_sentences
from gem_lightning.serving.batching import BatchQueue, Job, RowStreamer, StopCancelled
from gem_lightning.serving.facts import Comparison, drafted, measured
from gem_lightning.serving.uploads import Upload, stored

if TYPE_CHECKING:
    from gem_lightning.digitizer.page import DigitizedEcg
    from gem_lightning.models.gem import Gem, Prepared

#: How texts are held to the measurements unless a server is set otherwise: readers trust what it sends.
SERVED = VerifyOptions("revise", complete=True)
#: Longest time for reading or measuring one recording, s. Ours: a photograph takes 10 s on a core that is free.
LIMIT_S = 120.0
Emit = Callable[[str, dict[str, Any]], None]
IMAGE_TYPES = {"png": "image/png", "svg": "image/svg+xml", "pdf": "application/pdf"}
RECORD_TYPES = {
    "wfdb": "application/zip",
    "dicom": "application/dicom",
    "edf": "application/edf",
    "csv": "text/csv",
    "parquet": "application/vnd.apache.parquet",
}
RECORD_SUFFIXES = SUFFIXES | {"wfdb": ".zip"}  # its two files are sent as an archive


class CancelledError(GemError):
    """The client went away before its answer was there."""


@dataclass(frozen=True)
class Ask:
    """What a request asks of the model.

    Attributes:
        question: Empty for the usual interpretation.
        options: How the text is held to the measurements.
        reading: What the file does not state itself, for ``read_ecg``.
        max_new_tokens: Longest answer; None as the server is set.
    """

    question: str = ""
    options: VerifyOptions = field(default_factory=VerifyOptions)
    reading: Mapping[str, Any] = field(default_factory=dict)
    max_new_tokens: int | None = None


class EcgService:
    """Reads, measures, interprets, compares and draws recordings; used by many threads at once.

    Work on the CPU is done for as many requests at a time as there are cores; files are read and measured in processes
    of their own, so that they and the model do not wait for each other's Python. The model is asked through a
    :class:`~gem_lightning.serving.batching.BatchQueue`. Errors of the user's are ``GemError`` with one sentence.

    Args:
        gem: The model.
        name: Of the model, for pages and ``/v1/models``.
        options: How texts are held to the measurements where a request does not say; None takes :data:`SERVED`.
        max_new_tokens: Longest answer.
        batch_size: Most requests that the model answers together.
        workers: Processes that read and measure; 0 does it in the threads of the requests.
    """

    def __init__(
        self,
        gem: Gem,
        name: str = "",
        options: VerifyOptions | None = None,
        max_new_tokens: int = 512,
        batch_size: int = 32,
        workers: int = 0,
    ) -> None:
        self.gem, self.name, self.options = gem, name or gem.name, options or SERVED
        self.max_new_tokens = max_new_tokens
        self.queue = BatchQueue(self._answer, batch_size)
        self._cpu = threading.BoundedSemaphore(os.cpu_count() or 1)
        self._workers = Workers(workers, LIMIT_S)

    def warm_up(self) -> None:
        """Load and compile what the first request would wait for."""
        record = simulate("sinus", seed=0).record
        self.verify(record)
        self.render(record)
        self.gem.interpret(record, max_new_tokens=2)

    def close(self) -> None:
        """Stop the model's thread and the processes."""
        self.queue.close()
        self._workers.close()

    def read(self, uploads: Sequence[Upload], reading: Mapping[str, Any] | None = None) -> EcgRecord:
        """Read the files of one recording.

        Raises:
            EcgReadError: They are no recording, several, or one that does not state what it must.
        """
        with self._cpu, stored(uploads) as path:
            return self._apart(partial(read_ecg, path, **(reading or {})))

    def verify(self, record: EcgRecord, text: str | Revision = "", question: str = "") -> Interpretation:
        """Measure a record and hold a text of anyone against it; without one, measure it alone."""
        with self._cpu:
            return self._apart(Interpretation.of, text, record, question)

    def ask(self, question: str, held: Mapping[str, Any], reading: Mapping[str, Any]) -> Ask:
        """Put together what a request asks; a question is not answered with findings that it does not ask for.

        Args:
            question: Empty for the usual interpretation.
            held: Fields of :class:`VerifyOptions` that the request states; the others are as the server is set.
            reading: As for :class:`Ask`.
        """
        own = {"complete": False} if question.strip() else {}
        return Ask(question.strip(), replace(self.options, **{**own, **held}), reading)

    def interpret(
        self,
        uploads: Sequence[Upload],
        ask: Ask,
        emit: Emit | None = None,
        view: Callable[[Interpretation], dict[str, Any]] = measured,
    ) -> Interpretation:
        """Interpret one recording with the model.

        Args:
            uploads: Its files.
            ask: Question and settings.
            emit: Called with what happens on the way: ``stage`` {stage}, ``measured``, ``text`` {delta} and
                ``statement`` (a verdict, when its sentence ends). It may raise to give the request up.
            view: Turns the measured record into the data of ``measured``.

        Raises:
            EcgReadError: The files are no recording.
            DataError: The question does not fit into the model's context.
        """
        with self.queue.request():
            return self._interpret(uploads, ask, emit, view)

    def converse(
        self,
        uploads: Sequence[Upload],
        turns: Sequence[tuple[str, str]],
        ask: Ask,
        emit: Emit,
        view: Callable[[Interpretation], dict[str, Any]] = measured,
    ) -> Any:
        """Answer the next question of a conversation about one recording.

        Args:
            uploads: Its files.
            turns: Earlier questions with their answers.
            ask: The question and settings.
            emit: As for :meth:`interpret`.
            view: As for :meth:`interpret`.

        Returns:
            The conversation, whose last turn is the answer.
        """
        from gem_lightning.models.inference.conversation import Conversation

        with self._cpu, stored(uploads) as path:
            prepared, draft = self._drafted(path, ask, lambda kind, data: None)
        emit("measured", view(draft))
        chat = Conversation(self.gem, prepared, draft=draft)
        for question, answer in turns:
            chat.note(question, answer)

        def work(job: Job) -> Any:
            self._stream(chat, ask, job)
            return chat

        return self._follow(self.queue.submit(work), draft, VerifyOptions(), emit)

    def compare(self, first: EcgRecord, second: EcgRecord) -> Comparison:
        """Measure two recordings and compare them."""
        return Comparison(self.verify(first), self.verify(second))

    def render(self, record: EcgRecord, layout: str = "3x4+1", format: str = "png", **page: Any) -> bytes:
        """Draw a recording on paper.

        Args:
            record: The recording.
            layout: A name of ``render/layouts.yaml``.
            format: ``png``, ``svg`` or ``pdf``.
            **page: ``speed`` (mm/s) and ``gain`` (mm/mV).

        Raises:
            RenderError: There is no such layout, or it does not fit on the paper.
        """
        with self._cpu:
            renderer = EcgRenderer(layout=layout, **page)
            if format == "png":
                return renderer(record).encode(".png")
            return renderer.pdf(record) if format == "pdf" else renderer.svg(record).encode()

    def convert(self, record: EcgRecord, format: str) -> bytes:
        """Write a recording's signal as a file of another format; WFDB's two files as a ZIP archive.

        Raises:
            GemError: There is no such format, or it cannot hold the record.
        """
        with self._cpu, TemporaryDirectory(prefix="gem-lightning-") as place:
            path = write_ecg(record, Path(place) / f"ecg{SUFFIXES.get(format, '')}", format)
            if format != "wfdb":
                return path.read_bytes()
            packed = io.BytesIO()
            with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
                for file in sorted(Path(place).iterdir()):
                    archive.write(file, file.name)
            return packed.getvalue()

    def digitize(
        self, upload: Upload, layout: str = "auto", speed: float | None = None, gain: float | None = None
    ) -> DigitizedEcg:
        """Read a photo or scan of a paper ECG; arguments as for :func:`gem_lightning.digitizer.digitize`.

        Raises:
            RenderError: The file is no image, or there is no such layout.
        """
        from gem_lightning.digitizer import digitize

        upload.file.seek(0)
        with self._cpu:
            return digitize(upload.file.read(), layout, speed, gain)

    def _interpret(
        self,
        uploads: Sequence[Upload],
        ask: Ask,
        emit: Emit | None,
        view: Callable[[Interpretation], dict[str, Any]],
    ) -> Interpretation:
        tell = emit or (lambda kind, data: None)
        with self._cpu, stored(uploads) as path:
            prepared, draft = self._drafted(path, ask, tell)
            ask = replace(ask, options=draft.held(ask.options))
            own = draft.without_model(ask.options)
            job = self._submit(prepared, draft, ask, emit is not None) if own is None else None
        if emit is not None:
            emit("measured", view(draft))
        if job is None:
            assert own is not None
            _tell_whole(own, tell)
            return own
        tell("stage", {"stage": "writing"})
        # what asks the model again is held to the measurements in its thread
        options = VerifyOptions() if ask.options.asks_again else ask.options
        written = job.result() if emit is None else self._follow(job, draft, options, emit)
        if isinstance(written, Interpretation):
            return written
        if emit is not None or not options.active:
            return draft.with_text(written)
        with self._cpu:
            # the signal is not sent to a process that needs it no more
            revised = self._apart(draft.changed(record=None, seen=None).revised, written, options)
            return revised.changed(record=draft.record, seen=draft.seen)

    def _apart(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Run a function in one of the processes.

        Raises:
            GemError: It took too long or ended its process, as a file may that is made to do so.
        """
        try:
            return self._workers.call(function, *arguments)
        except (DiedError, TimeoutError) as error:
            expected = f"expected a recording that can be read and measured within {LIMIT_S:g} s"
            raise GemError(f"{expected}; {error}") from None

    def _drafted(self, path: Path, ask: Ask, tell: Emit) -> tuple[Prepared, Interpretation]:
        """Read and measure a recording: as the model takes it, and its interpretation before the text."""
        tell("stage", {"stage": "reading"})
        prepared = self.gem.drawn(self._apart(partial(read_contracts, path, self.gem.contracts, **ask.reading)))
        tell("stage", {"stage": "measuring"})
        draft = self._apart(drafted, prepared.clean, ask.question, self.gem.provenance)
        return prepared, draft.changed(record=prepared.clean, seen=prepared.image)

    def _submit(self, prepared: Prepared, draft: Interpretation, ask: Ask, streamed: bool) -> Job:
        """Put a measured recording into the model's queue."""
        most = min(ask.max_new_tokens or self.max_new_tokens, self.max_new_tokens)
        if ask.options.asks_again:
            return self.queue.submit(lambda job: self._alone(prepared, draft, ask, most, job))
        item = encode_example(self.gem.processor, self.gem.example(prepared, ask.question or None))
        # the room that the context leaves: a long question shares no batch with those whose answers it would shorten
        limits = generation_options(self.gem.model, self.gem.processor, len(item["input_ids"]), most, {})
        return self.queue.submit(item, limits["max_new_tokens"], streamed)

    def _answer(self, jobs: Sequence[Job]) -> Sequence[Any]:
        """Answer a batch; runs in the model's thread."""
        if callable(jobs[0].work):
            return [jobs[0].work(jobs[0])]
        rows = sorted(jobs, key=lambda job: -len(job.work["input_ids"]))  # the order in which the batch is made
        model, processor = self.gem.model, self.gem.processor
        texts = generate_encoded(
            model,
            processor,
            [job.work for job in rows],
            max_new_tokens=rows[0].key,  # type: ignore[arg-type]
            batch_size=len(rows),
            streamer=RowStreamer(processor.tokenizer, rows),
            stopping_criteria=StoppingCriteriaList([StopCancelled(rows)]),
        )
        found = {id(job): text for job, text in zip(rows, texts, strict=True)}
        return [found[id(job)] for job in jobs]

    def _alone(self, prepared: Prepared, draft: Interpretation, ask: Ask, most: int, job: Job) -> Any:
        """Write a text under verification; runs in the model's thread."""
        if ask.options.verify == "rerank":
            from gem_lightning.models.verified.verified import verified_answers

            item = encode_example(self.gem.processor, self.gem.example(prepared, ask.question or None))
            known = [(draft.features, draft.findings)]
            (revision,) = verified_answers(self.gem.model, self.gem.processor, [item], known, ask.options, most)
            job.write(revision.text)
            return revision
        chat = self.gem.chat(prepared)  # type: ignore[arg-type]
        self._stream(chat, ask, job)
        return chat.turns[-1]

    def _stream(self, chat: Any, ask: Ask, job: Job) -> None:
        """Answer the next question of a conversation; runs in the model's thread."""
        most = min(ask.max_new_tokens or self.max_new_tokens, self.max_new_tokens)
        for piece in chat.stream(ask.question or None, max_new_tokens=most, **vars(ask.options)):
            if job.cancelled:
                raise CancelledError("the client has gone")
            job.write(piece.text)

    @staticmethod
    def _follow(job: Job, draft: Interpretation, options: VerifyOptions, emit: Emit) -> Any:
        """Hand on what the model writes, held to the measurements sentence by sentence; return the whole."""
        by = options.by_sentence
        reviser = Reviser(draft.features, draft.findings, by, draft.question) if options.active else None
        checker = SentenceChecker(draft.features)
        with _cancelled_on_error(job):
            for piece in job if reviser is None else _revised(job, reviser):
                emit("text", {"delta": piece})
                for verdict in checker.add(piece):
                    emit("statement", verdict.to_dict())
            written = job.result() if reviser is None else collect(reviser)
            for verdict in checker.rest():
                emit("statement", verdict.to_dict())
        return written


def _revised(job: Job, reviser: Reviser) -> Iterator[str]:
    """Revise a text while the model writes it, for others as well: it does not see what becomes of its sentences."""

    def pieces() -> Iterator[str]:
        yield from job
        job.result()  # raises what went wrong

    for edit in revise_sentences(StreamWriter(pieces()), reviser):
        if text := reviser.addition(edit):
            yield text


def _tell_whole(found: Interpretation, tell: Emit) -> None:
    """Hand on a text that is there already, with its verdicts."""
    if found.text:
        tell("stage", {"stage": "writing"})
        tell("text", {"delta": found.text})
        for verdict in found.claims.verdicts:
            tell("statement", verdict.to_dict())


@contextmanager
def _cancelled_on_error(job: Job) -> Iterator[None]:
    """Give the job up where its reader fails, for example because the client has gone."""
    try:
        yield
    except BaseException:
        job.cancelled = True
        raise
