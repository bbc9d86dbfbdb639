"""Decode an answer sentence by sentence, with one cache that follows what stands in a sentence's place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import LogitsProcessorList, StoppingCriteria, StoppingCriteriaList

from gem_lightning.errors import DataError
from gem_lightning.models.fusion import keep_tower_outputs
from gem_lightning.models.inference.generation import SeededSampling, generation_options, record_seed, reusable
from gem_lightning.models.processing_gem import as_device
from gem_lightning.revision.edit import DROP, Edit
from gem_lightning.revision.segments import finished


class SentenceDecoder:
    """Writes one answer sentence by sentence; a :class:`~gem_lightning.revision.revise.Writer`.

    Sentences that are kept are those that the model writes without interruption. In place of a restated sentence the
    model reads the restated one and goes on from there: the cache is cut to what both have in common and the rest is
    read, not written. A restated sentence does not end an answer that the model's own one would not have ended: after
    words that are not its own a small model may stop at once. A dropped sentence stays in the model's context, or the
    model would write it again.

    Args:
        model: A ``GemForConditionalGeneration`` or a peft wrapper of it.
        processor: Its ``GemProcessor``.
        item: The prompt, as ``encode_example`` makes it.
        max_new_tokens: Longest answer, with what was put in.
        seed: Of sampled sentences.
        cache: Of a prompt with the same beginning; its tokens are ``cached``.
        cached: Token ids that ``cache`` holds.
        **settings: For ``generate``.

    Attributes:
        ids: Token ids of the answer as the model sees it.
        tokens: Tokens that the model has written, those of discarded sentences included.
        cache: Of prompt and answer.

    Raises:
        DataError: Settings that write several texts at a time, or no cache.
    """

    def __init__(
        self,
        model: Any,
        processor: Any,
        item: Mapping[str, Any],
        max_new_tokens: int = 512,
        seed: int | None = None,
        cache: Any = None,
        cached: Sequence[int] = (),
        **settings: Any,
    ) -> None:
        if settings.get("num_beams", 1) != 1 or not settings.get("use_cache", True):
            raise DataError("expected one beam and a cache where sentences are verified one by one; leave both out")
        self.model, self.processor, self.settings = model, processor, settings
        self.max_new_tokens = max_new_tokens
        self.seed = torch.initial_seed() if seed is None else seed
        parameter = next(p for p in model.parameters() if p.dtype.is_floating_point)
        batch = as_device(processor.pad([item], "left"), parameter.device, parameter.dtype)
        self.prompt: list[int] = batch.pop("input_ids")[0].tolist()
        self.data = {name: value for name, value in batch.items() if name not in ("labels", "attention_mask")}
        self.device = parameter.device
        self.ids: list[int] = []
        self.tokens = 0
        self.cache, self._held = cache, list(cached)
        self._text = ""  # of the sentences so far, as the model sees them
        self._before: list[int] = []  # ids of these sentences
        self._draft = ""
        self._ended = False
        self._more = False  # the next token must not be the last
        self._tried: dict[str, list[int]] = {}
        self._sampling = SeededSampling([self.seed]) if settings.get("do_sample") else None

    def next(self) -> tuple[str, int] | None:
        """Write the next sentence; return it with the tokens it took, None at the end of the answer."""
        written = finished(self._decode(self.ids)[len(self._text) :], self._ended)
        count = 0
        if written is None:
            if self._ended:
                return None
            before = len(self.ids)
            more = {"min_new_tokens": 1} if self._more else {}
            self.ids, self._ended = self._write(self.ids, {**self.settings, **more}, self._sampling)
            self._more = False
            count = len(self.ids) - before
            self.tokens += count
            written = finished(self._decode(self.ids)[len(self._text) :], last=True)
            if self._ended:
                written = finished(self._decode(self.ids)[len(self._text) :]) or written
        if written is None:
            return None
        self._draft = written[0]
        return self._draft, count

    def replace(self, edit: Edit) -> None:
        """Go on from what stands in place of the last sentence."""
        text = self._draft if edit.action == DROP or edit.text == self._draft else edit.text
        if text == self._draft:
            after = self._text + text
            if len(self._decode(self.ids)) == len(after):
                self._before = list(self.ids)
            else:  # a token of the next sentence has been written
                self._before = self._prefix(after)
        else:
            self._more = text not in self._tried and self._goes_on()
            self._before = self._tried.get(text) or self._encode(text)
            self.ids = list(self._before)
        self._text = self._decode(self._before) if text != self._draft else self._text + text
        self._tried = {}

    def retry(self, number: int) -> tuple[str, int]:
        """Sample another sentence in place of the last; the same number gives the same sentence."""
        name = f"{number}\0{len(self._before)}"
        sampling = SeededSampling([record_seed(self.seed, name)])
        ids, _ = self._write(self._before, {**self.settings, "do_sample": True}, sampling)
        count = len(ids) - len(self._before)
        self.tokens += count
        written = finished(self._decode(ids)[len(self._text) :], last=True)
        text = written[0] if written else ""
        whole = self._text + text
        if len(self._decode(ids)) == len(whole):
            self._tried[text] = ids
        return text, count

    def _goes_on(self) -> bool:
        """Whether the model would write more after its own last sentence; costs one token at most."""
        if self._ended or len(self._decode(self.ids)) > len(self._text) + len(self._draft):
            return not self._ended
        ids, _ = self._write(self.ids, {**self.settings, "do_sample": False}, None, 1)
        self.tokens += len(ids) - len(self.ids)
        return len(ids) > len(self.ids) and ids[-1] not in self.processor.tokenizer.all_special_ids

    # -- tokens ----------------------------------------------------------------------------------------------------

    def _decode(self, ids: Sequence[int]) -> str:
        return str(self.processor.tokenizer.decode(ids, skip_special_tokens=True))

    def _prefix(self, text: str) -> list[int]:
        """The ids whose text is ``text``, or its own tokens where a token reaches beyond it."""
        for count in range(len(self._before), len(self.ids) + 1):
            if len(self._decode(self.ids[:count])) == len(text):
                return self.ids[:count]
        return self._encode(text[len(self._text) :])

    def _encode(self, text: str) -> list[int]:
        """Ids of the sentences so far followed by ``text``."""
        encode = self.processor.tokenizer

        def ids_of(part: str) -> list[int]:
            return list(encode(part, add_special_tokens=False)["input_ids"])

        # behind a full stop, so that no tokenizer takes the text for the beginning of a line
        joined, stop = ids_of(f".{text}"), ids_of(".")
        if self._before and joined[: len(stop)] == stop:
            return [*self._before, *joined[len(stop) :]]
        return ids_of(self._text + text)

    @torch.inference_mode()
    @keep_tower_outputs()
    def _write(
        self, ids: Sequence[int], settings: Mapping[str, Any], sampling: Any, most: int | None = None
    ) -> tuple[list[int], bool]:
        """Go on from an answer until a sentence ends; return the answer's ids and whether it is complete."""
        whole = [*self.prompt, *ids]
        left = min(self.max_new_tokens - len(ids), self.max_new_tokens if most is None else most)
        if left < 1:
            return list(ids), True
        options = generation_options(self.model, self.processor, len(whole), left, settings)
        options["return_dict_in_generate"] = True
        if sampling is not None:
            options["logits_processor"] = LogitsProcessorList([*options.get("logits_processor", ()), sampling])
        stop = SentenceEnd(self.processor.tokenizer, len(self.prompt), len(self._text))
        options["stopping_criteria"] = StoppingCriteriaList([*options.get("stopping_criteria", ()), stop])
        options["past_key_values"] = self._reusable(whole)
        input_ids = torch.tensor([whole], device=self.device)
        was_training = self.model.training
        self.model.eval()
        try:
            out = self.model.generate(
                input_ids=input_ids, attention_mask=torch.ones_like(input_ids), **self.data, **options
            )
        finally:
            self.model.train(was_training)
        sequence = out.sequences[0].tolist()
        self.cache, self._held = out.past_key_values, sequence
        answer = sequence[len(self.prompt) :]
        ended = not stop.reached or len(answer) >= self.max_new_tokens
        return answer, ended

    def _reusable(self, whole: Sequence[int]) -> Any:
        """The cache, cut to what it has in common with the ids; None where nothing can be used."""
        cache, self.cache = self.cache, None  # a run that fails leaves no cache behind that it has changed
        return reusable(cache, self._held, whole)


class SentenceEnd(StoppingCriteria):
    """Stops where the first sentence that begins at a place of the answer has ended.

    Args:
        tokenizer: Of the model.
        prompt: Length of the prompt, tokens.
        start: Where the sentence begins, characters of the answer.
    """

    def __init__(self, tokenizer: Any, prompt: int, start: int) -> None:
        self.tokenizer, self.prompt, self.start = tokenizer, prompt, start
        self.reached = False

    def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
        """Return (1,) whether the sentence has ended."""
        text = self.tokenizer.decode(input_ids[0, self.prompt :], skip_special_tokens=True)[self.start :]
        self.reached = finished(text) is not None
        return torch.full((len(input_ids),), self.reached, dtype=torch.bool, device=input_ids.device)
