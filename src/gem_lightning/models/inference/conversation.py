"""Questions about an ECG in turns: the cache of earlier turns is reused, and answers can be streamed."""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from transformers import LogitsProcessorList, StoppingCriteria, StoppingCriteriaList, TextIteratorStreamer

from gem_lightning.claims.report import Verdict
from gem_lightning.composition.tools import HELP, RecordTools, parse_call
from gem_lightning.errors import DataError
from gem_lightning.models.inference.generation import (
    SeededSampling,
    continuation_scores,
    generation_options,
    record_seed,
    reusable,
    shared_prompt,
)
from gem_lightning.models.inference.sentences import SentenceChecker
from gem_lightning.models.processing_gem import as_device
from gem_lightning.reporting.interpretation import Interpretation
from gem_lightning.revision import Edit, Reviser, Revision, VerifyOptions, revise_sentences
from gem_lightning.revision.revise import collect

if TYPE_CHECKING:
    import numpy as np

    from gem_lightning.models.gem import Gem, Prepared, RecordLike

MOST_CALLS = 8  # for one question: a model that asks for more goes in circles


@dataclass(frozen=True)
class Piece:
    """A part of an answer while it is written.

    Attributes:
        text: The next characters.
        verdicts: Of the statements of the sentences that have ended with this piece; the last piece has the rest.
        edit: Under verification a piece is one sentence: what became of the model's.
    """

    text: str
    verdicts: tuple[Verdict, ...] = ()
    edit: Edit | None = None


class Conversation:
    """Questions about one ECG, or about several one after the other; made by ``Gem.chat``. Not for several threads.

    Args:
        gem: The model.
        record: What the first question is about; what ``Gem.prepare`` has made of it is taken as it is.
        image: A photograph or scan in place of the drawn page, uint8 (H, W, 3).
        reading: What files do not state themselves, for ``read_ecg``.
        tools: Let the model call ``measure``, ``criterion`` and ``zoom`` on the record that was added last.
        draft: ``Gem.draft`` of a prepared record, where it was measured before.

    Attributes:
        calls: The calls so far, each with its result.
        turns: The answers so far, each verified against the record that was added last.
        usage: Tokens of the last prompt and of the last answer.
    """

    def __init__(
        self,
        gem: Gem,
        record: RecordLike | Prepared,
        image: np.ndarray | None = None,
        reading: Mapping[str, Any] | None = None,
        tools: bool = False,
        draft: Interpretation | None = None,
    ) -> None:
        self.gem, self.reading = gem, dict(reading or {})
        self.tools, self.calls = tools, list[tuple[str, dict[str, Any]]]()
        self.turns: list[Interpretation] = []
        self.usage = (0, 0)
        self._messages: list[dict[str, str]] = []
        ready = hasattr(record, "clean")
        self._shown: list[Prepared] = [record if ready else gem.prepare(record, image, self.reading)]  # type: ignore
        self._draft = draft
        self._cache: Any = None
        self._cached: list[int] = []

    def ask(
        self,
        question: str | None = None,
        record: RecordLike | None = None,
        image: np.ndarray | None = None,
        max_new_tokens: int = 512,
        **settings: Any,
    ) -> Interpretation:
        """Answer the next question.

        Args:
            question: None requests an interpretation.
            record: Another ECG, to be compared with the earlier ones; statements are verified against it from now on.
            image: In place of that record's drawn page.
            max_new_tokens: Longest answer.
            **settings: ``seed``, those of ``generate``, and ``verify``, ``tries``, ``on_fail`` and ``complete`` of
                :meth:`gem_lightning.models.gem.Gem.interpret` (not ``rerank``).

        Raises:
            EcgReadError: The file cannot be read.
            DataError: The conversation does not fit into the model's context.
        """
        prompt = self._prompt(question, record, image)
        options, settings = VerifyOptions.split(settings)
        if options.active and self.tools:
            raise DataError("expected tools or verify=, got both; a text under verification is measured already")
        draft = self._measured(prompt)
        if (own := draft.without_model(options)) is not None:
            return self._finish(prompt, _unasked(own))
        options = draft.held(options)
        if options.active:
            deque(self._verified(prompt, options, max_new_tokens, settings), maxlen=0)
            return self.turns[-1]
        return self._finish(*self._measured_answer(prompt, max_new_tokens, settings))

    def _measured_answer(
        self, prompt: _Prompt, max_new_tokens: int, settings: Mapping[str, Any]
    ) -> tuple[_Prompt, _Written]:
        """Generate an answer; run each call that the model ends its text with, and let it go on from the result."""
        written = self._generate(prompt, max_new_tokens, settings)
        instrument = RecordTools(prompt.shown[-1].clean)
        for _ in range(MOST_CALLS):
            call = parse_call(written.text) if self.tools else None
            if call is None:
                break
            result = instrument.run(*call)
            self.calls.append((written.text, result))
            more = [{"from": "gpt", "value": written.text}, {"from": "human", "value": f"Result: {json.dumps(result)}"}]
            prompt = _Prompt(prompt.question, [*prompt.messages, *more], prompt.shown)
            self._cache, self._cached = written.cache, written.ids
            written = self._generate(prompt, max_new_tokens, settings)
        return prompt, written

    def stream(
        self,
        question: str | None = None,
        record: RecordLike | None = None,
        image: np.ndarray | None = None,
        max_new_tokens: int = 512,
        **settings: Any,
    ) -> Iterator[Piece]:
        """Answer the next question piece by piece, with verdicts when a sentence ends; arguments as :meth:`ask`.

        The answer is the last of ``turns`` once the stream has ended; closing the stream early stops the model and
        leaves the conversation as it was before the question. Under verification (``verify="revise"`` or ``guide``) a
        piece is a sentence that has its verdict, as it stands in the text.
        """
        prompt = self._prompt(question, record, image)
        options, settings = VerifyOptions.split(settings)
        draft = self._measured(prompt)
        if (own := draft.without_model(options)) is not None:
            done = self._finish(prompt, _unasked(own))
            yield from [Piece(done.text, tuple(done.claims.verdicts))] if done.text else ()
            return
        options = draft.held(options)
        if options.active:
            yield from self._verified(prompt, options, max_new_tokens, settings)
            return
        streamer = TextIteratorStreamer(self.gem.processor.tokenizer, skip_prompt=True, skip_special_tokens=True)
        stop = _Stop()
        outcome: list[_Written | BaseException] = []

        def run() -> None:
            try:
                more = {"streamer": streamer, "stopping_criteria": StoppingCriteriaList([stop])}
                outcome.append(self._generate(prompt, max_new_tokens, settings | more))
            except BaseException as error:  # handed to the reader of the stream
                outcome.append(error)
            finally:
                streamer.end()

        writer = threading.Thread(target=run, daemon=True)
        writer.start()
        try:
            checked = SentenceChecker(draft.features)
            for part in streamer:
                new = part if checked.text else part.lstrip()
                if new:
                    yield Piece(new, checked.add(new))
            writer.join()
            if isinstance(outcome[0], BaseException):
                raise outcome[0]
            self._finish(prompt, outcome[0])
            yield Piece("", checked.rest())
        finally:
            stop.wanted = True
            writer.join()

    def answer(self, question: str, max_new_tokens: int = 512, **settings: Any) -> str:
        """Write an answer to the next question without verifying it or putting it behind the conversation."""
        written = self._generate(self._prompt(question, None, None), max_new_tokens, settings)
        self._cache, self._cached = written.cache, written.ids
        return str(written.text)

    @torch.inference_mode()
    def score_options(self, question: str, options: Sequence[str], batch_size: int = 16) -> dict[str, float]:
        """Score each option as the whole answer to the next question, which is not put behind the conversation.

        Only what is new since the last turn is read.

        Args:
            question: The question.
            options: Answers to choose from.
            batch_size: Options at a time.

        Returns:
            Option → mean log-probability of its tokens: long options are not at a disadvantage.

        Raises:
            DataError: There is no option, or the conversation does not fit into the model's context.
        """
        if not options:
            raise DataError("expected at least one option, got none")
        prompt = self._prompt(question, None, None)
        rows = [self._encode(prompt, {"from": "gpt", "value": option}) for option in options]
        shared = shared_prompt(rows)
        longest = max(len(row["input_ids"]) for row in rows)
        generation_options(self.gem.model, self.gem.processor, longest - 1, 1, {})  # refuses what is too long
        logits, cache = self._read(rows[0], shared)
        tails = [{key: row[key][shared:] for key in ("input_ids", "labels")} for row in rows]
        scores = continuation_scores(self.gem.model, self.gem.processor, logits, cache, shared, tails, batch_size)
        self._cache, self._cached = cache, rows[0]["input_ids"][:shared]
        return {option: total / count for option, (total, count) in zip(options, scores, strict=True)}

    def note(self, question: str, answer: str) -> None:
        """Put a question and a given answer behind the conversation, as if the model had answered so."""
        prompt = self._prompt(question, None, None)
        self._messages = [*prompt.messages, {"from": "gpt", "value": answer}]

    def _read(self, row: dict[str, Any], count: int) -> tuple[torch.Tensor, Any]:
        """Logits (1, 1, V) after the first ``count`` tokens of an encoded conversation, and their cache."""
        start = {**row, "input_ids": row["input_ids"][:count], "labels": row["labels"][:count]}
        parameter = next(p for p in self.gem.model.parameters() if p.dtype.is_floating_point)
        cache = self._reusable(start["input_ids"])
        known = 0 if cache is None else cache.get_seq_length()
        config = self.gem.model.config
        if {config.ecg_token_id, config.image_token_id} & set(start["input_ids"][known:]):
            known, cache = 0, None  # the towers' features are not in the cache
        if known:  # what follows is text alone
            start = {key: start[key][known:] for key in ("input_ids", "labels")}
        batch = as_device(self.gem.processor.pad([start]), parameter.device, parameter.dtype)
        del batch["labels"]
        batch["attention_mask"] = batch["attention_mask"].new_ones(1, count)
        out = self.gem.model(**batch, past_key_values=cache, use_cache=True, logits_to_keep=1)
        return out.logits[:, -1:], out.past_key_values

    def _prompt(self, question: str | None, record: RecordLike | None, image: np.ndarray | None) -> _Prompt:
        added = [] if record is None else [self.gem.prepare(record, image, self.reading)]
        shown = [*self._shown, *added]
        earlier = self._messages if self.gem.processor.remembers else []
        markers = len(added if earlier else shown)  # one for each ECG that no earlier question holds
        value = "<image>\n" * markers + self.gem.question_text(question)
        if self.tools and not earlier:
            value += f"\n\n{HELP}"
        return _Prompt(question or "", [*earlier, {"from": "human", "value": value}], shown)

    def _measured(self, prompt: _Prompt) -> Interpretation:
        """The interpretation of the record that was added last, before the text."""
        last = prompt.shown[-1]
        if self._draft is None or self._draft.record is not last.clean:
            self._draft = self.gem.draft(last)
        return replace(self._draft, question=prompt.question)

    def _verified(
        self, prompt: _Prompt, options: VerifyOptions, max_new_tokens: int, settings: Mapping[str, Any]
    ) -> Iterator[Piece]:
        """Answer sentence by sentence; each is given out when it is decided."""
        from gem_lightning.models.verified.verified import sentence_writer

        if options.verify == "rerank":
            raise DataError("expected report, guide or revise in a conversation, got rerank: it has no single draft")
        draft = self._measured(prompt)
        reviser = Reviser(draft.features, draft.findings, options.by_sentence, prompt.question)
        item = self._encode(prompt)
        more = {"cache": self._reusable(item["input_ids"]), "cached": self._cached, **settings}
        writer = sentence_writer(self.gem.model, self.gem.processor, item, reviser, max_new_tokens, **more)
        for edit in revise_sentences(writer, reviser):
            if text := reviser.addition(edit):
                yield Piece(text, edit.verdicts, edit)
        ids = [*writer.prompt, *writer.ids]
        self._finish(prompt, _Written(collect(reviser, writer.tokens), ids, writer.cache, len(writer.prompt)))

    @torch.inference_mode()
    def _generate(self, prompt: _Prompt, max_new_tokens: int, settings: Mapping[str, Any]) -> _Written:
        model, processor = self.gem.model, self.gem.processor
        item = self._encode(prompt)
        parameter = next(p for p in model.parameters() if p.dtype.is_floating_point)
        batch = as_device(processor.pad([item], "left"), parameter.device, parameter.dtype)
        del batch["labels"]
        ids = item["input_ids"]
        own = dict(settings)
        seed = own.pop("seed", None)
        options = generation_options(model, processor, len(ids), max_new_tokens, own)
        options["return_dict_in_generate"] = True
        if options["do_sample"]:
            base = torch.initial_seed() if seed is None else seed
            sampling = SeededSampling([record_seed(base, f"{len(self.turns)}\0{prompt.messages[-1]['value']}")])
            options["logits_processor"] = LogitsProcessorList([*options.get("logits_processor", ()), sampling])
        if options.get("num_beams", 1) == 1 and options.get("use_cache", True):
            options["past_key_values"] = self._reusable(ids)
        out = model.generate(**batch, **options)
        sequence = out.sequences[0].tolist()
        text = processor.tokenizer.decode(sequence[len(ids) :], skip_special_tokens=True).strip()
        cache = out.past_key_values if options.get("num_beams", 1) == 1 else None
        return _Written(text, sequence, cache, len(ids))

    def _encode(self, prompt: _Prompt, answer: dict[str, str] | None = None) -> dict[str, Any]:
        """Encode the conversation up to an answer, or up to where the model writes one."""
        able = self.gem.inputs
        ecgs = [one.seen for one in prompt.shown] if "ecg" in able else []
        images = [one.image for one in prompt.shown if one.image is not None] if "image" in able else []
        if answer is None:
            return self.gem.processor.encode(prompt.messages, ecgs, images, add_generation_prompt=True)
        return self.gem.processor.encode([*prompt.messages, answer], ecgs, images)

    def _reusable(self, ids: list[int]) -> Any:
        """The cache of earlier turns, cut to what the new prompt begins with; None where nothing is left of it."""
        cache, self._cache = self._cache, None  # a run that fails leaves no cache behind that it has changed
        return reusable(cache, self._cached, ids)

    def _finish(self, prompt: _Prompt, written: _Written) -> Interpretation:
        done = self._measured(prompt).with_text(written.text)
        self._messages = [*prompt.messages, {"from": "gpt", "value": done.text}]
        self._shown = prompt.shown
        self._cache, self._cached = written.cache, written.ids
        self.usage = (written.prompt, len(written.ids) - written.prompt)
        self.turns.append(done)
        return done


@dataclass(frozen=True)
class _Prompt:
    question: str
    messages: list[dict[str, str]]
    shown: list[Prepared]


@dataclass(frozen=True)
class _Written:
    text: Any  # str, or a Revision under verification
    ids: list[int]  # prompt and answer
    cache: Any
    prompt: int  # tokens


def _unasked(found: Interpretation) -> _Written:
    """The answer about a record for which the model was not asked."""
    return _Written(Revision(found.text, found.edits), [], None, 0)


class _Stop(StoppingCriteria):
    """Stops the model when its stream is closed."""

    wanted = False

    def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
        return torch.full((len(input_ids),), self.wanted, dtype=torch.bool, device=input_ids.device)
